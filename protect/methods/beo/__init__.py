"""Bayes-error ascent (arXiv 2511.08191)."""

from .method import BayesErrorAscent

__all__ = ["BayesErrorAscent"]
