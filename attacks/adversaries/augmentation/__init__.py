"""Stronger augmentation while training, the same for every arm."""

from .cutout import Cutout
from .mixing import CutMix, Mixup
from .rotation import Rotate
from .strong import TrivialAugment, UEraser

__all__ = ["CutMix", "Cutout", "Mixup", "Rotate", "TrivialAugment", "UEraser"]
