"""What is written down of a run over shards or objects, and what it hands back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...errors import ResumeError
from ...imaging.loading import FileProblem
from ...records.manifest import ManifestRow, count_statuses
from ...records.run_file import json_safe
from ...records.text import counted, duration, parse_json, size

#: What is kept of problems to tell them at the end; the manifest holds them all.
MOST_PROBLEMS: Final = 1000


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """As indented JSON."""
        return json.dumps(json_safe(self.model_dump(mode="python")), indent=2, allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Any:
        """The inverse.

        Raises:
            ResumeError: it is damaged or of another version.
        """
        try:
            parse_json(data)
            return cls.model_validate_json(data)
        except ValueError as error:
            raise ResumeError(
                f"{where} is damaged or of another version of bitterant. Give another output place, or move it away."
            ) from error


class Input(_Record):
    """An object of SRC that is done: its name, size, what the store says of its version, and the hash of its bytes."""

    name: str
    size: int
    tag: str
    sha256: str


class Written(_Record):
    """An object of OUT: its name, size and the hash of its bytes as they were read back."""

    name: str
    size: int
    sha256: str


class Receipt(_Record):
    """Says that a task is done, and is written last of all that it writes.

    Attributes:
        schema_version: of this file.
        task: which.
        sources: what was read.
        outputs: what was written.
        counts: rows of the manifest by status.
        left_out: samples of a shard that are not in its copy.
        over_budget: pictures whose change is larger than the budget (only ever with ``--format same``).
        worst_levels: the largest change, in 1/255 units.
        notes: what people should know.
    """

    schema_version: Literal[1] = 1
    task: str
    sources: tuple[Input, ...]
    outputs: tuple[Written, ...]
    counts: dict[str, int]
    left_out: int = 0
    over_budget: int = 0
    worst_levels: float = 0.0
    notes: tuple[str, ...] = ()


class StreamRun(_Record):
    """The content of ``run.json`` in the records.

    Attributes:
        schema_version: of this file.
        format: tells it from other JSON.
        kind: ``pictures``, ``tar`` or ``parquet``.
        source: SRC of the last run, without anything secret.
        output: OUT, likewise.
        settings: everything that decides about the result.
        seed: of the bank.
        versions: of Python and the packages that matter, at the last run.
        finished: whether all of SRC was done when it ended.
        tasks: how many are done.
        counts: protected, copied, skipped, failed, over all tasks.
        left_out: samples that are not in the copies of their shards.
        over_budget: pictures whose change is larger than the budget.
        worst_levels: the largest change, in 1/255 units.
        warnings: what the user should know.
        seconds: wall clock of the last run.
        repeat: the command that asks for the same, with ``SRC`` and ``OUT`` for the places.
    """

    schema_version: Literal[1] = 1
    format: Literal["bitterant-stream"] = "bitterant-stream"
    kind: Literal["pictures", "tar", "parquet"]
    source: str
    output: str
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    finished: bool = False
    tasks: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    left_out: int = 0
    over_budget: int = 0
    worst_levels: float = 0.0
    warnings: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    repeat: str | None = None


@dataclass
class Tally:
    """Sums over tasks."""

    tasks: int = 0
    counts: dict[str, int] = field(default_factory=lambda: count_statuses(()))
    left_out: int = 0
    over_budget: int = 0
    worst_levels: float = 0.0

    def add(self, receipt: Receipt) -> None:
        """Add a task."""
        self.tasks += 1
        for status in self.counts:
            self.counts[status] += receipt.counts.get(status, 0)
        self.left_out += receipt.left_out
        self.over_budget += receipt.over_budget
        self.worst_levels = max(self.worst_levels, receipt.worst_levels)


def receipt_of(
    task: str,
    rows: Iterable[ManifestRow],
    sources: Iterable[Input],
    outputs: Iterable[Written],
    *,
    limit: float,
    left_out: int = 0,
    notes: Iterable[str] = (),
) -> Receipt:
    """The receipt of a task; ``limit`` is the budget in 1/255 units."""
    rows = list(rows)
    changes = [row.linf_levels for row in rows if row.linf_levels is not None]
    return Receipt(
        task=task,
        sources=tuple(sources),
        outputs=tuple(outputs),
        counts=count_statuses(rows),
        left_out=left_out,
        over_budget=sum(change > limit for change in changes),
        worst_levels=max(changes, default=0.0),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """The outcome of :func:`apply_stream`.

    Attributes:
        kind: ``pictures``, ``tar`` or ``parquet``: what SRC holds.
        output: OUT, without anything secret.
        records: where the manifest and the run file lie, beside OUT; likewise.
        counts: ``protected``, ``copied``, ``skipped``, ``failed``, over all tasks, those of earlier runs too.
        tasks: how many are done: shards, or groups of pictures.
        resumed: how many of them earlier runs had done.
        left_out: samples that are not in the copies of their shards, since a picture in them is not protected.
        over_budget: pictures whose change is larger than the budget (only ever with ``format="same"``).
        seconds: wall clock of this run.
        images_per_second: pictures protected in this run over ``seconds``.
        problems: what failed or was skipped, in this run and then in earlier ones, the first thousand.
        problem_count: how many there were.
        warnings: what the user should know.
        strict: skipped pictures count as failures.
    """

    kind: str
    output: str
    records: str
    counts: dict[str, int]
    tasks: int
    resumed: int
    left_out: int
    over_budget: int
    seconds: float
    images_per_second: float
    problems: list[FileProblem] = field(default_factory=list)
    problem_count: int = 0
    warnings: list[str] = field(default_factory=list)
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """0, or 1 where something failed or most pictures are left without protection (with ``strict``: where any
        is)."""
        missing = self.counts["failed"] + self.counts["skipped"]
        return int(
            self.counts["failed"] > 0
            or missing > self.counts["protected"]
            or (self.strict and (missing > 0 or self.problem_count > 0))
        )

    @property
    def headline(self) -> str:
        """The outcome in one or two sentences."""
        counts = self.counts
        nothing_left = self.resumed == self.tasks and not counts["failed"]
        done = "Nothing to do, all is finished: " if nothing_left else ""
        parts = [f"{counted(counts['protected'], 'picture')} protected"]
        parts += [f"{counts[name]} {name}" for name in ("copied", "skipped", "failed") if counts[name]]
        where = "" if self.kind == "pictures" else f" in {counted(self.tasks, 'shard')}"
        text = f"{done}{', '.join(parts)}{where}."
        if self.left_out:
            text += f" {counted(self.left_out, 'sample is', 'samples are')} left out of the copies."
        if counts["failed"] + counts["skipped"] > counts["protected"]:
            text += " Most pictures are NOT protected, and are not in the output."
        if self.over_budget:
            text += f" {counted(self.over_budget, 'is', 'are')} over the budget: written as JPEG."
        return text

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        plain = ("kind", "output", "records", "counts", "tasks", "resumed", "left_out", "over_budget", "problem_count")
        return {
            "headline": self.headline,
            "exit_code": self.exit_code,
            **{name: getattr(self, name) for name in plain},
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 3),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What :func:`apply_stream` would do.

    Attributes:
        kind: what SRC holds.
        source: SRC, without anything secret.
        output: OUT, likewise; nothing was written there.
        tasks: shards, or pictures.
        bytes_in: of all that would be read.
        bytes_out: estimated size of OUT.
        seconds: estimated.
        classes: of the pictures tried, and how many of each; unknown ones under ``?``.
        sampled: how many pictures were tried.
        settings: everything that decides about the result.
        problems: pictures of the sample that would fail or be skipped, and what is left aside.
        warnings: what the user should know.
    """

    kind: str
    source: str
    output: str
    tasks: int
    bytes_in: int
    bytes_out: int
    seconds: float
    classes: dict[str, int]
    sampled: int
    settings: dict[str, Any]
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def facts(self) -> list[tuple[str, str]]:
        """Lines for people: a name and what it is."""
        classes = ", ".join(f"{name} ({count})" for name, count in list(self.classes.items())[:12])
        return [
            ("kind", f"{self.tasks} {'pictures' if self.kind == 'pictures' else self.kind + ' shards'}"),
            ("classes", f"{classes or 'none'}, in the first {self.sampled} pictures"),
            ("budget", f"{self.settings['epsilon'] * 255:g} of 255 levels"),
            ("size", f"{size(self.bytes_in)} now, about {size(self.bytes_out)} protected"),
            ("time", f"about {duration(self.seconds)}, without what the network takes"),
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        plain = ("kind", "source", "output", "tasks", "bytes_in", "bytes_out", "classes", "sampled", "warnings")
        return {
            **{name: getattr(self, name) for name in plain},
            "seconds": round(self.seconds, 1),
            "settings": json_safe(self.settings),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
        }
