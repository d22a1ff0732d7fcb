"""Captioned pictures from folders: what is trained on in two versions, and clean ones to ask about afterwards.

Which copy belongs to which picture, and how far it is from it, is measured on what is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...errors import CaptionError, ConfigError, FolderError
from ...imaging import Entry, FolderScan, ImageSet, load_image_set
from ...imaging.captions import CaptionOptions, CaptionSet, read_captions
from ...records.places import lies_in
from ...records.run_file import where_looked
from ..data.checking import FileCheck, StealthFile, check_files, describe_files, summarise_stealth
from ..data.pairing import (
    Pair,
    pair_folders,
    read_manifest_rows,
    read_run_settings,
    scan_pictures,
    stated_budget,
    stated_protection,
)
from ..data.sets import Step, near_issues, pixel_twins
from ..data.splits import stratified_split
from ..facts import FolderFacts, PairIssue, Protection, Stealth

_FEWEST = 2
"""Pictures to train on, and to test on, below which there is nothing to tell apart."""


@dataclass(frozen=True)
class CaptionedSet:
    """Pictures, each with one caption or more.

    Attributes:
        images: uint8 ``[N, 3, R, R]``.
        captions: N lists of texts.
        keys: identity of each picture.
    """

    images: Tensor
    captions: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ConfigError(f"Pictures are uint8 [N, 3, R, R], not {self.images.dtype} {tuple(self.images.shape)}.")
        if len(self.captions) != count or len(self.keys) != count:
            raise ConfigError(f"{count} pictures, {len(self.captions)} lists of captions and {len(self.keys)} keys.")
        if not all(self.captions):
            raise ConfigError("Every picture needs a caption.")

    @property
    def resolution(self) -> int:
        """Side R in px."""
        return int(self.images.shape[-1])

    def answers(self) -> tuple[list[str], Tensor]:
        """The different captions, and which of them each picture has, bool ``[N, M]``.

        Pictures that are described in the same words are right answers to each other's caption: nobody could tell them
        apart by it.
        """
        texts = list(dict.fromkeys(text for several in self.captions for text in several))
        place = {text: column for column, text in enumerate(texts)}
        own = torch.zeros((len(self.captions), len(texts)), dtype=torch.bool)
        for row, several in enumerate(self.captions):
            own[row, [place[text] for text in several]] = True
        return texts, own

    def with_images(self, images: Tensor) -> CaptionedSet:
        """The same captions with other pictures, such as protected copies."""
        return CaptionedSet(images, self.captions, self.keys)

    def take(self, rows: Sequence[int]) -> CaptionedSet:
        """Some of the pictures."""
        return CaptionedSet(
            self.images[list(rows)], tuple(self.captions[row] for row in rows), tuple(self.keys[row] for row in rows)
        )


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
    """What decoding the pairs showed.

    Attributes:
        pairs: those that could be compared.
        files: how far each of them is from its original, decoded at full size.
        issues: files that do not fit, those found in pairing included.
        stealth: all files together, and which of them broke the bound.
        protection: what the run file says; ``None`` without one.
        folders: what kind of files the two sides are.
    """

    pairs: tuple[Pair, ...]
    files: tuple[StealthFile, ...]
    issues: tuple[PairIssue, ...]
    stealth: Stealth
    protection: Protection | None
    folders: dict[Literal["clean", "protected"], FolderFacts] = field(default_factory=dict)


def apart(one: Path, what: str, other: Path, whose: str) -> None:
    """Raise where two folders are one or lie one in the other.

    Raises:
        FolderError: they do.
    """
    if lies_in(one, other) or lies_in(other, one):
        raise FolderError(f"{what}, {one}, and {whose}, {other}, are one folder or lie one in the other.")


def pair_copies(clean: Path, protected: Path) -> Paired:
    """Match originals and copies, by the manifest in PROTECTED and else by their paths.

    Raises:
        FolderError: a folder is missing, empty or part of the other, or nothing in them belongs together.
    """
    before, after = scan_pictures(clean, "CLEAN"), scan_pictures(protected, "PROTECTED")
    apart(clean, "CLEAN", protected, "PROTECTED")
    pairs, issues = pair_folders(before, after, read_manifest_rows(protected))
    if not pairs:
        raise FolderError(
            f"No file in {protected} belongs to one in {clean}. The copies must have the paths of the originals "
            "(another extension does no harm), or PROTECTED must still have its bitterant-manifest.jsonl, which was "
            f"looked for in {where_looked(protected)}."
        )
    return Paired(before, after, tuple(pairs), tuple(issues))


def check_copies(paired: Paired, *, epsilon: float | None, step: Step) -> CopyCheck:
    """Decode every pair at full size and compare.

    Args:
        paired: the pairs.
        epsilon: the promised bound in (0, 1]; without it, what the run file in PROTECTED says.
        step: told the stage ``compare``, files done and of all.
    """
    pairs = paired.pairs
    step("compare", 0, len(pairs), "")
    threads = max(1, min(8, os.cpu_count() or 1))
    found = check_files(pairs, workers=threads, progress=lambda done, total: step("compare", done, total, ""))
    run = read_run_settings(paired.protected.root)
    budget, source = stated_budget(epsilon, run)
    return CopyCheck(
        pairs=found.pairs,
        files=found.files,
        issues=(*paired.issues, *found.issues),
        stealth=summarise_stealth(found.files, budget_levels=budget, budget_source=source),
        protection=stated_protection(run, paired.protected.root),
        folders=_describe_sides(found),
    )


def _describe_sides(found: FileCheck) -> dict[Literal["clean", "protected"], FolderFacts]:
    clean, protected = describe_files(found.clean), describe_files(found.protected)
    return {} if clean is None or protected is None else {"clean": clean, "protected": protected}


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class TestFolder:
    """Clean pictures of their own to test on."""

    scan: FolderScan
    captions: CaptionSet

    __test__ = False  # pytest takes the name for a test


@dataclass(frozen=True)
class RetrievalData:
    """Everything in memory, at one working resolution.

    Attributes:
        train: training pictures as they were, with their captions.
        protected: the same as published, uint8 ``[N, 3, R, R]``.
        test: clean pictures that are trained on in no version.
        test_source: a folder of their own, or held out from CLEAN.
        issues: pictures that were left out, and why; and test pictures that nearly equal one that is trained on.
    """

    train: CaptionedSet
    protected: Tensor
    test: CaptionedSet
    test_source: Literal["folder", "split"]
    issues: tuple[PairIssue, ...]

    def test_sha256(self) -> str:
        """Over the files of the test pictures and their captions, in no order."""
        lines = sorted(
            json.dumps([_sha256(key), *texts]) for key, texts in zip(self.test.keys, self.test.captions, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def sha256(self) -> str:
        """Over all pictures and captions: two plans with one digest are about the same data."""
        digest = hashlib.sha256()
        for pictures in (self.train.images, self.protected, self.test.images):
            digest.update(str(tuple(pictures.shape)).encode())
            digest.update(pictures.contiguous().numpy().tobytes())
        for part in (self.train, self.test):
            digest.update(json.dumps(part.captions).encode())
        return digest.hexdigest()


def read_paired_captions(scan: FolderScan, pairs: Sequence[Pair], options: CaptionOptions) -> CaptionSet:
    """Captions of the originals that have a copy.

    Raises:
        CaptionError: one of them has none, or a file that was named cannot be used.
    """
    return read_captions(replace(scan, entries=tuple(pair.clean for pair in pairs)), options, suggest_fallback=False)


def read_test_folder(test: Path, clean: Path, protected: Path, options: CaptionOptions) -> TestFolder:
    """Pictures to test on, with their captions.

    Raises:
        FolderError: it is missing, empty, or part of CLEAN or PROTECTED, or the other way round.
        CaptionError: a picture has no caption.
    """
    scan = scan_pictures(test, "The test folder")
    for name, folder in (("CLEAN", clean), ("PROTECTED", protected)):
        try:
            apart(test, "The test folder", folder, name)
        except FolderError as error:
            raise FolderError(
                f"{error} A CLIP must be tested on pictures it was not trained on: give others, or leave --test out."
            ) from None
    try:
        return TestFolder(scan, read_captions(scan, options, suggest_fallback=False))
    except CaptionError as error:
        raise CaptionError(f"The test folder {test}: {error}") from error


def load_pictures(
    clean: FolderScan,
    protected: FolderScan,
    pairs: Sequence[Pair],
    captions: CaptionSet,
    test: TestFolder | None,
    *,
    resolution: int,
    seed: int,
    step: Step,
) -> RetrievalData:
    """Load both versions of the pairs, and hold a fifth of them out where there is no test folder.

    What is held out depends on the seed and on the files' bytes, not on names or order. Where captions are the names of
    class folders, every class gives its part.

    Args:
        clean: CLEAN.
        protected: PROTECTED.
        pairs: originals and copies, whole files of the same size.
        captions: of the originals.
        test: pictures to test on.
        resolution: side R in px.
        seed: of the split.
        step: told the stage ``read``, files done and of all.

    Raises:
        FolderError: there are too few pictures to train on or to test on.
        CaptionError: all of them have the same caption.
    """
    loader = _Loader(resolution, step, 2 * len(pairs) + (len(test.scan.entries) if test else 0))
    before, kept_before = loader.load(clean, [pair.clean for pair in pairs])
    after, kept_after = loader.load(protected, [pair.protected for pair in pairs])
    # Files that were whole a moment ago can be gone by now.
    row_before = {entry.relative: row for row, entry in enumerate(kept_before)}
    row_after = {entry.relative: row for row, entry in enumerate(kept_after)}
    whole = [p for p in pairs if p.clean.relative in row_before and p.protected.relative in row_after]
    before = before.select([row_before[pair.clean.relative] for pair in whole])
    after = after.select([row_after[pair.protected.relative] for pair in whole])
    ours = [pair.clean for pair in whole]
    if test is None:
        train, held_out = _split(before, ours, captions, seed)
        kept = [ours[row] for row in held_out]
        tested = _captioned(before.select(held_out), kept, captions)
        same = pixel_twins(before.images[train], after.images[train], tested.images)
        leaked, where = [train[row] for row in sorted(same)], "held out for the test"
    else:
        images, kept = loader.load(test.scan, list(test.scan.entries), "untestable")
        tested = _captioned(images, kept, test.captions)
        hashes = {_sha256(key) for key in images.keys}
        same = pixel_twins(before.images, after.images, images.images)
        leaked = [row for row, key in enumerate(before.keys) if _sha256(key) in hashes or row in same]
        train, where = list(range(len(before))), "in the test folder"
    gone = set(leaked)
    train = [row for row in train if row not in gone]
    detail = f"the very same picture is {where}; it is left out of training"
    issues = [PairIssue(kind="leaked", path=ours[row].relative, detail=detail) for row in leaked]
    _check_enough(len(train), len(tested.keys), len(leaked), clean.root, own_test=test is not None)
    learned = _captioned(before.select(train), [ours[row] for row in train], captions)
    for what, pictures in (("trained", learned), ("tested", tested)):
        _check_telling(pictures, what)
    names, test_names = ([entry.relative for entry in part] for part in ([ours[row] for row in train], kept))
    issues += near_issues(learned.images.numpy(), names, tested.images.numpy(), test_names)
    return RetrievalData(
        train=learned,
        protected=after.select(train).images,
        test=tested,
        test_source="split" if test is None else "folder",
        issues=(*issues, *loader.problems),
    )


class _Loader:
    """Loads parts of scans at one resolution and tells the progress of all of them together."""

    def __init__(self, resolution: int, step: Step, total: int) -> None:
        self.resolution, self.step, self.total = resolution, step, total
        self.threads = max(1, min(8, os.cpu_count() or 1))
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
            with_labels=False,
        )
        self.done = base + len(entries)
        self.problems += [PairIssue(kind=kind, path=p.relative, detail=p.reason) for p in problems]
        return images, kept


def _split(images: ImageSet, entries: Sequence[Entry], captions: CaptionSet, seed: int) -> tuple[list[int], list[int]]:
    by_class = "class" in captions.sources
    labels = [(entry.label or 0) if by_class else 0 for entry in entries]
    keys = list(images.keys) if by_class else [_sha256(key) for key in images.keys]
    return stratified_split(keys, labels, seed=seed)


def _sha256(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _captioned(images: ImageSet, entries: Sequence[Entry], captions: CaptionSet) -> CaptionedSet:
    texts = tuple(captions.captions[entry.relative].captions for entry in entries)
    return CaptionedSet(images.images, texts, images.keys)


def _check_enough(train: int, tested: int, leaked: int, clean: Path, *, own_test: bool) -> None:
    if train >= _FEWEST and tested >= _FEWEST:
        return
    left_out = f" {leaked} were left out of training because the same picture is tested." if leaked else ""
    remedy = "Give more pictures" if own_test else "Give more pictures, or a test folder of their own with --test"
    raise FolderError(
        f"A CLIP learns to tell pictures apart, so it needs two at least to train on and two to test on; from {clean} "
        f"there are {train} to train on and {tested} to test on.{left_out} {remedy}."
    )


def _check_telling(pictures: CaptionedSet, what: str) -> None:
    texts, own = pictures.answers()
    if bool(own.all()):
        raise CaptionError(
            f"All {len(pictures.keys)} pictures that are {what} on have the same captions ({name_some(texts)}): there "
            "is nothing to tell them apart by. Describe them one by one."
        )
