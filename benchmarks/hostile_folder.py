"""Protect a folder that was made to do harm: what it costs, and whether the good pictures in it come through.

    python benchmarks/hostile_folder.py [--keep DIR] [-- OPTIONS OF PROTECT]

The folder holds bombs (files that claim, or unpack to, much more than they hold), loops, files cut off, things that are
no files, and names that act on terminals. ``protect`` has to finish with exit code 1 (some files failed), protect every
good picture, and stay small. Printed: CPU seconds and the peak of memory of the whole command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import fuzz_corpus as corpus
import numpy as np
from PIL import Image
from process_tree import watching

CPU_SECONDS = 120
PEAK_MIB = 2048
GOOD = 6


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def photo(seed: int, side: int = 96) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(40, 216, (side // 8, side // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def zeros(count: int) -> bytes:
    """So many zero bytes, packed; made in pieces."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), count - start)]) for start in range(0, count, len(block))]
    return b"".join([*parts, packer.flush()])


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 0,
    body: bytes | None = None,
    more: Sequence[Sequence[bytes]] = (),
) -> bytes:
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = [[b"PLTE", bytes(range(6))]] if colour == 3 else []
    data = zeros((1 + (width * bands * depth + 7) // 8) * height) if body is None else body
    return corpus.png_file([[b"IHDR", head], *palette, *more, [b"IDAT", data], [b"IEND", b""]])


def pngs() -> Iterator[tuple[str, bytes]]:
    small = zeros(9 * 8)
    yield "claims-900-megapixels.png", png(30_000, 30_000, body=small)
    yield "grey-196-megapixels.png", png(14_000, 14_000)
    yield "rgb-196-megapixels.png", png(14_000, 14_000, colour=2)
    yield "palette-196-megapixels.png", png(14_000, 14_000, depth=1, colour=3)
    yield "deep-196-megapixels.png", png(14_000, 14_000, depth=16)
    yield "alpha-100-megapixels.png", png(10_000, 10_000, colour=6)
    yield "one-row.png", png(190_000_000, 1)
    yield "one-column.png", png(1, 16_000_000)
    yield "largest-sides.png", png((1 << 31) - 1, (1 << 31) - 1, body=small)
    yield "no-size.png", png(0, 8, body=small)
    yield "ztxt-bomb.png", png(8, 8, body=small, more=[[b"zTXt", b"Comment\0\0" + zeros(1 << 30)]])
    yield "ztxt-thousand.png", png(8, 8, body=small, more=[[b"zTXt", b"Comment\0\0" + zeros(1 << 20)]] * 1000)
    yield "itxt-bomb.png", png(8, 8, body=small, more=[[b"iTXt", b"Comment\0\1\0\0\0" + zeros(1 << 30)]])
    yield "icc-bomb.png", png(8, 8, body=small, more=[[b"iCCP", b"icc\0\0" + zeros(1 << 30)]])
    yield "exif-loop.png", png(8, 8, body=small, more=[[b"eXIf", exif_loop()]])
    yield "exif-counts.png", png(8, 8, body=small, more=[[b"eXIf", exif_counts()]])
    yield "chunks.png", png(8, 8, body=small, more=[[b"tEXt", b"a\0b"]] * 200_000)
    yield "xmp-entities.png", png(8, 8, body=small, more=[[b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + laughs()]])
    yield "xmp-deep.png", png(8, 8, body=small, more=[[b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a>" * 300_000]])
    frames = [[b"acTL", struct.pack(">II", 10_000, 0)]]
    yield "ten-thousand-frames.png", png(8, 8, body=small, more=frames)
    sound = saved(photo(1), "PNG")
    yield "cut-off.png", sound[: len(sound) // 2]
    yield "changed.png", sound[:-200] + bytes(100) + sound[-100:]
    yield "endless-tail.png", sound + bytes(5 << 20)


def exif_loop() -> bytes:
    """Directories that lead to each other, and to themselves."""
    entries = [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), (0x014A, 4, 1, 8)]
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *e) for e in entries) + b"\x08\0\0\0"
    )


def exif_counts() -> bytes:
    """Tags of billions of values, and thousands that share one megabyte."""
    entries = [struct.pack("<HHII", 270 + i, kind, 0xFFFFFFFF, 8) for i, kind in enumerate((1, 2, 5, 12))]
    entries += [struct.pack("<HHII", 40_000 + i, 1, 1 << 19, 64) for i in range(5000)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4 + (1 << 19))


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    return f"<!DOCTYPE x [{entities}]><x>&a11;</x>".encode()


def jpegs() -> Iterator[tuple[str, bytes]]:
    sound = saved(photo(2), "JPEG")
    frame = sound.index(b"\xff\xc0")
    yield "claims-4-gigapixels.jpg", sound[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + sound[frame + 9 :]
    yield "flat-190-megapixels.jpg", flat_jpeg(13_784)
    yield "thousands-of-scans.jpg", many_scans(6000, 3000)
    yield "cut-off.jpg", sound[: len(sound) // 2]
    for name, block in (("loop", exif_loop()), ("counts", exif_counts()[:65_000])):
        yield f"exif-{name}.jpg", sound[:2] + segment(0xE1, b"Exif\0\0" + block) + sound[2:]
    yield "segments.jpg", sound[:2] + segment(0xE1, b"Exif\0\0" + exif_loop()) * 20_000 + sound[2:]
    profile = b"ICC_PROFILE\0"
    yield (
        "icc-parts.jpg",
        sound[:2]
        + b"".join(segment(0xE2, profile + bytes([n, 255]) + bytes(60_000)) for n in range(1, 256))
        + sound[2:],
    )
    yield "mpf-loop.jpg", sound[:2] + segment(0xE2, b"MPF\0" + exif_loop()) + sound[2:]
    yield "photoshop.jpg", sound[:2] + segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff") + sound[2:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def flat_jpeg(side: int) -> bytes:
    """A grey picture of one value, which packs best of all."""
    strip = saved(Image.new("L", (side, 8)), "JPEG", quality=10)
    frame, scan = strip.index(b"\xff\xc0"), strip.index(b"\xff\xda")
    head = strip[: frame + 5] + struct.pack(">HH", side, side) + strip[frame + 9 : scan]
    return head + strip[scan : scan + 10] + bytes(side // 8 * (side // 8) * 2 // 8) + b"\xff\xd9"


def many_scans(side: int, scans: int) -> bytes:
    """A progressive picture whose every scan is empty, and has to be gone through all the same."""
    sound = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    frame, first = sound.index(b"\xff\xc2"), sound.index(b"\xff\xda")
    head = sound[: frame + 5] + struct.pack(">HH", side, side) + sound[frame + 9 : first]
    table = segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")  # one code: the next 2^14 + blocks are empty
    scan = segment(0xDA, b"\1\1\0\1\x3f\0")
    return head + table + (scan + bytes(200)) * scans + b"\xff\xd9"


def tiffs() -> Iterator[tuple[str, bytes]]:
    sound = saved(photo(3), "TIFF", compression="tiff_adobe_deflate")
    yield "cut-off.tif", sound[: len(sound) // 2]
    for name, loop in (("chain", False), ("loop", True)):
        yield f"pages-{name}.tif", page_chain(200_000, loop=loop)
    value = bytes(1 << 20)
    entries = b"".join(struct.pack("<HHII", 1000 + i, 1, len(value), 8) for i in range(5000))
    yield (
        "shared-value.tif",
        b"II*\0" + struct.pack("<I", 8 + len(value)) + value + struct.pack("<H", 5000) + entries + bytes(4),
    )
    yield "tile-larger-than-picture.tif", corpus.tiled_tiff(16, 16, 16, size=(60_000, 60_000))
    yield "tile-of-4-gigapixels.tif", corpus.tiled_tiff(16, 16, 16, size=(1 << 31, 1 << 31))
    yield "tiles-of-one-row.tif", corpus.tiled_tiff(4000, 4000, 16, size=(16, 16))
    yield "tiles-missing.tif", corpus.tiled_tiff(12_000, 12_000, 16, tiles=1)
    yield "tiles-196-megapixels.tif", corpus.tiled_tiff(14_000, 14_000, 2000)
    big = struct.pack("<HHQ", 256, 4, 1 << 60) + bytes(8)
    yield "bigtiff-counts.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + big + bytes(8)
    yield "claims-196-megapixels.tif", corpus.tiled_tiff(14_000, 14_000, 14_000, tiles=1)


def page_chain(count: int, *, loop: bool) -> bytes:
    """A TIFF of so many empty pages."""
    return b"II*\0\x08\0\0\0" + b"".join(
        struct.pack("<HI", 0, 8 + 6 * (n + 1) if n + 1 < count else 8 * loop) for n in range(count)
    )


def others() -> Iterator[tuple[str, bytes]]:
    yield "runs.bmp", corpus.run_length_bmp(8_300_000, 24, b"\x14\x01\0\0" * 24 + b"\0\1")
    yield "runs-high.bmp", corpus.run_length_bmp(24, 8_300_000, b"\0\1")
    yield "sides.bmp", b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 1 << 30, -(1 << 30), 1, 24, 0, 0, 0, 0, 0, 0)
    yield "sides.ppm", b"P6 9999999999 9999999999 255 " + bytes(10)
    yield "claims-196-megapixels.ppm", b"P6 14000 14000 255 " + bytes(10)
    yield "words.ppm", b"P3 2000 2000 255 " + b"1 " * 500
    yield "comment.ppm", b"P2\n#" + b"x" * (20 << 20) + b"\n2 2 255 1 2 3 4"
    yield "flat-196-megapixels.webp", saved(Image.new("RGB", (14_000, 14_000)), "WEBP", lossless=True, method=0)
    animation = saved(photo(4, 16), "WEBP", save_all=True, append_images=[photo(5, 16)] * 300, method=0)
    yield "frames.webp", animation
    yield "chunks.webp", webp_of_chunks(50_000)
    frames = [Image.new("P", (1, 1), n % 2) for n in range(10_000)]
    yield "ten-thousand-frames.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "flat-196-megapixels.jp2", jpeg2000_of(14_000)
    with contextlib.suppress(OSError, KeyError):
        flat = bytearray(saved(Image.new("RGB", (64, 64)), "AVIF"))
        size = flat.index(b"ispe") + 8
        flat[size : size + 8] = struct.pack(">II", 14_000, 14_000)
        yield "claims-196-megapixels.avif", bytes(flat)


def webp_of_chunks(count: int) -> bytes:
    """A picture with so many chunks that nobody knows."""
    body = saved(photo(6, 16), "WEBP", lossless=True)[12:]
    body += b"junk\2\0\0\0xx" * count
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg2000_of(side: int) -> bytes:
    """A code stream of another size than its tiles fill."""
    data = bytearray(saved(Image.new("L", (16, 16)), "JPEG2000", no_jp2=True))
    struct.pack_into(">II", data, 8, side, side)
    return bytes(data)


NAMES = (
    "esc\x1b[2Jape.png", "new\nline.png", "right\u202egnp.png", "<img src=x onerror=alert(1)>.png", "-rf.png",
    "a'b\"c.png", "bad-\udcff-bytes.png", "n" * 251 + ".png", "%s%n{0}[bold].png",
)  # fmt: skip


def make_hostile(root: Path) -> list[str]:
    """Draw the folder.

    Returns:
        The good pictures in it, which have to come through.
    """
    good = []
    for number in range(GOOD):
        path = root / ("cats", "dogs")[number % 2] / f"good-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(10 + number).save(path)
        good.append(path)
    for number, name in enumerate(NAMES):
        path = root / "cats" / name
        photo(30 + number).save(path, "PNG")
        good.append(path)
    bad = root / "dogs"
    for draw in (pngs, jpegs, tiffs, others):
        for name, data in draw():
            (bad / name).write_bytes(data)
    (bad / "empty.png").touch()
    for name, head in (
        ("sparse.png", b"\x89PNG\r\n\x1a\n"),
        ("sparse.webp", b"RIFF\xff\xff\xff\xffWEBP"),
        ("sparse.txt", b"a"),
    ):
        with (bad / name).open("wb") as file:
            file.write(head)
            file.truncate(6 << 30)
    (bad / "metadata.jsonl").write_bytes(
        b'{"file_name": "good-1.png", "text": "' + b"x" * (30 << 20) + b'"}\n' + b"[" * 100_000
    )
    (bad / "metadata.csv").write_bytes(b"file_name,text\n" + b'"' * 1_000_001 + b"\n")
    (bad / "folder.png").mkdir()
    os.mkfifo(bad / "pipe.png")
    with contextlib.suppress(OSError):
        os.mknod(bad / "device.png", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # an endless file of zeros
    here = Path.cwd()
    try:
        os.chdir(bad)  # the path of a socket may have a hundred bytes
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.png")
    finally:
        os.chdir(here)
    (bad / "loop.png").symlink_to("loop.png")
    (bad / "up").symlink_to("..")
    (bad / "zeros.png").symlink_to("/dev/zero")
    (bad / "outside.png").symlink_to("/etc/passwd")
    deep = bad
    for _ in range(60):
        deep /= "d" * 20
    deep.mkdir(parents=True)
    (deep / "cut.png").write_bytes(b"\x89PNG")
    return [path.relative_to(root).as_posix() for path in good]


def protect(source: Path, output: Path, options: list[str]) -> tuple[int, float, float, float, str]:
    """Exit code, CPU seconds, peak in MiB, wall seconds, and what was said."""
    words = [sys.executable, "-m", "bitterant", "protect", str(source), str(output), "--method", "texture", *options]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stderr=said, stdout=subprocess.DEVNULL)
        with watching(process.pid) as seen:
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    peak = max(used.ru_maxrss << 10, seen.peak) / 2**20  # with the processes that decode large files
    return process.returncode, used.ru_utime + used.ru_stime, peak, time.monotonic() - begun, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="draw the folder here, protect it, and leave both")
    parser.add_argument("options", nargs="*", help="further options of protect, after --")
    args = parser.parse_args()
    place = args.keep or Path(tempfile.mkdtemp(prefix="bitterant-hostile-"))
    try:
        # In a process of its own: what this one had held at most would count as the peak of the command that it starts.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as drawing:
            good = drawing.submit(make_hostile, place / "hostile").result()
        count = sum(len(names) for _, _, names in os.walk(place / "hostile"))
        code, cpu, peak, wall, said = protect(place / "hostile", place / "out", args.options)
        manifest = place / "out" / "bitterant-manifest.jsonl"
        rows = [json.loads(line) for line in manifest.read_bytes().splitlines()] if manifest.exists() else []
        for row in sorted(rows, key=lambda row: -row["seconds"]):
            print(f"{row['seconds']:7.2f} s  {row['status']:9}  {row['source'][-60:]!r}: {row['reason'] or ''}")
        came = {row["source"] for row in rows if row["status"] == "protected"}
        told = [json.loads(json.dumps(name).replace("\\udcff", "\\udcff")) for name in good]
        lost = [name for name in told if name not in came]
        acting = sum(character in said for character in "\x1b\u202e")
        print(f"{count} entries: {dict(Counter(row['status'] for row in rows))}, exit code {code}")
        print(f"{cpu:.1f} s of CPU, {wall:.1f} s, peak {peak:.0f} MiB; good pictures lost: {lost or 'none'}")
        if code != 1 or acting or "Traceback" in said or not rows:
            print(said[-3000:])
        wrong = code != 1 or lost or acting or cpu > CPU_SECONDS or peak > PEAK_MIB
        raise SystemExit(1 if wrong else 0)
    finally:
        if args.keep is None:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
