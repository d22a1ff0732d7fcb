"""Which image files bitterant reads: their extensions, and how their first bytes look."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from ..records.places import open_regular

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
