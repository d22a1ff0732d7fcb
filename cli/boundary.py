"""The edge between the library and the shell: exceptions become one message and one exit code.

It also sets up torch for commands that compute.
"""

from __future__ import annotations

import _thread
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import typer

from ..errors import BitterantError, explain
from .output import Output

_LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}


def pin_arithmetic(device: str = "cpu") -> None:
    """Load torch so that a CPU computes alike on every x86-64 machine: with the instructions that all of them have,
    and one thread. Otherwise the last bits of sums, and even of random numbers, depend on the processor.

    What the environment says is overruled. It works only in a process that has not loaded torch yet.

    Args:
        device: where the work is to be done. For a GPU nothing is pinned: it has its own arithmetic, and the CPU beside
            it no need of it. ``auto`` is a GPU where there is one.
    """
    if "torch" in sys.modules or device.startswith(("cuda", "mps")):
        return
    before = {name: os.environ.get(name) for name in _LOWEST}
    os.environ.update(_LOWEST)
    prepare_torch()
    import torch

    if device == "auto" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        for name, value in before.items():  # they are looked at when something is computed, which nothing was yet
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        return
    torch.set_num_threads(1)


def prepare_torch() -> None:
    """Set up the memory allocator, then load torch. Commands that compute call this first; ``--help`` never does."""
    from ..records.processes import tune_allocator

    tune_allocator()
    if "OMP_WAIT_POLICY" not in os.environ:
        # A thread that is done with its part spins for the others. Beside other work they have no core to run on, and
        # a step on two threads then took 2.6 times as long; with a short spin 1.1 times, and on an idle machine 1.05.
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    importlib.import_module("torch")


_ONCE_MORE = 0.05  # seconds
GOES_ON = "Stopped. The same command goes on where it stopped."


@contextmanager
def guarded(output: Output, *, debug: bool = False, stopped: str = GOES_ON, whole: bool = True) -> Iterator[None]:
    """Run a command's body; whatever it raises ends as a message on stderr and an exit code.

    Args:
        output: where messages go.
        debug: print tracebacks.
        stopped: what to say on Ctrl-C.
        whole: whether the command is over with it.

    Raises:
        typer.Exit: with the error's ``exit_code``; 130 for Ctrl-C and SIGTERM; 1 for a fault of our own, whose
            traceback is printed only with ``debug``.
    """
    with _terminable(output, whole=whole), _talking(output, debug=debug):
        try:
            yield
        except (typer.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            _leave(output, error, (stopped,), 130, debug=debug)
        except Exception as error:
            _leave(output, error, *explain(error), debug=debug)


def stopping(output: Output) -> Callable[[], None]:
    """What to tell people on the first Ctrl-C, while the files in hand are finished."""
    return lambda: output.say("\nStopping as soon as the files in hand are whole. Ctrl-C again stops at once.")


def _leave(output: Output, error: BaseException, lines: Sequence[str], code: int, *, debug: bool) -> None:
    if debug:
        output.trace(error)
    message = str(error) if isinstance(error, BitterantError) else "\n".join(lines)
    if code == 130:
        output.say(message)
    else:
        output.error(*lines)
    output.result({"error": {"type": type(error).__name__, "message": message, "exit_code": code}})
    raise typer.Exit(code) from error


class _ForPeople(logging.Handler):
    """Passes the library's log on to people."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.output.warn(record.getMessage())
        else:
            self.output.say(f"{record.name}: {record.getMessage()}", style="dim")
        if record.exc_info and record.exc_info[1] is not None and not self.output.quiet:
            self.output.trace(record.exc_info[1], style="dim")


@contextmanager
def _talking(output: Output, *, debug: bool) -> Iterator[None]:
    """Send the library's log to people. Python's warnings come from libraries below us and help nobody: dropped."""
    log, theirs = logging.getLogger("bitterant"), logging.getLogger("py.warnings")
    before = [(item, item.handlers, item.level, item.propagate) for item in (log, theirs)]
    log.handlers, log.propagate = [_ForPeople(output)], False
    log.setLevel(logging.DEBUG if debug else logging.WARNING)
    theirs.handlers, theirs.propagate = [_ForPeople(output) if debug else logging.NullHandler()], False
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for item, handlers, level, propagate in before:
            item.handlers, item.propagate = handlers, propagate
            item.setLevel(level)


class _Ending:
    """SIGTERM before and after a command: it ends the process at once, with the command's exit code where that is over
    and all is said. Python takes a while to end itself, and what has become of the command would be lost."""

    code: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(
                OSError, ValueError, AttributeError, RuntimeError
            ):  # closed, none, or in the middle of a line
                stream.flush()
        os._exit(130 if self.code is None else self.code)


_ending = _Ending()


def end_by_signal(code: int | None = None) -> None:
    """Have SIGTERM, and once the exit code is known Ctrl-C too, end this process at once, where nothing else was meant.

    For a process that is the command. Whoever calls the command from Python keeps what was set.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _ending.code = code
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _ending)
    if code is not None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _ending)


@contextmanager
def _terminable(output: Output, *, whole: bool) -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a command as Ctrl-C does, and let neither be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        output.interrupted = True
        raise KeyboardInterrupt

    reported = sys.unraisablehook

    def again(lost: Any) -> None:
        # An interrupt that lands in a destructor ends there, and Python only mentions it: it is sent once more. From
        # elsewhere and later, since it would land in this very function, where it ends no less.
        if isinstance(lost.exc_value, KeyboardInterrupt):
            once_more = threading.Timer(_ONCE_MORE, _thread.interrupt_main, [signal.SIGTERM])
            once_more.daemon = True
            once_more.start()
        else:
            reported(lost)

    earlier = signal.signal(signal.SIGTERM, stop)
    # Where a shell has it ignored, as for a job in the background, it stays so.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, stop)
    sys.unraisablehook = again
    try:
        yield
        if whole:
            _ending.code = 0
    except typer.Exit as left:
        _ending.code = left.exit_code
        raise
    finally:
        sys.unraisablehook = reported
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
