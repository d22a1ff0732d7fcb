"""Rotation: every picture at a random angle, another one each time it is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..parameters import real_number

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["Rotate"]


class Rotate(Adversary):
    """A random rotation about the middle in every picture of every batch; corners are filled by reflection.

    Args:
        parameter: the largest angle in degrees, 1 to 180, to either side; 30 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "rotate"
    tier = "training"
    source = "ours: rotation as augmentation; UEraser (arXiv 2303.15127) has it among others"
    description = "trained on pictures rotated at random (rotate:15 sets the largest angle in degrees, 30 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.degrees = real_number(self.prefix, parameter, default=30.0, least=1.0, most=180.0)

    @property
    def name(self) -> str:
        return f"rotate:{self.degrees:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who rotates them by up to {self.degrees:g} degrees"

    def learner(self) -> Learner:
        from ...learning import PlainTraining, RotateObjective

        return PlainTraining(RotateObjective(self.degrees))
