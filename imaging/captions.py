"""Where the caption of each picture comes from: the first of several places that has one.

In order: a text file of the same name; a ``metadata.jsonl``, ``.csv`` or ``.parquet`` beside the picture or above it;
a COCO captions file that was named; the name of the class folder in a sentence; a captioner that looks at the picture
here. A picture that none of them has a caption for is listed, never given a generic one that nobody asked for.

In this module: captions and class names as text; readers of the files, each of which gives what it could use and says
what it could not; and the choice among the places.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, get_args

from ..errors import CaptionError, ImageError, SetupError, UnknownNameError
from ..records.places import open_regular
from ..records.text import counted, counted_of, parse_json, some, some_counted
from .loading import FileProblem
from .scan import CAPTION_NAMES, CAPTION_SUFFIXES, LOOSE, Entry, FolderScan
from .tables import csv_delimiter, is_name_column, read_parquet

_KINDS = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")

#: The prompts of the T2UE authors' code for sample-wise noise (CLIP's own style), the plain one first.
CLASS_TEMPLATES: Final = tuple(
    f"a {kind}photo of {article} {{}}." for article in ("a", "the") for kind in _KINDS
) + tuple(f"a photo of {article} {size} {{}}." for article in ("a", "the") for size in ("small", "big"))
DEFAULT_TEMPLATE: Final = CLASS_TEMPLATES[0]

#: Those that the embedded generator was trained with, and whose number is drawn by a picture's key: the same but for
#: sizes, which stand before the word photo. Noise that was made of them must come out again.
GENERATOR_TEMPLATES: Final = tuple(
    f"a {kind}photo of {article} {{}}." for article in ("a", "the") for kind in (*_KINDS, "small ", "big ")
)

#: CLIP's text towers read 77 tokens, two of which mark beginning and end; the rest of a caption is cut off.
SOME_TOKENS: Final = 75

_PIECES: Final = re.compile(r"\w+|[^\w\s]")
#: WordNet ids such as n01440764, and names that are numbers only: they tell a text encoder nothing.
_OPAQUE_NAME: Final = re.compile(r"(?:[nvars]\d{6,9}|\d+)\Z")


def normalise_caption(text: str) -> str:
    """The caption in Unicode NFC on one line: control characters and runs of white space become one space."""
    text = unicodedata.normalize("NFC", text)
    # Cf as a whole would break emoji and some scripts apart; only what is no text at all goes.
    plain = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in text)
    return " ".join(plain.replace("\ufeff", " ").split())


def token_estimate(caption: str) -> int:
    """At least so many tokens a caption takes: one for each word and each mark."""
    return len(_PIECES.findall(caption))


def check_template(template: str) -> str:
    """The template, normalised.

    Raises:
        CaptionError: it has not exactly one place ``{}`` for the class name.
    """
    template = normalise_caption(template)
    if template.count("{}") != 1:
        raise CaptionError(
            f'The template {template!r} needs exactly one {{}} where the class name goes, as in "{DEFAULT_TEMPLATE}".'
        )
    return template


def fill_template(template: str, name: str) -> str:
    """The sentence for a class. Braces in the name are text."""
    return normalise_caption(template.replace("{}", name))


def class_words(folder: str, names: Mapping[str, str]) -> str | None:
    """The words for a class folder; ``None`` where its name is a bare number or WordNet id and ``names`` lacks it."""
    if folder in names:
        return normalise_caption(names[folder])
    if _OPAQUE_NAME.match(folder):
        return None
    return normalise_caption(folder.replace("_", " ")) or None


#: Columns that hold captions in Hugging Face's tables, the first that is there wins.
CAPTION_COLUMNS: Final = ("text", "caption", "prompt", "captions")

#: A class and the corners of a box or an outline: ``0 0.5 0.5 0.2 0.3``.
_NUMBERS: Final = re.compile(r"[-+]?[\d.]+(?:e[-+]?\d+)?(?:[ ,;\t]+[-+]?[\d.]+(?:e[-+]?\d+)?){3,}", re.IGNORECASE)

#: A text file beside a picture that is larger than this is no caption.
_SIDECAR_BYTES: Final = 1 << 20


@dataclass
class FoundCaptions:
    """Captions by picture (path below the root), and what could not be used."""

    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)


class PictureNames:
    """The pictures of a folder, found by the names that tables use for them.

    Accents are compared in their composed form: a disk may store them decomposed, as macOS once did.
    """

    def __init__(self, relatives: Iterable[str]) -> None:
        self._by_path = {_fold(relative): relative for relative in relatives}
        self._by_name: dict[str, list[str]] = {}
        for relative in self._by_path.values():
            self._by_name.setdefault(_fold(posixpath.basename(relative)), []).append(relative)

    def at(self, folder: str, name: str) -> str | None:
        """The picture ``name``, relative to ``folder``; ``None`` where there is none."""
        for spelt in (name, name.replace("\\", "/")):  # a table made on Windows
            found = self._by_path.get(_fold(posixpath.normpath(posixpath.join(folder, spelt))))
            if found is not None:
                return found
        return None

    def called(self, name: str) -> list[str]:
        """All pictures of that file name, in whatever folder."""
        return self._by_name.get(_fold(posixpath.basename(name)), [])


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def read_sidecar(path: Path) -> tuple[str, ...]:
    """The captions of a text file beside a picture: one for each line that is not empty.

    Raises:
        CaptionError: it cannot be read, is no UTF-8 text, is too large, or holds no caption.
    """
    data = _bytes_of(path, _SIDECAR_BYTES)
    captions = _distinct(normalise_caption(line) for line in _text_of(data).splitlines())
    if not captions:
        raise CaptionError("it holds no caption")
    return captions


def are_boxes(captions: Iterable[str]) -> bool:
    """Whether the lines of a text file are numbers alone: labels of objects (YOLO), no captions."""
    return all(_NUMBERS.fullmatch(caption) for caption in captions)


def read_table(path: Path, folder: str, names: PictureNames, column: str | None) -> FoundCaptions:
    """The captions of a ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``.

    Args:
        path: the file.
        folder: where it lies below the root; its ``file_name`` values are relative to that.
        names: the pictures.
        column: the one with captions; found by its name if left out.
    """
    found = FoundCaptions()
    relative = posixpath.join(folder, path.name)
    try:
        for line, row in _table_rows(path):
            problem = row if isinstance(row, str) else _take_row(row, folder, names, column, found)
            if problem is not None:
                found.problems.append(FileProblem(relative, f"line {line}: {problem}"))
    except (CaptionError, SetupError, csv.Error) as error:
        found.problems.append(FileProblem(relative, str(error)))
    return found


def _table_rows(path: Path) -> Iterable[tuple[int, dict[str, Any] | str]]:
    data = _bytes_of(path)
    if path.suffix.lower() == ".parquet":
        try:
            return enumerate(read_parquet(data).to_pylist(), start=1)
        except (ValueError, OverflowError) as error:
            raise CaptionError(f"a value in it cannot be read: {error}") from error
    text = _text_of(data)
    return _csv_rows(text) if path.suffix.lower() == ".csv" else _jsonl_rows(text)


def _jsonl_rows(text: str) -> Iterable[tuple[int, dict[str, Any] | str]]:
    # Not splitlines(): U+2028 and the like may stand inside a JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, finite=False)
        except ValueError as error:
            yield number, str(error)
            continue
        yield number, row if isinstance(row, dict) else "no JSON object"


def _csv_rows(text: str) -> Iterable[tuple[int, dict[str, Any] | str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text))
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if name is not None}


def _take_row(
    row: Mapping[str, Any], folder: str, names: PictureNames, column: str | None, found: FoundCaptions
) -> str | None:  # fmt: skip
    """Put one row's captions where they belong; returns why that cannot be."""
    cells = [value for key, value in row.items() if is_name_column(key)]
    named = [name for cell in cells for name in (cell if isinstance(cell, list) else [cell])]
    named = [name for name in named if isinstance(name, str) and name]
    if not named:
        return "no file_name"
    # Several pictures in a row share its caption; a table may tell of pictures that were left out.
    pictures = [picture for name in dict.fromkeys(named) if (picture := names.at(folder, name)) is not None]
    if not pictures:
        return None
    wanted = (column,) if column is not None else CAPTION_COLUMNS
    key = next((key for key in wanted if row.get(key) not in (None, "", [])), None)
    if key is None:
        return f"no caption ({column or ', '.join(CAPTION_COLUMNS)})"
    values = row[key] if isinstance(row[key], list) else [row[key]]
    if not all(isinstance(value, str) for value in values):
        return f"{key} is neither a text nor a list of texts"
    captions = _distinct(normalise_caption(value) for value in values)
    if not captions:
        return f"{key} is empty"
    for picture in pictures:
        found.captions[picture] = (*found.captions.get(picture, ()), *captions)
    return None


