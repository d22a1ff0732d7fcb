"""The thresholds of the verdict rule "v4", in one place. They are written into the plan before the first training."""

from __future__ import annotations

from ..schema import GradeBounds, Rule

__all__ = ["RULE"]

RULE = Rule(
    learned_share=0.3,
    noise_margin=0.05,
    fitted_share=0.9,
    shuffled_margin=0.1,
    # One training of two classes moves by more than two of them too often: about one in eight.
    shuffled_errors=3.0,
    # Were all of them known by heart, no accuracy could be off by more, and that is what G2 allows noise. CIFAR-10
    # itself has 3.3 % (arXiv 1902.00423).
    near_share=0.05,
    rho=GradeBounds(strong=0.15, moderate=0.40, weak=0.75),
    mv=GradeBounds(strong=0.10, moderate=0.40, weak=0.80),
    widest=0.25,
    equivalence_margin=0.1,
)
