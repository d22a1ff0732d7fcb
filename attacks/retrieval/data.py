"""Captioned pictures from folders: what is trained on in two versions, and clean ones to ask about afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...errors import CaptionError, ConfigError, FolderError
from ...imaging import Entry, FolderScan, ImageSet
from ...imaging.captions import CaptionOptions, CaptionSet, read_captions
from ...records.text import some_counted
from ..data.folders import Paired, PictureLoader, leave_out_tested, scan_test, sha256_of
from ..data.pairing import Pair
from ..data.sets import Step, near_issues
from ..data.splits import stratified_split
from ..facts import PairIssue

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
            json.dumps([sha256_of(key), *texts]) for key, texts in zip(self.test.keys, self.test.captions, strict=True)
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
    scan = scan_test(test, None, {"CLEAN": clean, "PROTECTED": protected})
    try:
        return TestFolder(scan, read_captions(scan, options, suggest_fallback=False))
    except CaptionError as error:
        raise CaptionError(f"The test folder {test}: {error}") from error


def load_pictures(
    paired: Paired,
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
        paired: the two folders.
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
    count = 2 * len(pairs) + (len(test.scan.entries) if test else 0)
    loader = PictureLoader(resolution, step, count, with_labels=False)
    whole, before, after = loader.pairs(paired, pairs)
    ours = [pair.clean for pair in whole]
    if test is None:
        train, held_out = _split(before, ours, captions, seed)
        images, kept, texts = before.select(held_out), [ours[row] for row in held_out], captions
        where = "held out for the test"
    else:
        images, kept = loader.load(test.scan, test.scan.entries, "untestable")
        train, texts, where = range(len(before)), test.captions, "in the test folder"
    train, issues = leave_out_tested(train, whole, before, after, images, where)
    tested = _captioned(images, kept, texts)
    _check_enough(len(train), len(tested.keys), len(issues), paired.clean.root, own_test=test is not None)
    learned = _captioned(before.select(train), [ours[row] for row in train], captions)
    for what, pictures in (("trained", learned), ("tested", tested)):
        _check_telling(pictures, what)
    names, test_names = ([entry.relative for entry in part] for part in ([ours[row] for row in train], kept))
    near = near_issues(learned.images.numpy(), names, tested.images.numpy(), test_names)
    return RetrievalData(
        train=learned,
        protected=after.select(train).images,
        test=tested,
        test_source="split" if test is None else "folder",
        issues=(*issues, *near, *loader.problems),
    )


def _split(images: ImageSet, entries: Sequence[Entry], captions: CaptionSet, seed: int) -> tuple[list[int], list[int]]:
    by_class = "class" in captions.sources
    labels = [(entry.label or 0) if by_class else 0 for entry in entries]
    keys = list(images.keys) if by_class else [sha256_of(key) for key in images.keys]
    return stratified_split(keys, labels, seed=seed)


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
            f"All {len(pictures.keys)} pictures that are {what} on have the same captions ({some_counted(texts)}): "
            "there is nothing to tell them apart by. Describe them one by one."
        )
