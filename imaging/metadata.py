"""What is said about a picture besides its pixels: which parts are carried over, removed by a policy, or added.

Never carried over, under any policy, because each can be an unprotected copy of the original: the EXIF thumbnail,
previews inside maker notes and XMP, Photoshop blocks and layers, and further parts of a phone JPEG (gain and depth
maps, the video of a motion photo) with what XMP says of them. Photoshop's old IPTC record goes with its block; author
and copyright in it move to EXIF where EXIF has none.

What Pillow does not pass on is read here from the file itself: what files built of boxes or headers say of their pixels
and colours (ISO/IEC 14496-12 for boxes, 23008-12 for HEIF, AV1-ISOBMFF for ``av1C``, 15444-1 for JPEG 2000, and the
netpbm manual for PPM), and the chunks of a PNG, byte for byte (PNG, third edition, W3C, 2025: ``cICP``, ``mDCV`` and
``cLLI`` in section 11.3.2, text in 11.3.3), which Pillow drops, merges or rounds.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, get_args

from PIL import ImageFile, IptcImagePlugin, TiffImagePlugin

from ..errors import ConfigError
from ..records.config import Mark, MetadataPolicy
from .exif import Directory, Tag, build_exif, parse_exif, read_tiff_tags
from .xmp import clean_xmp, forbid_training, forbids_training, keep_rights, xmp_orientation

_HEAD: Final = 1 << 16  # the boxes about the picture come first
_SRGB: Final = {(1, 13), (1, 1), (2, 2), (1, 2), (2, 13)}  # primaries and transfer that all take for sRGB


def _head(file: BinaryIO, size: int = _HEAD) -> bytes:
    place = file.tell()
    try:
        file.seek(0)
        return file.read(size)
    finally:
        file.seek(place)


def avif_depth(file: BinaryIO) -> int:
    """Bits per channel of an AVIF picture: 8, 10 or 12."""
    head = _head(file)
    start = head.find(b"av1C")
    if start < 0 or start + 7 > len(head):
        return 8
    flags = head[start + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def jpeg2000_components(file: BinaryIO) -> tuple[int, int]:
    """How many components a JPEG 2000 picture has, and the most bits of one; zeros where that cannot be found."""
    head = _head(file)
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(head):
        return 0, 0
    (count,) = struct.unpack_from(">H", head, start + 40)
    depths = head[start + 42 : start + 42 + 3 * count : 3]
    return count, max(((depth & 0x7F) + 1 for depth in depths), default=0)


def box_colours(file: BinaryIO) -> tuple[bytes | None, tuple[int, int] | None]:
    """The colour profile in a ``colr`` box, and the code points (primaries, transfer) where they are not sRGB's."""
    head = _head(file, 1 << 20)
    start = head.find(b"colr")
    if start < 4 or start + 15 > len(head):
        return None, None
    (size,) = struct.unpack_from(">I", head, start - 4)
    body = head[start + 4 : start - 4 + size]
    if body[:4] in (b"prof", b"rICC"):
        return bytes(body[4:]), None
    if body[:4] == b"nclx" and len(body) >= 8:
        primaries, transfer = struct.unpack_from(">HH", body, 4)
        known = (primaries, transfer) in _SRGB or max(primaries, transfer) > 255
        return None, None if known else (primaries, transfer)
    if body[:1] in (b"\x02", b"\x03"):  # JPEG 2000: method, precedence, approximation, profile
        return bytes(body[3:]), None
    return None, None


