"""A few pictures for people to look at: by rank, never by taste."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import ImageError
from ...imaging import decode, difference_tile, png_data_uri, thumbnail
from ..data import StealthFile, noise_arm
from ..terms import Pixels
from .measures import Pictures

GAIN = 10
"""How many times the difference is enlarged."""

_SIDE = 320
_WHOLE_SIDE = 112
_PIXELATED_BELOW = 160
_LONGEST_NAME = 44


@dataclass(frozen=True)
class Tile:
    """One picture in four versions, as data URIs.

    Attributes:
        title: which of all it is.
        name: of the picture, shortened in its middle where it is long.
        caption: what it is told by; nothing where by its class.
        file: how far the copy is from the original.
        clean, protected, noise, difference: the middle of the picture at its own size, or all of a small one.
        whole: the whole picture, small, where the others show a part of it.
        side: of that part, in pixels.
        pixelated: small pictures are enlarged without smoothing.
    """

    title: str
    name: str
    caption: str
    file: StealthFile
    clean: str
    protected: str
    noise: str
    difference: str
    whole: str | None
    side: tuple[int, int]
    pixelated: bool


def choose_tiles(data: Pictures, *, seed: int, captions: Mapping[str, str] | None = None) -> list[Tile]:
    """The pictures on which the change shows least, in the middle and most.

    By LPIPS where it was measured on all files, else by SSIM, else by PSNR.

    Args:
        data: the pictures.
        seed: of the control noise.
        captions: of the originals, by path; none where pictures are told by classes.
    """
    files = [file.distances for file in data.files]
    if all(found.lpips is not None for found in files):
        visible = {f.source: f.distances.lpips or 0.0 for f in data.files}
    elif all(found.ssim is not None for found in files):
        visible = {f.source: -(f.distances.ssim or 0.0) for f in data.files}
    else:
        visible = {f.source: -_decibels(f.distances.psnr) for f in data.files}
    ranked = sorted(data.files, key=lambda file: (visible[file.source], file.source))
    if not ranked:
        return []
    titles = {0: "shows least", len(ranked) // 2: "in the middle", len(ranked) - 1: "shows most"}
    rows = {key: row for row, key in enumerate(data.keys)}
    texts = captions or {}
    tiles = [_tile(title, ranked[rank], data, rows, seed, texts) for rank, title in sorted(titles.items())]
    return [tile for tile in tiles if tile is not None]


def _decibels(psnr: float | None) -> float:
    return float("inf") if psnr is None else psnr


def _tile(
    title: str, file: StealthFile, data: Pictures, rows: Mapping[str, int], seed: int, captions: Mapping[str, str]
) -> Tile | None:
    found = _pixels(file, data, rows)
    if found is None:
        return None
    before, after = found
    large = max(before.shape[:2]) > _SIDE
    clean, protected = _middle(before), _middle(after)
    noise = noise_arm(clean.transpose(2, 0, 1)[None], [file.source], data.noise_levels, seed=seed)[0]
    return Tile(
        title=title,
        name=_short(file.source),
        caption=captions.get(file.source, ""),
        file=file,
        clean=png_data_uri(clean),
        protected=png_data_uri(protected),
        noise=png_data_uri(noise.transpose(1, 2, 0)),
        difference=png_data_uri(difference_tile(clean, protected, GAIN)),
        whole=png_data_uri(thumbnail(before, _WHOLE_SIDE)) if large else None,
        side=(clean.shape[1], clean.shape[0]),
        pixelated=max(before.shape[:2]) < _PIXELATED_BELOW,
    )


def _short(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _middle(pixels: Pixels) -> Pixels:
    """Scaled down, much of the change would vanish."""
    top, left = (max(0, (size - _SIDE) // 2) for size in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])


def _pixels(file: StealthFile, data: Pictures, rows: Mapping[str, int]) -> tuple[Pixels, Pixels] | None:
    if data.roots is not None:
        clean, protected = data.roots
        try:
            return decode(clean / file.source).rgb8(), decode(protected / file.output).rgb8()
        except (ImageError, OSError):  # removed since it was checked; the page can do without
            return None
    row = rows[file.source]
    return data.clean[row].transpose(1, 2, 0), data.protected[row].transpose(1, 2, 0)
