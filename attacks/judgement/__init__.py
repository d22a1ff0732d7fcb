"""From predictions to a verdict: accuracies with intervals, validity gates, grades, and what to keep in mind."""

from .analysis import analyse
from .caveats import list_caveats, note_gates, note_unchecked
from .gates import check_gates, set_aside
from .verdict import judge

__all__ = ["analyse", "check_gates", "judge", "list_caveats", "note_gates", "note_unchecked", "set_aside"]
