"""What a protected file is called, which encoder writes it, and the bytes of a picture in that format."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import struct
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, cast, get_args

import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import ConfigError, ImageError
from ..records.config import FormatPolicy
from ..records.on_disk import Names, Table, as_blob
from .exif import Directory, Tag, graft_into_tiff, parse_exif
from .formats import EXTENSIONS, format_of_file
from .metadata import insert_chunks
from .picture import Picture
from .scan import Entry, EntryList
from .xmp import keep_rights

logger = logging.getLogger(__name__)

_XMP_TAG: Final = 700
_JPEG_SEGMENT: Final = 65533  # bytes a JPEG marker can hold
_WEBP_SIDE: Final = 16383

_POLICIES: Final = get_args(FormatPolicy)

#: Formats that are read and written as another one, lossless: to write them again would wash the perturbation out.
_REPLACED: Final = frozenset({"JPEG", "AVIF", "HEIF", "JPEG2000"})

#: Bytes a file name may have on the disks of Linux, macOS and Windows alike.
_LONGEST_NAME: Final = 255


#: Of the PNG encoder: level 4 is within 10 % of the smallest, at about twice the speed of the default; strategy 3 is
#: zlib's ``Z_RLE``.
_SEARCHING: Final = {"compress_level": 4}
_RUNS: Final = {"compress_level": 4, "compress_type": 3}
#: Pixels from which it is tried which of them suits a picture, on so many bands of so many rows; and how much larger a
#: file may be that takes a third of the time.
_TRIED_FROM: Final = 200_000
_BANDS, _BAND = 5, 16
_LITTLE_MORE: Final = 1.03


def output_name(relative: str, fmt_on_disk: str, policy: FormatPolicy) -> tuple[str, str]:
    """The relative path and the encoder of the protected copy.

    A JPEG becomes a PNG, or a lossless WebP under ``webp``, because saving as JPEG would wash the perturbation out; so
    do the other formats that are read only (AVIF, HEIF, JPEG 2000). Everything else keeps its name and format.

    Args:
        relative: path with ``/`` between the parts.
        fmt_on_disk: what the bytes are, whatever the name says.
        policy: ``lossless``, ``webp`` for the smaller files, or ``same`` to keep JPEG (at high quality, without chroma
            subsampling).

    Raises:
        ConfigError: there is no such policy.
    """
    if policy not in _POLICIES:
        raise ConfigError(f"There is no format policy named {policy!r}. Known: {', '.join(_POLICIES)}.")
    if fmt_on_disk not in _REPLACED or (fmt_on_disk == "JPEG" and policy == "same"):
        return relative, fmt_on_disk
    encoder = "WEBP" if policy == "webp" else "PNG"
    folder, slash, name = relative.rpartition("/")
    suffix = PurePosixPath(name).suffix
    # A JPEG that is called photo.png already has the right name once it is a PNG.
    if EXTENSIONS.get(suffix.lower()) == encoder:
        return relative, encoder
    stem = name[: -len(suffix)] if EXTENSIONS.get(suffix.lower()) in _REPLACED else name
    return f"{folder}{slash}{stem}.{encoder.lower()}", encoder


class OutputNames(Mapping[str, tuple[str, str]]):
    """From the relative path of each picture to that of its copy, and to the encoder that writes it.

    Args:
        table: ``name`` and ``output`` of each, with ``encoder``.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names = Names(table)

    def __getitem__(self, relative: str) -> tuple[str, str]:
        place = self._names.find(relative)
        if place is None:
            raise KeyError(relative)
        output, encoder = self._table.ask("SELECT output, encoder FROM rows WHERE number = ?", place)[0]
        return os.fsdecode(output), encoder

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def outputs(self) -> Iterator[str]:
        """The relative paths of all copies."""
        return (os.fsdecode(output) for (output,) in self._table.rows("output"))


class CopyNames(Mapping[str, str]):
    """From the relative path of each picture to that of its copy alone.

    Args:
        names: of all pictures.
        without: those of which there is no copy.
    """

    def __init__(self, names: OutputNames, without: Collection[str] = ()) -> None:
        self._names = names
        self._without = without

    def __getitem__(self, relative: str) -> str:
        if relative in self._without:
            raise KeyError(relative)
        return self._names[relative][0]

    def __iter__(self) -> Iterator[str]:
        return (relative for relative in self._names if relative not in self._without)

    def __len__(self) -> int:
        return len(self._names) - len(self._without)


def resolve_output_names(entries: Iterable[Entry], policy: FormatPolicy, *, beside: Iterable[str] = ()) -> OutputNames:
    """Names for a whole folder; see :func:`resolve_names`.

    Args:
        entries: the images of a scan. The first bytes of each file are read to know its format.
        policy: see :func:`output_name`.
        beside: see :func:`resolve_names`.
    """
    ordered = entries if isinstance(entries, EntryList) else sorted(entries, key=lambda one: os.fsencode(one.relative))
    return _resolve(((entry.relative, format_of_file(entry.path) or "PNG") for entry in ordered), policy, beside)


