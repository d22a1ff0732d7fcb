"""Pixels in memory at once are bounded, and nobody waits forever."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from bitterant.imaging import in_flight, load_image_set, scan_folder
from bitterant.imaging.in_flight import PixelRoom
from bitterant.records.threads import Attempt


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
    monkeypatch.setattr(in_flight.PixelRoom.__init__, "__defaults__", (1,))
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
