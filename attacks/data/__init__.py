"""What is compared: clean and protected pictures, paired and split, with the placebo arm made from the clean ones."""

from .checking import StealthFile, stealth_csv
from .folders import load_labellings
from .perceptual import find_lpips
from .sets import FEWEST_TESTED, Step, VerificationData, load_sets, noise_arm
from .splits import deal_labels

__all__ = [
    "FEWEST_TESTED",
    "StealthFile",
    "Step",
    "VerificationData",
    "deal_labels",
    "find_lpips",
    "load_labellings",
    "load_sets",
    "noise_arm",
    "stealth_csv",
]
