"""Which protected file belongs to which original, and what the run file says about how it was made.

What a run file says is told and not trusted.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import FolderError, LabelError
from ...imaging import Entry, FolderScan, scan_folder
from ...records.places import open_regular, sha256_file
from ...records.run_file import records_of
from ...records.text import parse_json, read_json
from ..facts import PairIssue, Protection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """An original and its protected copy."""

    clean: Entry
    protected: Entry


def scan_pictures(folder: Path, what: str) -> FolderScan:
    """Scan a folder of images, in class folders or not.

    Raises:
        FolderError: it is missing or empty.
    """
    scan = scan_folder(folder, follow_links=True)  # only read, never published
    if not scan.entries:
        raise FolderError(f"{what} holds no images: {folder}. Check the path.")
    return scan


def scan_labelled(folder: Path, what: str) -> FolderScan:
    """Scan a folder whose class folders hold the images.

    Raises:
        FolderError: it is missing or empty.
        LabelError: there are no class folders, or only one.
    """
    scan = scan_pictures(folder, what)
    if not scan.labelled:
        raise LabelError(
            f"{what} has no class folders: {folder}. A model can only be trained on labelled pictures; "
            "put each class into a folder of its own, in CLEAN, PROTECTED and the test folder alike."
        )
    if len(scan.classes) == 1:
        raise LabelError(
            f"{what} has one class folder only ({scan.classes[0]!r}): {folder}. At least two classes are needed, "
            "or there is nothing to tell apart."
        )
    return scan


def read_manifest_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of the manifest that a protecting run left in ``folder`` or beside it, one after another; none where there
    is none.

    A line that is not a row (a run that was killed leaves half a last line) is passed over.

    Raises:
        FolderError: it cannot be read.
    """
    path = records_of(folder).manifest
    try:
        with open_regular(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = parse_json(line) if line.strip() else None
                except ValueError:
                    logger.warning("%s: line %d is no manifest row and is passed over", path.name, number)
                    continue
                if isinstance(row, dict) and isinstance(row.get("source"), str):
                    yield row
    except FileNotFoundError:
        return
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_run_settings(folder: Path) -> dict[str, Any] | None:
    """The run file that a protecting run left in ``folder`` or beside it, or ``None``."""
    path = records_of(folder).run_file
    try:
        content = read_json(path, finite=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be used: %s", path.name, error)
        return None
    return content if isinstance(content, dict) else None


def pair_folders(
    clean: FolderScan, protected: FolderScan, rows: Iterable[dict[str, Any]] = ()
) -> tuple[list[Pair], list[PairIssue]]:
    """Match originals and protected copies.

    First by the manifest (``source`` and ``output``), then, for what is left, by the relative path: the same path,
    the path with ``.png`` behind it, or the same path but for the extension. A copy that lies in another class folder
    than its original is reported as relabelled and is not a pair.

    Returns:
        Pairs in the order of ``clean``, and what did not fit.
    """
    matching = _Matching(clean, protected)
    matching.by_manifest(rows)
    for key in (_same, _with_png, _stem):
        matching.by_name(key)
    matching.by_name(_name, across_classes=True)
    return matching.result()


class _Matching:
    """Originals and copies that are still without partner, and the partners found."""

    def __init__(self, clean: FolderScan, protected: FolderScan) -> None:
        self.entries = clean.entries
        self.waiting = {entry.relative: entry for entry in clean.entries}
        self.free = {entry.relative: entry for entry in protected.entries}
        self.pairs: dict[str, Pair] = {}
        self.relabelled: list[PairIssue] = []
        self.reasons: dict[str, str] = {}

    def join(self, entry: Entry, other: Entry) -> None:
        del self.waiting[entry.relative]
        del self.free[other.relative]
        if entry.class_name == other.class_name:
            self.pairs[entry.relative] = Pair(entry, other)
            return
        detail = f"its protected copy lies in class {other.class_name!r} ({other.relative})"
        self.relabelled.append(PairIssue(kind="relabelled", path=entry.relative, detail=detail))

    def by_manifest(self, rows: Iterable[dict[str, Any]]) -> None:
        # The last row of a source counts: a resumed run may have tried a file twice.
        last = {row["source"]: (row.get("output"), row.get("status"), row.get("reason")) for row in rows}
        for source, (output, status, reason) in last.items():
            entry = self.waiting.get(source)
            if entry is None:
                continue
            if isinstance(output, str) and output in self.free:
                self.join(entry, self.free[output])
            elif status in ("skipped", "failed"):
                self.reasons[source] = f"{status}: {reason or 'no reason given'}"

    def by_name(self, key: Callable[[str, bool], str], *, across_classes: bool = False) -> None:
        """Join what has the same key and is the only one of that key on either side."""
        ours: dict[str, list[Entry]] = defaultdict(list)
        theirs: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.waiting.values():
            ours[key(entry.relative, True)].append(entry)
        for entry in self.free.values():
            theirs[key(entry.relative, False)].append(entry)
        for name, found in ours.items():
            others = theirs.get(name, [])
            if len(found) == 1 and len(others) == 1:
                moved = found[0].class_name != others[0].class_name
                if moved == across_classes:
                    self.join(found[0], others[0])

    def result(self) -> tuple[list[Pair], list[PairIssue]]:
        missing = [
            PairIssue(
                kind="missing", path=relative, detail=self.reasons.get(relative, "there is no protected copy of it")
            )
            for relative in self.waiting
        ]
        extra = [
            PairIssue(kind="extra", path=relative, detail="there is no original of it, so it cannot be checked")
            for relative in self.free
        ]
        pairs = [self.pairs[entry.relative] for entry in self.entries if entry.relative in self.pairs]
        return pairs, [*self.relabelled, *missing, *extra]


def _same(relative: str, original: bool) -> str:
    return relative


def _with_png(relative: str, original: bool) -> str:
    return f"{relative}.png" if original else relative


def _stem(relative: str, original: bool) -> str:
    return PurePosixPath(relative).with_suffix("").as_posix()


def _name(relative: str, original: bool) -> str:
    return PurePosixPath(relative).stem


_MOST_TEXT = 500
_NORM = "linf"
"""bitterant's banks know no other (docs/file-formats.md)."""


def stated_budget(epsilon: float | None, run: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """The bound in 1/255 levels, and who stated it: the caller, else the run file, else nobody."""
    if epsilon is not None:
        return epsilon * 255.0, "given by the caller"
    stated = _fraction(_mapping((run or {}).get("settings")).get("epsilon"))
    return (None, "not stated") if stated is None else (stated * 255.0, "stated by the run file")


def stated_protection(run: Mapping[str, Any] | None, folder: Path) -> Protection | None:
    """The facts of a run file that may have been written by any version, or by hand; ``None`` where there is none."""
    if run is None:
        return None
    settings, timing = _mapping(run.get("settings")), _mapping(run.get("timing"))
    surrogate = run.get("surrogate")
    named = surrogate if isinstance(surrogate, str) else _mapping(surrogate).get("name")
    epsilon = _fraction(settings.get("epsilon"))
    return Protection(
        method=_text(settings.get("method")),
        granularity=_text(settings.get("granularity")),
        norm=None if epsilon is None else _NORM,
        epsilon=epsilon,
        surrogate=_text(named),
        surrogate_sha256=_text(_mapping(surrogate).get("sha256")),
        seed=run["seed"] if isinstance(run.get("seed"), int) else None,
        version=_text(_mapping(run.get("versions")).get("bitterant")),
        format=_text(settings.get("format")),
        parameters={str(name): _plain(value) for name, value in settings.items()},
        seconds=_number(timing.get("total")),
        images_per_second=_number(timing.get("images_per_second")),
        manifest_sha256=_manifest_hash(folder),
        repeat=_text(run.get("repeat")),
    )


def _manifest_hash(folder: Path) -> str | None:
    try:
        return sha256_file(records_of(folder).manifest)
    except OSError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fraction(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number <= 1 else None


def _plain(value: object) -> Any:
    """As strict JSON can hold it; long texts are cut, for the file may hold anything."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value).encode("utf-8", "replace").decode("utf-8")[:_MOST_TEXT]
