"""Cheap changes of the pictures, each against a slow and obvious version."""

from __future__ import annotations

import _thread
import io
import threading
import time

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image

from bitterant.attacks.adversaries import create_adversary, transforms
from bitterant.attacks.adversaries.transforms import (
    block_workers,
    equalized,
    in_blocks,
    map_blocks,
    whitened,
)
from bitterant.attacks.terms import Pixels

from .conftest import grating, left, photo


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)


def test_blocks_are_changed_at_the_same_time_and_come_in_their_places() -> None:
    together = threading.Barrier(3, timeout=60)

    def change(block: Pixels, start: int) -> Pixels:
        together.wait()  # passes only where three are here at once
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
        return block + np.uint8(start)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        after = map_blocks(np.zeros((12, 3, 32, 32), dtype=np.uint8), change, size=2, workers=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert after[:, 0, 0, 0].tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("side", "pictures"), [(16, 8), (32, 8), (64, 2), (224, 1)])
def test_blocks_of_larger_pictures_hold_fewer(side: int, pictures: int) -> None:
    seen: list[int] = []

    def change(block: Pixels, _: int) -> Pixels:
        seen.append(len(block))
        return block

    map_blocks(np.zeros((8, 3, side, side), dtype=np.uint8), change, size=8, workers=1)
    assert seen == [pictures] * (8 // pictures)


def test_as_many_threads_as_torch_has_change_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "available_cpus", lambda: 3)
    for threads, expected in ((1, 1), (2, 2), (8, 3)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert block_workers() == expected


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_in_a_block_is_raised_as_it_is_and_ends_the_work(workers: int) -> None:
    begun: list[int] = []

    def change(batch: torch.Tensor, start: int) -> torch.Tensor:
        begun.append(start)
        if start == 3:
            raise ValueError("the fourth picture is not to be had")
        return batch

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms, "block_workers", lambda: workers)
        with pytest.raises(ValueError, match="the fourth picture"):
            in_blocks(np.zeros((200, 3, 32, 32), dtype=np.uint8), change, size=1)
    assert len(begun) < 40
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("where", ["in the thread", "in the main thread"])
def test_ctrl_c_ends_the_work_at_once(where: str, workers: int) -> None:
    begun: list[int] = []

    def change(block: Pixels, start: int) -> Pixels:
        begun.append(start)
        if start == 5:
            if where == "in the thread":
                raise KeyboardInterrupt
            _thread.interrupt_main()
        time.sleep(0.005)
        return block

    threads, running = torch.get_num_threads(), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        map_blocks(np.zeros((2000, 3, 32, 32), dtype=np.uint8), change, size=1, workers=workers)
    count = len(begun)
    assert count < 100
    assert torch.get_num_threads() == threads
    time.sleep(0.05)
    assert len(begun) == count, "nothing goes on behind the back of the caller"
    deadline = time.monotonic() + 30
    while threading.active_count() > running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= running


def test_grayscale_is_the_luma_of_pillow(images: np.ndarray) -> None:
    changed = create_adversary("grayscale").transform(images)
    for before, after in zip(images, changed, strict=True):
        luma = np.asarray(Image.fromarray(before.transpose(1, 2, 0)).convert("L"))
        assert (after == luma).all()


