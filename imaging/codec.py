"""From file bytes to pixels, with nothing lost on the way and a readable reason where that cannot be.

Decoding is Pillow's. What Pillow would do silently is refused or done here: cutting 16-bit colours to 8 bits, dropping
transparency, showing the first frame of an animation, decoding a picture too large for the memory.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import ImageError
from ..records.config import MAX_PIXELS
from ..records.places import open_regular
from .exif import check_tiff, count_tiff_pages
from .formats import (
    COUNTED_FRAMES,
    HEAD_BYTES,
    MAX_FILE_BYTES,
    TOO_LARGE,
    check_parts,
    claims_too_much,
    describe_unknown,
    sniff_format,
    tell_claim,
)
from .metadata import Metadata, avif_depth, jpeg2000_components, ppm_largest, read_metadata, read_orientation
from .picture import Picture, white_in_use

logger = logging.getLogger(__name__)

Source = Path | str | bytes | BinaryIO


@dataclass(frozen=True)
class Header:
    """What the head of a file says, without decoding: upright size in pixels, format, Pillow mode, and whether the
    pixels are stored upright, too."""

    width: int
    height: int
    format: str
    mode: str
    upright: bool = True


def decode(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    before_loading: Callable[[int], object] | None = None,
) -> Picture:
    """Read one image file.

    Palette images become RGB, with alpha if they have transparent entries; grey stays grey; a phone's multi-picture
    JPEG gives its main picture. The EXIF orientation is applied.

    Args:
        source: path, file bytes, or a seekable binary file.
        max_pixels: refuse larger pictures before decoding them.
        name: what messages call it; the path if left out.
        before_loading: told the number of pixels once the file is accepted and before any is decoded; it may wait.

    Raises:
        ImageError: the file is empty, damaged, cut off, animated or multi-page, too large, CMYK, 1-bit, has 16 bits per
            colour channel, has more bands than can be read, or is of a type that is not read. ``reason`` says which.
    """
    with _opened(source, name) as (file, label):
        image, fmt = open_image(file, label)
        orientation = _checked(image, file, fmt, label, max_pixels)
        if before_loading is not None:
            before_loading(image.width * image.height)
        try:
            image.load()
            pixels, alpha = _colours(image, fmt, label)
        except Image.DecompressionBombError as error:
            raise ImageError(label, _too_large(image)) from error
        except ImageError:
            raise
        except Exception as error:  # a decoder may raise anything on damaged bytes; see _reason
            raise ImageError(label, _reason(error)) from error
        pixels = _upright(pixels, orientation)
        alpha = None if alpha is None else _upright(alpha, orientation)
        height, width = pixels.shape[:2]
        try:
            metadata = read_metadata(image, file, width, height)
        except Exception as error:  # damaged metadata raises anything, too; the picture itself is sound
            logger.warning("%s: its metadata is damaged and was left out: %s", label, error)
            metadata = Metadata(icc=image.info.get("icc_profile"))
    depth: Literal[8, 16] = 16 if pixels.dtype == np.uint16 else 8
    return Picture(pixels, alpha, image.mode, fmt, depth, metadata, label, white_in_use(pixels))


def read_header(source: Source, *, name: str | None = None) -> Header:
    """Size, format and mode of an image file, from its first bytes.

    Raises:
        ImageError: the file is empty, damaged, or of a type that is not read.
    """
    with _opened(source, name) as (file, label):
        image, fmt = open_image(file, label)
        try:
            orientation = read_orientation(image, file)
            size = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                size = (image.tag_v2[256], image.tag_v2[257])  # Pillow's own size may or may not be turned already
        except Exception as error:
            raise ImageError(label, _reason(error)) from error
        width, height = size[::-1] if orientation >= 5 else size
        return Header(width, height, fmt, image.mode, orientation == 1)


@contextlib.contextmanager
def _opened(source: Source, name: str | None) -> Iterator[tuple[BinaryIO, str]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source), name or "image"
    elif isinstance(source, (str, Path)):
        label = name or str(source)
        try:
            file = open_regular(Path(source))
        except OSError as error:
            raise ImageError(label, f"cannot be opened: {error.strerror or error}") from error
        with file:
            yield file, label
    else:
        yield source, name or str(getattr(source, "name", "image"))


def open_image(file: BinaryIO, label: str) -> tuple[ImageFile.ImageFile, str]:
    """Parse the head of a file; decodes nothing.

    Args:
        file: seekable.
        label: what messages call it.

    Returns:
        The image, whose pixels are not loaded yet, and its format.

    Raises:
        ImageError: the file is empty, damaged, too large, or of a type that is not read.
    """
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    except OSError as error:
        raise ImageError(label, f"cannot be read: {error.strerror or error}") from error
    if not head:
        raise ImageError(label, "the file is empty (0 bytes)")
    fmt = sniff_format(head)
    if fmt is None:
        raise ImageError(label, describe_unknown(head))
    if fmt == "PNG" and len(head) > 25 and head[24] == 16 and head[25] != 0:
        raise ImageError(label, _SIXTEEN)
    if size > MAX_FILE_BYTES:
        raise ImageError(label, f"the file has {size / 2**30:.1f} GiB; {MAX_FILE_BYTES >> 30} GiB are read at most")
    try:
        check_parts(file, fmt)
        if fmt == "TIFF":
            check_tiff(_reader(file))
            file.seek(0)
        return _READERS[fmt](file, ""), fmt
    except ImageError as error:
        raise ImageError(label, error.reason) from error
    except Image.DecompressionBombError as error:
        raise ImageError(label, "more pixels than Pillow opens; scale it down") from error
    except Exception as error:
        raise ImageError(label, _reason(error)) from error


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF as it lies in the file. Pillow would turn it while loading, by other rules than it, or we, turn all other
    formats, and would read every directory of its tags for that."""

    def load_end(self) -> None:
        self._size = self.im.size  # some versions of Pillow have swapped the sides already


