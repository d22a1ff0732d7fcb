"""How victims are trained where that is more than the plain recipe: objectives, and what goes on from a training."""

from .adversarial import AdversarialObjective
from .augmentations import (
    CutMixObjective,
    CutoutObjective,
    MixupObjective,
    RotateObjective,
    TrivialAugmentObjective,
)
from .contrastive import Contrastive
from .denoising import NoiseAndDenoise
from .dvae import RateLimitedPurification
from .fine_tuning import FineTuning
from .job import Job, Learner
from .pairs import PairedPurification
from .plain import PlainTraining
from .refit import LastLayerRefit, Recovery
from .staged import StagedTraining
from .ueraser import UEraserObjective

__all__ = [
    "AdversarialObjective",
    "Contrastive",
    "CutMixObjective",
    "CutoutObjective",
    "FineTuning",
    "Job",
    "LastLayerRefit",
    "Learner",
    "MixupObjective",
    "NoiseAndDenoise",
    "PairedPurification",
    "PlainTraining",
    "RateLimitedPurification",
    "Recovery",
    "RotateObjective",
    "StagedTraining",
    "TrivialAugmentObjective",
    "UEraserObjective",
]
