"""UEraser: train on the worst of several strong augmentations (Qin et al. 2023, arXiv 2303.15127)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augmentations import trivial_augment
from .randomness import seeded

__all__ = ["UEraserObjective", "strong_augment"]

JPEG_QUALITY = 10.0


@lru_cache(maxsize=2)
def _plasma() -> nn.Module:
    """The settings of the authors' code (lafeat/ueraser)."""
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomPlasmaBrightness(roughness=(0.3, 0.7), intensity=(0.5, 1.0), same_on_batch=False, p=0.5, keepdim=True),
        K.RandomPlasmaContrast(roughness=(0.3, 0.7), p=0.5),
        K.RandomChannelShuffle(same_on_batch=False, p=0.5, keepdim=True),
    )


@torch.no_grad()
def strong_augment(batch: Tensor, generator: torch.Generator, *, jpeg: bool = False) -> Tensor:
    """Plasma brightness and contrast, channels shuffled, TrivialAugment, and if asked for JPEG 10; in [0, 1]."""
    with seeded(generator, batch.device):
        changed = _plasma()(batch).clamp(0, 1)
    changed = trivial_augment(changed, generator)
    if jpeg:
        from kornia.enhance import jpeg_codec_differentiable

        # kornia codes whole blocks of 16 pixels.
        side = changed.shape[-1]
        padded = F.pad(changed, (0, -side % 16, 0, -side % 16), mode="replicate")
        quality = torch.full((len(batch),), JPEG_QUALITY, device=batch.device)
        changed = jpeg_codec_differentiable(padded, quality)[:, :, :side, :side].clamp(0, 1)
    return changed.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class UEraserObjective:
    """Of several augmented versions of a picture, the one with the largest loss; later in the training, just one.

    The published code computes the gradient of all versions and uses that of the worst. Here the worst is found
    without gradient and trained on, which costs half.

    Attributes:
        versions: K; the paper's is 5.
        worst_until: share of the training in which the worst is looked for; the paper's UEraser is a quarter (50 of 200
            epochs), its UEraser-max 1.
        jpeg: whether each version is compressed as well.
    """

    versions: int = 5
    worst_until: float = 0.25
    jpeg: bool = False

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        if progress >= self.worst_until:
            logits = model(strong_augment(batch, generator, jpeg=self.jpeg)).float()
            return F.cross_entropy(logits, target), logits
        worst = batch
        most = torch.full((len(batch),), -torch.inf, device=batch.device)
        with torch.no_grad():
            for _ in range(self.versions):
                changed = strong_augment(batch, generator, jpeg=self.jpeg)
                losses = F.cross_entropy(model(changed).float(), target, reduction="none")
                worse = losses > most
                worst = torch.where(worse[:, None, None, None], changed, worst)
                most = torch.where(worse, losses, most)
        logits = model(worst.contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, target), logits
