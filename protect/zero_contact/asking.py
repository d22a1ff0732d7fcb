"""From a folder to a request: captions, opaque ids, and the private map."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import CaptionError, FolderError, ImageError
from ...imaging.atomic import check_free, write_atomic
from ...imaging.captions import CaptionOptions, ImageCaption, read_captions
from ...imaging.codec import read_header
from ...imaging.loading import FileProblem, sha256_file
from ...imaging.places import lies_in
from ...imaging.scan import Entry, FolderScan
from ..folder.inputs import ordered_map
from ..folder.interrupt import StopRequest
from ..folder.progress import ProgressCallback, silent
from ..request import Problems, check_source
from ..request.options import default_workers
from .plain_words import plain_words
from .request import NoiseRequest, RequestLimits, RequestRow
from .request_map import MappedPicture, RequestMap
from .secret import opaque_id, seed_of

__all__ = ["Asked", "ask_for_folder", "check_private_places", "write_asked"]

_LISTED: Final = 5


@dataclass(frozen=True)
class Asked:
    """A request, ready to be written.

    Attributes:
        request: what leaves the machine.
        map: what stays.
        sources: how many captions came from where.
        problems: pictures left out since they cannot be read, and caption files with faults.
        warnings: what the user should know.
        left_out: how many pictures were left out.
    """

    request: NoiseRequest
    map: RequestMap
    sources: dict[str, int]
    problems: tuple[FileProblem, ...]
    warnings: tuple[str, ...]
    left_out: int

    @property
    def exit_code(self) -> int:
        """0, or 1 where pictures were left out."""
        return int(self.left_out > 0)


def ask_for_folder(
    source: Path | str,
    *,
    secret: bytes,
    captions: CaptionOptions | None = None,
    generic: bool = False,
    deny: Collection[str] = (),
    send_size: bool = False,
    send_seed: bool = False,
    follow_links: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> Asked:
    """Make the request for a folder. Nothing is written.

    Args:
        source: the pictures.
        secret: the owner's, from :func:`read_or_create_secret`. The same secret gives the same ids.
        captions: where they come from.
        generic: take proper names, numbers and addresses out of captions; of class names only numbers and ``deny``.
        deny: further words to take out, with ``generic``.
        send_size: say the size of each picture, so that its noise is made to measure.
        send_seed: choose the seeds here, so that the noise for a prompt depends on the owner's secret.
        follow_links: read what symbolic links lead to; they are left aside otherwise.
        progress: told how many pictures were looked at.
        stop: a flag to stop at the next picture.

    Raises:
        CaptionError: pictures without a caption.
        FolderError: no folder, no picture in it, or none that can be read.
        Interrupted: ``stop`` was set.
    """
    problems = Problems()
    scan = check_source(Path(source), problems, follow_links=follow_links)
    problems.raise_all()
    if scan is None:  # a problem was noted then
        raise FolderError(f"{source} could not be read.")
    found = read_captions(scan, captions)
    seen, unreadable = _look_at(scan, progress or silent, stop or StopRequest())
    limit = RequestLimits().prompt
    rows: list[RequestRow] = []
    pictures: dict[str, MappedPicture] = {}
    emptied: list[str] = []
    cut = 0
    for entry, sha256, size in seen:
        caption = found.captions[entry.relative]
        prompt = _prompt(caption, generic=generic, deny=deny)
        if not prompt:
            emptied.append(entry.relative)
            continue
        cut += len(prompt) > limit
        name = opaque_id(secret, entry.relative)
        rows.append(
            RequestRow(
                name,
                prompt[:limit].strip(),
                # A number that comes from the folder's name is sent only where the name itself is: in the prompt.
                entry.label if caption.source == "class" else None,
                seed_of(secret, f"z:{name}") if send_seed else None,
                size if send_size else None,
            )
        )
        pictures[name] = MappedPicture(entry.relative, sha256, *size, caption.source)
    if emptied:
        names = ", ".join(emptied[:_LISTED]) + (", ..." if len(emptied) > _LISTED else "")
        raise CaptionError(
            f"Without names and numbers nothing is left of {len(emptied)} captions: {names}. Reword them."
        )
    if not rows:
        raise FolderError(f"None of the pictures in {source} can be read: {unreadable[0].reason}.")
    warnings = [*scan.notes, *found.warnings]
    if cut:
        warnings.append(f"{cut} captions were cut to {limit} characters.")
    request = NoiseRequest(tuple(rows))
    return Asked(
        request,
        RequestMap(pictures, request.prompts_sha256),
        found.sources,
        (*unreadable, *found.problems),
        tuple(warnings),
        len(unreadable),
    )


def _prompt(caption: ImageCaption, *, generic: bool, deny: Collection[str]) -> str:
    if not generic:
        return caption.first
    return plain_words(caption.first, deny=deny, keep_capitals=caption.source == "class")


def _look_at(
    scan: FolderScan, progress: ProgressCallback, stop: StopRequest
) -> tuple[list[tuple[Entry, str, tuple[int, int]]], list[FileProblem]]:
    """Digest and size of every picture that can be read."""

    def look(entry: Entry) -> tuple[Entry, str, tuple[int, int]] | FileProblem:
        try:
            header = read_header(entry.path, name=entry.relative)
            return entry, sha256_file(entry.path), (header.width, header.height)
        except ImageError as error:
            return FileProblem(entry.relative, error.reason)
        except OSError as error:
            return FileProblem(entry.relative, f"cannot be read: {error.strerror or error}")

    seen: list[tuple[Entry, str, tuple[int, int]]] = []
    unreadable: list[FileProblem] = []
    for done, result in enumerate(ordered_map(look, scan.entries, workers=default_workers(), stop=stop), start=1):
        if isinstance(result, FileProblem):
            unreadable.append(result)
        else:
            seen.append(result)
        progress("check", done, len(scan.entries), "looking at the pictures")
    if len(seen) + len(unreadable) < len(scan.entries):
        stop.check("Nothing was written.")
    return seen, unreadable


def check_private_places(source: Path, *paths: Path) -> None:
    """Make sure that new files do not come to lie among the originals, and that none is there already.

    Raises:
        FolderError: one would lie in the folder of pictures.
        OutputError: one exists.
    """
    for path in paths:
        if lies_in(path, source):
            raise FolderError(f"{path} lies inside {source}. Originals are left as they are: choose a place outside.")
        check_free(path)


def write_asked(asked: Asked, request_path: Path, map_path: Path) -> None:
    """Write request and map, both or none.

    Raises:
        OutputError: one exists already, or cannot be written.
    """
    write_atomic(map_path, asked.map.to_bytes(), overwrite=False, private=True)
    try:
        write_atomic(request_path, asked.request.to_bytes(), overwrite=False)
    except BaseException:
        with suppress(OSError):
            map_path.unlink()
        raise
