"""From a request to a bundle of noise, without a picture; and the bundle in other formats.

Read in order: what makes noise from text, as far as this package needs to know it (:class:`NoiseSource`); which noise
is to be made for a request, one pattern a picture or patterns that pictures of a class share; making it; and the bundle
as npz for other programs or PNG for eyes, neither of which is read back.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np

from ...errors import BudgetExceeded, ConfigError, RequestError, UnknownNameError, WeightsError
from ...imaging.captions import CLASS_TEMPLATES, fill_template
from ...imaging.encoding import encode
from ...imaging.perturb import Budget, place_delta, shrink_delta
from ...imaging.picture import Picture
from ...records.config import Fit
from ...records.files import atomic_file, check_free, write_atomic
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.secrets import LEAST_SECRET, derive, seed_of
from .bundle import (
    SHARD_BYTES,
    BundleInfo,
    NoiseBundle,
    PromptMode,
    Stage,
    TensorPlan,
    ZMode,
    bundle_paths,
    write_bundle,
)
from .request import NoiseRequest, RequestRow


class NoiseSource(Protocol):
    """A generator that turns a prompt and a seed into noise. It sees no picture.

    Attributes:
        generator_id: what the generator is called.
        generator_sha256: of its weights.
        text_encoder: what reads the prompts.
        text_norm: how embeddings are normalised before they enter the generator.
        native_size: side S of the noise, in px.
    """

    @property
    def generator_id(self) -> str: ...
    @property
    def generator_sha256(self) -> str: ...
    @property
    def text_encoder(self) -> str: ...
    @property
    def text_norm(self) -> str: ...
    @property
    def native_size(self) -> int: ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Noise for some prompts.

        Args:
            prompts: N texts.
            seeds: N numbers in 0..2**63 - 1.

        Returns:
            float32 ``[N, 3, S, S]`` in [-1, 1], as a share of the budget. Row i depends on ``prompts[i]`` and
            ``seeds[i]`` only: not on its neighbours, not on N.
        """
        ...


#: Patterns a class in z_mode ``codebook``: what the authors' code effectively used.
DEFAULT_CODEBOOK: Final = 32

