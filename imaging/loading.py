"""A folder of image files as one set of small images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ..errors import ConfigError, ImageError
from ..records.config import MAX_PIXELS
from ..records.manifest import image_key
from ..records.places import open_regular
from ..records.threads import Attempt, Patience, patient_map
from .codec import read_header
from .decoders import Decoders
from .formats import TOO_LARGE
from .perturb import opacity, squash
from .scan import Entry, FolderScan

if TYPE_CHECKING:
    from torch import Tensor

    from .image_set import ImageSet


#: ``auto_resolution``: images of these sides keep their size. Larger ones are squashed to the device's default; smaller
#: ones are enlarged to it, because networks halve the picture several times.
SMALLEST_OWN_SIZE: Final = 16
LARGEST_OWN_SIZE: Final = 96
CPU_RESOLUTION: Final = 64
GPU_RESOLUTION: Final = 224

_READ_AHEAD: Final = 64  # small pictures a worker has ready: bounds the memory, whatever the number of files


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that could not be used, and why."""

    relative: str
    reason: str


class FeatureExtractor(Protocol):
    """Something that looks at each picture while it is decoded, at a side of its own."""

    @property
    def side(self) -> int:
        """Side in px of the squares it is shown."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of the network behind it."""
        ...

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """uint8 ``[side, side, 3]`` to float32 ``[D]`` on the CPU. Pictures come one by one, so that what is made of
        one does not depend on the others."""
        ...


def entry_key(entry: Entry, sha256: str) -> str:
    """The identity of an image of a scan, see :func:`image_key`."""
    return image_key(entry.class_name, sha256)


def load_image_set(
    scan: FolderScan,
    resolution: int,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    with_labels: bool = True,
    max_pixels: int = MAX_PIXELS,
    describe: FeatureExtractor | None = None,
    patience: Patience[Entry] | None = None,
) -> tuple[ImageSet, list[Entry], list[FileProblem]]:
    """Read all images of a folder at the working resolution.

    Files that cannot be read are reported, not fatal. The result does not depend on ``workers``.

    Args:
        scan: the folder.
        resolution: side length R in pixels.
        workers: threads; 0 reads in the calling thread.
        progress: called with the number of files done and of all files, from the calling thread.
        with_labels: False leaves the labels out; keys stay the same.
        max_pixels: refuse larger pictures.
        describe: looks at each picture, from the calling thread; its answers become the set's ``features``.
        patience: how long a file may take before it is left out; for ever if not given. With ``workers`` alone.

    Returns:
        The set; the entries of its images, in the order of the set (that of the scan); the files left out.

    Raises:
        ConfigError: ``resolution`` or ``workers`` is out of range.
    """
    import torch

    from .image_set import Features, ImageSet, Origin, Writable

    if resolution < 1:
        raise ConfigError(f"The working resolution must be at least 1 pixel, not {resolution}.")
    if workers < 0:
        raise ConfigError(f"The number of workers must be 0 or more, not {workers}.")
    total = len(scan.entries)
    images = torch.empty((total, 3, resolution, resolution), dtype=torch.uint8)
    target = images.numpy()
    kept: list[Entry] = []
    keys: list[str] = []
    sizes: list[tuple[int, int]] = []
    greys: list[bool] = []
    masks: list[np.ndarray | None] = []
    features: list[Tensor] = []
    problems: list[FileProblem] = []
    feature_size = None if describe is None else describe.side
    loaded = _load_all(scan.entries, resolution, feature_size, workers, max_pixels, patience)
    for done, (entry, result) in enumerate(zip(scan.entries, loaded, strict=True), start=1):
        if isinstance(result, FileProblem):
            problems.append(result)
        else:
            target[len(kept)] = result.pixels.transpose(2, 0, 1)
            kept.append(entry)
            keys.append(entry_key(entry, result.sha256))
            sizes.append(result.size)
            greys.append(result.grey)
            masks.append(result.opaque)
            if describe is not None and result.square is not None:
                features.append(describe(result.square))
        if progress is not None:
            progress(done, total)
    labels = None
    if with_labels and scan.labelled:
        labels = torch.tensor([entry.label for entry in kept], dtype=torch.int64)
    classes = () if labels is None else scan.classes
    native = None if set(sizes) <= {(resolution, resolution)} else median_size(sizes)
    described = None
    if describe is not None and features:
        described = Features(torch.stack(features), describe.side, describe.fingerprint)
    found = ImageSet(
        images[: len(kept)],
        labels,
        classes,
        tuple(keys),
        native,
        described,
        writable=Writable.of(greys, masks, resolution),
        origins=tuple(Origin(entry.path) for entry in kept),
    )
    return found, kept, problems


