"""Victims: the networks a trainer would train. Architectures are those of the surrogates, always from scratch."""

from __future__ import annotations

import hashlib

from ...errors import ConfigError, UnknownNameError
from ...surrogates import Recipe, Surrogate, create_surrogate, recipe_for, surrogate_family, surrogate_names
from .schedule import fit_recipe

__all__ = ["check_victim", "create_victim", "victim_family", "victim_names", "victim_recipe", "victim_seed"]

# They start from trained weights; a trainer who has those belongs to the tier "prior" (fine-tune, linear-probe).
_PRETRAINED = frozenset({"efficientnet-lite0"})


def victim_names() -> tuple[str, ...]:
    """Names of the registry; besides these, ``timm:NAME`` takes any network of timm, with random weights."""
    return tuple(name for name in surrogate_names() if name not in _PRETRAINED)


def check_victim(name: str) -> str:
    """``name`` itself if it can be a victim.

    Raises:
        UnknownNameError: no such network.
        ConfigError: it starts from trained weights.
    """
    if not name.startswith("timm:") and name not in surrogate_names():
        raise UnknownNameError("victim", name, [*victim_names(), "timm:NAME"])
    if name in _PRETRAINED:
        raise ConfigError(
            f"{name!r} starts from trained weights, so it is no victim for training from scratch. "
            f"Choose one of {', '.join(victim_names())}."
        )
    return name


def victim_family(name: str) -> str:
    """The architecture family, to tell a victim that resembles the protector's surrogate from one that does not."""
    return surrogate_family(name)


def victim_recipe(name: str, images: int, *, scale: float = 1.0, epochs: float | None = None) -> Recipe:
    """How this victim is trained on so many images; the same for every arm and every adversary."""
    return fit_recipe(recipe_for(name), images, scale=scale, epochs=epochs)


def victim_seed(seed: int, index: int) -> int:
    """Seed of the ``index``-th training, the same in every arm.

    Derived by a hash, so that it is never the seed of the protector's surrogate: a victim with the very same initial
    weights would flatter the protection.
    """
    digest = hashlib.sha256(f"bitterant victim {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def create_victim(name: str, *, num_classes: int, resolution: int, seed: int) -> Surrogate:
    """A victim with random weights."""
    return create_surrogate(name, num_classes=num_classes, resolution=resolution, seed=seed)
