"""From a request to a bundle of noise. Needs the generator and nothing of the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from ...errors import BudgetExceeded, ConfigError, UnknownNameError, WeightsError
from ...imaging.budget import Budget
from ...imaging.perturb import Fit, place_delta
from ...imaging.resize import shrink_delta
from ..folder.interrupt import StopRequest
from ..folder.progress import ProgressCallback, silent
from .bundle import NoiseBundle
from .bundle_info import BundleInfo, PromptMode, Stage, ZMode
from .bundle_writing import SHARD_BYTES, TensorPlan, bundle_paths, write_bundle
from .patterns import DEFAULT_CODEBOOK, Pattern, plan_patterns
from .request import NoiseRequest
from .secret import LEAST_SECRET
from .source import NoiseSource

__all__ = ["generate_bundle"]

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
        ConfigError: an epsilon, mode or name that cannot be.
        RequestError: the request lacks what the mode needs.
        WeightsError: the generator gives NaN or another shape than it should.
        BudgetExceeded: the generator leaves [-1, 1].
        OutputError: the file exists or cannot be written.
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
