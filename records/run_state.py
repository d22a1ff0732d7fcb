"""What a run leaves behind while it is under way, so that the same command can go on after a kill.

All of it lies in files (never folders: ImageFolder would take a hidden folder for a class) next to the result, and is
removed when the run is done. Among it is the bank, the key that takes the protection off.
"""

from __future__ import annotations

import hashlib
import json
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, get_args, overload

from ..errors import OutputError, ResumeError
from .files import atomic_file
from .manifest import image_key
from .packed import LinesOnDisk, PackedNames
from .places import open_own, open_regular, read_regular
from .text import parse_json

STATE_PREFIX = ".bitterant-state."
_SCHEMA = 2

InputKind = Literal["image", "caption", "label_map", "skipped", "failed"]
_KINDS: Final[tuple[InputKind, ...]] = get_args(InputKind)
_WITHOUT: Final = 16  # added to the number of a kind where there is no sha256


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One input of a run as it was found.

    Attributes:
        relative: path below SRC, with forward slashes.
        kind: ``image``, ``caption``, ``label_map`` (copied as it is), ``skipped`` (not ours to change) or ``failed``
            (an image that cannot be read).
        sha256: of its bytes; ``None`` where they do not matter (skipped) or could not be read.
        class_name: the class, or ``None``.
        reason: why it is skipped or failed.
    """

    relative: str
    kind: InputKind
    sha256: str | None = None
    class_name: str | None = None
    reason: str | None = None

    @property
    def key(self) -> str | None:
        """The identity that perturbations are tied to: ``class/sha256``, or ``sha256`` without classes."""
        return None if self.sha256 is None else image_key(self.class_name, self.sha256)


class InputList(Sequence[InputRecord]):
    """Inputs in little memory: each is made when it is asked for.

    Args:
        records: the inputs; a sha256 is 64 hexadecimal digits.
    """

    def __init__(self, records: Iterable[InputRecord] = ()) -> None:
        self.names = PackedNames()
        self._kinds = bytearray()
        self._digests = bytearray()
        # Few texts are said of many files: which class, and why a file is left aside.
        self._texts: dict[str | None, int] = {None: 0}
        self._classes, self._reasons = array("I"), array("I")
        for record in records:
            self._append(record)
        self._said = tuple(self._texts)

    def _append(self, record: InputRecord) -> None:
        self.names.append(record.relative)
        self._kinds.append(_KINDS.index(record.kind) + (_WITHOUT if record.sha256 is None else 0))
        self._digests += bytes(32) if record.sha256 is None else bytes.fromhex(record.sha256)
        self._classes.append(self._texts.setdefault(record.class_name, len(self._texts)))
        self._reasons.append(self._texts.setdefault(record.reason, len(self._texts)))
        if len(self._digests) != 32 * len(self.names):
            raise ValueError("a sha256 of another length")

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> InputRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[InputRecord]: ...
    def __getitem__(self, index: int | slice) -> InputRecord | list[InputRecord]:
        places = range(len(self))[index]
        return [self._at(place) for place in places] if isinstance(places, range) else self._at(places)

    def __iter__(self) -> Iterator[InputRecord]:
        return (self._at(place, name) for place, name in enumerate(self.names))

    def _at(self, place: int, name: str | None = None) -> InputRecord:
        kind = self._kinds[place]
        return InputRecord(
            self.names[place] if name is None else name,
            _KINDS[kind % _WITHOUT],
            None if kind >= _WITHOUT else self._digests[32 * place : 32 * place + 32].hex(),
            self._said[self._classes[place]],
            self._said[self._reasons[place]],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(own == its for own, its in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True)
class StateFiles:
    """Where the state of one run lies.

    Attributes:
        folder: OUT, or the folder of the bank.
        tag: tells the runs of one folder apart; empty in OUT, which has one.
    """

    folder: Path
    tag: str = ""

    def _path(self, part: str) -> Path:
        return self.folder / f"{STATE_PREFIX}{self.tag}{part}"

    @property
    def plan(self) -> Path:
        """Settings and inputs; written first, removed last: while it is there the run is unfinished."""
        return self._path("json")

    @property
    def checkpoint(self) -> Path:
        """The method's own half-way state."""
        return self._path("fit")

    @property
    def bank(self) -> Path:
        """The finished fit. It appears whole, after :attr:`report`."""
        return self._path("bank")

    @property
    def report(self) -> Path:
        """The report of the fit, which a bank file does not carry."""
        return self._path("report")

    @property
    def journal(self) -> Path:
        """The files about to be put in place."""
        return self._path("journal")

    @property
    def lock(self) -> Path:
        """Held by the process that is running."""
        return self._path("lock")

    @property
    def kept(self) -> tuple[Path, ...]:
        """All but the lock, the plan last. Exact names: in a folder of banks those of another may begin alike."""
        return (self.checkpoint, self.bank, self.journal, self.report, self.plan)

    def remove(self) -> None:
        """Remove all state, the plan last.

        Raises:
            OutputError: a file cannot be removed.
        """
        for path in self.kept:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{path} cannot be removed: {error.strerror}. Remove it by hand.") from error


