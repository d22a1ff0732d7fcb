"""What the run file of a protected folder says about how it was made. It is told, not trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...imaging import sha256_file
from ..facts import Protection
from .pairing import MANIFEST_NAME

__all__ = ["stated_budget", "stated_protection"]

_MOST_TEXT = 500
_NORM = "linf"
"""bitterant's banks know no other (docs/file-formats.md)."""


def stated_budget(epsilon: float | None, run: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """The bound in 1/255 levels, and who stated it: the caller, else the run file, else nobody."""
    if epsilon is not None:
        return epsilon * 255.0, "given by the caller"
    stated = _fraction(_mapping((run or {}).get("settings")).get("epsilon"))
    return (None, "not stated") if stated is None else (stated * 255.0, "stated by the run file")


def stated_protection(run: Mapping[str, Any] | None, folder: Path) -> Protection | None:
    """The facts of a run file that may have been written by any version, or by hand; ``None`` where there is none."""
    if run is None:
        return None
    settings, timing = _mapping(run.get("settings")), _mapping(run.get("timing"))
    surrogate = run.get("surrogate")
    named = surrogate if isinstance(surrogate, str) else _mapping(surrogate).get("name")
    epsilon = _fraction(settings.get("epsilon"))
    return Protection(
        method=_text(settings.get("method")),
        granularity=_text(settings.get("granularity")),
        norm=None if epsilon is None else _NORM,
        epsilon=epsilon,
        surrogate=_text(named),
        surrogate_sha256=_text(_mapping(surrogate).get("sha256")),
        seed=run["seed"] if isinstance(run.get("seed"), int) else None,
        version=_text(_mapping(run.get("versions")).get("bitterant")),
        format=_text(settings.get("format")),
        parameters={str(name): _plain(value) for name, value in settings.items()},
        seconds=_number(timing.get("total")),
        images_per_second=_number(timing.get("images_per_second")),
        manifest_sha256=_manifest_hash(folder),
    )


def _manifest_hash(folder: Path) -> str | None:
    try:
        return sha256_file(folder / MANIFEST_NAME)
    except OSError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fraction(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number <= 1 else None


def _plain(value: object) -> Any:
    """As strict JSON can hold it; long texts are cut, for the file may hold anything."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value).encode("utf-8", "replace").decode("utf-8")[:_MOST_TEXT]
