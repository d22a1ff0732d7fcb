"""Options that several commands share: one wording, one default, one check; also from a configuration file.

Names that the shell completes.

``--config FILE.toml``: defaults for a command's options. What is typed on the command line wins.

Options that several commands share: one wording, one default, one check.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import ConfigError
from ..records.text import parse_json
from .help import ADVANCED

#: Names of ``--method``, in the order in which they are told; listing them from the registry would load torch.
METHODS = ("auto", "texture", "emn", "uc", "beo", "t2ue", "noise")


def complete_method(incomplete: str) -> list[str]:
    """Methods that begin like this."""
    return _beginning(METHODS, incomplete)


def complete_adversary(incomplete: str) -> list[str]:
    """Adversaries that begin like this."""
    from ..attacks import adversary_names

    return _beginning(adversary_names(), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def load_defaults(ctx: typer.Context, path: Path | None) -> Path | None:
    """Read the table named like the command and make its values the defaults of the options.

    All mistakes of the file are told at once.

    Raises:
        typer.BadParameter: the file cannot be read, is no TOML, or names something that is not an option.
    """
    if path is None or ctx.resilient_parsing:
        return path
    from ..records.places import read_regular
    from ..records.text import parse_toml

    try:
        tables = parse_toml(read_regular(path))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not valid TOML: {error}.") from error
    command = str(ctx.info_name)
    table = tables.get(command)
    if not isinstance(table, dict):
        raise typer.BadParameter(f"{path} has no table [{command}]. Options of this command stand below that line.")
    names = {
        option.lstrip("-").replace("-", "_"): parameter.name
        for parameter in ctx.command.params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--help", "--config")
    }
    defaults: dict[str, object] = {}
    mistakes: list[str] = []
    for key, value in table.items():
        plain = key.replace("-", "_")
        name = names.get(plain)
        if name is None:
            near = difflib.get_close_matches(plain, names, n=1)
            mistakes.append(f"{key!r} is not an option of {command}" + (f"; did you mean {near[0]!r}?" if near else ""))
        elif isinstance(value, dict):
            mistakes.append(f"{key!r} holds a table; an option has one value")
        else:
            defaults[name] = value
    if mistakes:
        raise typer.BadParameter(f"{path}: " + "; ".join(mistakes) + ".")
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def typed(ctx: typer.Context, name: str) -> bool:
    """Whether an option was typed on the command line, rather than read from a file or left at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,
        callback=load_defaults,
        help="Read options from the table of this command; the command line wins.",
        rich_help_panel=ADVANCED,
    ),
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
MarkOption = Annotated[
    Literal["no-ai"] | None,
    typer.Option(
        metavar="no-ai",
        help='no-ai: write "Prohibited for AI/ML training" into the metadata of the copies (IPTC Data Mining).',
        show_default=False,
    ),
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
