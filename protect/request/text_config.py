"""What the ``t2ue`` commands are told: each option once, for the command line and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from ...errors import ConfigError
from ...records.config import (
    BudgetConfig,
    CaptionsConfig,
    Device,
    Fit,
    FollowLinks,
    Option,
    Resume,
    Seed,
    WeightsConfig,
    at_least,
    checked,
    one_or_more,
)
from .config import MetadataPolicy, WriteConfig, WriteKeywords

MAX_EPSILON: Final = 16.0
"""Levels of 255 that are accepted from elsewhere unless asked otherwise: what ``--strength strong`` means here."""


def _check_share(strength: float) -> ConfigError | None:
    if 0 < strength <= 1:
        return None
    return ConfigError(f"strength {strength:g} is outside (0, 1]: more than all of the noise breaks its bound.")


def _check_weight(diversity: float) -> ConfigError | None:
    return None if diversity >= 0 else ConfigError(f"diversity must be at least 0, not {diversity:g}.")


Generator = Annotated[
    Path | None,
    Option(
        help="Folder of a generator.",
        metavar="DIR",
        names=("--generator", "-g"),
        everyday=True,
        default="the embedded one",
    ),
]


class AskConfig(CaptionsConfig):
    """What ``t2ue captions`` is told."""

    source: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride] - from one place more
        Literal["auto", "sidecar", "metadata", "coco", "class", "captioner"],
        Option(
            help="Where captions come from; auto takes the first that has one, in this order.",
            metavar="auto|sidecar|metadata|coco|class|captioner",
            everyday=True,
            called="caption source",
        ),
    ] = "auto"
    template: Annotated[
        str, Option(help="The sentence for the names of class folders.", metavar="TEXT", everyday=True)
    ] = "a photo of a {}."
    captioner: Annotated[
        Path | None,
        Option(
            help="A local image-to-text model for pictures without a caption. Runs here.", metavar="DIR", everyday=True
        ),
    ] = None
    fallback: Annotated[
        str | None,
        Option(
            help="For pictures without a caption; else they are an error.",
            metavar="TEXT",
            names=("--fallback-caption",),
            everyday=True,
        ),
    ] = None
    generic: Annotated[
        bool, Option(help="Take proper names, numbers and addresses out of captions. Simple rules.", everyday=True)
    ] = False
    deny: Annotated[
        tuple[str, ...],
        BeforeValidator(one_or_more),
        Option(help="With --generic: a word to take out; may be repeated.", metavar="WORD", everyday=True),
    ] = ()
    send_size: Annotated[bool, Option(help="Send width and height too, for noise made to measure.", everyday=True)] = (
        False
    )
    send_seed: Annotated[
        bool, Option(help="Choose the seeds here, from the key, instead of leaving them to the server.", everyday=True)
    ] = False
    follow_links: FollowLinks = False


class BundleConfig(WeightsConfig, BudgetConfig):
    """What ``t2ue noise`` is told."""

    generator: Generator = None
    z_mode: Annotated[
        Literal["class", "codebook", "sample"],
        Option(
            help="One seed a class, a few seeds shared by all, or a seed of its own for each picture.",
            metavar="class|codebook|sample",
            everyday=True,
            called="z mode",
        ),
    ] = "sample"
    codebook: Annotated[
        int, at_least("codebook", 1), Option(help="Seeds of --z-mode codebook.", metavar="K", everyday=True)
    ] = 32
    prompt_mode: Annotated[
        Literal["fixed", "cycle"],
        Option(
            help="fixed: the captions as they came. cycle: class names in 18 changing sentences.",
            metavar="fixed|cycle",
            everyday=True,
            called="prompt mode",
        ),
    ] = "fixed"
    fit: Annotated[
        Fit,
        Option(
            help="How noise is meant to meet a picture: on its centred square, mirrored outside; or stretched.",
            metavar="center|stretch",
            everyday=True,
        ),
    ] = "center"
    key_file: Annotated[
        Path | None,
        Option(
            help="Secret behind the seeds; made if missing.", metavar="FILE", everyday=True, default="new each time"
        ),
    ] = None
    format: Annotated[
        Literal["safetensors", "npz", "png"],
        Option(
            help="'t2ue apply' reads safetensors; npz and png are for other programs and eyes.",
            metavar="safetensors|npz|png",
            everyday=True,
        ),
    ] = "safetensors"
    batch_size: Annotated[
        int, at_least("batch_size", 1), Option(help="Captions at a time; the result is the same.", metavar="N")
    ] = 8
    device: Device = "auto"


class ApplyBundleConfig(WriteConfig):
    """What ``t2ue apply`` is told."""

    fit: Annotated[
        Fit | None,
        Option(
            help="How noise meets a picture.",
            metavar="center|stretch",
            everyday=True,
            default="what the bundle was made for",
        ),
    ] = None
    strength: Annotated[
        float,
        checked(_check_share),
        Option(help="Share of the noise to use, above 0 up to 1.", metavar="SHARE", everyday=True),
    ] = 1.0
    max_epsilon: Annotated[
        float,
        Option(help="Refuse a bundle that changes pixels by more of 255 levels.", metavar="LEVELS", everyday=True),
    ] = MAX_EPSILON
    metadata: Annotated[
        MetadataPolicy,
        Option(
            help="keep all; private drops place, serial numbers and thumbnail; strip drops all.",
            metavar="WORD",
            everyday=True,
            called="metadata policy",
            decisive=True,
        ),
    ] = "private"
    dry_run: Annotated[bool, Option(help="Verify, say what would be done, write nothing.", everyday=True)] = False


class ApplyBundleKeywords(WriteKeywords, total=False):
    """Fields of :class:`ApplyBundleConfig` but ``dry_run``, on which the result depends, for type checkers."""

    fit: Fit | None
    strength: float
    max_epsilon: float


class GeneratorConfig(WeightsConfig, BudgetConfig):
    """What ``t2ue train`` is told."""

    pairs: Annotated[
        Path | None,
        Option(
            help="Pictures with captions beside them, or in class folders. Without it: sentences about ImageNet's "
            "things, and drawn discs instead of photographs.",
            metavar="DIR",
            everyday=True,
        ),
    ] = None
    coco: Annotated[
        Path | None, Option(help="A COCO captions file for the pictures of --pairs.", metavar="FILE", everyday=True)
    ] = None
    surrogate: Annotated[
        str, Option(help="Image-text surrogate: conse, or clip:ARCH/TAG.", metavar="NAME", everyday=True)
    ] = "conse"
    size: Annotated[
        Literal["32", "64", "256"] | None,
        Option(
            help="Side of the noise in px. 256 is the paper's network.",
            metavar="32|64|256",
            everyday=True,
            default="32; with --preset paper 256",
        ),
    ] = None
    steps: Annotated[
        int | None,
        at_least("steps", 1),
        Option(help="Optimiser steps.", metavar="N", everyday=True, default="800"),
    ] = None
    batch_size: Annotated[
        int | None,
        at_least("batch_size", 2),
        Option(help="Captions a step.", metavar="N", everyday=True, default="64"),
    ] = None
    diversity: Annotated[
        float,
        checked(_check_weight),
        Option(help="Weight of a term that keeps noises of one caption apart.", metavar="W", everyday=True),
    ] = 0.0
    mismatched: Annotated[
        bool,
        Option(
            help="Put noise on any picture, not only on the one that the caption describes.",
            names=("--mismatched/--no-mismatched",),
            everyday=True,
        ),
    ] = True
    preset: Annotated[
        Literal["paper"] | None,
        Option(help="paper: the published schedule instead of ours; much slower.", metavar="paper", default=False),
    ] = None
    seed: Seed = 0
    resume: Resume = True
    device: Device = "auto"
