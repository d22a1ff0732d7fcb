"""What an adversary is: something a trainer does to undo the protection.

Read in order: what a trainer works on (:class:`AttackData`), the base class (:class:`Adversary`), and the kinds of
parameter that may stand behind the colon of a name."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, SetupError
from ...surrogates import Recipe
from ..terms import (
    MUCH_COMPUTE,
    SMALL_CLEAN_SHARE,
    Arm,
    Crafting,
    Fit,
    Labelling,
    Metric,
    Pixels,
    Readout,
    Tier,
    TrainerClass,
    crafting_of,
)
from .learning import Learner


class AttackData(Protocol):
    """What a trainer works on, and what is needed to stage it."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the training pictures, int64 ``[N]``."""
        ...

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Classes of the test pictures, int64 ``[M]``."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        ...

    @property
    def seed(self) -> int:
        """The one seed of the verification."""
        ...

    def pictures(self, which: Literal["clean", "protected", "noise", "test"]) -> Pixels:
        """All pictures in one version, uint8 ``[N, 3, R, R]``; must not be written to."""
        ...

    def features(self, which: Literal["clean", "test"], surrogate: str) -> NDArray[np.float32]:
        """What a frozen network makes of them, float32 ``[N, D]``.

        Raises:
            SetupError: its weights are not on this machine.
        """
        ...

    def covered(self, share: float) -> NDArray[np.bool_]:
        """Which training pictures belong to the protected share, ``[N]``: fixed, stratified and seeded."""
        ...

    def protected_again(self, rows: NDArray[np.int64]) -> tuple[Pixels | None, str]:
        """Training pictures, protected by running the tool that made the protected ones, with another seed.

        Returns:
            uint8 ``[P, 3, R, R]`` or ``None`` where that cannot be done; and what was run, or why not, for people.
        """
        ...


