"""Error-minimizing noise (arXiv 2101.04898)."""

from .method import ErrorMinimizing

__all__ = ["ErrorMinimizing"]
