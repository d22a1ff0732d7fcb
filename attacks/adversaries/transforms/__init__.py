"""Cheap changes of the pictures, made once before training, to the training pictures of every arm and to the test."""

from .bands import BandStop, LowPass
from .bit_depth import BitDepth
from .codecs import Jpeg, Webp
from .colours import Equalize, Whiten
from .displacement import Coin
from .filters import GaussianBlur, Median
from .frequency import SharpenLowPass
from .grayscale import Grayscale
from .resampling import CropResize, DownUp

__all__ = [
    "BandStop",
    "BitDepth",
    "Coin",
    "CropResize",
    "DownUp",
    "Equalize",
    "GaussianBlur",
    "Grayscale",
    "Jpeg",
    "LowPass",
    "Median",
    "SharpenLowPass",
    "Webp",
    "Whiten",
]
