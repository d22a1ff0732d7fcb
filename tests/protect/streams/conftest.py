"""A small folder of pictures in class folders, the same pictures as shards, and a book of textures for them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.protect import TextureBank, apply_folder

CLASSES = ("cat", "dog")


def picture(seed: int, size: tuple[int, int] = (40, 36), format: str = "JPEG") -> bytes:
    """The bytes of a picture of smooth random colours."""
    small = np.random.default_rng(seed).integers(20, 236, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(buffer, format, quality=92)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)


def write_tar(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    """An archive with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data) if isinstance(member, str) else info.size
            info.mtime = 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return path


def read_tar(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def samples(count: int, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """WebDataset's members of so many pictures, with class, caption and other data."""
    for number in range(start, start + count):
        yield f"{number:04d}.jpg", picture(number)
        yield f"{number:04d}.cls", CLASSES[number % 2].encode()
        yield f"{number:04d}.txt", f"a picture, number {number}".encode()
        yield f"{number:04d}.json", json.dumps({"number": number, "label": number % 2}).encode()


def records(root: Path) -> list[dict[str, Any]]:
    """Every row of the manifest beside OUT."""
    parts = sorted((root.with_name(root.name + ".bitterant") / "manifest").rglob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]


@pytest.fixture
def book() -> TextureBank:
    return TextureBank.of_classes(CLASSES, b"a key of at least sixteen bytes")


@pytest.fixture
def bank(book: TextureBank, tmp_path: Path) -> Path:
    book.save(tmp_path / "book.safetensors")
    return tmp_path / "book.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures as files."""
    for number in range(6):
        place = tmp_path / "photos" / CLASSES[number % 2] / f"{number:04d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(number))
    return tmp_path / "photos"


@pytest.fixture
def expected(folder: Path, book: TextureBank, tmp_path: Path) -> dict[str, bytes]:
    """The protected bytes of each picture as a folder run writes them, by the picture's number."""
    apply_folder(folder, tmp_path / "as-folder", bank=book)
    return {path.stem: path.read_bytes() for path in (tmp_path / "as-folder").rglob("*.png")}
