"""A bundle as the noise of a folder run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...imaging.budget import Budget
from ...imaging.picture import Picture
from .bundle import NoiseBundle

__all__ = ["BundleNoise"]


@dataclass(frozen=True)
class BundleNoise:
    """What :class:`NoiseStore` asks for, by the ids of a request.

    Attributes:
        bundle: verified.
        strength: share of the noise that is used, in (0, 1].
    """

    bundle: NoiseBundle
    strength: float = 1.0

    @property
    def budget(self) -> Budget:
        """The bound after weakening."""
        return Budget(self.bundle.budget.epsilon * self.strength)

    @property
    def surrogate(self) -> str:
        """The generator."""
        return self.bundle.info.generator_id

    @property
    def surrogate_sha256(self) -> str:
        """Of the generator's weights."""
        return self.bundle.info.generator_sha256

    @property
    def report(self) -> dict[str, Any]:
        """What the bundle says about itself."""
        return asdict(self.bundle.info)

    def key_for(self, image_key: str) -> str | None:
        """The id itself, where the bundle has it."""
        return image_key if image_key in self.bundle.tensor_of else None

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """float32 ``[h, w, 3]`` in levels, whatever the picture."""
        return self.bundle.levels_of(key) * np.float32(self.strength)