@dataclass(frozen=True)
class RunState:
    """Settings and inputs of a run under way.

    Attributes:
        settings: everything that decides about the result, JSON-safe.
        inputs: every input, in the order of the manifest; of a state that was read, they stay on the disk.
        versions: of the packages that can change a byte of the result.
        fitted: of a fit alone, once it is done: ``bank`` (its sha256), ``report``, ``seconds``. What is left to do then
            is to put the bank in its place and to remove the state.
    """

    settings: Mapping[str, Any]
    inputs: Sequence[InputRecord]
    versions: Mapping[str, str]
    fitted: Mapping[str, Any] | None = None

    def write(self, path: Path, *, overwrite: bool) -> None:
        """Write it whole, readable by its owner alone: a line of JSON, and one for each input.

        Raises:
            ConfigError, OutputError: as :func:`~bitterant.records.files.write_atomic`.
        """
        head = {"schema": _SCHEMA, "settings": self.settings, "versions": self.versions, "fitted": self.fitted}
        with atomic_file(path, overwrite=overwrite, private=True) as file:
            file.write(_line({**head, "inputs": len(self.inputs)}))
            for record in self.inputs:
                file.write(_line([record.relative, record.kind, record.sha256, record.class_name, record.reason]))

    @classmethod
    def read(cls, path: Path) -> RunState | None:
        """Read a state; ``None`` where there is none.

        Raises:
            ResumeError: it is damaged or of another version.
        """
        try:
            with open_regular(path) as file:
                data = parse_json(file.readline())
                if data["schema"] != _SCHEMA:
                    raise ValueError(f"schema {data['schema']!r:.20}")
                fitted = data["fitted"]
                count = sum(1 for _ in map(_input, file))
                if count != data["inputs"]:
                    raise ValueError(f"{count} inputs of {data['inputs']!r:.20}")
            inputs = LinesOnDisk(path, _known_input, count, skip=1)
            return cls(dict(data["settings"]), inputs, dict(data["versions"]), None if fitted is None else dict(fitted))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResumeError(
                f"{path} is damaged or of another version of bitterant ({error!s:.200}). "
                "Start again with --no-resume (in Python: resume=False)."
            ) from error


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _input(line: bytes) -> InputRecord:
    """One input as :meth:`RunState.write` wrote it.

    Raises:
        TypeError, ValueError: it is none.
    """
    record = InputRecord(*parse_json(line))
    texts = (record.sha256, record.class_name, record.reason)
    if not isinstance(record.relative, str) or not all(text is None or isinstance(text, str) for text in texts):
        raise TypeError("inputs of another kind")
    if record.kind not in _KINDS:
        raise ValueError("inputs of another kind")
    return record


