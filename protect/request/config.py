"""What ``protect``, ``fit`` and ``apply`` are told: each option once, for the command line, files and Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypedDict

from pydantic import BeforeValidator, Field

from ...errors import ConfigError
from ...plugins import entry_names
from ...records.config import (
    MAX_PIXELS,
    BudgetConfig,
    Config,
    Device,
    FollowLinks,
    FormatPolicy,
    Granularity,
    Mark,
    MetadataPolicy,
    Option,
    Precision,
    Resolution,
    Resume,
    Schedule,
    Strength,
    WeightsConfig,
    WeightsKeywords,
    at_least,
    check_executor,
    check_seed,
    checked,
    one_or_more,
    reading,
)
from ...records.processes import available_cpus
from ...records.run_file import RecordsPlace, Shard
from ...records.text import parse_json, quoted
from ..methods import METHODS

if TYPE_CHECKING:
    from ..methods import Method

    NameOrMethod = str | Method
else:
    NameOrMethod = Any

#: A seed of which also a key is made, where it is given: what anybody can guess is no key unless somebody says so.
KeySeed = Annotated[
    int | None,
    checked(check_seed),
    Option(
        help="The same seed gives the same result, but also the key of textures and noise from captions to whoever "
        "guesses it.",
        metavar="N",
        default="0; keys are then random",
    ),
]

METHOD_WORDS: Final = ("auto", *METHODS)
RESOLUTIONS: Final = range(16, 1025)
_MOST_THREADS: Final = 8


@dataclass(frozen=True, kw_only=True)
class HyperParameter(Option):
    """An option that some methods have as a hyper-parameter of its name."""


def complete_method(incomplete: str) -> list[str]:
    """Methods that begin like this, those of plug-ins by the names of their entry points."""
    names = dict.fromkeys((*METHOD_WORDS, *entry_names("bitterant.methods")))
    return [name for name in names if name.startswith(incomplete)]


def default_workers() -> int:
    """Threads for reading and writing: the processors this process may use, eight at most (memory grows with it)."""
    return max(1, min(_MOST_THREADS, available_cpus()))


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


def _written(item: tuple[str, Any]) -> str:
    """A hyper-parameter as :func:`parse_parameters` reads it; a word is quoted where it would be taken for a number."""
    name, value = item
    if isinstance(value, str) and parse_parameters([f"{name}={value}"]) == {name: value}:
        return f"{name}={value}"
    return f"{name}={json.dumps(value)}"


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


def _check_shard(shard: str) -> ConfigError | None:
    try:
        Shard.parse(shard)
    except ValueError:
        return ConfigError(f"shard {shard} is no share. Write it as 2/8: the second of eight, counted from 1.")
    return None


class FitConfig(WeightsConfig, BudgetConfig):
    """What the method is told; the meaning of each field stands at :func:`bitterant.protect.protect_folder`."""

    method: Annotated[
        NameOrMethod,
        Option(
            help=f"{', '.join(METHOD_WORDS[:-1])} or {METHOD_WORDS[-1]}. "
            "auto: texture where there are classes, else uc. "
            "'bitterant list methods' explains them.",
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
    seed: KeySeed = None
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
        Schedule | None,
        Option(
            help="Of a method that optimises: fast, balanced or paper (the published schedule, much slower).",
            metavar="WORD",
            default="balanced",
        ),
    ] = None
    precision: Precision = "auto"
    key_file: Annotated[
        Path | None,
        HyperParameter(
            help="For textures and noise from captions: a key file, hexadecimal digits that nobody can guess.",
            metavar="FILE",
            default="a random key, or of --seed",
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
            help="A hyper-parameter of the method, such as clusters=20; may be repeated. "
            "'bitterant list methods NAME' tells them.",
            metavar="NAME=VALUE",
            names=("--set",),
            default=False,
            word=list,
            write=_written,
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


#: What neither decides about the result nor is a wish that lasts: left to whoever repeats a command. So is the share,
#: which the run file tells by itself: the command is that of all shares, and of what they are joined to.
_ONCE: Final[dict[str, Any]] = {"resume": True, "workers": None, "shard": None}


class ReadConfig(Config):
    """How files are read."""

    resume: Resume = True
    follow_links: FollowLinks = False
    workers: Annotated[
        int | None,
        at_least("workers", 1, "Leave it out to have it chosen."),
        Option(help="Threads that read and write files.", metavar="N", default="by machine"),
    ] = None
    max_pixels: Annotated[
        int,
        at_least("max_pixels", 1),
        Option(help="Larger pictures are refused before decoding.", metavar="PIXELS", decisive=True),
    ] = MAX_PIXELS

    max_seconds_per_file: Annotated[
        float,
        at_least("max_seconds_per_file", 1),
        Option(help="A file that takes longer counts as failed.", metavar="S"),
    ] = 1200.0

    @property
    def threads(self) -> int:
        """How many read and write."""
        return self.workers or default_workers()


class RecordsConfig(Config):
    """Where the records of a run lie. It decides nothing: a run that was begun goes on where its records are."""

    records: Annotated[
        RecordsPlace,
        Option(
            help="Where manifest, run file and report lie. inside: in OUT. beside: in the folder OUT-records, so that "
            "OUT holds copies, captions and label maps alone. Those of shards and object stores always lie beside.",
            metavar="inside|beside",
        ),
    ] = "inside"

    @property
    def asked_place(self) -> RecordsPlace | None:
        """The place, if somebody named one; ``None`` where it is the default."""
        return self.records if "records" in self.model_fields_set else None


class WriteConfig(RecordsConfig, ReadConfig):
    """How pictures are written."""

    format: Annotated[
        FormatPolicy,
        Option(
            help="What JPEG becomes. lossless: PNG, several times larger, with all of the protection. webp: lossless "
            "WebP, smaller. same: JPEG again, which weakens the protection.",
            metavar="WORD",
            everyday=True,
            decisive=True,
        ),
    ] = "lossless"
    metadata: Annotated[
        MetadataPolicy,
        Option(
            help="What a copy says beside its pixels. keep: all. private: no place, serial numbers or thumbnail. "
            "strip: nothing.",
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


class ShareConfig(Config):
    """How a run is divided among machines."""

    shard: Annotated[
        str | None,
        checked(_check_shard),
        Option(
            help="Write share I of N alone, by the contents of the files; 'bitterant merge' joins the shares.",
            metavar="I/N",
            default=False,
        ),
    ] = None

    @property
    def share(self) -> Shard | None:
        """Which share; ``None`` for all of it."""
        return None if self.shard is None else Shard.parse(self.shard)


class FitFolderConfig(ReadConfig, FitConfig):
    """What ``fit`` is told."""


class ProtectConfig(ShareConfig, WriteConfig, FitConfig):
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

    def command(self, method: str, resolution: int | None) -> str:
        """The command line that asks for the same, see :meth:`~bitterant.records.config.Config.repeat`.

        Args:
            method, resolution: those that were taken, where they were left open.
        """
        told = {**_ONCE, "method": method, "resolution": resolution or "auto", "bank": None}
        files = ("key_file", "generator")  # given as hyper-parameters: of these, too, the last name is enough
        told["parameters"] = {
            name: Path(value).name if name in files else value for name, value in (self.parameters or {}).items()
        }
        line = self.repeat("protect", ("method",), **told)
        return line if isinstance(self.method, str) else f"{line}  # called from Python with a method of its own"


class ApplyConfig(ShareConfig, WeightsConfig, WriteConfig):
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

    def command(self, bank: Any) -> str:
        """The command line that asks for the same, see :meth:`~bitterant.records.config.Config.repeat`."""
        name = Path(bank).name if isinstance(bank, str | Path) else "BANK"
        return f"{self.repeat('apply', **_ONCE)} --bank {quoted(name)}"


class StreamConfig(ApplyConfig):
    """What ``apply`` is told, of shards and object stores too."""

    dry_run: Annotated[
        bool, Option(help="Say what would be done, from a few pictures; write nothing.", everyday=True)
    ] = False
    class_from: Annotated[
        str | None,
        Option(
            help="For shards: where the class stands: path, the ending of a member (cls), a field of the .json, or a "
            "column.",
            metavar="NAME",
            default="found by itself",
            decisive=True,
        ),
    ] = None
    classes: Annotated[
        Path | None,
        Option(
            help="For shards whose classes are numbers: text file with one class name a line, the first for 0.",
            metavar="FILE",
            default=False,
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...],
        BeforeValidator(one_or_more),
        Option(
            help="For shards: only this column, or ending of members (jpg), holds pictures; may be repeated. Others "
            "are copied as they are.",
            metavar="NAME",
            names=("--column",),
            default=False,
            decisive=True,
        ),
    ] = ()
    executor: Annotated[
        str | None,
        checked(check_executor),
        Option(
            help="Have a Ray cluster do it: ray (one on this machine), or ray:ADDRESS, such as ray:auto, to join one. "
            "--workers is then how many tasks at a time.",
            metavar="NAME",
            default="this process",
            complete=lambda incomplete: [name for name in ("ray", "ray:auto") if name.startswith(incomplete)],
        ),
    ] = None

    def command(self, bank: Any) -> str:
        """As of :class:`ApplyConfig`; who does the work is for whoever repeats it."""
        told = self.model_copy(update={"executor": None, "dry_run": False})
        return super(StreamConfig, told).command(bank)


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
    seed: KeySeed = None
    key_file: Annotated[
        Path | None,
        Option(
            help="A key file: hexadecimal digits that nobody can guess.",
            metavar="FILE",
            everyday=True,
            default="a random key, or of --seed",
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


def read_names(path: Path) -> list[str]:
    """Class names out of a text file, one a line; empty lines are left out.

    Raises:
        ConfigError: it cannot be read, or holds no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"The file of class names {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file of class names {path} is not UTF-8 text.") from error
    return [line.strip() for line in lines if line.strip()]


class FitKeywords(WeightsKeywords, total=False):
    """Fields of :class:`FitConfig`, for type checkers."""

    method: str | Method
    granularity: Granularity | None
    strength: Strength
    epsilon: float | None
    surrogate: str | None
    resolution: int | Literal["auto"]
    seed: int | None
    device: str
    preset: Schedule | None
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
    max_seconds_per_file: float


class RecordsKeywords(TypedDict, total=False):
    """Fields of :class:`RecordsConfig`, for type checkers."""

    records: RecordsPlace


class WriteKeywords(RecordsKeywords, ReadKeywords, total=False):
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
    shard: str | None


class ApplyKeywords(WriteKeywords, WeightsKeywords, total=False):
    """Fields of :class:`ApplyConfig`, for type checkers."""

    class_name: str | None
    device: str
    shard: str | None


class StreamKeywords(ApplyKeywords, total=False):
    """Fields of :class:`StreamConfig` but ``dry_run``, on which the result depends, for type checkers."""

    class_from: str | None
    classes: Path | str | None
    columns: tuple[str, ...] | str
    executor: str | None
