"""Near-duplicates: what a copy may have gone through, what is another picture, and nothing that takes all pairs."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks.data.perceptual import near_duplicates

Pixels = np.ndarray
SIDE = 48


def scenes(count: int, seed: int) -> Pixels:
    """Pictures with structure at every scale, uint8 ``[count, 3, SIDE, SIDE]``: sums of random coarse grids."""
    rng = np.random.default_rng(seed)
    result = np.full((count, 3, SIDE, SIDE), 128.0)
    for cells, size in ((3, 40.0), (6, 30.0), (12, 15.0)):
        for row in range(count):
            for channel, grid in enumerate(rng.normal(0, size, (3, cells, cells)).astype(np.float32)):
                result[row, channel] += np.asarray(Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.clip(result, 0, 255).astype(np.uint8)


def by_pillow(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pixels], Pixels]:
    def apply(pictures: Pixels) -> Pixels:
        made = [change(Image.fromarray(np.ascontiguousarray(p.transpose(1, 2, 0)))) for p in pictures]
        return np.stack([np.asarray(image).transpose(2, 0, 1) for image in made])

    return apply


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


def cut(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(6, 0, SIDE, SIDE - 6))


def noisy(pictures: Pixels) -> Pixels:
    noise = np.random.default_rng(0).integers(-8, 9, pictures.shape)
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda x: x,
    "mirrored": lambda x: x[..., ::-1],
    "brighter": lambda x: np.clip(x * 0.8 + 40, 0, 255).astype(np.uint8),
    "noise of 8 levels": noisy,
    "jpeg 50": by_pillow(jpeg),
    "half the size": by_pillow(lambda x: x.resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX).resize((SIDE, SIDE))),
    "cut": by_pillow(cut),
    "cut and mirrored": lambda x: by_pillow(cut)(x)[..., ::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_whichever_side_it_is_on(change: str) -> None:
    train, test = scenes(60, 0), scenes(40, 1)
    test[5], test[11] = CHANGES[change](train[[17, 3]])
    found = near_duplicates(train, test)
    assert {row: other for row, (other, _) in found.items()} == {5: 17, 11: 3}
    assert all(0.975 <= alike <= 1.0001 for _, alike in found.values())
    back = near_duplicates(test, train)
    assert {row: other for row, (other, _) in back.items()} == {17: 5, 3: 11}


def test_other_pictures_are_not_found() -> None:
    assert near_duplicates(scenes(300, 0), scenes(300, 1)) == {}
    flat = np.full((50, 3, SIDE, SIDE), 7, dtype=np.uint8)
    assert near_duplicates(flat, flat) == {}, "without structure there is nothing to recognise"
    assert near_duplicates(scenes(3, 0), scenes(0, 1)) == {}


def test_of_equals_the_first_and_of_similar_ones_the_most_similar() -> None:
    one = scenes(1, 3)
    train = np.concatenate([scenes(5, 0), noisy(one), one, one])
    assert near_duplicates(train, one)[0][0] == 6


def test_the_lookup_finds_what_all_pairs_would() -> None:
    """Against the obvious version: every test picture beside every training picture, by correlation alone."""
    train, test = scenes(80, 4), scenes(80, 5)
    test[::4] = noisy(train[::4])
    a, b = (x.reshape(len(x), 3, 16, 3, 16, 3).mean(axis=(3, 5)).reshape(len(x), -1) for x in (train, test))
    alike = np.corrcoef(np.concatenate([a, b]))[80:, :80]
    wanted = {int(row): int(alike[row].argmax()) for row in np.flatnonzero(alike.max(axis=1) >= 0.98)}
    assert len(wanted) == 20
    assert {row: other for row, (other, _) in near_duplicates(train, test).items()} == wanted