def _known_input(line: bytes) -> InputRecord:
    """As :func:`_input`, of a line that was found to be sound: they are gone through several times."""
    return InputRecord(*json.loads(line))


def decisive_inputs(records: Iterable[InputRecord]) -> Iterator[tuple[str, str | None]]:
    """(relative path, sha256) of the inputs that decide about the result: all but the skipped ones. A desktop's hidden
    file that appears between two parts of a run changes no picture."""
    return ((record.relative, record.sha256) for record in records if record.kind != "skipped")


def plan_hash(settings: Mapping[str, Any], records: Iterable[InputRecord]) -> str:
    """sha256 over what decides about the result: the settings and the (relative path, sha256) of every decisive input.

    It is that of the JSON text ``[settings, [[path, sha256], ...]]`` with sorted names, the inputs sorted by path.
    ``records`` are gone through more than once.
    """
    digest = hashlib.sha256(b"[" + json.dumps(settings, sort_keys=True).encode("ascii") + b", [")
    before = b""
    for pair in _by_path(records):
        digest.update(before + json.dumps(pair).encode("ascii"))
        before = b", "
    digest.update(b"]]")
    return digest.hexdigest()


def _by_path(records: Iterable[InputRecord]) -> Iterable[tuple[str, str | None]]:
    """Decisive inputs sorted by path as text. In the manifest's order they are so, but for undecodable names."""
    if all(one <= other for one, other in pairwise(record.relative for record in records)):
        return decisive_inputs(records)
    return sorted(decisive_inputs(records), key=lambda pair: pair[0])


class Journal:
    """Notes each file before it appears, so that after a kill one without a manifest row is known as ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def note(self, output: str, sha256: str) -> None:
        """Note that ``output`` is about to appear with these bytes. Safe to call from several threads.

        Raises:
            OutputError: the note cannot be written.
        """
        # The newline in front keeps this note whole where a power cut left half a line.
        line = b"\n" + json.dumps([output, sha256]).encode("ascii") + b"\n"
        try:
            # A kill keeps what was handed to the system; only a power cut could lose the note, hence no fsync.
            with self._lock, open_own(self.path, append=True) as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}. Is the disk full?") from error

    def read(self) -> set[tuple[str, str]]:
        """All (output, sha256) noted so far; half a line at the end is left out."""
        noted: set[tuple[str, str]] = set()
        try:
            lines = read_regular(self.path).split(b"\n")
        except FileNotFoundError:
            return noted
        for line in lines[:-1]:
            try:
                output, sha256 = parse_json(line)
            except (ValueError, TypeError):
                continue
            if isinstance(output, str) and isinstance(sha256, str):
                noted.add((output, sha256))
        return noted


def explain_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, one short text each; empty where they are the same."""
    texts = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            texts += explain_settings(old, new)
        elif _json(old) != _json(new):
            texts.append(f"{name} was {_say(name, old)}, is now {_say(name, new)}")
    return texts


def explain_inputs(before: Iterable[tuple[str, str | None]], now: Iterable[tuple[str, str | None]]) -> list[str]:
    """What differs between two lists of (relative path, sha256); empty where they are the same."""
    olds, news = iter(before), iter(now)
    # What both begin with needs no memory.
    while (first := next(olds, None)) == (second := next(news, None)):
        if first is None:
            return []
    old = dict([first] if first is not None else []) | dict(olds)
    new = dict([second] if second is not None else []) | dict(news)
    groups = {
        "new": sorted(new.keys() - old.keys()),
        "gone": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }
    return [f"{_count(names, word)} ({_some(names)})" for word, names in groups.items() if names]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _say(name: str, value: object) -> str:
    if name == "epsilon" and isinstance(value, int | float):
        return f"{value * 255:g}/255"
    return "not set" if value is None else str(value)


def _count(names: Sequence[str], word: str) -> str:
    return f"{len(names)} {'file is' if len(names) == 1 else 'files are'} {word}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