def ppm_largest(file: BinaryIO) -> int:
    """The value of white that a PPM or PGM header gives; 0 where there is none."""
    words = re.sub(rb"#[^\r\n]*", b"", _head(file, 1 << 10)).split(None, 4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 0


#: Name and content.
Chunk = tuple[bytes, bytes]

#: What the numbers mean. The profile (``iCCP``) is handled as in all formats.
COLOUR_CHUNKS: Final = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")

_START: Final = 8
_PNG_HEAD: Final = _START + 12 + 13  # signature and the chunk IHDR, which comes first
_LONGEST: Final = 1 << 20  # Pillow, so every trainer, reads no longer text
_MOST: Final = 16 << 20  # of all together


def read_chunks(file: BinaryIO, wanted: Iterable[bytes]) -> tuple[Chunk, ...]:
    """The chunks of these names in the order of the file, up to its end or to where it is damaged.

    Args:
        file: seekable; left where it was.
        wanted: names.
    """
    names = frozenset(wanted)
    place = file.tell()
    found: list[Chunk] = []
    left = _MOST
    try:
        file.seek(_START)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IEND":
                break
            if name in names and length <= min(_LONGEST, left):
                data = file.read(length)
                if len(data) < length:
                    break
                found.append((name, data))
                left -= length
                length = 0
            file.seek(length + 4, 1)
    finally:
        file.seek(place)
    return tuple(found)


def insert_chunks(png: bytes, chunks: Iterable[Chunk]) -> bytes:
    """A PNG file with more chunks, placed before all but the header."""
    added = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return png[:_PNG_HEAD] + added + png[_PNG_HEAD:] if added else png


def keyword(data: bytes) -> str:
    """The key of a text chunk."""
    return data.partition(b"\x00")[0].decode("latin-1")


_ORIENTATION: Final = 0x0112
_EXIF_DIRECTORY: Final = 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_ARTIST, _COPYRIGHT = 0x013B, 0x8298

# Main-directory tags that survive "private": what shows the picture rightly and whose it is. No host, no free comments.
_PRIVATE_KEEPS: Final = frozenset({270, 271, 272, 282, 283, 296, 301, 305, 306, 318, 319, _ARTIST, _COPYRIGHT, 0x9C9D})
# GPS, maker note, owner name, serial numbers of body and lens, unique image id, user comment, camera serial number.
_PRIVATE_DROPS: Final = (0x8825, 0x927C, 0xA430, 0xA431, 0xA435, 0xA420, 0x9286, 0xC62F)
_RIGHTS_TEXT: Final = ("Copyright", "Author")
# What the colours mean where no profile says it: transfer function, white point, primaries; of the EXIF directory
# colour space and gamma; of the interoperability directory the index, R03 for Adobe RGB (DCF 2.0).
_COLOUR_TAGS: Final = (301, 318, 319)
_COLOUR_SPACE, _GAMMA = 0xA001, 0xA500
_INTEROPERABILITY, _INDEX = 0xA005, 1
_EXIF_SRGB: Final = 1


MARKS: Final = get_args(Mark)


@dataclass(frozen=True)
class Metadata:
    """What is carried from the original to the protected file.

    Attributes:
        icc: colour profile.
        exif: EXIF block with its ``Exif`` prefix, without orientation and thumbnail.
        xmp: XMP packet, without orientation, thumbnail, and what it says of parts that are not carried over.
        dpi: horizontal and vertical pixels per inch.
        pixel_aspect: how many pixels across are as long as how many down, where the file gives no unit.
        text: PNG text chunks and the JPEG comment (under ``Comment``).
        png_text: the same as chunks of a PNG, byte for byte and with repeated keys; ``text`` is written if empty.
        png_colour: chunks of a PNG that say what its colours mean (``cICP``, ``gAMA``, ...): name and bytes.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    pixel_aspect: tuple[int, int] | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    png_text: tuple[Chunk, ...] = ()
    png_colour: tuple[Chunk, ...] = ()


def read_orientation(image: ImageFile.ImageFile, file: BinaryIO) -> int:
    """The EXIF orientation, 1..8, of an image opened from ``file``; 1 if none. XMP is asked where EXIF is silent."""
    directory = _read_directory(image, file)
    value = None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(_ORIENTATION)
    elif directory is not None:
        value = directory.number(_ORIENTATION)
    if value is None:
        value = xmp_orientation(_raw_xmp(image))
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_metadata(image: ImageFile.ImageFile, file: BinaryIO, width: int, height: int) -> Metadata:
    """Gather the metadata of an image loaded from ``file`` whose size, upright, is ``width`` x ``height`` pixels."""
    directory = _with_iptc_rights(_read_directory(image, file), image)
    exif = None
    if directory is not None:
        exif = build_exif(_with_size(directory.without(_ORIENTATION), width, height))
    icc, points = image.info.get("icc_profile") or None, ()
    if image.format in ("AVIF", "HEIF", "JPEG2000"):
        profile, codes = box_colours(file)
        icc = icc or profile
        # What a PNG calls the same; pictures there are always RGB in the full range.
        points = ((b"cICP", bytes([*codes, 0, 1])),) if codes and icc is None else ()
    return Metadata(
        icc=icc,
        exif=exif,
        xmp=clean_xmp(_raw_xmp(image)),
        dpi=_read_dpi(image),
        pixel_aspect=_read_aspect(image),
        text=_read_text(image),
        png_text=_read_png_text(image, file),
        png_colour=read_chunks(file, COLOUR_CHUNKS) if image.format == "PNG" else points,
    )


def apply_metadata_policy(metadata: Metadata, policy: MetadataPolicy) -> Metadata:
    """Remove what the policy does not let through. What the colours mean and the shape of the pixels always stay:
    without them the picture looks different.

    ``keep``: everything :class:`Metadata` holds.
    ``private``: no place, no serial numbers, no maker note, no free comments; author, copyright, licence, camera model,
    exposure and date stay. XMP is cut down to its rights fields, so person names and editing history go too.
    ``strip``: only what the colours mean, and the shape of pixels that are not square.

    Raises:
        ConfigError: there is no such policy.
    """
    if policy == "keep":
        return metadata
    if policy == "strip":
        square = metadata.dpi is None or metadata.dpi[0] == metadata.dpi[1]
        return Metadata(
            icc=metadata.icc,
            exif=None if metadata.icc else _colour_exif(metadata.exif),
            dpi=None if square else metadata.dpi,
            pixel_aspect=metadata.pixel_aspect,
            png_colour=metadata.png_colour,
        )
    if policy != "private":
        raise ConfigError(f"There is no metadata policy named {policy!r}. Known: keep, private, strip.")
    directory = parse_exif(metadata.exif) if metadata.exif else None
    if directory is not None:
        directory = directory.without(*_PRIVATE_DROPS)
        directory = replace(directory, tags={n: t for n, t in directory.tags.items() if n in _PRIVATE_KEEPS})
    return replace(
        metadata,
        exif=build_exif(directory) if directory else None,
        xmp=keep_rights(metadata.xmp),
        text={key: value for key, value in metadata.text.items() if key in _RIGHTS_TEXT},
        png_text=tuple(chunk for chunk in metadata.png_text if keyword(chunk[1]) in _RIGHTS_TEXT),
    )


def add_mark(metadata: Metadata, mark: Mark) -> Metadata:
    """The metadata with a mark for those who would train on the picture; all else stays as it is.

    ``no-ai``: the XMP property ``plus:DataMining`` of IPTC and PLUS says "Prohibited for AI/ML training", or goes on
    saying what forbids more.

    Raises:
        ConfigError: there is no such mark.
    """
    if mark not in MARKS:
        raise ConfigError(f"There is no mark named {mark!r}. Known: {', '.join(MARKS)}.")
    return replace(metadata, xmp=forbid_training(metadata.xmp))


def has_mark(metadata: Metadata, mark: Mark) -> bool:
    """Whether metadata, read from a file, bears a mark."""
    return mark == "no-ai" and forbids_training(metadata.xmp)


def _colour_exif(block: bytes | None) -> bytes | None:
    """Of an EXIF block what the colours mean; ``None`` where it says nothing, or says sRGB, which all assume."""
    main = parse_exif(block) if block else None
    if main is None:
        return None
    shot = main.children.get(_EXIF_DIRECTORY, Directory(main.order))
    index = shot.children.get(_INTEROPERABILITY, Directory(main.order))
    kept = Directory(
        main.order,
        {number: tag for number, tag in main.tags.items() if number in _COLOUR_TAGS},
        {
            _EXIF_DIRECTORY: Directory(
                main.order,
                {number: tag for number, tag in shot.tags.items() if number in (_COLOUR_SPACE, _GAMMA)},
                {_INTEROPERABILITY: replace(index, tags={n: tag for n, tag in index.tags.items() if n == _INDEX})},
            )
        },
    )
    told = kept.tags or _GAMMA in shot.tags or shot.number(_COLOUR_SPACE) not in (None, _EXIF_SRGB)
    return build_exif(kept) if told or index.text(_INDEX) == b"R03" else None


def _read_directory(image: ImageFile.ImageFile, file: BinaryIO) -> Directory | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        place = file.tell()

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        try:
            return read_tiff_tags(read)
        finally:
            file.seek(place)
    block = image.info.get("exif")
    if block is None and isinstance(profile := image.info.get("Raw profile type exif"), str):
        try:  # ImageMagick's way of putting EXIF into a PNG: a name, a length, and hexadecimal digits
            block = bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            block = None
    return parse_exif(block) if isinstance(block, bytes) else None


def _with_size(directory: Directory, width: int, height: int) -> Directory:
    """Correct the pixel size in EXIF, which a rotation may have swapped."""
    child = directory.children.get(_EXIF_DIRECTORY)
    if child is None or not {_WIDTH, _HEIGHT} & child.tags.keys():
        return directory
    for number, value in ((_WIDTH, width), (_HEIGHT, height)):
        child = child.with_tag(number, Tag(4, 1, struct.pack(child.order + "I", value)))
    return replace(directory, children={**directory.children, _EXIF_DIRECTORY: child})


def _with_iptc_rights(directory: Directory | None, image: ImageFile.ImageFile) -> Directory | None:
    """Author and copyright of an IPTC record, moved to EXIF where EXIF lacks them."""
    if "photoshop" not in image.info and not isinstance(image, TiffImagePlugin.TiffImageFile):
        return directory
    try:
        record: dict[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}
    except (SyntaxError, ValueError, KeyError, TypeError, IndexError, OSError, struct.error):
        return directory
    for number, name in ((_ARTIST, (2, 80)), (_COPYRIGHT, (2, 116))):
        value = record.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, bytes) and value.strip() and not (directory and directory.text(number)):
            data = value.strip() + b"\x00"
            directory = (directory or Directory("<")).with_tag(number, Tag(2, len(data), data))
    return directory


def _raw_xmp(image: ImageFile.ImageFile) -> bytes | None:
    raw = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    return raw if isinstance(raw, bytes) and raw.strip(b"\x00 \n") else None


def _read_dpi(image: ImageFile.ImageFile) -> tuple[float, float] | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile) and 282 not in image.tag_v2:
        return None  # Pillow then reports 1 x 1
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _read_text(image: ImageFile.ImageFile) -> dict[str, str]:
    text: dict[str, str] = {}
    for key, value in getattr(image, "text", {}).items():
        if isinstance(value, str) and not _is_embedded(key):
            text[key] = str(value)
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and comment.strip(b"\x00 "):
        text["Comment"] = comment.rstrip(b"\x00").decode("utf-8", "replace")
    return text


def _read_aspect(image: ImageFile.ImageFile) -> tuple[int, int] | None:
    """Pixel aspect of files that give resolutions without a unit (PNG, JFIF, TIFF)."""
    found: Any = None
    if image.format == "PNG":
        found = image.info.get("aspect")
    elif image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") == 0:
        found = image.info.get("jfif_density")
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(296) == 1:
        across, down = (float(image.tag_v2.get(number, 1)) for number in (282, 283))
        found = (round(across * 1000), round(down * 1000)) if across != down else None
    if not isinstance(found, tuple) or len(found) != 2 or not all(0 < int(value) < 1 << 31 for value in found):
        return None
    across, down = (int(value) for value in found)
    return (across, down) if across != down else None


def _read_png_text(image: ImageFile.ImageFile, file: BinaryIO) -> tuple[Chunk, ...]:
    if image.format != "PNG":
        return ()
    return tuple(chunk for chunk in read_chunks(file, TEXT_CHUNKS) if not _is_embedded(keyword(chunk[1])))


def _is_embedded(key: str) -> bool:
    """Whether a text is another kind of metadata in disguise, which is read as such."""
    return key.startswith(("Raw profile type", "XML:com.adobe.xmp"))
