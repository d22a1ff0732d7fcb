"""How many pixels are in memory at once: photos wait for room, thumbnails hardly ever do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from ..records.threads import Attempt

#: Pixels of all pictures that are worked on at once. Writing one takes some 25 bytes a pixel at its widest: 1.6 GB.
PIXELS_IN_FLIGHT: Final = 64_000_000


class PixelRoom:
    """Room for a number of pixels, shared by threads.

    Args:
        pixels: how many. A larger picture is let in where it is alone, so that it only ever waits.
    """

    def __init__(self, pixels: int = PIXELS_IN_FLIGHT) -> None:
        self._pixels = pixels
        self._used = 0
        self._freed = threading.Condition()

    def __reduce__(self) -> tuple[type[PixelRoom], tuple[int]]:
        """Another process has memory of its own."""
        return PixelRoom, (self._pixels,)

    @contextmanager
    def entrance(self, attempt: Attempt | None = None) -> Iterator[Callable[[int], None]]:
        """A way in for one picture, whose size is only known within the block.

        Args:
            attempt: at that picture: while it waits its clock stands still, and once it is given up it keeps no room.

        Yields:
            A function that waits until there is room for so many pixels, and keeps it until the block ends.
        """
        held = 0

        def enter(pixels: int) -> None:
            nonlocal held
            with nullcontext() if attempt is None else attempt.paused(), self._freed:
                self._freed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._pixels)
                self._used += pixels
                held += pixels

        def leave() -> None:
            nonlocal held
            with self._freed:
                self._used -= held
                held = 0
                self._freed.notify_all()

        if attempt is not None:
            attempt.when_given_up(leave)
        try:
            yield enter
        finally:
            leave()
