"""One table of methods x granularity, crossed with what every method must keep."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitterant.errors import ConfigError, LabelError, UnknownNameError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import Bank, TextureBank, create_method, load_bank, method_names

# name, granularity, hyper-parameters that make it quick, whether it has a surrogate
TABLE: list[tuple[str, str, dict[str, Any], bool]] = [
    ("emn", "class", {"rounds": 2, "surrogate_steps": 2, "attempts": 0}, True),
    ("emn", "sample", {"rounds": 1, "sample_rounds": 1, "surrogate_steps": 2, "pgd_steps": 2, "attempts": 0}, True),
    ("emn", "class", {"preset": "paper", "surrogate": "small-cnn", "rounds": 1, "surrogate_steps": 2}, True),
    (
        "emn",
        "sample",
        {"preset": "paper", "surrogate": "small-cnn", "sample_rounds": 1, "surrogate_steps": 1, "pgd_steps": 2},
        True,
    ),
    ("beo", "sample", {"rounds": 2, "inner_steps": 1, "first_epochs": 4, "estimate_images": 0}, True),
    (
        "beo",
        "sample",
        {"rounds": 2, "first_epochs": 8, "ascent": "adam", "estimate_images": 36, "estimate_steps": 3},
        True,
    ),
    (
        "beo",
        "sample",
        {"preset": "paper", "surrogate": "small-cnn", "rounds": 3, "first_epochs": 8, "estimate_images": 0},
        True,
    ),
    ("uc", "cluster", {"surrogate": "small-cnn", "rounds": 2, "objective": "features"}, True),
    ("uc", "cluster", {"surrogate": "small-cnn", "rounds": 2, "attempts": 0}, True),
    ("t2ue", "sample", {}, True),
    ("t2ue", "class", {}, True),
    ("noise", "sample", {}, False),
    ("noise", "class", {}, False),
    ("texture", "sample", {}, False),
    ("texture", "cluster", {"surrogate": "small-cnn"}, True),
]
IDS = [f"{name}-{granularity}{'-paper' if 'preset' in options else ''}" for name, granularity, options, _ in TABLE]
rows = pytest.mark.parametrize(("name", "granularity", "options", "has_surrogate"), TABLE, ids=IDS)


@pytest.fixture(autouse=True)
def content_with_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bayes-error ascent trains small folders on until they are fitted; here it only has to be the same each time."""
    monkeypatch.setattr("bitterant.protect.methods.beo.method.LEAST_CAP", 1)
    monkeypatch.setattr("bitterant.protect.methods.beo.method.UNDERFIT", 1.0)


def fit(name: str, granularity: str, options: dict[str, Any], dataset: ImageSet, **more: Any) -> Any:
    """A ``Bank`` of perturbations, or a ``TextureBank``, which has none stored."""
    told = {"budget": Budget(8 / 255), **options, **more}
    method = create_method(name, granularity=granularity, device="cpu", **told)  # type: ignore[arg-type]
    return method.fit(dataset)


@dataclass(frozen=True)
class Fitted:
    """A bank, and the fractions that were told of its fit."""

    bank: Any
    fractions: list[float]


Once = Callable[[str, str, dict[str, Any]], Fitted]


@pytest.fixture(scope="module")
def fitted(tiny: ImageSet) -> Once:
    """The fit of a row, made once for all tests that look at it: 8 levels, seed 1."""
    made: dict[str, Fitted] = {}

    def once(name: str, granularity: str, options: dict[str, Any]) -> Fitted:
        row = repr((name, granularity, options))
        if row not in made:
            fractions: list[float] = []
            method = create_method(
                name, granularity=granularity, device="cpu", **options, seed=1, budget=Budget(8 / 255)
            )  # type: ignore[arg-type]
            made[row] = Fitted(method.fit(tiny, progress=lambda step: fractions.append(step.fraction)), fractions)
        return made[row]

    return once


def test_every_registered_method_is_in_the_table() -> None:
    assert {row[0] for row in TABLE} == set(method_names())


@rows
def test_budget_is_exact_after_application(
    name: str, granularity: str, options: dict[str, Any], has_surrogate: bool, tiny: ImageSet, fitted: Once
) -> None:
    banks = {
        8 / 255: fitted(name, granularity, options).bank,
        0.02: fit(name, granularity, options, tiny, budget=Budget(0.02)),  # 5.1 levels: 5 is the most a file may show
    }
    for epsilon, bank in banks.items():
        if isinstance(bank, Bank):
            assert 0 < int(bank.levels.abs().max()) <= int(epsilon * 255 + 1e-6)
            assert int(bank.levels.min()) < 0 < int(bank.levels.max()), "both signs of delta must survive"
        for row in range(3):
            image = tiny.images[row].permute(1, 2, 0).numpy()
            key = bank.key_for(tiny.keys[row])
            assert key is not None
            for picture in (image, np.repeat(np.repeat(image, 3, 0), 2, 1)):  # its own size, and 48 x 32
                out = bank.apply(picture, key)
                assert out.shape == picture.shape
                assert out.dtype == np.uint8
                change = out.astype(int) - picture.astype(int)
                assert np.abs(change).max() <= int(epsilon * 255 + 1e-6)
                assert change.min() < 0 < change.max()


