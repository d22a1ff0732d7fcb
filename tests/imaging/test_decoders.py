"""Large pictures are decoded in processes: the same pictures and refusals, and an end to what hangs or crashes."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ImageError
from bitterant.imaging import decoders as module
from bitterant.imaging import load_image_set, scan_folder
from bitterant.imaging.codec import decode
from bitterant.imaging.decoders import Decoders, PixelRoom
from bitterant.records.threads import Attempt, GivenUp

#: The first line of a process in which no metadata can be read.
FAILING = """
import sys; sys.path[:] = sys.argv[1:]
import {0} as here
from bitterant.imaging import codec
def fail(*_): raise ValueError("no")
codec.read_metadata = fail
here.serve()
"""

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture(scope="module")
def shared() -> Decoders:
    return Decoders()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size, a file goes to a process."""
    monkeypatch.setattr(module, "LARGE_PIXELS", 0)


def only_child(decoders: Decoders) -> Any:
    (child,) = decoders._all
    return child


def file_of(mode: str, fmt: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    bands = {"L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4}.get(mode, 1)
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], bands), np.uint8).squeeze()
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 200)
    else:
        image = Image.fromarray(values, "L" if mode == "P" else mode)
        image = image.convert("P") if mode == "P" else image
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def same(one: Any, other: Any) -> bool:
    alpha = (one.alpha is None) == (other.alpha is None) and (one.alpha is None or (one.alpha == other.alpha).all())
    rest = ("mode", "format", "bit_depth", "metadata", "source", "white")
    return bool(
        (one.pixels == other.pixels).all() and alpha and all(getattr(one, n) == getattr(other, n) for n in rest)
    )


