"""Features of pictures, frozen: the space in which clusters are found and perturbations push."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ....errors import ConfigError
from ....surrogates import FrozenSurrogate, Precision, Surrogate, choose_precision

__all__ = ["FeatureSpace", "View"]

VIEW = 224
"""Side in px at which networks look at pictures whose side is free. Ten clusters of 3,068 clothing photos agree with
the ten classes to .23 (NMI) at 64 px, .31 at 112, .39 at 160 and .43 at 224 px, the side that ImageNet networks are
trained for; what the noise does to a trainer grows with that (docs/methods/uc.md)."""


class FeatureSpace:
    """The features of one surrogate, or of an ensemble's members side by side.

    Args:
        model: the surrogate; frozen here.
        device: where to compute.
        resolution: side in px of the working images; networks of a fixed side take no other.

        precision: of the arithmetic where perturbations push; clusters are always found in float32.

    Attributes:
        maker: identity of the networks, the digest of their weights without the last layers.
        precisions: what was chosen, by network.
    """

    def __init__(
        self, model: Surrogate, device: torch.device, resolution: int, *, precision: Precision = "auto"
    ) -> None:
        self.device = device
        self.maker = model.fingerprint(head=False)
        self._sides = [member.resize.side for member in model.members]
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # What is compared with the features of other days keeps its last bit.
        self.exact = FrozenSurrogate(model, features=True, exactly=True)
        self.precisions = {
            member.name: choose_precision(member, device, resolution=resolution, asked=precision)
            for member in model.members
        }
        self.members = tuple(
            FrozenSurrogate(member, features=True, bf16=self.precisions[member.name].bf16) for member in model.members
        )
        self.widths = tuple(_width(member, resolution) for member in self.members)

    @property
    def view(self) -> int | None:
        """Side in px at which pictures are shown to networks with ImageNet weights or a side of their own.

        ``None`` for all others, and ensembles with one such: they see the working images.
        """
        sides = [side for side in self._sides if side is not None]
        return max(VIEW, *sides) if len(sides) == len(self._sides) else None

    @torch.no_grad()
    def of(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Features float32 ``[N, D]`` on the CPU of uint8 images ``[N, 3, R, R]``.

        ``batch_size=1`` gives the features that an image has on its own: sums in a batch may run in another order.

        Raises:
            ConfigError: they are not finite.
        """
        parts = [self.exact(part.to(self.device).float().mul_(1 / 255)).cpu() for part in images.split(batch_size)]
        features = torch.cat(parts) if parts else torch.empty(0, sum(self.widths))
        if not torch.isfinite(features).all():
            raise ConfigError(
                "The surrogate's features are not finite for some pictures: its weights may be damaged. Try another."
            )
        return features


@dataclass(frozen=True)
class View:
    """Looks at pictures one by one at a side of its own.

    Attributes:
        space: whose features.
        side: in px.
    """

    space: FeatureSpace
    side: int

    @property
    def maker(self) -> str:
        """Identity of the networks."""
        return self.space.maker

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Features float32 ``[D]`` on the CPU of a picture uint8 ``[side, side, 3]``."""
        return self.space.of(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]


def _width(frozen: FrozenSurrogate, side: int) -> int:
    with torch.no_grad():
        device = next(frozen.model.parameters()).device
        return int(frozen(torch.zeros(1, 3, side, side, device=device)).shape[1])
