"""Options that several commands share: one wording, one default, one check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import ConfigError
from ..imaging.structured import parse_json
from .completion import METHODS, complete_method
from .config import typed
from .help import ADVANCED

__all__ = [
    "ADVANCED",
    "STRENGTHS",
    "AllowDownloadOption",
    "CocoOption",
    "DebugOption",
    "DeviceOption",
    "EpsilonOption",
    "FollowLinksOption",
    "ForResolutionOption",
    "FormatOption",
    "GeneratorOption",
    "GranularityOption",
    "JsonOption",
    "MaxPixelsOption",
    "MetadataOption",
    "MethodOption",
    "PaperOption",
    "ParameterOption",
    "PrecisionOption",
    "PromisedEpsilonOption",
    "QuietOption",
    "ResolutionOption",
    "ResumeOption",
    "SeedOption",
    "Strength",
    "StrengthOption",
    "StrictOption",
    "SurrogateOption",
    "WeightsOption",
    "WorkersOption",
    "epsilon_levels",
    "method_parameters",
    "parse_parameters",
    "parse_resolution",
    "promised_epsilon",
]

Strength = Literal["subtle", "balanced", "strong"]
STRENGTHS: dict[Strength, float] = {"subtle": 4.0, "balanced": 8.0, "strong": 16.0}
"""How far a pixel may move, in 1/255 levels, for each word of ``--strength``."""

StrengthOption = Annotated[
    Strength | None,
    typer.Option(
        metavar="WORD",
        help="subtle, balanced or strong: a pixel may move by 4, 8 or 16 of 255 levels. Default: balanced.",
        show_default=False,
    ),
]
EpsilonOption = Annotated[
    float | None,
    typer.Option(
        metavar="LEVELS",
        help="The same as a number, 1 to 255; wins over --strength.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]
PromisedEpsilonOption = Annotated[
    float | None,
    typer.Option(
        metavar="LEVELS",
        help="How far a pixel of PROTECTED may have moved, 1 to 255: for copies that another tool made.",
        show_default="what the run file says",
        rich_help_panel=ADVANCED,
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}. 'bitterant list methods' explains them.",
        autocompletion=complete_method,
    ),
]
GranularityOption = Annotated[
    Literal["sample", "class", "cluster"] | None,
    typer.Option(
        metavar="WORD",
        help="One pattern a picture (sample), a class, or a cluster of pictures that look alike.",
        show_default="the method's own",
        rich_help_panel=ADVANCED,
    ),
]
SurrogateOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The model the noise is made on. See 'bitterant list surrogates'.",
        show_default="the method's own",
        rich_help_panel=ADVANCED,
    ),
]
ResolutionOption = Annotated[
    str,
    typer.Option(
        metavar="R|auto",
        help="Side in pixels at which models see the pictures. Files keep their own size.",
        rich_help_panel=ADVANCED,
    ),
]
ForResolutionOption = Annotated[
    int | None,
    typer.Option(
        metavar="R",
        help="texture: side in pixels at which a trainer will look at the pictures, where you know it.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]
FormatOption = Annotated[
    Literal["lossless", "webp", "same"],
    typer.Option(
        "--format",
        metavar="WORD",
        help="lossless: JPEG becomes PNG, the change stays exact. webp: lossless WebP instead, smaller. "
        "same: keep JPEG, which weakens it.",
    ),
]
MetadataOption = Annotated[
    Literal["keep", "private", "strip"],
    typer.Option(metavar="WORD", help="keep all; private drops place, serial numbers and thumbnail; strip drops all."),
]
SeedOption = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="The same seed gives the same result.", rich_help_panel=ADVANCED),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=ADVANCED)
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Go on with what an earlier run left in OUT, or start over. Default: go on.",
        rich_help_panel=ADVANCED,
    ),
]
FollowLinksOption = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Read what symbolic links lead to, as in data sets kept by hash.",
        rich_help_panel=ADVANCED,
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Count skipped files as failures: exit code 1.", rich_help_panel=ADVANCED)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.", rich_help_panel=ADVANCED)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=ADVANCED)]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Print the log and full tracebacks.", rich_help_panel=ADVANCED)
]
PaperOption = Annotated[
    Literal["paper"] | None,
    typer.Option(
        "--preset",
        metavar="paper",
        help="paper: the published schedule instead of ours; much slower.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(
        metavar="WORD",
        help="What networks are computed in: auto, float32 or bfloat16. auto: bfloat16 where it is faster and keeps "
        "95 % of the gradient's signs.",
        rich_help_panel=ADVANCED,
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyper-parameter of the method, such as clusters=20; may be repeated. See docs/methods.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]
CocoOption = Annotated[
    Path | None,
    typer.Option(
        "--coco", metavar="FILE", help="t2ue: a COCO captions file for the pictures.", rich_help_panel=ADVANCED
    ),
]
GeneratorOption = Annotated[
    Path | None,
    typer.Option(
        "--generator",
        "-g",
        metavar="DIR",
        help="t2ue: folder of a generator that 't2ue train' wrote.",
        show_default="the embedded one",
        rich_help_panel=ADVANCED,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Weights for the surrogate: safetensors, or a plain state dict.", rich_help_panel=ADVANCED
    ),
]
AllowDownloadOption = Annotated[
    bool,
    typer.Option(
        "--allow-download", help="Let a surrogate fetch its weights; never otherwise.", rich_help_panel=ADVANCED
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Threads that read and write files.",
        show_default="by machine",
        rich_help_panel=ADVANCED,
    ),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option(
        min=1, metavar="PIXELS", help="Larger pictures are refused before decoding.", rich_help_panel=ADVANCED
    ),
]


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """The values of ``--set``: numbers, true, false and null as in JSON, everything else a word.

    Raises:
        ConfigError: no ``=``, or the same name twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
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


def method_parameters(
    given: Sequence[str] | None, *, generator: Path | None, for_resolution: int | None
) -> dict[str, Any]:
    """The hyper-parameters of the method: those of ``--set``, and those that have an option of their own."""
    chosen = parse_parameters(given or [])
    if generator is not None:
        chosen["generator"] = str(generator)
    if for_resolution is not None:
        chosen["for_resolution"] = for_resolution
    return chosen


def epsilon_levels(ctx: typer.Context, epsilon: float | None, strength: Strength | None) -> float:
    """The budget in 1/255 levels: ``--epsilon`` where given, else the word of ``--strength``, else 8.

    A word that was typed wins over a number that a configuration file holds.
    """
    if epsilon is None or (typed(ctx, "strength") and not typed(ctx, "epsilon")):
        return STRENGTHS[strength or "balanced"]
    return epsilon


def promised_epsilon(levels: float | None) -> float | None:
    """The budget as a fraction, where one was given in 1/255 levels.

    Raises:
        ConfigError: it is outside 1..255 levels.
    """
    if levels is None:
        return None
    from ..imaging import Budget

    return Budget.from_levels(levels).epsilon


def parse_resolution(text: str) -> int | Literal["auto"]:
    """``auto`` or a whole number of pixels.

    Raises:
        ConfigError: anything else.
    """
    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ConfigError(f"--resolution takes 'auto' or a number of pixels such as 64, not {text!r}.")
