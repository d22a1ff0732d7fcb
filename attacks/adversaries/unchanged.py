"""Trainers who leave the pictures as they are: all of them, the best moment, a part of them clean, or other labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, LabelError, SetupError
from ...records.places import read_regular
from ...records.text import parse_toml, read_json
from ...surrogates.freezing import fit_kmeans, normalised
from ..terms import Arm, Labelling, Pixels
from .base import Adversary, AttackData, whole_number


class NoAdversary(Adversary):
    """Trains on the pictures as they are. The noise arm is trained here, where the gate that needs it (G2) looks."""

    prefix = "none"
    tier = "naive"
    source = "arXiv 2101.04898, section 4"
    description = "standard training with flip and crop"
    arms = ("clean", "protected", "noise")

    @property
    def phrase(self) -> str:
        return "a naive trainer"


class EarlyStop(Adversary):
    """Stops at the best moment of the learning curve, read from the trainings of ``none`` at no cost.

    The moment is chosen with the answers of the test set, which no trainer has: an upper bound for the trainer, which
    is shown and not graded. What a trainer can do, and what is graded, is :class:`ValidatedStop`.
    """

    prefix = "early-stop"
    tier = "naive"
    source = "arXiv 2204.08615"
    description = "stops at the best moment, chosen with the test answers (an upper bound, not graded)"
    cost = 0.0
    readout = "peak"
    arms = ("clean", "protected", "noise")

    @property
    def phrase(self) -> str:
        return "a naive trainer who stops at the best moment"

    def trained_by(self, arm: Arm) -> str:
        return "none"


class ValidatedStop(EarlyStop):
    """Stops at the moment that is best for a few clean pictures, of which the trainer needs no more than 200.

    They are taken from the test set crosswise: the moment for one half is chosen with pictures of the other, so that
    no picture has a say about itself.
    """

    prefix = "validated-stop"
    tier = "prior"
    source = "arXiv 2204.08615, with the validation set that it asks for"
    description = "stops at the moment that is best for 200 other clean pictures"
    readout = "validated"
    clean_pictures = 200

    @property
    def phrase(self) -> str:
        return "a trainer who stops by 200 clean validation pictures"


DEFAULT_PROTECTED_SHARE = 0.5


class Mix(Adversary):
    """Has clean copies of some pictures and protected ones of the rest; each picture has one version for ever.

    What the protected rest is worth is compared with the clean part alone (arm ``part``), trained for equally many
    optimiser steps, with all pictures clean, and with a rest of random noise.

    Args:
        parameter: the protected share, above 0 and below 1; a half where left out.

    Raises:
        ConfigError: the share is out of range.
    """

    prefix = "mix"
    tier = "mixing"
    source = "arXiv 2101.04898 (shares of clean pictures); the clean part alone at equal steps is ours"
    description = "a share of the pictures protected, the rest clean (mix:0.8 sets the share, 0.5 if left out)"
    arms = ("clean", "mixed", "part", "noise-mixed")
    metric = "mv"

    def __init__(self, parameter: str | None = None) -> None:
        try:
            share = DEFAULT_PROTECTED_SHARE if parameter is None else float(parameter)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise ConfigError(f"The protected share {parameter!r} is not between 0 and 1. Write for example mix:0.5.")
        self.share = self.protected_share = share

    @property
    def name(self) -> str:
        return f"mix:{self.share:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who has {100 * (1 - self.share):.0f} % of the pictures clean"

    def trained_by(self, arm: Arm) -> str:
        return "none" if arm == "clean" else self.name

    def compose(self, arm: Arm, material: AttackData) -> tuple[Pixels, NDArray[np.int64] | None]:
        covered = material.covered(self.share)
        clean = material.pictures("clean")
        if arm == "part":
            kept = np.flatnonzero(~covered)
            return clean[kept], kept
        rest = material.pictures("noise" if arm == "noise-mixed" else "protected")
        return np.where(covered[:, None, None, None], rest, clean), None


class Superclass(Adversary):
    """Trains for the superclasses of a map, which names one for every class.

    Args:
        parameter: a JSON object or TOML table, class name to superclass name.

    Raises:
        ConfigError: there is no such file, or it is no map of names to names.
    """

    prefix = "superclass"
    tier = "relabel"
    source = "arXiv 2301.01217 (other labels than the protector's)"
    description = "classes merged by a map (superclass:FILE, JSON or TOML: class = superclass)"
    doing = "merges the classes into larger ones"

    def __init__(self, parameter: str | None = None) -> None:
        if not parameter:
            raise ConfigError("superclass needs a file that maps classes to superclasses: superclass:FILE.json.")
        self.path = Path(parameter)
        self.superclass_of = _read(self.path)

    @property
    def name(self) -> str:
        return f"superclass:{self.path.as_posix()}"

    def relabel(self, material: AttackData) -> Labelling:
        unmapped = [name for name in material.classes if name not in self.superclass_of]
        if unmapped:
            raise LabelError(f"{self.path} has no superclass for {', '.join(unmapped)}. Add a line for each.")
        names = sorted({self.superclass_of[name] for name in material.classes})
        if len(names) < 2:
            raise LabelError(f"{self.path} puts every class into {names[0]!r}. At least two superclasses are needed.")
        table = np.array([names.index(self.superclass_of[name]) for name in material.classes])
        return merge_classes(material, table, names)


def _read(path: Path) -> dict[str, str]:
    try:
        content = parse_toml(read_regular(path)) if path.suffix.lower() == ".toml" else read_json(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(value, str | int) for value in content.values()):
        raise ConfigError(f'{path} must map class names to superclass names, such as {{"cat": "animal"}}.')
    return {name: str(value) for name, value in content.items()}


def merge_classes(material: AttackData, table: np.ndarray, names: list[str]) -> Labelling:
    """The labelling by a table class -> group."""
    members = [[c for c, group in zip(material.classes, table, strict=True) if group == g] for g in range(len(names))]
    detail = "; ".join(f"{name}: {', '.join(inside)}" for name, inside in zip(names, members, strict=True))
    return Labelling(table[material.labels], table[material.test_labels], len(names), detail)


class Regroup(Adversary):
    """Deals the classes out, at random, to N groups of equally many classes (give or take one).

    Args:
        parameter: N, at least 2; 2 where left out.

    Raises:
        ConfigError: N is no whole number from 2 on.
    """

    prefix = "regroup"
    tier = "relabel"
    source = "arXiv 2301.01217 (other labels than the protector's); dealing them out at random is ours"
    description = "classes dealt out to N groups at random (regroup:3 sets N, 2 if left out)"
    groups = whole_number(default=2, least=2)
    doing = "regroups the classes into {self.groups}"

    def relabel(self, material: AttackData) -> Labelling:
        count = len(material.classes)
        if count <= self.groups:
            raise LabelError(f"{self.name} needs more than {self.groups} classes to regroup, and there are {count}.")
        order = np.random.default_rng(material.seed).permutation(count)
        table = np.empty(count, dtype=np.int64)
        table[order] = np.arange(count) % self.groups
        return merge_classes(material, table, [f"group {number}" for number in range(1, self.groups + 1)])


FEATURE_NETWORK = "efficientnet-lite0"
_THUMBNAIL_SIDE = 8


class Finer(Adversary):
    """Splits every class into N sub-classes by k-means and trains for those.

    Clusters are found on the clean training pictures, so that all arms have the same labels: on features of
    ``efficientnet-lite0``, or, where its weights are not installed, on the pictures at 8 x 8 pixels. A test picture
    gets the nearest sub-class of its own class.

    Args:
        parameter: N, at least 2; 2 where left out.

    Raises:
        ConfigError: N is no whole number from 2 on.
    """

    prefix = "finer"
    tier = "relabel"
    source = "ours: classes split by k-means on clean features"
    description = "each class split into N sub-classes by k-means (finer:3 sets N, 2 if left out)"
    parts = whole_number(default=2, least=2)
    doing = "splits each class into {self.parts}"

    def relabel(self, material: AttackData) -> Labelling:
        try:
            train, test = material.features("clean", FEATURE_NETWORK), material.features("test", FEATURE_NETWORK)
            what = f"features of {FEATURE_NETWORK}"
        except SetupError:
            train, test = (_thumbnails(material.pictures(which)) for which in ("clean", "test"))
            what = f"pictures at {_THUMBNAIL_SIDE} x {_THUMBNAIL_SIDE} pixels, since {FEATURE_NETWORK} is not installed"
        train, test = normalised(train), normalised(test)
        fine, fine_test = np.empty_like(material.labels), np.empty_like(material.test_labels)
        count = 0
        for label in range(len(material.classes)):
            members, tested = material.labels == label, material.test_labels == label
            if not members.any():
                fine_test[tested] = count  # no training picture: a class of its own that nobody can learn
                count += bool(tested.any())
                continue
            centres = _cluster_centres(train[members], self.parts, material.seed)
            fine[members] = count + _nearest_centre(train[members], centres)
            fine_test[tested] = count + _nearest_centre(test[tested], centres)
            count += len(centres)
        detail = f"{len(material.classes)} classes split into {count} by k-means on {what}"
        return Labelling(fine, fine_test, count, detail)


def _thumbnails(images: Pixels) -> NDArray[np.float32]:
    """The pictures at 8 x 8 pixels, each the mean of a patch, as rows ``[N, 192]``."""
    edges = np.linspace(0, images.shape[-1], _THUMBNAIL_SIDE + 1).astype(int)
    rows = np.add.reduceat(images.astype(np.float32), edges[:-1], axis=2) / np.diff(edges)[:, None]
    return (np.add.reduceat(rows, edges[:-1], axis=3) / np.diff(edges)).reshape(len(images), -1)


def _cluster_centres(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """At most ``count`` centres ``[C, D]``; fewer where there are fewer different pictures."""
    count = min(count, len(np.unique(points, axis=0)))
    return np.asarray(fit_kmeans(points, count, seed=seed).cluster_centers_, dtype=np.float32)


def _nearest_centre(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    distances = np.square(centres).sum(axis=1) - 2 * points @ centres.T  # less what is the same for all centres
    return distances.argmin(axis=1).astype(np.int64)
