"""Draws the sample pictures: ten easy classes told apart by shape, never by colour.

Colours, lighting, size, place, angle, background and grain are drawn from one distribution for all classes, so a
trainer has to learn the shapes. A small victim learns them well from a few hundred pictures, so there is something to
protect and something to measure. The shapes are soft, as in a photograph rather than a poster: bold shapes of high
contrast are learned as fast as any noise of eight levels, and noise of that size protects them badly.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ..records.files import write_atomic

CONTRAST = 0.1
"""Least brightness between a shape and its ground, as a fraction of the full range; at most it is twice this."""

ZOOM = 1.6
"""How much larger than the sizes below shapes are drawn: fine shapes would drown in random noise of eight levels, and
then the placebo itself would do harm."""

Floats = NDArray[np.float64]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class _Canvas:
    """One picture's frame: its size in pixels, and coordinates around its centre in units of ``side``."""

    width: int
    height: int
    x: Floats
    y: Floats

    @property
    def side(self) -> float:
        """The unit of length in pixels: the short side, enlarged."""
        return ZOOM * min(self.width, self.height)


def _canvas(width: int, height: int) -> _Canvas:
    side = ZOOM * min(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return _Canvas(width, height, (x - width / 2 + 0.5) / side, (y - height / 2 + 0.5) / side)


def _turned(canvas: _Canvas, angle: float) -> tuple[Floats, Floats]:
    c, s = np.cos(angle), np.sin(angle)
    return c * canvas.x + s * canvas.y, -s * canvas.x + c * canvas.y


def _edge(distance: Floats, canvas: _Canvas) -> Floats:
    """Signed distance (in units of length, positive inside) to coverage in [0, 1], one pixel soft."""
    return np.clip(distance * canvas.side + 0.5, 0.0, 1.0)


def _polygons(canvas: _Canvas, shapes: list[Points]) -> Floats:
    """Coverage of filled polygons given in canvas coordinates, antialiased by drawing at three times the size."""
    scale = 3
    image = Image.new("L", (canvas.width * scale, canvas.height * scale), 0)
    pen = ImageDraw.Draw(image)
    for points in shapes:
        pen.polygon(
            [
                ((px * canvas.side + canvas.width / 2) * scale, (py * canvas.side + canvas.height / 2) * scale)
                for px, py in points
            ],
            fill=255,
        )
    return np.asarray(image.resize((canvas.width, canvas.height), Image.Resampling.BOX), dtype=np.float64) / 255.0


def _places(rng: np.random.Generator, canvas: _Canvas, count: int, gap: float) -> Points:
    """Up to ``count`` random centres at least ``gap`` apart."""
    half_w, half_h = canvas.width / canvas.side / 2, canvas.height / canvas.side / 2
    found: Points = []
    for _ in range(count * 12):
        px, py = rng.uniform(-half_w, half_w), rng.uniform(-half_h, half_h)
        if all((px - qx) ** 2 + (py - qy) ** 2 >= gap * gap for qx, qy in found):
            found.append((px, py))
        if len(found) == count:
            break
    return found


def _stripes(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    u, _ = _turned(canvas, rng.uniform(0, np.pi))
    period = rng.uniform(0.16, 0.3)
    phase = np.abs((u / period + rng.uniform()) % 1.0 - 0.5)
    return [_edge((phase - rng.uniform(0.2, 0.3)) * period, canvas)]


def _checks(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    u, v = _turned(canvas, rng.uniform(-0.5, 0.5))
    side = rng.uniform(0.13, 0.24)
    wave = np.sin(np.pi * (u / side + rng.uniform())) * np.sin(np.pi * (v / side + rng.uniform()))
    return [_edge(wave * side / 3, canvas)]


def _dots(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    u, v = _turned(canvas, rng.uniform(0, np.pi / 2))
    pitch = rng.uniform(0.2, 0.34)
    u, v = u + rng.uniform(0, pitch), v + rng.uniform(0, pitch)
    du, dv = (u / pitch) % 1.0 - 0.5, (v / pitch) % 1.0 - 0.5
    return [_edge((rng.uniform(0.24, 0.34) - np.hypot(du, dv)) * pitch, canvas)]


def _rings(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    cx, cy = rng.uniform(-0.3, 0.3, 2)
    radius = np.hypot(canvas.x - cx, (canvas.y - cy) * rng.uniform(0.8, 1.25))
    period = rng.uniform(0.16, 0.25)
    phase = np.abs((radius / period + rng.uniform()) % 1.0 - 0.5)
    return [_edge((phase - rng.uniform(0.2, 0.3)) * period, canvas)]


def _bricks(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    u, v = _turned(canvas, rng.uniform(-0.4, 0.4))
    tall = rng.uniform(0.12, 0.2)
    long, joint = tall * rng.uniform(1.9, 2.6), rng.uniform(0.014, 0.026)
    row = np.floor(v / tall + 7.3)
    du = np.abs((u / long + 0.5 * (row % 2) + rng.uniform()) % 1.0 - 0.5) * long
    dv = np.abs((v / tall + 7.3) % 1.0 - 0.5) * tall
    return [_edge(np.minimum(long / 2 - joint - du, tall / 2 - joint - dv), canvas)]


def _waves(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    u, v = _turned(canvas, rng.uniform(0, np.pi))
    length, height = rng.uniform(0.3, 0.5), rng.uniform(0.06, 0.1)
    bent = v + height * np.sin(2 * np.pi * (u / length + rng.uniform()))
    period = rng.uniform(0.18, 0.27)
    phase = np.abs((bent / period + rng.uniform()) % 1.0 - 0.5)
    return [_edge((phase - rng.uniform(0.24, 0.32)) * period, canvas)]


def _stars(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    size = rng.uniform(0.13, 0.2)
    shapes: list[Points] = []
    for cx, cy in _places(rng, canvas, 14, 2.1 * size):
        turn, outer = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.85, 1.1)
        angles = turn + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, outer, outer * 0.4)
        shapes.append([(cx + r * np.cos(a), cy + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)])
    return [_polygons(canvas, shapes)]


def _leaves(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    size = rng.uniform(0.2, 0.28)
    blades: list[Points] = []
    veins: list[Points] = []
    along = np.linspace(-1.0, 1.0, 17)
    for cx, cy in _places(rng, canvas, 10, 1.3 * size):
        turn, long = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.85, 1.1)
        c, s = np.cos(turn), np.sin(turn)
        half = 0.36 * (1 - along**2) * (1 - 0.3 * along)
        outline = [*zip(along, half, strict=True), *zip(along[::-1], -half[::-1], strict=True)]
        rib = [(-1.25, 0.045), (0.8, 0.02), (0.8, -0.02), (-1.25, -0.045)]
        for points, target in ((outline, blades), (rib, veins)):
            target.append([(cx + long * (c * p - s * q), cy + long * (s * p + c * q)) for p, q in points])
    return [_polygons(canvas, blades), _polygons(canvas, veins)]


def _suns(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    cx, cy, radius = rng.uniform(-0.28, 0.28), rng.uniform(-0.3, 0.05), rng.uniform(0.13, 0.22)
    disc = _edge(radius - np.hypot(canvas.x - cx, canvas.y - cy), canvas)
    horizon = rng.uniform(0.15, 0.35)
    hills = horizon + 0.06 * np.sin(canvas.x * rng.uniform(3, 7) + rng.uniform(0, 6))
    return [disc, _edge(canvas.y - hills, canvas)]


def _houses(rng: np.random.Generator, canvas: _Canvas) -> list[Floats]:
    cx, base = rng.uniform(-0.18, 0.18), rng.uniform(0.25, 0.42)
    wide, tall = rng.uniform(0.22, 0.32), rng.uniform(0.3, 0.42)
    top = base - tall
    wall: Points = [(cx - wide, base), (cx + wide, base), (cx + wide, top), (cx - wide, top)]
    roof: Points = [(cx - 1.2 * wide, top), (cx + 1.2 * wide, top), (cx, top - rng.uniform(0.18, 0.26))]
    door: Points = [(cx + dx * wide, base - dy * tall) for dx, dy in ((-0.2, 0), (0.2, 0), (0.2, 0.5), (-0.2, 0.5))]
    panes: list[Points] = [
        [
            (cx + (at + dx) * wide, base - (0.65 + dy) * tall)
            for dx, dy in ((-0.18, -0.14), (0.18, -0.14), (0.18, 0.14), (-0.18, 0.14))
        ]
        for at in (-0.6, 0.6)
    ]
    return [_polygons(canvas, [wall]), _polygons(canvas, [roof, door, *panes])]


_DRAW: dict[str, Callable[[np.random.Generator, _Canvas], list[Floats]]] = {
    "bricks": _bricks,
    "checks": _checks,
    "dots": _dots,
    "houses": _houses,
    "leaves": _leaves,
    "rings": _rings,
    "stars": _stars,
    "stripes": _stripes,
    "suns": _suns,
    "waves": _waves,
}
CLASSES: tuple[str, ...] = tuple(_DRAW)
"""The class names, in the order of their folders."""


def _shade(rng: np.random.Generator) -> Floats:
    """A small step of brightness and tint, lighter or darker: ``[3]``, in units of the full range."""
    brightness = rng.choice((-1.0, 1.0)) * rng.uniform(CONTRAST, 2 * CONTRAST)
    return brightness + rng.uniform(-0.5, 0.5, 3) * CONTRAST


def _uneven(rng: np.random.Generator, canvas: _Canvas, strength: float) -> Floats:
    """A soft field around 1 ``[H, W, 1]``: four by four random values, enlarged smoothly."""
    coarse = Image.fromarray(rng.uniform(1 - strength, 1 + strength, (4, 4)).astype(np.float32))
    smooth = coarse.resize((canvas.width, canvas.height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float64)[..., None]


def draw_picture(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one picture of the class ``name``: RGB, 96 to 200 pixels a side."""
    canvas = _canvas(int(rng.integers(96, 201)), int(rng.integers(96, 201)))
    layers = _DRAW[name](rng, canvas)
    ground = rng.uniform(0.25, 0.75, 3)
    ground = 0.6 * ground + 0.4 * ground.mean()
    picture = np.broadcast_to(ground, (canvas.height, canvas.width, 3)) * _uneven(rng, canvas, 0.25)
    for coverage in layers:
        picture = picture + _shade(rng) * coverage[..., None]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.4) * (np.cos(angle) * canvas.x + np.sin(angle) * canvas.y)
    picture = picture * light[..., None] * rng.uniform(0.8, 1.1)
    picture = picture + rng.normal(0, rng.uniform(0.002, 0.01), picture.shape)
    image = Image.fromarray(np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))


def write_pictures(root: Path, *, per_class: int, seed: int, progress: Callable[[float], None] | None = None) -> int:
    """Write ``per_class`` pictures of every class under ``root/CLASS/``, JPEG and PNG; returns how many.

    Picture ``i`` of a class depends on ``seed``, the class and ``i`` alone, so a smaller set is a part of a larger one.
    Files that exist already are left as they are.
    """
    total = per_class * len(CLASSES)
    for row, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            suffix = "png" if i % 10 == 9 else "jpg"
            path = folder / f"{name}-{seed}-{i:03d}.{suffix}"
            if not os.path.lexists(path):
                picture, buffer = draw_picture(name, np.random.default_rng([seed, row, i])), io.BytesIO()
                if suffix == "png":
                    picture.save(buffer, "PNG")
                else:
                    picture.save(buffer, "JPEG", quality=90)
                write_atomic(path, buffer.getvalue(), overwrite=False)
            if progress is not None:
                progress((row * per_class + i + 1) / total)
    return total
