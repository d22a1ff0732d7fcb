r"""Text for people, and text from outside: made harmless for eyes, or read as JSON or TOML with one kind of error.

Names, captions and what other programs wrote are made harmless before they are shown. A terminal obeys control
sequences, and pages and terminals alike let an override of the writing direction make one name look like another. Such
characters are shown as escapes, ``\x1b`` or ``\u202e``; all others stay as they are.

Whatever is wrong with a JSON or TOML text ends as one ValueError that says what. The parsers themselves let through
what nothing of ours writes and what breaks whoever goes on with it: nesting as deep as the stack, numbers without end,
NaN, two fields of one name.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
import tomllib
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from .places import read_regular

# Unicode's categories Cc, Cf, Cs, Zl and Zp, but for the two joiners that scripts and emoji are written with.
_HIDDEN: Final = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_ANY: Final = re.compile(f"[{_HIDDEN}]")
_ANY_IN_A_LINE: Final = re.compile(f"(?![\t\n])[{_HIDDEN}]")


_Item = TypeVar("_Item")

#: Levels of lists and objects within each other. Our own files have five; the stack holds some hundreds.
MOST_LEVELS: Final = 50
#: Digits of a whole number: as many as a float can follow.
MOST_DIGITS: Final = 300
_LARGEST: Final = 10**MOST_DIGITS


def counted(count: int, thing: str, things: str = "") -> str:
    """A number of things in words: "1 picture", "2 pictures".

    Args:
        count: how many.
        thing: what one of them is called.
        things: what several are called, where that is not with an "s" at the end.
    """
    return f"{count} {thing if count == 1 else things or f'{thing}s'}"


def counted_of(count: int, total: int, thing: str, does: str, do: str) -> str:
    """A part of a number of things, and what it does: "1 of 3 pictures lies", "2 of 3 pictures lie".

    Args:
        count: how many do it.
        total: of how many.
        thing: what one of them is called.
        does: the verb for one.
        do: the verb for several.
    """
    return f"{count} of {counted(total, thing)} {does if count == 1 else do}"


def some(names: Iterable[str], most: int = 3, *, total: int = 0, joint: str = ", ") -> str:
    """The first of some names, and dots where there are more: ``a, b, c, ...``.

    Args:
        names: all of them, or the first.
        most: how many are told.
        total: how many there are, where ``names`` are the first only.
        joint: what stands between two.
    """
    first = list(islice(names, most + 1))
    return joint.join([*first[:most], *(["..."] if max(total, len(first)) > most else [])])


def some_counted(names: Collection[str], most: int = 3, *, joint: str = ", ") -> str:
    """The first of some names, and how many more there are: ``a, b, c and 2 more``. Arguments as in :func:`some`."""
    more = f"{joint.strip(' ,')} and {len(names) - most} more" if len(names) > most else ""
    return joint.join(islice(names, most)) + more


def spread(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most so many items, evenly spread, so that all kinds of a sorted list are met."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def visible(text: str, *, lines: bool = False) -> str:
    """The text with every character shown that acts instead of being seen.

    Args:
        text: whatever it may hold, bytes of file names that are no text too.
        lines: leave line breaks and tabs as they are, for texts whose lines are ours.
    """
    return (_ANY_IN_A_LINE if lines else _ANY).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def csv_line(cells: Iterable[Any], delimiter: str = ",") -> str:
    """A row of a CSV file, without its end.

    Cells with either character of a line's end are quoted, of which Python's writer otherwise looks only for those that
    it ends its own lines with.
    """
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return out.getvalue()[:-2]


def parse_json(text: str | bytes, *, repeats: bool = False, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        text: as text, or as bytes in UTF-8.
        repeats: let an object name a field twice, as any JSON of others may; the last one counts.
        finite: refuse numbers that are none or too large for a float.

    Raises:
        ValueError: it is no JSON, or holds what is refused. The message is a part of a sentence.
    """
    try:
        value = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            parse_int=_whole,
            parse_float=_finite if finite else None,
            parse_constant=_no_number if finite else None,
            object_pairs_hook=None if repeats else _without_repeats,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (cannot decode byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error.msg}, line {error.lineno})") from error
    except RecursionError as error:
        raise _too_deep() from error
    _check_levels(value)
    return value


def read_json(path: Path, *, repeats: bool = False, finite: bool = True) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: see :func:`parse_json`.
    """
    return parse_json(read_regular(path), repeats=repeats, finite=finite)


def parse_toml(data: bytes) -> dict[str, Any]:
    """The tables of a TOML text in UTF-8.

    Raises:
        ValueError: it is no TOML, or holds what is refused. The message is a part of a sentence.
    """
    try:
        tables = tomllib.loads(data.decode("utf-8-sig"), parse_float=_finite)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (cannot decode byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is no TOML ({error})") from error
    except RecursionError as error:
        raise _too_deep() from error
    _check_levels(tables)
    return tables


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds {digits:.20}, which is no number to reckon with")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object; two fields of one name could be read in two ways."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name!r:.60} stands there twice")
        found[name] = value
    return found


def _too_deep() -> ValueError:
    return ValueError(f"it is nested too deeply (more than {MOST_LEVELS} levels)")


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        below = [item for item in level if isinstance(item, dict | list)]
        if any(isinstance(item, int) and abs(item) >= _LARGEST for item in level):  # of TOML; JSON's are counted before
            raise ValueError(f"it holds a number of more than {MOST_DIGITS} digits")
        level = [item for part in below for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return
    if any(isinstance(item, dict | list) for item in level):
        raise _too_deep()


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


def time_left(done: float, total: float, elapsed: float, since: float = 0.0) -> str:
    """Time left, told from the seconds that ``done`` of ``total`` took; empty where that says nothing, or no more.

    Args:
        done: of ``total``.
        total: all of it.
        elapsed: seconds until this was told.
        since: seconds since then. They count down: where a step takes minutes, the estimate would else grow until the
            next one is done.
    """
    if not 0 < done < total or elapsed <= _SOON:
        return ""
    left = elapsed * (total - done) / done - since
    return f"about {duration(left)} left" if left >= 0 else ""


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
