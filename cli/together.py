"""One command on several processes that ``torchrun`` or ``srun`` started: the first runs it, the others compute for it.

Only the first one reads words, prints and writes. The others leave with its exit code.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import typer

from ..records.processes import Launch
from .boundary import guarded, prepare_torch
from .output import Output

if TYPE_CHECKING:
    from ..protect.methods.ranks import Membership

#: The commands whose work is shared.
COMMANDS: Final = ("fit", "protect")

_SAY_FIRST: Final = 10.0
"""Seconds that a process which cannot go on leaves the first one to say why: torchrun ends all as soon as one ends."""


def together(run: Callable[[], int], words: Sequence[str]) -> int:
    """Run the command, in this process or with others, and return its exit code.

    Args:
        run: the command.
        words: what it was given.
    """
    launch = Launch.of()
    if launch is None:
        return run()
    if next((word for word in words if not word.startswith("-")), None) not in COMMANDS:
        if launch.by == "srun":  # tasks that have nothing to do with each other
            return run()
        if launch.rank:
            return 0
        Output().warn(f"torchrun started {launch.size} processes, and this command is for one: the others do nothing.")
        return run()
    if launch.rank == 0:
        return _lead(run)
    for number in (signal.SIGINT, signal.SIGTERM):  # until there is a leader to tell: ends without a word
        signal.signal(number, signal.SIG_DFL)
    try:
        output = Output()
        output.people.quiet = True  # also of errors
        member = _join(output)
    except typer.Exit as stop:
        time.sleep(_SAY_FIRST)
        return stop.exit_code
    if not member.leads:
        return member.follow()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _lead(run: Callable[[], int]) -> int:
    try:
        member = _join(Output())
    except typer.Exit as stop:
        return stop.exit_code
    code = 1
    try:
        code = run()
    finally:
        # The others leave first, and torchrun takes the first to leave for the fault: it then ends all.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        member.end(code)
    return code


def _join(output: Output) -> Membership:
    """Raises typer.Exit where that fails, after telling why."""
    with guarded(output, whole=False):
        prepare_torch()
        from ..protect.methods.ranks import join

        return join()
