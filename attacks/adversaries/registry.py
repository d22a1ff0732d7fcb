"""Names of adversaries: the table of all, how to make one from its name, and several in a row."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ConfigError, UnknownNameError
from ...plugins import PlugIns, adding_classes, origin_of
from ..terms import TIERS, Crafting, Pixels, TrainerClass
from .augmentation import CutMix, Cutout, Mixup, ResizedCrop, Rotate, TrivialAugment, UEraser
from .base import Adversary
from .denoising import CleanSubsetDenoise, NoiseDenoise, Purify
from .filters import (
    BandStop,
    Coin,
    Destripe,
    GaussianBlur,
    LowPass,
    Median,
    NonLocalMeans,
    SharpenLowPass,
    TotalVariation,
)
from .objectives import AdversarialTraining, FastAdversarialTraining, Staged
from .prior import FineTune, FreezeEarly, LastLayer, LinearProbe, NearestNeighbours, Recover, SimClr
from .purifiers import Dvae, LeakedPairs
from .transforms import (
    BitDepth,
    CenterCropResize,
    DownUp,
    Equalize,
    Grayscale,
    Jpeg,
    OrthogonalProjection,
    Webp,
    Whiten,
)
from .unchanged import EarlyStop, Finer, Mix, NoAdversary, Regroup, Superclass, ValidatedStop

_REGISTRY: dict[str, type[Adversary]] = {}
_PLUGINS = PlugIns("bitterant.adversaries", "adversary")


def register_adversary(cls: type[Adversary]) -> type[Adversary]:
    """Add an adversary to the registry. Works as a class decorator.

    Raises:
        ConfigError: the name is taken by another class, or holds a colon.
    """
    if ":" in cls.prefix or not cls.prefix:
        raise ConfigError(f"An adversary cannot be named {cls.prefix!r}: a colon starts its parameter.")
    known = _REGISTRY.get(cls.prefix, cls)
    if known is not cls:
        raise ConfigError(
            f"An adversary named {cls.prefix!r} is there already: {origin_of(known)}. {origin_of(cls)} needs another "
            "prefix."
        )
    _REGISTRY[cls.prefix] = cls
    return cls


def adversary_names() -> tuple[str, ...]:
    """Registered names, in the order they were registered, and those of plug-ins."""
    return tuple(adversary_classes())


def adversary_classes() -> dict[str, type[Adversary]]:
    """The registry itself, as a copy, with plug-ins."""
    _PLUGINS.load(_add_plugin)
    return dict(_REGISTRY)


def adversary_origin(name: str) -> str | None:
    """Where the adversary of a plug-in comes from, for people; ``None`` for what is none."""
    return _PLUGINS.origin(name)


_add_plugin = adding_classes(Adversary, "prefix", "adversary", register_adversary, _REGISTRY)


def create_adversary(name: str) -> Adversary:
    """Make an adversary from ``prefix`` or ``prefix:parameter``.

    Raises:
        UnknownNameError: no such adversary.
        ConfigError: the parameter is wrong, or it is a plug-in that cannot be used.
    """
    prefix, colon, parameter = name.partition(":")
    if prefix not in _REGISTRY:
        _PLUGINS.load(_add_plugin)
    if prefix not in _REGISTRY:
        _PLUGINS.explain(prefix)
        raise UnknownNameError("adversary", prefix, _REGISTRY)
    return _REGISTRY[prefix](parameter if colon else None)


def create_adversaries(names: Sequence[str]) -> tuple[Adversary, ...]:
    """Make several, in this order and without repeats; ``none`` always comes first, every comparison needs it."""
    made = {adversary.name: adversary for adversary in (create_adversary(name) for name in ("none", *names))}
    return tuple(made.values())


# What an adversary may do besides ``transform``. Of one that does, a row of transforms would leave that out.
_OTHERWISE = (
    "adapt", "arms", "clean_share", "compose", "compose_test", "continues", "fit", "leaks", "learner", "metric",
    "network",
    "protected_share", "readout", "relabel", "surrogate", "tests_by_arm", "trained_by",
)  # fmt: skip


def changes_only_pictures(cls: type[Adversary]) -> bool:
    """Whether an adversary does all it does in ``transform``."""
    return cls.transform is not Adversary.transform and all(
        getattr(cls, name) is getattr(Adversary, name) for name in _OTHERWISE
    )


class Compose(Adversary):
    """Applies adversaries that change pictures once before training, one after the other, each to the 8-bit result.

    A protection that survives each of two transforms may still fall to both in a row: the first takes the part that
    would have survived the second. It belongs to the tier of that part that is the most effort.

    Args:
        parameter: their names joined by ``+``, in the order in which they are applied: ``grayscale+jpeg:10``.

    Raises:
        ConfigError: there are fewer than two; or one does more than change the pictures once (augments, relabels,
            trains otherwise, ...), or is itself composed, or has a wrong parameter.
        UnknownNameError: there is no adversary of that name.
    """

    prefix = "compose"
    tier = "transforms"
    source = "ours; arXiv 2605.01718 (DUNE) is tested against grayscale and JPEG in a row"
    description = "transforms in a row (compose:grayscale+jpeg:10 applies the first, then the second)"

    def __init__(self, parameter: str | None = None) -> None:
        names = (parameter or "").split("+")
        if len(names) < 2 or not all(names):
            raise ConfigError(
                f"{self.prefix} needs at least two adversaries joined by +, but {parameter or 'nothing'!r} was given. "
                f"Write for example {self.prefix}:grayscale+jpeg:10."
            )
        self.parts = tuple(self._part(name) for name in names)
        self.tier = max((part.tier for part in self.parts), key=TIERS.index)  # pyright: ignore[reportAttributeAccessIssue]

    def _part(self, name: str) -> Adversary:
        classes = adversary_classes()
        prefix = name.partition(":")[0]
        if prefix not in classes:
            raise UnknownNameError("adversary", prefix, classes)
        if prefix == self.prefix:
            raise ConfigError(f"{self.prefix} cannot be a part of itself. Join all names by +, in one row.")
        if not changes_only_pictures(classes[prefix]):
            known = ", ".join(other for other, cls in classes.items() if changes_only_pictures(cls))
            raise ConfigError(
                f"{name} cannot be a part of {self.prefix}: it does not just change the pictures once. "
                f"These do: {known}."
            )
        return create_adversary(name)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{'+'.join(part.name for part in self.parts)}"

    @property
    def phrase(self) -> str:
        return f"a trainer who applies {', then '.join(part.name for part in self.parts)}"

    def trainer_among(self, images: int | None) -> TrainerClass:
        # What any part needs, the trainer needs: weights before time. A part has no clean pictures or pairs.
        classes = {part.trainer_among(images) for part in self.parts}
        if "W4" in classes:
            return "W4"
        return "W1+" if "W1+" in classes else "W1"

    @property
    def crafting(self) -> Crafting:
        return "held-out" if any(part.crafting == "held-out" for part in self.parts) else "seen"

    def check_packages(self) -> None:
        for part in self.parts:
            part.check_packages()

    def check(self, resolution: int) -> str | None:
        details = [detail for detail in (part.check(resolution) for part in self.parts) if detail is not None]
        return "; ".join(details) or None

    def transform(self, images: Pixels) -> Pixels:
        for part in self.parts:
            images = part.transform(images)
        return images


for _cls in (
    NoAdversary, EarlyStop,
    Jpeg, Webp, Grayscale, BitDepth, DownUp, GaussianBlur, Median, CenterCropResize, SharpenLowPass,
    LowPass, BandStop, Destripe, Equalize, Whiten, Coin, Compose,
    Cutout, Mixup, CutMix, TrivialAugment, UEraser, FastAdversarialTraining, AdversarialTraining,
    Rotate, ResizedCrop, Staged, NoiseDenoise, CleanSubsetDenoise,
    OrthogonalProjection, TotalVariation, NonLocalMeans, Purify,
    ValidatedStop, LastLayer, Recover, LinearProbe, NearestNeighbours, FineTune, FreezeEarly, SimClr,
    Superclass, Regroup, Finer, Mix,
    Dvae, LeakedPairs,
):  # fmt: skip
    register_adversary(_cls)
