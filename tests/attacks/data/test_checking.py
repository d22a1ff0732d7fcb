"""How visible a change is: every figure against a slow and obvious version, and what the two folders are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks.data.checking import chosen_names, measure_distances, spread_of, stealth_csv
from bitterant.attacks.data.folders import load_folders
from bitterant.attacks.data.perceptual import LpipsFound
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.imaging import ImageSet, Picture, measure_change

SaveFolder = Callable[..., Path]
Plant = Callable[..., ImageSet]


class FakeLpips:
    """A distance whose value is known: the share of values that changed."""

    source = "a test"

    def __call__(self, before: np.ndarray, after: np.ndarray) -> float:
        return float((before != after).mean())


def load(clean: Path, protected: Path, **options: object) -> VerificationData:
    settings = {"test": None, "resolution": 16, "seed": 5, "device_type": "cpu", "epsilon": 8 / 255, **options}
    return load_folders(clean, protected, step=lambda *_: None, **settings)  # type: ignore[arg-type]


def test_distances_against_loops() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    after = np.clip(before + rng.integers(-30, 31, before.shape), 0, 255).astype(np.uint8)
    largest = squares = clipped = 0
    for one, other in zip(before.ravel().tolist(), after.ravel().tolist(), strict=True):
        largest = max(largest, abs(other - one))
        squares += (other - one) ** 2
        clipped += one != other and other in (0, 255)
    found = measure_distances(Picture(before), Picture(after), with_ssim=True, lpips=FakeLpips())
    assert found.linf_levels == largest
    assert found.l2 == pytest.approx(squares**0.5 / 255)
    assert found.psnr == pytest.approx(10 * np.log10(255**2 * before.size / squares))
    assert found.clipped == clipped / before.size > 0
    assert found.ssim == measure_change(Picture(before), Picture(after)).ssim
    assert found.lpips == (before != after).mean()


def test_equal_and_deep_pictures() -> None:
    deep = np.full((8, 8, 1), 30_000, dtype=np.uint16)
    same = measure_distances(Picture(deep, bit_depth=16), Picture(deep, bit_depth=16), with_ssim=True, lpips=None)
    assert (same.linf_levels, same.l2, same.psnr, same.clipped, same.ssim, same.lpips) == (0, 0, None, 0, 1.0, None)
    moved = measure_distances(
        Picture(deep, bit_depth=16), Picture(deep + np.uint16(257), bit_depth=16), with_ssim=False, lpips=None
    )
    assert moved.linf_levels == pytest.approx(1.0)
    assert moved.l2 == pytest.approx(8 / 255)


def test_spreads() -> None:
    found = spread_of([3.0, None, 1.0, 2.0])
    assert found is not None
    assert (found.min, found.p50, found.max, found.mean) == (1.0, 2.0, 3.0, 2.0)
    assert spread_of([None]) is None


def test_the_choice_of_files_does_not_depend_on_order() -> None:
    names = [f"a/{i}.png" for i in range(50)]
    chosen = chosen_names(names, 10)
    assert len(chosen) == 10
    assert chosen == chosen_names(names[::-1], 10)
    assert chosen_names(names, 5) < chosen


def test_folders_are_described_as_they_lie_on_disk(
    tmp_path: Path, train_set: ImageSet, plant: Plant, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(plant(train_set, 6), tmp_path / "out", ".bmp")
    exif = Image.Exif()
    exif[0x010E] = "a bar"
    first = clean / "bar" / "0000.png"
    with Image.open(first) as image:
        image.save(first, exif=exif)
    with Image.open(clean / "ring" / "0003.png") as image:
        image.convert("P").save(clean / "ring" / "0003.png")
    (protected / "bitterant-manifest.jsonl").write_text("{}\n")
    (protected / "bitterant-run.json").write_text(
        json.dumps({"settings": {"epsilon": 8 / 255, "odd": {"x": [1, None]}}, "timing": {"total": 3.5}, "seed": 1})
    )
    data = load(clean, protected, lpips=LpipsFound(FakeLpips(), None))
    dataset = data.describe(validation_images=200)
    before, after = dataset.folders["clean"], dataset.folders["protected"]
    files = sorted(path for path in clean.rglob("*.png"))
    lines = [
        f"{path.relative_to(clean).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files
    ]
    assert before.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert before.files == after.files == len(files) == 240
    assert before.bytes == sum(path.stat().st_size for path in files)
    assert (before.width.min, before.width.max, before.height.p50) == (16, 16, 16)
    assert (before.modes, before.formats, before.bit_depths) == ({"RGB": 239, "P": 1}, {"PNG": 240}, {"8": 240})
    assert (before.exif, before.icc, after.exif) == (1, 0, 0)
    assert after.formats == {"BMP": 240}
    assert dataset.split_seed == 5
    assert dataset.test_sha256 is None
    assert dataset.validation_images == len(data.test_labels) // 2
    stealth = data.stealth()
    assert (stealth.lpips_files, stealth.lpips_source, stealth.lpips_reason) == (200, "a test", None)
    assert stealth.lpips is not None
    assert stealth.lpips.max == 1.0
    assert stealth.size_ratio is not None
    assert stealth.size_ratio.p50 > 1
    told = data.protection
    assert told is not None
    assert told.parameters == {"epsilon": 8 / 255, "odd": {"x": [1, None]}}
    assert told.seconds == 3.5
    assert told.manifest_sha256 == hashlib.sha256(b"{}\n").hexdigest()
    # Another byte in one file is another folder.
    with Image.open(first) as image:
        image.save(first)
    assert load(clean, protected).describe().folders["clean"].sha256 != before.sha256


def test_a_test_folder_has_a_hash_and_no_split(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(train_set, tmp_path / "out")
    test = write_folder(test_set, tmp_path / "test")
    found = load(clean, protected, test=test).describe()
    assert found.split_seed is None
    assert found.test_sha256 is not None
    (test / "bar" / "0000.png").unlink()
    assert load(clean, protected, test=test).describe().test_sha256 != found.test_sha256


def test_sets_in_memory_are_measured_too(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> None:
    data = load_sets(train_set, plant(train_set, 6), test_set, lpips=LpipsFound(FakeLpips(), None))  # type: ignore[arg-type]
    stealth = data.stealth()
    assert stealth.ssim is not None
    assert stealth.ssim_files == len(data.files) == 240
    assert stealth.linf.max == 6
    assert stealth.size_ratio is None
    assert stealth.lpips_files == 200
    assert data.describe().folders == {}
    first = stealth_csv(data.files).decode().splitlines()[1].split(",")
    assert first[-4:] == ["", "", "", ""], "no bytes on disk and no budget"


def test_what_a_run_file_holds_is_not_trusted(tmp_path: Path, train_set: ImageSet, write_folder: SaveFolder) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(train_set, tmp_path / "out")
    (protected / "bitterant-run.json").write_text(
        '{"settings": {"epsilon": NaN, "x": Infinity, "long": "%s"}, "surrogate": 3, "timing": [], "seed": "a"}'
        % ("y" * 900)
    )
    told = load(clean, protected, epsilon=None).protection
    assert told is not None
    assert (told.epsilon, told.norm, told.surrogate, told.seed, told.seconds) == (None,) * 5
    assert told.parameters["x"] == "inf"
    assert len(told.parameters["long"]) == 500
    json.loads(told.model_dump_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
