"""A noise bundle, read tensor by tensor and believed only after it was verified.

It comes from elsewhere: everything in it is checked, and nothing in it is ever executed (no pickle).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from ...errors import BundleError
from ...imaging.budget import Budget
from ...imaging.places import open_regular
from ...imaging.structured import parse_json, read_json
from ..folder.progress import ProgressCallback, silent
from .bundle_info import FORMAT, INDEX_SUFFIX, SUFFIX, TENSOR_NAME, VERSION, BundleInfo
from .bundle_writing import BLANK_DIGEST
from .request import ID_PATTERN, NoiseRequest
from .request_map import RequestMap

__all__ = ["NoiseBundle"]

_AGAIN: Final = "Nothing of it is used. Get the bundle again."
_BLOCK: Final = 1 << 20
_KINDS: Final = {"native": "F16", "final": "I8"}


@dataclass(frozen=True)
class NoiseBundle:
    """An opened bundle. Only its heads are in memory.

    Attributes:
        path: the file, or the index of several.
        info: how the noise was made.
        files: where the tensors lie.
        shapes: height and width of every tensor, by name.
        tensor_of: name of the tensor for each id.
    """

    path: Path
    info: BundleInfo
    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, int]]
    tensor_of: Mapping[str, str]
    _handles: Mapping[str, Any] = field(repr=False, compare=False)
    _digests: Mapping[Path, str] = field(repr=False, compare=False)

    @property
    def budget(self) -> Budget:
        """The bound that all values keep."""
        return Budget.from_levels(self.info.epsilon_levels)

    @property
    def content_sha256(self) -> str:
        """One digest for all its files."""
        return hashlib.sha256("".join(sorted(self._digests.values())).encode("utf-8", "replace")).hexdigest()

    @classmethod
    def load(cls, path: Path | str) -> NoiseBundle:
        """Open a bundle: a ``.noise.safetensors`` file, or the ``.noise.index.json`` of several.

        Raises:
            BundleError: no such file, cut off, of another format or version, or a head that cannot be.
        """
        path = Path(path)
        files = _listed(path) if path.name.endswith(INDEX_SUFFIX) else {path: None}
        heads = {file: _open(file) for file in files}
        infos = {file: BundleInfo.from_metadata(metadata, str(file)) for file, (_, metadata) in heads.items()}
        (info, *others) = infos.values()
        if any(other != info for other in others):
            raise BundleError(f"{path}: its files belong to different bundles. {_AGAIN}")
        shapes: dict[str, tuple[int, int]] = {}
        handles: dict[str, Any] = {}
        tensor_of: dict[str, str] = {}
        digests: dict[Path, str] = {}
        for file, (handle, metadata) in heads.items():
            if metadata.get("shards", "1") != str(len(files)):
                raise BundleError(
                    f"{file} is one of {metadata.get('shards', '1')} parts. Give the file that ends in {INDEX_SUFFIX}."
                )
            digests[file] = metadata.get("content_sha256", "")
            if files[file] not in (None, digests[file]):
                raise BundleError(f"{file} is not the part that {path} speaks of. {_AGAIN}")
            for name, shape in _tensors(handle, info, file):
                if name in shapes:
                    raise BundleError(f"{path} holds {name} twice. {_AGAIN}")
                shapes[name], handles[name] = shape, handle
            tensor_of.update(_shared(metadata.get("map", "{}"), file))
        tensor_of.update({name.removeprefix("d/"): name for name in shapes if name.startswith("d/")})
        unknown = sorted(set(tensor_of.values()) ^ shapes.keys())
        if unknown or len(tensor_of) != info.count:
            about = f" ({unknown[0]})" if unknown else f": {len(tensor_of)} pictures, not {info.count}"
            raise BundleError(f"{path} is incomplete or holds more than it says{about}. {_AGAIN}")
        return cls(path, info, tuple(files), shapes, tensor_of, handles, digests)

    def levels_of(self, name: str) -> np.ndarray:
        """The noise for an id: float32 ``[h, w, 3]`` in 1/255 levels. Reads that tensor alone.

        Raises:
            BundleError: there is none, or it breaks the bound.
        """
        tensor = self.tensor_of.get(name)
        if tensor is None:
            raise BundleError(f"{self.path} holds no noise for {name}.")
        return np.ascontiguousarray(self._checked(tensor).transpose(1, 2, 0))

    def verify(
        self,
        expected: RequestMap | NoiseRequest | None = None,
        *,
        max_epsilon: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Read everything once and believe nothing.

        Args:
            expected: the request, or the map of its owner: the bundle must be for exactly these pictures and prompts.
            max_epsilon: largest budget that is accepted, in 1/255 levels.
            progress: told how many tensors were read.

        Raises:
            BundleError: says what is wrong: bytes that changed, a value over the bound, NaN, missing or other ids.
        """
        tell = progress or silent
        if max_epsilon is not None and self.info.epsilon_levels > max_epsilon + 1e-6:
            raise BundleError(
                f"{self.path} changes pixels by up to {self.info.epsilon_levels:g} of 255 levels; {max_epsilon:g} are "
                "accepted. Ask for less, or raise the limit (--max-epsilon)."
            )
        if expected is not None:
            self._check_ids(expected)
        for file, digest in self._digests.items():
            if _digest_of(file, digest) != digest:
                raise BundleError(f"{file} was changed after it was written, or damaged on its way. {_AGAIN}")
        for done, name in enumerate(self.shapes, start=1):
            self._checked(name)
            tell("noise", done, len(self.shapes), "checking the noise")

    def _check_ids(self, expected: RequestMap | NoiseRequest) -> None:
        if isinstance(expected, RequestMap):
            sizes = {name: (picture.width, picture.height) for name, picture in expected.pictures.items()}
        else:
            sizes = {row.id: row.size for row in expected.rows}
        missing, extra = sorted(sizes.keys() - self.tensor_of.keys()), sorted(self.tensor_of.keys() - sizes.keys())
        if missing or extra:
            parts = [f"{len(ids)} {word} ({ids[0]})" for ids, word in ((missing, "missing"), (extra, "unknown")) if ids]
            raise BundleError(f"{self.path} is not for this request: ids {' and '.join(parts)}. {_AGAIN}")
        if self.info.prompts_sha256 != expected.prompts_sha256:
            raise BundleError(f"{self.path} was made for other prompts than those of this request. {_AGAIN}")
        if self.info.stage == "final":
            for name, size in sizes.items():
                height, width = self.shapes[self.tensor_of[name]]
                if size is not None and size != (width, height):
                    raise BundleError(
                        f"{self.path}: {name} is {width} x {height} pixels, its picture {size[0]} x {size[1]}."
                    )

    def _checked(self, tensor: str) -> np.ndarray:
        try:
            values = self._handles[tensor].get_tensor(tensor).astype(np.float32)
        except (SafetensorError, OSError, ValueError) as error:
            raise BundleError(f"{self.path}: {tensor} cannot be read ({error!s:.200}). {_AGAIN}") from error
        if not np.isfinite(values).all():
            raise BundleError(f"{self.path}: {tensor} holds values that are no numbers. {_AGAIN}")
        if outside := self.budget.violations(values):
            raise BundleError(
                f"{self.path}: {outside} values of {tensor} are over its {self.info.epsilon_levels:g} levels. {_AGAIN}"
            )
        return values


