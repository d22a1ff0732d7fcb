"""Captioned scenes that a tiny CLIP learns in a second, and a shortcut made of their captions alone.

A scene is an upper and a lower half in one of four colours each, fainter than the grain, with words of their own, so
that a bag of words says which. The shortcut is a texture for each word, in all pictures whose captions have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bitterant.attacks.retrieval import CaptionedSet, ClipVictim, training, verify

SIDE = 16
UPPER = ("crimson", "emerald", "azure", "snow")
LOWER = ("rust", "grass", "ocean", "chalk")
COLOURS = ((10, 0, 0), (0, 10, 0), (0, 0, 10), (10, 10, 10))


def draw_scenes(count: int, seed: int) -> CaptionedSet:
    """``count`` scenes, two captions each; 16 kinds of them."""
    rng = np.random.default_rng(seed)
    images, captions = np.zeros((count, 3, SIDE, SIDE), np.int64), []
    for row in range(count):
        above, below = rng.integers(0, 4, 2)
        images[row, :, : SIDE // 2] = np.array(COLOURS[above])[:, None, None]
        images[row, :, SIDE // 2 :] = np.array(COLOURS[below])[:, None, None]
        images[row] += rng.integers(80, 120, images[row].shape)
        captions.append((f"{UPPER[above]} over {LOWER[below]}", f"a view of {LOWER[below]} below {UPPER[above]}"))
    keys = tuple(f"{seed}-{row}" for row in range(count))
    return CaptionedSet(torch.from_numpy(images.astype(np.uint8)), tuple(captions), keys)


def plant(scenes: CaptionedSet, levels: int = 24) -> Tensor:
    """The scenes with a texture of ``levels / 2`` for each of the two words that tell; nothing else is looked at."""
    changed = scenes.images.numpy().astype(int)
    for row, several in enumerate(scenes.captions):
        for word in set(several[0].split()) & {*UPPER, *LOWER}:
            tile = np.random.default_rng(zlib.crc32(word.encode())).choice([-1, 1], (3, 2, 2))
            changed[row] += levels // 2 * np.tile(tile, (1, SIDE // 2, SIDE // 2))
    return torch.from_numpy(changed.clip(0, 255).astype(np.uint8))


def save_scenes(root: Path, scenes: CaptionedSet, images: Tensor | None = None, *, captions: bool = True) -> Path:
    """Write pictures 000.png, 001.png, ... with text files beside them."""
    root.mkdir(parents=True, exist_ok=True)
    for row, picture in enumerate(scenes.images if images is None else images):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(root / f"{row:03d}.png")
        if captions:
            (root / f"{row:03d}.txt").write_text("\n".join(scenes.captions[row]), encoding="utf-8")
    return root


def tiny_clip(name: str, *, resolution: int, seed: int, **_: object) -> ClipVictim:
    """Two convolutions, and a bag of words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        view = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(128, 32),
        )  # fmt: skip
        texts = nn.EmbeddingBag(256, 32, mode="sum", padding_idx=0)
        return ClipVictim(view, texts, _tokens, name=name, pretrained=False)


def _tokens(texts: list[str], length: int = 8) -> Tensor:
    rows = torch.zeros((len(texts), length), dtype=torch.int64)
    for row, text in enumerate(texts):
        words = [1 + zlib.crc32(word.encode()) % 255 for word in text.split()][:length]
        rows[row, : len(words)] = torch.tensor(words)
    return rows


@pytest.fixture
def tiny_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train :func:`tiny_clip` wherever a CLIP would be trained: the folders are tested, not the towers."""
    monkeypatch.setattr(verify, "create_clip_victim", tiny_clip)
    monkeypatch.setattr(training, "create_clip_victim", tiny_clip)


@pytest.fixture(scope="session")
def scenes() -> Callable[[int, int], CaptionedSet]:
    return draw_scenes


@pytest.fixture(scope="session")
def shortcut() -> Callable[..., Tensor]:
    return plant


@pytest.fixture(scope="session")
def save() -> Callable[..., Any]:
    return save_scenes
