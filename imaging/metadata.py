"""What is said about a picture besides its pixels: which parts are carried over, and which a policy removes.

Never carried over, under any policy, because each can be an unprotected copy of the original: the EXIF thumbnail,
previews inside maker notes and XMP, Photoshop blocks and layers, and further frames of a phone JPEG. Photoshop's old
IPTC record goes with its block; author and copyright in it move to EXIF where EXIF has none.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, Literal
from xml.etree import ElementTree

from PIL import ImageFile, IptcImagePlugin, TiffImagePlugin

from ..errors import ConfigError
from .exif import Directory, Tag, build_exif, parse_exif, read_tiff_tags

__all__ = ["Metadata", "apply_metadata_policy", "read_metadata", "read_orientation"]

_ORIENTATION: Final = 0x0112
_EXIF_DIRECTORY: Final = 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_ARTIST, _COPYRIGHT = 0x013B, 0x8298

# Main-directory tags that survive "private": what shows the picture rightly and whose it is. No host, no free comments.
_PRIVATE_KEEPS: Final = frozenset({270, 271, 272, 282, 283, 296, 305, 306, _ARTIST, _COPYRIGHT, 0x9C9D})
# GPS, maker note, owner name, serial numbers of body and lens, unique image id, user comment, camera serial number.
_PRIVATE_DROPS: Final = (0x8825, 0x927C, 0xA430, 0xA431, 0xA435, 0xA420, 0x9286, 0xC62F)
_RIGHTS_TEXT: Final = ("Copyright", "Author")
_RIGHTS_XMP: Final = (
    "{http://purl.org/dc/elements/1.1/}creator",
    "{http://purl.org/dc/elements/1.1/}rights",
    "{http://ns.adobe.com/photoshop/1.0/}Credit",
    "{http://ns.adobe.com/xap/1.0/rights/}",
    "{http://ns.useplus.org/ldf/xmp/1.0/}",
    "{http://creativecommons.org/ns#}",
    "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about",
)
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# These see bytes from anywhere, so that none may ever go back: repeats are possessive (*+), or have a short end.
_XMP_ORIENTATION: Final = re.compile(
    rb"""(?<=\s)tiff:Orientation\s*+=\s*+["']\s*+(\d)\s*+["']|<tiff:Orientation>\s*+(\d)\s*+</tiff:Orientation>"""
)
_XMP_THUMBNAILS: Final = re.compile(rb"<(/?)([^\s<>/:]{1,64}+):Thumbnails\b")


