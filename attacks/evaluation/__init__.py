"""From predictions to a verdict: accuracies with intervals, validity gates, grades, and what to keep in mind."""

from .analysis import analyse
from .caveats import about_labels, list_caveats, note_gates, note_power, note_unchecked
from .gates import FAILURES, check_data, check_gates, decisive_failures, set_aside
from .grading import RULE
from .verdict import judge, trainer_results

__all__ = [
    "FAILURES",
    "RULE",
    "about_labels",
    "analyse",
    "check_data",
    "check_gates",
    "decisive_failures",
    "judge",
    "list_caveats",
    "note_gates",
    "note_power",
    "note_unchecked",
    "set_aside",
    "trainer_results",
]
