"""How a trainer trains a CLIP on captioned pictures, and what it then retrieves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from ...surrogates import crop_flip, draw_crops, pad_images
from ...surrogates.image_text import RetrievalScores, retrieval_scores
from .captioned import CaptionedSet
from .victims import ClipVictim

__all__ = ["ClipRecipe", "retrieve", "train_clip"]

_FEWEST_STEPS = 400
_FEWEST_BATCHES = 4
_SMALLEST_BATCH = 8
_MOST_EPOCHS = 120


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """The settings of a training, the same for every arm.

    Attributes:
        epochs: passes over the pictures; each time a picture goes with one of its captions, drawn anew.
        batch_size: pairs a step; each pair is told from the others in its batch.
        lr: peak rate of AdamW, after a linear warm-up, with a cosine to 0.
        weight_decay: of matrices, not of norms, biases and the scale.
        warmup: share of the steps.
        padding: px of random crops at 64 px; 0 with ``flip=False`` for none, as in the paper's code.
        flip: mirror half of the pictures.
    """

    epochs: int = 30
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: float = 0.1
    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not 0 < self.lr < math.inf:
            raise ConfigError("A CLIP is trained for one epoch at least, in batches of two or more, at a rate above 0.")

    @classmethod
    def paper(cls) -> ClipRecipe:
        """32 epochs (arXiv 2508.03091); 5e-4, weight decay 0.2 and no augmentation as in the authors' code."""
        return cls(epochs=32, lr=5e-4, weight_decay=0.2, padding=0, flip=False)

    @classmethod
    def fine_tuning(cls) -> ClipRecipe:
        """What the authors' logs use for a pretrained CLIP: 1e-5."""
        return cls(epochs=10, lr=1e-5, weight_decay=0.2)

    def fitted_to(self, pictures: int) -> ClipRecipe:
        """The recipe for a folder of so many pictures; the default one is unchanged for 1,800 and more.

        An epoch over a few pictures is one or two steps, after which nothing is learned yet: batches become smaller, so
        that an epoch has four of them, and epochs more, until there are 400 steps.
        """
        batch = min(self.batch_size, max(_SMALLEST_BATCH, pictures // _FEWEST_BATCHES))
        wanted = math.ceil(_FEWEST_STEPS / max(1, pictures // batch))
        return replace(self, batch_size=batch, epochs=max(self.epochs, min(wanted, _MOST_EPOCHS)))

    def settings(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def train_clip(
    victim: ClipVictim,
    pairs: CaptionedSet,
    recipe: ClipRecipe,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[float], None] | None = None,
) -> float:
    """Train ``victim`` in place by symmetric InfoNCE; returns the mean loss of the last epoch.

    Order, crops and the choice of captions depend on the seed alone, so that arms differ in their pictures only.
    """
    victim.to(device).train()
    draw = torch.Generator().manual_seed(seed)
    count, batch = len(pairs.images), min(recipe.batch_size, len(pairs.images))
    if count < 2:
        raise ConfigError("A CLIP tells pictures from each other: it needs two at least.")
    images = pairs.images.to(device)
    tokens = [victim.tokenize(list(several)) for several in pairs.captions]
    steps = recipe.epochs * (count // batch)
    optimiser = _optimiser(victim, recipe)
    step, losses = 0, []
    for _ in range(recipe.epochs):
        losses = []
        order = torch.randperm(count, generator=draw)
        for start in range(0, count - batch + 1, batch):
            rows = order[start : start + batch]
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _rate(step, steps, recipe.warmup)
            chosen = [tokens[row][int(torch.randint(len(tokens[row]), (), generator=draw))] for row in rows.tolist()]
            seen = _augmented(images[rows.to(device)].float() / 255.0, recipe, draw)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                pictures, texts, scale = victim(seen, torch.stack(chosen).to(device))
            loss = _contrast(pictures, texts, scale)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            step += 1
            if progress is not None:
                progress(step / steps)
    return sum(losses) / len(losses)


@torch.no_grad()
def retrieve(
    victim: ClipVictim, test: CaptionedSet, *, device: torch.device, batch_size: int = 256
) -> tuple[RetrievalScores, RetrievalScores]:
    """Scores of pictures for texts, and of texts for pictures, among all of ``test``; see
    :meth:`CaptionedSet.answers` for what counts as right."""
    victim.to(device).eval()
    texts, own = test.answers()
    seen = [victim.see(part.to(device).float() / 255.0).cpu() for part in test.images.split(batch_size)]
    read = [
        victim.read(victim.tokenize(texts[start : start + batch_size]).to(device)).cpu()
        for start in range(0, len(texts), batch_size)
    ]
    return retrieval_scores(torch.cat(seen), torch.cat(read), own)


def _contrast(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * pictures @ texts.T
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def _augmented(images: Tensor, recipe: ClipRecipe, draw: torch.Generator) -> Tensor:
    padding = round(recipe.padding * images.shape[-1] / 64)
    if not padding and not recipe.flip:
        return images
    crops = draw_crops(len(images), padding, recipe.flip, draw)
    rows = torch.arange(len(images), device=images.device)
    return crop_flip(pad_images(images, padding), rows, crops, images.shape[-1])


def _rate(step: int, steps: int, warmup: float) -> float:
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1.0 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def _optimiser(victim: ClipVictim, recipe: ClipRecipe) -> torch.optim.Optimizer:
    learnt = [p for p in victim.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr)
