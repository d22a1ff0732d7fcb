"""Denoising the pictures before training: by smoothness, by their own patches, or by a learned autoencoder."""

from .autoencoder import Purify
from .dvae import Dvae
from .non_local_means import NonLocalMeans
from .total_variation import TotalVariation

__all__ = ["Dvae", "NonLocalMeans", "Purify", "TotalVariation"]
