"""Differentiable models with preprocessing inside, and the plain loop that trains them."""

from .arithmetic import (
    ChosenPrecision,
    Precision,
    add_rows,
    choose_precision,
    now,
    own_randomness,
    resolve_device,
    supports_bf16,
    uniform,
)
from .base import Surrogate, class_losses, class_scores
from .clip import ClipSurrogate
from .freezing import FrozenSurrogate
from .registry import (
    check_surrogate,
    check_weights,
    create_surrogate,
    recipe_for,
    step_cost,
    surrogate_family,
    surrogate_names,
    surrogate_spec,
)
from .training import (
    CurvePoint,
    Objective,
    Recipe,
    TrainingResult,
    crop_flip,
    draw_crops,
    epoch_order,
    pad_images,
    predict_logits,
    take_batch,
    train_classifier,
)
from .weights import load_state

__all__ = [
    "ChosenPrecision",
    "ClipSurrogate",
    "CurvePoint",
    "FrozenSurrogate",
    "Objective",
    "Precision",
    "Recipe",
    "Surrogate",
    "TrainingResult",
    "add_rows",
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
    "now",
    "own_randomness",
    "pad_images",
    "predict_logits",
    "recipe_for",
    "resolve_device",
    "step_cost",
    "supports_bf16",
    "surrogate_family",
    "surrogate_names",
    "surrogate_spec",
    "take_batch",
    "train_classifier",
    "uniform",
]