def median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Median height and median width; of an even number the lower one, so that it is whole and of a real picture."""
    heights, widths = (sorted(side) for side in zip(*sizes, strict=True))
    middle = (len(sizes) - 1) // 2
    return heights[middle], widths[middle]


@dataclass(frozen=True, slots=True)
class _Loaded:
    pixels: np.ndarray
    square: np.ndarray | None
    sha256: str
    size: tuple[int, int]
    grey: bool
    opaque: np.ndarray | None


def _load_all(
    entries: Sequence[Entry],
    resolution: int,
    feature_size: int | None,
    workers: int,
    max_pixels: int,
    patience: Patience[Entry] | None,
) -> Iterator[_Loaded | FileProblem]:
    decoders = Decoders()

    def load(entry: Entry, attempt: Attempt | None = None) -> _Loaded | FileProblem:
        return _load(entry, resolution, feature_size, max_pixels, decoders, attempt)

    def late(entry: Entry, limit: float) -> FileProblem:
        return FileProblem(entry.relative, took_too_long(limit))

    if workers == 0:
        return map(load, entries)
    return _closing(
        # Pillow works outside the interpreter lock, so threads are enough.
        patient_map(load, entries, workers=workers, ahead=_READ_AHEAD, patience=patience, late=late),
        decoders,
    )


def _closing(results: Generator[_Loaded | FileProblem], decoders: Decoders) -> Iterator[_Loaded | FileProblem]:
    with closing(decoders), closing(results):
        yield from results


def took_too_long(limit: float) -> str:
    """Why a file failed that was given up after so many seconds."""
    return f"took longer than {limit:g} seconds and was given up; --max-seconds-per-file sets how long a file may take"


def _load(
    entry: Entry,
    resolution: int,
    feature_size: int | None,
    max_pixels: int,
    decoders: Decoders,
    attempt: Attempt | None,
) -> _Loaded | FileProblem:
    try:
        # Hash and picture come from one open file: no other file can slip in between.
        with open_regular(entry.path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            with decoders.at_work(attempt) as decode:
                picture = decode(file, max_pixels=max_pixels, name=entry.relative)
                return _Loaded(
                    squash(picture, resolution),
                    None if feature_size is None else squash(picture, feature_size),
                    digest,
                    (picture.height, picture.width),
                    picture.is_colourless,
                    opacity(picture, resolution),
                )
    except ImageError as error:
        return FileProblem(entry.relative, error.reason)
    except OSError as error:
        return FileProblem(entry.relative, f"cannot be read: {error.strerror or error}")
    except MemoryError:
        return FileProblem(entry.relative, TOO_LARGE)


def common_size(scan: FolderScan) -> tuple[int, int] | None:
    """Width and height that all images share, upright; None if they differ or there are none.

    Only the heads of the files are read, up to the first that differs. Unreadable files are passed over.
    """
    shared: tuple[int, int] | None = None
    for entry in scan.entries:
        try:
            header = read_header(entry.path, name=entry.relative)
        except ImageError:
            continue
        size = (header.width, header.height)
        if shared is None:
            shared = size
        elif size != shared:
            return None
    return shared


def auto_resolution(scan: FolderScan, device_type: str) -> int:
    """The working resolution of ``--resolution auto``.

    The images' own size where all share one square of 16 to 96 pixels; else 64 on a CPU and 224 on a GPU.

    Args:
        scan: the folder.
        device_type: ``"cpu"``, ``"cuda"``, ...
    """
    size = common_size(scan)
    if size is not None and size[0] == size[1] and SMALLEST_OWN_SIZE <= size[0] <= LARGEST_OWN_SIZE:
        return size[0]
    return CPU_RESOLUTION if device_type == "cpu" else GPU_RESOLUTION
