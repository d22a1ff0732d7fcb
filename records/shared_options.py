"""Options that several commands share: one wording, one default, one check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import BeforeValidator

from ..errors import BitterantError, ConfigError, UnknownNameError
from .config import Config, Option, checked

Strength = Literal["subtle", "balanced", "strong"]
STRENGTHS: Final[dict[Strength, float]] = {"subtle": 4.0, "balanced": 8.0, "strong": 16.0}
"""How far a pixel may move, in 1/255 levels, for each word of ``--strength``."""

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


class BudgetConfig(Config):
    """How far a pixel may move: a word, or a number that wins over it."""

    strength: Annotated[
        Strength,
        Option(
            help="subtle, balanced or strong: a pixel may move by 4, 8 or 16 of 255 levels.",
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

    @property
    def levels(self) -> float:
        """The largest change of a channel, in 1/255 levels."""
        return STRENGTHS[self.strength] if self.epsilon is None else 255 * self.epsilon

    @property
    def bound(self) -> float:
        """The same as a fraction of the full range."""
        return STRENGTHS[self.strength] / 255 if self.epsilon is None else self.epsilon


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
