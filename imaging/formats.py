"""Which image files bitterant reads: their extensions, and how their first bytes look.

What a file may cost its reader stands here, too. What would cost more is refused from its head, before it costs
anything. Honest files stay far below every number; a file that does not was made to take the memory or the time of
whoever opens it, or is not what it says.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from ..records.places import open_regular

if TYPE_CHECKING:
    from PIL import Image

#: Extension (lower case) to the format it stands for.
EXTENSIONS: Final[dict[str, str]] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".jpx": "JPEG2000",
}

#: Bytes from which a format can be told.
HEAD_BYTES: Final = 32

#: Extensions of pictures that are not read: people need to hear that one of these is left without protection.
_UNREAD: Final = frozenset(
    {".gif", ".jxl", ".psd", ".psb", ".xcf", ".tga", ".exr", ".hdr", ".svg", ".jxr", ".wdp"}
    | {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr", ".iiq"}
)

#: First bytes of the formats that are read. WebP is a RIFF file and is told apart below.
_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
    *((b"P" + kind + blank, "PPM") for kind in (b"2", b"3", b"5", b"6") for blank in (b"\n", b" ", b"\r", b"\t")),
    (b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)

#: Brands of files built of boxes (ISO/IEC 23008-12); the same box begins videos.
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIF"),
}

#: Formats that turn up under a wrong name, so that the reason can say what a file is.
_OTHERS: Final = (
    (b"GIF8", "a GIF"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the real file with `git lfs pull`"),
)


def is_picture_name(name: str) -> bool:
    """Whether a file of this name holds a picture, one that can be read or not."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in EXTENSIONS or suffix in _UNREAD


