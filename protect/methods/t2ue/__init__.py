"""T2UE: noise out of text. Networks are imported only when they are needed: diffusers takes seconds to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...._lazy import lazy_exports
from .method import TextToUnlearnable
from .source import embedded_folder, load_source

if TYPE_CHECKING:
    from .data import CaptionPairs
    from .generator import LatentNoiseGenerator, SSANoiseGenerator
    from .pipeline import T2UEPipeline, TextEmbedder
    from .training import TrainProgress, TrainRecipe, measure_noise, train_t2ue

__all__ = [
    "CaptionPairs",
    "LatentNoiseGenerator",
    "SSANoiseGenerator",
    "T2UEPipeline",
    "TextEmbedder",
    "TextToUnlearnable",
    "TrainProgress",
    "TrainRecipe",
    "embedded_folder",
    "load_source",
    "measure_noise",
    "train_t2ue",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "data": ("CaptionPairs",),
        "generator": ("LatentNoiseGenerator", "SSANoiseGenerator"),
        "pipeline": ("T2UEPipeline", "TextEmbedder"),
        "training": ("TrainProgress", "TrainRecipe", "measure_noise", "train_t2ue"),
    },
)
