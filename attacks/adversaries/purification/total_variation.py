"""Total variation: the smoothest picture near the given one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary, Pixels
from ..parameters import real_number
from ..transforms.blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TotalVariation", "denoise_tv"]

ITERATIONS = 60
_STEP = 0.25


def denoise_tv(batch: Tensor, weight: float, *, iterations: int = ITERATIONS) -> Tensor:
    """The minimiser u of ``|u - batch|^2 / 2 + weight * TV(u)``, each colour by itself.

    Chambolle's dual projection (2004, section 3.1), for all pictures at once.

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1].
        weight: of the total variation; larger is smoother.
        iterations: of the projection; its step is 1/4, which converges.
    """
    import torch

    p = batch.new_zeros(2, *batch.shape)
    result = batch
    for _ in range(iterations):
        gradient = torch.zeros_like(p)
        gradient[0, :, :, :-1] = result[:, :, 1:] - result[:, :, :-1]
        gradient[1, :, :, :, :-1] = result[:, :, :, 1:] - result[:, :, :, :-1]
        norm = gradient.square().sum(0).sqrt()
        p = (p - _STEP * gradient) / (1 + _STEP / weight * norm)
        # Minus the divergence of p, the adjoint of the gradient above.
        d = -p.sum(0)
        d[:, :, 1:] += p[0, :, :, :-1]
        d[:, :, :, 1:] += p[1, :, :, :, :-1]
        result = batch + d
    return result


class TotalVariation(Adversary):
    """Total-variation denoising (Rudin, Osher, Fatemi 1992).

    Args:
        parameter: weight of the total variation, 0.005 to 1; 0.1 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "tv"
    tier = "training"
    source = "arXiv 1711.00117 (total variation against perturbations); Chambolle 2004"
    description = "total-variation denoising (tv:0.05 sets the weight, 0.1 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.weight = real_number(self.prefix, parameter, default=0.1, least=0.005, most=1.0)

    @property
    def name(self) -> str:
        return f"tv:{self.weight:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who denoises them by total variation"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: denoise_tv(batch, self.weight))
