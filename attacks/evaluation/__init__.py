"""From answers to a verdict: accuracies with intervals, validity gates, grades, and what to keep in mind."""

from .analysis import Measured, MeasuredArm, analyse, describe
from .gates import FAILURES, check_conditions, check_data, check_gates, check_sound, decisive_failures, in_order
from .grading import RULE
from .verdict import about_files, about_labels, about_numbers, about_size, conclude, list_caveats, trainer_results

__all__ = [
    "FAILURES",
    "RULE",
    "Measured",
    "MeasuredArm",
    "about_files",
    "about_labels",
    "about_numbers",
    "about_size",
    "analyse",
    "check_conditions",
    "check_data",
    "check_gates",
    "check_sound",
    "conclude",
    "decisive_failures",
    "describe",
    "in_order",
    "list_caveats",
    "trainer_results",
]
