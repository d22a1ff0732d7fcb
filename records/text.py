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
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from .places import read_regular

# Unicode's categories Cc, Cf, Cs, Zl and Zp, but for the two joiners that scripts and emoji are written with.
_HIDDEN: Final = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_ANY: Final = re.compile(f"[{_HIDDEN}]")
_ANY_IN_A_LINE: Final = re.compile(f"(?![\t\n])[{_HIDDEN}]")


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
