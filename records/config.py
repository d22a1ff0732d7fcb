"""Configuration objects: each option of a command or a function is written once, as a field of a frozen model.

The field says how it is asked for on the command line and in a file, what it may be, and whether it decides about the
result. :mod:`bitterant.cli.options` turns the fields into options of a command, and the functions that the commands
call build the same models out of their keyword arguments. Options that several commands share stand at the end: one
wording, one default, one check. Importing this module loads neither numpy nor torch.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Self, TypedDict, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from ..errors import BitterantError, ConfigError, SetupError, UnknownNameError


class Problems:
    """Collects what is wrong, to raise it together."""

    def __init__(self) -> None:
        self.found: list[BitterantError] = []

    def add(self, error: BitterantError | None) -> None:
        """Note an error; ``None`` is no error."""
        if error is not None:
            self.found.append(error)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a configuration or environment error of the block instead of raising it."""
        try:
            yield
        except (ConfigError, SetupError) as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise what was found: one error as it is, several as one ConfigError with a line each.

        Raises:
            ConfigError: something is wrong with what was asked for.
            SetupError: only the machine is to blame.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.found[0]
        lines = [f"{len(self.found)} things are wrong:", *(f"  - {error}" for error in self.found)]
        only_setup = all(isinstance(error, SetupError) for error in self.found)
        together = (SetupError if only_setup else ConfigError)("\n".join(lines))
        together.lines = tuple(lines)
        raise together


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field is asked for; metadata of the field.

    Attributes:
        help: one or two sentences.
        metavar: what stands for the value in help; empty for a switch.
        names: on the command line; by default ``--`` and the field's name. ``"--a/--no-a"`` is a switch with two ends.
        everyday: shown by ``--help`` and not only by ``--help-all``.
        default: what help calls the default; ``True`` shows the value itself, ``False`` none.
        complete: names that begin like a word, for the shell.
        word: what the command line takes where that is not the field's own type.
        read: the field's value out of that word; raises ConfigError.
        write: the word out of the field's value, for the command that repeats a run.
        before: a field that gives way where this one was typed and the other only stands in a file.
        called: what messages call it; by default the field's name.
        decisive: whether it decides about the result, and so stands in the run file.
    """

    help: str
    metavar: str = ""
    names: tuple[str, ...] = ()
    everyday: bool = False
    default: bool | str = True
    complete: Callable[[str], list[str]] | None = None
    word: type | None = None
    read: Callable[[Any], Any] | None = None
    write: Callable[[Any], Any] | None = None
    before: str | None = None
    called: str = ""
    decisive: bool = False


class Refusal(ValueError):
    """Carries an error of ours through pydantic, which collects only ValueErrors; for validators of fields."""

    def __init__(self, error: BitterantError) -> None:
        super().__init__(str(error))
        self.error = error


def checked(check: Callable[[Any], BitterantError | None]) -> AfterValidator:
    """Metadata of a field: ``check`` gives an error for a value that will not do."""

    def validate(value: Any) -> Any:
        error = None if value is None else check(value)
        if error is not None:
            raise Refusal(error)
        return value

    return AfterValidator(validate)


def reading(read: Callable[[Any], Any]) -> BeforeValidator:
    """Metadata of a field: ``read`` makes its value of what was given, or raises ConfigError."""

    def validate(given: Any) -> Any:
        try:
            return read(given)
        except ConfigError as error:
            raise Refusal(error) from error

    return BeforeValidator(validate)


def at_least(name: str, least: int, remedy: str = "") -> AfterValidator:
    """Metadata of a field: a number from ``least`` on."""

    def check(value: float) -> ConfigError | None:
        if value >= least:
            return None
        return ConfigError(f"{name} must be at least {least}, not {value}.{remedy and ' '}{remedy}")

    return checked(check)


class Config(BaseModel):
    """Base of the models: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, given: Any) -> Any:
        """Numbers of numpy and the like as Python's own; what is no number is none by way of ``true`` either."""
        if not isinstance(given, Mapping):
            return given
        return {name: cls._plain(name, value) for name, value in given.items()}

    @classmethod
    def _plain(cls, name: str, value: Any) -> Any:
        if _is_scalar(value):
            value = value.item()
        if isinstance(value, bool) and name in cls.model_fields and bool not in kinds(cls.model_fields[name]):
            return str(value)  # pydantic would take it for 0 or 1
        return value

    @classmethod
    def collect(cls, given: Mapping[str, Any], problems: Problems) -> Self:
        """The configuration. All that is wrong is noted, and a default stands for it, so that the rest can be checked.

        Args:
            given: values by name.
            problems: where errors are noted.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            wrong = cls._wrong(error, given)
            for found in wrong.values():
                problems.add(found)
            return cls(**{name: value for name, value in given.items() if name not in wrong})

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The configuration.

        Raises:
            ConfigError: all that is wrong with it.
        """
        problems = Problems()
        made = cls.collect(given, problems)
        problems.raise_all()
        return made

    @classmethod
    def _wrong(cls, error: ValidationError, given: Mapping[str, Any]) -> dict[str, BitterantError]:
        """What is wrong, by the names of fields, in our words."""
        found: dict[str, BitterantError] = {}
        for item in error.errors(include_url=False):
            if item["type"] != "default_factory_not_called":  # its fault is that of another field
                name = str(item["loc"][0])
                found.setdefault(name, cls._explain(name, item, given))
        return found

    @classmethod
    def _explain(cls, name: str, item: Any, given: Mapping[str, Any]) -> BitterantError:
        refusal = item.get("ctx", {}).get("error")
        if isinstance(refusal, Refusal):
            return refusal.error
        if item["type"] == "extra_forbidden":
            return UnknownNameError("option", name, cls.model_fields)
        field, value, said = cls.model_fields[name], given.get(name), cls._called(name, given)
        if choices(field) and not accepted(field)[: -len(choices(field))] and isinstance(value, str):
            return UnknownNameError(said, value, choices(field))
        if item["type"] in _OUTSIDE:
            return ConfigError(f"{said} must be {limits(field)}, not {value!r}.")
        if item["type"] == "finite_number":
            return ConfigError(f"{said} must be a finite number, not {value!r}.")
        wanted = accepted(field) or [f"of type {kind.__name__}" for kind in kinds(field)]
        return ConfigError(f"{said} is {' or '.join(wanted)}, not {value!r}.")

    @classmethod
    def _called(cls, name: str, given: Mapping[str, Any]) -> str:
        """What messages call a field."""
        option = cls.options().get(name)
        return option[1].called if option is not None and option[1].called else name

    @classmethod
    def options(cls) -> dict[str, tuple[FieldInfo, Option]]:
        """The fields that the command line asks for, by name."""
        found = {}
        for name, field in cls.model_fields.items():
            for part in field.metadata:
                if isinstance(part, Option):
                    found[name] = (field, part)
        return found

    def settings(self) -> dict[str, Any]:
        """The fields that decide about the result, JSON-safe."""
        return {name: getattr(self, name) for name, (_, option) in self.options().items() if option.decisive}

    def repeat(self, command: str, always: Iterable[str] = (), **told: Any) -> str:
        """The command line that asks for the same of folders called SRC and OUT, for a file that may be published: of
        paths it has the last name, for the owner's disk is nobody's business.

        Args:
            command: its name.
            always: as in :meth:`words`.
            told: fields with another value than here.
        """
        paths = {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Path)}
        names = {name: Path(value.name) for name, value in paths.items()}
        words = self.model_copy(update={**names, **told}).words(always)
        return shlex.join(["bitterant", command, "SRC", "OUT", *words])

    def words(self, always: Iterable[str] = ()) -> list[str]:
        """The options of the command line that ask for the same.

        Args:
            always: fields that are told even where they have their default.
        """
        told: list[str] = []
        for name, (field, option) in self.options().items():
            value = getattr(self, name)
            if value == field.get_default(call_default_factory=True) and name not in always:
                continue
            spelling = spellings(name, option)[0]
            if isinstance(value, bool):
                on, _, off = spelling.partition("/")
                told.append(on if value else off)
                continue
            values = list(value.items()) if isinstance(value, Mapping) else value
            values = [] if values is None else values if isinstance(values, tuple | list) else [values]
            for one in values:
                word = one if option.write is None else option.write(one)
                told += [spelling, f"{word:.10g}" if isinstance(word, float) else str(word)]
        return told