@pytest.mark.parametrize(("name", "quality"), [("jpeg", 10), ("jpeg:10", 10), ("jpeg:75", 75)])
def test_jpeg_is_what_a_file_would_be(name: str, quality: int, images: np.ndarray) -> None:
    adversary = create_adversary(name)
    assert adversary.name == f"jpeg:{quality}"
    stream = io.BytesIO()
    Image.fromarray(images[3].transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
    expected = np.asarray(Image.open(stream).convert("RGB")).transpose(2, 0, 1)
    assert (adversary.transform(images)[3] == expected).all()


def smooth(count: int = 6, side: int = 20, seed: int = 0) -> np.ndarray:
    """Pictures with edges, slopes and a little noise, uint8."""
    rng = np.random.default_rng(seed)
    base = rng.integers(30, 220, (count, 3, 4, 4)).repeat((side + 3) // 4, axis=2).repeat((side + 3) // 4, axis=3)
    noisy = base[..., :side, :side] + rng.normal(0, 6, (count, 3, side, side))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_random_qualities_differ_from_picture_to_picture() -> None:
    same = np.repeat(smooth(1, 32), 12, axis=0)
    assert len({picture.tobytes() for picture in create_adversary("jpeg:random").transform(same)}) > 5


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_bit_depth_leaves_that_many_levels(bits: int) -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 3, 16, 16)
    changed = create_adversary(f"bit-depth:{bits}").transform(every)
    assert len(np.unique(changed)) == 2**bits
    assert (changed == every // 2 ** (8 - bits) * 2 ** (8 - bits)).all()


def test_a_quarter_and_back_removes_what_is_above_an_eighth() -> None:
    adversary = create_adversary("down-up:0.25")
    assert adversary.name == "down-up:0.25"
    assert left("down-up:0.25", grating(20)) < 0.1
    assert left("down-up:0.25", grating(2)) > 0.7
    assert left("down-up:0.25", grating(8)) < 0.1
    assert left("down-up:0.5", grating(8)) > 0.3, "and not every scale does"


def test_equalised_values_are_ranks() -> None:
    images = np.random.default_rng(1).integers(40, 90, (2, 3, 16, 16), dtype=np.uint8)
    after = create_adversary("equalize").transform(images)
    for channel, found in zip(images.reshape(6, -1), after.reshape(6, -1), strict=True):
        ranks = scipy.stats.rankdata(channel, method="max")
        assert np.abs(255 * (ranks - ranks.min()) / (256 - ranks.min()) - found).max() <= 0.51
        assert (found.min(), found.max()) == (0, 255)


def test_equalising_leaves_a_picture_of_one_colour() -> None:
    flat = np.full((1, 3, 8, 8), 77, dtype=np.uint8)
    flat[0, 0, :4] = 5
    after = equalized(flat)
    assert (after[0, 1:] == 77).all()
    assert set(after[0, 0].ravel().tolist()) == {0, 255}


CASTS = {
    "shift": lambda pixels: pixels + np.array([30, -25, 10])[:, None, None],
    "gain": lambda pixels: pixels * np.array([1.35, 0.8, 1.1])[:, None, None],
    "gamma": lambda pixels: 255 * (pixels / 255) ** np.array([1.2, 0.85, 1.1])[:, None, None],
}


@pytest.mark.parametrize(
    ("name", "cast"),
    [
        ("equalize", "shift"), ("equalize", "gain"), ("equalize", "gamma"),
        ("whiten", "shift"), ("whiten", "gain"), ("whiten:channels", "shift"), ("whiten:channels", "gain"),
    ],
)  # fmt: skip
def test_a_planted_colour_cast_is_undone(name: str, cast: str) -> None:
    images = photo()
    tinted = np.rint(CASTS[cast](images.astype(float))).clip(0, 255).astype(np.uint8)
    assert 0 < tinted.min() < tinted.max() < 255, "nothing was lost at the ends"
    assert np.abs(tinted.astype(int) - images).mean() > 8
    adversary = create_adversary(name)
    apart = np.abs(adversary.transform(tinted).astype(int) - adversary.transform(images)).mean()
    assert apart < 1.5
    assert np.abs(adversary.transform(photo(seed=1)).astype(int) - adversary.transform(images)).mean() > 20


def test_whitened_channels_are_alike_and_do_not_go_together() -> None:
    batch = torch.from_numpy(photo()).float() / 255
    for channels in (False, True):
        after = whitened(batch, channels=channels).flatten(2)
        assert torch.allclose(after.mean(2), torch.full((3, 3), 0.5), atol=1e-5)
        assert torch.allclose(after.std(2, correction=0), torch.full((3, 3), 0.22), atol=1e-4)
        found = np.array([np.corrcoef(picture) for picture in after.numpy()])
        before = np.array([np.corrcoef(picture) for picture in batch.flatten(2).numpy()])
        away = np.abs(found - np.eye(3)).max()
        assert (away < 0.15) == (not channels)
        if channels:
            assert np.allclose(found, before, atol=1e-3)
            assert away > 0.4


def test_whitening_gray_and_flat_pictures_gives_pictures() -> None:
    gray = np.repeat(photo()[:, :1], 3, axis=1)
    flat = np.full((1, 3, 16, 16), 9, dtype=np.uint8)
    after = create_adversary("whiten").transform(gray)
    assert np.abs(after[:, 0].astype(int) - after[:, 1]).max() <= 1, "no colour comes out of rounding"
    assert (create_adversary("whiten").transform(flat) == 128).all()
