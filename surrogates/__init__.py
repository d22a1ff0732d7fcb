"""Differentiable models with preprocessing inside, and the plain loop that trains them."""

from .augment import crop_flip, draw_crops, pad_images, take_batch
from .base import Surrogate, class_losses, class_scores
from .clip import ClipSurrogate
from .device import bf16_pays, resolve_device, supports_bf16
from .ensemble import Ensemble
from .freezing import FrozenSurrogate
from .registry import check_surrogate, check_weights, create_surrogate, surrogate_family, surrogate_names
from .training import (
    CurvePoint,
    Objective,
    Recipe,
    TrainingResult,
    epoch_order,
    predict_logits,
    recipe_for,
    train_classifier,
)
from .weights import load_state, load_weights

__all__ = [
    "ClipSurrogate",
    "CurvePoint",
    "Ensemble",
    "FrozenSurrogate",
    "Objective",
    "Recipe",
    "Surrogate",
    "TrainingResult",
    "bf16_pays",
    "check_surrogate",
    "check_weights",
    "class_losses",
    "class_scores",
    "create_surrogate",
    "crop_flip",
    "draw_crops",
    "epoch_order",
    "load_state",
    "load_weights",
    "pad_images",
    "predict_logits",
    "recipe_for",
    "resolve_device",
    "supports_bf16",
    "surrogate_family",
    "surrogate_names",
    "take_batch",
    "train_classifier",
]