class Adversary(ABC):
    """One thing a trainer can do. Sub-class it and register it.

    A parameter behind the colon of its name is one line of the class: ``quality = whole_number(default=10, least=1,
    most=100)`` is 50 of ``jpeg:50``, and 10 of ``jpeg`` and of the class itself.

    Attributes:
        prefix: registry name; a parameter may follow a colon (``jpeg:50``).
        doing: what the trainer does: ends the sentence "a trainer who ...". ``{self.quality}`` is filled in.
        tier: how much effort it is.
        source: the paper that showed it.
        description: one line for people.
        cost: of one training, in plain trainings of small-cnn (measured on a CPU); 0 where it needs none of its own.
        readout: ``final`` judges the victim at the end; ``peak`` at the best moment, chosen with the test answers;
            ``validated`` at the best moment for a few clean pictures that are not the ones judged.
        arms: what victims are trained on for it.
        metric: what is graded.
        fit: what learns.
        continues: whether it goes on from the networks that ``none`` trained, which are then kept for it.
        tests_by_arm: whether what is done to the test pictures depends on what was learned from those of the arm.
        clean_share: share of the training pictures that the trainer also has clean, with their labels.
        clean_pictures: number of clean pictures that the trainer has, however many there are to train on.
        leaks: whether the trainer has pictures before and after the protection (see :meth:`leaked`).
        protected_share: share of the training pictures that is protected, where clean ones stand beside them; ``None``
            where all are.
        trainer: class of the trainer, where it does not follow from the rest; see :meth:`trainer_among`.
    """

    prefix: ClassVar[str]
    tier: ClassVar[Tier]
    source: ClassVar[str]
    description: ClassVar[str]
    doing: ClassVar[str] = "uses {self.name}"
    cost: ClassVar[float] = 1.0
    readout: ClassVar[Readout] = "final"
    arms: ClassVar[tuple[Arm, ...]] = ("clean", "protected")
    metric: ClassVar[Metric] = "rho"
    fit: ClassVar[Fit] = "network"
    continues: ClassVar[bool] = False
    tests_by_arm: ClassVar[bool] = False
    leaks: ClassVar[bool] = False
    clean_share: float = 0.0
    clean_pictures: ClassVar[int] = 0
    protected_share: float | None = None
    trainer: ClassVar[TrainerClass | None] = None
    _parameter: ClassVar[_Parameter | None] = None

    def __init__(self, parameter: str | None = None) -> None:
        known = self._parameter
        if known is not None:
            setattr(self, known.attribute, known.read(self.prefix, parameter))
        elif parameter is not None:
            raise ConfigError(f"The adversary {self.prefix!r} takes no parameter, but {parameter!r} was given.")

    @property
    def name(self) -> str:
        """Canonical name with every parameter spelled out."""
        known = self._parameter
        value = None if known is None else getattr(self, known.attribute)
        return self.prefix if known is None or value is None else f"{self.prefix}:{known.write(value)}"

    @property
    def phrase(self) -> str:
        """How the trainer is described in a sentence: ends "blocks ..."."""
        return f"a trainer who {self.doing.format(self=self)}"

    @property
    def surrogate(self) -> str | None:
        """Name of the frozen network whose features a probe reads; ``None`` where victims are trained."""
        return None

    @property
    def network(self) -> str | None:
        """Name of the pretrained network that is trained on instead of a victim; ``None`` for victims from scratch."""
        return None

    @property
    def trainer_class(self) -> TrainerClass:
        """What the trainer owns and spends, where nobody knows how many pictures there are to train on."""
        return self.trainer_among(None)

    def trainer_among(self, images: int | None) -> TrainerClass:
        """What the trainer owns and spends.

        Args:
            images: number of training pictures. Without it, :attr:`clean_pictures` count as more than a few.
        """
        return self._trainer(self.clean_share, images)

    @classmethod
    def listed_trainer(cls) -> TrainerClass:
        """The class of the trainer with the parameters that are left out, without making one."""
        return cls._trainer(cls.clean_share, None)

    @classmethod
    def _trainer(cls, clean_share: float, images: int | None) -> TrainerClass:
        if cls.trainer is not None:
            return cls.trainer
        if cls.tier == "relabel":
            return "other labels"
        if cls.tier == "mixing":
            return "mixing"
        owns_weights = cls.network is not Adversary.network or cls.surrogate is not Adversary.surrogate
        if owns_weights or cls.fit != "network":
            return "W4"
        if cls.clean_pictures:
            clean_share = max(clean_share, cls.clean_pictures / images if images else 1.0)
        if clean_share > 0:
            return "W2" if clean_share <= SMALL_CLEAN_SHARE else "W2+"
        return "W1" if cls.cost <= MUCH_COMPUTE else "W1+"

    @property
    def crafting(self) -> Crafting:
        """Whether protections were made or tuned with it in view."""
        return self.listed_crafting()

    @classmethod
    def listed_crafting(cls) -> Crafting:
        """The same without making one."""
        return crafting_of(cls.prefix)

    def check_packages(self) -> None:  # noqa: B027 - most need none
        """Make sure that the optional packages it needs are installed; asked before any picture is read.

        Raises:
            SetupError: one is missing; the message names the extra that brings it.
        """

    def check(self, resolution: int) -> str | None:
        """Make sure, before any training, that what it needs is on this machine.

        Args:
            resolution: working resolution in pixels.

        Returns:
            What exactly is used, for people, where the name does not say it.

        Raises:
            SetupError: weights or a package are missing.
            ConfigError: it cannot work at this resolution, or with these weights.
        """
        return None

    def adapt(self, recipe: Recipe) -> Recipe:
        """The recipe of its network (see :attr:`network`), made from that of a training from scratch."""
        return recipe

    def learner(self) -> Learner | None:
        """How a victim is trained, where that is not the plain training of its recipe. Loads torch."""
        return None

    def trained_by(self, arm: Arm) -> str:
        """Name of the adversary whose trainings it reads for an arm: its own, unless they would be the same."""
        return self.name

    def relabel(self, material: AttackData) -> Labelling:
        """The labels it trains and tests on; those of the folders, unless it changes them.

        Raises:
            LabelError: it cannot be applied to these classes.
            SetupError: the machine lacks something it needs.
        """
        return Labelling(material.labels, material.test_labels, len(material.classes))

    def compose(self, arm: Arm, material: AttackData) -> tuple[Pixels, NDArray[np.int64] | None]:
        """The training pictures of an arm, before :meth:`transform`.

        Returns:
            uint8 ``[N', 3, R, R]`` (int16 where values may leave 0..255), and which of the N training pictures they
            are (``None``: all, in order).
        """
        if arm in ("untrained", "shuffled"):  # never trained on, and with other labels
            return material.pictures("clean"), None
        if arm in ("mixed", "part", "noise-mixed"):
            raise ConfigError(f"The adversary {self.prefix!r} does not say how its arm {arm!r} is composed.")
        return material.pictures(arm), None

    def leaked(self, arm: Arm, material: AttackData) -> tuple[Pixels, Pixels, NDArray[np.int64]]:
        """Pictures that the trainer has before and after the protection; only looked at where :attr:`leaks` is set.

        Returns:
            Both uint8 ``[P, 3, R, R]``, and their labels ``[P]``.
        """
        raise ConfigError(f"The adversary {self.prefix!r} does not say which pairs leaked.")

    def compose_test(self, arm: Arm, material: AttackData) -> Pixels:
        """The test pictures, before :meth:`transform`; only looked at where :attr:`tests_by_arm` is set.

        Returns:
            As :meth:`compose`, ``[M, 3, R, R]``.
        """
        return material.pictures("test")

    def transform(self, images: Pixels) -> Pixels:
        """Change the pictures once, before training and before testing.

        The same change is applied to the training pictures of every arm and to the test pictures, as in the
        literature (arXiv 2301.13838): the trainer owns the whole pipeline.

        Args:
            images: uint8 ``[N, 3, R, R]``; must not be written to.

        Returns:
            uint8 of the same shape.
        """
        return images


