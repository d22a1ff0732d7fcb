"""How much a generator's noise depends on what: on the text, on its wording, on the random vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .generator import NoiseGenerator
from .text_embedder import TextEmbedder
from .vocabulary import TEMPLATES

__all__ = ["NoiseMeasures", "measure_noise"]

_THINGS = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "shirt", "shoes")


@dataclass(frozen=True)
class NoiseMeasures:
    """Mean cosines between noises, and how much of them lies at the bound.

    Attributes:
        same_text: one text, two random vectors. Near 1 the random vector does nothing (z-collapse): whoever has the
            caption and the generator can compute the noise and subtract it.
        same_class: one class in two templates.
        other_class: two classes. Near 1 there is no shortcut.
        saturated: share of values above 0.98 of the bound.
    """

    same_text: float
    same_class: float
    other_class: float
    saturated: float

    def facts(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@torch.no_grad()
def measure_noise(
    generator: NoiseGenerator, embedder: TextEmbedder, *, things: Sequence[str] = _THINGS, seed: int = 0
) -> NoiseMeasures:
    """Measured on a dozen classes that are no names of ImageNet's."""
    generator.eval()
    plain = embedder([TEMPLATES[0].format(thing) for thing in things])
    worded = embedder([TEMPLATES[9].format(thing) for thing in things])
    count = len(things)

    def noise(text: Tensor, offset: int) -> Tensor:
        z = torch.stack([generator.draw(seed + offset + row) for row in range(count)])
        return cast(Any, generator)(z.to(text.device), text).delta.flatten(1).float()

    first, second, other = noise(plain, 0), noise(plain, count), noise(worded, 0)
    between = F.cosine_similarity(first[:, None], first[None, :], dim=-1)
    apart = between[~torch.eye(count, dtype=torch.bool, device=between.device)]
    return NoiseMeasures(
        same_text=float(F.cosine_similarity(first, second).mean()),
        same_class=float(F.cosine_similarity(first, other).mean()),
        other_class=float(apart.mean()),
        saturated=float((first.abs() > 0.98 * generator.epsilon).float().mean()),
    )
