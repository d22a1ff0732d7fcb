"""Is the verdict calibrated? What protects nothing gets no grade whatever the seed, a shortcut of known nature is told
as what it is, and each thing that makes figures worthless trips its own gate and no other.

Seeds 1 to 19 of the first test are ``slow``; ``pytest -m ''`` runs all 20.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitterant.attacks import VerificationReport, verify_sets
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

MakeSet = Callable[[int, int], ImageSet]
Plant = Callable[..., ImageSet]
Pictures = Callable[[int], tuple[ImageSet, ImageSet]]

# Long enough that every victim tells the shapes apart; with 60 to 90 steps some stay far below the others.
RECIPE = Recipe(steps=120, batch_size=32, lr=0.05)
PER_CLASS, TESTED = 40, 40
LEVELS = 4
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings that several tests need are done once: those on clean pictures and on the noise arm."""
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def pictures(make_set: MakeSet) -> Pictures:
    """Training and test pictures of a seed, like those of no other."""
    return lambda seed: (make_set(PER_CLASS, 1000 + 2 * seed), make_set(TESTED, 1001 + 2 * seed))


def verify(clean: ImageSet, copy: ImageSet, test: ImageSet, **options: Any) -> VerificationReport:
    defaults: dict[str, Any] = {
        "victims": ["small-cnn"],
        "adversaries": ["early-stop"],
        "recipe": RECIPE,
        "epsilon": LEVELS / 255,
        "device": "cpu",
        "workers": 1,
    }
    return verify_sets(clean, copy, test, **{**defaults, **options})


def moved(images: ImageSet, delta: torch.Tensor) -> ImageSet:
    """Pictures plus ``delta`` in whole levels, cut to 0..255."""
    found = (images.images.to(torch.int16) + delta.to(torch.int16)).clamp(0, 255).to(torch.uint8)
    return ImageSet(found, images.labels, images.classes, images.keys)


def gaussian(images: ImageSet, seed: int) -> ImageSet:
    """Noise of 2 levels, at most 4: what a protection that does not work may look like."""
    noise = torch.randn(images.images.shape, generator=torch.Generator().manual_seed(seed))
    return moved(images, (2 * noise).round().clamp(-LEVELS, LEVELS))


def failed(report: VerificationReport) -> set[str]:
    return {gate.id for gate in report.gates if gate.status == "fail"}


def grades(report: VerificationReport) -> dict[str, str]:
    return {tier.tier: tier.grade for tier in report.verdict.tiers}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_protects_nothing_gets_no_grade(seed: int, pictures: Pictures, cells: Path) -> None:
    """Other pictures, other weights, other draws of the bootstrap: never a grade, and never INVALID either."""
    clean, test = pictures(seed)
    # The identity first: it then has victims of its own for the copy, and only the noisy copy reads what was kept.
    for copy in (clean, gaussian(clean, seed)):
        report = verify(clean, copy, test, seeds=2, seed=seed, cells=cells)
        assert failed(report) == set()
        assert report.verdict.valid
        assert report.verdict.graded
        assert grades(report)["naive"] == "none"
        assert report.exit_code() == 0


def test_a_shortcut_is_strong_until_it_is_projected_out(pictures: Pictures, plant: Plant, cells: Path) -> None:
    """Planted is one pattern a class of +-8 levels, the same in all channels: columns, rows, checks, coarse checks.

    A linear classifier sees it, so who projects the weights of one out of the pictures gets back what was taken.
    """
    clean, test = pictures(0)
    report = verify(clean, plant(clean, 8), test, adversaries=["projection"], seeds=3, epsilon=8 / 255, cells=cells)
    assert failed(report) == set()
    found = grades(report)
    assert (found["naive"], found["training"]) == ("strong", "none")
    naive, projected = report.condition("small-cnn/none"), report.condition("small-cnn/projection")
    assert naive.rho is not None
    assert projected.rho is not None
    assert projected.rho.estimate - naive.rho.estimate > 0.5
    assert report.verdict.weakest == "training"


def invalid(report: VerificationReport, gate: str) -> None:
    """Exactly this gate failed, and that is what the verdict says, whatever the figures are."""
    assert failed(report) == {gate}
    assert report.exit_code() == 5
    assert not report.verdict.valid
    assert not report.verdict.graded
    assert report.verdict.headline.startswith("INVALID")
    assert f"({gate}: " in report.verdict.headline
    assert set(grades(report).values()) <= {"not tested", "not graded"}


def test_victims_that_do_not_learn_trip_g1(pictures: Pictures) -> None:
    clean, test = pictures(0)
    still = Recipe(steps=2, batch_size=32, lr=0.0)
    invalid(verify(clean, clean, test, seeds=2, recipe=still), "G1")


def test_labels_that_say_nothing_trip_g1(pictures: Pictures) -> None:
    """Labels of the training pictures permuted, in the originals and in the copy alike; those of the test are right.

    The victim learns them by heart as far as it gets (two thirds of them, where a guess is right for a quarter). No
    budget is stated and nothing was changed, so the noise arm is not noisy either: all arms are alike, and what fails
    can only be that nothing was learned that holds for other pictures.
    """
    clean, test = pictures(0)
    assert clean.labels is not None
    order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))
    shuffled = ImageSet(clean.images, clean.labels[order], clean.classes, clean.keys)
    invalid(verify(shuffled, shuffled, test, seeds=1, epsilon=None), "G1")


def test_a_control_that_knows_the_answers_trips_g4(
    pictures: Pictures, cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The labels of the control are not dealt but left as they are, as where the answers leak in some other way."""
    clean, test = pictures(0)
    honest = verify(clean, gaussian(clean, 0), test, seeds=2, cells=cells)
    monkeypatch.setattr("bitterant.attacks.training.store.deal_labels", lambda labels, classes, seed: labels)
    invalid(verify(clean, gaussian(clean, 0), test, seeds=2, cells=cells), "G4")
    (control,) = (cell for cell in honest.cells if cell.arm == "shuffled")
    assert control.accuracy is not None
    assert control.accuracy < 0.5
    assert control.steps == RECIPE.steps


def test_test_pictures_that_were_trained_on_trip_g5(pictures: Pictures) -> None:
    """Not bit by bit, which is left out of training, but saved again: a little brighter, with other rounding.

    A fifth of the test pictures are such; of drawings of few kinds some are alike by chance, but never so many.
    """
    clean, test = pictures(0)
    assert clean.labels is not None
    assert test.labels is not None
    again = moved(clean, torch.randint(4, 7, clean.images.shape, generator=torch.Generator().manual_seed(0)))
    count = len(test) // 5
    assert (clean.labels[:count] == test.labels[:count]).all(), "classes are interleaved in both"
    mixed = torch.cat([again.images[:count], test.images[count:]])
    leaky = ImageSet.from_tensors(mixed, test.labels, classes=test.classes)
    invalid(verify(clean, clean, leaky, seeds=1), "G5")


def test_a_file_over_budget_trips_g6(pictures: Pictures, cells: Path) -> None:
    """The noisy copy of the first test, but for one channel of one pixel of one picture, which is one level over."""
    clean, test = pictures(0)
    copy = gaussian(clean, 0)
    spoiled = copy.images.clone()
    before = int(clean.images[7, 0, 0, 0])
    spoiled[7, 0, 0, 0] = before + LEVELS + 1 if before < 128 else before - LEVELS - 1
    report = verify(clean, ImageSet(spoiled, copy.labels, copy.classes, copy.keys), test, seeds=1, cells=cells)
    invalid(report, "G6")
    assert report.stealth.over_budget == (clean.keys[7],)
