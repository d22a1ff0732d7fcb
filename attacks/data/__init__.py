"""What is compared: clean and protected pictures, paired and split, with the placebo arm made from the clean ones."""

from .checking import StealthFile, stealth_csv
from .folders import load_folders, load_labellings
from .perceptual import LpipsFound, find_lpips
from .sets import ARMS, FEWEST_TESTED, Step, VerificationData, load_sets, noise_arm
from .splits import deal_labels

__all__ = [
    "ARMS",
    "FEWEST_TESTED",
    "LpipsFound",
    "StealthFile",
    "Step",
    "VerificationData",
    "deal_labels",
    "find_lpips",
    "load_folders",
    "load_labellings",
    "load_sets",
    "noise_arm",
    "stealth_csv",
]
