"""A noise bundle: what it says about itself, written piece by piece, read and believed only after it was verified.

Writing keeps no more in memory than one tensor. safetensors' own writer wants all tensors at once; the format is simple
enough to be written here: 8 bytes with the length of the head (little-endian), the head as JSON padded with spaces, the
tensors one after another.

What is read comes from elsewhere: everything in it is checked, and nothing in it is ever executed (no pickle).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast, get_args

import numpy as np
from safetensors import SafetensorError, safe_open

from ..._version import __version__
from ...errors import BudgetExceeded, BundleError, ConfigError
from ...imaging.perturb import Budget
from ...records.config import Fit
from ...records.files import atomic_file, check_free, write_atomic
from ...records.places import open_regular
from ...records.progress import ProgressCallback, silent
from ...records.text import parse_json, read_json
from .request import ID_PATTERN, NoiseRequest, RequestMap

FORMAT: Final = "unlearnable-noise"
VERSION: Final = 1
SUFFIX: Final = ".noise.safetensors"
INDEX_SUFFIX: Final = ".noise.index.json"
#: ``d/`` and the id of a picture, or ``c/`` and the key of a pattern that several pictures share.
TENSOR_NAME: Final = re.compile(r"d/[0-9a-f]{16}|c/[0-9a-z-]{1,60}")

Stage = Literal["native", "final"]
ZMode = Literal["class", "codebook", "sample"]
PromptMode = Literal["fixed", "cycle"]

#: int8 holds no more; far beyond what is hard to see anyway.
_LARGEST_EPSILON: Final = 127.0
_LARGEST_SIDE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """How the noise was made.

    Attributes:
        stage: ``native``: float16 squares of one side, which the owner fits to the pictures; ``final``: int8, at the
            size of each picture.
        epsilon_levels: no value is larger, in 1/255 levels.
        native_size: side of the squares in px; of a final bundle, that of the generator.
        generator_id, generator_sha256: of the generator.
        text_encoder, text_norm: what read the prompts.
        z_mode: whether a class, an entry of a codebook, or a picture has a seed of its own.
        prompt_mode: ``fixed``: the prompts as they came; ``cycle``: class prompts in changing words.
        resize: how squares are meant to meet a picture.
        count: how many pictures it is for.
        prompts_sha256: digest of the request's ids and prompts.
        created: when; left out unless given, so that the same request gives the same bytes.
        method: what made it.
        tool_version: of bitterant.
    """

    stage: Stage
    epsilon_levels: float
    native_size: int
    generator_id: str
    generator_sha256: str
    text_encoder: str
    text_norm: str
    z_mode: ZMode
    prompt_mode: PromptMode
    resize: Fit
    count: int
    prompts_sha256: str
    created: str = ""
    method: str = "t2ue"
    tool_version: str = __version__

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon_levels) and 1 <= self.epsilon_levels <= _LARGEST_EPSILON):
            raise BundleError(
                f"A bundle of epsilon {self.epsilon_levels:g} cannot be: 1 to {_LARGEST_EPSILON:g} levels."
            )
        choices = ((self.stage, Stage), (self.z_mode, ZMode), (self.prompt_mode, PromptMode), (self.resize, Fit))
        for value, kind in choices:
            if value not in get_args(kind):
                raise BundleError(
                    f"A bundle cannot have {value!r:.40} where one of {', '.join(get_args(kind))} stands."
                )
        if not 1 <= self.native_size <= _LARGEST_SIDE or self.count < 1:
            raise BundleError(f"A bundle of {self.count} perturbations of side {self.native_size} cannot be.")

    def to_metadata(self) -> dict[str, str]:
        """As the text that stands in the file."""
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "method": self.method,
            "stage": self.stage,
            "units": "levels",
            "scale": "1",
            "epsilon_levels": format(self.epsilon_levels, ".12g"),
            "native_size": str(self.native_size),
            "generator_id": self.generator_id,
            "generator_sha256": self.generator_sha256,
            "text_encoder": self.text_encoder,
            "text_norm": self.text_norm,
            "z_mode": self.z_mode,
            "prompt_mode": self.prompt_mode,
            "resize": self.resize,
            "count": str(self.count),
            "prompts_sha256": self.prompts_sha256,
            "tool_version": self.tool_version,
        }
        return {**metadata, "created": self.created} if self.created else metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> BundleInfo:
        """Read the head of a file.

        Args:
            metadata: as found.
            name: what messages call the file.

        Raises:
            BundleError: another format or version, or values that cannot be.
        """
        if metadata.get("format") != FORMAT:
            raise BundleError(f"{name} is a safetensors file, but no noise bundle. `bitterant t2ue noise` makes one.")
        version = metadata.get("version", "")
        if version.partition(".")[0] != str(VERSION):
            raise BundleError(
                f"{name} has bundle format {version or '?'}; this bitterant reads {VERSION}. It was written by "
                f"{metadata.get('tool_version', 'an unknown version')}: update bitterant, or ask for the noise again."
            )
        if (metadata.get("units"), metadata.get("scale")) != ("levels", "1"):
            raise BundleError(f"{name}: its values are not in 1/255 levels, the only unit that is read.")
        try:
            return cls(
                stage=cast(Stage, metadata["stage"]),
                epsilon_levels=float(metadata["epsilon_levels"]),
                native_size=int(metadata["native_size"]),
                generator_id=metadata["generator_id"],
                generator_sha256=metadata["generator_sha256"],
                text_encoder=metadata["text_encoder"],
                text_norm=metadata["text_norm"],
                z_mode=cast(ZMode, metadata["z_mode"]),
                prompt_mode=cast(PromptMode, metadata.get("prompt_mode", "fixed")),
                resize=cast(Fit, metadata["resize"]),
                count=int(metadata["count"]),
                prompts_sha256=metadata["prompts_sha256"],
                created=metadata.get("created", ""),
                method=metadata.get("method", "t2ue"),
                tool_version=metadata.get("tool_version", ""),
            )
        except KeyError as error:
            raise BundleError(f"{name} is damaged: its head lacks {error}.") from error
        except (ValueError, BundleError) as error:
            raise BundleError(f"{name} is damaged: {error!s:.200}") from error


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
        ConfigError: the name does not end as a bundle does, or a file is there already.
        OutputError: a file cannot be written.
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


_AGAIN: Final = "Nothing of it is used. Get the bundle again."
_BLOCK: Final = 1 << 20


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
        if not TENSOR_NAME.fullmatch(name) or head.get_dtype() != _TYPES[info.stage][0] or not fits:
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
