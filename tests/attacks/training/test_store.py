"""What cells read: arms that are composed, labels that are changed, features, and a folder that is full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.adversaries.transforms import Grayscale
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.errors import ConfigError, LabelError, OutputError
from bitterant.imaging import ImageSet

Plant = Callable[..., ImageSet]


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> VerificationData:
    return load_sets(train_set, plant(train_set, 6), test_set, epsilon=8 / 255)


def store_of(folder: Path, data: VerificationData, *names: str, seed: int = 0) -> ArrayStore:
    made = {adversary.name: adversary for adversary in create_adversaries(names)}
    return ArrayStore(folder, data, made, seed=seed, executor=SerialExecutor())


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_mixed_arms_hold_each_picture_in_one_version(tmp_path: Path, data: VerificationData, share: float) -> None:
    name = f"mix:{share:g}"
    store = store_of(tmp_path, data, name)
    covered = store.covered(share)
    for label in range(4):
        assert covered[data.labels == label].mean() == pytest.approx(share, abs=0.02)
    read = {arm: store.inputs(arm, name) for arm in ("mixed", "part", "noise-mixed")}
    mixed, part, noisy = (np.load(read[arm].train_images) for arm in ("mixed", "part", "noise-mixed"))
    assert (mixed[covered] == data.protected[covered]).all()
    assert (mixed[~covered] == data.clean[~covered]).all()
    assert (part == data.clean[~covered]).all()
    assert (np.load(read["part"].train_labels) == data.labels[~covered]).all()
    assert (np.load(read["mixed"].train_labels) == data.labels).all()
    assert (noisy[~covered] == data.clean[~covered]).all()
    assert (noisy[covered] == store.pictures("noise")[covered]).all()
    assert (np.load(read["part"].test_images) == data.test_images).all()
    assert (covered == store_of(tmp_path, data, name).covered(share)).all()
    assert (covered != store_of(tmp_path, data, name, seed=1).covered(share)).any()


def test_no_adversary_can_change_the_pictures_of_another(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blacken(self: Grayscale, images: np.ndarray) -> np.ndarray:
        images[:] = 0
        return images

    before = data.test_images.copy()
    monkeypatch.setattr(Grayscale, "transform", blacken)
    with pytest.raises(ValueError, match="read-only"):
        store_of(tmp_path, data, "grayscale").inputs("clean", "grayscale")
    assert (data.test_images == before).all()
    assert data.test_images.flags.writeable, "the caller's own arrays stay as they were"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda images: (images / 255).astype(np.float32), "float32"),
        (lambda images: images[:, :1], "uint8 .*, 1, "),
        (lambda images: images[::2], "uint8"),
        (lambda images: None, "NoneType"),
    ],
)
def test_a_transform_that_returns_no_such_pictures_is_told(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch, change: Callable[..., object], found: str
) -> None:
    monkeypatch.setattr(Grayscale, "transform", lambda self, images: change(images))
    with pytest.raises(ConfigError, match=f"adversary grayscale turned .* into {found}"):
        store_of(tmp_path, data, "grayscale").inputs("clean", "grayscale")


def test_relabelling_changes_the_labels_of_all_arms_and_of_the_test(tmp_path: Path, data: VerificationData) -> None:
    store = store_of(tmp_path, data, "regroup:2")
    clean, protected, plain = (
        store.inputs("clean", "regroup:2"),
        store.inputs("protected", "regroup:2"),
        store.inputs("clean", "none"),
    )
    assert clean.train_labels == protected.train_labels
    assert clean.train_images == plain.train_images, "the pictures are the same, so they are saved once"
    assert clean.classes == 2
    for new, old in ((clean.train_labels, data.labels), (clean.test_labels, data.test_labels)):
        groups = {label: set(np.load(new)[old == label].tolist()) for label in range(4)}
        assert all(len(found) == 1 for found in groups.values()), "a class goes to one group as a whole"
        assert sorted(next(iter(found)) for found in groups.values()) == [0, 0, 1, 1]
    with pytest.raises(LabelError, match="more than 4 classes"):
        store_of(tmp_path, data, "regroup:4").labelling("regroup:4")


def test_finer_labels_follow_the_nearest_centre_within_the_class(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kinds of pictures in each class, told apart by the sign of one feature."""
    rng = np.random.default_rng(0)
    kinds = {"clean": rng.integers(0, 2, len(data.labels)), "test": rng.integers(0, 2, len(data.test_labels))}

    def features(self: ArrayStore, which: str, surrogate: str) -> np.ndarray:
        assert surrogate == "efficientnet-lite0"
        kind = kinds[which]
        return np.stack([np.where(kind, 1.0, -1.0), 0.1 * rng.random(len(kind))], axis=1).astype(np.float32)

    monkeypatch.setattr(ArrayStore, "features", features)
    labelling = store_of(tmp_path, data, "finer:2").labelling("finer:2")
    assert labelling.classes == 8
    assert "efficientnet-lite0" in (labelling.detail or "")
    for fine, old, kind in (
        (labelling.train, data.labels, kinds["clean"]),
        (labelling.test, data.test_labels, kinds["test"]),
    ):
        assert (fine // 2 == old).all()
        for label in range(4):
            halves = {(int(k), int(f)) for k, f in zip(kind[old == label], fine[old == label], strict=True)}
            assert len(halves) == 2
    # A kind has the same sub-class in training and test.
    pairs = {(int(c), int(k), int(f)) for c, k, f in zip(data.labels, kinds["clean"], labelling.train, strict=True)}
    tested = zip(data.test_labels, kinds["test"], labelling.test, strict=True)
    assert {(int(c), int(k), int(f)) for c, k, f in tested} == pairs


def test_without_the_network_finer_takes_small_pictures_and_says_so(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> np.ndarray:
        raise OutputError("not here")  # any SetupError

    monkeypatch.setattr(ArrayStore, "features", absent)
    labelling = store_of(tmp_path, data, "finer:3").labelling("finer:3")
    assert labelling.classes == 12
    assert "8 x 8 pixels" in (labelling.detail or "")
    assert (labelling.train // 3 == data.labels).all()


def test_probes_read_features(tmp_path: Path, data: VerificationData) -> None:
    store = store_of(tmp_path, data, "linear-probe:small-cnn", "knn:small-cnn")
    read = store.inputs("protected", "linear-probe:small-cnn")
    features = np.load(read.train_images)
    assert features.shape == (len(data.labels), 64)
    assert features.dtype == np.float32
    assert store.inputs("protected", "knn:small-cnn") == read, "computed once for both"


def test_a_full_temporary_folder_is_told_and_other_errors_are_not_called_so(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "gone", data)
    with pytest.raises(OutputError, match="TMPDIR"):
        store.inputs("clean", "none")
