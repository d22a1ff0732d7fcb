"""What a linear classifier sees, against changes of which it is known what there is to see."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitterant.attacks.report import measures as separability
from bitterant.attacks.report.measures import Sample, class_from_change, copy_from_original, measure_separability

SIDE, CLASSES = 12, 3
LABELS = np.repeat(np.arange(CLASSES), 20)
RNG = np.random.default_rng(0)
CLEAN = RNG.integers(40, 216, (len(LABELS), 3, SIDE, SIDE)).astype(np.uint8)
NOISE = RNG.choice([-8, 8], CLEAN.shape)
PATTERNS = RNG.choice([-8, 8], (CLASSES, 3, SIDE, SIDE))


def plus(delta: NDArray[np.integer]) -> NDArray[np.uint8]:
    return (CLEAN + delta).astype(np.uint8)


def sample(delta: NDArray[np.integer], noise: NDArray[np.integer] = NOISE) -> Sample:
    return Sample(CLEAN, plus(delta), plus(noise), LABELS)


def test_a_pattern_a_class_gives_the_class_away_and_noise_does_not() -> None:
    found = measure_separability(sample(PATTERNS[LABELS]), seed=0)
    assert found is not None
    assert found.class_from_change == 1.0
    assert found.class_from_noise is not None
    assert found.class_from_noise == pytest.approx(1 / 3, abs=0.2)
    assert (found.chance, found.pictures) == (pytest.approx(1 / 3), 60)


def test_one_pattern_for_all_gives_copies_away_and_no_class() -> None:
    found = measure_separability(sample(np.broadcast_to(PATTERNS[:1] * 3, CLEAN.shape)), seed=0)
    assert found is not None
    assert found.copy_auc is not None
    assert found.copy_auc > 0.95
    assert found.noise_auc == pytest.approx(0.5, abs=0.15)
    assert found.class_from_change == pytest.approx(1 / 3, abs=0.2)


def test_without_a_change_there_is_nothing_to_tell() -> None:
    assert measure_separability(sample(np.zeros_like(NOISE)), seed=0) is None
    still = measure_separability(sample(NOISE, np.zeros_like(NOISE)), seed=0)
    assert still is not None
    assert (still.class_from_noise, still.noise_auc) == (None, None)


def test_too_few_pictures_are_not_judged() -> None:
    change = NOISE[:3].reshape(3, -1).astype(np.float32)
    assert class_from_change(change, np.array([0, 1, 2]), seed=0) is None
    assert class_from_change(change, np.array([0, 0, 1]), seed=0) is None
    assert copy_from_original(CLEAN[:3], CLEAN[:3], seed=0) is None


def test_a_class_counts_as_much_as_another() -> None:
    """Ninety of one class and ten of another: saying the large one every time is worth a half."""
    labels = np.repeat([0, 1], [90, 10])
    noise = np.random.default_rng(1).normal(size=(100, 400)).astype(np.float32)
    assert class_from_change(noise, labels, seed=0) == pytest.approx(0.5, abs=0.1)


def test_of_large_pictures_fewer_are_looked_at_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separability, "_MOST_VALUES", CLEAN.size // 2)
    found = measure_separability(sample(PATTERNS[LABELS]), seed=0)
    assert found is not None
    assert (found.pictures, found.chance, found.class_from_change) == (30, pytest.approx(1 / 3), 1.0)


def test_a_class_of_one_picture_is_no_chance_to_guess() -> None:
    labels = np.append(np.repeat([0, 1], 29), [2, 3])
    found = measure_separability(Sample(CLEAN, plus(NOISE), plus(-NOISE), labels), seed=0)
    assert found is not None
    assert found.chance == 0.5


def test_the_page_tells_it(made: Any, report_maker: Callable[..., Any]) -> None:
    from bitterant.attacks.report import render_report

    page = " ".join(render_report(made.report, files=made.data.files).split())
    assert 'id="separability"' in page
    told = page[page.index("From the change alone") :]
    assert "Copies are told" in told
    assert re.search(r"[a-z%]\.[A-Z]", told[: told.index("</p>")]) is None, "sentences run into each other"
    untouched = report_maker(["jpeg:10"], delta=np.zeros((24, 24), dtype=int))
    assert 'id="separability"' not in render_report(untouched.report, files=untouched.data.files)
