"""The options of a run over a folder: what the method is told, and how pictures are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...errors import ConfigError
from ...imaging.codec import MAX_PIXELS
from ...imaging.naming import FormatPolicy
from .problems import Problems, check_choice

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["FitOptions", "FormatPolicy", "MetadataPolicy", "WriteOptions", "default_workers"]

MetadataPolicy = Literal["keep", "private", "strip"]
_FORMATS = get_args(FormatPolicy)
_METADATA = get_args(MetadataPolicy)


def default_workers() -> int:
    """Threads for reading and writing: the processors this process may use, eight at most (memory grows with it)."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(8, count))


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What ``fit`` is told; see :func:`bitterant.protect.protect_folder`."""

    method: str | Method = "auto"
    granularity: Literal["sample", "class", "cluster"] | None = None
    epsilon: float = 8 / 255
    surrogate: str | None = None
    resolution: int | Literal["auto"] = "auto"
    seed: int = 0
    device: str = "auto"
    preset: Literal["paper"] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    weights: Path | None = None
    allow_download: bool = False
    coco: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How pictures are written; see :func:`bitterant.protect.protect_folder`."""

    format: FormatPolicy = "lossless"
    metadata: MetadataPolicy = "keep"
    max_pixels: int = MAX_PIXELS
    workers: int | None = None

    def check(self, problems: Problems) -> int:
        """Note what is wrong; returns the number of threads."""
        problems.add(check_choice("format", self.format, _FORMATS))
        problems.add(check_choice("metadata policy", self.metadata, _METADATA))
        if self.max_pixels < 1:
            problems.add(ConfigError(f"max_pixels must be at least 1, not {self.max_pixels}."))
        if self.workers is not None and self.workers < 1:
            problems.add(
                ConfigError(f"workers must be at least 1, not {self.workers}. Leave it out to have it chosen.")
            )
        return self.workers or default_workers()

    def settings(self) -> dict[str, Any]:
        """Those that decide about the result, JSON-safe."""
        return {"format": self.format, "metadata": self.metadata, "max_pixels": self.max_pixels}

    def warnings(self) -> list[str]:
        """What the user should know about them."""
        if self.format != "same":
            return []
        return [
            "JPEG files are written as JPEG again: that changes pixels by more than the budget and washes part of the "
            "protection out. Measure with `bitterant verify` what is left of it; --format webp keeps all of it, in "
            "files smaller than PNG."
        ]
