"""Libraries that talk to the terminal on their own, kept silent for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_diffusers"]


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """No progress bars, and nothing below an error, from diffusers."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
