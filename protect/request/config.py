"""What ``protect``, ``fit`` and ``apply`` are told: each option once, for the command line, files and Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypedDict

from pydantic import BeforeValidator, Field

from ...errors import ConfigError
from ...records.config import Config, Option, at_least, checked, one_or_more, reading
from ...records.shared_options import (
    BudgetConfig,
    Device,
    FormatPolicy,
    Mark,
    MetadataPolicy,
    Precision,
    Resolution,
    Seed,
    Strength,
    WeightsConfig,
    WeightsKeywords,
)
from ...records.text import parse_json
from ..methods.table import METHODS

if TYPE_CHECKING:
    from ..methods import Method

    NameOrMethod = str | Method
else:
    NameOrMethod = Any

Granularity = Literal["sample", "class", "cluster"]

METHOD_WORDS: Final = ("auto", *METHODS)
RESOLUTIONS: Final = range(16, 1025)
_MOST_THREADS: Final = 8


@dataclass(frozen=True, kw_only=True)
class HyperParameter(Option):
    """An option that some methods have as a hyper-parameter of its name."""


def complete_method(incomplete: str) -> list[str]:
    """Methods that begin like this."""
    return [name for name in METHOD_WORDS if name.startswith(incomplete)]


def default_workers() -> int:
    """Threads for reading and writing: the processors this process may use, eight at most (memory grows with it)."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, count))


def parse_parameters(given: Any) -> Any:
    """Words NAME=VALUE as a mapping: numbers, true, false and null as in JSON, everything else a word. A mapping stays
    as it is, and nothing is an empty one.

    Raises:
        ConfigError: no ``=``, or the same name twice.
    """
    if not isinstance(given, list | tuple):
        return {} if given is None else given
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = (part.strip() for part in str(text).partition("="))
        if not (name and equals and value):
            raise ConfigError(f"--set {text}: write it as NAME=VALUE, for example --set clusters=20.")
        if name in found:
            raise ConfigError(f"--set gives {name} twice.")
        try:
            found[name] = parse_json(value)
        except ValueError as error:
            if _is_number(value):
                raise ConfigError(f"--set {text}: {error}.") from error
            found[name] = value
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_resolution(resolution: int | str) -> ConfigError | None:
    if resolution == "auto" or resolution in RESOLUTIONS:
        return None
    return ConfigError(
        f"resolution {resolution} is outside {RESOLUTIONS[0]}..{RESOLUTIONS[-1]} pixels. "
        "Leave it out to have it chosen."
    )