@rows
def test_same_seed_same_bytes_other_seed_other_bytes(
    name: str, granularity: str, options: dict[str, Any], has_surrogate: bool, tiny: ImageSet, tmp_path: Path,
    fitted: Once,
) -> None:  # fmt: skip
    again, other = (fit(name, granularity, options, tiny, seed=seed) for seed in (1, 2))
    files = []
    for number, bank in enumerate((fitted(name, granularity, options).bank, again, other)):
        bank.save(tmp_path / f"{number}")
        files.append((tmp_path / f"{number}").read_bytes())
    assert files[0] == files[1] != files[2]


@rows
def test_order_and_copies_do_not_matter(
    name: str, granularity: str, options: dict[str, Any], has_surrogate: bool, tiny: ImageSet, fitted: Once
) -> None:
    shuffled = tiny.select(torch.cat([torch.randperm(len(tiny)), torch.tensor([0, 5])]))
    a, b = fitted(name, granularity, options).bank, fit(name, granularity, options, shuffled, seed=1)
    if isinstance(a, TextureBank):
        assert a == b
        return
    assert a.keys == b.keys
    assert torch.equal(a.levels, b.levels)


@rows
def test_save_and_load(
    name: str, granularity: str, options: dict[str, Any], has_surrogate: bool, tmp_path: Path, fitted: Once
) -> None:
    bank = fitted(name, granularity, options).bank
    bank.save(tmp_path / "bank.safetensors")
    again = load_bank(tmp_path / "bank.safetensors")
    assert type(again) is type(bank)
    if not isinstance(again, Bank):
        assert again == bank
        return
    assert again == Bank(**{**{f: getattr(bank, f) for f in ("method", "granularity", "budget", "keys", "surrogate",
                            "surrogate_sha256", "seed", "clusters")}, "levels": again.levels})  # fmt: skip
    assert torch.equal(again.levels, bank.levels)
    assert (bank.surrogate != "") == (bank.surrogate_sha256 != "") == has_surrogate


@rows
def test_progress_rises_and_stays_in_bounds(
    name: str, granularity: str, options: dict[str, Any], has_surrogate: bool, fitted: Once
) -> None:
    seen = fitted(name, granularity, options).fractions
    assert seen == sorted(seen)
    assert all(0.0 <= f <= 1.0 for f in seen)


#: A fit of these takes so many steps, or looks at so many pictures, however many there are.
WHATEVER_THE_FOLDER = {"emn-class", "t2ue-class", "noise-class", "texture-sample"}


@pytest.mark.parametrize(("row", "name"), list(zip(TABLE, IDS, strict=True)), ids=IDS)
def test_the_estimate_grows_with_the_folder_where_the_work_does(
    row: tuple[str, str, dict[str, Any], bool], name: str, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a second each time it is read: what is measured is then the same every time."""
    method = create_method(row[0], granularity=row[1], device="cpu", **row[2])  # type: ignore[arg-type]
    estimates = []
    for total in (1_000, 100_000):
        ticks = itertools.count()
        with monkeypatch.context() as patched:
            patched.setattr(time, "perf_counter", lambda ticks=ticks: float(next(ticks)))
            estimates.append(method.estimate(tiny, total))
    small, large = estimates
    assert small.seconds > 0
    assert small.peak_bytes > 0
    if name in WHATEVER_THE_FOLDER:
        assert large == small
    else:
        assert large.seconds > 10 * small.seconds
        assert large.peak_bytes >= small.peak_bytes
    if row[1] == "sample" and name not in WHATEVER_THE_FOLDER:
        assert large.peak_bytes > 5 * small.peak_bytes


def test_class_patterns_need_labels_and_two_classes(tiny: ImageSet) -> None:
    flat = ImageSet.from_tensors(tiny.images)
    with pytest.raises(LabelError, match="one folder per class"):
        create_method("emn").fit(flat)
    with pytest.raises(LabelError, match="per class needs labels"):
        create_method("noise", granularity="class").fit(flat)
    one = tiny.select((tiny.labels == 0).nonzero().flatten())  # type: ignore[union-attr]
    with pytest.raises(LabelError, match="at least two classes"):
        create_method("emn").fit(one)


def test_bad_requests_say_what_is_known(tiny: ImageSet) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'emn'"):
        create_method("enm")
    with pytest.raises(UnknownNameError, match="preset"):
        create_method("emn", preset="papper")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no preset"):
        create_method("noise", preset="paper")
    with pytest.raises(ConfigError, match="rounds of emn must be at least 1"):
        create_method("emn", rounds=0)
    with pytest.raises(ConfigError, match="no images"):
        create_method("noise").fit(tiny.select([]))


def test_noise_of_an_image_does_not_depend_on_the_others(tiny: ImageSet) -> None:
    whole, half = create_method("noise").fit(tiny), create_method("noise").fit(tiny.select(range(7)))
    for key in half.keys:
        assert np.array_equal(whole.levels_for(key), half.levels_for(key))


def test_class_granularity_gives_one_pattern_a_class_and_takes_new_images(tiny: ImageSet) -> None:
    bank = fit("emn", "class", TABLE[0][2], tiny)
    assert bank.keys == ("c0", "c1", "c2")
    assert bank.key_for("c1/never-seen") == "c1"
    assert bank.key_for("other/never-seen") is None
