"""The ``bitterant`` application: which commands there are, and their order in ``--help``; and ``bitterant app``, the
same in a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from .._version import __version__
from . import bank, demo, doctor, finished, options, protect, t2ue, verify
from .boundary import guarded
from .options import BriefGroup, Commands
from .output import shown


class _Group(BriefGroup):
    """Lets no complaint about words or a configuration file act on the terminal: it may quote anything."""

    def make_context(self, *words: Any, **extra: Any) -> Any:
        with _plain_complaints():
            return super().make_context(*words, **extra)

    def invoke(self, *words: Any, **extra: Any) -> Any:
        with _plain_complaints():
            return super().invoke(*words, **extra)


@contextmanager
def _plain_complaints() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Whether the class is click's own or that of the copy in typer depends on typer's version.
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = shown(message)  # type: ignore[attr-defined]
        raise


app = Commands(
    name="bitterant",
    cls=_Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start with: bitterant demo. Then: bitterant protect PHOTOS PHOTOS-PROTECTED.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bitterant {__version__}")
        raise typer.Exit


@app.callback()
def bitterant(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Make copies of pictures that look the same to people but teach AI models little ("unlearnable examples"), then
    attack the protection to see what holds."""


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


MAIN, STEPS, LOOK = "The main job", "Step by step", "Look and check"

app.command("protect", rich_help_panel=MAIN)(protect.protect)
app.command("verify", rich_help_panel=MAIN)(verify.verify)
app.command("publish", rich_help_panel=MAIN)(finished.publish)
app.command("demo", rich_help_panel=MAIN)(demo.demo)
app.command("app", rich_help_panel=MAIN)(window)
app.command("fit", rich_help_panel=STEPS)(bank.fit)
app.command("apply", rich_help_panel=STEPS)(bank.apply)
app.command("code-book", rich_help_panel=STEPS)(bank.code_book)
app.command("merge", rich_help_panel=STEPS)(finished.merge)
app.add_typer(t2ue.app, name="t2ue", rich_help_panel=STEPS)
app.command("preview", rich_help_panel=LOOK)(protect.preview)
app.command("compare", rich_help_panel=LOOK)(finished.compare)
app.command("inspect", rich_help_panel=LOOK)(finished.inspect)
app.command("list", rich_help_panel=LOOK)(doctor.list_names)
app.command("doctor", rich_help_panel=LOOK)(doctor.doctor)
