"""SRC and OUT: that they do not overlap, that OUT can be written, and which files in OUT are ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import FolderError, OutputError
from ...imaging.scan import is_own_file
from ...records.files import TEMPORARY_PREFIX
from ...records.places import identity_of, lies_in, walk
from ...records.stores import as_url, is_url, masked

#: Litter that desktops leave in any folder; never a reason to refuse one.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".directory"})


def overlap_problem(source: Path, output: Path) -> FolderError | None:
    """Why OUT may not be used with SRC, or ``None``. Both are compared as places, under whatever names; see
    :func:`lies_in`.

    Args:
        source: SRC.
        output: OUT; need not exist.
    """
    src, out = source.resolve(), output.resolve()
    remedy = "Originals are never touched. Choose an output folder beside it."
    if out == src or (identity_of(out) is not None and identity_of(out) == identity_of(src)):
        return FolderError(f"The output folder is the source folder itself: {source}. {remedy}")
    if lies_in(out, src):
        return FolderError(f"The output folder {output} lies inside the source folder {source}. {remedy}")
    if lies_in(src, out):
        return FolderError(f"The output folder {output} contains the source folder {source}. {remedy}")
    return None


def linked_problem(paths: Iterable[Path], output: Path) -> FolderError | None:
    """Why OUT may not be used with files that followed links lead to, or ``None``: they lie in it.

    Args:
        paths: the files.
        output: OUT; need not exist.
    """
    out = output.resolve()
    inside = next((path for path in paths if out in path.resolve().parents), None)
    if inside is None:
        return None
    return FolderError(
        f"{inside} leads into the output folder {output}. Originals are never touched. Choose another output folder."
    )


def existing_parent(path: Path) -> Path:
    """The nearest folder above (or at) ``path`` that exists."""
    resolved = path.resolve()
    return next((p for p in (resolved, *resolved.parents) if p.is_dir()), Path(resolved.anchor))


def check_writable(output: Path, *, create: bool, what: str = "output folder") -> None:
    """Make sure that files can be written to a folder, by writing one.

    Args:
        output: OUT, or the folder of a bank.
        create: make the folder and write a file for a moment; otherwise only ask the system for the permission.
        what: what messages call it.

    Raises:
        OutputError: it cannot be written.
        FolderError: it is a file, or a URL.
    """
    if is_url(output):
        raise FolderError(
            f"The {what} is {masked(as_url(output))}, and this command writes to a folder on this machine. Give one "
            "and copy it there; or make a bank with `bitterant fit` or `bitterant code-book`, and `bitterant apply "
            "SRC OUT --bank BANK` writes there itself."
        )
    if output.exists() and not output.is_dir():
        raise FolderError(f"The {what} {output} is a file, not a folder. Choose another name.")
    if not create:
        parent = existing_parent(output)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"The {what} {output} cannot be written: no permission in {parent}.")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=output, prefix=TEMPORARY_PREFIX):
            pass
    except OSError as error:
        raise OutputError(
            f"The {what} {output} cannot be written: {error.strerror or error}. "
            "Choose another folder, or fix its permissions."
        ) from error


def remove_empty_folders(folder: Path, stop: Path) -> None:
    """Remove ``folder`` and those above it, up to and with ``stop``, as long as they are empty."""
    while True:
        try:
            folder.rmdir()
        except OSError:
            return
        if folder == stop or stop not in folder.parents:
            return
        folder = folder.parent


def survey_output(output: Path) -> Iterator[str]:
    """All files in OUT that are neither ours at its root nor litter, as paths with forward slashes, in no order.

    Links count as files, whatever they are called, and are not followed, so that nothing is ever written through one.

    Args:
        output: OUT; may be missing.
    """
    for item in walk(output):
        if item.is_dir(follow_symlinks=False):
            continue
        relative = Path(item.path).relative_to(output).as_posix()
        ours = "/" not in relative and is_own_file(item.name) and not item.is_symlink()
        if not ours and item.name.lower() not in _LITTER:
            yield relative