def _open_avif(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        AvifImagePlugin = None
    if AvifImagePlugin is None or not AvifImagePlugin.SUPPORTED:
        raise ImageError(name, "AVIF is read by Pillow 11.3 or later: pip install --upgrade pillow")
    return AvifImagePlugin.AvifImageFile(file, name)


def _open_heif(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    try:
        pillow_heif: Any = importlib.import_module("pillow_heif")
    except ImportError:
        raise ImageError(
            name, "HEIC is read by pillow-heif, which is not installed: pip install 'bitterant[heif]'"
        ) from None
    return pillow_heif.HeifImageFile(file, name)


# The readers themselves rather than Image.open: that one warns or refuses by a global limit, here max_pixels counts.
_READERS: Final[dict[str, Callable[[BinaryIO, str], ImageFile.ImageFile]]] = {
    "PNG": PngImagePlugin.PngImageFile,
    # Not jpeg_factory, which goes through the directory of a phone's further pictures: the first is what is read.
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": _Tiff,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": _open_avif,
    "HEIF": _open_heif,
}
_SIXTEEN_BITS: Final = 65535
_SIXTEEN: Final = "16 bits per colour channel are not supported; convert it to 8 bits"
_MODES: Final = ("L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "I;16", "I;16B", "I;16L", "I;16N")
_REFUSED: Final = {
    "1": "1-bit black-and-white images are not supported; convert it to grey",
    "CMYK": "CMYK (print) colours are not supported; convert it to RGB",
    "I": "32-bit or signed integer pixels are not supported",
    "F": "floating-point pixels are not supported",
    "LAB": "Lab colours are not supported; convert it to RGB",
    "YCbCr": "raw YCbCr colours are not supported; convert it to RGB",
}


def _checked(image: ImageFile.ImageFile, file: BinaryIO, fmt: str, label: str, max_pixels: int) -> int:
    """Refuse what cannot be kept as it is, before any pixel is decoded. Returns the orientation."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(label, f"{_too_large(image)}; the limit is {_pixels(max_pixels)} (--max-pixels)")
    if (why := _why_too_deep(image, file, fmt)) is not None:
        raise ImageError(label, why)
    size = file.seek(0, io.SEEK_END)
    if claims_too_much(image, size):
        raise ImageError(label, tell_claim(image, size))
    if image.mode not in _MODES and not (fmt == "PPM" and image.mode == "I"):
        raise ImageError(label, _REFUSED.get(image.mode, f"pixels of mode {image.mode} are not supported"))
    try:
        # A multi-picture JPEG holds previews or a depth map behind the picture, no animation.
        frames = 1 if fmt == "JPEG" else _pages(file) if fmt == "TIFF" else int(getattr(image, "n_frames", 1))
        orientation = read_orientation(image, file)
    except Exception as error:
        raise ImageError(label, _reason(error)) from error
    if frames > 1:
        what = "a TIFF with several pages" if fmt == "TIFF" else "animated"
        count = f"{frames}" if frames <= COUNTED_FRAMES else f"more than {COUNTED_FRAMES}"
        raise ImageError(label, f"{what} ({count} frames); only single pictures are supported")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (why := _why_not_tiff(image)) is not None:
        raise ImageError(label, why)
    if image.mode.startswith("I;16") and "transparency" in image.info:
        raise ImageError(label, "16-bit grey with a transparent colour is not supported; convert it to 8 bits")
    return orientation


def _why_too_deep(image: ImageFile.ImageFile, file: BinaryIO, fmt: str) -> str | None:
    """Why a picture would be cut to 8 bits, or lose bands, that Pillow does not say; ``None`` where it would not."""
    bands = len(image.getbands())
    if fmt == "AVIF":
        depth = avif_depth(file)
    elif fmt == "HEIF":
        depth = int(image.info.get("bit_depth") or 8)
    elif fmt == "PPM":
        depth = 16 if bands == 3 and ppm_largest(file) > 255 else 8
    elif fmt == "JPEG2000":
        components, depth = jpeg2000_components(file)
        if components > bands:
            return f"{components} components, of which only {bands} can be read; save them as files apart"
        depth = 8 if image.mode.startswith("I;16") else depth
    else:
        return None
    return f"{depth} bits per colour channel are not supported; convert it to 8 bits" if depth > 8 else None


def _why_not_tiff(image: TiffImagePlugin.TiffImageFile) -> str | None:
    """Why a TIFF would lose something in reading that Pillow does not say; ``None`` where it loses nothing."""
    bits = image.tag_v2.get(258, 1)
    deepest = max(bits) if isinstance(bits, tuple) else bits
    if deepest > 8 and not (deepest == 16 and image.mode.startswith("I;16")):
        return _SIXTEEN if deepest == 16 else f"{deepest} bits per channel are not supported"
    kind = image.tag_v2.get(339, 1)
    if 2 in (kind if isinstance(kind, tuple) else (kind,)):
        return "signed integer pixels are not supported; convert it to unsigned 8-bit pixels"
    samples, read = int(image.tag_v2.get(277, 1)), len(image.getbands())
    if samples > read:
        return f"{samples} bands, of which only {read} can be read; save the picture and its other bands as files apart"
    if samples == 4 and not image.tag_v2.get(338):
        return (
            "its fourth band is not said to be transparency (no tag ExtraSamples); save it as RGB, and that band as a "
            "file apart"
        )
    return None


def _reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read


def _pages(file: BinaryIO) -> int:
    """How many pages a TIFF file has, counted no further than needed: Pillow would parse each, and look at all before
    it for a chain that bites its own tail."""
    return count_tiff_pages(_reader(file), COUNTED_FRAMES + 1)


def _colours(image: Image.Image, fmt: str, label: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours ``[H, W, C]`` and alpha ``[H, W]`` of a loaded image, in the orientation of the file."""
    mode = image.mode
    if mode.startswith("I;16") or (fmt == "PPM" and mode == "I"):
        grey = np.array(image, dtype=np.uint16)
        if fmt == "TIFF" and cast(TiffImagePlugin.TiffImageFile, image).tag_v2.get(262) == 0:
            # Zero means white; Pillow inverts 8-bit files only. Of fewer bits in use nobody knows what black is.
            if white_in_use(grey) != _SIXTEEN_BITS:
                raise ImageError(label, "16-bit grey that starts at white and uses fewer bits; save it with black as 0")
            grey = _SIXTEEN_BITS - grey
        return grey[..., None], None
    see_through = image.has_transparency_data
    wanted = ("LA" if see_through else "L") if mode in ("L", "LA", "La") else ("RGBA" if see_through else "RGB")
    if mode != wanted:
        # "La" and "RGBa" hold premultiplied colours; Pillow converts them only to their plain twins.
        image = image.convert(wanted)
    array = np.array(image)
    if array.ndim == 2:
        return array[..., None], None
    if array.shape[2] in (2, 4):
        return np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1])
    return array, None


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to ``[H, W, ...]`` (Exif 2.32, tag 0x0112)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _too_large(image: ImageFile.ImageFile) -> str:
    width, height = image.size
    return f"too large: {width} x {height} is {_pixels(width * height)}"


def _pixels(count: int) -> str:
    return f"{count:,} pixels" if count < 1_000_000 else f"{count / 1e6:,.1f}".removesuffix(".0") + " million pixels"


def _reason(error: Exception) -> str:
    """Pillow's many exceptions on damaged files, in one tone."""
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return TOO_LARGE
    if "unknown pixel mode" in text or "samples per pixel" in text.lower():
        return "its pixels are of a kind that is not supported; convert it to 8-bit RGB or grey"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "cut off: the file ends before the picture does"
    return f"damaged: {text}"
