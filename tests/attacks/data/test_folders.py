"""Folders become a verification's pictures, or are refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks.data.folders import load_folders
from bitterant.attacks.data.pairing import scan_labelled
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.errors import FolderError, LabelError
from bitterant.imaging import ImageSet

Plant = Callable[..., ImageSet]


SaveFolder = Callable[..., Path]


def silent(*_: object) -> None:
    pass


def load(clean: Path, protected: Path, test: Path | None = None, **options: object) -> VerificationData:
    settings = {"resolution": "auto", "seed": 0, "device_type": "cpu", "epsilon": None, **options}
    return load_folders(clean, protected, test=test, step=silent, **settings)  # type: ignore[arg-type]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], FolderError, "holds no images"),
        (["1.png", "2.png"], LabelError, "no class folders"),
        (["a/1.png", "a/2.png"], LabelError, "one class folder only"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, names: list[str], error: type[Exception], words: str) -> None:
    root = tmp_path / "clean"
    root.mkdir()
    touch(root, *names)
    with pytest.raises(error, match=words):
        scan_labelled(root, "CLEAN")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="nowhere"):
        scan_labelled(tmp_path / "nowhere", "CLEAN")


def test_folders_that_do_not_belong_together(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.png", "b/2.png")
    other = touch(tmp_path / "other", "a/3.png", "b/4.png")
    with pytest.raises(FolderError, match="No file in"):
        load(clean, other)
    with pytest.raises(FolderError, match="same folder"):
        load(clean, tmp_path / "other" / ".." / "clean")


def test_loading_pairs_holds_out_and_measures(
    tmp_path: Path, train_set: ImageSet, plant: Plant, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(plant(train_set, 6), tmp_path / "out")
    run = {"settings": {"epsilon": 8 / 255, "method": "emn", "granularity": "class"}, "seed": 3}
    run |= {"surrogate": {"name": "small-cnn"}, "versions": {"bitterant": "0.1"}}
    (protected / "bitterant-run.json").write_text(json.dumps(run))
    data = load(clean, protected)
    assert (len(data.labels), len(data.test_labels)) == (192, 48)
    assert data.resolution == 16
    assert data.describe().train_counts == (48, 48, 48, 48)
    assert (np.abs(data.protected.astype(int) - data.clean) <= 6).all()
    assert (data.protected != data.clean).any(axis=(1, 2, 3)).all()
    # Test pictures are originals that no arm is trained on.
    seen = {picture.tobytes() for picture in (*data.clean, *data.protected)}
    assert not seen & {picture.tobytes() for picture in data.test_images}
    originals = {picture.numpy().tobytes() for picture in train_set.images}
    assert {picture.tobytes() for picture in data.test_images} <= originals
    assert data.noise_levels == 8, "the placebo is as large as what was promised"
    assert (data.budget_levels, data.budget_source) == (8.0, "stated by the run file")
    assert data.protection is not None
    told = data.protection
    assert (told.method, told.granularity, told.surrogate, told.seed, told.version) == (
        "emn", "class", "small-cnn", 3, "0.1",
    )  # fmt: skip
    assert (told.epsilon, told.norm, told.format, told.manifest_sha256) == (8 / 255, "linf", None, None)
    assert told.parameters == run["settings"]
    assert load(clean, protected, epsilon=4 / 255).budget_levels == pytest.approx(4)
    assert load(clean, protected, seed=1).sha256() != data.sha256() == load(clean, protected).sha256()


def test_a_test_folder_must_have_the_classes_and_leaks_are_left_out(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(train_set, tmp_path / "out")
    test = write_folder(test_set, tmp_path / "test")
    (test / "bar" / "leak.png").write_bytes((clean / "bar" / "0000.png").read_bytes())
    (test / "bar" / "broken.png").write_bytes(b"no picture")
    data = load(clean, protected, test)
    assert (len(data.labels), len(data.test_labels)) == (239, 241)
    found = {(i.kind, i.path) for i in data.issues if i.kind != "near"}
    assert found == {("leaked", "bar/0000.png"), ("untestable", "bar/broken.png")}
    (test / "ring").rename(test / "circle")
    with pytest.raises(LabelError, match=r"missing: ring; not in CLEAN: circle"):
        load(clean, protected, test)


def test_testing_on_the_training_folders_is_refused(
    tmp_path: Path, train_set: ImageSet, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(train_set, tmp_path / "out")
    for test in (clean, protected):
        with pytest.raises(FolderError, match="not trained on"):
            load(clean, protected, test)


def test_the_same_pixels_in_another_file_are_a_leak(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, plant: Plant, write_folder: SaveFolder
) -> None:
    clean, planted = write_folder(train_set, tmp_path / "clean"), plant(train_set, 6)
    protected = write_folder(planted, tmp_path / "out")
    test = write_folder(test_set, tmp_path / "test")
    Image.open(clean / "bar" / "0000.png").save(test / "bar" / "again.bmp")
    Image.open(protected / "disc" / "0002.png").save(test / "disc" / "copy.bmp")
    data = load(clean, protected, test)
    assert {i.path for i in data.issues if i.kind == "leaked"} == {"bar/0000.png", "disc/0002.png"}
    assert len(data.labels) == 238
    with pytest.raises(LabelError, match="not among the test images"):
        load_sets(train_set, planted, train_set)


def test_the_same_picture_twice_in_clean_is_not_tested_and_trained(
    tmp_path: Path, train_set: ImageSet, write_folder: SaveFolder
) -> None:
    """Without a test folder a part is held out; the same pixels in another file must not stay behind in training."""
    clean = write_folder(train_set, tmp_path / "clean")
    for path in sorted(clean.rglob("*.png")):
        Image.open(path).save(path.with_name(f"{path.stem}-again.bmp"))
    protected = write_folder(train_set, tmp_path / "out")
    for path in sorted(protected.rglob("*.png")):
        Image.open(path).save(path.with_name(f"{path.stem}-again.bmp"))
    data = load(clean, protected)
    seen = {picture.tobytes() for picture in (*data.clean, *data.protected)}
    assert not seen & {picture.tobytes() for picture in data.test_images}
    assert {issue.kind for issue in data.issues} - {"near"} == {"leaked"}


def test_test_pictures_that_nearly_equal_training_pictures_are_named(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, write_folder: SaveFolder
) -> None:
    """Both paths are told, that of the test picture first; and the pictures stay in training."""
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(train_set, tmp_path / "out")
    test = write_folder(test_set, tmp_path / "test")
    before = {issue.path for issue in load(clean, protected, test).issues if issue.kind == "near"}
    pixels = np.asarray(Image.open(clean / "ring" / "0003.png"))
    Image.fromarray(pixels + np.uint8(3)).save(test / "ring" / "again.png")
    data = load(clean, protected, test)
    near = {issue.path: issue.detail for issue in data.issues if issue.kind == "near"}
    assert set(near) - before == {"ring/again.png"}
    assert "ring/0003.png" in near["ring/again.png"]
    assert len(data.labels) == len(train_set)
