"""Rows of a long measurement: each is kept in a file of JSON lines as soon as it is there, so that a run goes on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

__all__ = ["Row", "finish", "kept_rows"]

Row = dict[str, Any]


class Job(Protocol):
    """What makes one row. Its id says all that the row depends on."""

    @property
    def id(self) -> str: ...


J = TypeVar("J", bound=Job)


def kept_rows(file: Path) -> dict[str, Row]:
    """The rows of earlier runs by id; none where the file is missing."""
    if not file.exists():
        return {}
    rows = {}
    for line in file.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # half a line, left by a kill: made again
            continue
        rows[row["id"]] = row
    return rows


def finish(work: Callable[[J], Row], jobs: Iterable[J], file: Path, *, workers: int) -> dict[str, Row]:
    """Make the rows that are missing, in some processes beside each other; return all.

    Args:
        work: makes a row of a job, on one thread.
        jobs: all that are wanted.
        file: JSON lines.
        workers: processes; 1 stays in this one (a GPU).
    """
    rows = kept_rows(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    missing = [job for job in jobs if job.id not in rows]

    def keep(job_rows: Iterable[Row]) -> None:
        for row in job_rows:
            rows[row["id"]] = row
            print(json.dumps(row), flush=True)
            with file.open("a") as handle:
                handle.write(json.dumps(row) + "\n")

    if workers == 1:
        keep(map(work, missing))
    elif missing:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            keep(pool.imap_unordered(work, missing))
    return rows
