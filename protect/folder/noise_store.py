"""What a run over a folder needs of the noise it writes: a bank, textures, or a bundle made from text elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ...imaging.budget import Budget
from ...imaging.picture import Picture

__all__ = ["NoiseStore"]


class NoiseStore(Protocol):
    """Noise by key, within a budget. Read from several threads."""

    @property
    def budget(self) -> Budget:
        """The bound that all of it keeps."""
        ...

    @property
    def surrogate(self) -> str:
        """Name of the model behind it, empty where there is none."""
        ...

    @property
    def surrogate_sha256(self) -> str:
        """Digest of that model's weights."""
        ...

    @property
    def report(self) -> dict[str, Any]:
        """What is known of how it was made."""
        ...

    def key_for(self, image_key: str) -> str | None:
        """The key of the noise for a picture; ``None`` where there is none."""
        ...

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """The noise of a key on a picture: float32 ``[R, S, 1 or 3]``, in 8-bit levels. Stored noise is the same for
        every picture, and of its own size.

        Raises:
            ImageError: this picture cannot be protected by it.
        """
        ...