def resolve_names(formats: Mapping[str, str], policy: FormatPolicy, *, beside: Iterable[str] = ()) -> OutputNames:
    """Names for pictures that lie together, no two of them the same, not even on a disk that ignores case.

    ``photo.jpg`` beside ``photo.png``, be that a picture or a folder, becomes ``photo.jpg.png``. A new name that would
    be longer than disks allow is cut, and a few digits of a hash of the old one keep it apart from others. The result
    depends on the names alone, not on order.

    Args:
        formats: the relative path of each picture and its format.
        policy: see :func:`output_name`.
        beside: relative paths of other files that go to the same place under their own names, such as captions.

    Returns:
        From each relative path to its new relative path and encoder.
    """
    return _resolve(((name, formats[name]) for name in sorted(formats, key=os.fsencode)), policy, beside)


def _resolve(pictures: Iterable[tuple[str, str]], policy: FormatPolicy, beside: Iterable[str]) -> OutputNames:
    """Names of pictures, given with their formats in the order of their paths."""
    # ``wanted`` is what a copy is called if nobody objects, ``folded`` the same as disks may take it.
    copies = Table(name="BLOB", output="BLOB", encoder="TEXT", wanted="BLOB", folded="BLOB", contested="INTEGER")
    others = Names()
    folders: set[str] = set()

    def note_folders(path: str) -> None:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            others.append(_fold(folder))
            folder = folder.rpartition("/")[0]

    for relative, fmt in pictures:
        name, encoder = output_name(relative, fmt, policy)
        wanted, refused = as_blob(name), _shortened(name, relative) != name
        copies.append(as_blob(relative), wanted, encoder, wanted, as_blob(_fold(name)), refused)
        note_folders(relative)
    for path in beside:
        others.append(_fold(path))
        note_folders(path)
    # Contested: claimed by several, or refused by disks. These alone need more than a look.
    copies.ask("CREATE INDEX by_folded ON rows (folded)")
    contest = "UPDATE rows SET contested = 1 WHERE folded"
    copies.ask(f"{contest} IN (SELECT folded FROM rows GROUP BY folded HAVING count(*) > 1)")
    for (folded,) in others.table.rows():
        copies.ask(f"{contest} = ?", folded)
    count = _contested(copies)
    while count:
        settled, met = _settle(copies, others)
        # Names that were tried and belong to somebody whom nobody contested so far.
        for (folded,) in met.table.rows():
            copies.ask(f"{contest} = ?", folded)
        before, count = count, _contested(copies)
        if count == before:
            for output, place in settled.rows():
                copies.ask("UPDATE rows SET output = ? WHERE number = ?", output, place)
            break
    return OutputNames(copies)


def _contested(copies: Table) -> int:
    return int(copies.ask("SELECT count(*) FROM rows WHERE contested")[0][0])


def _settle(copies: Table, others: Names) -> tuple[Table, Names]:
    """Names for the contested pictures, ``output`` and ``place`` of each; and all that were tried, folded."""
    settled, taken, met = Table(output="BLOB", place="INTEGER"), Names(), Names()

    def is_taken(name: str) -> bool:
        folded = _fold(name)
        met.append(folded)
        return folded in taken or folded in others

    # Files that keep their name go first, so that a renamed one never takes the name of one that stays.
    claims = "(SELECT count(*) FROM rows AS other WHERE other.folded = rows.folded AND other.contested)"
    question = f"SELECT number, name, wanted, encoder, {claims} FROM rows WHERE contested ORDER BY name != wanted, name"
    for place, source, wanted, encoder, claimed in copies.answers(question):
        relative, name = os.fsdecode(source), os.fsdecode(wanted)
        if name != relative and (claimed > 1 or is_taken(name)):
            name = f"{relative}.{encoder.lower()}"
        found = _unused(name if name == relative else _shortened(name, relative), is_taken)
        taken.append(_fold(found))
        settled.append(as_blob(found), place)
    return settled, met


