"""Rows of the table of worst cases: one a class of trainers, with the adversaries seen in crafting and the others."""

from __future__ import annotations

from dataclasses import dataclass

from ..adversaries import Readout
from ..schema import TrainerResult, VerificationReport, WorstCase
from .rows import plain_words

__all__ = ["CaseRow", "ClassCases", "class_cases"]

_MOMENTS: dict[Readout, str] = {
    "final": "at the end",
    "peak": "at its best moment, chosen with the test answers",
    "validated": "at the moment chosen with clean pictures",
}


@dataclass(frozen=True)
class CaseRow:
    """A worst case in words.

    Attributes:
        crafting: among which adversaries it is the worst.
        words: what the trainer does.
        moment: when the victim was read out.
        most: whether it is the worst of the class.
    """

    crafting: str
    case: WorstCase
    words: str
    moment: str
    most: bool


@dataclass(frozen=True)
class ClassCases:
    """One class of trainers of which something was tested.

    Attributes:
        cases: among the adversaries that were seen in crafting and among those held out, where any were tested.
    """

    found: TrainerResult
    cases: tuple[CaseRow, ...]


def class_cases(report: VerificationReport) -> list[ClassCases]:
    """The classes of which something was tested; none where the run is INVALID and its figures show nothing."""
    if not report.verdict.valid:
        return []
    words = {condition.id: plain_words(condition) for condition in report.conditions}
    return [
        ClassCases(
            found,
            tuple(
                CaseRow(crafting, case, words[case.id], _MOMENTS[case.moment], case == found.worst)
                for crafting, case in (("seen in crafting", found.seen), ("held out", found.held_out))
                if case is not None
            ),
        )
        for found in report.trainers
        if found.tested
    ]
