"""Prior knowledge: pretrained networks, a few clean pictures, features learned without labels."""

from .contrastive import SimClr
from .few_clean import LastLayer, Recover
from .fine_tune import FineTune, FreezeEarly
from .pairs import LeakedPairs
from .probes import LinearProbe, NearestNeighbours

__all__ = [
    "FineTune",
    "FreezeEarly",
    "LastLayer",
    "LeakedPairs",
    "LinearProbe",
    "NearestNeighbours",
    "Recover",
    "SimClr",
]
