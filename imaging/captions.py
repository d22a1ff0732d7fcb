"""Where the caption of each picture comes from: the first of several places that has one.

In order: a text file of the same name; a ``metadata.jsonl``, ``.csv`` or ``.parquet`` beside the picture or above it; a
COCO captions file that was named; the name of the class folder in a sentence; a captioner that looks at the picture
here. A picture that none of them has a caption for is listed, never given a generic one that nobody asked for.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from ..errors import CaptionError, ImageError, UnknownNameError
from ..records.text import counted, counted_of
from .caption_files import (
    DEFAULT_TEMPLATE,
    SOME_TOKENS,
    Found,
    Names,
    are_boxes,
    check_template,
    class_words,
    fill_template,
    normalise_caption,
    read_coco,
    read_sidecar,
    read_table,
    stem_of,
    token_estimate,
)
from .loading import FileProblem
from .scan import CAPTION_NAMES, CAPTION_SUFFIXES, LOOSE, Entry, FolderScan

CaptionSource = Literal["sidecar", "metadata", "coco", "class", "captioner", "fallback"]
#: Looks at the picture file at a path and says what it shows. Runs here: the picture goes nowhere.
Captioner = Callable[[Path], str]

_ASKABLE: Final = tuple(name for name in get_args(CaptionSource) if name != "fallback")
_LISTED: Final = 10


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """Where to look.

    Attributes:
        source: ``auto`` for all places in their order, or one of them alone.
        template: the sentence for class names, with ``{}`` for the name.
        column: the column of captions in metadata tables; found by its name if left out.
        coco: a COCO captions file.
        class_names: what class folders are called, where their names are numbers or ids.
        captioner: describes pictures that have no caption.
        fallback: the caption of every picture that has none; an error if left out.
    """

    source: str = "auto"
    template: str = DEFAULT_TEMPLATE
    column: str | None = None
    coco: Path | None = None
    class_names: Mapping[str, str] = field(default_factory=dict)
    captioner: Captioner | None = None
    fallback: str | None = None

    def check(self) -> None:
        """Raise for what cannot be meant.

        Raises:
            CaptionError: a template without a place for the name, or a source that lacks its file.
            UnknownNameError: no such source.
        """
        if self.source not in ("auto", *_ASKABLE):
            raise UnknownNameError("caption source", self.source, ["auto", *_ASKABLE])
        check_template(self.template)
        if self.source == "coco" and self.coco is None:
            raise CaptionError("The source coco needs its file: --coco captions.json.")
        if self.source == "captioner" and self.captioner is None:
            raise CaptionError("The source captioner needs a model: --captioner DIR.")
        if self.fallback is not None and not normalise_caption(self.fallback):
            raise CaptionError("The fallback caption is empty.")


@dataclass(frozen=True, slots=True)
class ImageCaption:
    """The captions of one picture, one or more, and where they come from."""

    captions: tuple[str, ...]
    source: CaptionSource

    @property
    def first(self) -> str:
        """The one that counts where only one can."""
        return self.captions[0]


@dataclass(frozen=True)
class CaptionSet:
    """What :func:`read_captions` found.

    Attributes:
        captions: by path of the picture below the root, in the order of the scan.
        problems: caption files, or lines of them, that could not be used.
        warnings: what the user should know.
    """

    captions: dict[str, ImageCaption]
    problems: tuple[FileProblem, ...]
    warnings: tuple[str, ...]

    @property
    def sources(self) -> dict[str, int]:
        """How many pictures have their caption from where."""
        return dict(Counter(caption.source for caption in self.captions.values()))


def read_captions(
    scan: FolderScan, options: CaptionOptions | None = None, *, suggest_fallback: bool = True
) -> CaptionSet:
    """The captions of a folder's pictures.

    Args:
        scan: the folder.
        options: where to look; everywhere that needs no file or model if left out.
        suggest_fallback: whether the error about pictures without a caption names one caption for all as a way out.

    Raises:
        CaptionError: pictures without a caption, which it lists; or a file that was named cannot be used.
        UnknownNameError: no such source.
    """
    options = options or CaptionOptions()
    options.check()
    reader = _Reader(scan, options)
    captions: dict[str, ImageCaption] = {}
    missing: list[str] = []
    for entry in scan.entries:
        found = reader.caption_of(entry)
        if found is None:
            missing.append(entry.relative)
        else:
            captions[entry.relative] = found
    if missing:
        raise CaptionError(_say_missing(scan, missing, reader, suggest_fallback=suggest_fallback))
    return CaptionSet(captions, tuple(reader.problems), (*_warnings(scan, captions), *reader.warnings()))


class _Reader:
    """The files of a folder that hold captions, read once."""

    def __init__(self, scan: FolderScan, options: CaptionOptions) -> None:
        self.options = options
        self.root = scan.root
        self.problems: list[FileProblem] = []
        self.unnamed: set[str] = set()
        self.boxes = 0
        names = Names(entry.relative for entry in scan.entries)
        files = [(relative, posixpath.basename(relative).lower()) for relative in scan.captions]
        self.sidecars: dict[str, list[str]] = {}
        if self._wants("sidecar"):
            for relative, name in files:
                if name.endswith(CAPTION_SUFFIXES):
                    self.sidecars.setdefault(stem_of(relative), []).append(relative)
        self.tables: dict[str, tuple[str, ...]] = {}
        if self._wants("metadata"):
            found = {relative: self._table(relative, names) for relative, name in files if name in CAPTION_NAMES}
            # The table nearest to a picture counts, so the outermost are entered first and written over.
            for relative in sorted(found, key=lambda path: path.count("/")):
                self.tables.update(found[relative].captions)
        self.coco = Found()
        if options.coco is not None and self._wants("coco"):
            self.coco = read_coco(options.coco, names)
            self.problems += self.coco.problems

    def caption_of(self, entry: Entry) -> ImageCaption | None:
        """The first place that has a caption for a picture."""
        relative = entry.relative
        if captions := self._sidecar(relative):
            return ImageCaption(captions, "sidecar")
        if captions := self.tables.get(relative):
            return ImageCaption(captions, "metadata")
        if captions := self.coco.captions.get(relative):
            return ImageCaption(captions, "coco")
        if entry.class_name is not None and entry.class_name != LOOSE and self._wants("class"):
            words = class_words(entry.class_name, self.options.class_names)
            if words is not None:
                return ImageCaption((fill_template(self.options.template, words),), "class")
            self.unnamed.add(entry.class_name)
        if self.options.captioner is not None and self._wants("captioner"):
            try:
                if caption := normalise_caption(self.options.captioner(entry.path)):
                    return ImageCaption((caption,), "captioner")
                self.problems.append(FileProblem(relative, "the captioner had nothing to say"))
            except ImageError as error:
                self.problems.append(FileProblem(relative, error.reason))
        if self.options.fallback is not None:
            return ImageCaption((normalise_caption(self.options.fallback),), "fallback")
        return None

    def warnings(self) -> list[str]:
        """What the user should know of files that were read in vain."""
        if not self.boxes:
            return []
        return [
            f"{self.boxes} text files beside pictures hold numbers, such as YOLO's boxes: they are copied, and not "
            "taken for captions."
        ]

    def _wants(self, source: CaptionSource) -> bool:
        return self.options.source in ("auto", source)

    def _sidecar(self, relative: str) -> tuple[str, ...]:
        for path in self.sidecars.get(stem_of(relative), ()):
            try:
                captions = read_sidecar(self.root / path)
                if not are_boxes(captions):
                    return captions
                self.boxes += 1
            except CaptionError as error:
                self.problems.append(FileProblem(path, str(error)))
        return ()

    def _table(self, relative: str, names: Names) -> Found:
        found = read_table(self.root / relative, posixpath.dirname(relative), names, self.options.column)
        self.problems += found.problems
        return found


def _say_missing(scan: FolderScan, missing: list[str], reader: _Reader, *, suggest_fallback: bool) -> str:
    names = ", ".join(missing[:_LISTED]) + (f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else "")
    text = f"{counted_of(len(missing), len(scan.entries), 'picture', 'has', 'have')} no caption: {names}."
    if reader.unnamed:
        folders = ", ".join(sorted(reader.unnamed)[:3])
        text += f" Folder names such as {folders} are ids: give their names with --class-names FILE."
    if reader.problems:
        some = "; ".join(f"{problem.relative}: {problem.reason}" for problem in reader.problems[:3])
        text += f" Caption files with faults: {len(reader.problems)} ({some})."
    last = ', or choose one caption for all of them: --fallback-caption "a photo".' if suggest_fallback else "."
    return (
        f"{text} Put a text file NAME.txt beside each picture, or a metadata.jsonl, or sort the pictures into class "
        f"folders{last}"
    )


def _warnings(scan: FolderScan, captions: Mapping[str, ImageCaption]) -> list[str]:
    warnings = []
    free = Counter(caption.first for caption in captions.values() if caption.source != "class")
    if free and not scan.labelled:
        caption, count = free.most_common(1)[0]
        if count > 1 and count > len(captions) / 2:
            warnings.append(
                f"{count} of {len(captions)} pictures share the caption {caption!r}. The same caption gives nearly the "
                "same noise, which tells a trainer nothing about what is in a picture: describe them one by one."
            )
    long = sum(token_estimate(caption) > SOME_TOKENS for caption in free.elements())
    if long:
        warnings.append(
            f"{counted(long, 'caption is', 'captions are')} longer than the {SOME_TOKENS} tokens that a CLIP "
            "text encoder reads; it cuts off the rest."
        )
    return warnings
