"""Fine-tuning: a pretrained network knows what to look at before it sees the first protected picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ....errors import ConfigError
from ..base import Adversary
from .pretrained import DEFAULT_NETWORK, Pretrained

if TYPE_CHECKING:
    from ....surrogates import Recipe
    from ...learning import Learner

__all__ = ["FineTune", "FreezeEarly"]

RATE, STEPS = 0.1, 0.25


class FineTune(Adversary):
    """Trains all layers of a pretrained network, with a new last layer.

    At a tenth of the learning rate and for a quarter of the steps of a training from scratch.

    Args:
        parameter: name of a surrogate with trained weights, such as ``cifar-resnet20@FILE.safetensors``;
            ``efficientnet-lite0`` where left out.

    Raises:
        UnknownNameError: no such network.
        ConfigError: it is a CLIP, of which only the last layer can be trained: use a probe.
    """

    prefix = "fine-tune"
    tier = "prior"
    source = "arXiv 2603.04731 (pretrained backbones)"
    description = "a pretrained network fine-tuned (fine-tune:NAME or NAME@FILE sets it, efficientnet-lite0)"
    cost = 10.0

    def __init__(self, parameter: str | None = None) -> None:
        self._pretrained = Pretrained(DEFAULT_NETWORK if parameter is None else parameter)
        if self._pretrained.name.startswith("clip:") or "+" in self._pretrained.name:
            raise ConfigError(
                f"{self.prefix} trains one network of the image alone, and {self._pretrained.name} is none. "
                f"Use linear-probe:{self._pretrained.name}."
            )

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self._pretrained.name}"

    @property
    def phrase(self) -> str:
        return f"a trainer who fine-tunes the pretrained {self._pretrained.title}"

    @property
    def network(self) -> str:
        return self._pretrained.name

    def check(self, resolution: int) -> str:
        return f"fine-tuned from {self._pretrained.title}, weights: {self._pretrained.source(resolution)}"

    def adapt(self, recipe: Recipe) -> Recipe:
        return replace(recipe, lr=RATE * recipe.lr, steps=max(1, round(STEPS * recipe.steps)))

    def learner(self) -> Learner:
        from ...learning import FineTuning

        return FineTuning()


class FreezeEarly(FineTune):
    """The same with the first half of the layers frozen: they cannot learn to see the perturbation."""

    prefix = "freeze-early"
    source = "arXiv 2605.05224 (frozen shallow layers filter perturbations)"
    description = "the same with the first half of the layers frozen (freeze-early:NAME sets the network)"
    cost = 6.0

    @property
    def phrase(self) -> str:
        return f"a trainer who fine-tunes the later layers of the pretrained {self._pretrained.title}"

    def learner(self) -> Learner:
        from ...learning import FineTuning

        return FineTuning(frozen=0.5)