def _fold(name: str) -> str:
    """What a disk that ignores case, or stores accents another way, takes for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shortened(name: str, relative: str) -> str:
    """The name, cut where the disk would refuse it; the hash of the old one, ``relative``, tells cut names apart."""
    if len(os.fsencode(name.rpartition("/")[2])) <= _LONGEST_NAME:
        return name
    return _with_end(name, f"-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]}")


def _unused(name: str, is_taken: Callable[[str], bool]) -> str:
    number = 2
    candidate = name
    while is_taken(candidate):
        candidate = _with_end(name, f"-{number}")
        number += 1
    return candidate


def _with_end(name: str, end: str) -> str:
    """``end`` put between stem and suffix; the stem loses characters where the name would be too long."""
    folder, slash, last = name.rpartition("/")
    suffix = PurePosixPath(last).suffix
    stem = last[: -len(suffix)] if suffix else last
    room = _LONGEST_NAME - len(os.fsencode(end + suffix))
    while stem and len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return f"{folder}{slash}{stem}{end}{suffix}"


def encode(picture: Picture, *, format: str) -> bytes:
    """The bytes of an image file, metadata included.

    Lossless for all formats but JPEG, which is written at quality 95 without chroma subsampling: subsampling, more than
    quality, is what removes fine perturbations. Colours below fully transparent pixels are kept.

    Args:
        picture: what to write.
        format: ``"PNG"``, ``"WEBP"``, ``"TIFF"``, ``"BMP"``, ``"PPM"`` or ``"JPEG"``.

    Raises:
        ImageError: the format cannot hold the picture (16 bits, transparency, size).
        ConfigError: there is no such format; never about the picture or what it carries.
    """
    writers = {"PNG": _png, "WEBP": _webp, "TIFF": _tiff, "BMP": _bmp, "JPEG": _jpeg, "PPM": _ppm}
    if format not in writers:
        raise ConfigError(f"There is no encoder for {format!r}. Known: {', '.join(writers)}.")
    if picture.bit_depth == 16:
        if format not in ("PNG", "TIFF", "PPM"):
            raise ImageError(picture.source, f"16 bits per channel do not fit into {format}; use PNG")
        if picture.pixels.shape[2] != 1 or picture.alpha is not None:
            raise ImageError(picture.source, "16 bits per channel are written for grey without transparency only")
    if format in ("JPEG", "PPM") and picture.alpha is not None:
        raise ImageError(picture.source, f"{format} cannot hold transparency; use PNG or WebP")
    if format == "WEBP" and max(picture.width, picture.height) > _WEBP_SIDE:
        raise ImageError(picture.source, f"WebP holds at most {_WEBP_SIDE} pixels a side; use PNG")
    try:
        return writers[format](picture)
    except ImageError:
        raise
    except Exception as error:  # an encoder may raise anything on odd metadata, and it is about this file alone
        raise ImageError(picture.source, f"cannot be written as {format}: {error}") from error


def _to_pillow(picture: Picture) -> Image.Image:
    if picture.alpha is None:
        pixels = picture.pixels[..., 0] if picture.pixels.shape[2] == 1 else picture.pixels
        return Image.fromarray(np.ascontiguousarray(pixels))
    if picture.pixels.shape[2] == 1:
        return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(picture.pixels[..., 0])), _alpha(picture)])
    return Image.fromarray(np.dstack([picture.pixels, picture.alpha]))


def _alpha(picture: Picture) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture.alpha))


def _save(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


def _zip_pays(size: int) -> bool:
    """Whether a PNG text of so many bytes is compressed. Pillow refuses a file that holds a larger compressed one."""
    return 1024 < size <= PngImagePlugin.MAX_TEXT_CHUNK


def _png(picture: Picture) -> bytes:
    metadata = picture.metadata
    if metadata.icc is not None and len(metadata.icc) > PngImagePlugin.MAX_TEXT_CHUNK:
        # A PNG holds its profile compressed or not at all, and Pillow, so every trainer, refuses to open the file then.
        raise ImageError(
            picture.source,
            f"its colour profile has {len(metadata.icc) / 2**20:.1f} MiB, and a PNG file with more than "
            f"{PngImagePlugin.MAX_TEXT_CHUNK / 2**20:g} MiB cannot be read by many programs; convert the picture to a "
            "common profile such as sRGB",
        )
    chunks = PngImagePlugin.PngInfo()
    for key, value in ({} if metadata.png_text else metadata.text).items():
        try:
            value.encode("latin-1")
            chunks.add_text(key, value, zip=_zip_pays(len(value)))
        except UnicodeEncodeError:
            chunks.add_itxt(key, value, zip=_zip_pays(len(value.encode("utf-8", "surrogateescape"))))
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", cast(str, metadata.xmp.decode("utf-8", "replace")))
    image = _to_pillow(picture)
    data = _save(
        image,
        "PNG",
        **_packing(image),
        pnginfo=chunks,
        icc_profile=metadata.icc,
        exif=metadata.exif,
        dpi=metadata.dpi,
    )
    shape = [] if metadata.pixel_aspect is None else [(b"pHYs", struct.pack(">IIB", *metadata.pixel_aspect, 0))]
    return insert_chunks(data, [*metadata.png_colour, *shape, *metadata.png_text])


def _packing(image: Image.Image) -> dict[str, int]:
    """How Pillow packs a picture as PNG. The file depends on it, its pixels do not.

    In photographs hardly a row repeats another: to look for no more than runs of one byte takes a third of the time,
    and files are as small. Drawings and screens repeat themselves, and would be a third larger. Some rows tell.
    """
    if image.width * image.height < _TRIED_FROM:
        return _SEARCHING
    step = image.height // _BANDS
    part = Image.new(image.mode, (image.width, _BANDS * _BAND))
    for number in range(_BANDS):
        top = number * step + (step - _BAND) // 2
        part.paste(image.crop((0, top, image.width, top + _BAND)), (0, number * _BAND))
    runs, searching = (len(_save(part, "PNG", **packing)) for packing in (_RUNS, _SEARCHING))
    return _RUNS if runs <= _LITTLE_MORE * searching else _SEARCHING


def _webp(picture: Picture) -> bytes:
    metadata = picture.metadata
    image = _to_pillow(picture)
    if image.mode in ("L", "LA"):
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    return _save(
        image,
        "WEBP",
        lossless=True,
        exact=True,  # otherwise colours below transparent pixels are thrown away
        method=1,
        quality=20,  # effort, not loss, when lossless
        icc_profile=metadata.icc,
        exif=metadata.exif,
        xmp=metadata.xmp,
    )


def _jpeg(picture: Picture) -> bytes:
    metadata = picture.metadata
    room = {
        name: value if value is None or len(value) <= _JPEG_SEGMENT - 64 else None
        for name, value in (("exif", metadata.exif), ("xmp", _rights_at_least(metadata.xmp)))
    }
    for name, value in room.items():
        if value is None and getattr(metadata, name) is not None:
            logger.warning("%s: its %s is too long for a JPEG and was left out", picture.source, name.upper())
    comment = metadata.text.get("Comment")
    data = _save(
        _to_pillow(picture),
        "JPEG",
        quality=95,
        subsampling=0,
        icc_profile=metadata.icc,
        dpi=metadata.dpi and tuple(round(value) for value in metadata.dpi),
        comment=comment.encode("utf-8", "replace")[: _JPEG_SEGMENT - 64] if comment else None,
        **room,
    )
    if metadata.pixel_aspect is None or data[6:11] != b"JFIF\x00":
        return data
    # Pillow writes resolutions in inches only; the unit and the two numbers lie in the JFIF header.
    down, across = (min(value, 0xFFFF) for value in metadata.pixel_aspect[::-1])
    return data[:13] + struct.pack(">BHH", 0, across, down) + data[18:]


def _rights_at_least(xmp: bytes | None) -> bytes | None:
    """The packet, or of one too long for a JPEG what it says of rights."""
    return xmp if xmp is None or len(xmp) <= _JPEG_SEGMENT - 64 else keep_rights(xmp) or xmp


def _tiff(picture: Picture) -> bytes:
    metadata = picture.metadata
    across, down = metadata.pixel_aspect or (None, None)
    data = _save(
        _to_pillow(picture),
        "TIFF",
        compression="tiff_adobe_deflate",
        icc_profile=metadata.icc,
        dpi=metadata.dpi,
        resolution_unit=None if across is None else 1,
        x_resolution=across,
        y_resolution=down,
    )
    # Tags are grafted on: Pillow would turn text beyond ASCII into question marks.
    tags = (parse_exif(metadata.exif) if metadata.exif else None) or Directory("<")
    if metadata.xmp:
        tags = tags.with_tag(_XMP_TAG, Tag(1, len(metadata.xmp), metadata.xmp))
    return graft_into_tiff(data, tags) if tags.tags or tags.children else data


def _ppm(picture: Picture) -> bytes:
    return _save(_to_pillow(picture), "PPM")


def _bmp(picture: Picture) -> bytes:
    if picture.alpha is None:
        return _save(_to_pillow(picture), "BMP", dpi=picture.metadata.dpi)
    return _bmp_with_alpha(picture)


def _bmp_with_alpha(picture: Picture) -> bytes:
    """A 32-bit BMP with version 4 header. Pillow writes transparency into a header that says there is none."""
    height, width = picture.pixels.shape[:2]
    rgba = np.dstack([np.broadcast_to(picture.pixels, (height, width, 3)), cast(np.ndarray, picture.alpha)])
    body = np.ascontiguousarray(rgba[::-1, :, [2, 1, 0, 3]]).tobytes()  # bottom row first, blue first
    dots = [round(value / 0.0254) for value in picture.metadata.dpi or (96.0, 96.0)]
    start = 14 + 108
    header = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(body), *dots, 0, 0)
    header += struct.pack("<IIII4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(36 + 12)
    return header + body
