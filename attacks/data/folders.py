"""Loads a verification's pictures from folders: pairs files, checks them, holds out or reads the test pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ...errors import FolderError, LabelError
from ...imaging import Entry, FolderScan, ImageSet, auto_resolution, load_image_set
from ...records.places import identity_of, lies_in
from ...records.run_file import find_records, where_looked
from ..facts import FolderFacts, PairIssue, Protection, Stealth
from ..terms import enough_to_hold_out, fewest_for_groups, fewest_of_a_class
from .checking import FileCheck, StealthFile, check_files, describe_files, digest_of, summarise_stealth
from .pairing import (
    Pair,
    pair_folders,
    read_manifest_rows,
    read_run_settings,
    scan_labelled,
    scan_pictures,
    stated_budget,
    stated_protection,
)
from .perceptual import LpipsFound
from .sets import (
    FEWEST_TESTED,
    NO_LPIPS,
    Step,
    VerificationData,
    check_test_size,
    label_array,
    near_issues,
    pixel_twins,
    placebo_levels,
)
from .splits import PseudoLabeller, PseudoLabelling, pseudo_labellings_for, stratified_split

_FEWEST_CLASSES = 2

_ENOUGH = (
    f"with {fewest_of_a_class()} pictures each; or with fewer, and {FEWEST_TESTED} others of each class to test on, "
    "in a folder that --test names"
)
"""What takes a verification of class folders past every check of numbers."""


@dataclass(frozen=True)
class Paired:
    """Two folders, file by file.

    Attributes:
        clean, protected: the scans.
        pairs: originals with their copies, in the order of ``clean``.
        issues: what did not fit.
    """

    clean: FolderScan
    protected: FolderScan
    pairs: tuple[Pair, ...]
    issues: tuple[PairIssue, ...]


@dataclass(frozen=True)
class CopyCheck:
    """What decoding the pairs showed, and what the run file in PROTECTED says.

    Attributes:
        pairs: those that could be compared.
        files: how far each of them is from its original, decoded at full size.
        issues: files that do not fit, those found in pairing first.
        folders: what kind of files the two sides are.
        budget_levels: the bound that was promised in 1/255, if it is known.
        budget_source: who promised it.
        protection: what the run file says; ``None`` without one.
    """

    pairs: tuple[Pair, ...]
    files: tuple[StealthFile, ...]
    issues: tuple[PairIssue, ...]
    folders: dict[Literal["clean", "protected"], FolderFacts]
    budget_levels: float | None
    budget_source: str
    protection: Protection | None

    @property
    def noise_levels(self) -> float:
        """Amplitude of the noise arm in 1/255."""
        return placebo_levels([file.distances.linf_levels for file in self.files], self.budget_levels)

    @cached_property
    def stealth(self) -> Stealth:
        """How visible the change is, over all files, and which of them broke the bound."""
        return summarise_stealth(self.files, budget_levels=self.budget_levels, budget_source=self.budget_source)


def pair_copies(clean: FolderScan, protected: FolderScan) -> Paired:
    """Match originals and copies, by the manifest in PROTECTED and else by their paths.

    Raises:
        FolderError: the two are one folder or were swapped, or nothing in them belongs together.
    """
    before, after = clean.root, protected.root
    if identity_of(before) == identity_of(after):
        raise FolderError(
            f"CLEAN and PROTECTED are the same folder: {before}. Give the originals first, then the copies."
        )
    _check_order(before, after)
    pairs, issues = pair_folders(clean, protected, read_manifest_rows(after))
    if not pairs:
        raise FolderError(
            f"No file in {after} belongs to one in {before}. The copies must have the paths of the originals "
            "(another extension does no harm), or PROTECTED must still have its bitterant-manifest.jsonl, which was "
            f"looked for in {where_looked(after)}."
        )
    return Paired(clean, protected, tuple(pairs), tuple(issues))


def check_copies(paired: Paired, *, epsilon: float | None, step: Step, lpips: LpipsFound = NO_LPIPS) -> CopyCheck:
    """Decode every pair at full size and compare.

    Args:
        paired: the pairs.
        epsilon: the promised bound in (0, 1]; without it, what the run file in PROTECTED says.
        step: told the stage ``compare``, files done and of all.
        lpips: the network for the learned distance.
    """
    step("compare", 0, len(paired.pairs), "")
    found = check_files(
        paired.pairs,
        workers=_threads(),
        lpips=lpips.lpips,
        progress=lambda done, total: step("compare", done, total, ""),
    )
    root = paired.protected.root
    run = read_run_settings(root)
    budget, source = stated_budget(epsilon, run)
    return CopyCheck(
        pairs=found.pairs,
        files=found.files,
        issues=(*paired.issues, *found.issues),
        folders=_folder_facts(found),
        budget_levels=budget,
        budget_source=source,
        protection=stated_protection(run, root),
    )


def load_folders(clean: Path, protected: Path, **options: Any) -> VerificationData:
    """The first of :func:`load_labellings`; of class folders, the only one."""
    return load_labellings(clean, protected, **options)[0]


def load_labellings(
    clean: Path,
    protected: Path,
    *,
    test: Path | None,
    resolution: int | Literal["auto"],
    seed: int,
    device_type: str,
    epsilon: float | None,
    step: Step,
    lpips: LpipsFound = NO_LPIPS,
) -> tuple[VerificationData, ...]:
    """Pair two folders, check the files, and load both at one working resolution.

    Pictures without class folders get labels from :class:`.PseudoLabeller`, in several ways.

    Returns:
        One set of data for each labelling; one alone where folders say the class.

    Raises:
        FolderError: a folder is missing, empty or the same as another, or no file of PROTECTED belongs to one of CLEAN.
        LabelError: class folders do not agree, there are too few pictures to make groups of, or fewer than
            ``FEWEST_TESTED`` test pictures a class.
    """
    clean_scan = scan_pictures(clean, "CLEAN")
    pseudo_labellings: tuple[PseudoLabelling | None, ...] = (None,)
    if len(clean_scan.classes) < _FEWEST_CLASSES:
        pseudo_labellings = _pseudo_labellings(clean_scan)
    scan = scan_labelled if pseudo_labellings == (None,) else scan_pictures
    protected_scan = scan(protected, "PROTECTED")
    test_scan = None
    if test is not None:
        others = {"CLEAN": clean, "PROTECTED": protected}
        test_scan = scan_test(test, clean_scan if pseudo_labellings == (None,) else None, others)
    paired = pair_copies(clean_scan, protected_scan)
    copies = check_copies(paired, epsilon=epsilon, step=step, lpips=lpips)
    if not copies.pairs:
        first = copies.issues[len(paired.issues)]
        raise FolderError(
            f"None of the {len(paired.pairs)} files in {protected} can be compared with its original in {clean}. The "
            f"first is {first.path}: {first.detail}. Check that both paths are right, or protect the pictures again."
        )
    side = auto_resolution(clean_scan, device_type) if resolution == "auto" else resolution
    loader = PictureLoader(side, step, 2 * len(copies.pairs) + (len(test_scan.entries) if test_scan else 0))
    pairs, before, after = loader.pairs(paired, copies.pairs)
    tested = None if test_scan is None else loader.load(test_scan, test_scan.entries, "untestable")
    made, problem = [], None
    for pseudo_labelling in pseudo_labellings:
        try:
            made.append(
                _Labelled(clean, test, clean_scan.classes, pairs, before, after, tested, seed).data(
                    pseudo_labelling,
                    [*copies.issues, *loader.problems],
                    torch.device(device_type),
                    files=copies.files,
                    roots=(clean, protected),
                    noise_levels=copies.noise_levels,
                    budget_levels=copies.budget_levels,
                    budget_source=copies.budget_source,
                    protection=copies.protection,
                    folders=copies.folders,
                    lpips=lpips,
                )
            )
        except LabelError as error:  # one odd picture may be a group of its own; another labelling may do
            problem = problem or error
    if not made:
        assert problem is not None
        raise problem
    return tuple(made)


def _pseudo_labellings(scan: FolderScan) -> tuple[PseudoLabelling, ...]:
    found = pseudo_labellings_for(len(scan.entries))
    if not found:
        raise LabelError(
            f"CLEAN has no two class folders: {scan.root}. Then pictures are sorted into groups that look alike, which "
            f"takes {fewest_for_groups()} pictures or more, and there {'is' if len(scan.entries) == 1 else 'are'} "
            f"{len(scan.entries)}. Give more; or put each class into a folder of its own, in CLEAN and PROTECTED "
            f"alike, {_ENOUGH}. 'bitterant inspect' compares any two folders."
        )
    return found


@dataclass(frozen=True)
class _Labelled:
    """Loaded pictures, to be labelled and split. ``pairs``, ``before`` and ``after`` belong together row by row;
    ``tested`` are the pictures of the test folder, where there is one."""

    clean: Path
    test: Path | None
    classes: tuple[str, ...]
    pairs: list[Pair]
    before: ImageSet
    after: ImageSet
    tested: tuple[ImageSet, list[Entry]] | None
    seed: int

    def data(
        self, pseudo_labelling: PseudoLabelling | None, issues: list[PairIssue], device: torch.device, **facts: Any
    ) -> VerificationData:
        """Everything under one labelling.

        Raises:
            LabelError: too few pictures a class, or of two classes.
        """
        before, pairs, classes = self.before, self.pairs, self.classes
        tested, names = (None, []) if self.tested is None else (self.tested[0], [e.relative for e in self.tested[1]])
        if pseudo_labelling is not None:
            classes = tuple(f"group {number + 1}" for number in range(pseudo_labelling.clusters))
            if len(before) < pseudo_labelling.clusters:
                raise LabelError(f"Only {len(before)} pictures of {self.clean} can be compared with their copies.")
            labeller = PseudoLabeller(pseudo_labelling, before.images, seed=self.seed, device=device)
            before = _with_labels(before, labeller, classes)
            if tested is not None and not len(tested):
                raise LabelError(f"None of the pictures in the test folder {self.test} can be read.")
            tested = None if tested is None else _with_labels(tested, labeller, classes)
        if tested is None:
            train, held_out = stratified_split(before.keys, label_array(before.labels).tolist(), seed=self.seed)
            tested, source, where = before.select(held_out), "split", "held out for the test"
            names = [pairs[i].clean.relative for i in held_out]
        else:
            train, source, where = range(len(before)), "folder", "in the test folder"
        train, leaked = leave_out_tested(train, pairs, before, self.after, tested, where)
        issues = [*issues, *leaked]
        _check_enough(before, train, tested, self.clean, self.test, issues)
        train_before = before.select(train)
        train_names = [pairs[i].clean.relative for i in train]
        issues = [*issues, *near_issues(train_before.images.numpy(), train_names, tested.images.numpy(), names)]
        return VerificationData(
            clean=train_before.images.numpy(),
            protected=self.after.select(train).images.numpy(),
            labels=label_array(train_before.labels),
            keys=train_before.keys,
            test_images=tested.images.numpy(),
            test_labels=label_array(tested.labels),
            classes=classes,
            test_source=source,
            issues=tuple(issues),
            split_seed=self.seed if source == "split" else None,
            test_sha256=None if source == "split" else digest_of(tested.keys),
            pseudo_labelling=pseudo_labelling,
            **facts,
        )


def _with_labels(images: ImageSet, labeller: PseudoLabeller, classes: tuple[str, ...]) -> ImageSet:
    return replace(images, labels=torch.from_numpy(labeller.label(images.images)), classes=classes)


def _folder_facts(check: FileCheck) -> dict[Literal["clean", "protected"], FolderFacts]:
    sides = {"clean": describe_files(check.clean), "protected": describe_files(check.protected)}
    return {name: facts for name, facts in sides.items() if facts is not None}  # type: ignore[misc]


def _threads() -> int:
    return max(1, min(8, os.cpu_count() or 1))


class PictureLoader:
    """Loads parts of scans at one resolution and tells the progress of all of them together.

    Args:
        resolution: side R in px.
        step: told the stage ``read``, files done and of all.
        total: number of files that will be loaded.
        with_labels: whether sets of class folders get labels.

    Attributes:
        problems: files that could not be read so far.
    """

    def __init__(self, resolution: int, step: Step, total: int, *, with_labels: bool = True) -> None:
        self.resolution, self.step, self.total, self.with_labels = resolution, step, total, with_labels
        self.done = 0
        self.problems: list[PairIssue] = []

    def load(
        self, scan: FolderScan, entries: Sequence[Entry], kind: Literal["unreadable", "untestable"] = "unreadable"
    ) -> tuple[ImageSet, list[Entry]]:
        """Load some of the files of a scan; the entries of those that could be read, in their order."""
        base = self.done
        images, kept, problems = load_image_set(
            replace(scan, entries=tuple(entries)),
            self.resolution,
            workers=_threads(),
            progress=lambda done, total: self.step("read", base + done, self.total, ""),
            with_labels=self.with_labels,
        )
        self.done = base + len(entries)
        self.problems += [PairIssue(kind=kind, path=p.relative, detail=p.reason) for p in problems]
        return images, kept

    def pairs(self, paired: Paired, pairs: Sequence[Pair]) -> tuple[list[Pair], ImageSet, ImageSet]:
        """Both sides in the order of ``pairs``, less the pairs of which one side could not be read this time."""
        before, kept_before = self.load(paired.clean, [pair.clean for pair in pairs])
        after, kept_after = self.load(paired.protected, [pair.protected for pair in pairs])
        rows_before = {entry.relative: row for row, entry in enumerate(kept_before)}
        rows_after = {entry.relative: row for row, entry in enumerate(kept_after)}
        whole = [p for p in pairs if p.clean.relative in rows_before and p.protected.relative in rows_after]
        return (
            whole,
            before.select([rows_before[pair.clean.relative] for pair in whole]),
            after.select([rows_after[pair.protected.relative] for pair in whole]),
        )


def scan_test(test: Path, clean: FolderScan | None, others: dict[str, Path]) -> FolderScan:
    """The test folder; with the classes of ``clean`` where that is given.

    Args:
        test: its path.
        clean: CLEAN, where it has class folders.
        others: CLEAN and PROTECTED by name.

    Raises:
        FolderError: it is missing, empty, or part of another folder, or the other way round.
        LabelError: its classes are not those of CLEAN.
    """
    for name, folder in others.items():
        if lies_in(test, folder) or lies_in(folder, test):
            raise FolderError(
                f"The test folder {test} and {name}, {folder}, are one folder or lie one in the other. A victim must "
                "be tested on pictures it was not trained on: give other ones, or leave --test out."
            )
    if clean is None:
        return scan_pictures(test, "The test folder")
    scan = scan_labelled(test, "The test folder")
    if scan.classes != clean.classes:
        missing = sorted(set(clean.classes) - set(scan.classes))
        extra = sorted(set(scan.classes) - set(clean.classes))
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"not in CLEAN: {', '.join(extra)}"] if extra else []
        raise LabelError(
            f"The test folder {test} must have the class folders of CLEAN ({'; '.join(parts)}). "
            "Rename or complete them, or leave --test out to hold a part of CLEAN out."
        )
    return scan


def leave_out_tested(
    train: Sequence[int], pairs: Sequence[Pair], before: ImageSet, after: ImageSet, tested: ImageSet, where: str
) -> tuple[list[int], list[PairIssue]]:
    """The training pictures whose file or pixels are not among the test pictures.

    The same picture may lie in CLEAN twice, as a PNG and as a BMP: then it may be trained on and held out.

    Args:
        train: rows that could be trained on.
        pairs, before, after: both sides of the pairs, row by row.
        tested: the test pictures.
        where: where these are, for the issues.

    Returns:
        The rows to train on, and an issue for each that is left out.
    """
    hashes = {sha256_of(key) for key in tested.keys}
    twins = pixel_twins(before.images, after.images, tested.images)
    leaked = [row for row in train if row in twins or sha256_of(before.keys[row]) in hashes]
    gone = set(leaked)
    detail = f"the very same picture is {where}; it is left out of training"
    issues = [PairIssue(kind="leaked", path=pairs[row].clean.relative, detail=detail) for row in leaked]
    return [row for row in train if row not in gone], issues


def sha256_of(key: str) -> str:
    """The hash of the file in the key of a picture, which may name the class too."""
    return key.rsplit("/", 1)[-1]


def _check_order(clean: Path, protected: Path) -> None:
    found = find_records(clean)
    if found is not None and find_records(protected) is None:
        raise FolderError(
            f"{clean} was written by 'bitterant protect', as {found.manifest} says, and {protected} was not: they "
            "seem to be swapped. Give the originals first, then the copies. If they are right, move that file away."
        )


def _first_of(issues: list[PairIssue]) -> str:
    """The first picture that does not fit, for a message."""
    return f", of which the first is {issues[0].path}: {issues[0].detail}" if issues else ""


def _check_enough(
    before: ImageSet, train: list[int], tested: ImageSet, clean: Path, test: Path | None, issues: list[PairIssue]
) -> None:
    labels = label_array(before.labels)[train]
    asked = label_array(tested.labels)
    place = f"held out from {clean}" if test is None else f"in the test folder {test}"
    if not len(asked):
        raise LabelError(
            f"Not one picture {place} can be read. Check them with an image viewer, or give others with --test."
        )
    if len(set(labels.tolist())) < _FEWEST_CLASSES:
        raise LabelError(
            f"After pairing there are {len(labels)} pictures of {len(set(labels.tolist()))} classes left to train on, "
            f"from {clean}, and {len(asked)} to test on. Two classes are needed, {_ENOUGH}. "
            f"Give more pictures, or mend those left out{_first_of(issues)}."
        )
    if len(set(asked.tolist())) < _FEWEST_CLASSES:
        raise LabelError(
            f"The pictures {place} are of one class only, so a victim could be right without looking. "
            f"Give two classes or more, {_ENOUGH}."
        )
    if test is None:
        remedy = f"A fifth of each class is held out: give classes {_ENOUGH}."
    else:
        remedy = f"Put more pictures into it, {FEWEST_TESTED} of each class"
        # Only where that would do: what is told must not end in the next refusal.
        instead = enough_to_hold_out([int(count) for count in np.bincount(label_array(before.labels))])
        remedy += ", or leave --test out to hold a fifth of CLEAN out." if instead else "."
    check_test_size(asked, place, remedy)
