"""A text tower and an image-text surrogate that need no weights, and small generators."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.protect.methods.t2ue import CaptionPairs, SSANoiseGenerator, TextEmbedder
from bitterant.surrogates.image_text import ImageText, TextTower

WIDTH = 24


class HashTexts(TextTower):
    """A random unit vector a text."""

    name = "hash"
    width = WIDTH

    def forward(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            rows.append(torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)))
        return F.normalize(torch.stack(rows), dim=-1)

    def fingerprint(self) -> str:
        return hashlib.sha256(b"hash").hexdigest()


class TinyPair(ImageText):
    """A frozen convolution as image tower."""

    name = "tiny"
    scale = 10.0
    side = 16

    def __init__(self) -> None:
        super().__init__()
        self.texts = HashTexts()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(WIDTH))
        self.net(torch.zeros(1, 3, 16, 16))

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.net(images), dim=-1)

    def fingerprint(self) -> str:
        return "tiny"


@pytest.fixture(scope="session")
def texts() -> TextTower:
    return HashTexts()


@pytest.fixture(scope="session")
def surrogate() -> TinyPair:
    return TinyPair()


@pytest.fixture(scope="session")
def embedder() -> TextEmbedder:
    return TextEmbedder.of(HashTexts())


@pytest.fixture
def generator() -> SSANoiseGenerator:
    torch.manual_seed(0)
    return SSANoiseGenerator(
        latent_dim=8, text_dim=WIDTH, ngf=8, multipliers=(2, 2, 1), hidden=16, mask_hidden=8, gate_init=1.0,
        text_init=1.5, carriers=(4, 8), text_encoder_id="hash", text_encoder_sha256=HashTexts().fingerprint(),
    ).eval()  # fmt: skip


@pytest.fixture(scope="session")
def pairs() -> CaptionPairs:
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return CaptionPairs.of(images, [[f"a photo of thing {row}.", f"thing {row} on grass"] for row in range(12)])
