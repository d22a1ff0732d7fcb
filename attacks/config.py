"""What ``verify`` and ``t2ue verify`` are told: each option once, for the command line, files, Python, and the command
that repeats a run."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from pydantic import BeforeValidator

from ..errors import BitterantError, ConfigError, UnknownNameError
from ..records.config import (
    CaptionsConfig,
    Config,
    Device,
    Option,
    Precision,
    Resolution,
    Seed,
    WeightsConfig,
    WeightsKeywords,
    at_least,
    check_executor,
    checked,
    cluster_address,
    levels_of,
    one_or_more,
)

if TYPE_CHECKING:
    from ..imaging.captions import CaptionOptions
    from ..surrogates import Recipe

    AnyRecipe = Recipe
else:
    AnyRecipe = Any


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
    "trivial-augment", "cutmix", "mixup", "cutout", "rotate:30", "resized-crop:0.25", "fast-adversarial:8",
    "tv:0.1", "nlm:12",
    "bandstop:2-8", "destripe:0", "destripe:10", "lowpass:8", "coin:2", "equalize", "compose:grayscale+jpeg:10",
    "last-layer:0.01", "recover:0.1", "ueraser",
)  # fmt: skip
_FULL = (
    *_STANDARD,
    "jpeg:30", "jpeg:50", "mix:0.2", "mix:0.5", "blur:0.6",
    "adversarial:4", "adversarial:8", "ueraser:max", "ueraser:jpeg",
    "freeze-early:efficientnet-lite0", "fine-tune:efficientnet-lite0",
    "linear-probe:clip:ViT-B-32/openai", "knn:clip:ViT-B-32/openai", "simclr:0.1", "simclr:1",
    "whiten", "whiten:channels", "down-up:0.25", "staged",
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


_LEAST_RESOLUTION = 8


def complete_adversary(incomplete: str) -> list[str]:
    """Adversaries that begin like this."""
    from .adversaries import adversary_names

    return [name for name in adversary_names() if name.startswith(incomplete)]


def complete_victim(incomplete: str) -> list[str]:
    """Victims that begin like this, those of plug-ins among them."""
    from .training import victim_names

    return [name for name in victim_names() if name.startswith(incomplete)]


def _check_preset(name: str) -> BitterantError | None:
    return None if name in PRESETS else UnknownNameError("preset", name, PRESETS)


def _check_seeds(seeds: int) -> ConfigError | None:
    return None if seeds >= 1 else ConfigError(f"The number of seeds must be at least 1, not {seeds}.")


def _positive(option: str) -> Any:
    def check(value: float) -> ConfigError | None:
        if value > 0 and math.isfinite(value):
            return None
        return ConfigError(f"{option} must be a positive number, not {value:g}.")

    return checked(check)


def _check_resolution(resolution: int | str) -> ConfigError | None:
    if isinstance(resolution, str) or resolution >= _LEAST_RESOLUTION:
        return None
    return ConfigError(f"The working resolution must be at least {_LEAST_RESOLUTION} pixels, not {resolution}.")


def _check_promise(epsilon: float) -> ConfigError | None:
    return None if 0 < epsilon <= 1 else _no_promise(epsilon * 255)


def _no_promise(levels: float) -> ConfigError:
    return ConfigError(f"epsilon of {levels:g} levels is outside 1..255 levels: --epsilon 8, in Python epsilon=8/255.")


def _promise_of(levels: Any) -> Any:
    """Levels of 255 as a fraction. Less than a level, which Python takes, is a slip on the command line."""
    if isinstance(levels, int | float) and not 1 <= levels <= 255:
        raise _no_promise(levels)
    return levels_of(levels)


_LOCAL = ("serial", "processes")


def _check_executor(name: str) -> BitterantError | None:
    return check_executor(name, _LOCAL)


Names = Annotated[tuple[str, ...] | None, BeforeValidator(one_or_more)]

VictimResolution = Annotated[Resolution, checked(_check_resolution)]


class VerifyConfig(Config):
    """What ``verify`` is told; the meaning of each field stands at :func:`bitterant.verify_folder`."""

    test: Annotated[
        Path | None,
        Option(
            help="Clean pictures to test on, in the same class folders. Without it a part of CLEAN is held out.",
            metavar="DIR",
            everyday=True,
        ),
    ] = None
    report: Annotated[
        Path | None,
        Option(
            help="Folder for report.html, report.json and the tables beside them.",
            metavar="DIR",
            everyday=True,
            default="PROTECTED-report, beside PROTECTED",
        ),
    ] = None
    cells: Annotated[
        Path | None,
        Option(
            help="Keep finished trainings here. Verifications that share a folder share those on the clean pictures.",
            metavar="DIR",
            default="cells in the report's folder",
        ),
    ] = None
    lpips: Annotated[
        Path | None,
        Option(
            help="Weights for LPIPS, a measure of how visible the change is; see docs/file-formats.md.",
            metavar="FILE",
            default="torch's cache",
        ),
    ] = None
    preset: Annotated[
        str,
        checked(_check_preset),
        Option(
            help="How much to try: smoke (a minute or more, no grade), quick, standard (hours), full (for a GPU); or "
            "emn, apbench: as in a paper.",
            metavar="NAME",
            everyday=True,
            complete=lambda incomplete: [name for name in PRESETS if name.startswith(incomplete)],
        ),
    ] = "quick"
    resolution: VictimResolution = "auto"
    seed: Seed = 0
    device: Device = "auto"
    seeds: Annotated[
        int | None,
        checked(_check_seeds),
        Option(help="How often each training is repeated.", metavar="N", default="the preset's"),
    ] = None
    victims: Annotated[
        Names,
        Option(
            help="Train this model; may be given several times. See 'bitterant list victims'.",
            metavar="NAME",
            names=("--victim",),
            complete=complete_victim,
            default="the preset's",
        ),
    ] = None
    adversaries: Annotated[
        Names,
        Option(
            help="Try this against the protection; may be given several times. See 'bitterant list adversaries'.",
            metavar="NAME",
            names=("--adversary",),
            complete=complete_adversary,
            default="the preset's",
        ),
    ] = None
    epsilon: Annotated[
        float | None,
        checked(_check_promise),
        Option(
            help="How far a pixel of PROTECTED may have moved, 1 to 255: for copies that another tool made.",
            metavar="LEVELS",
            default="what the run file says",
            read=_promise_of,
            write=lambda epsilon: 255 * epsilon,
        ),
    ] = None
    require_tier: Annotated[
        str | None,
        Option(help="With --require-grade: the trainer to withstand, such as naive or transforms.", metavar="TIER"),
    ] = None
    require_grade: Annotated[
        str | None,
        Option(
            help="For scripts: exit code 4 unless the protection reaches weak, moderate or strong.",
            metavar="GRADE",
            everyday=True,
        ),
    ] = None
    max_minutes: Annotated[
        float | None,
        _positive("--max-minutes"),
        Option(
            help="Leave out conditions that do not fit into so many minutes in all; the report says which.",
            metavar="M",
            everyday=True,
        ),
    ] = None
    epochs: Annotated[
        float | None,
        _positive("--epochs"),
        Option(
            help="How often each training sees every picture.",
            metavar="N",
            default="the preset's: 12 for quick and standard, 48 for full, more for few pictures",
        ),
    ] = None
    precision: Precision = "auto"
    resume: Annotated[
        bool,
        Option(
            help="Use trainings that an earlier run kept, or do all anew. Default: use them.",
            names=("--resume/--no-resume",),
        ),
    ] = True
    workers: Annotated[
        int | None,
        at_least("workers", 1, "Leave it out to have it chosen."),
        Option(help="Trainings at the same time.", metavar="N", default="one a processor"),
    ] = None
    executor: Annotated[
        str | None,
        checked(_check_executor),
        Option(
            help="Who runs the trainings: serial, processes, ray (a Ray cluster on this machine), or ray:ADDRESS, such "
            "as ray:auto, to join a cluster. It is sent the pictures.",
            metavar="NAME",
            default="processes, where there is work for several",
            complete=lambda incomplete: [name for name in (*_LOCAL, "ray", "ray:auto") if name.startswith(incomplete)],
        ),
    ] = None
    recipe: AnyRecipe | None = None

    @property
    def on_ray(self) -> bool:
        """Whether a Ray cluster runs the trainings."""
        return self.executor is not None and self.executor not in _LOCAL

    @property
    def cluster_address(self) -> str | None:
        """Where the Ray cluster is; ``None`` where it is to be started."""
        return cluster_address(self.executor or "")

    def check_executor(self) -> None:
        """Check what two options say together.

        Raises:
            ConfigError: they contradict each other.
        """
        if self.executor == "serial" and (self.workers or 1) > 1:
            raise ConfigError(
                f"--executor serial does one training after the other, and --workers asks for {self.workers} at the "
                "same time. Leave out one of them."
            )

    def command(self, clean: Path, protected: Path) -> str:
        """The command line that asks for the same.

        Args:
            clean, protected: the folders.
        """
        # What neither decides about the result nor names a place is left to whoever repeats it, and what the command
        # line has no word for is told beside it: less than a level it refuses, and a recipe is a Python object.
        told = {"resume": True, "workers": None, "executor": None}
        notes = [] if self.recipe is None else ["a recipe of its own, see plan.json"]
        if self.epsilon is not None and 255 * self.epsilon < 1:
            told["epsilon"] = None
            notes.append(f"epsilon={self.epsilon:g}")
        if self.adversaries == ():
            told["adversaries"] = ("none",)
        words = self.model_copy(update=told).words(always=("preset", "resolution", "seed"))
        line = shlex.join(["bitterant", "verify", os.fspath(clean), os.fspath(protected), *words])
        return line + (f"  # called from Python with {', '.join(notes)}" if notes else "")

    def call(self) -> str:
        """The call that asks for the same of sets in memory."""
        given = {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name, field in type(self).model_fields.items()
            if name not in _NOT_OF_SETS and (getattr(self, name) != field.default or name in ("preset", "seed"))
        }
        words = [f"{name}={value!r}" for name, value in given.items()]
        return f"bitterant.attacks.verify_sets(clean, protected, test, {', '.join(words)})"


_NOT_OF_SETS = frozenset({"test", "report", "cells", "lpips", "resolution", "resume", "workers", "executor"})
"""Of folders, or without a say in the result."""


class RetrievalConfig(WeightsConfig, CaptionsConfig):
    """What ``t2ue verify`` is told."""

    test: Annotated[
        Path | None,
        Option(
            help="Clean captioned pictures to test on. Without it a fifth of CLEAN is held out.",
            metavar="DIR",
            everyday=True,
        ),
    ] = None
    victim: Annotated[
        str,
        Option(
            help="What is trained: clip-small, scratch:ARCH (such as scratch:RN50), or clip:ARCH/TAG.",
            metavar="NAME",
            everyday=True,
        ),
    ] = "clip-small"
    seeds: Annotated[
        int,
        checked(_check_seeds),
        Option(help="How often each training is repeated.", metavar="N", everyday=True),
    ] = 3
    epochs: Annotated[
        int | None,
        at_least("epochs", 1),
        Option(
            help="Passes over the pictures.",
            metavar="N",
            everyday=True,
            default="30, more for fewer than 1,800 pictures",
        ),
    ] = None
    report: Annotated[
        Path | None,
        Option(help="Folder for report.html and report.json.", metavar="DIR", everyday=True, default="none"),
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    resolution: VictimResolution = "auto"
    test_coco: Annotated[
        Path | None,
        Option(help="The COCO captions of --test.", metavar="FILE", default="those of --coco"),
    ] = None

    def caption_options(self) -> CaptionOptions:
        """Where captions of CLEAN are.

        Raises:
            CaptionError: the file of class names cannot be used.
        """
        from ..imaging.captions import CaptionOptions, read_class_names

        names = {} if self.class_names is None else read_class_names(self.class_names)
        return CaptionOptions(source=self.source, column=self.column, coco=self.coco, class_names=names)

    def command(self, clean: Path, protected: Path, notes: Sequence[str] = ()) -> str:
        """The command line that asks for the same.

        Args:
            clean, protected: the folders.
            notes: what it has no word for, or no file.
        """
        words = self.words(always=("victim", "seeds", "resolution", "seed"))
        line = shlex.join(["bitterant", "t2ue", "verify", os.fspath(clean), os.fspath(protected), *words])
        return line + (f"  # with {', '.join(notes)}" if notes else "")


class VerifyKeywords(TypedDict, total=False):
    """Fields of :class:`VerifyConfig` that also sets in memory take, for type checkers."""

    report: Path | str | None
    preset: str
    victims: Sequence[str] | None
    adversaries: Sequence[str] | None
    seeds: int | None
    seed: int
    device: str
    epsilon: float | None
    require_tier: str | None
    require_grade: str | None
    max_minutes: float | None
    workers: int | None
    executor: str | None
    recipe: Recipe | None
    epochs: float | None
    precision: Literal["auto", "float32", "bfloat16"]
    lpips: Path | str | None
    cells: Path | str | None
    resume: bool


class VerifyFolderKeywords(VerifyKeywords, total=False):
    """Fields of :class:`VerifyConfig`, for type checkers."""

    test: Path | str | None
    resolution: int | Literal["auto"]


class RetrievalKeywords(WeightsKeywords, total=False):
    """Fields of :class:`RetrievalConfig`, for type checkers."""

    test: Path | str | None
    report: Path | str | None
    victim: str
    seeds: int
    epochs: int | None
    resolution: int | Literal["auto"]
    seed: int
    device: str
    source: str
    column: str | None
    coco: Path | str | None
    class_names: Path | str | None
    test_coco: Path | str | None
