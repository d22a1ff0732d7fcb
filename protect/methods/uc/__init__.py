"""Unlearnable Clusters (arXiv 2301.01217)."""

from .method import UnlearnableClusters

__all__ = ["UnlearnableClusters"]
