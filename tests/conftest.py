"""What several rooms' tests share: a generator of noise without weights, and data sets as people have them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from .fake_device import FakeDevice


@pytest.fixture
def gpu() -> Iterator[FakeDevice]:
    """A machine with a CUDA device that refuses what is on the CPU and counts what makes the host wait."""
    from .fake_device import fake_cuda

    with fake_cuda() as device:
        yield device


class FakeSource:
    """Noise drawn from (prompt, seed), as strict about its inputs as a real one; ``calls`` holds the sizes of the
    batches."""

    generator_id = "fake-generator"
    generator_sha256 = "ab" * 32
    text_encoder = "letters"
    text_norm = "l2"

    def __init__(self, native_size: int = 8, scale: float = 1.0) -> None:
        self.native_size = native_size
        self.scale = scale
        self.calls: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        assert len(prompts) == len(seeds) > 0
        assert all(0 <= seed < 2**63 for seed in seeds)
        self.calls.append(len(prompts))
        rows = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            words = int(hashlib.sha256(prompt.encode("utf-8")).hexdigest()[:12], 16)
            noise = np.random.default_rng([seed, words]).uniform(-1, 1, (3, self.native_size, self.native_size))
            rows.append(noise * self.scale)
        return np.array(rows, dtype=np.float32)


@pytest.fixture
def noise_source() -> type[FakeSource]:
    """The class, to make one of any size."""
    return FakeSource


class ImageFeature:
    """What ``datasets.Image`` is to those who only look at it."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


ImageFeature.__name__ = "Image"


class ClassLabel:
    """What ``datasets.ClassLabel`` is to those who only look at it."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)


class Value:
    """A plain column."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class Table:
    """A stand-in for ``datasets.Dataset``: rows are mappings, pictures are kept as the bytes of files or as paths."""

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        features: Mapping[str, Any],
        transform: Callable[[dict[str, list[Any]]], Any] | None = None,
    ) -> None:
        self._columns, self.features, self._transform = dict(columns), dict(features), transform

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    @property
    def format(self) -> dict[str, Any]:
        return {"type": None if self._transform is None else "custom"}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Index {index} out of range for dataset of size {len(self)}.")
        row = {name: self._decoded(name, values[index]) for name, values in self._columns.items()}
        if self._transform is None:
            return row
        made = self._transform({name: [value] for name, value in row.items()})
        return {name: values[0] for name, values in made.items()}

    def _decoded(self, name: str, value: Any) -> Any:
        feature = self.features[name]
        if not isinstance(feature, ImageFeature) or not feature.decode or value is None:
            return value
        with Image.open(value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])) as image:
            return ImageOps.exif_transpose(image)

    def with_format(self, kind: str | None) -> Table:
        assert kind is None
        return Table(self._columns, self.features)

    def with_transform(self, transform: Callable[[dict[str, list[Any]]], Any]) -> Table:
        return Table(self._columns, self.features, transform)

    def cast_column(self, name: str, feature: Any) -> Table:
        return Table(self._columns, {**self.features, name: feature}, self._transform)


class DatasetKit:
    """Data sets of a few small pictures."""

    def __init__(self, *, real: bool) -> None:
        self._real: Any = importlib.import_module("datasets") if real else None

    @staticmethod
    def colours(count: int = 6, height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
        """uint8 ``[N, H, W, 3]``."""
        return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)

    @staticmethod
    def files(root: Path, pixels: Sequence[np.ndarray] | np.ndarray, classes: Sequence[str] = ("cat", "dog")) -> Path:
        """One PNG file a picture, dealt to class folders in turn."""
        for number, picture in enumerate(pixels):
            folder = root / classes[number % len(classes)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number:03d}.png")
        return root

    @staticmethod
    def samples(root: Path) -> tuple[list[Path], list[int], list[str]]:
        """Files, labels and class names of such a folder."""
        classes = sorted(path.name for path in root.iterdir())
        found = [(path, number) for number, name in enumerate(classes) for path in sorted((root / name).iterdir())]
        return [path for path, _ in found], [number for _, number in found], classes

    def table(
        self,
        columns: Mapping[str, Sequence[Any]],
        *,
        images: Sequence[str] = (),
        classes: Mapping[str, Any] | None = None,
    ) -> Any:
        """A table. Columns of pictures hold ``{"bytes": ..., "path": ...}``; those of classes, numbers."""
        named = classes or {}
        if self._real is None:
            features = {name: Value("any") for name in columns}
            features |= {name: ImageFeature() for name in images} | {n: ClassLabel(c) for n, c in named.items()}
            return Table(columns, features)
        made = self._real.Dataset.from_dict(dict(columns))
        for name in images:
            made = made.cast_column(name, self._real.Image())
        for name, names in named.items():
            made = made.cast_column(name, self._real.ClassLabel(names=list(names)))
        return made

    def table_of(self, root: Path, *, embedded: bool = True) -> Any:
        """The pictures of a folder as a table with the columns ``image`` and ``label``: bytes, or paths alone."""
        files, labels, classes = self.samples(root)
        images = [{"bytes": p.read_bytes() if embedded else None, "path": None if embedded else str(p)} for p in files]
        return self.table({"image": images, "label": labels}, images=["image"], classes={"label": classes})


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param(
            "datasets",
            marks=pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed"),
        ),
    ]
)
def tables(request: pytest.FixtureRequest) -> DatasetKit:
    """Tables of Hugging Face, or what stands in for them where the package is not installed."""
    return DatasetKit(real=request.param == "datasets")


@pytest.fixture
def datasets() -> type[DatasetKit]:
    """What needs no table."""
    return DatasetKit
