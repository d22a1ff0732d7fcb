"""A window for people who never use a terminal: a page on this machine that protects a folder and verifies it.

It decides nothing and computes nothing: it calls the library as the command line does, in a process beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_exports

if TYPE_CHECKING:
    from .server import serve

__all__ = ["serve"]

__getattr__, __dir__ = lazy_exports(__name__, {"server": ("serve",)})
