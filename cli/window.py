"""``bitterant app``: the same in a window, for people who never use a terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .boundary import guarded


@options.takes_options(as_json=False, quiet=False)
def window(
    terminal: options.Terminal,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, metavar="N", help="Port of the page.", show_default="a free one"),
    ] = 0,
    in_window: Annotated[
        bool | None,
        typer.Option(
            "--window/--browser",
            help="Open a window of its own, or the browser. Default: a window where pywebview and a display are there.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open nothing; print the address.")] = False,
) -> None:
    """Choose, protect and verify a folder on a page of this machine. Nothing leaves it, and nobody else can open it."""
    output = terminal.output
    with guarded(
        output, debug=terminal.debug, stopped="Stopped. Start the app again to go on: finished files are kept."
    ):
        from ..app import serve

        show = "nothing" if no_browser else {None: "auto", True: "window", False: "browser"}[in_window]
        serve(port=port, show=show, say=output.say)  # type: ignore[arg-type]
