"""What ``fuzz.py`` damages: sound files of every kind that bitterant reads, drawn in code, and ways to damage them.

A damaged file depends on its seed and number alone, so that each can be made again from two numbers.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

RIGHTS = "\u00a9 Anna \u738b"
XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" tiff:Orientation="6">'
    "<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-ALLOWED</plus:DataMining><dc:rights><rdf:Alt>"
    f'<rdf:li xml:lang="x-default">{RIGHTS}</rdf:li></rdf:Alt></dc:rights><xmp:Thumbnails>/9j/</xmp:Thumbnails>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()


def exif_block() -> bytes:
    """An EXIF block with tags of every type, a position, a maker note and an interoperability directory."""
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x8298], exif[0x011A] = 6, "Anna", RIGHTS, 72.0
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: bytes(range(200)), 0xA002: 30, 0xA003: 20, 0x9000: b"0232"})
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 0.5), 5: b"\x00"})
    return exif.tobytes()


def iptc_block() -> bytes:
    """Photoshop's resources with an IPTC record: author and copyright."""
    record = b"".join(b"\x1c\x02" + bytes([n]) + struct.pack(">H", 4) + b"Anna" for n in (80, 116))
    return (
        b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">I", len(record)) + record + b"\x00" * (len(record) % 2)
    )


def pictures(seed: int = 0) -> dict[str, bytes]:
    """Small pictures of every format, mode and depth that Pillow writes, with and without metadata."""
    rng = np.random.default_rng(seed)
    rgb = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
    modes = {mode: rgb.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "YCbCr", "LAB")}
    modes["I;16"] = Image.fromarray(rng.integers(0, 65536, (20, 30)).astype(np.uint16))
    modes["flat"] = Image.new("RGB", (64, 48), (90, 120, 30))
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("Copyright", "Anna")
    text.add_text("Author", "Anna" * 400, zip=True)
    text.add_itxt("Comment", RIGHTS, "de", "Kommentar", zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    text.add(b"gAMA", struct.pack(">I", 45455))
    text.add(b"cICP", bytes([9, 16, 0, 1]))
    full: dict[str, Any] = {"exif": exif_block(), "icc_profile": icc, "dpi": (300, 72)}
    ways: dict[str, list[dict[str, Any]]] = {
        "PNG": [{}, {**full, "pnginfo": text}, {"transparency": 3}, {"bits": 2}],
        "JPEG": [{}, {**full, "xmp": XMP, "comment": b"hello"}, {"progressive": True, "subsampling": 2}],
        "TIFF": [
            *({"compression": kind} for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")),
            {"exif": exif_block(), "icc_profile": icc, "tiffinfo": {700: XMP, 33432: "Anna"}},
            {"big_tiff": True}, {"save_all": True, "append_images": [rgb]},
        ],
        "WEBP": [
            {"lossless": True}, {"quality": 50}, {"exif": exif_block(), "icc_profile": icc, "xmp": XMP},
            {"save_all": True, "append_images": [modes["flat"].resize((30, 20))]},
        ],
        "GIF": [{}, {"save_all": True, "append_images": [modes["P"]]}],
        "BMP": [{}, {"dpi": (300, 72)}],
        "PPM": [{}],
        "JPEG2000": [{}, {"no_jp2": True}],
        "AVIF": [{}, {"exif": exif_block(), "icc_profile": icc, "xmp": XMP}],
    }  # fmt: skip
    found: dict[str, bytes] = {}
    for fmt, options in ways.items():
        for mode, image in modes.items():
            for number, option in enumerate(options):
                buffer = io.BytesIO()
                try:
                    image.save(buffer, fmt, **option)
                except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError):
                    continue  # a format that does not hold this mode, or is not built in
                found[f"{fmt}-{mode}-{number}"] = buffer.getvalue()
    jpeg = found["JPEG-RGB-1"]
    block = iptc_block()
    found["JPEG-iptc"] = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    found["JPEG-stacked"] = jpeg + found["JPEG-L-0"]
    found["BMP-runs"] = run_length_bmp(300, 40, b"\xff\x01\x2d\x02\0\0" * 40 + b"\0\1")
    buffer = io.BytesIO()
    rgb.save(buffer, "TIFF", compression="jpeg")
    found["TIFF-jpeg"] = buffer.getvalue()
    found["TIFF-tiles"] = tiled_tiff(40, 40, 16)
    found["PPM-text"] = b"P3\n# words\n3 2\n255\n" + b"1 2 3 " * 6
    found["PPM-deep"] = b"P5 3 2 4095 " + bytes(12)
    return found


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """An 8-bit BMP with these run-length codes for pixels."""
    head = struct.pack("<2sIHHI", b"BM", 1078 + len(runs), 0, 0, 1078)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 2835, 2835, 256, 0)
    return head + bytes(1024) + runs


