"""A window for people who never use a terminal: a page on this machine that protects a folder and verifies it.

It decides nothing and computes nothing: it calls the library as the command line does, in a process beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import serve

__all__ = ["serve"]


def __getattr__(name: str) -> Any:
    if name != "serve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .server import serve

    return serve


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
