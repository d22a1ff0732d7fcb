"""Trainers who take pictures with their captions: a CLIP trained on them, and what it then retrieves."""

from .data import CaptionedSet
from .training import (
    ARM_NAMES,
    ArmScores,
    ClipRecipe,
    ClipVictim,
    RetrievalReport,
    create_clip_victim,
    retrieval_trial,
    train_clip,
)
from .verify import verify_retrieval

__all__ = [
    "ARM_NAMES",
    "ArmScores",
    "CaptionedSet",
    "ClipRecipe",
    "ClipVictim",
    "RetrievalReport",
    "create_clip_victim",
    "retrieval_trial",
    "train_clip",
    "verify_retrieval",
]
