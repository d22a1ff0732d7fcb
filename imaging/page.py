"""The frame of every HTML page bitterant writes: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..records.places import open_regular
from ..records.text import visible

#: Stands at the head of every page, in the template of the frame.
_MARK: Final = b'<meta name="generator" content="bitterant">'
_HEAD: Final = 2048

#: Rows of a picture that are reckoned with at a time.
_ROWS: Final = 64


def png_data_uri(pixels: np.ndarray) -> str:
    """A picture as text for ``<img src="...">``.

    Args:
        pixels: uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        ConfigError: another shape or type.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ConfigError(f"A picture on a page is uint8 [H, W, 3] or [H, W], not {pixels.dtype} {pixels.shape}.")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def difference_tile(before: np.ndarray, after: np.ndarray, gain: float = 10) -> np.ndarray:
    """``after - before``, made visible: middle grey is no change, ``gain`` times brighter or darker is the change.

    Args:
        before: uint8 ``[H, W, 3]`` or ``[H, W]``.
        after: the same shape.
        gain: what the difference is multiplied by.

    Returns:
        uint8 of the same shape.
    """
    shown = np.clip(np.rint(128.0 + gain * np.arange(-255, 256)), 0, 255).astype(np.uint8)
    result = np.empty_like(before)
    for start in range(0, len(before), _ROWS):  # of a large photo, places would take many times its own memory
        rows = slice(start, start + _ROWS)
        np.take(shown, np.subtract(after[rows], before[rows], dtype=np.int16) + 255, out=result[rows])
    return result


def thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scale a picture down so that its longer side is at most ``side`` pixels. Smaller pictures stay as they are.

    Args:
        pixels: uint8 ``[H, W, 3]`` or ``[H, W]``.
        side: pixels.

    Returns:
        uint8, proportions kept.
    """
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    # The gap lets a photo be shrunk by a whole number first: a tenth of the time, and nobody sees the difference.
    return np.array(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def is_own_page(path: Path) -> bool:
    """Whether a file is a page that :func:`render_page` made, so that another may take its place.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return _MARK in file.read(_HEAD)


def render_page(package: str, template: str, /, **context: Any) -> str:
    """Fill in a page.

    Values are escaped; a name the template uses and ``context`` lacks is an error, not an empty spot.

    Args:
        package: import name of the package whose ``templates`` folder holds the template, for example ``__package__``.
        template: file name; it may extend ``page.html.j2`` (blocks ``title``, ``lede``, ``content``, ``footer``).
        **context: what the template shows.

    Returns:
        The page, ready to be written as UTF-8.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    own = __package__ or "bitterant.imaging"
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, own))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(context)
    # Markup is escaped above. This shows what else acts in a page, or is no text at all, wherever it came from.
    return visible(page, lines=True)
