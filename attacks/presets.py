"""How much to try: the presets of ``bitterant verify``."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnknownNameError

__all__ = ["PRESETS", "Preset", "preset_named"]


@dataclass(frozen=True)
class Preset:
    """A row of the preset table.

    Attributes:
        seeds: trainings a cell is repeated; one seed gives no grade.
        victims: the first meets every adversary, the others only those of the naive tier.
        adversaries: besides ``none``, in the order in which they are kept when time is short.
        step_scale: length of the trainings relative to the recipe.
    """

    name: str
    seeds: int
    victims: tuple[str, ...]
    adversaries: tuple[str, ...]
    step_scale: float


_QUICK = ("early-stop", "jpeg", "grayscale")
_TWO_FAMILIES = ("small-cnn", "convmixer")

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Does it run: one seed, no grade.
        Preset("smoke", 1, ("small-cnn",), ("early-stop",), 0.4),
        # The naive trainer and cheap transforms: about ten minutes for 1,000 small images.
        Preset("quick", 3, _TWO_FAMILIES, _QUICK, 1.0),
        # Also pretrained features, other labels and mixing; how long that takes was not measured.
        Preset(
            "standard",
            3,
            _TWO_FAMILIES,
            (*_QUICK, "linear-probe", "knn", "regroup:2", "finer:2", "mix:0.5"),
            1.0,
        ),
    )
}


def preset_named(name: str) -> Preset:
    """Look a preset up.

    Raises:
        UnknownNameError: there is none of this name.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