KINDS = [
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("P", "PNG", {"transparency": 3}),
    ("LA", "PNG", {}),
    ("I;16", "PNG", {}),
    ("I;16", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("L", "JPEG", {}),
    (
        "RGB",
        "JPEG",
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", "icc_profile": b"x" * 99},
    ),
    ("RGBA", "WEBP", {"lossless": True}),
    ("RGB", "BMP", {}),
]


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(("mode", "fmt", "options"), KINDS)
def test_the_same_picture(shared: Decoders, mode: str, fmt: str, options: dict[str, Any]) -> None:
    data = file_of(mode, fmt, **options)
    for source in (data, io.BytesIO(data)):
        with shared.at_work(Attempt()) as apart:
            picture = apart(source, name="a/b.png")
        assert same(picture, decode(data, name="a/b.png"))
        assert picture.pixels.flags.writeable
    assert only_child(shared).alive


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "changed", "large"])
def test_the_same_refusal(shared: Decoders, damage: str) -> None:
    sound = file_of("RGB", "PNG")
    data = {
        "cut": sound[: len(sound) // 2],
        "empty": b"",
        "text": b"no picture at all",
        "changed": sound[:-300] + bytes(200) + sound[-100:],
        "large": sound,
    }[damage]
    limit = 100 if damage == "large" else 10_000
    with pytest.raises(ImageError) as here:
        decode(data, max_pixels=limit, name="bad\x1b.png")
    with pytest.raises(ImageError) as there, shared.at_work(Attempt()) as apart:
        apart(data, max_pixels=limit, name="bad\x1b.png")
    assert (str(there.value), there.value.reason) == (str(here.value), here.value.reason)


def test_small_files_stay_in_the_thread_and_so_does_what_nobody_can_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders, data = Decoders(), file_of("RGB", "PNG")
    with decoders.at_work(Attempt()) as apart:
        apart(data, name="small")
    monkeypatch.setattr(module, "LARGE_PIXELS", 0)
    with decoders.at_work() as apart:
        apart(data, name="no attempt")
    assert not decoders._all
    monkeypatch.setattr(module, "LARGE_PIXELS", 4_000_000)
    monkeypatch.setattr(module, "LARGE_BYTES", len(data) - 1)
    with decoders.at_work(Attempt()) as apart:
        apart(data, name="many bytes")
    assert len(decoders._all) == 1


@pytest.mark.usefixtures("apart")
def test_what_is_told_of_a_file_is_told_here(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged metadata are left out with a warning, wherever they are read."""
    data = file_of("RGB", "PNG")
    monkeypatch.setattr(module, "_START", FAILING)

    def told(work: Any) -> list[tuple[str, int, str]]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            work()
        return [(record.name, record.levelno, record.getMessage()) for record in caplog.records]

    decoders = Decoders()

    def there() -> None:
        with decoders.at_work(Attempt()) as apart:
            apart(data, name="x")

    said = "x: its metadata is damaged and was left out: no"
    for _ in range(2):  # each time, and no more than once
        assert told(there) == [("bitterant.imaging.codec", logging.WARNING, said)]


@posix
@pytest.mark.usefixtures("apart")
def test_given_up_its_process_ends_and_so_does_the_thread() -> None:
    decoders, attempt, data = Decoders(PixelRoom(2000)), Attempt(), file_of("RGB", "PNG")
    with decoders.at_work(Attempt()) as apart:
        apart(data, name="first")
    child = only_child(decoders)
    os.kill(child._process.pid, signal.SIGSTOP)  # the next file hangs
    ended: list[BaseException] = []

    def work() -> None:
        try:
            with decoders.at_work(attempt) as apart:
                apart(data, name="hangs")
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while child.lease is None:
        time.sleep(0.01)
    assert attempt.give_up()
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(ended[0], ImageError | GivenUp)
    assert not child.alive
    assert not decoders._all
    with decoders.at_work(Attempt()) as apart:  # there is room again, and another process
        assert same(apart(data, name="next"), decode(data, name="next"))


@pytest.mark.usefixtures("apart")
def test_closed_it_leaves_no_process_and_may_be_used_again() -> None:
    decoders, data, ended = Decoders(), file_of("RGB", "PNG"), []
    for _ in range(2):
        with decoders.at_work(Attempt()) as apart:
            apart(data, name="x")
        ended.append(only_child(decoders))
        decoders.close()
        assert not decoders._all
    assert not any(child.alive for child in ended)


@pytest.mark.usefixtures("apart")
def test_a_process_that_does_not_get_ready_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_START", "{!r}; import time; time.sleep(600)")
    monkeypatch.setattr(module, "_LONGEST_START", 0.2)
    data = file_of("RGB", "PNG")
    with Decoders().at_work(Attempt()) as apart:
        assert same(apart(data, name="x"), decode(data, name="x"))
    assert "no process can be started to decode a large picture" in caplog.text


@pytest.mark.usefixtures("apart")
def test_given_up_late_it_ends_nobody_elses_work(shared: Decoders) -> None:
    early, data = Attempt(), file_of("RGB", "PNG")
    with shared.at_work(early) as apart:
        apart(data, name="early")
    with shared.at_work(Attempt()) as apart:
        assert early.give_up()
        apart(data, name="late")
    assert only_child(shared).alive


@posix
@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("idle", [True, False])
def test_a_decoder_that_crashes_costs_one_file_at_most(idle: bool) -> None:
    decoders, data = Decoders(), file_of("RGB", "PNG")
    with decoders.at_work(Attempt()) as apart:
        apart(data, name="first")
    child = only_child(decoders)
    if idle:
        child._process.send_signal(signal.SIGSEGV)
        child._process.wait(20)
    else:
        os.kill(child._process.pid, signal.SIGSTOP)
        threading.Timer(0.2, lambda: child._process.send_signal(signal.SIGKILL)).start()
        with pytest.raises(ImageError, match="its decoder was ended by signal 9"), decoders.at_work(Attempt()) as apart:
            apart(data, name="second")
    with decoders.at_work(Attempt()) as apart:
        assert same(apart(data, name="third"), decode(data, name="third"))
    assert child not in decoders._all


@pytest.mark.usefixtures("apart")
def test_where_no_process_can_be_started_it_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = file_of("RGB", "PNG"), []
    monkeypatch.setattr(module, "_START", "import {}, sys; sys.exit(3)")
    decoders = Decoders()
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: asked.append(1) or real(*a, **k))
    for _ in range(2):
        with decoders.at_work(Attempt()) as apart:
            assert same(apart(data, name="x"), decode(data, name="x"))
    assert len(asked) == 1
    monkeypatch.setattr(sys, "executable", "")
    with Decoders().at_work(Attempt()) as apart:
        assert same(apart(data, name="x"), decode(data, name="x"))


@pytest.mark.usefixtures("apart")
def test_a_disk_that_fails_is_told_as_that(shared: Decoders) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if size == len(data):
                raise OSError(5, "Input/output error")
            return super().read(size)

    data = file_of("L", "BMP", (200, 200))
    with pytest.raises(OSError, match="Input/output error"), shared.at_work(Attempt()) as apart:
        apart(Failing(data), name="x")


@posix
@pytest.mark.usefixtures("apart")
def test_signals_of_the_run_do_not_reach_it(shared: Decoders) -> None:
    data = file_of("RGB", "PNG")
    with shared.at_work(Attempt()) as apart:
        apart(data, name="x")
    child = only_child(shared)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child._process.send_signal(number)
    assert os.getpgid(child._process.pid) != os.getpgid(0)
    with shared.at_work(Attempt()) as apart:
        apart(data, name="x")
    assert only_child(shared) is child


@posix
@pytest.mark.usefixtures("apart")
def test_it_ends_with_the_run_whatever_ends_that() -> None:
    """Dropped, or killed: also a child that is at work, which reads no pipe then."""
    decoders, data = Decoders(), file_of("RGB", "PNG")
    with decoders.at_work(Attempt()) as apart:
        apart(data, name="x")
    child = only_child(decoders)
    del decoders, apart
    assert not child.alive
    hanging = (
        "import sys, time; sys.path[:] = sys.argv[1:]; import {0} as m; "
        "m.decode = lambda *a, **k: time.sleep(600); m.serve()"
    )
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from bitterant.imaging import decoders as m; "
        f"m.LARGE_PIXELS = 0; m._START = {hanging!r}; from bitterant.records.threads import Attempt; import threading\n"
        f"d = m.Decoders(); a = Attempt(); c = d._take(a); print(c._process.pid, flush=True); c.decode({data!r}, "
        "max_pixels=10**6, name='x')"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    run.kill()
    run.wait(20)
    run.stdout.close()
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            break  # ended; whoever adopted it has not looked yet
        time.sleep(0.1)
    else:
        pytest.fail("the process outlived its parent by 20 seconds")


def test_it_crosses_to_other_processes_without_its_own() -> None:
    copy = pickle.loads(pickle.dumps(Decoders(PixelRoom(7))))
    assert copy._room._pixels == 7
    assert not copy._all


def test_no_more_pixels_than_there_is_room_for() -> None:
    room, lock = PixelRoom(100), threading.Lock()
    now, most = 0, 0

    def work(pixels: int) -> None:
        nonlocal now, most
        with room.entrance() as enter:
            enter(pixels)
            with lock:
                now += pixels
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60, 30, 50, 10, 90, 100, 1, 40] * 4))
    assert now == 0
    assert 60 <= most <= 100


def test_one_too_large_is_let_in_alone_and_then_the_others() -> None:
    room, entered = PixelRoom(100), threading.Event()

    def small() -> None:
        with room.entrance() as enter:
            enter(1)
            entered.set()

    with room.entrance() as enter:
        enter(1000)
        thread = threading.Thread(target=small)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()


def test_room_is_given_back_where_the_work_fails() -> None:
    room = PixelRoom(10)

    def fail() -> None:
        with room.entrance() as enter:
            enter(10)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    with room.entrance() as enter:
        enter(10)


def test_a_folder_is_read_within_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photo fills it, so that threads take turns, and the set is the same."""
    for index in range(6):
        Image.linear_gradient("L").resize((30 + index, 30)).save(tmp_path / f"{index}.png")
    scan = scan_folder(tmp_path)
    monkeypatch.setattr(PixelRoom.__init__, "__defaults__", (1,))
    tight, _, problems = load_image_set(scan, 16, workers=4)
    loose, _, _ = load_image_set(scan, 16)
    assert not problems
    assert tight.images.equal(loose.images)


def test_a_picture_that_is_given_up_leaves_its_room_to_others() -> None:
    room, attempt, entered = PixelRoom(10), Attempt(), threading.Event()
    with room.entrance(attempt) as enter:
        enter(10)
        waiting = threading.Thread(target=lambda: enter_alone(room, entered))
        waiting.start()
        assert not entered.wait(0.05)
        assert attempt.give_up()
        assert entered.wait(5)
    waiting.join()
    with room.entrance() as again:
        again(10)  # given back once, not twice


def enter_alone(room: PixelRoom, entered: threading.Event) -> None:
    with room.entrance() as enter:
        enter(10)
        entered.set()
