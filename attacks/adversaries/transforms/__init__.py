"""Cheap changes of the pictures, made once before training, to the training pictures of every arm and to the test."""

from .bit_depth import BitDepth
from .codecs import Jpeg, Webp
from .filters import GaussianBlur, Median
from .frequency import SharpenLowPass
from .grayscale import Grayscale
from .resampling import CropResize, DownUp

__all__ = [
    "BitDepth",
    "CropResize",
    "DownUp",
    "GaussianBlur",
    "Grayscale",
    "Jpeg",
    "Median",
    "SharpenLowPass",
    "Webp",
]
