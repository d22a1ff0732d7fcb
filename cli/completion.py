"""Names that the shell completes."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["METHODS", "complete_adversary", "complete_method"]

#: Names of ``--method``, in the order in which they are told; listing them from the registry would load torch.
METHODS = ("auto", "texture", "emn", "uc", "beo", "t2ue", "noise")


def complete_method(incomplete: str) -> list[str]:
    """Methods that begin like this."""
    return _beginning(METHODS, incomplete)


def complete_adversary(incomplete: str) -> list[str]:
    """Adversaries that begin like this."""
    from ..attacks import adversary_names

    return _beginning(adversary_names(), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
