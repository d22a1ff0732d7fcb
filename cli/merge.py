"""``bitterant merge OUT... DEST``: the shares of a run, written with ``--shard``, joined to one output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..protect.request.config import RecordsConfig
from . import options
from .boundary import guarded, stopping
from .progress import ProgressDisplay
from .protect import tell_summary


@options.takes_options(RecordsConfig)
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="OUT... DEST", help="Output folders of all shares, and the new folder for the whole."),
    ],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Join the output folders of all shares of a run to the one of a whole run.

    Shares are what 'bitterant protect' and 'bitterant apply' write with --shard. They are compared and not changed.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..errors import ConfigError
        from ..protect.folder.merging import merge_folders
        from ..records.progress import interruptible

        if len(folders) < 2:
            raise ConfigError("Name the output folders of all shares, and the new folder for the whole last.")
        *shares, destination = folders
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = merge_folders(shares, destination, **given, progress=progress, stop=stop)
        tell_summary(output, summary)
        raise typer.Exit(summary.exit_code)
