"""Reading the files that captions come in, and what a caption and a class name look like once they are read.

Each reader gives what it could use and says what it could not.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..errors import CaptionError, SetupError
from ..records.places import open_regular
from ..records.text import parse_json
from .loading import FileProblem
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
class Found:
    """Captions by picture (path below the root), and what could not be used."""

    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)


class Names:
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


def read_table(path: Path, folder: str, names: Names, column: str | None) -> Found:
    """The captions of a ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``.

    Args:
        path: the file.
        folder: where it lies below the root; its ``file_name`` values are relative to that.
        names: the pictures.
        column: the one with captions; found by its name if left out.
    """
    found = Found()
    relative = posixpath.join(folder, path.name)
    try:
        for line, row in _rows(path):
            problem = row if isinstance(row, str) else _take_row(row, folder, names, column, found)
            if problem is not None:
                found.problems.append(FileProblem(relative, f"line {line}: {problem}"))
    except (CaptionError, SetupError, csv.Error) as error:
        found.problems.append(FileProblem(relative, str(error)))
    return found


def _rows(path: Path) -> Iterable[tuple[int, dict[str, Any] | str]]:
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
    row: Mapping[str, Any], folder: str, names: Names, column: str | None, found: Found
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


def read_coco(path: Path, names: Names) -> Found:
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
    found = Found()
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
