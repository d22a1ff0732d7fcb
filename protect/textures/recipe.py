"""Every number that shapes a texture, in one place. A bank carries those it was made with."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Final

from ...errors import BankError, ConfigError
from ...imaging.structured import parse_json

__all__ = [
    "ANGLES_A_RING",
    "LEAST_SIDE",
    "MOST_CLASSES",
    "MOST_SINGLE",
    "PIXELS_A_PERIOD",
    "RINGS",
    "TextureRecipe",
]

#: Frequencies of the rings, in cycles a side of the picture, for one ring, two rings, ...: each holds up to ten angles.
RINGS: Final[tuple[tuple[float, ...], ...]] = (
    (7.2,),
    (6.0, 8.4),
    (5.0, 7.0, 9.8),
    (4.6, 6.4, 9.0, 12.6),
    (4.4, 5.9, 8.0, 10.8, 14.6),
    (4.2, 5.5, 7.1, 9.2, 12.0, 15.6),
)
ANGLES_A_RING: Final = 10
#: Classes that get one wave each; where there are more, each gets two that cross.
MOST_SINGLE: Final = ANGLES_A_RING * len(RINGS)
MOST_CLASSES: Final = 1000

#: No period is shorter than this, in px of the picture (or of what a victim sees, with ``for_resolution``): for a
#: book of one ring, and for one of several, whose lowest ring must not sink into what pictures have most of.
PIXELS_A_PERIOD: Final = (6.15, 4.5)

#: A picture with a shorter side, in px, is not protected.
LEAST_SIDE: Final = 8


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

    def __post_init__(self) -> None:
        if not all(math.isfinite(getattr(self, part.name)) for part in fields(self)):
            raise ConfigError("The numbers of a texture must be finite.")
        if not 0.0 < self.floor <= 1.0:
            raise ConfigError(f"floor {self.floor:g} is outside (0, 1]: it is the share of epsilon on plain areas.")
        if not LEAST_SIDE <= self.side <= 1024 or self.sigma <= 0.0 or self.carrier_level < 0.0:
            raise ConfigError("A texture needs a side of 8 to 1024 px, a window wider than 0, and a wave of 0 or more.")
        if self.soft_period < 0.0 or not 0.1 <= self.softness <= 100.0:
            raise ConfigError("A texture's softness lies in 0.1..100, and begins at some px a period.")
        if self.spread < 0.0 or not 0.0 <= self.frequency_jitter < 1.0 or not 0.0 <= self.angle_jitter <= 90.0:
            raise ConfigError("What is drawn for each picture cannot spread by less than nothing, or without bound.")

    def to_json(self) -> str:
        """For the bank file."""
        return json.dumps(asdict(self), sort_keys=True)

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
        if not isinstance(found, dict) or set(found) != known:
            raise BankError("the numbers of its textures are not those that this bitterant knows")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in found.values()):
            raise BankError("the numbers of its textures are no numbers")
        return cls(**{**found, "side": int(found["side"])})
