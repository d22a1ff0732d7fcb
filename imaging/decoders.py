"""Decode pictures for the threads of a run: within a room for pixels, and large files in processes that can be ended.

Python cannot end a thread, and a decoder in C listens to nobody. A small file is decoded in the thread that asks: what
it may cost is bounded by its size (``benchmarks/fuzz.py``: of a million damaged files of under one megabyte none took
two seconds). Of a large one only the head is parsed there, and its pixels are decoded in a process of its own: given
up, that is ended, and where a file brings its decoder down, the file fails and the run goes on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, Final, Protocol, cast

import numpy as np

from ..errors import ImageError
from ..records.config import MAX_PIXELS
from ..records.threads import Attempt
from .codec import decode
from .picture import Picture

#: Pixels of all pictures that are worked on at once. Writing one takes some 25 bytes a pixel at its widest: 1.6 GB.
PIXELS_IN_FLIGHT: Final = 64_000_000

#: Files of more pixels, or of more bytes, are decoded in a process of their own.
LARGE_PIXELS: Final = 4_000_000
LARGE_BYTES: Final = 4 << 20

_CHUNK: Final = 1 << 20
_NUMBER: Final = struct.Struct("<Q")
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; from {} import serve; serve()"
_LOOK_EVERY: Final = 2.0
_LONGEST_START: Final = 60.0

logger = logging.getLogger(__name__)


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

    @contextlib.contextmanager
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
            with contextlib.nullcontext() if attempt is None else attempt.paused(), self._freed:
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


class Decode(Protocol):
    """:func:`~bitterant.imaging.codec.decode`, as the threads of a run call it."""

    def __call__(self, source: bytes | BinaryIO, /, *, max_pixels: int = MAX_PIXELS, name: str) -> Picture:
        """The picture, decoded wherever that is done.

        Raises:
            ImageError: as :func:`~bitterant.imaging.codec.decode`; also where the file ends its decoder.
        """
        ...


class Decoders:
    """What decodes the pictures of one run. Safe to call from several threads.

    Processes are started when the first large file comes, as many as there are threads that ask at once, and end when
    this is closed, or with this object.

    Args:
        room: for the pixels of all threads together.
    """

    def __init__(self, room: PixelRoom | None = None) -> None:
        self._room = room or PixelRoom()
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._none_start = False
        weakref.finalize(self, _end_all, self._all)

    def __reduce__(self) -> tuple[type[Decoders], tuple[PixelRoom]]:
        """Another process has children of its own."""
        return Decoders, (self._room,)

    def close(self) -> None:
        """End the processes; the next large file starts others."""
        with self._lock:
            children = set(self._all)
            self._all -= children
            self._idle.clear()
        _end_all(children)

    @contextlib.contextmanager
    def at_work(self, attempt: Attempt | None = None) -> Iterator[Decode]:
        """Work on one picture, whose pixels are in memory until the block ends.

        Args:
            attempt: at that picture. Given up, it keeps no room, and no process goes on with it. Where it is left out
                nobody could give it up, and all is decoded in the calling thread.

        Yields:
            A function that waits until there is room for the pixels, and decodes them.
        """
        with self._room.entrance(attempt) as enter:
            yield cast("Decode", partial(self._decode, enter, attempt))

    def _decode(
        self,
        enter: Callable[[int], None],
        attempt: Attempt | None,
        source: bytes | BinaryIO,
        /,
        *,
        max_pixels: int = MAX_PIXELS,
        name: str,
    ) -> Picture:
        large = attempt is not None and _size(source) > LARGE_BYTES

        def before_loading(pixels: int) -> None:
            enter(pixels)
            if attempt is not None and (large or pixels > LARGE_PIXELS):
                raise _Large

        try:
            return decode(source, max_pixels=max_pixels, name=name, before_loading=before_loading)
        except _Large:
            pass
        assert attempt is not None
        child = self._take(attempt)
        if child is None:  # no process can be started here
            return decode(source, max_pixels=max_pixels, name=name)
        try:
            return child.decode(source, max_pixels=max_pixels, name=name)
        finally:
            self._give_back(child)

    def _take(self, attempt: Attempt) -> _Child | None:
        """A process for one file; ``None`` where none can be started."""
        lease = object()
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
                if child is not None:
                    child.lease = lease
            if child is None:
                if self._none_start:
                    return None
                try:
                    with attempt.paused():  # to start one is not the file's time
                        child = _Child()
                        with self._lock:
                            self._all.add(child)
                            self._idle.append(child)
                except (OSError, EOFError) as error:
                    with self._lock:
                        self._none_start = not self._all  # where others run, this was for want of room: ask again
                    logger.warning("no process can be started to decode a large picture (%s): it is done here", error)
                    return None
            elif child.alive:
                attempt.when_given_up(partial(self._end, child, lease))
                return child
            else:  # ended from outside while it had nothing to do
                child.sound = False
                self._give_back(child)

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            child.lease = None
            if child.sound:
                self._idle.append(child)
                return
            self._all.discard(child)
        child.end()

    def _end(self, child: _Child, lease: object) -> None:
        with self._lock:
            if child.lease is lease:  # it may have gone on to the next file long ago
                child.kill()


class _Large(Exception):
    """Raised in the middle of :func:`decode`, before any pixel is: the file goes to a process."""


class _Child:
    """A process that decodes one file after another.

    Raises:
        OSError: it cannot be started.
        EOFError: it ended before it was ready.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise OSError("no interpreter to start")
        # A session of its own: neither Ctrl-C nor a signal to the group of the run ends it before its file is done.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START.format(__name__), *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what libraries in C say of damaged files
            bufsize=0,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.lease: object | None = None  # of the file that it works on
        self.sound = True
        slow = threading.Timer(_LONGEST_START, self.kill)
        slow.daemon = True
        slow.start()
        try:
            _receive(self._out)  # it is ready
        except BaseException:
            self.end()
            raise
        finally:
            slow.cancel()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    @property
    def _in(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdin)

    @property
    def _out(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdout)

    def decode(self, source: bytes | BinaryIO, *, max_pixels: int, name: str) -> Picture:
        """As :func:`decode`.

        Raises:
            ImageError: as there, or the process ended meanwhile.
            OSError: the file cannot be read.
        """
        self.sound = False  # until the answer is here as a whole
        try:
            _send(self._in, pickle.dumps((max_pixels, name)))
            _send_file(self._in, source)
            answer, told = _receive_object(self._out)
        except EOFError as error:
            raise ImageError(name, self._why()) from error
        self.sound = True
        for logger, level, message in told:
            logging.getLogger(logger).log(level, "%s", message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _why(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_LOOK_EVERY)
            how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
            return f"damaged, or more than the memory holds: its decoder {how}"
        return "its decoder does not answer"

    def kill(self) -> None:
        """End it at once, whatever it does; the thread that waits for it hears of it."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def end(self) -> None:
        """End it, and leave nothing of it behind."""
        self.kill()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_EVERY)


def _end_all(children: set[_Child]) -> None:
    for child in list(children):
        child.end()


def serve() -> None:
    """Decode for the process that started this one, until it closes the pipe or ends. The whole of the child."""
    for number in ("SIGINT", "SIGTERM", "SIGHUP"):  # the run that it serves says when it ends
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), signal.SIG_IGN)
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    told: list[tuple[str, int, str]] = []
    logging.getLogger().addHandler(_Told(told))
    logging.captureWarnings(True)
    _send(answers, b"")
    with contextlib.suppress(EOFError):
        while True:
            max_pixels, name = pickle.loads(_receive(requests))
            answer: Picture | Exception
            try:
                answer = decode(io.BytesIO(_receive(requests)), max_pixels=max_pixels, name=name)
            except Exception as error:  # whatever it is, it is raised where the answer is waited for
                answer = error
            _send_object(answers, (answer, told))
            del answer  # before the next one is decoded
            told.clear()


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: a decoder that hangs does not look at the pipe. Windows tells nobody
    that a parent is gone; there it ends with its file."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


class _Told(logging.Handler):
    """Keeps what is logged for the process that asked."""

    def __init__(self, told: list[tuple[str, int, str]]) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append((record.name, record.levelno, record.getMessage()))


def _size(source: bytes | BinaryIO) -> int:
    return len(source) if isinstance(source, bytes) else source.seek(0, io.SEEK_END)


def _send(pipe: BinaryIO, data: bytes | memoryview) -> None:
    _write(pipe, _NUMBER.pack(len(data)))
    _write(pipe, data)


def _send_file(pipe: BinaryIO, source: bytes | BinaryIO) -> None:
    if isinstance(source, bytes):
        _send(pipe, source)
        return
    left = _size(source)
    source.seek(0)
    _write(pipe, _NUMBER.pack(left))
    while left:
        if not (data := source.read(min(left, _CHUNK))):
            raise OSError("it became shorter while it was read")
        _write(pipe, data)
        left -= len(data)


def _write(pipe: BinaryIO, data: bytes | memoryview) -> None:
    """All of it, or EOFError where nobody reads any more."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[pipe.write(rest[:_CHUNK]) :]
    except OSError as error:
        raise EOFError from error


def _receive_number(pipe: BinaryIO) -> int:
    data = bytearray(_NUMBER.size)
    _fill(pipe, memoryview(data))
    return _NUMBER.unpack(data)[0]


def _receive(pipe: BinaryIO) -> memoryview:
    data = np.empty(_receive_number(pipe), np.uint8).data  # not zeroed first, as a bytearray is
    _fill(pipe, data)
    return data


def _fill(pipe: BinaryIO, data: memoryview) -> None:
    """Read so much, or EOFError where nobody writes any more."""
    while data:
        try:
            got = cast("io.RawIOBase", pipe).readinto(data)
        except OSError as error:
            raise EOFError from error
        if not got:
            raise EOFError
        data = data[got:]


def _send_object(pipe: BinaryIO, thing: Any) -> None:
    """Pickled, and its arrays as they lie in memory: a photo is not copied on the way."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(thing, protocol=5, buffer_callback=arrays.append)
    _write(pipe, _NUMBER.pack(len(arrays)))
    for part in (body, *(array.raw() for array in arrays)):
        _send(pipe, part)


def _receive_object(pipe: BinaryIO) -> Any:
    body, *arrays = [_receive(pipe) for _ in range(1 + _receive_number(pipe))]
    return pickle.loads(body, buffers=arrays)
