"""The command, or the call, that repeats a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..request import Request

__all__ = ["sets_command", "verify_command"]


def verify_command(
    clean: Path,
    protected: Path,
    folders: Mapping[str, Path | None],
    request: Request,
    resolution: int,
    seeds: int | None,
    victims: Sequence[str] | None,
    adversaries: Sequence[str] | None,
    epsilon: float | None,
    device: str,
) -> str:
    """The command line that repeats a run, with the resolution as it was resolved.

    Args:
        clean, protected: the folders.
        folders: further options that take a path, by name; ``None`` where one was not given.
        request: what was asked for, resolved.
        resolution: side in pixels.
        seeds, victims, adversaries, epsilon: as the caller gave them; ``None`` where the preset decided.
        device: as the caller named it.
    """
    words = ["bitterant", "verify", os.fspath(clean), os.fspath(protected)]
    for option, folder in folders.items():
        words += [] if folder is None else [f"--{option}", os.fspath(folder)]
    words += ["--preset", request.preset, "--resolution", str(resolution), "--seed", str(request.seed)]
    words += [] if device == "auto" else ["--device", device]
    words += [] if seeds is None else ["--seeds", str(seeds)]
    for victim in victims or ():
        words += ["--victim", victim]
    for adversary in ("none",) if adversaries is not None and not adversaries else adversaries or ():
        words += ["--adversary", adversary]
    levels = None if epsilon is None else f"{255 * epsilon:.10g}"  # 8 / 255 is written as 8
    typed = levels is not None and float(levels) >= 1  # less than a level the command line refuses
    words += ["--epsilon", levels] if levels is not None and typed else []
    words += [] if request.required_tier is None else ["--require-tier", request.required_tier]
    words += [] if request.required_grade is None else ["--require-grade", request.required_grade]
    words += [] if request.max_minutes is None else ["--max-minutes", f"{request.max_minutes:g}"]
    words += [] if request.epochs is None else ["--epochs", f"{request.epochs:g}"]
    words += [] if request.precision == "auto" else ["--precision", request.precision]
    notes = []
    if request.recipe is not None:
        notes.append("a recipe of its own, see plan.json")
    if epsilon is not None and not typed:
        notes.append(f"epsilon={epsilon:g}")
    return shlex.join(words) + (f"  # called from Python with {', '.join(notes)}" if notes else "")


def sets_command(
    request: Request,
    victims: Sequence[str] | None,
    adversaries: Sequence[str] | None,
    epsilon: float | None,
    device: str,
) -> str:
    """The call that repeats a run on sets in memory.

    Args:
        request: what was asked for, resolved.
        victims, adversaries, epsilon: as the caller gave them; ``None`` where the preset decided.
        device: as the caller named it.
    """
    given: dict[str, object] = {
        "preset": request.preset,
        "seeds": request.seeds,
        "seed": request.seed,
        "victims": None if victims is None else list(victims),
        "adversaries": None if adversaries is None else list(adversaries),
        "epsilon": epsilon,
        "device": None if device == "auto" else device,
        "require_tier": request.required_tier,
        "require_grade": request.required_grade,
        "max_minutes": request.max_minutes,
        "recipe": request.recipe,
        "epochs": request.epochs,
        "precision": None if request.precision == "auto" else request.precision,
    }
    words = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    return f"bitterant.attacks.verify_sets(clean, protected, test, {', '.join(words)})"
