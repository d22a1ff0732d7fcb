"""Purification by a learned autoencoder: what its latent space has no room for is gone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import ConfigError
from ..base import Adversary, Pixels
from ..transforms.blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

    from ...learning.autoencoders import Autoencoder

__all__ = ["Purify"]

BLOCK = 32


class Purify(Adversary):
    """Encodes and decodes every picture at the working resolution with an autoencoder from disk.

    Args:
        parameter: a folder that diffusers saved an autoencoder to (with ``config.json``), or the encoder's file of a
            tiny autoencoder, ``NAME_encoder.safetensors``, with ``NAME_decoder.safetensors`` beside it.

    Raises:
        ConfigError: no path was given.
    """

    prefix = "purify"
    tier = "training"
    source = "arXiv 2303.08500 (AVATAR) purifies by diffusion; the autoencoder in its place is ours"
    description = "through an autoencoder (purify:PATH, a diffusers folder or NAME_encoder.safetensors)"
    trainer = "W4"  # the autoencoder was trained on pictures of the world

    def __init__(self, parameter: str | None = None) -> None:
        if not parameter:
            raise ConfigError(
                "purify needs an autoencoder on disk: purify:FOLDER saved by diffusers, or "
                "purify:NAME_encoder.safetensors with NAME_decoder.safetensors beside it."
            )
        self.path = Path(parameter)

    @property
    def name(self) -> str:
        return f"purify:{self.path.as_posix()}"

    @property
    def phrase(self) -> str:
        return "a trainer who purifies them with an autoencoder"

    def check(self, resolution: int) -> str | None:
        return f"autoencoder {self._load().title}"

    def transform(self, images: Pixels) -> Pixels:
        import torch.nn.functional as F

        autoencoder = self._load()
        side = images.shape[-1]
        extra = -side % autoencoder.multiple
        near, far = extra // 2, extra - extra // 2

        def change(batch: Tensor, _: int) -> Tensor:
            padded = F.pad(batch, (near, far, near, far), mode="reflect" if far < side else "replicate")
            return autoencoder.reconstruct(padded)[:, :, near : near + side, near : near + side]

        return in_blocks(images, change, size=BLOCK)

    def _load(self) -> Autoencoder:
        from ...learning.autoencoders import load_autoencoder

        return load_autoencoder(self.path)
