"""D-VAE: the trainer's own pictures through an autoencoder of limited rate, the noise of each class subtracted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..parameters import real_number

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["Dvae"]


class Dvae(Adversary):
    """Fits two rate-limited autoencoders to the pictures of the arm, and trains on what comes through.

    The trainer needs no clean picture. Test pictures stay as they are, as in the paper; through the second autoencoder
    they are recognised no better.

    Args:
        parameter: rate in bits a pixel, 0.05 to 8; 1 where left out. Less removes more of the noise and of the picture.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "dvae"
    tier = "training"
    source = "after arXiv 2405.01460 (D-VAE), with smaller networks"
    description = (
        "through a rate-limited autoencoder trained on the pictures (dvae:0.5 sets bits a pixel, 1 if left out)"
    )
    cost = 3.0

    def __init__(self, parameter: str | None = None) -> None:
        self.rate = real_number(self.prefix, parameter, default=1.0, least=0.05, most=8.0)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self.rate:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who purifies them with a rate-limited autoencoder (D-VAE)"

    def learner(self) -> Learner:
        from ...learning import RateLimitedPurification

        return RateLimitedPurification(self.rate)