def tiled_tiff(
    width: int, height: int, side: int, *, tiles: int | None = None, size: tuple[int, int] | None = None
) -> bytes:
    """A grey TIFF in zlib-packed tiles of ``side`` px, all of which are the same bytes.

    Args:
        width: of the picture.
        height: of the picture.
        side: of a tile.
        tiles: how many there are, if not as many as are needed.
        size: of a tile as the file claims it, if that is another.
    """
    count = -(-width // side) * -(-height // side) if tiles is None else tiles
    body = zlib.compress(bytes(side * side), 9)
    across, down = size or (side, side)
    place = 8 + len(body)
    offsets, lengths = (8, len(body)) if count == 1 else (place, place + 4 * count)
    lists = b"" if count == 1 else struct.pack("<I", 8) * count + struct.pack("<I", len(body)) * count
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, across), (323, 4, 1, down), (324, 4, count, offsets), (325, 4, count, lengths)]
    out = b"II*\0" + struct.pack("<I", place + len(lists)) + body + lists + struct.pack("<H", len(tags))
    return out + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)


# ---------------------------------------------------------------------------------------------- ways to damage a file
Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

_SIZES: Final = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31)
_NUMBERS: Final = (*_SIZES, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_MOST: Final = 1 << 19


def damage_bytes(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to eight edits anywhere, more often near the start, where lengths and sizes are."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        at = rng.randrange(min(len(out), rng.choice((32, 512, len(out)))))
        kind = rng.randrange(9)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind in (2, 3):
            width = rng.choice((2, 4, 4, 8))
            number = rng.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))[: len(out) - at]
        elif kind == 4:
            del out[at : at + rng.choice((1, 2, 4, 12, 100))]
        elif kind == 5:
            out[at:at] = out[at : at + rng.choice((1, 12, 100))] * rng.choice((1, 1, 5, 50))
        elif kind == 6:
            del out[at:]
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at : at + rng.choice((0, 20))] = other[start : start + rng.choice((4, 40, 400))]
        else:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 30)))
    return bytes(out[:_MOST])


def damage_picture(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage that reaches behind check sums and lengths: chunks of a PNG, directories of a TIFF or EXIF block."""
    if rng.random() < 0.5:
        if data.startswith(b"\x89PNG"):
            return _damage_png(rng, data, others)
        start = data.find(b"Exif\0\0") + 6
        start = 0 if data[:4] in (b"II*\0", b"MM\0*") else start
        if start != 5:
            return _damage_directory(rng, data, start)
    return damage_bytes(rng, data, others)


def _damage_png(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    chunks = [[name, body] for name, body in png_chunks(data)]
    for _ in range(rng.choice((1, 1, 2)) if chunks else 0):
        at = rng.randrange(len(chunks))
        name, body = chunks[at]
        kind = rng.randrange(6)
        if kind <= 1:
            chunks[at] = [name, damage_bytes(rng, body, others)]
        elif kind == 2:
            chunks[at] = [rng.choice((b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"tRNS", b"fcTL", b"acTL")), body]
        elif kind == 3:
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(at))
        elif kind == 4:
            chunks[at:at] = [chunks[at]] * rng.choice((1, 50))
        else:  # what is packed, damaged and packed again
            try:
                chunks[at] = [name, zlib.compress(damage_bytes(rng, zlib.decompress(body), others))]
            except zlib.error:
                packed = zlib.compress(bytes(rng.choice((10, 1 << 16, 1 << 22))))
                chunks[at] = [rng.choice((b"zTXt", b"iCCP")), b"key\0\0" + packed]
    return png_file(chunks)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of a sound PNG file."""
    place = 8
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def png_file(chunks: Sequence[Sequence[bytes]]) -> bytes:
    """A PNG file of these chunks, with sound check sums."""
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _damage_directory(rng: random.Random, data: bytes, start: int) -> bytes:
    """Another tag, type, count or value in some entries of the first directory, or what it leads to."""
    out = bytearray(data)
    order = "<" if data[start : start + 1] == b"I" else ">"
    try:
        (place,) = struct.unpack_from(order + "I", data, start + 4)
        (count,) = struct.unpack_from(order + "H", data, start + place)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = start + place + 2 + 12 * rng.randrange(count + 1)
            kind = rng.randrange(5)
            if kind == 0:
                tags = (256, 257, 258, 259, 262, 273, 277, 279, 284, 317, 320, 322, 324, 325, 338, 339, 347, 700, 34675)
                struct.pack_into(order + "H", out, at, rng.choice((*tags, 0x8769, 0x8825, 0xA005, 33723)))
            elif kind == 1:
                struct.pack_into(order + "H", out, at + 2, rng.choice((*range(20), 65535)))
            elif kind == 2:
                struct.pack_into(order + "I", out, at + 4, rng.choice(_SIZES) & 0xFFFFFFFF)
            elif kind == 3:
                struct.pack_into(order + "I", out, at + 8, rng.choice((*_SIZES, place, 8)) & 0xFFFFFFFF)
            else:
                struct.pack_into(order + "H", out, start + place, rng.choice((0, 1, count + 1, 65535)))
    except (struct.error, IndexError):
        return damage_bytes(rng, data, [data])
    return bytes(out)


_ODD: Final = (
    *(
        "",
        " ",
        "\x00",
        "\x1b[2J",
        "a\nb",
        "\ud800",
        "\u202e",
        "../../x",
        "/etc/passwd",
        "NaN",
        "a" * 300,
        "-1",
        "1e999",
    ),
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 1e-320, 255, 1 << 31, 1 << 63, 1 << 200, [], {}, [[]]),
    *([None], {"": None}, [1, 2, 3], {"a": {"a": {"a": 1}}}),
)
_RAW: Final = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"[" * 60 + b"]" * 60,
    b'"\\ud800"',
    b"{}",
)


