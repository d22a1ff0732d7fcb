"""A folder as one set: order, keys, labels, bad files, workers."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.errors import ConfigError
from bitterant.imaging import (
    Features,
    ImageSet,
    auto_resolution,
    common_size,
    decode,
    entry_key,
    load_image_set,
    loading,
    scan_folder,
    sha256_file,
    squash,
)


def write_image(path: Path, size=(12, 12), *, seed: int = 0, mode: str = "RGB", **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Two classes, several formats and sizes, two bad files in between."""
    root = tmp_path_factory.mktemp("mixed")
    write_image(root / "cat" / "a.png", (20, 10), seed=1)
    write_image(root / "cat" / "b.jpg", (30, 33), seed=2)
    (root / "cat" / "c.png").write_bytes(b"")
    write_image(root / "cat" / "d.bmp", seed=3, mode="L")
    write_image(root / "dog" / "deep" / "e.webp", seed=4, lossless=True)
    (root / "dog" / "f.jpg").write_bytes((root / "cat" / "b.jpg").read_bytes()[:300])
    write_image(root / "dog" / "g ä.tif", seed=5, mode="RGBA")
    return root


def test_images_labels_and_keys_stand_in_the_order_of_the_scan(mixed):
    scan = scan_folder(mixed)
    images, kept, problems = load_image_set(scan, 12)
    assert [entry.relative for entry in kept] == [
        "cat/a.png",
        "cat/b.jpg",
        "cat/d.bmp",
        "dog/deep/e.webp",
        "dog/g ä.tif",
    ]
    assert images.classes == ("cat", "dog")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.images.shape == (5, 3, 12, 12)
    for i, entry in enumerate(kept):
        assert np.array_equal(images.images[i].permute(1, 2, 0).numpy(), squash(decode(entry.path), 12))
        digest = hashlib.sha256(entry.path.read_bytes()).hexdigest()
        assert images.keys[i] == f"{entry.class_name}/{digest}" == entry_key(entry, sha256_file(entry.path))
    assert [problem.relative for problem in problems] == ["cat/c.png", "dog/f.jpg"]
    assert problems[0].reason == "the file is empty (0 bytes)"
    assert problems[1].reason.startswith(("cut off", "damaged"))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing(mixed, workers, monkeypatch):
    monkeypatch.setattr(loading, "_READ_AHEAD", 1)
    scan = scan_folder(mixed)
    alone, together = load_image_set(scan, 9), load_image_set(scan, 9, workers=workers)
    assert torch.equal(alone[0].images, together[0].images)
    assert alone[0].keys == together[0].keys
    assert alone[1:] == together[1:]


def test_progress_counts_every_file_also_the_bad_ones(mixed):
    seen: list[tuple[int, int]] = []
    load_image_set(scan_folder(mixed), 4, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]


def test_keys_do_not_depend_on_names_or_labels_asked_for(tmp_path):
    write_image(tmp_path / "one" / "x" / "a.png", seed=1)
    write_image(tmp_path / "one" / "x" / "b.png", seed=2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "x" / "a.png").rename(tmp_path / "two" / "x" / "zzz 日.png")
    first = load_image_set(scan_folder(tmp_path / "one"), 8)[0]
    second = load_image_set(scan_folder(tmp_path / "two"), 8)[0]
    assert first.keys != second.keys
    assert set(first.keys) == set(second.keys)
    place = second.keys.index(first.keys[0])
    assert torch.equal(first.images[0], second.images[place])
    without = load_image_set(scan_folder(tmp_path / "one"), 8, with_labels=False)[0]
    assert without.keys == first.keys
    assert without.labels is None
    assert without.classes == ()


def test_a_flat_folder_has_keys_without_class_and_no_labels(tmp_path):
    write_image(tmp_path / "a.png")
    images, (entry,), _ = load_image_set(scan_folder(tmp_path), 8)
    assert images.keys == (sha256_file(entry.path),)
    assert images.labels is None
    assert images.classes == ()


def test_an_empty_folder_gives_an_empty_set(tmp_path):
    images, kept, problems = load_image_set(scan_folder(tmp_path), 8, workers=2)
    assert len(images) == 0
    assert images.resolution == 8
    assert (kept, problems) == ([], [])


