"""Parameters of adversaries: what stands behind the colon of a name."""

from __future__ import annotations

from ...errors import ConfigError

__all__ = ["whole_number"]


def whole_number(prefix: str, text: str | None, *, default: int, least: int) -> int:
    """The number behind ``prefix:``.

    Raises:
        ConfigError: it is no whole number, or less than ``least``.
    """
    if text is None:
        return default
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(
            f"{prefix}:{text} is not a whole number from {least} on. Write for example {prefix}:{default}."
        )
    return int(text)
