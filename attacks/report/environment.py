"""Where a run took place, and which program ran: what a reader needs beside the command to repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from ..._version import __version__
from ...records.processes import available_cpus
from ..facts import Environment, Node, Tool
from ..training import processor_name

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


def describe_environment(
    device: str, workers: int, *, executor: str = "serial", nodes: Sequence[Node] = ()
) -> Environment:
    """Versions, devices and switches; no names of machines or people.

    Args:
        device: where trainings ran, as torch calls it.
        workers: how many at the same time.
        executor: who ran them.
        nodes: the machines of a cluster; none where it was this one.
    """
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
        device_name=_device_name(device, nodes),
        cuda=torch.version.cuda,
        cpu=processor_name(),
        cpus=available_cpus(),
        ram_gib=_memory_gib(),
        executor=executor,
        workers=workers,
        nodes=tuple(nodes),
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


def _device_name(device: str, nodes: Sequence[Node]) -> str | None:
    if not device.startswith("cuda"):
        return None
    if nodes:
        return ", ".join(dict.fromkeys(node.device_name for node in nodes if node.device_name is not None)) or None
    return torch.cuda.get_device_name(device)


def _memory_gib() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    return round(pages * size / 2**30, 1)
