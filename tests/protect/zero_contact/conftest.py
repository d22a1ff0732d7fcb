"""A folder with captions and two odd pictures, and the three steps in one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.protect.zero_contact import Asked, NoiseBundle, ask_for_folder, generate_bundle, write_asked

SECRET = bytes(range(32))
SERVER = b"the server's own secret"
SIZES = ((20, 32), (32, 20), (8, 8), (5, 40))


@dataclass
class Kit:
    """One folder, its request, and a generator.

    Attributes:
        root: a fresh folder.
        source: the generator.
    """

    root: Path
    source: Any

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    @property
    def map(self) -> Path:
        return self.root / "request.map.json"

    @property
    def request(self) -> Path:
        return self.root / "request.jsonl"

    def draw(self, name: str, size: tuple[int, int] = (20, 32), seed: int = 0, mode: str = "RGB") -> Path:
        """A noisy picture away from black and white, so that nothing is clipped."""
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(40, 200, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    def captioned(self) -> Path:
        """Four pictures of several shapes, each with a caption of its own."""
        for index, size in enumerate(SIZES):
            self.draw(f"IMG_{index}.png", size, index)
            (self.photos / f"IMG_{index}.txt").write_text(f"picture number {'abcd'[index]}", encoding="utf-8")
        return self.photos

    def classes(self, each: int = 3) -> Path:
        for row, name in enumerate(("grey_cats", "dogs")):
            for index in range(each):
                self.draw(f"{name}/{index}.png", (24, 16), 10 * row + index)
        return self.photos

    def ask(self, **options: Any) -> Asked:
        asked = ask_for_folder(self.photos, secret=SECRET, **options)
        write_asked(asked, self.request, self.map)
        return asked

    def make(self, asked: Asked, name: str = "out", **options: Any) -> NoiseBundle:
        out = self.root / f"{name}.noise.safetensors"
        return generate_bundle(asked.request, self.source, out, **{"secret": SERVER, **options})


@pytest.fixture
def kit(tmp_path: Path, noise_source: Callable[[], Any]) -> Kit:
    return Kit(tmp_path, noise_source())


@pytest.fixture
def rewrite() -> Callable[..., Path]:
    """``rewrite(path, metadata={...}, change=fn)``: a bundle with other metadata or tensors.

    By safetensors' own writer, so that what is refused is the content and not the form.
    """

    def again(
        path: Path,
        *,
        metadata: dict[str, str | None] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Path:
        from safetensors import safe_open
        from safetensors.numpy import save_file

        with safe_open(path, framework="np") as handle:
            head = {**handle.metadata(), **(metadata or {})}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        if change is not None:
            change(tensors)
        target = path.with_name(f"changed-{path.name}")
        save_file(tensors, target, {name: value for name, value in head.items() if value is not None})
        return target

    return again


def map_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())
