"""What pushes pictures from their cluster to another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ....surrogates import FrozenSurrogate

__all__ = ["image_gradient", "kl_to_centre"]


def kl_to_centre(features: Tensor, centres: Tensor) -> Tensor:
    """``KL(softmax(centre) || softmax(feature))`` of each row, ``[N]`` (arXiv 2301.01217).

    The centre comes first: it is the distribution to be reached. Temperature 1, as in the code of the paper.

    Args:
        features: float ``[N, D]``.
        centres: float ``[N, D]``, the target centre of each row.
    """
    wanted = centres.log_softmax(1)
    return F.kl_div(features.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)


def image_gradient(
    members: Sequence[FrozenSurrogate],
    images: Tensor,
    centres: Tensor,
    widths: Sequence[int],
    transform: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradient of the summed divergence with respect to the images.

    Args:
        members: frozen feature maps; their losses are averaged.
        images: float ``[B, 3, R, R]`` in [0, 1], perturbed.
        centres: float ``[B, D]``, the members' centres side by side.
        widths: columns a member.
        transform: between image and surrogate.

    Returns:
        Gradient of the shape of ``images``, and the losses ``[B]``.
    """
    leaf = images.detach().requires_grad_(True)
    seen = leaf if transform is None else transform(leaf)
    wanted = centres.split(list(widths), dim=1)
    losses = torch.stack([kl_to_centre(m(seen), c) for m, c in zip(members, wanted, strict=True)]).mean(0)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return gradient, losses.detach()