def sniff_format(head: bytes) -> str | None:
    """The format, a value of :data:`EXTENSIONS`, by the first :data:`HEAD_BYTES` bytes; None if none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[place : place + 4] for place in range(16, len(head), 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def describe_unknown(head: bytes) -> str:
    """Why a file with these first bytes is not read, in words."""
    found = next((name for signature, name in _OTHERS if head.startswith(signature)), None)
    if found is None and head[4:8] == b"ftyp":
        found = "a video"
    wanted = "not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, JPEG 2000 or PPM image"
    return f"{wanted}; it looks like {found}" if found else wanted


def format_of_file(path: Path) -> str | None:
    """The format by first bytes; by extension where the file cannot be opened or its bytes say nothing."""
    by_name = EXTENSIONS.get(path.suffix.lower())
    try:
        with open_regular(path) as file:
            return sniff_format(file.read(HEAD_BYTES)) or by_name
    except OSError:
        return by_name


#: Largest file that is opened, in bytes; some decoders read a file whole. As many as the largest picture has unpacked.
MAX_FILE_BYTES: Final = 1 << 30

#: Pixels that any file may claim, and the most a byte of a larger one may stand for. Photographs have some ten pixels a
#: byte at most, drawings a hundred.
FREE_PIXELS: Final = 1 << 25
_MOST_PER_BYTE: Final = 200
#: The same where flat areas are to be expected, as in label maps: what the best packing of an empty sheet comes to.
_MOST_PER_BYTE_FLAT: Final = 10_000
#: The same for run-length coded BMP files, where two bytes are a run of at most 255 pixels.
_MOST_PER_RUN_BYTE: Final = 255

#: What is said of a picture that the machine cannot hold.
TOO_LARGE: Final = "too large for the memory"

#: Pages or frames that are counted before the file is refused for having many.
COUNTED_FRAMES: Final = 100

#: Parts of a file beside its pixels: segments of a JPEG (a colour profile and a long XMP packet have some hundreds),
#: chunks of a PNG. Pillow's time goes with the square of the one, and is long for each of the other.
_MOST_PARTS: Final = 4000
#: Times that a progressive JPEG is gone through; usual are ten.
_MOST_SCANS: Final = 100
#: Bytes before the pixels of a PPM file, comments too, which Pillow reads one by one.
_LONGEST_HEADER: Final = 1 << 16

_BLOCK: Final = 1 << 20
_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # but for stuffed bytes and restarts
_WITHOUT_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN, _END = 0xDA, 0xD9


def claims_too_much(image: Image.Image, size: int, *, flat: bool = False) -> bool:
    """Whether a file claims more pixels than an honest one holds; nothing is decoded.

    Args:
        image: opened, not loaded.
        size: of its file, in bytes.
        flat: whether it may be flat nearly everywhere, as label maps are.
    """
    pixels = image.width * image.height
    # The decoder of JPEG 2000 takes four bytes for each value, beside the picture itself.
    free = FREE_PIXELS // 2 if image.format == "JPEG2000" else FREE_PIXELS
    run_length = image.format in ("BMP", "DIB") and image.info.get("compression") in (1, 2)
    return (pixels > free and pixels > (_MOST_PER_BYTE_FLAT if flat else _MOST_PER_BYTE) * size) or (
        run_length and pixels > _MOST_PER_RUN_BYTE * size
    )


def tell_claim(image: Image.Image, size: int) -> str:
    """Why a file is refused that :func:`claims_too_much`, in words."""
    what = f"{size} bytes cannot hold {image.width} x {image.height} pixels"
    if image.width * image.height > _MOST_PER_BYTE_FLAT * size or image.format in ("BMP", "DIB"):
        return f"damaged: {what}"
    return f"nearly empty, as files are that were made to fill the memory: {what} of a photograph; scale it down"


def check_parts(file: BinaryIO, fmt: str) -> None:
    """Refuse a file that is cut into so many parts, or gone through so often, that to open it takes long.

    Args:
        file: seekable; left where it was.
        fmt: its format.

    Raises:
        ValueError: it is such a file. The message is a part of a sentence.
    """
    check = {"JPEG": _check_jpeg, "PNG": _check_png, "PPM": _check_ppm}.get(fmt)
    if check is None:
        return
    place = file.tell()
    try:
        file.seek(0)
        check(file)
    finally:
        file.seek(place)


def _check_jpeg(file: BinaryIO) -> None:
    """Walk over the markers (ITU-T T.81, annex B) to the end of the first picture."""
    file.seek(2)
    segments = scans = 0
    while (marker := _next_marker(file)) not in (None, _END):
        if marker in _WITHOUT_LENGTH:
            continue
        length = file.read(2)
        if len(length) < 2:
            return
        segments += 1
        scans += marker == _START_OF_SCAN
        if segments > _MOST_PARTS:
            raise ValueError(f"it has more than {_MOST_PARTS} segments")
        if scans > _MOST_SCANS:
            raise ValueError(f"its picture comes in more than {_MOST_SCANS} scans")
        file.seek(max(0, struct.unpack(">H", length)[0] - 2), 1)


def _next_marker(file: BinaryIO) -> int | None:
    """The code of the next marker; the file then stands behind it. ``None`` at the end of the file."""
    while block := file.read(_BLOCK):
        found = _MARKER.search(block)
        if found is not None:
            file.seek(found.end() - len(block), 1)
            return block[found.end() - 1]
        if len(block) > 1 and block.endswith(b"\xff"):  # its second byte is in the next block
            file.seek(-1, 1)
    return None


def _check_png(file: BinaryIO) -> None:
    file.seek(8)
    parts = 0
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            return
        parts += name != b"IDAT"
        if parts > _MOST_PARTS:
            raise ValueError(f"it has more than {_MOST_PARTS} chunks beside its pixels")
        file.seek(length + 4, 1)


def _check_ppm(file: BinaryIO) -> None:
    words = re.sub(rb"#[^\r\n]*", b"", file.read(_LONGEST_HEADER)).split(None, 4)
    if len(words) < 4 and len(file.read(1)) == 1:
        raise ValueError(f"its header is longer than {_LONGEST_HEADER >> 10} KiB")
