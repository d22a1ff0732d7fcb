"""How many pictures a verification takes; without torch, so that other commands can ask before they suggest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["FEWEST_TESTED", "TEST_SHARE", "enough_to_hold_out", "fewest_for_groups"]

TEST_SHARE: Final = 0.2

FEWEST_TESTED: Final = 5
"""Test pictures a class, on average over the tested classes, below which nothing is trained: with 2 a class,
intervals of 95 % held the true figure in 77 to 95 % of simulated runs, so a grade would be guessed; with 5 in 91 to
96 % (tests/attacks/test_statistics.py)."""

#: Groups are not of one size, and the share held out of each is rounded.
_ROOM: Final = 1.2


def enough_to_hold_out(counts: Sequence[int]) -> bool:
    """Whether classes of so many pictures each can be trained on and tested with the share that is held out."""
    held = [max(1, round(count * TEST_SHARE)) for count in counts if count > 1]
    return len(held) >= 2 and sum(held) >= FEWEST_TESTED * len(held)


def fewest_for_groups(groups: int = 2) -> int:
    """Pictures without classes that are needed to tell so many groups of them apart."""
    return round(groups * FEWEST_TESTED / TEST_SHARE * _ROOM)