@dataclass(frozen=True)
class Metadata:
    """What is carried from the original to the protected file.

    Attributes:
        icc: colour profile.
        exif: EXIF block with its ``Exif`` prefix, without orientation and thumbnail.
        xmp: XMP packet, without orientation and thumbnail.
        dpi: horizontal and vertical pixels per inch.
        text: PNG text chunks and the JPEG comment (under ``Comment``).
        png_colour: ``gAMA``, ``cHRM`` and ``sRGB`` chunks of a PNG: name and bytes.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    png_colour: tuple[tuple[bytes, bytes], ...] = ()


def read_orientation(image: ImageFile.ImageFile, file: BinaryIO) -> int:
    """The EXIF orientation, 1..8, of an image opened from ``file``; 1 if none. XMP is asked where EXIF is silent."""
    directory = _read_directory(image, file)
    value = None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(_ORIENTATION)
    elif directory is not None:
        value = directory.number(_ORIENTATION)
    if value is None and (found := _XMP_ORIENTATION.search(_raw_xmp(image) or b"")):
        value = int(found[1] or found[2])
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_metadata(image: ImageFile.ImageFile, file: BinaryIO, width: int, height: int) -> Metadata:
    """Gather the metadata of an image loaded from ``file`` whose size, upright, is ``width`` x ``height`` pixels."""
    directory = _with_iptc_rights(_read_directory(image, file), image)
    exif = None
    if directory is not None:
        exif = build_exif(_with_size(directory.without(_ORIENTATION), width, height))
    return Metadata(
        icc=image.info.get("icc_profile") or None,
        exif=exif,
        xmp=_clean_xmp(_raw_xmp(image)),
        dpi=_read_dpi(image),
        text=_read_text(image),
        png_colour=_read_png_colour(image),
    )


def apply_metadata_policy(metadata: Metadata, policy: Literal["keep", "private", "strip"]) -> Metadata:
    """Remove what the policy does not let through. The colour profile always stays: without it colours change.

    ``keep``: everything :class:`Metadata` holds.
    ``private``: no place, no serial numbers, no maker note, no free comments; author, copyright, licence, camera model,
    exposure and date stay. XMP is cut down to its rights fields, so person names and editing history go too.
    ``strip``: only what the colours mean.

    Raises:
        ConfigError: there is no such policy.
    """
    if policy == "keep":
        return metadata
    if policy == "strip":
        return Metadata(icc=metadata.icc, png_colour=metadata.png_colour)
    if policy != "private":
        raise ConfigError(f"There is no metadata policy named {policy!r}. Known: keep, private, strip.")
    directory = parse_exif(metadata.exif) if metadata.exif else None
    if directory is not None:
        directory = directory.without(*_PRIVATE_DROPS)
        directory = replace(directory, tags={n: t for n, t in directory.tags.items() if n in _PRIVATE_KEEPS})
    return replace(
        metadata,
        exif=build_exif(directory) if directory else None,
        xmp=_rights_of_xmp(metadata.xmp),
        text={key: value for key, value in metadata.text.items() if key in _RIGHTS_TEXT},
    )


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


def _clean_xmp(raw: bytes | None) -> bytes | None:
    """Take orientation and thumbnails out. A packet whose text cannot be searched (UTF-16) is not carried over."""
    if raw is None or b"\x00" in raw.rstrip(b"\x00"):
        return None
    cleaned = _without_thumbnails(_XMP_ORIENTATION.sub(b"", raw.rstrip(b"\x00")))
    return None if cleaned is None or b"GImg:image" in cleaned else cleaned


def _without_thumbnails(xmp: bytes) -> bytes | None:
    """The packet without its ``Thumbnails`` elements; ``None`` where one is not closed."""
    kept: list[bytes] = []
    start = place = depth = 0
    prefix = b""
    while (found := _XMP_THUMBNAILS.search(xmp, place)) is not None:
        place = xmp.find(b">", found.end()) + 1
        if not place:
            return None
        closing, empty = bool(found[1]), xmp[place - 2 : place - 1] == b"/"
        if not depth:
            if closing:
                return None
            kept.append(xmp[start : found.start()])
            depth, prefix = int(not empty), found[2]
        elif found[2] == prefix and not empty:
            depth += -1 if closing else 1
        start = place
    return None if depth else b"".join((*kept, xmp[start:]))


def _rights_of_xmp(xmp: bytes | None) -> bytes | None:
    """An XMP packet that holds the rights fields of another, and nothing else; None if there are none."""
    if xmp is None or b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
        return None
    try:
        # Read as UTF-8 whatever it says of itself: in another encoding a document type could hide from the test above.
        parser = ElementTree.XMLParser(encoding="utf-8")
        tree = ElementTree.fromstring(xmp.strip(b"\x00 \r\n\xef\xbb\xbf"), parser)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    kept = 0
    for description in tree.iter(f"{_RDF}Description"):
        for name in [name for name in description.attrib if not name.startswith(_RIGHTS_XMP)]:
            del description.attrib[name]
        description[:] = [child for child in description if child.tag.startswith(_RIGHTS_XMP)]
        kept += len(description) + sum(1 for name in description.attrib if not name.startswith(_RDF))
    try:
        return ElementTree.tostring(tree, encoding="utf-8") if kept else None
    except RecursionError:  # no honest packet is nested so deeply
        return None


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
        if isinstance(value, str) and not key.startswith(("Raw profile type", "XML:com.adobe.xmp")):
            text[key] = str(value)
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and comment.strip(b"\x00 "):
        text["Comment"] = comment.rstrip(b"\x00").decode("utf-8", "replace")
    return text


def _read_png_colour(image: ImageFile.ImageFile) -> tuple[tuple[bytes, bytes], ...]:
    if image.format != "PNG":
        return ()
    chunks: list[tuple[bytes, bytes]] = []
    if (gamma := image.info.get("gamma")) is not None:
        chunks.append((b"gAMA", struct.pack(">I", round(gamma * 100000))))
    if (points := image.info.get("chromaticity")) is not None:
        chunks.append((b"cHRM", struct.pack(">8I", *(round(point * 100000) for point in points))))
    if (intent := image.info.get("srgb")) is not None:
        chunks.append((b"sRGB", bytes([intent])))
    return tuple(chunks)
