"""Help as people read it: a command's few everyday options, the rest with ``--help-all``; no types, no broken words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

#: The panel of what only ``--help-all`` shows.
ADVANCED: Final = "Advanced"

_ALL: Final = "--help-all"
_COLUMN: Final = 25  # of names; longer ones stand on a line of their own
_SHELL: Final = ("--install-completion", "--show-completion")

Row = tuple[str, str]


class _Brief:
    """What commands and groups share."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, unless all of the help is asked for."""
        if _ALL in args[: args.index("--")] if "--" in args else _ALL in args:
            typer.echo(_page(self, ctx, everything=True))
            ctx.exit()
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the everyday part."""
        formatter.write(_page(self, ctx, everything=False) + "\n")


class BriefCommand(_Brief, TyperCommand):
    """A command with brief help."""


class BriefGroup(_Brief, TyperGroup):
    """A group of commands with brief help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Only what stands before the name of a command is asked of the group itself."""
        if args and args[0] != _ALL:
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


def _page(command: Any, ctx: Any, *, everything: bool) -> str:
    width = int(ctx.make_formatter().width)
    params = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    everyday = [option for option in options if not _advanced(option)]
    rest = [option for option in options if _advanced(option)]
    names = [_argument(argument) for argument in arguments]
    tail = ["COMMAND"] if hasattr(command, "commands") else []
    parts = [f"Usage: {' '.join([ctx.command_path, *names, '[OPTIONS]', *tail])}"]
    parts += [_wrapped(text, width) for text in (command.help or "").split("\n\n")]
    if arguments:
        parts.append(_list("Arguments", ((_argument(a), getattr(a, "help", None) or "") for a in arguments), width))
    for title, rows in _commands(command, ctx):
        parts.append(_list(title, rows, width))
    shown = [_row(option) for option in everyday]
    if rest and not everything:
        shown.append((_ALL, f"Show {len(rest)} more options."))
    parts.append(_list("Options", shown, width))
    if rest and everything:
        parts.append(_list("More options", (_row(option) for option in rest), width))
    if command.epilog:
        parts.append(_wrapped(command.epilog, width))
    return "\n\n".join(parts)


def _advanced(option: Any) -> bool:
    return getattr(option, "rich_help_panel", None) == ADVANCED or option.opts[0] in _SHELL


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _row(option: Any) -> Row:
    names = sorted(option.opts, key=len)
    spelling = ", ".join(names)
    if option.secondary_opts:
        spelling += f"/{option.secondary_opts[0]}"
    flag = getattr(option, "is_flag", False) or getattr(option, "count", False)
    words = spelling if flag else f"{spelling} {option.metavar or 'VALUE'}"
    return words, f"{option.help or ''}{_default(option, flag=flag)}"


def _default(option: Any, *, flag: bool) -> str:
    shown, value = getattr(option, "show_default", False), option.default
    if isinstance(shown, str):
        return f" Default: {shown}."
    if flag or not shown or value is None or callable(value) or value == ():
        return ""
    return f" Default: {value}".removesuffix(".") + "."


def _commands(command: Any, ctx: Any) -> Iterable[tuple[str, list[Row]]]:
    panels: dict[str, list[Row]] = {}
    for name, found in getattr(command, "commands", {}).items():
        if not found.hidden:
            panel = getattr(found, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(title, []).append((name, (found.help or "").partition("\n\n")[0]))
    return panels.items()


def _list(title: str, rows: Iterable[Row], width: int) -> str:
    lines = [f"{title}:"]
    for names, text in rows:
        first = f"  {names}"
        told = _fold(text, width - _COLUMN - 2) or [""]
        if len(first) > _COLUMN:
            lines.append(first)
        else:
            lines.append(f"{first:<{_COLUMN + 2}}{told.pop(0)}".rstrip())
        lines += [" " * (_COLUMN + 2) + line for line in told]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(_fold(text, width))


def _fold(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)
