"""Stages, times, sizes and paths in the words people read: the same on the command line and in the window."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

#: What a stage of any run is called.
STAGE_LABELS: Final = {
    "check": "Checking the folder",
    "plan": "Trying a few pictures",
    "noise": "Checking the noise",
    "read": "Loading pictures",
    "assign": "Finding clusters",
    "fit": "Making the noise",
    "train": "Training the generator",
    "generate": "Making noise from text",
    "write": "Writing protected copies",
    "report": "Writing the report",
    "prepare": "Preparing what trainers see",
    "verify": "Attacking the protection",
    "draw": "Drawing sample pictures",
    "compare": "Comparing pictures",
    "preview": "Trying the strengths",
}

#: Seconds before which nothing can be said of the time left.
_SOON: Final = 2.0


def duration(seconds: float) -> str:
    """Seconds in a form people read: ``8 s``, ``2 min 05 s``, ``3 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def pace(each_second: float) -> str:
    """Pictures a second in a form people read, or seconds a picture where that is slow; empty where there is none."""
    if each_second <= 0:
        return ""
    if each_second >= 1:
        return f"{each_second:.1f} pictures a second"
    seconds = 1 / each_second
    return f"{duration(seconds) if seconds > 10 else f'{seconds:.1f} s'} a picture"


def time_left(done: float, total: float, elapsed: float) -> str:
    """Time left, told from the seconds that ``done`` of ``total`` took; empty where that says nothing yet."""
    return f"about {duration(elapsed * (total - done) / done)} left" if 0 < done < total and elapsed > _SOON else ""


def amount(done: float, total: float) -> str:
    """How much is done: files are counted, a fraction (``total`` of at most 1) is shown in per cent; empty where the
    total is not known (0)."""
    if total <= 1:
        return f"{100 * done / total:.0f} %" if total else ""
    return f"{done:.0f}/{total:.0f}"


def size(count: float) -> str:
    """Bytes in a form people read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"


def quoted(path: Path | str) -> str:
    """A path as a shell takes it for one argument, and not for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