def test_a_file_that_vanishes_after_the_scan_is_a_problem_not_a_crash(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    scan = scan_folder(tmp_path)
    (tmp_path / "a.png").unlink()
    images, _, problems = load_image_set(scan, 8)
    assert len(images) == 1
    assert problems[0].relative == "a.png"
    assert "cannot be read" in problems[0].reason


def test_the_pixel_limit_is_passed_on(tmp_path):
    write_image(tmp_path / "a.png", (20, 20))
    assert "limit" in load_image_set(scan_folder(tmp_path), 8, max_pixels=300)[2][0].reason


def test_pictures_of_the_working_resolution_are_never_resampled(tmp_path, monkeypatch):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", (16, 16), seed=i)

    def never(*_args, **_options):
        raise AssertionError("resampled")

    monkeypatch.setattr(Image.Image, "resize", never)
    images, kept, _ = load_image_set(scan_folder(tmp_path), 16)
    for i, entry in enumerate(kept):
        assert np.array_equal(images.images[i].permute(1, 2, 0).numpy(), decode(entry.path).pixels)


@pytest.mark.parametrize(("resolution", "workers"), [(0, 0), (-3, 0), (8, -1)])
def test_bad_numbers_are_refused(tmp_path, resolution, workers):
    with pytest.raises(ConfigError):
        load_image_set(scan_folder(tmp_path), resolution, workers=workers)


def test_common_size_is_upright_and_none_where_sizes_differ(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "a.png", (10, 20))
    write_image(tmp_path / "b.jpg", (20, 10), exif=exif.tobytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert common_size(scan_folder(tmp_path)) == (10, 20)
    write_image(tmp_path / "c.png", (20, 10))
    assert common_size(scan_folder(tmp_path)) is None


def test_common_size_reads_no_pixels(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", (10, 10))

    def never(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    assert common_size(scan_folder(tmp_path)) == (10, 10)


@pytest.mark.parametrize(
    ("size", "cpu", "gpu"),
    [
        ((32, 32), 32, 32),
        ((96, 96), 96, 96),
        ((97, 97), 64, 224),
        ((32, 31), 64, 224),
        ((640, 480), 64, 224),
        ((16, 16), 16, 16),
        ((15, 15), 64, 224),
        ((1, 1), 64, 224),
    ],
)
def test_auto_resolution(tmp_path, size, cpu, gpu):
    write_image(tmp_path / "a.png", size)
    write_image(tmp_path / "b.png", size, seed=1)
    scan = scan_folder(tmp_path)
    assert auto_resolution(scan, "cpu") == cpu
    assert auto_resolution(scan, "cuda") == gpu


def test_auto_resolution_of_nothing_is_the_default(tmp_path):
    assert auto_resolution(scan_folder(tmp_path), "cpu") == 64


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_is_read_once_for_hash_and_picture(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png")
    scan = scan_folder(tmp_path)
    opened: list[str] = []
    real = loading.open_regular

    def counting(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(loading, "open_regular", counting)
    load_image_set(scan, 8)
    assert opened == ["a.png"]


class _Mean:
    """Looks at pictures at 8 px and remembers their mean colour."""

    side = 8
    fingerprint = "mean"

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        assert pixels.shape == (8, 8, 3)
        assert pixels.dtype == np.uint8
        return torch.from_numpy(pixels.mean(axis=(0, 1))).float()


@pytest.mark.parametrize("workers", [0, 3])
def test_what_looks_at_pictures_sees_each_readable_one(tmp_path: Path, workers: int) -> None:
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (20, 12), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "1b.png").write_bytes(b"no picture")
    found, _, problems = load_image_set(scan_folder(tmp_path), 4, workers=workers, describe=_Mean())
    assert len(problems) == 1
    assert found.features is not None
    assert (found.features.side, found.features.fingerprint) == (8, "mean")
    assert torch.equal(found.features.values, torch.tensor(colours).float())
    picked = found.select([2, 0]).features
    assert picked is not None
    assert torch.equal(picked.values, found.features.values[[2, 0]])
    assert load_image_set(scan_folder(tmp_path), 4)[0].features is None


def test_features_must_belong_to_the_images() -> None:
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="3 images but features"):
        ImageSet(images, None, (), ("a", "b", "c"), features=Features(torch.zeros(2, 5), 8, "mean"))
    with pytest.raises(ConfigError, match="Features are"):
        Features(torch.zeros(3), 8, "mean")
