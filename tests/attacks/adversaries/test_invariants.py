"""What every registered adversary keeps to. A new one needs a row here to be tested for all of it, and nothing else."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitterant.attacks.adversaries import (
    Adversary,
    adversary_classes,
    create_adversaries,
    create_adversary,
    transforms,
)
from bitterant.attacks.adversaries.denoising import _tiny
from bitterant.attacks.adversaries.learning import PlainTraining
from bitterant.attacks.adversaries.registry import changes_only_pictures
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.terms import CRAFTING_MEANINGS, TIERS, TRAINER_CLASSES, Arm
from bitterant.attacks.training.cache import describe
from bitterant.attacks.training.cells import Cell, CellResult, CellTask, run_cell
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.errors import ConfigError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe, create_surrogate

TINY = Recipe(steps=2, batch_size=8, precision="float32")


@dataclass(frozen=True)
class Row:
    """What is to be known about an adversary here.

    Attributes:
        default: its canonical name where nothing follows the prefix; ``None`` where something must.
        runs: a name that suits pictures of 16 px; the default where left out. ``{place}`` is a folder with files.
        written: another way to write a parameter, and what it is spelled.
        wrong: parameters that are refused.
    """

    default: str | None
    runs: str = ""
    written: tuple[str, str] | None = None
    wrong: tuple[str, ...] = ("", "2")


SHARES = ("", "0", "1.5", "x", "nan")
ROWS: dict[str, Row] = {
    "none": Row("none"),
    "early-stop": Row("early-stop"),
    "jpeg": Row("jpeg:10", wrong=("", "0", "101", "x", "5.5")),
    "webp": Row("webp:30", wrong=("", "0", "101", "random")),
    "grayscale": Row("grayscale"),
    "bit-depth": Row("bit-depth:2", wrong=("", "0", "8", "x", "2.5")),
    "down-up": Row("down-up:0.5", written=(".50", "0.5"), wrong=("", "0", "1", "x", "nan")),
    "blur": Row("blur:1", written=("0.60", "0.6"), wrong=("", "0.1", "9", "x", "nan")),
    "median": Row("median"),
    "crop-resize": Row("crop-resize:0.875", wrong=("", "0.4", "1", "x", "nan")),
    "sharpen-lowpass": Row("sharpen-lowpass:0.5", wrong=("", "0", "1.1", "x")),
    "lowpass": Row("lowpass:8", "lowpass:4", written=("5.0", "5"), wrong=("", "0", "x", "inf", "nan")),
    "bandstop": Row("bandstop:2-8", "bandstop:2-4", written=("4-9.50", "4-9.5"), wrong=("", "9-4", "4", "0-9", "x-9")),
    "destripe": Row("destripe:0", written=("15.0", "15"), wrong=("", "-1", "46", "x")),
    "equalize": Row("equalize"),
    "whiten": Row("whiten", written=("channels", "channels"), wrong=("", "zca")),
    "coin": Row("coin:2", wrong=("", "0", "9", "x", "nan")),
    "compose": Row(None, "compose:grayscale+jpeg:10", wrong=("", "jpeg:10", "jpeg+", "none+jpeg", "compose:jpeg+blur")),
    "cutout": Row("cutout:0.5", written=(".25", "0.25"), wrong=("", "0", "1", "x")),
    "mixup": Row("mixup"),
    "cutmix": Row("cutmix"),
    "trivial-augment": Row("trivial-augment"),
    "ueraser": Row("ueraser", written=("max-jpeg", "max-jpeg"), wrong=("", "JPEG", "min")),
    "fast-adversarial": Row("fast-adversarial:8", wrong=("", "0", "99", "x")),
    "adversarial": Row("adversarial:8", written=("4.0", "4"), wrong=("", "0", "99", "x")),
    "rotate": Row("rotate:30", written=("15.0", "15"), wrong=("", "0", "181", "x")),
    "resized-crop": Row("resized-crop:0.25", written=("0.50", "0.5"), wrong=("", "0", "0.8", "x")),
    "staged": Row("staged"),
    "noise-denoise": Row("noise-denoise:16", wrong=("", "0", "65", "x")),
    "few-denoise": Row("few-denoise:0.04", "few-denoise:0.5", wrong=SHARES),
    "projection": Row("projection"),
    "tv": Row("tv:0.1", wrong=("", "0", "2", "x")),
    "nlm": Row("nlm:12", wrong=("", "0", "101", "x")),
    "purify": Row(None, "purify:{place}/small_encoder.safetensors", wrong=("",)),
    "validated-stop": Row("validated-stop"),
    "last-layer": Row("last-layer:0.1", "last-layer:0.5", written=("0.010", "0.01"), wrong=SHARES),
    "recover": Row("recover:0.1", "recover:0.5", wrong=SHARES),
    "linear-probe": Row("linear-probe:efficientnet-lite0", "linear-probe:small-cnn", wrong=("", "resnet-18")),
    "knn": Row("knn:efficientnet-lite0", "knn:small-cnn", wrong=("", "resnet-18")),
    "fine-tune": Row(
        "fine-tune:efficientnet-lite0",
        "fine-tune:cifar-resnet20@{place}/weights.safetensors",
        wrong=("", "resnet-18", "small-cnn+resnet18"),
    ),
    "freeze-early": Row(
        "freeze-early:efficientnet-lite0",
        "freeze-early:cifar-resnet20@{place}/weights.safetensors",
        wrong=("", "resnet-18", "small-cnn+resnet18"),
    ),
    "simclr": Row("simclr:0.1", "simclr:0.5", wrong=SHARES),
    "superclass": Row(None, "superclass:{place}/map.json", wrong=("", "/no/such/file.json")),
    "regroup": Row("regroup:2", wrong=("", "1", "x", "2.5")),
    "finer": Row("finer:2", wrong=("", "1", "x", "2.5")),
    "mix": Row("mix:0.5", written=(".80", "0.8"), wrong=("", "0", "1", "x", "nan")),
    "dvae": Row("dvae:1", written=("0.50", "0.5"), wrong=("", "0", "9", "x", "nan")),
    "pairs": Row("pairs:500", "pairs:8", wrong=("", "7", "x", "0.5")),
}
NO_NETWORK = [name for name in ROWS if name not in ("finer",)]
"""Those that can be staged without features of an embedded network."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that some adversaries need: a map of classes, an autoencoder, weights."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "map.json").write_text(json.dumps({"bar": "edges", "column": "edges", "disc": "round", "ring": "round"}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, decoder = _tiny(4, 8, pooled=True)
    save_file(encoder.state_dict(), folder / "small_encoder.safetensors")
    save_file(decoder.state_dict(), folder / "small_decoder.safetensors")
    trained = create_surrogate("cifar-resnet20", num_classes=4, resolution=16, seed=1)
    save_file(trained.net.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet, plant: Callable[..., ImageSet]) -> VerificationData:
    train = train_set.select(list(range(24)))
    return load_sets(train, plant(train, 8), test_set.select(list(range(20))), epsilon=8 / 255)


def runnable(prefix: str, place: Path) -> Adversary:
    return create_adversary((ROWS[prefix].runs or prefix).format(place=place))


class Staged:
    """What the cells of one adversary read."""

    def __init__(self, folder: Path, data: VerificationData, adversary: Adversary) -> None:
        folder.mkdir(parents=True)
        made = {found.name: found for found in (*create_adversaries([]), adversary)}
        self.store = ArrayStore(folder, data, made, seed=0, executor=SerialExecutor())
        self.adversary = adversary

    def arrays(self, arm: Arm) -> dict[str, np.ndarray | int | None]:
        read = vars(self.store.inputs(arm, self.adversary.name))
        return {name: np.load(value) if isinstance(value, Path) else value for name, value in read.items()}

    def digests(self, arm: Arm) -> dict[str, str]:
        read = vars(self.store.inputs(arm, self.adversary.name))
        return {name: self.store.digest(value) for name, value in read.items() if isinstance(value, Path)}


def test_every_adversary_has_a_row() -> None:
    assert set(ROWS) == set(adversary_classes())


def test_every_adversary_says_what_it_is(place: Path) -> None:
    for prefix, cls in adversary_classes().items():
        adversary = runnable(prefix, place)
        assert adversary.prefix == prefix
        assert adversary.tier in TIERS, prefix
        assert adversary.trainer_class in TRAINER_CLASSES, prefix
        assert adversary.crafting in CRAFTING_MEANINGS, prefix
        assert adversary.source, prefix
        assert adversary.description, prefix
        assert cls.__doc__, prefix
        assert adversary.cost >= 0, prefix
        assert adversary.phrase.startswith("a "), prefix
        assert set(adversary.arms) <= set(get_args(Arm)), prefix
        assert adversary.arms[0] == "clean", prefix
        if ROWS[prefix].default not in (None, prefix):  # takes a parameter: people must learn which
            assert f"{prefix}:" in adversary.description, prefix


def test_parameters_are_spelled_out_and_nonsense_is_refused(place: Path) -> None:
    for prefix, row in ROWS.items():
        if row.default is None:
            with pytest.raises(ConfigError):
                create_adversary(prefix)
        else:
            assert create_adversary(prefix).name == row.default
            assert (create_adversary(row.default).name, create_adversary(row.default).tier) == (
                row.default, create_adversary(prefix).tier,
            )  # fmt: skip
        again = runnable(prefix, place)
        assert create_adversary(again.name).name == again.name
        if row.written is not None:
            assert create_adversary(f"{prefix}:{row.written[0]}").name == f"{prefix}:{row.written[1]}"
        for parameter in row.wrong:
            with pytest.raises(ConfigError) as told:
                create_adversary(f"{prefix}:{parameter}")
            assert len(str(told.value)) > 20, f"{prefix}:{parameter}"


@pytest.mark.parametrize("prefix", NO_NETWORK)
def test_staging_keeps_the_form_and_is_the_same_again(
    prefix: str, tmp_path: Path, place: Path, data: VerificationData
) -> None:
    before = data.sha256()
    first, again = (
        Staged(tmp_path / str(number), data, runnable(prefix, place)) for number in range(2)
    )  # fmt: skip
    labelling = first.store.labelling(first.adversary.name)
    assert len(labelling.train) == len(data.labels)
    assert set(labelling.train.tolist()) | set(labelling.test.tolist()) <= set(range(labelling.classes))
    for arm in first.adversary.arms:
        read = first.arrays(arm)
        images, labels = read["train_images"], read["train_labels"]
        assert isinstance(images, np.ndarray)
        assert isinstance(labels, np.ndarray)
        if first.adversary.surrogate is None:
            assert images.dtype in (np.uint8, np.int16)
            assert images.shape[1:] == data.clean.shape[1:]
            assert read["test_images"].shape == data.test_images.shape  # type: ignore[union-attr]
        assert len(images) == len(labels)
        assert first.digests(arm) == again.digests(arm)
    assert data.sha256() == before, "the pictures of an arm must not be written to"


@pytest.mark.parametrize("prefix", [name for name in NO_NETWORK if name != "mix"])
def test_arms_are_treated_alike(prefix: str, tmp_path: Path, place: Path, data: VerificationData) -> None:
    """Where the protected pictures are the clean ones, both arms read the same."""
    staged = Staged(tmp_path / "store", replace(data, protected=data.clean.copy()), runnable(prefix, place))
    assert staged.digests("clean") == staged.digests("protected")


def test_what_changes_pictures_treats_each_for_itself(place: Path, data: VerificationData) -> None:
    """What is done to the n-th picture depends on its place and on no other picture: it is the same in every arm."""
    others = data.clean[::-1].copy()
    others[2] = data.clean[2]
    for prefix, cls in adversary_classes().items():
        adversary = runnable(prefix, place)
        alone, beside = (adversary.transform(images) for images in (data.clean, others))
        assert (alone.shape, alone.dtype) == (data.clean.shape, np.uint8), prefix
        assert (alone[2] == beside[2]).all(), prefix
        assert (alone != data.clean).any() == changes_only_pictures(cls), prefix


def test_threads_and_blocks_change_nothing(
    place: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes from any number of threads, and however many pictures they take at once."""
    changing = [prefix for prefix, cls in adversary_classes().items() if cls.transform is not Adversary.transform]
    assert len(changing) > 15
    drawn = create_adversary("jpeg:random")  # another quality for each picture
    for adversary in (*(runnable(prefix, place) for prefix in changing), drawn):
        with monkeypatch.context() as patch:
            patch.setattr(transforms, "block_workers", lambda: 1)
            expected = adversary.transform(data.clean)  # of all pictures at once
            for workers, side in ((1, 2), (2, 2), (5, 2), (2, 3), (5, 1)):
                patch.setattr(transforms, "block_workers", lambda workers=workers: workers)
                patch.setattr(transforms, "_BLOCK_SIDE", side)  # blocks of 1 to 9 of the 24 pictures
                assert (adversary.transform(data.clean) == expected).all(), (adversary.name, workers, side)


@pytest.mark.parametrize("prefix", [name for name in NO_NETWORK if name != "projection"])  # weights are fitted in order
def test_the_order_of_pictures_does_not_matter_where_it_should_not(
    prefix: str, tmp_path: Path, place: Path, data: VerificationData
) -> None:
    """Which pictures are clean, covered or leaked, and what they are labelled, belongs to the pictures."""
    order = np.random.default_rng(0).permutation(len(data.labels))
    shuffled = replace(
        data, clean=data.clean[order], protected=data.protected[order], labels=data.labels[order],
        keys=tuple(data.keys[i] for i in order),
    )  # fmt: skip
    one, other = (
        Staged(tmp_path / name, chosen, runnable(prefix, place)) for name, chosen in (("a", data), ("b", shuffled))
    )
    labels = [staged.store.labelling(staged.adversary.name).train for staged in (one, other)]
    assert (labels[0][order] == labels[1]).all()
    if one.adversary.transform(data.clean) is not data.clean or one.adversary.surrogate is not None:
        return  # the n-th picture is changed as the n-th, and features are computed a batch at a time
    for arm in one.adversary.arms:
        rows = []
        for read in (one.arrays(arm), other.arrays(arm)):
            images, known = read["train_images"], read["train_labels"]
            assert isinstance(images, np.ndarray)
            assert isinstance(known, np.ndarray)
            if arm == "noise":
                images = np.sort(images.reshape(len(images), -1), axis=1)
            rows.append(sorted((picture.tobytes(), int(label)) for picture, label in zip(images, known, strict=True)))
        assert rows[0] == rows[1], arm


def trained(staged: Staged, arm: Arm) -> CellResult:
    adversary = staged.adversary
    victim = adversary.surrogate or adversary.network or "small-cnn"
    task = CellTask(
        cell=Cell(arm, adversary.name, victim, 0, 11),
        fit=adversary.fit,
        recipe=TINY if adversary.fit == "network" else None,
        inputs=staged.store.inputs(arm, adversary.name),
        device="cpu",
        evals=1,
        learner=pickle.loads(pickle.dumps(adversary.learner())),
    )
    return run_cell(task)


@pytest.mark.parametrize("prefix", [name for name in NO_NETWORK if adversary_classes()[name].cost > 0])
def test_a_cell_is_a_function_of_its_task(prefix: str, tmp_path: Path, place: Path, data: VerificationData) -> None:
    """Whatever the same process has done before; so a learner can travel, and its result be kept under a key."""
    staged = Staged(tmp_path / "store", data, runnable(prefix, place))
    describe(staged.adversary.learner() or PlainTraining())
    results = []
    for mood in (1, 2):
        torch.manual_seed(mood)
        results.append(trained(staged, "protected" if "protected" in staged.adversary.arms else "mixed"))
    first, second = results
    assert first.finite
    assert first.seconds > 0
    assert (first.predictions == second.predictions).all()
    assert first.predictions.shape == data.test_labels.shape
    assert (repr(first.final_loss), first.train_accuracy) == (repr(second.final_loss), second.train_accuracy)
