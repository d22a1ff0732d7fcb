"""Label maps are told from pictures by what is in them, not by a name alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image

from bitterant.imaging import formats, scan_folder
from bitterant.imaging.label_maps import find_label_maps

SIDE = 32
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def photo(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, SIDE)[:, None, None] + np.zeros((SIDE, SIDE, 3))
    return Image.fromarray(np.clip(ramp + rng.normal(20, 8, ramp.shape), 0, 255).astype(np.uint8))


def numbers(mode: str = "L", scale: int = 1) -> Image.Image:
    values = (np.indices((SIDE, SIDE)).sum(0) // 20 % 4 * scale).astype(np.uint8)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(VOC)
        return image
    if mode == "RGB":
        coloured = Image.fromarray(values)
        coloured.putpalette(VOC)
        return coloured.convert("RGB")
    return Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else image.convert(mode)


@pytest.fixture
def folder(tmp_path):
    def save(image: Image.Image, name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    for i in range(3):
        save(photo(i), f"images/{i}.jpg")
    return save


@pytest.mark.parametrize("name", ["masks", "Labels", "annotations", "SegmentationClass", "gtFine", "train_masks", "gt"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16", "1"])
def test_folders_of_label_maps_are_set_aside(folder, tmp_path, name, mode):
    for i in range(3):
        folder(numbers(mode, scale=60 if mode == "L" else 1), f"{name}/{i}.png")
    scan = scan_folder(tmp_path)
    assert scan.label_maps == tuple(f"{name}/{i}.png" for i in range(3))
    assert not scan.labelled
    assert len(scan.entries) == 3
    (note,) = scan.notes
    assert f"3 label maps in {name}/" in note


def test_masks_as_grey_jpeg_are_known_by_the_pictures_they_belong_to(folder, tmp_path):
    for i in range(3):
        folder(numbers("L", scale=80), f"masks/{i}.jpg")
    assert len(scan_folder(tmp_path).label_maps) == 3


def test_photos_in_a_folder_called_masks_are_a_class(folder, tmp_path):
    for i in range(3):
        folder(photo(i + 5), f"masks/m{i}.png")
        folder(photo(i + 5), f"labels/{i}.jpg")
    scan = scan_folder(tmp_path)
    assert scan.classes == ("images", "labels", "masks")
    assert scan.label_maps == ()
    assert scan.notes == ()


def test_masks_beside_their_pictures(folder, tmp_path):
    for i in range(2):
        folder(photo(i), f"cells/{i}.png")
        folder(numbers("L", scale=80), f"cells/{i}_mask.png")
    folder(photo(7), "cells/3_mask.png")  # belongs to no picture
    scan = scan_folder(tmp_path)
    assert scan.label_maps == ("cells/0_mask.png", "cells/1_mask.png")
    assert "cells/3_mask.png" in [entry.relative for entry in scan.entries]


@pytest.mark.parametrize(("mode", "scale", "aside"), [("L", 1, True), ("P", 1, True), ("L", 80, False)])
def test_index_pictures_are_known_without_a_telling_name(folder, tmp_path, mode, scale, aside):
    """Dark flat numbers and VOC's colours are no picture; a drawing in a few greys may be one."""
    for i in range(3):
        folder(numbers(mode, scale), f"y/{i}.png")
    folder(Image.new("L", (SIDE, SIDE)), "y/empty.png")
    assert len(scan_folder(tmp_path).label_maps) == (4 if aside else 0)


def test_dark_photos_and_black_pictures_stay_pictures(folder, tmp_path):
    rng = np.random.default_rng(1)
    for i in range(3):
        folder(Image.fromarray(rng.integers(0, 30, (SIDE, SIDE), np.uint8)), f"night/{i}.png")
        folder(Image.new("L", (SIDE, SIDE)), f"black/{i}.png")
    assert scan_folder(tmp_path).label_maps == ()


def test_a_folder_of_numbers_alone_is_what_the_user_wants_protected(tmp_path):
    for i in range(3):
        (tmp_path / "y").mkdir(exist_ok=True)
        numbers().save(tmp_path / f"y/{i}.png")
    scan = scan_folder(tmp_path)
    assert scan.label_maps == ()
    assert len(scan.entries) == 3


def test_a_bomb_among_masks_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.2 kB of run-length BMP that claim 50 million pixels, named as a mask."""
    head = struct.pack("<2sIHHI", b"BM", 1100, 0, 0, 1078)
    head += struct.pack("<IiiHHIIiiII", 40, 8300, 6000, 1, 8, 1, 20, 2835, 2835, 256, 0) + bytes(1024)
    path = tmp_path / "masks" / "bomb.bmp"
    path.parent.mkdir()
    path.write_bytes(head + b"\x14\x01\0\0" * 24 + b"\0\1")
    decoded = []
    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", lambda self: decoded.append(self.size))
    assert not find_label_maps({"masks/bomb.bmp": path}).names
    assert not decoded
    monkeypatch.setattr(formats, "_MOST_PER_RUN_BYTE", 10**9)
    monkeypatch.setattr(formats, "FREE_PIXELS", 10**9)
    find_label_maps({"masks/bomb.bmp": path})
    assert decoded, "only its claim kept it from being decoded"
