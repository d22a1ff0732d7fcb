"""Trainers who take pictures with their captions: a CLIP trained on them, and what it then retrieves."""

from .captioned import CaptionedSet
from .folders import RetrievalProgress, verify_retrieval
from .records import RetrievalVerification
from .training import ClipRecipe, train_clip
from .trial import ARM_NAMES, ArmScores, RetrievalReport, retrieval_trial
from .victims import CLIP_VICTIMS, ClipVictim, create_clip_victim

__all__ = [
    "ARM_NAMES",
    "CLIP_VICTIMS",
    "ArmScores",
    "CaptionedSet",
    "ClipRecipe",
    "ClipVictim",
    "RetrievalProgress",
    "RetrievalReport",
    "RetrievalVerification",
    "create_clip_victim",
    "retrieval_trial",
    "train_clip",
    "verify_retrieval",
]
