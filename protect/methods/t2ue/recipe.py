"""The numbers of a training, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ....errors import ConfigError, UnknownNameError

__all__ = ["TrainRecipe"]


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """How a generator is trained. Defaults are ours; :meth:`paper` gives the published ones.

    Attributes:
        steps: optimiser steps.
        batch_size: texts a step.
        lr: peak learning rate, after a linear warm-up over ``warmup`` steps.
        schedule: ``linear``: over the last third linearly to 0; ``cosine``: along a half cosine, all the way.
        betas: of Adam; (0, 0.9) in the authors' code.
        weight_decay: of weights, not of norms, biases and gates.
        clip: largest gradient norm; 0 for no limit.
        ema: decay of the running mean of the weights that is kept; 0 keeps the last ones.
        surrogate_weight: of the contrastive loss through the frozen surrogate, the paper's loss.
        surrogate_images: pictures a step that the surrogate looks at; it is the dear part. 0: all.
        learner_weight: of the contrastive loss through a small network that learns along (not in the paper): it makes
            noise that a network trained from scratch picks up at once, as error-minimizing noise is made.
        learner_life: steps after which the learner starts anew once pictures are at full contrast, so that noise suits
            no single network.
        learner_lr: its learning rate.
        pace: share of a batch's texts that the learner must tell by their noise before pictures come up further. They
            start as an even gray and end at full contrast: on full pictures from the start, learner and generator find
            no signal in each other (measured: the loss stays at that of guessing).
        diversity: weight of :func:`sameness`.
        mismatched: put noise on a random picture instead of the one that the caption describes; noise depends on no
            picture, so it must work on any.
        reworded: noise that was made out of one sentence has to be told by another one of the same meaning (a second
            caption of the picture, another template): it then depends on what is said and not on how.
        image_side: of the pictures that noise is put on, in px.
        seed: of everything random.
    """

    steps: int = 800
    batch_size: int = 64
    lr: float = 1e-3
    warmup: int = 20
    schedule: Literal["linear", "cosine"] = "linear"
    betas: tuple[float, float] = (0.5, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.99
    surrogate_weight: float = 0.25
    surrogate_images: int = 12
    learner_weight: float = 1.0
    learner_life: int = 200
    learner_lr: float = 2e-3
    pace: float = 0.5
    diversity: float = 0.0
    mismatched: bool = True
    reworded: bool = True
    image_side: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "image_side", "learner_life"):
            if getattr(self, name) < (2 if name == "batch_size" else 1):
                raise ConfigError(f"{name} of a training is {getattr(self, name)}: that is too small.")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr of a training must be above 0, not {self.lr}.")
        if self.schedule not in ("linear", "cosine"):
            raise UnknownNameError("schedule of a training", str(self.schedule), ("linear", "cosine"))
        for name in (
            "clip",
            "surrogate_weight",
            "learner_weight",
            "diversity",
            "weight_decay",
            "surrogate_images",
            "warmup",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} of a training must be 0 or more, not {getattr(self, name)}.")
        if not 0 <= self.pace < 1:
            raise ConfigError(f"pace must lie in [0, 1), not {self.pace}.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must lie in [0, 1), not {self.ema}.")
        if self.surrogate_weight == self.learner_weight == 0:
            raise ConfigError("Without surrogate and without learner there is nothing to train the generator on.")
        if self.surrogate_images == 1:
            raise ConfigError("A contrast needs two pictures at least: surrogate_images may not be 1.")

    @classmethod
    def paper(cls, **changes: Any) -> TrainRecipe:
        """Pairs as they are, the surrogate alone, AdamW 1e-4 along a cosine, batch 128, 224 px, 500 epochs of MSCOCO.

        From the paper but for the betas, which are those of the authors' code. That code lets the rate rise to 1e-3
        and changes pictures before the noise is added, of which the paper says nothing; the weight decay of 1e-4 is
        ours, the paper names none. No bound on the gradient.
        """
        published: dict[str, Any] = {
            "steps": 924 * 500, "batch_size": 128, "lr": 1e-4, "warmup": 0, "schedule": "cosine", "clip": 0.0,
            "ema": 0.0, "surrogate_images": 0, "surrogate_weight": 1.0, "learner_weight": 0.0, "betas": (0.0, 0.9),
            "mismatched": False, "reworded": False, "image_side": 224,
        }  # fmt: skip
        return cls(**{**published, **changes})

    def settings(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)

    @property
    def kind(self) -> Literal["surrogate", "learner", "both"]:
        if self.surrogate_weight == 0:
            return "learner"
        return "both" if self.learner_weight else "surrogate"