class _Parameter:
    """What stands behind the colon of a name, kept as an attribute of the adversary; its class has the default there.

    Args:
        default: where nothing stands there.
        read: ``(prefix, text) -> value``; raises ConfigError.
        write: the text of a value.
    """

    def __init__(self, default: object, read: Callable[[str, str], object], write: Callable[[Any], str]) -> None:
        self.default, self._read, self.write = default, read, write
        self.attribute = ""

    def __set_name__(self, owner: type[Adversary], name: str) -> None:
        self.attribute = name
        setattr(owner, name, self.default)
        owner._parameter = self

    def read(self, prefix: str, text: str | None) -> object:
        return self.default if text is None else self._read(prefix, text)


def whole_number(*, default: int, least: int, most: int | None = None) -> int:
    """The parameter is a whole number, from ``least`` to ``most``."""
    bounds = f"from {least} on" if most is None else f"from {least} to {most}"

    def read(prefix: str, text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise ConfigError(f"{prefix}:{text} is not a whole number {bounds}. Write for example {prefix}:{default}.")
        return int(text)

    return cast(int, _Parameter(default, read, str))


def real_number(*, default: float, least: float, most: float) -> float:
    """The parameter is a number in ``[least, most]``."""

    def read(prefix: str, text: str) -> float:
        value = _number(text)
        if not least <= value <= most:
            raise ConfigError(
                f"{prefix}:{text} is not a number from {least:g} to {most:g}. Write for example {prefix}:{default:g}."
            )
        return value

    return cast(float, _Parameter(default, read, "{:g}".format))


def real_range(*, default: tuple[float, float], least: float, most: float) -> tuple[float, float]:
    """The parameter is two numbers ``A-B``, ``least <= A < B <= most``."""

    def read(prefix: str, text: str) -> tuple[float, float]:
        first, _, second = text.partition("-")
        low, high = _number(first), _number(second)
        if not least <= low < high <= most:
            raise ConfigError(
                f"{prefix}:{text} is not a range A-B of numbers with {least:g} <= A < B <= {most:g}. "
                f"Write for example {prefix}:{default[0]:g}-{default[1]:g}."
            )
        return low, high

    return cast(tuple[float, float], _Parameter(default, read, lambda value: f"{value[0]:g}-{value[1]:g}"))


def share(*, default: float) -> float:
    """The parameter is a share above 0 and at most 1."""

    def read(prefix: str, text: str) -> float:
        value = _number(text)
        if not 0 < value <= 1:
            raise ConfigError(
                f"{prefix}:{text} is not a share above 0 and at most 1. Write for example {prefix}:{default:g}."
            )
        return value

    return cast(float, _Parameter(default, read, "{:g}".format))


def one_of(*known: str) -> str | None:
    """The parameter is one of these words, or none (``None``)."""

    def read(prefix: str, text: str) -> str:
        if text not in known:
            written = " or ".join(f"{prefix}:{word}" for word in known)
            raise ConfigError(f"{prefix}:{text} is not known. Write {prefix} or {written}.")
        return text

    return cast("str | None", _Parameter(None, read, str))


def _number(text: str) -> float:
    """Not a number where it is none, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def check_kornia(name: str) -> None:
    """Make sure that kornia is there. Nothing is imported.

    Args:
        name: of the adversary, for the message.

    Raises:
        SetupError: it is not installed.
    """
    if find_spec("kornia") is None:
        raise SetupError(f"{name} augments with kornia, which is not installed. Run: pip install 'bitterant[augment]'.")
