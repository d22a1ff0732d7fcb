"""A bundle in other clothes: npz for other programs, PNG for eyes. Neither is read back by ``apply``."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ...errors import ConfigError
from ...imaging.atomic import atomic_file, check_free, write_atomic
from ...imaging.encoding import encode
from ...imaging.picture import Picture
from .bundle import NoiseBundle
from .bundle_writing import bundle_paths

__all__ = ["PNG_OFFSET", "check_export", "export_npz", "export_png"]

#: The grey that means no change in an exported PNG.
PNG_OFFSET: Final = 128
#: The earliest date a zip file can say, so that the same bundle gives the same bytes.
_NO_DATE: Final = (1980, 1, 1, 0, 0, 0)


def check_export(path: Path, form: Literal["safetensors", "npz", "png"]) -> None:
    """Make sure that a bundle can be kept at ``path``, before the work of making it.

    Raises:
        ConfigError: the name does not fit the form.
        OutputError: something is there already.
    """
    if form == "safetensors":
        bundle_paths(path)
    elif form == "npz" and path.suffix != ".npz":
        raise ConfigError(f"{path}: an npz file is called NAME.npz.")
    if not (form == "png" and path.is_dir() and not any(path.iterdir())):
        check_free(path)


def export_npz(bundle: NoiseBundle, path: Path) -> None:
    """Write ``path`` for ``numpy.load(path, allow_pickle=False)``: one array ``[3, h, w]`` a tensor.

    The array ``metadata`` is a text: JSON with the head of the bundle and ``map``, from id to array.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    head = {**bundle.info.to_metadata(), "map": dict(sorted(bundle.tensor_of.items()))}
    dtype = np.float16 if bundle.info.stage == "native" else np.int8
    with (
        atomic_file(path, overwrite=False, private=True) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        _add(archive, "metadata", np.array(json.dumps(head, sort_keys=True)))
        for name, tensor in _representatives(bundle):
            _add(archive, tensor, bundle.levels_of(name).transpose(2, 0, 1).astype(dtype))


def export_png(bundle: NoiseBundle, folder: Path) -> tuple[Path, ...]:
    """Write one PNG a tensor into a new folder: whole levels plus 128, so that grey is no change.

    Returns:
        The files.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
    """
    check_export(folder, "png")
    existed = folder.is_dir()
    written: list[Path] = []
    try:
        for name, tensor in _representatives(bundle):
            pixels = (np.rint(bundle.levels_of(name)) + PNG_OFFSET).astype(np.uint8)
            path = folder / f"{tensor.rpartition('/')[2]}.png"
            write_atomic(path, encode(Picture(pixels), format="PNG"), overwrite=False, private=True)
            written.append(path)
    except BaseException:
        with suppress(OSError):
            for path in written:
                path.unlink()
            if not existed:
                folder.rmdir()
        raise
    return tuple(written)


def _representatives(bundle: NoiseBundle) -> list[tuple[str, str]]:
    """One id for each tensor, and the tensor's name."""
    ids = {tensor: name for name, tensor in sorted(bundle.tensor_of.items())}
    return [(name, tensor) for tensor, name in sorted(ids.items())]


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray[Any, Any]) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(f"{name}.npy", _NO_DATE)
    member.compress_type = zipfile.ZIP_DEFLATED  # not taken over from the archive
    return member
