"""New generators: the sizes that ``bitterant t2ue train`` makes, and the record that lies beside the weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from ....errors import ConfigError
from ....imaging.atomic import write_atomic
from ....surrogates import own_randomness
from .generator import SSANoiseGenerator
from .recipe import TrainRecipe
from .text_embedder import TextEmbedder
from .training import TrainReport

__all__ = ["SIDES", "made_on", "model_card", "new_generator", "write_record"]

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
