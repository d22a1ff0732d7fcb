"""What an adversary is: something a trainer does to undo the protection."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .trainers import FEW_CLEAN, MUCH_COMPUTE, Crafting, TrainerClass, crafting_of

if TYPE_CHECKING:  # they load torch, which listing adversaries must not
    from ...surrogates import Recipe
    from ..learning import Learner

__all__ = [
    "TIERS",
    "TIER_TITLES",
    "Adversary",
    "Arm",
    "Fit",
    "Labelling",
    "Material",
    "Metric",
    "Pixels",
    "Readout",
    "Tier",
]

Pixels = NDArray[np.uint8]
Tier = Literal["naive", "transforms", "training", "prior", "relabel", "mixing"]
Readout = Literal["final", "peak", "validated"]
"""When a victim is judged: at the end, at the best moment by the test answers, or by that of a few clean pictures."""

Arm = Literal["clean", "protected", "noise", "mixed", "part", "noise-mixed", "untrained", "shuffled"]
"""What is trained on: all pictures in one version, or (mixing) a part clean and the rest protected, absent or noisy.

``untrained`` is the control of adversaries that go on from a trained network: they go on from random weights instead.
``shuffled`` is the control of the whole test (gate G4): clean pictures with labels that say nothing about them.
"""

Metric = Literal["rho", "mv"]
"""Residual learnability, or the marginal value of the protected share."""

Fit = Literal["network", "linear", "neighbours"]
"""What learns: a victim trained from scratch, a linear probe, or the nearest neighbours, on frozen features."""

TIERS: tuple[Tier, ...] = ("naive", "transforms", "training", "prior", "relabel", "mixing")
"""From the least to the most effort for the trainer."""

TIER_TITLES: dict[Tier, str] = {
    "naive": "trains on the pictures as they are",
    "transforms": "cheap transforms before training",
    "training": "strong training: augmentation, adversarial training, purification",
    "prior": "prior knowledge: pretrained models, a few clean pictures",
    "relabel": "other labels on the same pictures",
    "mixing": "mixes protected with clean pictures",
}


@dataclass(frozen=True)
class Labelling:
    """Labels for the training and the test pictures.

    Attributes:
        train: int64 ``[N]``.
        test: int64 ``[M]``.
        classes: number of classes K; labels lie in 0..K-1.
        detail: how they came about, for people; ``None`` for those of the folders.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    classes: int
    detail: str | None = None


class Material(Protocol):
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
    """One thing a trainer can do. Sub-class it, one module each, and register it.

    Attributes:
        prefix: registry name; a parameter may follow a colon (``jpeg:50``).
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

    def __init__(self, parameter: str | None = None) -> None:
        if parameter is not None:
            raise ConfigError(f"The adversary {self.prefix!r} takes no parameter, but {parameter!r} was given.")

    @property
    def name(self) -> str:
        """Canonical name with every parameter spelled out."""
        return self.prefix

    @property
    def phrase(self) -> str:
        """How the trainer is described in a sentence: ends "blocks ..."."""
        return f"a trainer who uses {self.name}"

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
            return "W2" if clean_share <= FEW_CLEAN else "W2+"
        return "W1" if cls.cost <= MUCH_COMPUTE else "W1+"

    @property
    def crafting(self) -> Crafting:
        """Whether protections were made or tuned with it in view."""
        return self.listed_crafting()

    @classmethod
    def listed_crafting(cls) -> Crafting:
        """The same without making one."""
        return crafting_of(cls.prefix)

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

    def relabel(self, material: Material) -> Labelling:
        """The labels it trains and tests on; those of the folders, unless it changes them.

        Raises:
            LabelError: it cannot be applied to these classes.
            SetupError: the machine lacks something it needs.
        """
        return Labelling(material.labels, material.test_labels, len(material.classes))

    def compose(self, arm: Arm, material: Material) -> tuple[Pixels, NDArray[np.int64] | None]:
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

    def leaked(self, arm: Arm, material: Material) -> tuple[Pixels, Pixels, NDArray[np.int64]]:
        """Pictures that the trainer has before and after the protection; only looked at where :attr:`leaks` is set.

        Returns:
            Both uint8 ``[P, 3, R, R]``, and their labels ``[P]``.
        """
        raise ConfigError(f"The adversary {self.prefix!r} does not say which pairs leaked.")

    def compose_test(self, arm: Arm, material: Material) -> Pixels:
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
