"""Pairs, splits, arms and what is on disk: the wrong picture in the wrong arm would make every figure a lie."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitterant.attacks.data.checking import stealth_csv
from bitterant.attacks.data.folders import load_folders
from bitterant.attacks.data.pairing import pair_folders, read_manifest_rows, scan_labelled
from bitterant.attacks.data.sets import VerificationData, largest_change, load_sets, noise_arm, placebo_levels
from bitterant.attacks.data.splits import stratified_split
from bitterant.errors import ConfigError, FolderError, LabelError
from bitterant.imaging import ImageSet, scan_folder

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


def pairs_of(clean: Path, protected: Path) -> tuple[dict[str, str], dict[str, str]]:
    pairs, issues = pair_folders(scan_folder(clean), scan_folder(protected), read_manifest_rows(protected))
    return {p.clean.relative: p.protected.relative for p in pairs}, {issue.path: issue.kind for issue in issues}


def test_pairs_by_path_whatever_the_extension(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.jpg", "a/2.png", "b/deep/1.JPG", "b/2.jpg", "b/2.png")
    protected = touch(tmp_path / "out", "a/1.png", "a/2.png", "b/deep/1.png", "b/2.jpg.png", "b/2.png")
    pairs, issues = pairs_of(clean, protected)
    assert pairs == {
        "a/1.jpg": "a/1.png",
        "a/2.png": "a/2.png",
        "b/deep/1.JPG": "b/deep/1.png",
        "b/2.jpg": "b/2.jpg.png",
        "b/2.png": "b/2.png",
    }
    assert issues == {}


def test_the_manifest_goes_before_names(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg")
    protected = touch(tmp_path / "out", "a/1.png", "a/other.png", "b/1.png")
    rows = [
        {"source": "a/1.jpg", "output": None, "status": "failed", "reason": "first try"},
        {"source": "a/1.jpg", "output": "a/other.png", "status": "protected"},
        {"source": "a/2.jpg", "output": "a/1.png", "status": "protected"},
        {"source": "a/3.jpg", "output": None, "status": "skipped", "reason": "CMYK"},
        {"source": "notes.txt", "output": "notes.txt", "status": "copied"},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"source": "b/'  # a killed run leaves half a line
    (protected / "bitterant-manifest.jsonl").write_text(text)
    pairs, issues = pairs_of(clean, protected)
    assert pairs == {"a/1.jpg": "a/other.png", "a/2.jpg": "a/1.png", "b/1.jpg": "b/1.png"}
    assert issues == {"a/3.jpg": "missing"}


def test_missing_extra_and_relabelled_files_are_listed(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    protected = touch(tmp_path / "out", "a/1.png", "a/3.png", "b/4.png", "b/9.png")
    pairs, issues = pairs_of(clean, protected)
    assert set(pairs) == {"a/1.png", "b/4.png"}
    assert issues == {"a/2.png": "missing", "b/3.png": "relabelled", "b/9.png": "extra"}


def test_a_class_of_another_name_is_relabelled(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.png", "b/2.png")
    protected = touch(tmp_path / "out", "a/1.png", "c/2.png")
    assert pairs_of(clean, protected) == ({"a/1.png": "a/1.png"}, {"b/2.png": "relabelled"})


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


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(0, 5), st.randoms())
def test_the_split_is_stratified_and_independent_of_order(counts: list[int], seed: int, random: object) -> None:
    keys = [f"{label}/{i}" for label, count in enumerate(counts) for i in range(count)]
    labels = [int(key.split("/")[0]) for key in keys]
    train, test = stratified_split(keys, labels, seed=seed)
    assert sorted(train + test) == list(range(len(keys)))
    for label, count in enumerate(counts):
        held = sum(labels[i] == label for i in test)
        assert held == (min(count - 1, max(1, round(0.2 * count))) if count > 1 else 0)
    order = list(range(len(keys)))
    random.shuffle(order)  # type: ignore[attr-defined]
    _, shuffled = stratified_split([keys[i] for i in order], [labels[i] for i in order], seed=seed)
    assert {keys[order[i]] for i in shuffled} == {keys[i] for i in test}


def test_identical_pictures_stay_on_one_side() -> None:
    keys = ["a/x"] * 5 + ["a/y"] * 5 + ["b/z", "b/w"]
    labels = [0] * 10 + [1] * 2
    train, test = stratified_split(keys, labels, seed=0)
    assert not {keys[i] for i in train} & {keys[i] for i in test}


def test_the_noise_arm_has_the_amplitude_and_follows_the_key() -> None:
    images = np.full((3, 3, 8, 8), 100, dtype=np.uint8)
    noisy = noise_arm(images, ["a", "b", "a"], 8.0, seed=0)
    assert set(np.unique(noisy)) == {92, 108}
    assert abs(noisy.mean() - 100) < 1
    assert (noisy[0] == noisy[2]).all()
    assert (noisy[0] != noisy[1]).any()
    assert (noise_arm(images[::-1], ["a", "b", "a"], 8.0, seed=0) == noisy[::-1]).all()
    assert (noise_arm(images, ["a", "b", "a"], 8.0, seed=1) != noisy).any()
    assert (noise_arm(images, ["a", "b", "a"], 0.0, seed=0) == images).all()
    white = noise_arm(np.full((1, 3, 8, 8), 255, dtype=np.uint8), ["a"], 8.0, seed=0)
    assert set(np.unique(white)) == {247, 255}
    assert largest_change(images, noisy).tolist() == [8, 8, 8]


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


def test_the_placebo_is_as_large_as_promised_or_as_usual() -> None:
    assert placebo_levels([6, 6, 31], 8.0) == 8.0
    assert placebo_levels([6, 6, 31], None) == 6.0
    assert placebo_levels([], None) == 0.0


def test_both_rooms_mean_the_same_files() -> None:
    """The judge reads what the protector wrote, and may not import it."""
    from bitterant.attacks.data import pairing
    from bitterant.protect import MANIFEST_NAME, RUN_FILE_NAME

    assert (pairing.MANIFEST_NAME, pairing.RUN_FILE_NAME) == (MANIFEST_NAME, RUN_FILE_NAME)


def test_files_on_disk_are_checked(tmp_path: Path, train_set: ImageSet, plant: Plant, write_folder: SaveFolder) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(plant(train_set, 3), tmp_path / "out")
    (protected / "bar" / "0000.png").write_bytes(b"broken")
    Image.new("RGB", (17, 16)).save(protected / "bar" / "0004.png")
    Image.open(clean / "bar" / "0008.png").convert("L").save(protected / "bar" / "0008.png")
    over = np.asarray(Image.open(clean / "disc" / "0002.png")).astype(int)
    Image.fromarray(np.where(over < 128, over + 40, over - 40).astype(np.uint8)).save(protected / "disc" / "0002.png")
    data = load(clean, protected, epsilon=8 / 255)
    assert {issue.path: issue.kind for issue in data.issues} == {
        "bar/0000.png": "unreadable",
        "bar/0004.png": "resized",
        "bar/0008.png": "resized",
    }
    assert len(data.files) == 237
    stealth = data.stealth()
    assert stealth.over_budget == ("disc/0002.png",)
    assert (stealth.linf.max, stealth.linf.p50) == (40, 3)
    assert stealth.ssim_files == 237
    rows = list(csv.DictReader(stealth_csv(data.files, budget_levels=8.0).decode().splitlines()))
    assert len(rows) == 237
    assert [row["output"] for row in rows if row["over_budget"] == "yes"] == ["disc/0002.png"]
    assert all(int(row["bytes_clean"]) == (clean / row["source"]).stat().st_size for row in rows)


def test_sets_must_fit_together(train_set: ImageSet, test_set: ImageSet) -> None:
    unlabelled = ImageSet(train_set.images, None, (), train_set.keys)
    with pytest.raises(LabelError, match="protected set has no labels"):
        load_sets(train_set, unlabelled, test_set)
    with pytest.raises(ConfigError, match="pairs"):
        load_sets(train_set, train_set.select([0, 1]), test_set)
    with pytest.raises(ConfigError, match="empty"):
        load_sets(train_set, train_set, test_set.select([]))
    small = ImageSet.from_tensors(torch.zeros(4, 3, 8, 8), torch.arange(4), classes=train_set.classes)
    with pytest.raises(ConfigError, match="one resolution"):
        load_sets(train_set, train_set, small)
    renamed = ImageSet(test_set.images, test_set.labels, ("w", "x", "y", "z"), test_set.keys)
    with pytest.raises(LabelError, match="same class names"):
        load_sets(train_set, train_set, renamed)
    assert train_set.labels is not None
    moved = train_set.labels.clone()
    moved[:2] = moved[:2].flip(0)
    data = load_sets(train_set, ImageSet(train_set.images, moved, train_set.classes, train_set.keys), test_set)
    assert [issue.kind for issue in data.issues if issue.kind != "near"] == ["relabelled"] * 2
    assert len(data.labels) == len(train_set) - 2
