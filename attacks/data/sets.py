"""What a verification works on: training pictures, clean, protected or with noise, and clean ones to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, LabelError
from ...imaging import ImageSet, Picture
from ..facts import Dataset, FolderFacts, PairIssue, Protection, Stealth
from ..statistics import chance_level
from ..terms import FEWEST_TESTED
from .checking import LPIPS_FILES, SSIM_FILES, StealthFile, chosen_names, measure_distances, summarise_stealth
from .perceptual import LpipsFound, near_duplicates
from .splits import PseudoLabelling

if TYPE_CHECKING:
    from torch import Tensor

ARMS = ("clean", "protected", "noise")


def noise_arm(images: NDArray[np.uint8], keys: Sequence[str], levels: float, *, seed: int) -> NDArray[np.uint8]:
    """The placebo: every value of every picture moved by ``+levels`` or ``-levels`` at random, then clipped.

    The signs of a picture depend on the seed and its key alone, never on its place in the set.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        keys: identity of each picture.
        levels: amplitude in 1/255; rounded to whole levels.
        seed: of the noise.
    """
    amplitude = round(levels)
    result = np.empty_like(images)
    for row, (picture, key) in enumerate(zip(images, keys, strict=True)):
        digest = hashlib.sha256(f"bitterant noise {seed} {key}".encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        signs = rng.integers(0, 2, size=picture.shape, dtype=np.int16) * 2 - 1
        result[row] = np.clip(picture + amplitude * signs, 0, 255)
    return result


def largest_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Largest change of each picture in levels, ``[N]``, picture by picture so that memory stays small."""
    return np.array(
        [int(np.abs(a.astype(np.int16) - b).max(initial=0)) for a, b in zip(after, before, strict=True)],
        dtype=np.int64,
    )


Step = Callable[[str, float, float, str], None]

NO_LPIPS = LpipsFound(None, "it was not asked for")


