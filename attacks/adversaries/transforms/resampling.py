"""Resampling: smaller and back, or a crop enlarged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary, Pixels
from ..parameters import real_number
from .blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CropResize", "DownUp"]


class DownUp(Adversary):
    """Shrinks the pictures (bilinear, antialiased) and enlarges them again.

    Args:
        parameter: the scale, 0.1 to 0.95; a half where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "down-up"
    tier = "transforms"
    source = "ours: half the side and back"
    description = "shrunk and enlarged again (down-up:0.75 sets the scale, 0.5 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.scale = real_number(self.prefix, parameter, default=0.5, least=0.1, most=0.95)

    @property
    def name(self) -> str:
        return f"down-up:{self.scale:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who shrinks them to {100 * self.scale:g} % and back"

    def transform(self, images: Pixels) -> Pixels:
        import torch.nn.functional as F

        side = images.shape[-1]
        small = min(side - 1, max(1, round(self.scale * side)))

        def change(batch: Tensor, _: int) -> Tensor:
            shrunk = F.interpolate(batch, (small, small), mode="bilinear", antialias=True, align_corners=False)
            return F.interpolate(shrunk, (side, side), mode="bilinear", align_corners=False)

        return in_blocks(images, change)


class CropResize(Adversary):
    """Cuts the middle out and enlarges it to the full side (bilinear), which shifts every pixel off its grid.

    Args:
        parameter: side of the part that is kept, 0.5 to 0.98; 0.875 where left out (224 of 256).

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "crop-resize"
    tier = "transforms"
    source = "ours: the crop usual before ImageNet models, enlarged"
    description = "the middle cut out and enlarged (crop-resize:0.75 sets its side, 0.875 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.kept = real_number(self.prefix, parameter, default=0.875, least=0.5, most=0.98)

    @property
    def name(self) -> str:
        return f"crop-resize:{self.kept:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who crops them to {100 * self.kept:g} % and enlarges that"

    def transform(self, images: Pixels) -> Pixels:
        import torch.nn.functional as F

        side = images.shape[-1]
        kept = min(side - 1, max(1, round(self.kept * side)))
        first = (side - kept) // 2

        def change(batch: Tensor, _: int) -> Tensor:
            inner = batch[:, :, first : first + kept, first : first + kept]
            return F.interpolate(inner, (side, side), mode="bilinear", align_corners=False)

        return in_blocks(images, change)
