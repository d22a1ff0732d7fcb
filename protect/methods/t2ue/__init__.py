"""T2UE: noise out of text. Networks are imported only when they are needed: diffusers takes seconds to load."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .embedded import embedded_folder, load_source
from .method import TextToUnlearnable

if TYPE_CHECKING:
    from .generator import NoiseGenerator, NoiseOutput, SSANoiseGenerator
    from .latent_generator import LatentNoiseGenerator
    from .measures import NoiseMeasures, measure_noise
    from .pairs import CaptionPairs
    from .pipeline import T2UEOutput, T2UEPipeline
    from .recipe import TrainRecipe
    from .text_embedder import TextEmbedder
    from .training import TrainProgress, TrainReport, train_t2ue

__all__ = [
    "CaptionPairs",
    "LatentNoiseGenerator",
    "NoiseGenerator",
    "NoiseMeasures",
    "NoiseOutput",
    "SSANoiseGenerator",
    "T2UEOutput",
    "T2UEPipeline",
    "TextEmbedder",
    "TextToUnlearnable",
    "TrainProgress",
    "TrainRecipe",
    "TrainReport",
    "embedded_folder",
    "load_source",
    "measure_noise",
    "train_t2ue",
]

_HOMES = {
    "CaptionPairs": "pairs",
    "LatentNoiseGenerator": "latent_generator",
    "NoiseGenerator": "generator",
    "NoiseMeasures": "measures",
    "NoiseOutput": "generator",
    "SSANoiseGenerator": "generator",
    "T2UEOutput": "pipeline",
    "T2UEPipeline": "pipeline",
    "TextEmbedder": "text_embedder",
    "TrainProgress": "training",
    "TrainRecipe": "recipe",
    "TrainReport": "training",
    "measure_noise": "measures",
    "train_t2ue": "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
