"""A generator of one's own, from request to folder: the networks there are, the training, and the model card.

What is needed is checked first, and the folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ....errors import ConfigError, FolderError, Interrupted, OutputError
from ....imaging.captions import GENERATOR_TEMPLATES, CaptionOptions, read_captions
from ....imaging.loading import load_image_set
from ....imaging.scan import scan_folder
from ....records.config import NO_WEIGHTS, WeightsPolicy
from ....records.files import write_atomic
from ....surrogates import own_randomness, resolve_device
from ....surrogates.image_text import check_image_text, create_image_text
from ..checkpoint import Checkpoint, Stopped
from .data import CaptionPairs, readable_class
from .generator import SSANoiseGenerator
from .pipeline import T2UEPipeline, TextEmbedder
from .training import DTYPE, TrainProgress, TrainRecipe, TrainReport, train_t2ue

_INSTRUCTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")
_SMALL: dict[str, Any] = {"ngf": 16, "hidden": 64, "mask_hidden": 16, "gate_init": 1.0, "text_init": 1.5}
_NETWORKS: dict[int, dict[str, Any]] = {
    32: {**_SMALL, "multipliers": (4, 4, 2, 1), "carriers": (4, 8, 16), "carrier_shift": 1.0},
    64: {**_SMALL, "multipliers": (8, 4, 4, 2, 1), "carriers": (4, 8, 16, 32), "carrier_shift": 1.0},
    256: {},
}
SIDES = tuple(_NETWORKS)
"""Sides of noise in px: 32 and 64 are small networks of ours, 256 is the paper's."""


def new_generator(side: int, embedder: TextEmbedder, *, seed: int, epsilon: float = 8 / 255) -> SSANoiseGenerator:
    """With random weights; the same for the same seed.

    Args:
        side: one of :data:`SIDES`.
        embedder: the text tower it will listen to.
        seed: of the weights.
        epsilon: its bound, in units of the full range.

    Raises:
        ConfigError: no such side.
    """
    if side not in _NETWORKS:
        raise ConfigError(f"Generators are made for noise of {', '.join(map(str, SIDES))} px, not {side}.")
    config: Any = embedder.config
    with own_randomness(seed):
        return SSANoiseGenerator(
            **_NETWORKS[side], text_dim=config.text_dim, epsilon=epsilon, text_norm=config.text_norm,
            text_encoder_id=config.tower, text_encoder_sha256=config.tower_sha256,
        )  # fmt: skip


def made_on(device: torch.device) -> str:
    """What decides about the last bits of a training besides the recipe: device, instructions, torch, threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    if device.type != "cpu":
        return f"{device.type}, torch {torch.__version__}"
    limits = [f"{name}={os.environ[name]}" for name in _INSTRUCTIONS if name in os.environ]
    instructions = ", ".join([torch.backends.cpu.get_cpu_capability(), *limits])
    return f"CPU ({instructions}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def write_record(folder: Path, report: TrainReport, recipe: TrainRecipe, about: dict[str, Any]) -> None:
    """``training.json`` with the whole curve, and a model card, beside the weights."""
    record = {
        **about, "recipe": recipe.settings(), "steps": report.steps, "losses": report.losses,
        "measures": report.measures.facts(), "curve": report.curve,
    }  # fmt: skip
    write_atomic(folder / "training.json", json.dumps(record, indent=1).encode(), overwrite=True)
    write_atomic(folder / "README.md", model_card(report, recipe, about).encode(), overwrite=True)


def model_card(report: TrainReport, recipe: TrainRecipe, about: dict[str, Any]) -> str:
    """What a generator is, how it was made, and how its noises compare."""
    measures = report.measures
    losses = ", ".join(f"{name} {value:.2f}" for name, value in report.losses.items())
    return f"""# A T2UE generator, {about["side"]} px

Makes noise within ±{about["epsilon_levels"]:g} of 255 levels out of a caption and a random vector: the method `t2ue`
of bitterant (docs/methods/t2ue.md).

- Text tower: `{about["text_encoder"]}`; with another one its noise means nothing.
- Trained on: {about["pairs"]}.
- Surrogate: {about["surrogate"]}.
- {report.steps} steps of {recipe.batch_size} captions, seed {recipe.seed}; losses at the end: {losses}.
- Trained in {about["dtype"]} on {about["made_on"]}.
  The same command with the same versions gives the same bytes there; on a CPU with `bitterant t2ue train` also on
  another processor of the kind, since it takes only what all have. What cannot be promised: the same bytes from
  another version of torch, from a GPU of another kind, or from Python on another processor or number of threads.
- Cosines of noises: one text with two random vectors {measures.same_text:.2f}, one class in two sentences
  {measures.same_class:.2f}, two classes {measures.other_class:.2f}; {measures.saturated:.0%} of the values reach the
  bound.

What it protects from is not known before it is measured: `bitterant protect` some pictures with it, then
`bitterant verify`. Everything that was set is in `training.json`.
"""


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
        device, weights: as elsewhere.
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
    weights: WeightsPolicy = NO_WEIGHTS
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
    check_image_text(request.surrogate, weights=request.weights)
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
        request.surrogate, weights=request.weights,
        side=_CONSE_SIDE if request.surrogate == "conse" else None,
    )  # fmt: skip
    embedder = TextEmbedder.of(surrogate.texts)
    generator = new_generator(side, embedder, seed=request.seed, epsilon=request.epsilon)
    try:
        report = train_t2ue(
            pairs, surrogate, generator, embedder, recipe, device=device, progress=progress, checkpoint=checkpoint,
            stop=stop,
        )  # fmt: skip
    except Stopped:
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
            [template.format(readable_class(str(entry.class_name))) for template in GENERATOR_TEMPLATES]
            if named
            else list(caption.captions)
        )
    return CaptionPairs.of(
        dataset.images, captions, name=f"{len(entries)} captioned pictures of {request.pairs.name}"
    )  # fmt: skip


def _write(out: Path, pipeline: T2UEPipeline, report: TrainReport, recipe: TrainRecipe, about: dict[str, Any]) -> None:
    made = out.with_name(f".bitterant-{out.name}")
    if made.is_symlink() or (made.exists() and not made.is_dir()):
        raise ConfigError(f"{made} is in the way and is left alone. Move it away.")
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
