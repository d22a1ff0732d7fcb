"""A generator of noise for tests: no weights, no torch, and as strict about its inputs as a real one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest


class FakeSource:
    """Noise drawn from (prompt, seed); ``calls`` holds the sizes of the batches."""

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
