"""How much to try: the presets of ``bitterant verify``."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnknownNameError


@dataclass(frozen=True)
class Preset:
    """A row of the preset table.

    Attributes:
        seeds: trainings a cell is repeated; one seed gives no grade.
        victims: the first meets every adversary, the others only those of the naive tier.
        adversaries: besides ``none``, in the order in which they are kept when time is short.
        step_scale: length of the trainings relative to the recipe.
        published: train by this recipe of the literature instead; see ``training.PUBLISHED``.
    """

    name: str
    seeds: int
    victims: tuple[str, ...]
    adversaries: tuple[str, ...]
    step_scale: float
    published: str | None = None


_QUICK = (
    "early-stop", "jpeg:10", "grayscale", "projection", "last-layer:0.1", "validated-stop", "linear-probe", "knn",
)  # fmt: skip
_LABELS_AND_MIXING = ("regroup:2", "finer:2", "mix:0.8")
# Of the JPEG qualities the two ends and the drawn ones; those between lie between. Of the mixes the one in which clean
# pictures are worth something: with half of them clean the marginal value of the rest is often undefined.
_STANDARD = (
    *_QUICK, *_LABELS_AND_MIXING,
    "jpeg:75", "bit-depth:2", "blur:1", "down-up:0.5", "sharpen-lowpass:0.5", "jpeg:random",
    "webp:30", "median", "crop-resize:0.875",
    "trivial-augment", "cutmix", "mixup", "cutout", "fast-adversarial:8", "tv:0.1", "nlm:12",
    "bandstop:4-9", "lowpass:8", "coin:2", "equalize", "compose:grayscale+jpeg:10",
    "last-layer:0.01", "recover:0.1", "ueraser",
)  # fmt: skip
_FULL = (
    *_STANDARD,
    "jpeg:30", "jpeg:50", "mix:0.2", "mix:0.5", "blur:0.6",
    "adversarial:4", "adversarial:8", "ueraser:max", "ueraser:jpeg",
    "freeze-early:efficientnet-lite0", "fine-tune:efficientnet-lite0",
    "linear-probe:clip:ViT-B-32/openai", "knn:clip:ViT-B-32/openai", "simclr:0.1", "simclr:1",
    "whiten", "whiten:channels", "down-up:0.25", "rotate:30", "staged",
    "noise-denoise:16", "few-denoise:0.04", "few-denoise:0.01",
    "adversarial:2", "adversarial:6", "adversarial:16", "fast-adversarial:4",
    "dvae:1", "pairs:500",
)  # fmt: skip
_BESIDE_PAPERS = (
    "early-stop", "jpeg:10", "grayscale", "bit-depth:2", "cutout", "mixup", "cutmix", "ueraser:max", "adversarial:8",
    "projection",
)  # fmt: skip
_TWO_FAMILIES = ("small-cnn", "convmixer")

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Does it run: one seed, no grade.
        Preset("smoke", 1, ("small-cnn",), ("early-stop",), 0.4),
        # The naive trainer, the cheapest transforms, projection, a few clean pictures, pretrained features.
        Preset("quick", 3, _TWO_FAMILIES, _QUICK, 1.0),
        # All that a CPU can do in some hours. Two seeds more than quick: a one-sided t bound from three seeds lies 2.9
        # standard errors above the mean, from five 2.1.
        Preset("standard", 5, _TWO_FAMILIES, _STANDARD, 1.0),
        # Everything, for a GPU; what needs weights that are not on this machine is skipped and says so.
        Preset("full", 5, ("resnet18", "vgg11", "mobilenetv2", "small-vit"), _FULL, 4.0),
        # The settings of two papers, so that figures can stand beside theirs.
        Preset("emn", 3, ("resnet18",), _BESIDE_PAPERS, 1.0, published="emn"),
        Preset("apbench", 3, ("resnet18",), _BESIDE_PAPERS, 1.0, published="apbench"),
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
