"""What makes noise from text, as far as this package needs to know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

__all__ = ["NoiseSource"]


class NoiseSource(Protocol):
    """A generator that turns a prompt and a seed into noise. It sees no picture.

    Attributes:
        generator_id: what the generator is called.
        generator_sha256: of its weights.
        text_encoder: what reads the prompts.
        text_norm: how embeddings are normalised before they enter the generator.
        native_size: side S of the noise, in px.
    """

    @property
    def generator_id(self) -> str: ...
    @property
    def generator_sha256(self) -> str: ...
    @property
    def text_encoder(self) -> str: ...
    @property
    def text_norm(self) -> str: ...
    @property
    def native_size(self) -> int: ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Noise for some prompts.

        Args:
            prompts: N texts.
            seeds: N numbers in 0..2**63 - 1.

        Returns:
            float32 ``[N, 3, S, S]`` in [-1, 1], as a share of the budget. Row i depends on ``prompts[i]`` and
            ``seeds[i]`` only: not on its neighbours, not on N.
        """
        ...
