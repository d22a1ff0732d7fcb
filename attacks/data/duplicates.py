"""Near-duplicates: test pictures that a victim has all but seen in training, found by a perceptual hash.

Measured with ``python benchmarks/near_duplicates.py`` on CIFAR-10 (a JPEG copy of it), 32 pixels:

- of 2,000 test pictures against 3,000 training pictures one is found (0.05 %), and it is the same photo by eye: no
  false one, so with 95 % confidence fewer than 0.15 %;
- of 400 training pictures, changed, are found: mirrored, brighter with less contrast, or with noise of 8 levels 100 %,
  JPEG 50 98 %, JPEG 10 26 %, half the size 92 %, a random 0.9 of it cut out 12 %, 0.8 of it 2 %.

So copies that were saved again are found, and most crops are not. Rotations, other photos of the same thing, and
pictures without structure are not found either. Drawings of few kinds, such as icons or digits, may be alike without
being copies: of the 240 test pictures that the tests of this project draw, six are found.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIRMED = 0.975
"""Least correlation of two thumbnails that are called near-duplicates."""

_BASE = 32
"""Side in pixels that pictures are reduced to first."""

_THUMB = 16
"""Side of the thumbnails that confirm what the hashes suggest."""

_CHUNKS = 4
"""Parts of 16 bits, each a fourth of the picture from top to bottom; one of them must be equal."""

_WEAK = 3
"""So many bits a part, those of the smallest differences in grey, are also tried the other way round."""

_FAR = 14
"""Most bits of 64 that may differ before thumbnails are compared."""

_FLAT = 2.0
"""Standard deviation in levels of grey below which a picture has no structure to recognise."""

_BATCH = 1024
_PAIRS = 1 << 18

# Whole, and crops as random-crop augmentation makes them: top, left and side, as shares of the side.
_BOXES: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 1.0),
    *((top, left, 0.875) for top, left in ((0.0625, 0.0625), (0.0, 0.0), (0.0, 0.125), (0.125, 0.0), (0.125, 0.125))),
    (0.125, 0.125, 0.75),
)

Grey = NDArray[np.float32]
_Box = tuple[float, float, float]


def near_duplicates(
    train: NDArray[np.uint8], test: NDArray[np.uint8], *, least: float = CONFIRMED
) -> dict[int, tuple[int, float]]:
    """For each test picture that nearly equals a training picture, the most similar one.

    Two steps. The 64-bit difference hash (is each of 8 x 8 cells of the grey picture brighter than its left neighbour?)
    of one picture, whole, is looked up among those of the other, whole, cropped and mirrored; buckets of 16 bits keep
    that from being all pairs. What differs in few bits is confirmed by the correlation of colour thumbnails, so
    brightness, contrast, re-encoding and scaling do little harm.

    Args:
        train: uint8 ``[N, 3, R, R]``.
        test: uint8 ``[M, 3, R, R]``.
        least: correlation of the thumbnails, in [0, 1], from which on pictures are called near-duplicates.

    Returns:
        By row of ``test``: the row of ``train``, and the correlation.
    """
    if not len(train) or not len(test):
        return {}
    small = _reduce(train), _reduce(test)
    best: dict[int, tuple[float, int]] = {}
    for cut in (1, 0):  # first the test picture may be the cut one, then the training picture
        whole = _hashes(small[1 - cut], _BOXES[0], mirrored=False)
        for box, mirrored in itertools.product(_BOXES[1 - cut :], (False, True)):
            rows, others = _lookup(whole, _hashes(small[cut], box, mirrored=mirrored))
            for start in range(0, len(rows), _BATCH):
                one, other = rows[start : start + _BATCH], others[start : start + _BATCH]
                alike = _correlation(
                    _thumbs(small[1 - cut][one], _BOXES[0], mirrored=False),
                    _thumbs(small[cut][other], box, mirrored=mirrored),
                )
                trained, tested = (one, other) if cut else (other, one)
                for i in np.flatnonzero(alike >= least):
                    entry = float(alike[i]), -int(trained[i])  # of equals the first
                    best[int(tested[i])] = max(best.get(int(tested[i]), entry), entry)
    return {row: (-best[row][1], best[row][0]) for row in sorted(best)}


def _area(start: float, stop: float, cells: int, side: int) -> NDArray[np.float32]:
    """Weights ``[cells, side]`` that average pixels over equal parts of an interval, fractions of pixels included."""
    edges = np.linspace(start * side, stop * side, cells + 1)
    pixels = np.arange(side)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(shared, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _reduce(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """To ``[N, 3, 32, 32]``, or as they are where they are smaller."""
    side = images.shape[-1]
    if side <= _BASE:
        return images.astype(np.float32)
    weights = _area(0.0, 1.0, _BASE, side)
    result = np.empty((*images.shape[:2], _BASE, _BASE), dtype=np.float32)
    for start in range(0, len(images), _BATCH):
        result[start : start + _BATCH] = weights @ images[start : start + _BATCH].astype(np.float32) @ weights.T
    return result


def _view(images: Grey, box: _Box, rows: int, columns: int, *, mirrored: bool) -> Grey:
    top, left, size = box
    side = images.shape[-1]
    down, across = _area(top, top + size, rows, side), _area(left, left + size, columns, side)
    return np.asarray(down @ images @ (across[::-1] if mirrored else across).T, dtype=np.float32)


def _thumbs(images: Grey, box: _Box, *, mirrored: bool) -> Grey:
    return _view(images, box, _THUMB, _THUMB, mirrored=mirrored).reshape(len(images), -1)


@dataclass(frozen=True)
class _Hashes:
    """Difference hashes of those pictures that have structure.

    Attributes:
        rows: which pictures, ``[P]``.
        parts: uint16 ``[P, 4]``.
        weak: uint16 ``[P, 4, 3]``: in each part one bit set, that of one of the smallest differences.
    """

    rows: NDArray[np.int64]
    parts: NDArray[np.uint16]
    weak: NDArray[np.uint16]


def _hashes(images: Grey, box: _Box, *, mirrored: bool) -> _Hashes:
    cells = _view(images.mean(axis=1), box, 8, 9, mirrored=mirrored)
    rows = np.flatnonzero(cells.std(axis=(1, 2)) >= _FLAT)
    steps = np.diff(cells[rows], axis=2).reshape(len(rows), _CHUNKS, 16)
    weakest = np.argsort(np.abs(steps), axis=2, kind="stable")[:, :, :_WEAK]
    return _Hashes(rows, _packed(steps > 0), _SINGLE[weakest])


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """16 bits along the last axis as one number."""
    return np.packbits(bits, axis=-1).view(np.uint16)[..., 0]


_SINGLE = _packed(np.eye(16, dtype=bool))
_COUNTS = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def _lookup(known: _Hashes, asked: _Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of pairs whose hashes differ in at most ``_FAR`` bits and have a part in common, but for its weak bits."""
    found = [np.empty(0, dtype=np.int64)]
    for chunk in range(_CHUNKS):
        order = np.argsort(known.parts[:, chunk], kind="stable")
        ordered = known.parts[order, chunk]
        for turned in itertools.product((0, 1), repeat=_WEAK):
            mask = (asked.weak[:, chunk] * np.array(turned, dtype=np.uint16)).sum(axis=1, dtype=np.uint16)
            wanted = asked.parts[:, chunk] ^ mask
            first = np.searchsorted(ordered, wanted, side="left")
            ends = np.cumsum(np.searchsorted(ordered, wanted, side="right") - first)
            total = int(ends[-1]) if len(ends) else 0
            for start in range(0, total, _PAIRS):  # in blocks, so that large buckets need no more memory
                number = np.arange(start, min(start + _PAIRS, total))
                query = np.searchsorted(ends, number, side="right")
                begins = ends[query - 1] * (query > 0)
                match = order[first[query] + number - begins]
                differing = _COUNTS[known.parts[match] ^ asked.parts[query]].sum(axis=1)
                near = differing <= _FAR
                found.append(match[near] * len(asked.rows) + query[near])
    pairs = np.unique(np.concatenate(found))
    return known.rows[pairs // max(1, len(asked.rows))], asked.rows[pairs % max(1, len(asked.rows))]


def _correlation(a: Grey, b: Grey) -> Grey:
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(scale, np.float32(1e-6))
