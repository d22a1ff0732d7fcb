"""Clean, random noise and protected pictures under one and the same training, and what each CLIP then retrieves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..data.arms import noise_arm
from ..training.threads import one_thread
from ..training.victims import victim_seed
from .captioned import CaptionedSet
from .training import ClipRecipe, retrieve, train_clip
from .victims import create_clip_victim

__all__ = ["ARM_NAMES", "KS", "ArmScores", "RetrievalReport", "retrieval_trial"]

ARM_NAMES = ("clean", "noise", "protected")
KS = (1, 5, 10)


@dataclass(frozen=True)
class ArmScores:
    """One training.

    Attributes:
        arm: clean, noise or protected.
        seed: number of the repetition.
        loss: mean of the last epoch.
        image_to_text, text_to_image: share of queries answered among the first k, by k.
        image_to_text_rank, text_to_image_rank: median ranks.
        image_ranks, text_ranks: 0-based rank of each test picture and of each different caption, in their order.
    """

    arm: str
    seed: int
    loss: float
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    image_to_text_rank: int
    text_to_image_rank: int
    image_ranks: tuple[int, ...] = field(default=(), repr=False)
    text_ranks: tuple[int, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, without the ranks of each query."""
        return {name: value for name, value in asdict(self).items() if name not in ("image_ranks", "text_ranks")}


@dataclass
class RetrievalReport:
    """All trainings, and what guessing gives.

    Attributes:
        victim, recipe, pictures, tested: what was done.
        scores: one row a training.
        chance_image_to_text, chance_text_to_image: by k.
        chance_ranks: median ranks both ways.
        warnings: what the reader should know.
    """

    victim: str
    recipe: dict[str, Any]
    pictures: int
    tested: int
    scores: list[ArmScores] = field(default_factory=list)
    chance_image_to_text: dict[int, float] = field(default_factory=dict)
    chance_text_to_image: dict[int, float] = field(default_factory=dict)
    chance_ranks: tuple[int, int] = (0, 0)
    warnings: list[str] = field(default_factory=list)

    def arms(self) -> list[str]:
        """Those that were trained, in order."""
        return list(dict.fromkeys(row.arm for row in self.scores))

    def mean(self, arm: str, way: str, k: int) -> tuple[float, float]:
        """Mean and standard deviation over seeds of Hit@k; ``way`` is ``image_to_text`` or ``text_to_image``."""
        values = [getattr(row, way)[k] for row in self.scores if row.arm == arm]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def rank(self, arm: str, way: str) -> float:
        """Mean over seeds of the median rank."""
        return float(np.mean([getattr(row, f"{way}_rank") for row in self.scores if row.arm == arm]))

    def left(self, way: str = "text_to_image", k: int = 10) -> float | None:
        """What is left of the clean pictures' gain over guessing; ``None`` where there was none."""
        chance = getattr(self, f"chance_{way}")[k]
        gain = self.mean("clean", way, k)[0] - chance
        return (self.mean("protected", way, k)[0] - chance) / gain if gain > chance else None

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **asdict(self),
            "scores": [row.to_json() for row in self.scores],
            "left_of_hit_at_10": {"image_to_text": self.left("image_to_text"), "text_to_image": self.left()},
        }


def retrieval_trial(
    clean: CaptionedSet,
    protected: Tensor,
    test: CaptionedSet,
    *,
    victim: str = "clip-small",
    recipe: ClipRecipe | None = None,
    seeds: int = 3,
    seed: int = 0,
    noise_levels: float | None = None,
    device: torch.device | None = None,
    weights: Path | None = None,
    allow_download: bool = False,
    arms: Sequence[str] = ARM_NAMES,
    progress: Callable[[str, float], None] | None = None,
) -> RetrievalReport:
    """Train a CLIP on each arm with equal settings and compare.

    The random noise has the largest change of the protected pictures as its size. It is there to tell protection from
    any disturbance; the authors' own comparison trained its arms at different rates.

    Args:
        clean: pictures with captions.
        protected: the same pictures, protected, uint8 ``[N, 3, R, R]``.
        test: others, clean.
        victim: see :func:`create_clip_victim`.
        recipe: of the training; the victim's own by default.
        seeds: repetitions.
        seed: the first of them.
        noise_levels: size of the random noise in 1/255; by default as said.
        device: where to compute.
        weights, allow_download: of a pretrained victim.
        arms: which to train.
        progress: called with the name of a training and the share of all that is done.

    Raises:
        ConfigError: the sets do not fit together.
    """
    if protected.shape != clean.images.shape or protected.dtype != torch.uint8:
        raise ConfigError(f"Protected pictures are {tuple(protected.shape)}, the clean {tuple(clean.images.shape)}.")
    if test.resolution != clean.resolution:
        raise ConfigError(f"Test pictures have {test.resolution} px, the others {clean.resolution}.")
    if unknown := set(arms) - set(ARM_NAMES):
        raise ConfigError(f"No such arms: {', '.join(sorted(unknown))}.")
    device = device or torch.device("cpu")
    recipe = recipe or (ClipRecipe.fine_tuning() if victim.startswith("clip:") else ClipRecipe())
    change = int((protected.short() - clean.images.short()).abs().max()) if len(protected) else 0
    report = RetrievalReport(victim, recipe.settings(), len(clean.images), len(test.images))
    total, done = seeds * len(arms), 0
    for repeat in range(seeds):
        for arm in arms:
            images = {"clean": clean.images, "protected": protected}.get(arm)
            if images is None:
                made = noise_arm(clean.images.numpy(), clean.keys, noise_levels or change, seed=seed + repeat)
                images = torch.from_numpy(made)
            own = victim_seed(seed, repeat)
            model = create_clip_victim(
                victim, resolution=clean.resolution, seed=own, weights=weights, allow_download=allow_download
            )

            def tell(share: float, arm: str = arm, repeat: int = repeat, before: int = done) -> None:
                if progress is not None:
                    progress(f"{arm}, seed {repeat + 1}", (before + share) / total)

            with one_thread(device.type):
                loss = train_clip(model, clean.with_images(images), recipe, seed=own, device=device, progress=tell)
                forth, back = retrieve(model, test, device=device)
            report.scores.append(
                ArmScores(
                    arm,
                    repeat,
                    loss,
                    forth.hits,
                    back.hits,
                    forth.median_rank,
                    back.median_rank,
                    image_ranks=forth.ranks,
                    text_ranks=back.ranks,
                )
            )
            report.chance_image_to_text, report.chance_text_to_image = forth.chance_hits, back.chance_hits
            report.chance_ranks = (forth.chance_median_rank, back.chance_median_rank)
            done += 1
    if "clean" in arms and report.mean("clean", "text_to_image", 10)[0] < 3 * report.chance_text_to_image[10]:
        report.warnings.append(
            "The CLIP trained on clean pictures is weak itself, below three times guessing: differences between the "
            "arms say little."
        )
    return report