class FitConfig(WeightsConfig, BudgetConfig):
    """What the method is told; the meaning of each field stands at :func:`bitterant.protect.protect_folder`."""

    method: Annotated[
        NameOrMethod,
        Option(
            help=f"{', '.join(METHOD_WORDS[:-1])} or {METHOD_WORDS[-1]}. 'bitterant list methods' explains them.",
            metavar="NAME",
            everyday=True,
            complete=complete_method,
            word=str,
        ),
    ] = "auto"
    granularity: Annotated[
        Granularity | None,
        Option(
            help="One pattern a picture (sample), a class, or a cluster of pictures that look alike.",
            metavar="WORD",
            default="the method's own",
        ),
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    surrogate: Annotated[
        str | None,
        Option(
            help="The model the noise is made on. See 'bitterant list surrogates'.",
            metavar="NAME",
            default="the method's own",
        ),
    ] = None
    resolution: Annotated[Resolution, checked(_check_resolution)] = "auto"
    preset: Annotated[
        Literal["paper"] | None,
        Option(help="paper: the published schedule instead of ours; much slower.", metavar="paper", default=False),
    ] = None
    precision: Precision = "auto"
    key_file: Annotated[
        Path | None,
        HyperParameter(
            help="For textures and noise from captions: a key file, hexadecimal digits that nobody can guess.",
            metavar="FILE",
            default="made of the seed",
        ),
    ] = None
    generator: Annotated[
        Path | None,
        HyperParameter(
            help="For noise from captions: folder of a generator that 't2ue train' wrote.",
            metavar="DIR",
            names=("--generator", "-g"),
            default="the embedded one",
        ),
    ] = None
    for_resolution: Annotated[
        int | None,
        HyperParameter(
            help="For textures: side in pixels at which a trainer will look at the pictures, where you know it.",
            metavar="R",
            default=False,
        ),
    ] = None
    parameters: Annotated[
        Mapping[str, Any],
        reading(parse_parameters),
        Option(
            help="A hyper-parameter of the method, such as clusters=20; may be repeated. See docs/methods.",
            metavar="NAME=VALUE",
            names=("--set",),
            default=False,
            word=list,
            write=lambda item: f"{item[0]}={item[1]}",
        ),
    ] = Field(default_factory=dict)
    coco: Annotated[
        Path | None, Option(help="For noise from captions: a COCO captions file for the pictures.", metavar="FILE")
    ] = None

    def hyper_parameters(self) -> dict[str, Any]:
        """Those of the method by name, wherever they were given.

        Raises:
            ConfigError: one was given twice.
        """
        found = dict(self.parameters or {})
        for name, (_, option) in self.options().items():
            value = getattr(self, name)
            if not isinstance(option, HyperParameter) or value is None:
                continue
            if name in found:
                raise ConfigError(f"{name} is given twice: as an option of its own, and among the hyper-parameters.")
            found[name] = str(value) if isinstance(value, Path) else value
        return found


class ReadConfig(Config):
    """How files are read."""

    resume: Annotated[
        bool,
        Option(
            help="Go on with what an earlier run left in OUT, or start over. Default: go on.",
            names=("--resume/--no-resume",),
        ),
    ] = True
    follow_links: Annotated[bool, Option(help="Read what symbolic links lead to, as in data sets kept by hash.")] = (
        False
    )
    workers: Annotated[
        int | None,
        at_least("workers", 1, "Leave it out to have it chosen."),
        Option(help="Threads that read and write files.", metavar="N", default="by machine"),
    ] = None
    max_pixels: Annotated[
        int,
        at_least("max_pixels", 1),
        Option(help="Larger pictures are refused before decoding.", metavar="PIXELS", decisive=True),
    ] = 200_000_000

    @property
    def threads(self) -> int:
        """How many read and write."""
        return self.workers or default_workers()


class WriteConfig(ReadConfig):
    """How pictures are written."""

    format: Annotated[
        FormatPolicy,
        Option(
            help="lossless: JPEG becomes PNG, the change stays exact. webp: lossless WebP instead, smaller. "
            "same: keep JPEG, which weakens it.",
            metavar="WORD",
            everyday=True,
            decisive=True,
        ),
    ] = "lossless"
    metadata: Annotated[
        MetadataPolicy,
        Option(
            help="keep all; private drops place, serial numbers and thumbnail; strip drops all.",
            metavar="WORD",
            everyday=True,
            called="metadata policy",
            decisive=True,
        ),
    ] = "keep"
    mark: Annotated[
        Mark | None,
        Option(
            help='no-ai: write "Prohibited for AI/ML training" into the metadata of the copies (IPTC Data Mining).',
            metavar="no-ai",
            everyday=True,
            decisive=True,
        ),
    ] = None
    strict: Annotated[bool, Option(help="Count skipped files as failures: exit code 1.")] = False

    def settings(self) -> dict[str, Any]:
        """As of every configuration; a mark is named where there is one."""
        return {name: value for name, value in super().settings().items() if name != "mark" or value is not None}

    def warnings(self) -> list[str]:
        """What the user should know about them."""
        if self.format != "same":
            return []
        return [
            "JPEG files are written as JPEG again: that changes pixels by more than the budget and washes part of the "
            "protection out. Measure with `bitterant verify` what is left of it; --format webp keeps all of it, in "
            "files smaller than PNG."
        ]


class FitFolderConfig(ReadConfig, FitConfig):
    """What ``fit`` is told."""


class ProtectConfig(WriteConfig, FitConfig):
    """What ``protect`` is told."""

    dry_run: Annotated[
        bool, Option(help="Show the plan with time and memory estimates; write nothing.", everyday=True)
    ] = False
    bank: Annotated[
        Path | None,
        Option(
            help="Keep the noise in FILE. Whoever has it can remove the protection: keep it private.", metavar="FILE"
        ),
    ] = None


class ApplyConfig(WeightsConfig, WriteConfig):
    """What ``apply`` is told."""

    class_name: Annotated[
        str | None,
        Option(
            help="For a picture or a folder without classes: the class of the bank whose noise is put on them.",
            metavar="NAME",
            names=("--class",),
            default=False,
        ),
    ] = None
    device: Device = "auto"


class CodeBookConfig(BudgetConfig):
    """What ``code-book`` is told."""

    classes: Annotated[
        Path | None,
        Option(help="Text file with one class name a line.", metavar="FILE", everyday=True, default=False),
    ] = None
    names: Annotated[
        tuple[str, ...],
        BeforeValidator(one_or_more),
        Option(
            help="Name of one class; may be repeated.",
            metavar="NAME",
            names=("--class",),
            everyday=True,
            default=False,
        ),
    ] = ()
    seed: Seed = 0
    key_file: Annotated[
        Path | None,
        Option(
            help="A key file: hexadecimal digits that nobody can guess.",
            metavar="FILE",
            everyday=True,
            default="made of the seed",
        ),
    ] = None
    for_resolution: Annotated[
        int | None,
        Option(
            help="Side in pixels at which a trainer will look at the pictures, where you know it.",
            metavar="R",
            default=False,
        ),
    ] = None
    colour: Annotated[
        float,
        Option(help="Share of blue, 0 to 1, that says the class a second time. See docs/methods.", metavar="SHARE"),
    ] = 0.0


class FitKeywords(WeightsKeywords, total=False):
    """Fields of :class:`FitConfig`, for type checkers."""

    method: str | Method
    granularity: Granularity | None
    strength: Strength
    epsilon: float | None
    surrogate: str | None
    resolution: int | Literal["auto"]
    seed: int
    device: str
    preset: Literal["paper"] | None
    precision: Literal["auto", "float32", "bfloat16"]
    key_file: Path | str | None
    generator: Path | str | None
    for_resolution: int | None
    parameters: Mapping[str, Any] | None
    coco: Path | str | None


class ReadKeywords(TypedDict, total=False):
    """Fields of :class:`ReadConfig`, for type checkers."""

    resume: bool
    follow_links: bool
    workers: int | None
    max_pixels: int


class WriteKeywords(ReadKeywords, total=False):
    """Fields of :class:`WriteConfig`, for type checkers."""

    format: FormatPolicy
    metadata: MetadataPolicy
    mark: Mark | None
    strict: bool


class FitFolderKeywords(ReadKeywords, FitKeywords, total=False):
    """Fields of :class:`FitFolderConfig`, for type checkers."""


class ProtectKeywords(WriteKeywords, FitKeywords, total=False):
    """Fields of :class:`ProtectConfig` but ``dry_run``, on which the result depends, for type checkers."""

    bank: Path | str | None


class ApplyKeywords(WriteKeywords, WeightsKeywords, total=False):
    """Fields of :class:`ApplyConfig`, for type checkers."""

    class_name: str | None
    device: str