@dataclass(frozen=True)
class VerificationData:
    """Everything in memory, at one working resolution.

    Attributes:
        clean: uint8 ``[N, 3, R, R]``, training pictures as they were.
        protected: the same pictures as published, same order.
        labels: int64 ``[N]``.
        keys: identity of each training picture.
        test_images: uint8 ``[M, 3, R, R]``, never protected, never trained on.
        test_labels: int64 ``[M]``.
        classes: class names.
        test_source: where the test pictures come from.
        issues: files that could not be used or are not as they should be.
        files: how far each protected file is from its original, at full size.
        roots: the folders CLEAN and PROTECTED; ``None`` for sets in memory.
        noise_levels: amplitude of the noise arm in 1/255; see :func:`placebo_levels`.
        budget_levels: the bound that was promised, if it is known.
        budget_source: who promised it.
        protection: what the run file says.
        split_seed: what decided which pictures were held out for the test; ``None`` where none were.
        folders: what kind of files the two sides are; empty for sets in memory.
        test_sha256: over the pictures of the test folder; ``None`` without one.
        lpips: the network for the learned distance, or why there is none.
        pseudo_labelling: how pictures without classes were sorted; ``None`` where the classes are those of the folders.
    """

    clean: NDArray[np.uint8]
    protected: NDArray[np.uint8]
    labels: NDArray[np.int64]
    keys: tuple[str, ...]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    test_source: Literal["folder", "split", "given"]
    issues: tuple[PairIssue, ...]
    files: tuple[StealthFile, ...]
    roots: tuple[Path, Path] | None
    noise_levels: float
    budget_levels: float | None
    budget_source: str
    protection: Protection | None
    split_seed: int | None = None
    folders: dict[Literal["clean", "protected"], FolderFacts] = field(default_factory=dict)
    test_sha256: str | None = None
    lpips: LpipsFound = NO_LPIPS
    pseudo_labelling: PseudoLabelling | None = None

    @property
    def resolution(self) -> int:
        """Working resolution R in pixels."""
        return int(self.clean.shape[-1])

    def describe(self, *, validation_images: int = 0) -> Dataset:
        """The facts for the report.

        Args:
            validation_images: how many test pictures a choice of the moment to stop rests on, at most.
        """
        count = len(self.classes)
        return Dataset(
            classes=self.classes,
            train_images=len(self.labels),
            test_images=len(self.test_labels),
            validation_images=min(validation_images, len(self.test_labels) // 2),
            train_counts=tuple(np.bincount(self.labels, minlength=count).tolist()),
            test_counts=tuple(np.bincount(self.test_labels, minlength=count).tolist()),
            test_source=self.test_source,
            split_seed=self.split_seed,
            resolution=self.resolution,
            chance=chance_level(self.test_labels),
            folders=self.folders,
            test_sha256=self.test_sha256,
            grouping=None if self.pseudo_labelling is None else self.pseudo_labelling.words,
            issues=self.issues,
        )

    def stealth(self) -> Stealth:
        """How visible the change is, over all files."""
        return summarise_stealth(
            self.files,
            budget_levels=self.budget_levels,
            budget_source=self.budget_source,
            lpips_source=self.lpips.lpips.source if self.lpips.lpips is not None else None,
            lpips_reason=self.lpips.reason,
        )

    def sha256(self) -> str:
        """Over all pictures and labels: two plans with one digest are about the same data."""
        digest = hashlib.sha256()
        for array in (self.clean, self.protected, self.labels, self.test_images, self.test_labels):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_sets(
    clean: ImageSet,
    protected: ImageSet,
    test: ImageSet,
    *,
    epsilon: float | None = None,
    lpips: LpipsFound = NO_LPIPS,
) -> VerificationData:
    """Take three sets in memory; ``clean[i]`` and ``protected[i]`` are the same picture.

    Raises:
        LabelError: labels are missing or differ between the sets, there are fewer than two classes, or fewer than
            ``FEWEST_TESTED`` test pictures a class.
        ConfigError: sizes do not fit, or a set is empty.
    """
    for name, group in (("clean", clean), ("protected", protected), ("test", test)):
        if not isinstance(group, ImageSet):
            raise ConfigError(
                f"The {name} set is a {type(group).__name__} and no ImageSet. Make one with "
                "ImageSet.from_tensors(images, labels), from_dataset or from_folder."
            )
        if not len(group):
            raise ConfigError(f"The {name} set is empty.")
        if group.labels is None:
            raise LabelError(f"The {name} set has no labels; a victim cannot be trained or tested without.")
    if len(clean) != len(protected):
        raise ConfigError(f"{len(clean)} clean but {len(protected)} protected images: they must come in pairs.")
    if len({clean.resolution, protected.resolution, test.resolution}) > 1:
        sizes = f"{clean.resolution}, {protected.resolution} and {test.resolution}"
        raise ConfigError(f"Clean, protected and test images must have one resolution, not {sizes} pixels.")
    if clean.classes != test.classes or clean.classes != protected.classes:
        raise LabelError("Clean, protected and test set must have the same class names in the same order.")
    labels, theirs = label_array(clean.labels), label_array(protected.labels)
    if len(clean.classes) < 2:
        raise LabelError("At least two classes are needed, or there is nothing to tell apart.")
    tested = label_array(test.labels)
    if len(np.unique(tested)) < 2:
        raise LabelError("The test images are of one class only, so a victim could be right without looking.")
    check_test_size(tested, "in the test set", "Give more test pictures.")
    issues = tuple(
        PairIssue(
            kind="relabelled", path=clean.keys[i], detail=f"its copy is labelled {clean.classes[int(theirs[i])]!r}"
        )
        for i in np.flatnonzero(labels != theirs)
    )
    twins = pixel_twins(clean.images, protected.images, test.images)
    issues += tuple(
        PairIssue(kind="leaked", path=clean.keys[i], detail="the very same picture is in the test set")
        for i in sorted(twins)
    )
    kept = np.array([i for i in np.flatnonzero(labels == theirs) if i not in twins], dtype=np.int64)
    before, after = clean.images.cpu().numpy()[kept], protected.images.cpu().numpy()[kept]
    if not len(kept):
        raise LabelError("Not one protected image has the label of its original and is not among the test images.")
    if len(np.unique(labels[kept])) < 2:
        raise LabelError("The images to train on are of one class only, so there is nothing to tell apart.")
    keys = tuple(clean.keys[i] for i in kept)
    issues += near_issues(before, keys, test.images.cpu().numpy(), test.keys)
    files = _compare(keys, before, after, lpips)
    levels = largest_change(before, after)
    return VerificationData(
        clean=before,
        protected=after,
        labels=labels[kept],
        keys=keys,
        test_images=test.images.cpu().numpy(),
        test_labels=tested,
        classes=clean.classes,
        test_source="given",
        issues=issues,
        files=files,
        roots=None,
        noise_levels=placebo_levels(levels.tolist(), None if epsilon is None else epsilon * 255.0),
        budget_levels=None if epsilon is None else epsilon * 255.0,
        budget_source="not stated" if epsilon is None else "given by the caller",
        protection=None,
        lpips=lpips,
    )


def check_test_size(labels: NDArray[np.int64], where: str, remedy: str) -> None:
    """Refuse a test set that is too small to say anything.

    Args:
        labels: of the test pictures, int64 ``[M]``.
        where: where they are, in words.
        remedy: what to do about it.

    Raises:
        LabelError: there are fewer than :data:`FEWEST_TESTED` a tested class on average.
    """
    classes = len(np.unique(labels))
    if len(labels) < FEWEST_TESTED * classes:
        raise LabelError(
            f"There are {len(labels)} pictures of {classes} classes {where}, {len(labels) / classes:.1f} a class. At "
            f"least {FEWEST_TESTED} a class are needed on average, {FEWEST_TESTED * classes} in all: with fewer, the "
            f"intervals around every figure are too narrow to be believed. Nothing was trained. {remedy}"
        )


def placebo_levels(changes: Sequence[float], budget: float | None) -> float:
    """Amplitude of the noise arm in 1/255: the promised bound, else the median change of a file. Not the largest, which
    a single odd file would set for all."""
    if budget is not None:
        return budget
    return float(np.median(changes)) if len(changes) else 0.0


def pixel_twins(before: Tensor, after: Tensor, test: Tensor) -> set[int]:
    """Positions of training pictures whose clean or protected pixels are those of a test picture.

    Args:
        before, after, test: uint8 ``[N, 3, R, R]``, ``[N, 3, R, R]`` and ``[M, 3, R, R]`` at one resolution.
    """
    known = {_digest(picture) for picture in test.cpu().numpy()}
    return {
        row
        for images in (before, after)
        for row, picture in enumerate(images.cpu().numpy())
        if _digest(picture) in known
    }


def near_issues(
    train: NDArray[np.uint8], train_names: Sequence[str], test: NDArray[np.uint8], test_names: Sequence[str]
) -> tuple[PairIssue, ...]:
    """One issue for each test picture that nearly equals a training picture, the most alike first.

    Args:
        train, test: uint8 ``[N, 3, R, R]`` and ``[M, 3, R, R]`` at one resolution.
        train_names, test_names: what to call them.
    """
    found = sorted(near_duplicates(train, test).items(), key=lambda item: (-item[1][1], item[0]))
    return tuple(
        PairIssue(
            kind="near",
            path=test_names[row],
            detail=f"this test picture nearly equals the training picture {train_names[other]} ({100 * alike:.1f} %)",
        )
        for row, (other, alike) in found
    )


def _digest(picture: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()


def label_array(labels: Tensor | None) -> NDArray[np.int64]:
    """Labels as int64 ``[N]``; an empty array for ``None``."""
    if labels is None:
        return np.empty(0, dtype=np.int64)
    return np.asarray(labels.cpu().numpy(), dtype=np.int64)


def _compare(
    keys: Sequence[str], before: NDArray[np.uint8], after: NDArray[np.uint8], lpips: LpipsFound
) -> tuple[StealthFile, ...]:
    with_ssim, with_lpips = chosen_names(keys, SSIM_FILES), chosen_names(keys, LPIPS_FILES)
    rows = []
    for key, *pair in zip(keys, before, after, strict=True):
        original, copy = (Picture(np.ascontiguousarray(pixels.transpose(1, 2, 0))) for pixels in pair)
        found = measure_distances(
            original, copy, with_ssim=key in with_ssim, lpips=lpips.lpips if key in with_lpips else None
        )
        rows.append(StealthFile(key, key, original.width, original.height, found))
    return tuple(rows)