_NAMES: Final = tuple(
    re.compile(re.escape(template).replace(re.escape("{}"), "(.+)"), re.IGNORECASE)
    # The longest first: "a photo of a small {}." also reads as "a photo of a {}." of a "small cat".
    for template in sorted(CLASS_TEMPLATES, key=len, reverse=True)
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One call of the generator.

    Attributes:
        tensor: name of the tensor that it becomes.
        prompt: text.
        seed: 0..2**63 - 1.
        size: width and height, where it is made to measure.
    """

    tensor: str
    prompt: str
    seed: int
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class PatternPlan:
    """All patterns, sorted by tensor name.

    Attributes:
        patterns: what to generate.
        shared: from id to the key of its pattern, where patterns are shared.
    """

    patterns: tuple[Pattern, ...]
    shared: Mapping[str, str]


def plan_patterns(
    request: NoiseRequest, *, z_mode: ZMode, prompt_mode: PromptMode, secret: bytes, codebook: int = DEFAULT_CODEBOOK
) -> PatternPlan:
    """What to generate. It depends on the rows and the secret alone, neither on order nor on batches.

    Args:
        request: the rows.
        z_mode: ``class``: one seed a class; ``codebook``: one of ``codebook`` seeds, drawn for each picture;
            ``sample``: a seed for each picture.
        prompt_mode: ``cycle`` puts the class name of each picture into one of 18 sentences, drawn for each picture.
        secret: of whoever generates, or of the owner.
        codebook: number of seeds.

    Raises:
        RequestError: the request lacks what the mode needs.
        ConfigError: ``codebook`` is below 1.
    """
    if codebook < 1:
        raise ConfigError(f"A codebook of {codebook} seeds cannot be: 1 or more.")
    if z_mode != "sample" and any(row.z_seed is not None for row in request.rows):
        raise RequestError("The request brings a seed for each picture, which only --z-mode sample uses.")
    if z_mode == "class":
        _check_classes(request)
    if prompt_mode == "cycle" and not any(_class_name(row.prompt) for row in request.rows):
        raise RequestError(
            f'--prompt-mode cycle needs prompts made of class names, such as "{CLASS_TEMPLATES[0]}", to know the names.'
        )
    patterns: dict[str, Pattern] = {}
    shared: dict[str, str] = {}
    for row in request.rows:
        prompt, words = (row.prompt, "") if prompt_mode == "fixed" else _cycled(row, secret)
        if z_mode == "sample":
            seed = seed_of(secret, f"id:{row.id}") if row.z_seed is None else row.z_seed
            patterns[row.id] = Pattern(f"d/{row.id}", prompt, seed, row.size if request.sized else None)
            continue
        if z_mode == "class":
            key, seed = f"{row.class_id}{words}", seed_of(secret, f"class:{row.class_id}")
        else:
            number = seed_of(secret, f"entry:{row.id}") % codebook
            # Keyed: a plain digest of the prompt could be looked up in a list of guesses.
            group = derive(secret, f"prompt:{prompt}").hex()[:16]
            key, seed = f"p{group}-z{number}", seed_of(secret, f"codebook:{number}")
        shared[row.id] = key
        patterns[key] = Pattern(f"c/{key}", prompt, seed)
    return PatternPlan(tuple(sorted(patterns.values(), key=lambda pattern: pattern.tensor)), shared)


def _check_classes(request: NoiseRequest) -> None:
    prompts: dict[int, set[str]] = {}
    for row in request.rows:
        if row.class_id is None:
            raise RequestError(
                f"One noise a class needs a class for every picture, and {row.id} has none. Take --z-mode sample, "
                "or make the request from class folders: t2ue captions --source class."
            )
        prompts.setdefault(row.class_id, set()).add(row.prompt)
    several = [number for number, texts in prompts.items() if len(texts) > 1]
    if several:
        raise RequestError(
            f"One noise a class needs one prompt a class, and class {several[0]} has {len(prompts[several[0]])}. "
            "Take --z-mode sample, or make the request with t2ue captions --source class."
        )


def _class_name(prompt: str) -> str | None:
    return next((match.group(1) for name in _NAMES if (match := name.fullmatch(prompt))), None)


def _cycled(row: RequestRow, secret: bytes) -> tuple[str, str]:
    """The prompt in other words, and what tells these words apart in a key."""
    name = _class_name(row.prompt)
    if name is None:
        return row.prompt, ""
    number = seed_of(secret, f"words:{row.id}") % len(CLASS_TEMPLATES)
    return fill_template(CLASS_TEMPLATES[number], name), f"-t{number}"


#: int8 holds no more levels.
_MOST_LEVELS = 127


def generate_bundle(
    request: NoiseRequest,
    source: NoiseSource,
    out: Path | str,
    *,
    epsilon: float = 8 / 255,
    z_mode: ZMode = "sample",
    prompt_mode: PromptMode = "fixed",
    secret: bytes,
    codebook: int = DEFAULT_CODEBOOK,
    fit: Fit = "center",
    batch_size: int = 8,
    shard_bytes: int = SHARD_BYTES,
    created: str = "",
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> NoiseBundle:
    """Make the noise for a request and write it. The file appears whole or not at all.

    The noise for a row depends on its prompt, its id (or class) and the secret: not on the other rows, their order, or
    ``batch_size``. Where every row says the size of its picture and has noise of its own, the noise is made to measure.

    Args:
        request: ids and prompts.
        source: the generator.
        out: ``NAME.noise.safetensors``; above ``shard_bytes`` several files and an index.
        epsilon: the bound, as a fraction of the full range.
        z_mode: see :func:`plan_patterns`.
        prompt_mode: see :func:`plan_patterns`.
        secret: at least 16 bytes. Who knows it, the generator and a caption can compute the noise and take it off.
        codebook: seeds of ``z_mode="codebook"``.
        fit: how the noise is meant to meet a picture; see :func:`add_delta`.
        batch_size: rows a call of the generator.
        shard_bytes: most bytes a file.
        created: a date for the head of the file; left out, the same request and secret give the same bytes.
        progress: told how many patterns are done.
        stop: a flag to stop at the next batch; nothing is written then.

    Returns:
        The bundle, opened. Its ``files`` tell what was written.

    Raises:
        ConfigError: an epsilon, mode or name that cannot be, or the file exists.
        RequestError: the request lacks what the mode needs.
        WeightsError: the generator gives NaN or another shape than it should.
        BudgetExceeded: the generator leaves [-1, 1].
        OutputError: the file cannot be written.
        Interrupted: ``stop`` was set.
    """
    out = Path(out)
    bundle_paths(out)
    budget = Budget(epsilon)
    _check(budget, z_mode, prompt_mode, fit, secret, batch_size)
    plan = plan_patterns(request, z_mode=z_mode, prompt_mode=prompt_mode, secret=secret, codebook=codebook)
    final = z_mode == "sample" and request.sized
    stage: Stage = "final" if final else "native"
    side = source.native_size
    info = BundleInfo(
        stage=stage,
        epsilon_levels=budget.levels,
        native_size=side,
        generator_id=source.generator_id,
        generator_sha256=source.generator_sha256,
        text_encoder=source.text_encoder,
        text_norm=source.text_norm,
        z_mode=z_mode,
        prompt_mode=prompt_mode,
        resize=fit,
        count=len(request.rows),
        prompts_sha256=request.prompts_sha256,
        created=created,
    )
    tensors = [TensorPlan(p.tensor, *((p.size[1], p.size[0]) if p.size else (side, side))) for p in plan.patterns]
    levels = _generate(plan.patterns, source, budget, fit, batch_size, progress or silent, stop or StopRequest())
    files = write_bundle(out, info, tensors, levels, plan.shared, shard_bytes=shard_bytes)
    return NoiseBundle.load(files[-1])


def _check(budget: Budget, z_mode: str, prompt_mode: str, fit: str, secret: bytes, batch_size: int) -> None:
    for what, value, kind in (("z mode", z_mode, ZMode), ("prompt mode", prompt_mode, PromptMode), ("fit", fit, Fit)):
        if value not in get_args(kind):
            raise UnknownNameError(what, value, get_args(kind))
    if not 1 <= budget.whole_levels <= _MOST_LEVELS:
        raise ConfigError(f"epsilon of {budget.levels:g} levels is outside 1..{_MOST_LEVELS}. Usual: 4 to 16.")
    if len(secret) < LEAST_SECRET:
        raise ConfigError(f"The secret has {len(secret)} bytes; fewer than {LEAST_SECRET} could be guessed.")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}.")


def _generate(
    patterns: Sequence[Pattern],
    source: NoiseSource,
    budget: Budget,
    fit: Fit,
    batch_size: int,
    progress: ProgressCallback,
    stop: StopRequest,
) -> Iterator[np.ndarray]:
    """The patterns in levels, float32 ``[3, h, w]``, one after another."""
    progress("generate", 0, len(patterns), "making the noise")
    for start in range(0, len(patterns), batch_size):
        stop.check("Nothing was written.")
        batch = patterns[start : start + batch_size]
        made = source.generate([pattern.prompt for pattern in batch], [pattern.seed for pattern in batch])
        for pattern, noise in zip(batch, _checked(made, len(batch), source), strict=True):
            levels = noise * np.float32(budget.levels)
            yield levels if pattern.size is None else _to_measure(levels, pattern.size, budget, fit)
        progress("generate", start + len(batch), len(patterns), "making the noise")


def _checked(made: np.ndarray, count: int, source: NoiseSource) -> np.ndarray:
    shape = (count, 3, source.native_size, source.native_size)
    if made.shape != shape:
        raise WeightsError(f"The generator {source.generator_id} gave noise of shape {made.shape}, not {shape}.")
    if not np.isfinite(made).all():
        raise WeightsError(f"The generator {source.generator_id} gave values that are no numbers: damaged weights?")
    if np.abs(made).max() > 1 + 1e-6:
        raise BudgetExceeded(f"The generator {source.generator_id} left its range -1..1. Please report this as a bug.")
    return made.astype(np.float32, copy=False)


def _to_measure(levels: np.ndarray, size: tuple[int, int], budget: Budget, fit: Fit) -> np.ndarray:
    """Whole levels ``[3, h, w]`` for a picture of this width and height."""
    width, height = size
    square = np.ascontiguousarray(levels.transpose(1, 2, 0))
    placed = place_delta(shrink_delta(square, height, width, fit), height, width, fit)
    return np.clip(np.rint(placed), -budget.whole_levels, budget.whole_levels).transpose(2, 0, 1)


#: The grey that means no change in an exported PNG.
PNG_OFFSET: Final = 128
#: The earliest date a zip file can say, so that the same bundle gives the same bytes.
_NO_DATE: Final = (1980, 1, 1, 0, 0, 0)


def check_export(path: Path, form: Literal["safetensors", "npz", "png"]) -> None:
    """Make sure that a bundle can be kept at ``path``, before the work of making it.

    Raises:
        ConfigError: the name does not fit the form, or something is there already.
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
        ConfigError: the file exists.
        OutputError: it cannot be written.
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
        ConfigError: the folder exists and is not empty.
        OutputError: it cannot be written.
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