def _listed(path: Path) -> dict[Path, str | None]:
    """The files that an index names, with their digests."""
    try:
        data = read_json(path)
        if data.get("format") != FORMAT or data.get("version") != VERSION:
            raise BundleError(f"{path} is no index of format {VERSION}, the one that is read.")
        files = dict(data["files"])
        # A name with a folder in it could lead anywhere on this disk.
        if not files or not all(name.endswith(SUFFIX) and Path(name).name == name for name in files):
            raise ValueError("names of files")
    except FileNotFoundError:
        raise BundleError(f"There is no file {path}.") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is damaged ({error!s:.200}). {_AGAIN}") from error
    return {path.parent / name: str(digest) for name, digest in files.items()}


def _open(path: Path) -> tuple[Any, dict[str, str]]:
    if not path.is_file():
        raise BundleError(f"There is no noise bundle {path}. `bitterant t2ue noise` makes one from a request.")
    try:
        handle = safe_open(path, framework="np")
        return handle, handle.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path} is no safetensors file, cut off or damaged ({error!s:.200}). {_AGAIN}") from error


def _tensors(handle: Any, info: BundleInfo, path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    native = [3, info.native_size, info.native_size]
    for name in handle.keys():  # noqa: SIM118 - a file handle, not a dict
        head = handle.get_slice(name)
        shape: Sequence[int] = head.get_shape()
        fits = len(shape) == 3 and shape[0] == 3 and min(shape) > 0 and (info.stage == "final" or shape == native)
        if not TENSOR_NAME.fullmatch(name) or head.get_dtype() != _KINDS[info.stage] or not fits:
            raise BundleError(f"{path}: {name:.60} is {head.get_dtype()} {shape}, which a bundle cannot hold. {_AGAIN}")
        yield name, (shape[1], shape[2])


def _shared(text: str, path: Path) -> dict[str, str]:
    try:
        data = parse_json(text)
        if not isinstance(data, dict) or not all(ID_PATTERN.fullmatch(name) for name in data):
            raise ValueError("ids")
        return {name: f"c/{key}" for name, key in data.items()}
    except ValueError as error:
        raise BundleError(f"{path}: its map from ids to patterns is damaged ({error!s:.200}). {_AGAIN}") from error


def _digest_of(path: Path, written: str) -> str:
    """The digest of a file as it was when its own digest was not yet in it."""
    try:
        with open_regular(path) as file:
            length = file.read(8)
            head = file.read(int.from_bytes(length, "little"))
            digest = hashlib.sha256(length)
            digest.update(head.replace(written.encode("utf-8"), BLANK_DIGEST.encode("ascii")) if written else head)
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()