def read_coco(path: Path, names: PictureNames) -> FoundCaptions:
    """The captions of a COCO ``captions_*.json``. Pictures are found by path below the root, else by file name.

    Raises:
        CaptionError: it is no such file.
    """
    try:
        data = parse_json(_bytes_of(path), repeats=True)
        files = {image["id"]: image["file_name"] for image in data["images"]}
        if not all(isinstance(name, str) for name in files.values()):
            raise TypeError("names that are no text")
        captions: dict[str, list[str]] = {}
        for note in data["annotations"]:
            captions.setdefault(files.get(note["image_id"], ""), []).append(str(note["caption"]))
    except (ValueError, KeyError, TypeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        if isinstance(error, TypeError):
            why = "it is JSON of another form"
        raise CaptionError(f"{path} is not a COCO captions file (images, annotations with captions): {why}.") from error
    found = FoundCaptions()
    for name, texts in captions.items():
        exact = names.at("", name)
        pictures = [exact] if exact is not None else names.called(name)
        if len(pictures) > 1:
            found.problems.append(FileProblem(pictures[0], f"{path.name} means {name}, of which there are several"))
            continue
        cleaned = _distinct(normalise_caption(text) for text in texts)
        if pictures and cleaned:
            found.captions[pictures[0]] = cleaned
    return found


def read_class_names(path: Path) -> dict[str, str]:
    """What the class folders are called: a JSON object, a JSON list (by number), or lines such as ``n01440764 tench``.

    Of several names with commas between them the first counts.

    Raises:
        CaptionError: it is none of these.
    """
    data = _bytes_of(path)
    if path.suffix.lower() == ".json":
        try:
            found = parse_json(data)
        except ValueError as error:
            raise CaptionError(f"{path} holds no names: {error}.") from error
        pairs = dict(enumerate(found)) if isinstance(found, list) else found
        if not isinstance(pairs, dict) or not all(isinstance(name, str) for name in pairs.values()):
            raise CaptionError(f"{path} holds neither an object of folder and name nor a list of names.")
    else:
        pairs = {}
        try:
            text = _text_of(data)
        except CaptionError as error:
            raise CaptionError(f"{path} holds no names: {error}.") from error
        for number, line in enumerate(text.splitlines(), start=1):
            parts = re.split(r"[\s,;=:]+", line.strip(), maxsplit=1)
            if len(parts) == 2 and parts[1]:
                pairs[parts[0]] = parts[1]
            elif line.strip():
                raise CaptionError(f"{path}, line {number}: write the folder, a space and the name.")
    first: Callable[[str], str] = lambda name: normalise_caption(name.split(",")[0].replace("_", " "))  # noqa: E731
    return {str(folder): first(name) for folder, name in pairs.items() if first(name)}


def stem_of(relative: str) -> str:
    """The path without its last ending: what a picture and its text file share."""
    return str(PurePosixPath(relative).with_suffix(""))


def _bytes_of(path: Path, limit: int | None = None) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as error:
        raise CaptionError(f"{path} cannot be read: {error.strerror or error}") from error
    if limit is not None and len(data) > limit:
        raise CaptionError(f"it is larger than {limit >> 20} MiB, so it is no caption")
    return data


def _text_of(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionError(f"it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _distinct(captions: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(caption for caption in captions if caption))


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
        names = PictureNames(entry.relative for entry in scan.entries)
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
        self.coco = FoundCaptions()
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

    def _table(self, relative: str, names: PictureNames) -> FoundCaptions:
        found = read_table(self.root / relative, posixpath.dirname(relative), names, self.options.column)
        self.problems += found.problems
        return found


def _say_missing(scan: FolderScan, missing: list[str], reader: _Reader, *, suggest_fallback: bool) -> str:
    count = counted_of(len(missing), len(scan.entries), "picture", "has", "have")
    text = f"{count} no caption: {some_counted(missing, _LISTED)}."
    if reader.unnamed:
        folders = some(sorted(reader.unnamed))
        text += f" Folder names such as {folders} are ids: give their names with --class-names FILE."
    if reader.problems:
        faults = (f"{problem.relative}: {problem.reason}" for problem in reader.problems)
        text += f" Caption files with faults: {len(reader.problems)} ({some(faults, joint='; ')})."
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
