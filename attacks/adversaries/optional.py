"""Packages that few adversaries need, and that a plain installation therefore leaves out."""

from __future__ import annotations

from importlib.util import find_spec

from ...errors import SetupError

__all__ = ["check_kornia"]


def check_kornia(name: str) -> None:
    """Make sure that kornia is there. Nothing is imported.

    Args:
        name: of the adversary, for the message.

    Raises:
        SetupError: it is not installed.
    """
    if find_spec("kornia") is None:
        raise SetupError(f"{name} augments with kornia, which is not installed. Run: pip install 'bitterant[augment]'.")
