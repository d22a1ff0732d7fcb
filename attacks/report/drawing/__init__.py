"""The drawings of the report, as inline SVG. Colours are variables of the page: they follow light and dark."""

from .confusion import confusion_matrix
from .curves import learning_curves
from .histogram import histogram
from .mixing import mix_curve
from .power import power_picture, ring_chart
from .track import Mark, axis, track

__all__ = [
    "Mark",
    "axis",
    "confusion_matrix",
    "histogram",
    "learning_curves",
    "mix_curve",
    "power_picture",
    "ring_chart",
    "track",
]
