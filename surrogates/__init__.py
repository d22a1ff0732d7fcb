"""Differentiable models with preprocessing inside, and the plain loop that trains them."""

from .augment import crop_flip, draw_crops, pad_images, take_batch
from .base import Surrogate, class_losses, class_scores
from .clip import ClipSurrogate
from .device import now, resolve_device, supports_bf16
from .ensemble import Ensemble
from .freezing import FrozenSurrogate
from .precision import ChosenPrecision, Precision, check_precision, choose_precision
from .randomness import own_randomness, uniform
from .registry import check_surrogate, check_weights, create_surrogate, surrogate_family, surrogate_names
from .sums import add_rows
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
    "ChosenPrecision",
    "ClipSurrogate",
    "CurvePoint",
    "Ensemble",
    "FrozenSurrogate",
    "Objective",
    "Precision",
    "Recipe",
    "Surrogate",
    "TrainingResult",
    "add_rows",
    "check_precision",
    "check_surrogate",
    "check_weights",
    "choose_precision",
    "class_losses",
    "class_scores",
    "create_surrogate",
    "crop_flip",
    "draw_crops",
    "epoch_order",
    "load_state",
    "load_weights",
    "now",
    "own_randomness",
    "pad_images",
    "predict_logits",
    "recipe_for",
    "resolve_device",
    "supports_bf16",
    "surrogate_family",
    "surrogate_names",
    "take_batch",
    "train_classifier",
    "uniform",
]
