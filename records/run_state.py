"""What a run leaves behind while it is under way, so that the same command can go on after a kill.

All of it lies in files (never folders: ImageFolder would take a hidden folder for a class) next to the result, and is
removed when the run is done. Among it is the bank, the key that takes the protection off.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ..errors import OutputError, ResumeError
from .files import atomic_file
from .manifest import image_key
from .on_disk import LinesOnDisk, Names, Rows, Table, as_blob, as_text
from .places import open_own, open_regular
from .text import parse_json

STATE_PREFIX = ".bitterant-state."
_SCHEMA = 2
#: Files that are named where several are meant.
_SHOWN: Final = 3

InputKind = Literal["image", "caption", "label_map", "skipped", "failed"]
_KINDS: Final[tuple[InputKind, ...]] = get_args(InputKind)


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


class InputList(Rows[InputRecord]):
    """Inputs that do not stay in memory: each is made when it is asked for.

    Args:
        records: the inputs; a sha256 is 64 hexadecimal digits.
    """

    def __init__(self, records: Iterable[InputRecord] = ()) -> None:
        columns = {"name": "BLOB", "kind": "TEXT", "sha256": "BLOB", "class_name": "BLOB", "reason": "BLOB"}
        super().__init__(Table(**columns), ", ".join(columns), _record)
        self.names = Names(self.table)
        for record in records:
            digest = None if record.sha256 is None else bytes.fromhex(record.sha256)
            if digest is not None and len(digest) != 32:
                raise ValueError("a sha256 of another length")
            texts = (as_blob(record.class_name), as_blob(record.reason))
            self.table.append(as_blob(record.relative), record.kind, digest, *texts)


def _record(
    name: bytes, kind: InputKind, sha256: bytes | None, class_name: bytes | None, reason: bytes | None
) -> InputRecord:
    return InputRecord(
        os.fsdecode(name), kind, None if sha256 is None else sha256.hex(), as_text(class_name), as_text(reason)
    )


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

    def read(self) -> Iterator[tuple[str, str]]:
        """All (output, sha256) noted so far; half a line at the end is left out."""
        try:
            file = open_regular(self.path)
        except FileNotFoundError:
            return
        with file:
            for line in file:
                try:
                    output, sha256 = parse_json(line)
                except (ValueError, TypeError):
                    continue
                if line.endswith(b"\n") and isinstance(output, str) and isinstance(sha256, str):
                    yield output, sha256


def explain_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, one short text each; empty where they are the same.

    Of another method only the settings that both have are compared.
    """
    texts = _differences(before, now)
    if "method" not in texts:
        return [*texts.values()]
    both = (name for name in texts if name != "method" and name in before and name in now)
    return [texts["method"], *(texts[name] for name in both)]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """By name; what stands within a setting after the others, and once where it stands beside them too."""
    found: dict[str, str] = {}
    within: dict[str, str] = {}
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            within |= _differences(old, new)
        elif _json(old) != _json(new):
            found[name] = f"{name} was {_say(name, old)}, is now {_say(name, new)}"
    return {**found, **{name: text for name, text in within.items() if name not in found}}


def explain_inputs(before: Iterable[tuple[str, str | None]], now: Iterable[tuple[str, str | None]]) -> list[str]:
    """What differs between two lists of (relative path, sha256); empty where they are the same."""
    olds, news = iter(before), iter(now)
    while (first := next(olds, None)) == (second := next(news, None)):
        if first is None:
            return []
    both = Table(name="BLOB", sha256="TEXT", later="INTEGER")
    for later, pairs in enumerate((chain([first], olds), chain([second], news))):
        for name, sha256 in (pair for pair in pairs if pair is not None):
            both.append(as_blob(name), sha256 or "", later)
    question = "SELECT name, min(later), max(later), min(sha256) != max(sha256) FROM rows GROUP BY name ORDER BY name"
    groups: dict[str, list[str]] = {"new": [], "gone": [], "changed": []}
    counts: Counter[str] = Counter()
    for name, least, most, differs in both.answers(question):
        word = ("new" if least else "gone") if least == most else "changed" if differs else ""
        counts[word] += 1
        if word and len(groups[word]) < _SHOWN:
            groups[word].append(os.fsdecode(name))
    return [
        f"{_count(counts[word], word)} ({', '.join(names)}{', ...' * (counts[word] > len(names))})"
        for word, names in groups.items()
        if names
    ]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _say(name: str, value: object) -> str:
    if name == "epsilon" and isinstance(value, int | float):
        return f"{value * 255:g}/255"
    return "not set" if value is None else str(value)


def _count(count: int, word: str) -> str:
    return f"{count} {'file is' if count == 1 else 'files are'} {word}"
