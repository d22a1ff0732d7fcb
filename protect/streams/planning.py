"""The dry run: what the first pictures tell of the whole."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import ImageError
from ...imaging.loading import FileProblem
from ...records.manifest import ManifestRow
from ...records.stores import Item
from ...records.text import spread
from .pictures import plain_row
from .summary import MOST_PROBLEMS, StreamPlan
from .work import Worker

#: Pictures that are tried.
_TRIED: Final = 8


@dataclass
class _Tried:
    """Rows of the pictures tried, their number, and their bytes before and after."""

    rows: list[ManifestRow] = field(default_factory=list)
    pictures: int = 0
    before: int = 0
    after: int = 0


def make_plan(worker: Worker, settings: dict[str, Any], shown: str) -> StreamPlan:
    """Try a few pictures and extrapolate. Writes nothing.

    Args:
        worker: would do the work.
        settings: everything that decides about the result.
        shown: SRC as people may see it.

    Raises:
        OutputError: SRC is gone.
    """
    source = worker.source
    started = time.perf_counter()
    tried = _try_pictures(worker) if source.kind == "pictures" else _try_shard(worker, source.items[0])
    seconds = time.perf_counter() - started
    size = source.size
    known = [row.key for row in tried.rows if row.key is not None]
    classes = Counter(key.rpartition("/")[0] or key for key in known)
    problems = [FileProblem(row.source, row.reason or "") for row in tried.rows if row.is_problem]
    return StreamPlan(
        kind=source.kind,
        source=shown,
        output=worker.output.shown,
        tasks=len(source.items),
        bytes_in=size,
        bytes_out=round(size * tried.after / tried.before) if tried.before else size,
        seconds=seconds * size / tried.before / worker.config.threads if tried.before else 0.0,
        classes=dict(classes.most_common()),
        sampled=tried.pictures,
        settings=settings,
        problems=[*problems, *source.skipped][:MOST_PROBLEMS],
        warnings=worker.config.warnings(),
    )


def _try_pictures(worker: Worker) -> _Tried:
    tried = _Tried()
    for item in spread(worker.source.items, _TRIED):
        made = worker.make(item)
        tried.rows.append(made.row)
        tried.pictures += 1
        tried.before += item.size
        tried.after += item.size if made.data is None else len(made.data)
    return tried


def _try_shard(worker: Worker, item: Item) -> _Tried:
    tried = _Tried()
    try:
        with worker.source.store.open(item.name) as file:
            shard = worker.open_shard(file, item.name)
            for sample in shard.samples():
                outcome = worker.protect(shard, item.name, sample)
                tried.rows += outcome.rows
                for held in sample.pictures:
                    copy = (outcome.replaced or {}).get(held.name)
                    tried.pictures += 1
                    tried.before += len(held.data or b"")
                    tried.after += len(held.data or b"") if copy is None else len(copy.data)
                if tried.pictures >= _TRIED:
                    break
    except ImageError as error:
        tried.rows.append(plain_row(item.name, "failed", error.reason))
    except OSError as error:
        worker.source.store.check()
        tried.rows.append(plain_row(item.name, "failed", f"cannot be read: {error.strerror or error}"))
    return tried
