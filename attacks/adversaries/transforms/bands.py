"""Radial filters in cycles per picture: a low-pass, and a band-stop for a trainer who knows where the noise lies."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ....errors import SetupError
from ..base import Adversary, Pixels
from ..parameters import real_number, real_range
from .blocks import in_blocks
from .frequency import dct_matrix

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BandStop", "LowPass", "radii"]

LEAST, MOST = 0.5, 512.0
"""A DCT has steps of half a cycle; no picture we work on has more than 512 cycles to a side."""


def radii(side: int) -> Tensor:
    """Radial frequency of each coefficient of a 2-D DCT, float32 ``[side, side]``, in cycles per picture.

    The k-th cosine of an axis makes k / 2 cycles from one edge of the picture to the other.
    """
    import torch

    cycles = torch.arange(side, dtype=torch.float32) / 2
    return torch.hypot(cycles[:, None], cycles[None, :])


class _Radial(Adversary):
    """Keeps some radial frequencies of the DCT of each colour, and drops the others.

    A DCT sees the picture continued by its mirror image: unlike in an FFT the left edge does not meet the right one,
    so that nothing rings along the borders. Brightness (0 cycles) always stays. All three colours are treated alike,
    and with them luminance and chroma.
    """

    tier = "transforms"

    @abstractmethod
    def _kept(self, radius: Tensor) -> Tensor:
        """Which coefficients stay, bool, by their radial frequency in cycles per picture."""

    def check(self, resolution: int) -> str | None:
        if bool(self._kept(radii(resolution)).all()):
            # A preset goes on without it: no ConfigError, which would end the verification.
            raise SetupError(f"{self.name} changes nothing: pictures of {resolution} px have no such frequencies.")
        return None

    def transform(self, images: Pixels) -> Pixels:
        side = images.shape[-1]
        cosines, kept = dct_matrix(side), self._kept(radii(side)).float()
        return in_blocks(images, lambda batch, _: cosines.T @ ((cosines @ batch @ cosines.T) * kept) @ cosines)


class LowPass(_Radial):
    """Keeps the frequencies up to a radius.

    Args:
        parameter: the radius in cycles per picture, 0.5 to 512; 8 where left out, which is half of what 32 px can hold
            along an axis. It does not depend on the working resolution: 8 cycles are a wave of 4 px at 32 px, and of
            28 px at 224 px.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "lowpass"
    source = "arXiv 2606.26719 (FUSE: protections fail after a low-pass); the radial DCT filter is ours"
    description = "only low frequencies kept (lowpass:5 sets the limit in cycles per picture, 8 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.radius = real_number(self.prefix, parameter, default=8.0, least=LEAST, most=MOST)

    @property
    def name(self) -> str:
        return f"lowpass:{self.radius:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who keeps only waves of up to {self.radius:g} cycles per picture"

    def _kept(self, radius: Tensor) -> Tensor:
        return radius <= self.radius


class BandStop(_Radial):
    """Drops the frequencies between two radii, both included.

    The adaptive adversary of textures: who knows the method knows the band it writes in, and needs no key to empty it.

    Args:
        parameter: the radii in cycles per picture, ``A-B`` with 0.5 <= A < B <= 512; ``4-9`` where left out.

    Raises:
        ConfigError: it is no such pair.
    """

    prefix = "bandstop"
    source = "ours: adaptive, knows the band of a method and not its key"
    description = "a band of frequencies removed (bandstop:4-9 sets it in cycles per picture, 4-9 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.low, self.high = real_range(self.prefix, parameter, default=(4.0, 9.0), least=LEAST, most=MOST)

    @property
    def name(self) -> str:
        return f"bandstop:{self.low:g}-{self.high:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who removes waves of {self.low:g} to {self.high:g} cycles per picture"

    def _kept(self, radius: Tensor) -> Tensor:
        return (radius < self.low) | (radius > self.high)
