"""The code book: which waves stand for which class.

A code is one wave, or two that cross. Codes differ in the direction of their waves, and where one ring of directions is
full, in their period: both survive what trainers do to brightness. Phases would not, and colours go with the first
grayscale. Beyond six rings, codes are pairs of waves.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from ...errors import ConfigError
from .recipe import ANGLES_A_RING, MOST_CLASSES, MOST_SINGLE, PIXELS_A_PERIOD, RINGS

__all__ = ["LEAST_RESOLUTION", "Code", "Wave", "assign_codes", "check_resolution", "code_book", "scale_for"]

#: Smallest side in px that a book can be scaled for.
LEAST_RESOLUTION = 16

#: Squares of the distance of two neighbours in the book, on the log-polar plane of frequencies: a ring is 1.3 times the
#: next, which is 1.7 times as far as the 9 degrees from angle to angle. Whole numbers, so that all machines agree.
_RING_STEP, _ANGLE_STEP = 3, 1
#: Two waves of one code are at least so far apart: closer ones would beat instead of cross.
_LEAST_INSIDE = 12


class Wave(NamedTuple):
    """A wave over a picture: cycles a side, and the direction it runs in, in degrees between 0 and 90.

    The sign of the direction is left open, since a trainer's mirroring swaps it.
    """

    cycles: float
    angle: float


Code = tuple[Wave, ...]


def code_book(count: int, *, for_resolution: int | None = None) -> tuple[Code, ...]:
    """Codes for so many classes, as far apart as they go.

    Args:
        count: classes, 2 to 1000.
        for_resolution: side in px at which a trainer will look at the pictures; no period is then too short there.
            ``None`` leaves the book as it is.

    Raises:
        ConfigError: more classes than a book holds, or a resolution that is none.
    """
    check_resolution(for_resolution)
    if not 1 <= count <= MOST_CLASSES:
        raise ConfigError(
            f"A code book holds at most {MOST_CLASSES} classes, and there are {count}. "
            "Merge classes, or protect them in several folders of at most so many."
        )
    book = _single(count) if count <= MOST_SINGLE else _plaids()[:count]
    if for_resolution is None:
        return book
    scale = scale_for(book, for_resolution)
    return tuple(tuple(Wave(wave.cycles * scale, wave.angle) for wave in code) for code in book)


def scale_for(book: Iterable[Code], side: int) -> float:
    """What all frequencies of a book are multiplied with, so that no period is too short on a side of so many px.

    At most 1: on larger pictures the waves are as they are, so many cycles a side. All scale alike, and stay apart.
    """
    cycles = {wave.cycles for code in book for wave in code}
    least = PIXELS_A_PERIOD[len(cycles) > 1]
    return min(1.0, side / (least * max(cycles)))


def check_resolution(side: int | None) -> None:
    """Make sure that a book can be scaled for a victim of this side.

    Raises:
        ConfigError: it is smaller than 16 px.
    """
    if side is not None and side < LEAST_RESOLUTION:
        raise ConfigError(
            f"for_resolution {side} is below {LEAST_RESOLUTION}: it is the side in px at which a trainer is expected "
            "to look at the pictures, such as 64 or 224. Leave it out if you do not know."
        )


def assign_codes(
    names: Sequence[str], secret: bytes, *, for_resolution: int | None = None, order: Sequence[int] | None = None
) -> dict[str, Code]:
    """The code of each class: the same names, key and order give the same codes, in whatever order the names come.

    Args:
        names: of the classes, distinct.
        secret: the key that says which class gets which code, where no order is given.
        for_resolution: see :func:`code_book`.
        order: number in the book of the code of each class, classes sorted by name (see
            :func:`assign_against_nature`).

    Raises:
        ConfigError: see :func:`code_book`.
    """
    classes = sorted(names)
    book = code_book(len(classes), for_resolution=for_resolution)
    dealt = sorted(range(len(book)), key=lambda number: _draw(secret, number)) if order is None else order
    return {name: book[number] for name, number in zip(classes, dealt, strict=True)}


def _draw(secret: bytes, number: int) -> bytes:
    return hmac.new(secret, b"code:%d" % number, hashlib.sha256).digest()


def _single(count: int) -> tuple[Code, ...]:
    """One wave each, spread evenly over as few rings as hold them."""
    rings = RINGS[math.ceil(count / ANGLES_A_RING) - 1]
    codes = []
    for number, cycles in enumerate(rings):
        angles = count // len(rings) + (number < count % len(rings))
        codes += [(Wave(cycles, (index + 0.5) * 90.0 / angles),) for index in range(angles)]
    return tuple(codes)


@cache
def _plaids() -> tuple[Code, ...]:
    """Pairs of single waves, each the farthest from all before it: any beginning of the list is well spread."""
    single = _single(MOST_SINGLE)
    place = np.array([divmod(number, ANGLES_A_RING) for number in range(MOST_SINGLE)])
    ring, angle = place[:, 0], place[:, 1]
    apart = _RING_STEP * (ring[:, None] - ring) ** 2 + _ANGLE_STEP * (angle[:, None] - angle) ** 2
    first, second = np.triu_indices(MOST_SINGLE, 1)
    wide = apart[first, second] >= _LEAST_INSIDE
    first, second = first[wide], second[wide]
    chosen = [int(apart[first, second].argmax())]
    nearest = np.full(len(first), np.iinfo(apart.dtype).max)
    while len(chosen) < MOST_CLASSES:
        a, b = first[chosen[-1]], second[chosen[-1]]
        straight = apart[a, first] + apart[b, second]
        crossed = apart[a, second] + apart[b, first]
        np.minimum(nearest, np.minimum(straight, crossed), out=nearest)
        chosen.append(int(nearest.argmax()))
    return tuple((*single[first[number]], *single[second[number]]) for number in chosen)