def damage_json(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Another value, name or shape somewhere in a JSON text, or damage to its bytes."""
    try:
        value = json.loads(data)
    except ValueError:
        return damage_bytes(rng, data, others)
    if rng.random() < 0.2:
        return damage_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = damage_value(rng, value)
    text = json.dumps(value).encode()
    if rng.random() < 0.15:
        numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?", text))
        if numbers:
            found = rng.choice(numbers)
            text = text[: found.start()] + rng.choice(_RAW) + text[found.end() :]
    return text


def damage_value(rng: random.Random, value: Any) -> Any:
    """The value with one change somewhere in it."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(_ODD)
    at = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if rng.random() < 0.25:
        if isinstance(value, dict):
            kept = {name: part for name, part in value.items() if name != at}
            return kept if rng.random() < 0.5 else {**kept, rng.choice(("", "x", "format", str(at) * 2)): value[at]}
        return [*value[:at], *[value[at]] * rng.choice((0, 2, 9)), *value[at + 1 :]]
    part = value[at]
    if isinstance(part, str) and part[:1] in "[{" and rng.random() < 0.7:  # JSON within JSON
        try:
            new: Any = json.dumps(damage_value(rng, json.loads(part)))
        except ValueError:
            new = rng.choice(_ODD)
    else:
        new = damage_value(rng, part)
    if isinstance(value, dict):
        return {**value, at: new}
    return [*value[:at], new, *value[at + 1 :]]


def damage_lines(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A file of lines: one of them damaged as JSON or as text, doubled, dropped or moved."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind <= 1:
        lines[at] = damage_json(rng, lines[at], others)
    elif kind == 2:
        lines[at] = damage_text(rng, lines[at], others)
    elif kind == 3:
        lines[at:at] = [lines[at]] * rng.choice((1, 40))
    else:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    return b"\n".join(lines)


_TOKENS: Final = (
    *(
        b'"',
        b'""',
        b"'",
        b",",
        b";",
        b"\t",
        b"\r",
        b"\n",
        b"=",
        b"[",
        b"]",
        b"{",
        b"}",
        b"#",
        b"\\",
        b"\0",
        b"\xff\xfe",
    ),
    *(
        "\ufeff".encode(),
        "\u202e".encode(),
        b"nan",
        b"inf",
        b"1e999",
        b"-1",
        b"true",
        b"0x",
        b"9" * 400,
        b"../../a.png",
    ),
    *(b"[[" * 60, b"file_name", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"<!--", b"-->", b"<a" + b" x='y'" * 99),
    *(b"]]>", b"<![CDATA[", b"<?x?>", b"xmlns:a='b'", b"<a>" * 120, b"1979-05-27T07:32:00Z"),
)


def damage_text(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Words, numbers and signs put in, taken out or swapped for others."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.3:
            data = damage_bytes(rng, data, others)
            continue
        words = [found.span() for found in re.finditer(rb"\w+|[^\w\s]", data)] or [(0, 0)]
        start, end = rng.choice(words)
        first, last = rng.choice(words)
        new = rng.choice((rng.choice(_TOKENS), data[first:last], data[start:end] * 2, b""))
        data = data[:start] + new + data[end if rng.random() < 0.6 else start :]
    return data[:_MOST]


def damage_tensors(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A safetensors file: its head damaged as JSON with a sound length, or any of its bytes."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.25 or not 0 < length <= len(data) - 8:
        return damage_bytes(rng, data, others)
    try:
        head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    except ValueError:  # damaged twice
        return damage_bytes(rng, data, others)
    if isinstance(head, dict) and rng.random() < 0.7:  # what it says of itself
        head = {**head, "__metadata__": damage_value(rng, head.get("__metadata__"))}
        told = head["__metadata__"]
        if isinstance(told, dict) and rng.random() < 0.8:  # as text, which is all that the format holds
            head["__metadata__"] = {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()
            }
    else:
        head = damage_value(rng, head)
    if rng.random() < 0.3:
        body = damage_bytes(rng, body, others)[: len(body)].ljust(len(body), b"\xff")
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
