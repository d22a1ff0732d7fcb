"""``bitterant publish OUT DEST``: a folder with what may be shown of a protected one, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .boundary import guarded, stopping
from .output import Output
from .progress import ProgressDisplay

if TYPE_CHECKING:
    from ..protect.folder.publish import PublishSummary

SHOWN_LEFT = 10
NAMED = 3


@options.takes_options()
def publish(
    output_folder: Annotated[Path, typer.Argument(metavar="OUT", help="A finished output folder of protect or apply.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="New folder for what may be shown.")],
    terminal: options.Terminal,
    with_tdmrep: Annotated[
        str | None,
        typer.Option(
            metavar="URL-PATH",
            help="Write tdmrep.json, which reserves text and data mining for all files below this path of your site, "
            "such as /photos.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; write nothing.")] = False,
) -> None:
    """Copy what may be shown of OUT to DEST: protected pictures, and captions and labels that name only them.

    Reports, manifests, banks and pictures without protection are left behind and named.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..protect.folder.publish import publish_folder
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = publish_folder(
                output_folder, destination, tdmrep=with_tdmrep, dry_run=dry_run, progress=progress, stop=stop
            )
        _tell(output, summary)


def _tell(output: Output, summary: PublishSummary) -> None:
    reasons: dict[str, list[str]] = {}
    for item in summary.left:
        reasons.setdefault(item.reason, []).append(item.name)
    shown = list(reasons.items())[:SHOWN_LEFT]
    for reason, names in shown:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        output.say(f"left behind: {', '.join(names[:NAMED])}{more} ({reason})")
    rest = len(summary.left) - sum(len(names) for _, names in shown)
    if rest:
        output.say(f"... and {rest} more; --json lists them all.")
    output.say(summary.headline, style="bold")
    if summary.tdmrep is not None:
        output.say(f"Put {summary.tdmrep} where your site shows it as /.well-known/{summary.tdmrep.name}.")
    output.result(summary.to_json())
