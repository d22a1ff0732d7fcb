"""Names of adversaries, and how to make one from its name."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ConfigError, UnknownNameError
from .adversarial import AdversarialTraining, FastAdversarialTraining
from .augmentation import CutMix, Cutout, Mixup, Rotate, TrivialAugment, UEraser
from .base import Adversary
from .composed import Compose
from .early_stop import EarlyStop, ValidatedStop
from .labels import Finer, Regroup, Superclass
from .mix import Mix
from .none import NoAdversary
from .prior import FineTune, FreezeEarly, LastLayer, LeakedPairs, LinearProbe, NearestNeighbours, Recover, SimClr
from .projection import OrthogonalProjection
from .purification import Dvae, FewDenoise, NoiseDenoise, NonLocalMeans, Purify, TotalVariation
from .staged import Staged
from .transforms import (
    BandStop,
    BitDepth,
    Coin,
    CropResize,
    DownUp,
    Equalize,
    GaussianBlur,
    Grayscale,
    Jpeg,
    LowPass,
    Median,
    SharpenLowPass,
    Webp,
    Whiten,
)

__all__ = ["adversary_classes", "adversary_names", "create_adversaries", "create_adversary", "register_adversary"]

_REGISTRY: dict[str, type[Adversary]] = {}


def register_adversary(cls: type[Adversary]) -> type[Adversary]:
    """Add an adversary to the registry. Works as a class decorator.

    Raises:
        ConfigError: the name is taken by another class, or holds a colon.
    """
    if ":" in cls.prefix or not cls.prefix:
        raise ConfigError(f"An adversary cannot be named {cls.prefix!r}: a colon starts its parameter.")
    if _REGISTRY.get(cls.prefix, cls) is not cls:
        raise ConfigError(f"There is already an adversary named {cls.prefix!r}. Choose another prefix.")
    _REGISTRY[cls.prefix] = cls
    return cls


for _cls in (
    NoAdversary, EarlyStop,
    Jpeg, Webp, Grayscale, BitDepth, DownUp, GaussianBlur, Median, CropResize, SharpenLowPass,
    LowPass, BandStop, Equalize, Whiten, Coin, Compose,
    Cutout, Mixup, CutMix, TrivialAugment, UEraser, FastAdversarialTraining, AdversarialTraining,
    Rotate, Staged, NoiseDenoise, FewDenoise,
    OrthogonalProjection, TotalVariation, NonLocalMeans, Purify,
    ValidatedStop, LastLayer, Recover, LinearProbe, NearestNeighbours, FineTune, FreezeEarly, SimClr,
    Superclass, Regroup, Finer, Mix,
    Dvae, LeakedPairs,
):  # fmt: skip
    register_adversary(_cls)


def adversary_names() -> tuple[str, ...]:
    """Registered names, in the order they were registered."""
    return tuple(_REGISTRY)


def adversary_classes() -> dict[str, type[Adversary]]:
    """The registry itself, as a copy."""
    return dict(_REGISTRY)


def create_adversary(name: str) -> Adversary:
    """Make an adversary from ``prefix`` or ``prefix:parameter``.

    Raises:
        UnknownNameError: no such adversary.
        ConfigError: the parameter is wrong.
    """
    prefix, colon, parameter = name.partition(":")
    if prefix not in _REGISTRY:
        raise UnknownNameError("adversary", prefix, _REGISTRY)
    return _REGISTRY[prefix](parameter if colon else None)


def create_adversaries(names: Sequence[str]) -> tuple[Adversary, ...]:
    """Make several, in this order and without repeats; ``none`` always comes first, every comparison needs it."""
    made = {adversary.name: adversary for adversary in (create_adversary(name) for name in ("none", *names))}
    return tuple(made.values())