def spellings(name: str, option: Option) -> tuple[str, ...]:
    """What an option is called on the command line."""
    return option.names or (f"--{name.replace('_', '-')}",)


def kinds(field: FieldInfo) -> tuple[type, ...]:
    """The types that a field takes, beside words out of a ``Literal`` and nothing."""
    return tuple(dict.fromkeys(_kinds(field.annotation)))


def _kinds(hint: Any) -> Iterator[type]:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif origin is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif origin is not Literal and hint is not NoneType:
        yield origin or hint


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words out of which a field takes one; none where it takes any."""
    return tuple(_choices(field.annotation))


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _choices(part)


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
    tuple: "a list of words",
}


def accepted(field: FieldInfo) -> list[str]:
    """What a field takes, for people: kinds of value, then words."""
    return [*(_KINDS[kind] for kind in kinds(field) if kind in _KINDS), *(repr(word) for word in choices(field))]


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_OUTSIDE = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")


def limits(field: FieldInfo) -> str:
    """The range of a field, for people; empty where it has none."""
    found = [(said, getattr(part, name, None)) for name, said in _LIMITS.items() for part in field.metadata]
    return " and ".join(f"{said} {limit:g}" for said, limit in found if limit is not None)


def _is_scalar(value: Any) -> bool:
    return hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def one_or_more(value: Any) -> Any:
    """A word alone as a list of one."""
    return (value,) if isinstance(value, str) else value


_F = TypeVar("_F", bound=Callable[..., Any])


def takes(model: type[Config]) -> Callable[[_F], _F]:
    """Decorator: show the fields of ``model`` in the signature of a function that takes them as keywords."""

    def decorate(function: _F) -> _F:
        shown = inspect.signature(function)
        plain = [found for found in shown.parameters.values() if found.kind is not found.VAR_KEYWORD]
        named = {found.name for found in plain}
        fields = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.get_default(call_default_factory=True),
                annotation=field.annotation,
            )
            for name, field in model.model_fields.items()
            if name not in named
        ]
        function.__signature__ = shown.replace(parameters=[*plain, *fields])  # type: ignore[attr-defined]
        return function

    return decorate


Strength = Literal["subtle", "balanced", "strong"]
STRENGTHS: Final[Mapping[Strength, float]] = {"subtle": 4.0, "balanced": 8.0, "strong": 16.0}
"""How far a pixel may move, in 1/255 levels, for each word of ``--strength``."""

_STRENGTHS_OF: Final[Mapping[str, Mapping[Strength, float]]] = {
    "texture": {"subtle": 8.0, "balanced": 12.0, "strong": 16.0}
}
"""The same for methods whose changes the eye sees less at the same budget. At 12 levels ``texture`` is no more visible
than ``emn`` is at 8 (FLIP .18 and .20, CIEDE2000 2.8 and 7.7: docs/which-method.md)."""


def strengths_of(method: str) -> Mapping[Strength, float]:
    """What the words of ``--strength`` mean with a method, in 1/255 levels."""
    return _STRENGTHS_OF.get(method, STRENGTHS)


FormatPolicy = Literal["lossless", "webp", "same"]
"""How files are written whose format loses something: as PNG, as lossless WebP, or in their own format."""

MetadataPolicy = Literal["keep", "private", "strip"]
"""How much of what is said about a picture its copy says, too."""

Mark = Literal["no-ai"]
"""What can be said to those who would train on a picture."""

Granularity = Literal["sample", "class", "cluster"]
"""Whose patterns there are: one a picture, one a class, or one a cluster of pictures that look alike."""

Schedule = Literal["fast", "balanced", "paper"]
"""How long a method that optimises goes on: a part of our default, our default, or as its paper says."""

Fit = Literal["center", "stretch"]
"""How noise meets a picture of another shape: on its centred square, mirrored outside; or stretched."""

MOST_SEED: Final = 2**31 - 1

MAX_PIXELS: Final = 200_000_000
"""Larger pictures are refused before decoding, where nothing else is said. Pillow itself refuses some TIFF and WebP
files from 179 million on."""

_ADDRESS: Final = re.compile(r"auto|(?:ray://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})")
_MOST_PORTS: Final = 65535


def check_seed(seed: int) -> ConfigError | None:
    """What is wrong with a seed, or ``None``."""
    return None if 0 <= seed <= MOST_SEED else ConfigError(f"seed {seed} is outside 0..{MOST_SEED}.")


def _check_epsilon(epsilon: float) -> ConfigError | None:
    if 1 - 1e-6 <= epsilon * 255 <= 255:  # less than a level would be rounded away
        return None
    return ConfigError(
        f"epsilon of {epsilon * 255:g} levels is outside 1..255 levels. Usual values lie between 4 and 16: "
        "--epsilon 8, in Python epsilon=8/255."
    )


def _check_weights(weights: Path) -> ConfigError | None:
    return None if weights.is_file() else ConfigError(f"There is no weights file {weights}. Check the path.")


def cluster_address(name: str) -> str | None:
    """Where the cluster is that ``ray:ADDRESS`` names; ``None`` for ``ray``, which starts one."""
    return name.partition(":")[2] or None


def check_executor(name: str, others: Sequence[str] = ()) -> BitterantError | None:
    """What is wrong with an ``executor``: ``ray``, ``ray:ADDRESS``, or one of the others."""
    if name in others or name == "ray":
        return None
    kind, colon, address = name.partition(":")
    if kind != "ray" or not colon:
        return UnknownNameError("executor", name, [*others, "ray", "ray:ADDRESS"])
    found = _ADDRESS.fullmatch(address)
    if found is not None and int(found[1] or 1) <= _MOST_PORTS:
        return None
    return ConfigError(
        f"executor {name!r}: {address!r} is no address of a Ray cluster. Use ray:auto, ray:HOST:PORT or "
        "ray:ray://HOST:PORT to join one; ray alone starts one on this machine."
    )


def levels_of(levels: Any) -> Any:
    """Levels of 255 as a fraction; what is no number is left for the check of the field."""
    return levels / 255 if isinstance(levels, int | float) and not isinstance(levels, bool) else levels


def _whole_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Seed = Annotated[int, checked(check_seed), Option(help="The same seed gives the same result.", metavar="N")]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1 or mps.", metavar="NAME")]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Option(
        help="What networks are computed in: auto, float32 or bfloat16. auto: bfloat16 where it is faster and keeps "
        "95 % of the gradient's signs.",
        metavar="WORD",
    ),
]
Resolution = Annotated[
    int | Literal["auto"],
    BeforeValidator(_whole_number),
    Option(
        help="Side in pixels at which models see the pictures. Files keep their own size.", metavar="R|auto", word=str
    ),
]
Resume = Annotated[
    bool,
    Option(
        help="Go on with what an earlier run left in OUT, or start over. Default: go on.",
        names=("--resume/--no-resume",),
    ),
]
FollowLinks = Annotated[bool, Option(help="Read what symbolic links lead to, as in data sets kept by hash.")]


class BudgetConfig(Config):
    """How far a pixel may move: a word, or a number that wins over it."""

    strength: Annotated[
        Strength,
        Option(
            help="subtle, balanced or strong: a pixel may move by 8, 12 or 16 of 255 levels with textures, by 4, 8 "
            "or 16 with other methods.",
            metavar="WORD",
            everyday=True,
            before="epsilon",
        ),
    ] = "balanced"
    epsilon: Annotated[
        float | None,
        checked(_check_epsilon),
        Option(
            help="The same as a number, 1 to 255; wins over --strength.",
            metavar="LEVELS",
            default=False,
            read=levels_of,
            write=lambda epsilon: 255 * epsilon,
        ),
    ] = None

    def bound(self, method: str) -> float:
        """The largest change of a channel, as a fraction of the full range.

        Args:
            method: whose noise it is: what a word means depends on how much of it is seen.
        """
        return strengths_of(method)[self.strength] / 255 if self.epsilon is None else self.epsilon


@dataclass(frozen=True)
class WeightsPolicy:
    """Where the weights of a network come from. Nothing touches the internet unless it says so.

    Attributes:
        file: a file of them, or ``None``.
        download: whether they may be fetched where they are not on this machine.
    """

    file: Path | None = None
    download: bool = False

    @classmethod
    def of(cls, weights: Path | str | WeightsPolicy | None, allow_download: bool = False) -> WeightsPolicy:
        """As the keywords of public functions say it."""
        if isinstance(weights, WeightsPolicy):
            return weights
        return cls(None if weights is None else Path(weights), allow_download)

    def without_file(self) -> WeightsPolicy:
        """For another network than the one that the file is of."""
        return WeightsPolicy(download=self.download)


NO_WEIGHTS: Final = WeightsPolicy()
"""What comes with a package, or lies on this machine."""


class WeightsConfig(Config):
    """Where the weights of a network come from."""

    weights: Annotated[
        Path | None,
        checked(_check_weights),
        Option(help="Weights for the surrogate: safetensors, or a plain state dict.", metavar="FILE"),
    ] = None
    allow_download: Annotated[bool, Option(help="Let a network fetch its weights; never otherwise.")] = False

    @property
    def policy(self) -> WeightsPolicy:
        """Both as one."""
        return WeightsPolicy(self.weights, self.allow_download)

    def fetching(self) -> dict[str, Any]:
        """Both as the keywords of public functions."""
        return {name: getattr(self, name) for name in WeightsConfig.model_fields}


class WeightsKeywords(TypedDict, total=False):
    """Fields of :class:`WeightsConfig`, for type checkers."""

    weights: Path | str | None
    allow_download: bool


class CaptionsConfig(Config):
    """Where captions are, beside the text files and tables that are found by themselves."""

    source: Annotated[
        Literal["auto", "sidecar", "metadata", "coco", "class"],
        Option(
            help="Where captions come from; auto takes the first that has one, in this order.",
            metavar="auto|sidecar|metadata|coco|class",
            everyday=True,
            called="caption source",
        ),
    ] = "auto"
    column: Annotated[
        str | None,
        Option(
            help="Column of captions in metadata tables.", metavar="NAME", names=("--caption-column",), everyday=True
        ),
    ] = None
    coco: Annotated[Path | None, Option(help="A COCO captions_*.json.", metavar="FILE", everyday=True)] = None
    class_names: Annotated[
        Path | None,
        Option(help="What class folders are called: lines such as 'n01440764 tench'.", metavar="FILE", everyday=True),
    ] = None
