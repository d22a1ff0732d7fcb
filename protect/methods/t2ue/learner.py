"""A small network that learns along with the generator, from nothing, to tell texts by their noise.

The paper's frozen surrogate stands in for the outer minimisation of error-minimizing noise. A trainer who starts from
scratch is closer to a network that starts from scratch: here it minimises the same loss as the generator, as the
surrogate of error-minimizing noise does (Huang et al. 2021, equation 2), and is replaced now and then.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....surrogates import create_surrogate, crop_flip, draw_crops, own_randomness, pad_images

__all__ = ["Learner"]

_WIDTH = 128
_PADDING = 4


class Learner(nn.Module):
    """Pictures and text vectors into one small space.

    Args:
        text_dim: length of the text vectors.
        side: of the pictures in px.
        seed: of the first weights.
        network: name of a surrogate.
    """

    def __init__(self, text_dim: int, *, side: int, seed: int, network: str = "small-cnn") -> None:
        super().__init__()
        self.side = side
        self.images = create_surrogate(network, num_classes=_WIDTH, resolution=side, seed=seed)
        with own_randomness(seed):
            self.texts = nn.Linear(text_dim, _WIDTH)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, text: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of both, and the scale; pictures are cropped and flipped as trainers do."""
        rows = torch.arange(len(images), device=images.device)
        crops = draw_crops(len(images), _PADDING, True, generator)
        seen = crop_flip(pad_images(images, _PADDING), rows, crops, images.shape[-1])
        features = self.images(seen.contiguous(memory_format=torch.channels_last)).float()
        return F.normalize(features, dim=-1), F.normalize(self.texts(text), dim=-1), self.log_scale.exp().clamp(max=100)
