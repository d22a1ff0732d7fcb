"""Every error bitterant raises on purpose, and the exit code each becomes on the command line.

    BitterantError                      1   something bitterant cannot go on with
    ├── ConfigError                     2   what was asked for cannot be done as asked
    │   ├── UnknownNameError            2   no such method, surrogate, victim, adversary or preset
    │   ├── FolderError                 2   SRC, OUT, CLEAN or PROTECTED missing, empty or overlapping
    │   ├── LabelError                  2   labels are needed and absent, or there are too few classes
    │   ├── BankError                   2   a bank file is damaged, of another version, or does not fit the images
    │   ├── CaptionError                2   pictures without a caption, or captions that cannot be used
    │   ├── RequestError                2   a request for noise, or its private map, breaks its rules
    │   ├── BundleError                 2   a noise bundle is damaged, was tampered with, or does not fit the request
    │   └── ResumeError                 2   OUT holds another run, or files that are not ours
    ├── SetupError                      3   the machine lacks something: weights, disk, a package
    │   ├── WeightsError                3   weights are absent, damaged or do not fit the architecture
    │   └── OutputError                 3   OUT cannot be written: permission or a full disk
    ├── ImageError                      1   one image cannot be read or written; the run goes on without it
    ├── FitError                        1   an optimisation broke down numerically: nothing of it is kept
    ├── BudgetExceeded                  1   a perturbation broke its budget: always a bug, never let through
    └── Interrupted                   130   stopped by the user; the same command resumes

Messages are for people: what was wrong, where, and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import Any

PAIR_REMEDY = (
    "Install the two as a matching pair from one source, for example: "
    "pip install --upgrade --force-reinstall torch torchvision"
)
#: What a disk says of itself, by whatever file: full, over a quota, read-only, failing, or gone.
_OF_DISKS = frozenset(
    number
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ENXIO", "ENODEV", "ESTALE")
    if (number := getattr(errno, name, None)) is not None
)

REPORT_A_BUG = (
    "This is a fault in bitterant, not in what you typed. Please report it, with the output of the same command "
    "and --debug at its end."
)


class BitterantError(Exception):
    """Base of every error raised on purpose. ``exit_code`` is what the command line returns; ``lines`` are those of a
    message that has several, where no line break came from outside.

    Every one of them crosses a process boundary whole, whatever its constructor takes.
    """

    exit_code: int = 1
    lines: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the constructor with the message alone; one that takes other arguments then fails where the
        # error is unpickled, in the pool's own thread, which breaks the whole pool and hides the error.
        return _rebuild, (type(self), self.args), self.__dict__ or None


class ConfigError(BitterantError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name that is not in a registry; the message lists the names and the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"There is no {kind} named {name!r}.{hint} Known: {', '.join(names)}.")
        self.kind, self.name, self.known = kind, name, names


class FolderError(ConfigError):
    """A folder is missing, empty, of the wrong kind, or overlaps another."""


class LabelError(ConfigError):
    """Labels are needed and absent, or there are too few classes or images of a class."""


class BankError(ConfigError):
    """A bank file is damaged, of another format version, or does not fit the images at hand."""


class CaptionError(ConfigError):
    """Pictures have no caption, or the captions cannot be used as asked."""


class RequestError(ConfigError):
    """A request for noise, or the private map that belongs to it, breaks the rules of its format."""


class BundleError(ConfigError):
    """A noise bundle is damaged, was tampered with, or does not fit the request. Nothing of it is used."""


class ResumeError(ConfigError):
    """OUT holds the files of another run, or files that bitterant did not write."""


class SetupError(BitterantError):
    """The machine lacks something: a package, weights, disk space."""

    exit_code = 3


class WeightsError(SetupError):
    """Weights are absent, damaged, or do not fit the architecture."""


class OutputError(SetupError):
    """The output place cannot be written."""


class ImageError(BitterantError):
    """One image cannot be read or written. The run goes on; ``reason`` stands in the manifest."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class FitError(BitterantError):
    """An optimisation broke down: it gave NaN or infinity. Nothing of it is kept."""


class BudgetExceeded(BitterantError):
    """A perturbation is larger than its budget. Never expected: report it as a bug."""


class Interrupted(BitterantError):
    """Stopped by the user. Finished files are whole; the same command goes on where it stopped."""

    exit_code = 130


def explain(error: BaseException) -> tuple[tuple[str, ...], int]:
    """What to tell people of whatever ended a run, line by line, and the exit code that it becomes.

    Anything not foreseen is a fault of our own, and says so.
    """
    if isinstance(error, BitterantError):
        return error.lines or (str(error),), error.exit_code
    if (known := explain_import_failure(error)) is not None:
        return (known,), 3
    if isinstance(error, OSError) and error.filename is None and error.errno in _OF_DISKS:
        text = (
            f"{error.strerror}. What is finished is whole; make room or mend the disk, then run the same command again."
        )
        return (text,), 3
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or error}. Check the path, its permissions and the free space."
        return (text,), 3
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return ("Out of memory. Try a smaller --resolution, or a machine with more memory.",), 3
    return (f"{type(error).__name__}: {error}", REPORT_A_BUG), 1


def explain_import_failure(error: BaseException) -> str | None:
    """A plain message with the remedy where ``error`` is a known failure of the installation, else None."""
    text = str(error)
    if "torchvision::nms does not exist" in text:
        return (
            "torch and torchvision do not fit together (the 'operator torchvision::nms does not exist' failure): "
            f"they come from different sources or versions. {PAIR_REMEDY}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("bitterant"):
        package = error.name.partition(".")[0]
        return (
            f"The package {package!r} is not installed. Install bitterant with its dependencies: pip install bitterant"
        )
    if isinstance(error, ImportError) and "torch" in text:
        return f"torch cannot be loaded ({text}). {PAIR_REMEDY}"
    return None


def _rebuild(kind: type[BitterantError], args: tuple[Any, ...]) -> BitterantError:
    """An unpickled error; its attributes follow."""
    return kind.__new__(kind, *args)
