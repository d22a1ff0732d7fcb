"""Captions for methods that make noise out of text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ...imaging.captions import CaptionOptions, read_captions
from ...imaging.scan import FolderScan

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["captions_digest", "captions_for"]


def captions_for(scan: FolderScan, method: Method, coco: Path | None) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """The first caption of every picture by its path, and what the user should know about them.

    ``None`` where the method asks for no captions, makes one noise a class, or finds nothing but class names: those it
    puts into sentences itself.

    Args:
        scan: what lies in SRC.
        method: ready to fit.
        coco: a COCO captions file.

    Raises:
        CaptionError: pictures without a caption and without a class, or a file that cannot be used.
        ConfigError: a captions file for a method that reads none.
    """
    if method.needs != "captions" or method.granularity == "class":
        if coco is not None:
            kind = f"{method.name} per class" if method.needs == "captions" else f"The method {method.name}"
            raise ConfigError(f"{kind} reads no captions: leave {coco.name} out.")
        return None, ()
    found = read_captions(scan, CaptionOptions(coco=coco), suggest_fallback=False)
    told = tuple(f"{problem.relative}: {problem.reason}" for problem in found.problems[:3])
    if len(found.problems) > len(told):
        told += (f"{len(found.problems)} caption files or lines of them could not be used.",)
    if set(found.sources) == {"class"}:
        return None, (*told, *found.warnings)
    return {relative: caption.first for relative, caption in found.captions.items()}, (*told, *found.warnings)


def captions_digest(captions: Mapping[str, str]) -> str:
    """sha256 of all captions with the paths of their pictures."""
    return hashlib.sha256(json.dumps(sorted(captions.items())).encode()).hexdigest()
