"""Leaked pairs: which pictures they are, where their protected side comes from, and what the plan says about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitterant.attacks import verify_sets
from bitterant.attacks.adversaries import create_adversaries, create_adversary
from bitterant.attacks.data import VerificationData, load_sets, oracle, run_tool
from bitterant.attacks.data.oracle import other_seed
from bitterant.attacks.facts import Protection
from bitterant.attacks.training.cache import CellKeys
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.errors import ConfigError, LabelError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

Plant = Callable[..., ImageSet]
NOISE = Protection(method="noise", granularity="sample", epsilon=8 / 255, seed=0)


def a_store(place: Path, data: VerificationData, *names: str, seed: int = 0) -> ArrayStore:
    made = {adversary.name: adversary for adversary in create_adversaries(list(names))}
    place.mkdir(exist_ok=True)
    return ArrayStore(place, data, made, seed=seed, executor=SerialExecutor())


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> VerificationData:
    return load_sets(train_set, plant(train_set, 8), test_set, epsilon=8 / 255)


def read(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.load(path)


def test_pairs_leave_the_training_of_every_arm(tmp_path: Path, data: VerificationData) -> None:
    store = a_store(tmp_path, data, "pairs:40")
    chosen = store.covered(40 / 240)
    assert chosen.sum() == 40
    assert np.bincount(data.labels[chosen]).tolist() == [10, 10, 10, 10]
    for arm, pictures in (("clean", data.clean), ("protected", data.protected)):
        found = store.inputs(arm, "pairs:40")  # type: ignore[arg-type]
        assert (read(found.train_images) == pictures[~chosen]).all()
        assert (read(found.train_labels) == data.labels[~chosen]).all()
        assert (read(found.clean_subset_images) == data.clean[chosen]).all()
        assert (read(found.clean_subset_in_arm) == pictures[chosen]).all()
        assert (read(found.clean_subset_labels) == data.labels[chosen]).all()
        assert (read(found.test_images) == data.test_images).all()
    shuffled = store.inputs("shuffled", "pairs:40")
    assert (read(shuffled.clean_subset_in_arm) == read(shuffled.clean_subset_images)).all()
    assert store.inputs("clean", "none").clean_subset_in_arm is None


def test_the_plan_says_where_pairs_come_from_and_so_does_the_key(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaked = a_store(tmp_path / "leaked", data, "pairs:40")
    detail = leaked.labelling("pairs:40").detail
    assert detail == (
        "40 pairs, leaked from this folder, with its own noise, since no run file says how the pictures were protected"
    )
    calls = []

    def tool(pictures: np.ndarray, *rest: object, **options: object) -> tuple[np.ndarray, str]:
        calls.append(len(pictures))
        return 255 - pictures, "made by a test"

    monkeypatch.setattr("bitterant.attacks.training.store.run_tool", tool)
    made = a_store(tmp_path / "made", data, "pairs:40")
    assert made.labelling("pairs:40").detail == "40 pairs, made by a test"
    chosen = made.covered(40 / 240)
    assert (read(made.inputs("protected", "pairs:40").clean_subset_in_arm) == 255 - data.clean[chosen]).all()
    assert (read(made.inputs("clean", "pairs:40").clean_subset_in_arm) == data.clean[chosen]).all()
    assert calls == [40], "it is run once"

    def key(store: ArrayStore, arm: str) -> str:
        from bitterant.attacks.training.cells import Cell

        keys = CellKeys(
            store, {"small-cnn": Recipe()}, {"pairs:40": create_adversary("pairs:40")}, evals=1, device="cpu"
        )
        identity = keys.cell(Cell(arm, "pairs:40", "small-cnn", 0, 1))  # type: ignore[arg-type]
        assert identity is not None
        return identity.key

    assert key(leaked, "clean") == key(made, "clean")
    assert key(leaked, "protected") != key(made, "protected")


def test_a_planted_pattern_falls_to_pairs(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> None:
    report = verify_sets(
        train_set, plant(train_set, 8), test_set, adversaries=["pairs:64"], victims=["small-cnn"], seeds=1,
        recipe=Recipe(steps=120), workers=1, epsilon=8 / 255, device="cpu",
    )  # fmt: skip
    naive, paired = report.condition("small-cnn/none"), report.condition("small-cnn/pairs:64")
    assert naive.rho is not None
    assert paired.rho is not None
    assert paired.rho.estimate > naive.rho.estimate + 0.4
    assert paired.detail is not None
    assert paired.detail.startswith("64 pairs, leaked")


def test_the_tool_is_run_with_another_seed(tmp_path: Path, train_set: ImageSet) -> None:
    """Any program may stand for the tool: what counts is that the command is right and its pictures come back."""
    images, labels = train_set.images[:6].numpy(), np.arange(6) % 4
    made, how = run_tool(images, labels, train_set.classes, NOISE, seed=0, device="cpu")
    assert made is not None
    assert how == "made by the tool itself (noise sample, seed 900000)"
    assert np.abs(made.astype(int) - images).max() == 8
    clean, protected = tmp_path / "clean", tmp_path / "protected"
    from PIL import Image

    for row, label in enumerate(labels):
        place = clean / train_set.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row].transpose(1, 2, 0)).save(place / f"{row}.png")
    subprocess.run(
        [sys.executable, "-m", "bitterant", "protect", str(clean), str(protected), "--method=noise", "--seed=0",
         "--granularity=sample", "--epsilon=8", "--quiet"], check=True,
    )  # fmt: skip
    published = np.stack(
        [
            np.asarray(Image.open(protected / train_set.classes[label] / f"{row}.png")).transpose(2, 0, 1)
            for row, label in enumerate(labels)
        ]
    )
    assert (made != published).mean() > 0.2, "the key of the published pictures is another one"


@pytest.mark.parametrize(
    ("protection", "words"),
    [
        (None, "no run file"),
        (NOISE.model_copy(update={"method": None}), "no run file"),
        (NOISE.model_copy(update={"method": "--bank=x"}), "no method of this tool"),
        (NOISE.model_copy(update={"method": "other"}), "could not be run"),
    ],
)
def test_where_the_tool_cannot_be_run_the_reason_is_told(
    protection: Protection | None, words: str, train_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert "--method=other" in command
        return subprocess.CompletedProcess(command, 2, "", "\nError: There is no method named 'other'.\n")

    monkeypatch.setattr(oracle.subprocess, "run", refuse)
    made, how = run_tool(
        train_set.images[:4].numpy(), np.arange(4), train_set.classes, protection, seed=0, device="cpu"
    )
    assert made is None
    assert words in how


def test_the_other_seed_is_another_one() -> None:
    assert other_seed(0, NOISE) == 900_000
    assert other_seed(0, NOISE.model_copy(update={"seed": 900_000})) == 900_001


def test_names_and_wrong_numbers(data: VerificationData, tmp_path: Path) -> None:
    adversary = create_adversary("pairs")
    assert (adversary.name, adversary.tier, adversary.arms) == ("pairs:500", "prior", ("clean", "protected"))
    for name in ("pairs:", "pairs:7", "pairs:x", "pairs:0.5"):
        with pytest.raises(ConfigError, match=r"pairs:500\."):
            create_adversary(name)
    with pytest.raises(LabelError, match="fewer pairs: pairs:120"):
        a_store(tmp_path, data, "pairs").labelling("pairs:500")
