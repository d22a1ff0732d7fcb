"""What a reader needs to repeat a run: where it ran, and the command."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ..request import Request
from ..schema import Environment
from ..training import available_cpus

__all__ = ["describe_environment", "verify_command"]


def describe_environment(device: str, workers: int) -> Environment:
    """Where a run took place: versions and devices, no names of machines or people."""
    versions = {}
    for name in ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=versions,
        device=device,
        cpus=available_cpus(),
        workers=workers,
    )


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
    """The command line that repeats a run, with the resolution as it was resolved."""
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
    words += [] if request.required_tier is None else ["--require-tier", request.required_tier]
    words += [] if request.required_grade is None else ["--require-grade", request.required_grade]
    words += [] if request.max_minutes is None else ["--max-minutes", f"{request.max_minutes:g}"]
    notes = []
    if request.recipe is not None:
        notes.append("a recipe of its own, see plan.json")
    if epsilon is not None:
        notes.append(f"epsilon={epsilon:g}")
    return shlex.join(words) + (f"  # called from Python with {', '.join(notes)}" if notes else "")
