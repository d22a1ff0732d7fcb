"""Writing a noise bundle piece by piece: what is in memory does not grow with the number of pictures.

safetensors' own writer wants all tensors at once. The format is simple enough to be written here: 8 bytes with the
length of the head (little-endian), the head as JSON padded with spaces, the tensors one after another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from ...errors import BudgetExceeded, ConfigError
from ...imaging.atomic import atomic_file, check_free, write_atomic
from .bundle_info import FORMAT, INDEX_SUFFIX, SUFFIX, VERSION, BundleInfo

__all__ = ["BLANK_DIGEST", "SHARD_BYTES", "TensorPlan", "bundle_paths", "write_bundle"]

SHARD_BYTES: Final = 2**30
#: Stands in the head where the digest of the file goes, while that digest is taken.
BLANK_DIGEST: Final = "0" * 64

_TYPES: Final = {"native": ("F16", np.dtype("<f2")), "final": ("I8", np.dtype("i1"))}


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to come: its name, and its height and width in px."""

    name: str
    height: int
    width: int


def bundle_paths(path: Path) -> tuple[Path, str]:
    """Folder and stem of a bundle's files.

    Raises:
        ConfigError: the name does not end as a bundle does.
    """
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise ConfigError(f"{path}: a noise bundle is called NAME{SUFFIX}.")
    return path.parent, path.name[: -len(SUFFIX)]


def write_bundle(
    path: Path,
    info: BundleInfo,
    tensors: Sequence[TensorPlan],
    levels: Iterable[np.ndarray],
    shared: Mapping[str, str],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> tuple[Path, ...]:
    """Write a bundle, whole or not at all, readable by its owner alone. The same content gives the same bytes.

    Args:
        path: ``NAME.noise.safetensors``. A bundle larger than ``shard_bytes`` becomes ``NAME-00001-of-00003...`` and
            ``NAME.noise.index.json``.
        info: how the noise was made.
        tensors: what is to come, in its order.
        levels: for each of them float ``[3, h, w]`` in 1/255 levels, already rounded where the bundle is final.
        shared: from id to the key of the pattern (``c/<key>``) that the picture shares; empty where each has its own.
        shard_bytes: most bytes of tensors in one file, unless a single one is larger.

    Returns:
        The files, the index last.

    Raises:
        OutputError: a file is there already, or cannot be written.
        BudgetExceeded: a value is larger than epsilon, or no number.
    """
    folder, stem = bundle_paths(path)
    size = _TYPES[info.stage][1].itemsize * 3
    shards = _shards([size * plan.height * plan.width for plan in tensors], shard_bytes)
    if len(shards) == 1:
        paths = [path]
    else:
        paths = [folder / f"{stem}-{i:05d}-of-{len(shards):05d}{SUFFIX}" for i in range(1, len(shards) + 1)]
    index = folder / f"{stem}{INDEX_SUFFIX}"
    for place in {path, index, *paths}:
        check_free(place)
    source = iter(levels)
    written: list[Path] = []
    digests: dict[str, str] = {}
    try:
        for place, part in zip(paths, shards, strict=True):
            chosen = tensors[part.start : part.stop]
            keys = {plan.name.removeprefix("c/") for plan in chosen if plan.name.startswith("c/")}
            ours = {name: key for name, key in sorted(shared.items()) if key in keys}
            metadata = {**info.to_metadata(), "map": json.dumps(ours, separators=(",", ":"))}
            if len(shards) > 1:
                metadata["shards"] = str(len(shards))
            with atomic_file(place, overwrite=False, private=True) as file:
                digests[place.name] = _write_shard(file, info, chosen, source, metadata)
            written.append(place)
        if len(shards) > 1:
            body: dict[str, Any] = {"format": FORMAT, "version": VERSION, "files": digests}
            write_atomic(index, json.dumps(body, indent=1).encode("ascii") + b"\n", overwrite=False, private=True)
            written.append(index)
    except BaseException:
        for place in written:
            with suppress(OSError):
                place.unlink()
        raise
    return tuple(written)


def _shards(sizes: Sequence[int], limit: int) -> list[range]:
    shards: list[range] = []
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            shards.append(range(start, i))
            start, total = i, 0
        total += size
    return [*shards, range(start, len(sizes))]


def _write_shard(
    file: BinaryIO,
    info: BundleInfo,
    tensors: Sequence[TensorPlan],
    source: Iterator[np.ndarray],
    metadata: Mapping[str, str],
) -> str:
    """Write one file; returns its digest, which also stands in its head."""
    kind, dtype = _TYPES[info.stage]
    blank = _head({**metadata, "content_sha256": BLANK_DIGEST}, tensors, kind, dtype.itemsize)
    digest = hashlib.sha256(blank)
    file.write(blank)
    for plan in tensors:
        data = _encode(next(source), plan, info, dtype).tobytes()
        digest.update(data)
        file.write(data)
    content = digest.hexdigest()
    file.seek(0)
    file.write(_head({**metadata, "content_sha256": content}, tensors, kind, dtype.itemsize))
    return content


def _head(metadata: Mapping[str, str], tensors: Sequence[TensorPlan], kind: str, itemsize: int) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for plan in tensors:
        begin, end = end, end + 3 * plan.height * plan.width * itemsize
        entries[plan.name] = {"dtype": kind, "shape": [3, plan.height, plan.width], "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _encode(levels: np.ndarray, plan: TensorPlan, info: BundleInfo, dtype: np.dtype[Any]) -> np.ndarray:
    if levels.shape != (3, plan.height, plan.width):
        raise ConfigError(f"{plan.name} was announced as {plan.height} x {plan.width}, not {levels.shape}.")
    # NaN fails this comparison, too. The slack is that of a float32 product.
    if not (np.abs(levels) <= info.epsilon_levels * (1 + 1e-6)).all():
        raise BudgetExceeded(f"{plan.name} holds values over {info.epsilon_levels:g} levels, or no numbers.")
    limit = float(np.float16(info.epsilon_levels))
    if limit > info.epsilon_levels:  # float16 would round the bound itself up
        limit = float(np.nextafter(np.float16(limit), np.float16(0)))
    return np.clip(levels, -limit, limit).astype(dtype)
