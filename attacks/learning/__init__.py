"""How victims are trained where that is more than the plain recipe: objectives, and what goes on from a training."""

from .adversarial import AdversarialObjective
from .augmentations import CutMixObjective, CutoutObjective, MixupObjective, TrivialAugmentObjective
from .contrastive import Contrastive
from .dvae import RateLimitedPurification
from .fine_tuning import FineTuning
from .job import Job, Learner
from .pairs import PairedPurification
from .plain import PlainTraining
from .refit import LastLayerRefit, Recovery
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
    "PairedPurification",
    "PlainTraining",
    "RateLimitedPurification",
    "Recovery",
    "TrivialAugmentObjective",
    "UEraserObjective",
]
