"""Denoising the pictures before training: by smoothness, by their own patches, by a learned autoencoder or denoiser."""

from .autoencoder import Purify
from .denoiser import FewDenoise, NoiseDenoise
from .dvae import Dvae
from .non_local_means import NonLocalMeans
from .total_variation import TotalVariation

__all__ = ["Dvae", "FewDenoise", "NoiseDenoise", "NonLocalMeans", "Purify", "TotalVariation"]
