"""The code book: which waves stand for which class, and every number that shapes them. A bank carries those it was made
with.

A code is one wave, or two that cross. Codes differ in the period of their waves, and in the direction: both survive
what trainers do to brightness. Phases would not, and colours go with the first grayscale. A trainer who turns pictures
mixes directions that are close, and one who enlarges parts of them mixes periods that are close. So a book has as many
periods as are told apart, and few directions, far from each other: nearly upright and nearly level where that is
enough. Beyond ten directions of each of six periods, codes are pairs of waves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from ...errors import BankError, ConfigError
from ...records.secrets import derive
from ...records.text import parse_json

#: Frequencies of the rings, in cycles a side of the picture, for one ring, two rings, ... Codes of one ring differ in
#: their direction.
RINGS: Final[tuple[tuple[float, ...], ...]] = (
    (4.6,),
    (3.7, 5.7),
    (3.3, 4.6, 6.4),
    (3.1, 4.1, 5.3, 7.0),
    (3.0, 3.75, 4.7, 5.8, 7.1),
    (4.2, 5.5, 7.1, 9.2, 12.0, 15.6),
)
#: A ring is opened for every two classes up to the fifth, and the sixth where five rings are full.
_ANGLES_AT_FIRST: Final = 2
ANGLES_A_RING: Final = 10
#: In degrees, where a ring has at most four directions. Level and upright stripes are gone with the mean of every row
#: and column; tilted, a wave of three cycles also runs half a cycle along its stripes.
_TILT: Final = 10.0
#: Classes that get one wave each; where there are more, each gets two that cross.
MOST_SINGLE: Final = ANGLES_A_RING * len(RINGS)
MOST_CLASSES: Final = 1000

#: No period is shorter than this, in px of the picture (or of what a victim sees, with ``for_resolution``): for a
#: book of one ring, and for one of several, whose lowest ring must not sink into what pictures have most of.
PIXELS_A_PERIOD: Final = (6.15, 4.5)

#: A picture with a shorter side, in px, is not protected.
LEAST_SIDE: Final = 8


#: Between which the numbers of a texture make sense, and can be reckoned with: they may come from a file of others.
_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("side", LEAST_SIDE, 1024),
    ("sigma", 0.01, 100.0),
    ("carrier_level", 0.0, 255.0),
    ("spread", 0.0, 100.0),
    ("frequency_jitter", 0.0, 0.99),
    ("angle_jitter", 0.0, 90.0),
    ("soft_period", 0.0, 1e6),
    ("softness", 0.1, 100.0),
    ("bend", 0.0, 10.0),
    ("colour", 0.0, 1.0),
)


#: Numbers that earlier banks do not have, and what they are there.
_LATER: Final = {"bend": 0.0, "colour": 0.0}


@dataclass(frozen=True)
class TextureRecipe:
    """How a class's wave becomes the texture of one picture.

    Attributes:
        side: the picture is looked at on at most so many px a side.
        sigma: width of the Gaussian window around the class's frequency, in cycles a side.
        carrier_level: levels of the plain wave that is added to the picture's own content of that frequency.
        spread: the keyed turn of the phase lies in +- so many radians.
        frequency_jitter: the keyed change of the frequency lies in +- this share of it.
        angle_jitter: the keyed turn of the wave lies in +- so many degrees.
        floor: share of epsilon on areas that mask nothing, in (0, 1], where the wave has soft edges; 1 is the full
            epsilon everywhere.
        soft_period: from so many px a period on the wave has soft edges, on a picture's short side.
        softness: how steep they are then: the wave is tanh(softness * cosine) / tanh(softness).
        bend: of such a wave the plain part swings by so many radians of its phase, to and fro once along a crest over
            the picture's side; not on pictures whose short side has fewer px than ``side``.
        colour: share of blue that the tint of the class takes from the wave, 0..1; see :mod:`.wave`.

    Raises:
        ConfigError: a value out of range.
    """

    side: int = 64
    sigma: float = 0.6
    carrier_level: float = 2.0
    spread: float = 0.3
    frequency_jitter: float = 0.04
    angle_jitter: float = 1.0
    floor: float = 0.8
    soft_period: float = 10.0
    softness: float = 2.5
    # Not in the repr, of which a bank's digest is made; where there is some, its digest names it.
    bend: float = field(default=2.0, repr=False)
    colour: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if not all(math.isfinite(getattr(self, part.name)) for part in fields(self)):
            raise ConfigError("The numbers of a texture must be finite.")
        if not 0.0 < self.floor <= 1.0:
            raise ConfigError(f"floor {self.floor:g} is outside (0, 1]: it is the share of epsilon on plain areas.")
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name} {getattr(self, name):g} of a texture is outside {least:g}..{most:g}.")

    def to_dict(self) -> dict[str, float]:
        """The numbers by name; those that came later only where they are not 0, as before there were any."""
        return {name: value for name, value in asdict(self).items() if value or name not in _LATER}

    def to_json(self) -> str:
        """For the bank file."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TextureRecipe:
        """Back from :meth:`to_json`.

        Raises:
            BankError: other numbers than this version knows.
            ConfigError: a value out of range.
            ValueError: it is no JSON.
        """
        found = parse_json(text)
        known = {part.name for part in fields(cls)}
        if not isinstance(found, dict) or {*_LATER, *found} != known:
            raise BankError("the numbers of its textures are not those that this bitterant knows")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in found.values()):
            raise BankError("the numbers of its textures are no numbers")
        return cls(**{**_LATER, **found, "side": int(found["side"])})


#: Smallest side in px that a book can be scaled for.
LEAST_RESOLUTION = 16

#: Squares of the distance of two neighbours among six full rings, on the log-polar plane of frequencies: a ring is 1.3
#: times the one before, which is 1.7 times as far as the 9 degrees from angle to angle. Whole numbers, so that all
#: machines agree.
_RING_STEP, _ANGLE_STEP = 3, 1
#: Two waves of one code are at least so far apart: closer ones would beat instead of cross.
_LEAST_INSIDE = 12


class Wave(NamedTuple):
    """A wave over a picture: cycles a side, and the direction it runs in, in degrees from 0 to 90.

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
    dealt = sorted(range(len(book)), key=lambda number: derive(secret, f"code:{number}")) if order is None else order
    return {name: book[number] for name, number in zip(classes, dealt, strict=True)}


def _single(count: int) -> tuple[Code, ...]:
    """One wave each: few directions on many rings, none of them quite level or upright."""
    opened = max(min(math.ceil(count / _ANGLES_AT_FIRST), len(RINGS) - 1), math.ceil(count / ANGLES_A_RING))
    codes = []
    for number, cycles in enumerate(RINGS[opened - 1]):
        angles = count // opened + (number < count % opened)
        first = min(_TILT, 45.0 / angles)
        step = (90.0 - 2 * first) / max(angles - 1, 1)
        codes += [(Wave(cycles, first + index * step if angles > 1 else 45.0),) for index in range(angles)]
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
