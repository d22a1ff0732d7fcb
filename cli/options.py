"""Fields of configuration objects as options of a command, and what was given back as values of these fields.

``--config FILE.toml`` gives the same fields; what is typed on the command line wins.

Help comes first, as people read it: a command's few everyday options, the rest with ``--help-all``; no types, no
broken words.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand, TyperGroup

from ..errors import ConfigError
from ..records.config import Config, Option, Problems, choices, kinds, spellings
from ..records.text import counted
from .output import Output

#: The panel of what only ``--help-all`` shows.
ADVANCED: Final = "Advanced"

_HELP_ALL: Final = "--help-all"
_HELP_COLUMN: Final = 25  # of names; longer ones stand on a line of their own
_SHELL: Final = ("--install-completion", "--show-completion")

Row = tuple[str, str]


class _Brief:
    """What commands and groups share."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, unless all of the help is asked for."""
        if _HELP_ALL in args[: args.index("--")] if "--" in args else _HELP_ALL in args:
            typer.echo(_help_page(self, ctx, everything=True))
            ctx.exit()
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the everyday part."""
        formatter.write(_help_page(self, ctx, everything=False) + "\n")


class BriefCommand(_Brief, TyperCommand):
    """A command with brief help."""


class BriefGroup(_Brief, TyperGroup):
    """A group of commands with brief help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Only what stands before the name of a command is asked of the group itself."""
        if args and args[0] != _HELP_ALL:
            return TyperGroup.parse_args(self, ctx, args)
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A Typer application whose commands have brief help."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("cls", BriefGroup)
        super().__init__(context_settings={"help_option_names": ["-h", "--help"]}, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """As of Typer."""
        return super().command(name, cls=BriefCommand, **settings)


def _help_page(command: Any, ctx: Any, *, everything: bool) -> str:
    width = int(ctx.make_formatter().width)
    params = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    everyday = [option for option in options if not _advanced(option)]
    rest = [option for option in options if _advanced(option)]
    names = [_help_argument(argument) for argument in arguments]
    tail = ["COMMAND"] if hasattr(command, "commands") else []
    parts = [f"Usage: {' '.join([ctx.command_path, *names, '[OPTIONS]', *tail])}"]
    parts += [_help_wrapped(text, width) for text in (command.help or "").split("\n\n")]
    if arguments:
        parts.append(
            _help_section("Arguments", ((_help_argument(a), getattr(a, "help", None) or "") for a in arguments), width)
        )
    for title, rows in _help_commands(command, ctx):
        parts.append(_help_section(title, rows, width))
    shown = [_help_row(option) for option in everyday]
    if rest and not everything:
        shown.append((_HELP_ALL, f"Show {counted(len(rest), 'more option')}."))
    parts.append(_help_section("Options", shown, width))
    if rest and everything:
        parts.append(_help_section("More options", (_help_row(option) for option in rest), width))
    if command.epilog:
        parts.append(_help_wrapped(command.epilog, width))
    return "\n\n".join(parts)


def _advanced(option: Any) -> bool:
    return getattr(option, "rich_help_panel", None) == ADVANCED or option.opts[0] in _SHELL


def _help_argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _help_row(option: Any) -> Row:
    names = sorted(option.opts, key=len)
    spelling = ", ".join(names)
    if option.secondary_opts:
        spelling += f"/{option.secondary_opts[0]}"
    flag = getattr(option, "is_flag", False) or getattr(option, "count", False)
    words = spelling if flag else f"{spelling} {option.metavar or 'VALUE'}"
    return words, f"{option.help or ''}{_help_default(option, flag=flag)}"


def _help_default(option: Any, *, flag: bool) -> str:
    shown, value = getattr(option, "show_default", False), option.default
    if isinstance(shown, str):
        return f" Default: {shown}."
    if flag or not shown or value is None or callable(value) or value == ():
        return ""
    return f" Default: {value}".removesuffix(".") + "."


def _help_commands(command: Any, ctx: Any) -> Iterable[tuple[str, list[Row]]]:
    panels: dict[str, list[Row]] = {}
    for name, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            panel = getattr(found, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(title, []).append((name, (found.help or "").partition("\n\n")[0]))
    return panels.items()


def _help_section(title: str, rows: Iterable[Row], width: int) -> str:
    lines = [f"{title}:"]
    for names, text in rows:
        first = f"  {names}"
        told = _help_fold(text, width - _HELP_COLUMN - 2) or [""]
        if len(first) > _HELP_COLUMN:
            lines.append(first)
        else:
            lines.append(f"{first:<{_HELP_COLUMN + 2}}{told.pop(0)}".rstrip())
        lines += [" " * (_HELP_COLUMN + 2) + line for line in told]
    return "\n".join(lines)


def _help_wrapped(text: str, width: int) -> str:
    return "\n".join(_help_fold(text, width))


def _help_fold(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


Given = dict[str, Any]
"""Values of a configuration object by the names of its fields: those that were typed or stand in a file."""


class TerminalConfig(Config):
    """How a command talks."""

    as_json: Annotated[bool, Option(help="Print the summary as one JSON object on stdout.", names=("--json",))] = False
    quiet: Annotated[bool, Option(help="Print errors only.", names=("--quiet", "-q"))] = False
    debug: Annotated[bool, Option(help="Print the log and full tracebacks.")] = False


Fields = Mapping[str, tuple[FieldInfo, Option]]


@dataclass(frozen=True)
class Terminal:
    """The two channels of a command, and whether faults are told at length."""

    output: Output
    debug: bool


def takes_options(
    model: type[Config] | None = None, *, as_json: bool = True, quiet: bool = True, from_file: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: make a command out of a function.

    Its own parameters that Typer knows come first. Beside them it is handed ``terminal: Terminal`` and, where there is
    a model, ``given: Given``.

    Args:
        model: whose fields become options.
        as_json: offer ``--json``.
        quiet: offer ``--quiet``.
        from_file: offer ``--config``.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [found for name, found in signature.parameters.items() if name not in ("given", "terminal")]
        fields = {} if model is None else model.options()
        left_out = {name for name, offered in {"as_json": as_json, "quiet": quiet}.items() if not offered}
        talk = {name: found for name, found in TerminalConfig.options().items() if name not in left_out}

        @functools.wraps(function)
        def command(ctx: typer.Context, **values: Any) -> None:
            values.pop("config", None)
            told = {name: values.pop(name, False) for name in TerminalConfig.model_fields}
            terminal = Terminal(Output(as_json=told["as_json"], quiet=told["quiet"]), told["debug"])
            handed = {} if model is None else {"given": _taken(ctx, fields, values)}
            function(**values, **handed, terminal=terminal)

        file = [_config_parameter(model)] if from_file else []
        shown = [
            inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(found.replace(kind=inspect.Parameter.KEYWORD_ONLY) for found in own),
            *(_as_parameter(name, *found) for name, found in fields.items()),
            *file,
            *(_as_parameter(name, *found) for name, found in talk.items()),
        ]
        command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        command.__annotations__ = {found.name: found.annotation for found in shown}
        return command

    return decorate


def _as_parameter(name: str, field: FieldInfo, option: Option) -> inspect.Parameter:
    default = field.get_default(call_default_factory=True)
    kind = _word(field, option)
    if kind is _WORDS:
        default = None
    info = typer.Option(
        *spellings(name, option),
        metavar=option.metavar or None,
        help=option.help,
        show_default=option.default,
        autocompletion=option.complete or _completes(choices(field)),
        rich_help_panel=None if option.everyday else ADVANCED,
    )
    annotation = kind | None if default is None else kind
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


_WORDS = list[str]


def _word(field: FieldInfo, option: Option) -> Any:
    """The type of what the command line takes for a field; a word where the field takes one of several."""
    kind = option.word or next(iter(kinds(field)), str)
    return _WORDS if kind in (tuple, list) else kind


def _completes(words: tuple[str, ...]) -> Callable[[str], list[str]] | None:
    if not words:
        return None

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _taken(ctx: typer.Context, fields: Fields, values: dict[str, Any]) -> Given:
    """Take the values of the fields out of ``values``: those that were given."""
    told: dict[str, Any] = {}
    for name, (_, option) in fields.items():
        value = values.pop(name)
        if _source(ctx, name) == "DEFAULT":
            continue
        loses = any(
            other.before == name and typed(ctx, winner) and not typed(ctx, name)
            for winner, (_, other) in fields.items()
        )
        if not loses:
            try:
                told[name] = value if option.read is None or value is None else option.read(value)
            except ConfigError as error:
                raise typer.BadParameter(str(error), ctx=ctx) from error
    return told


def _source(ctx: typer.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def typed(ctx: typer.Context, name: str) -> bool:
    """Whether an option was typed on the command line, rather than read from a file or left at its default."""
    return _source(ctx, name) == "COMMANDLINE"


def _config_parameter(model: type[Config] | None) -> inspect.Parameter:
    def read(ctx: typer.Context, path: Path | None) -> Path | None:
        return load_defaults(ctx, path, [TerminalConfig] if model is None else [model, TerminalConfig])

    info = typer.Option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,
        callback=read,
        help="Read options from the table of this command; the command line wins.",
        rich_help_panel=ADVANCED,
    )
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, info]
    )


def load_defaults(ctx: typer.Context, path: Path | None, models: Sequence[type[Config]]) -> Path | None:
    """Read the table named like the command and make its values the defaults of the options.

    All mistakes of the file are told at once.

    Raises:
        typer.BadParameter: the file cannot be read, is no TOML, or holds something that an option does not take.
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
        option.lstrip("-").replace("-", "_"): str(parameter.name)
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
            mistakes.append(
                f"{key!r} is not an option of {command}"
                + (f" (did you mean {near[0].replace('_', '-')!r}?)" if near else "")
            )
        elif isinstance(value, dict):
            mistakes.append(f"{key!r} holds a table; an option has one value")
        else:
            defaults[name] = value
    for model in models:
        for name, (field, option) in model.options().items():
            if isinstance(value := defaults.get(name), str) and _word(field, option) is _WORDS:
                defaults[name] = [value]
        mistakes += _mistakes(model, defaults)
    if mistakes:
        raise typer.BadParameter(f"{path}: " + "; ".join(mistakes) + ".")
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _mistakes(model: type[Config], values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of a model's fields."""
    problems = Problems()
    given: dict[str, Any] = {}
    for name, (_, option) in model.options().items():
        if name not in values:
            continue
        value = values[name]
        with problems.collecting():
            given[name] = value if option.read is None else option.read(value)
    model.collect(given, problems)
    return [str(error).rstrip(".") for error in problems.found]
