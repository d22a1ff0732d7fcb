"""Loads a verification's pictures from folders: pairs files, checks them, holds out or reads the test pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ...errors import FolderError, LabelError
from ...imaging import Entry, FolderScan, ImageSet, auto_resolution, load_image_set
from ...records.places import identity_of, lies_in
from ...records.run_file import find_records, where_looked
from ..facts import FolderFacts, PairIssue
from ..terms import enough_to_hold_out, fewest_for_groups, fewest_of_a_class
from .checking import FileCheck, check_files, describe_files, digest_of
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
    if identity_of(clean) == identity_of(protected):
        raise FolderError(
            f"CLEAN and PROTECTED are the same folder: {clean}. Give the originals first, then the copies."
        )
    _check_order(clean, protected)
    test_scan = None
    if test is not None:
        others = {"CLEAN": clean, "PROTECTED": protected}
        test_scan = _scan_test(test, clean_scan if pseudo_labellings == (None,) else None, others)
    pairs, found = pair_folders(clean_scan, protected_scan, read_manifest_rows(protected))
    if not pairs:
        raise FolderError(
            f"No file in {protected} belongs to one in {clean}. The copies must have the paths of the originals "
            "(another extension does no harm), or PROTECTED must still have its bitterant-manifest.jsonl, which was "
            f"looked for in {where_looked(protected)}."
        )
    threads = max(1, min(8, os.cpu_count() or 1))
    step("compare", 0, len(pairs), "")
    check = check_files(
        pairs, workers=threads, lpips=lpips.lpips, progress=lambda done, total: step("compare", done, total, "")
    )
    if not check.pairs:
        first = check.issues[0]
        raise FolderError(
            f"None of the {len(pairs)} files in {protected} can be compared with its original in {clean}. The first is "
            f"{first.path}: {first.detail}. Check that both paths are right, or protect the pictures again."
        )
    side = auto_resolution(clean_scan, device_type) if resolution == "auto" else resolution
    loader = _Loader(side, threads, step, 2 * len(check.pairs) + (len(test_scan.entries) if test_scan else 0))
    pairs, before, after = loader.pairs(clean_scan, protected_scan, list(check.pairs))
    tested = None if test_scan is None else loader.load(test_scan, list(test_scan.entries), "untestable")
    run = read_run_settings(protected)
    budget, budget_source = stated_budget(epsilon, run)
    made, problem = [], None
    for pseudo_labelling in pseudo_labellings:
        try:
            made.append(
                _Labelled(clean, test, clean_scan.classes, pairs, before, after, tested, seed).data(
                    pseudo_labelling,
                    [*found, *check.issues, *loader.problems],
                    torch.device(device_type),
                    files=check.files,
                    roots=(clean, protected),
                    noise_levels=placebo_levels([file.distances.linf_levels for file in check.files], budget),
                    budget_levels=budget,
                    budget_source=budget_source,
                    protection=stated_protection(run, protected),
                    folders=_folder_facts(check),
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
            tested, source = before.select(held_out), "split"
            names = [pairs[i].clean.relative for i in held_out]
            # The same picture may lie in CLEAN twice, as a PNG and as a BMP.
            twins = pixel_twins(before.images[train], self.after.images[train], tested.images)
            issues = [*issues, *(_leak(pairs[train[i]], "held out for the test") for i in sorted(twins))]
            train = [row for i, row in enumerate(train) if i not in twins]
        else:
            train, leaked = _external_test(tested, before, self.after, pairs)
            issues, source = [*issues, *leaked], "folder"
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


class _Loader:
    """Loads parts of scans at one resolution and tells the progress of all of them together."""

    def __init__(self, resolution: int, threads: int, step: Step, total: int) -> None:
        self.resolution, self.threads, self.step, self.total = resolution, threads, step, total
        self.done = 0
        self.problems: list[PairIssue] = []

    def load(
        self, scan: FolderScan, entries: list[Entry], kind: Literal["unreadable", "untestable"] = "unreadable"
    ) -> tuple[ImageSet, list[Entry]]:
        base = self.done
        images, kept, problems = load_image_set(
            replace(scan, entries=tuple(entries)),
            self.resolution,
            workers=self.threads,
            progress=lambda done, total: self.step("read", base + done, self.total, ""),
        )
        self.done = base + len(entries)
        self.problems += [PairIssue(kind=kind, path=p.relative, detail=p.reason) for p in problems]
        return images, kept

    def pairs(
        self, clean: FolderScan, protected: FolderScan, pairs: list[Pair]
    ) -> tuple[list[Pair], ImageSet, ImageSet]:
        """Both sides in the order of ``pairs``, less the pairs of which one side could not be read this time."""
        before, kept_before = self.load(clean, [pair.clean for pair in pairs])
        after, kept_after = self.load(protected, [pair.protected for pair in pairs])
        rows_before = {entry.relative: row for row, entry in enumerate(kept_before)}
        rows_after = {entry.relative: row for row, entry in enumerate(kept_after)}
        whole = [p for p in pairs if p.clean.relative in rows_before and p.protected.relative in rows_after]
        return (
            whole,
            before.select([rows_before[pair.clean.relative] for pair in whole]),
            after.select([rows_after[pair.protected.relative] for pair in whole]),
        )


def _scan_test(test: Path, clean: FolderScan | None, others: dict[str, Path]) -> FolderScan:
    """The test folder; with the classes of ``clean`` where that has some."""
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


def _external_test(
    tested: ImageSet, before: ImageSet, after: ImageSet, pairs: list[Pair]
) -> tuple[list[int], list[PairIssue]]:
    """The training positions whose file or pixels are not among the test pictures, and what was left out."""
    hashes = {key.rsplit("/", 1)[-1] for key in tested.keys}
    twins = pixel_twins(before.images, after.images, tested.images)
    leaked = [i for i, key in enumerate(before.keys) if key.rsplit("/", 1)[-1] in hashes or i in twins]
    train = sorted(set(range(len(before))) - set(leaked))
    return train, [_leak(pairs[i], "in the test folder") for i in leaked]


def _leak(pair: Pair, where: str) -> PairIssue:
    detail = f"the very same picture is {where}; it is left out of training"
    return PairIssue(kind="leaked", path=pair.clean.relative, detail=detail)


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
