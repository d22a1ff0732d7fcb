"""Captioned pictures from folders: what is trained on in two versions, and clean ones to ask for afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from ...errors import CaptionError, FolderError
from ...imaging import Entry, FolderScan, ImageSet, load_image_set
from ...imaging.captions import CaptionOptions, CaptionSet, read_captions
from ..data.pairing import Pair
from ..data.sets import Step, near_issues, pixel_twins
from ..data.split import stratified_split
from ..schema import PairIssue
from .captioned import CaptionedSet
from .copies import apart, name_some, scan_pictures

__all__ = ["RetrievalData", "TestFolder", "load_pictures", "read_paired_captions", "read_test_folder"]

_FEWEST = 2


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
        clean: training pictures as they were, with their captions.
        protected: the same as published, uint8 ``[N, 3, R, R]``.
        test: clean pictures that are trained on in no version.
        test_source: a folder of their own, or held out from CLEAN.
        issues: pictures that were left out, and why; and test pictures that nearly equal one that is trained on.
    """

    clean: CaptionedSet
    protected: Tensor
    test: CaptionedSet
    test_source: Literal["folder", "split"]
    issues: tuple[PairIssue, ...]


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
        clean=learned,
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
