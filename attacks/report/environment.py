"""What a reader needs to repeat a run: where it took place, which program ran, and the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

from ..._version import __version__
from ..facts import Environment, Tool
from ..request import Request
from ..training import available_cpus

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "kornia", "diffusers")
_ROOT = Path(__file__).resolve().parents[2]
_GIT_SECONDS = 10


def describe_tool() -> Tool:
    """Version and, in a checkout, the commit."""
    return Tool(version=__version__, git=_commit(_ROOT))


def _commit(root: Path) -> str | None:
    """The commit of a checkout; ``None`` where ``root`` is none, such as an installed package."""
    if not (root / ".git").exists():  # another project's checkout that holds our package says nothing about us
        return None
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def describe_environment(device: str, workers: int) -> Environment:
    """Versions, devices and switches; no names of machines or people."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    on_cpu = device.startswith("cpu")
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=versions,
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        cuda=torch.version.cuda,
        cpu=_processor(),
        cpus=available_cpus(),
        ram_gib=_memory_gib(),
        workers=workers,
        threads=1 if on_cpu else torch.get_num_threads(),
        determinism={
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn deterministic": torch.backends.cudnn.deterministic,
            "cudnn benchmark": torch.backends.cudnn.benchmark,
            "matmul precision": torch.get_float32_matmul_precision(),
            "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            "one thread a training": on_cpu,
        },
    )


def _processor() -> str | None:
    """The model's name, where the system has a place for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None


def _memory_gib() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    return round(pages * size / 2**30, 1)


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
