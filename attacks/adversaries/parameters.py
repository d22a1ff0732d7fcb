"""Parameters of adversaries: what stands behind the colon of a name."""

from __future__ import annotations

import math

from ...errors import ConfigError

__all__ = ["one_of", "real_number", "real_range", "share", "whole_number"]


def whole_number(prefix: str, text: str | None, *, default: int, least: int, most: int | None = None) -> int:
    """The number behind ``prefix:``.

    Raises:
        ConfigError: it is no whole number, or out of range.
    """
    if text is None:
        return default
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        bounds = f"from {least} on" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{prefix}:{text} is not a whole number {bounds}. Write for example {prefix}:{default}.")
    return int(text)


def real_number(prefix: str, text: str | None, *, default: float, least: float, most: float) -> float:
    """The number behind ``prefix:``, in ``[least, most]``.

    Raises:
        ConfigError: it is no number, or out of range.
    """
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ConfigError(
            f"{prefix}:{text} is not a number from {least:g} to {most:g}. Write for example {prefix}:{default:g}."
        )
    return value


def real_range(
    prefix: str, text: str | None, *, default: tuple[float, float], least: float, most: float
) -> tuple[float, float]:
    """The two numbers behind ``prefix:A-B``, ``least <= A < B <= most``.

    Raises:
        ConfigError: they are no such numbers.
    """
    if text is None:
        return default
    first, _, second = text.partition("-")
    try:
        low, high = float(first), float(second)
    except ValueError:
        low = high = math.nan
    if not least <= low < high <= most:
        raise ConfigError(
            f"{prefix}:{text} is not a range A-B of numbers with {least:g} <= A < B <= {most:g}. "
            f"Write for example {prefix}:{default[0]:g}-{default[1]:g}."
        )
    return low, high


def share(prefix: str, text: str | None, *, default: float) -> float:
    """The share behind ``prefix:``, above 0 and at most 1.

    Raises:
        ConfigError: it is no number, or out of range.
    """
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise ConfigError(
            f"{prefix}:{text} is not a share above 0 and at most 1. Write for example {prefix}:{default:g}."
        )
    return value


def one_of(prefix: str, text: str | None, known: tuple[str, ...]) -> str | None:
    """The word behind ``prefix:``, or ``None`` where there is none.

    Raises:
        ConfigError: it is none of ``known``.
    """
    if text is not None and text not in known:
        written = " or ".join(f"{prefix}:{word}" for word in known)
        raise ConfigError(f"{prefix}:{text} is not known. Write {prefix} or {written}.")
    return text
