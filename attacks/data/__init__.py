"""What is compared: clean and protected pictures, paired and split, with the placebo arm made from the clean ones."""

from .arms import ARMS, noise_arm
from .folders import load_folders
from .sets import Step, VerificationData, load_sets
from .stealth import StealthFile, summarise_stealth

__all__ = [
    "ARMS",
    "StealthFile",
    "Step",
    "VerificationData",
    "load_folders",
    "load_sets",
    "noise_arm",
    "summarise_stealth",
]
