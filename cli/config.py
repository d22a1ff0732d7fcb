"""``--config FILE.toml``: defaults for a command's options. What is typed on the command line wins."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from .help import ADVANCED

__all__ = ["ConfigOption", "load_defaults", "typed"]


def load_defaults(ctx: typer.Context, path: Path | None) -> Path | None:
    """Read the table named like the command and make its values the defaults of the options.

    All mistakes of the file are told at once.

    Raises:
        typer.BadParameter: the file cannot be read, is no TOML, or names something that is not an option.
    """
    if path is None or ctx.resilient_parsing:
        return path
    from ..imaging.places import read_regular
    from ..imaging.structured import parse_toml

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
