"""A training from request to folder: what is needed is checked first, and the folder appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ....errors import ConfigError, FolderError, Interrupted, OutputError
from ....imaging.captions import CaptionOptions, read_captions
from ....imaging.loading import load_image_set
from ....imaging.scan import scan_folder
from ....surrogates import resolve_device
from ....surrogates.image_text import check_image_text, create_image_text
from ..checkpoint import Checkpoint
from .making import made_on, new_generator, write_record
from .pairs import CaptionPairs
from .pipeline import T2UEPipeline
from .recipe import TrainRecipe
from .text_embedder import TextEmbedder
from .training import DTYPE, TrainingStopped, TrainProgress, TrainReport, train_t2ue
from .vocabulary import TEMPLATES, readable_class

__all__ = ["TrainRequest", "make_generator"]

_CONSE_SIDE = 96
"""What conse's network sees in training, in px: at its own 224 a step costs five times as much."""
_LARGEST_PICTURES = 64
"""Noise is trained on pictures of its own side, up to this many px."""
_THINGS, _PICTURES = 2000, 1024
_PAPER_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What is to be trained.

    Attributes:
        out: new folder.
        pairs: folder of pictures with captions or in class folders; ``None`` for made-up captions and drawn pictures.
        coco: captions file for them.
        surrogate: image-text surrogate.
        side: of the noise in px; default 32, with the paper preset 256, its only side.
        epsilon: bound, in units of the full range.
        preset: ``paper`` for the published recipe.
        seed: of everything random.
        device, weights, allow_download: as elsewhere.
        resume: go on with a training that was stopped; False starts again.
        recipe: fields of :class:`TrainRecipe` that differ from the preset.
    """

    out: Path
    pairs: Path | None = None
    coco: Path | None = None
    surrogate: str = "conse"
    side: int | None = None
    epsilon: float = 8 / 255
    preset: Literal["paper"] | None = None
    seed: int = 0
    device: str = "auto"
    weights: Path | None = None
    allow_download: bool = False
    resume: bool = True
    recipe: Mapping[str, Any] = field(default_factory=dict)


def make_generator(
    request: TrainRequest,
    *,
    progress: Callable[[TrainProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainReport:
    """Train, and write the folder.

    Raises:
        ConfigError, FolderError, CaptionError: the request cannot be meant so, or ``out`` is there already.
        SetupError, WeightsError: the surrogate is not here.
        OutputError: ``out`` cannot be written.
        FitError: the training broke down.
        Interrupted: ``stop`` said so; the same request goes on.
    """
    out = request.out
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ConfigError(f"{out} is there already. Choose a new folder, or remove that one.")
    device = resolve_device(request.device)
    side = _side(request)
    options = {"seed": request.seed, **request.recipe}
    if request.preset == "paper":
        recipe = TrainRecipe.paper(**options)
    else:
        recipe = TrainRecipe(**{"image_side": min(side, _LARGEST_PICTURES), **options})
    check_image_text(request.surrogate, weights=request.weights, allow_download=request.allow_download)
    checkpoint = out.with_name(f"{out.name}.training")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not request.resume:
            Checkpoint(checkpoint, "").remove()
        Checkpoint(checkpoint, "").check()
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be written: {error.strerror}.") from error
    pairs = _pairs(request, recipe)
    surrogate = create_image_text(
        request.surrogate, weights=request.weights, allow_download=request.allow_download,
        side=_CONSE_SIDE if request.surrogate == "conse" else None,
    )  # fmt: skip
    embedder = TextEmbedder.of(surrogate.texts)
    generator = new_generator(side, embedder, seed=request.seed, epsilon=request.epsilon)
    try:
        report = train_t2ue(
            pairs, surrogate, generator, embedder, recipe, device=device, progress=progress, checkpoint=checkpoint,
            stop=stop,
        )  # fmt: skip
    except TrainingStopped:
        raise Interrupted(f"Stopped. The state is kept in {checkpoint}; the same command goes on.") from None
    about = {
        "side": side, "epsilon_levels": round(request.epsilon * 255, 3), "pairs": pairs.name,
        "surrogate": request.surrogate, "text_encoder": embedder.tower_id,
        "dtype": DTYPE, "made_on": made_on(device),
    }  # fmt: skip
    _write(out, T2UEPipeline(generator, embedder), report, recipe, about)
    Checkpoint(checkpoint, "").remove()
    return report


def _side(request: TrainRequest) -> int:
    """The side of the noise.

    Raises:
        ConfigError: the paper's recipe with a network or a surrogate that is not the paper's.
    """
    if request.preset != "paper":
        return 32 if request.side is None else request.side
    if request.side not in (None, _PAPER_SIDE):
        raise ConfigError(
            f"The paper's generator makes noise of {_PAPER_SIDE} px, not {request.side}. Leave out --size, or --preset."
        )
    if request.surrogate == "conse":
        raise ConfigError(
            "The paper trains through a CLIP, and conse is none: a classifier and a sentence encoder of our own, whose "
            "cosines have other sizes. Name one, such as --surrogate clip:ViT-B-32/openai with --weights FILE or "
            "--allow-download, or leave out --preset."
        )
    return _PAPER_SIDE


def _pairs(request: TrainRequest, recipe: TrainRecipe) -> CaptionPairs:
    if request.pairs is None:
        if request.coco is not None:
            raise FolderError("A captions file needs its pictures: add --pairs DIR.")
        return CaptionPairs.made_up(things=_THINGS, images=_PICTURES, side=recipe.image_side, seed=request.seed)
    scan = scan_folder(request.pairs)
    if not scan.entries:
        raise FolderError(f"There is no picture in {request.pairs}.")
    found = read_captions(scan, CaptionOptions(coco=request.coco))
    dataset, entries, problems = load_image_set(scan, recipe.image_side)
    if not entries:
        raise FolderError(f"None of the {len(problems)} pictures in {request.pairs} could be read.")
    captions = []
    for entry in entries:
        caption = found.captions[entry.relative]
        named = caption.source == "class" and entry.class_name is not None
        captions.append(
            [template.format(readable_class(str(entry.class_name))) for template in TEMPLATES]
            if named
            else list(caption.captions)
        )
    return CaptionPairs.of(
        dataset.images, captions, name=f"{len(entries)} captioned pictures of {request.pairs.name}"
    )  # fmt: skip


def _write(out: Path, pipeline: T2UEPipeline, report: TrainReport, recipe: TrainRecipe, about: dict[str, Any]) -> None:
    made = out.with_name(f".bitterant-{out.name}")
    if made.is_symlink() or (made.exists() and not made.is_dir()):
        raise OutputError(f"{made} is in the way and is left alone. Move it away.")
    try:
        shutil.rmtree(made, ignore_errors=True)
        pipeline.save_pretrained(str(made))
        write_record(made, report, recipe, about)
        if out.is_dir():
            out.rmdir()
        made.replace(out)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise OutputError(f"{out} cannot be written: {error.strerror}.") from error
