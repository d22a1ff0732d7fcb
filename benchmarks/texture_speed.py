"""What the textures cost: against decoding and encoding the same files with Pillow, in one run, on one thread.

Four parts: Pillow with what a run promises of each file (written beside its place, synced, renamed, read back, decoded
again), the least that any tool takes that promises it; the textures alone (decode, draw, add, encode); a whole
``protect_folder`` (which also hashes, and measures budget, PSNR, SSIM and CIEDE2000); and the fit. Each is timed
several times, in turn; printed are medians and ratios.

    python benchmarks/texture_speed.py --images 3000
    python benchmarks/texture_speed.py --photos CLOTHING/train --repeats 1
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cifar import DEFAULT_FILE, Cifar
from PIL import Image

from bitterant.imaging.codec import decode
from bitterant.imaging.encoding import encode
from bitterant.imaging.perturb import add_delta
from bitterant.protect import TextureBank, fit_folder, load_bank, protect_folder


def recoded(file: Path) -> bytes:
    """Pillow alone: read, decode, encode as PNG."""
    with Image.open(file) as picture:
        picture.load()
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def plain(files: list[Path]) -> None:
    for file in files:
        recoded(file)


def kept(files: list[Path], folder: Path) -> None:
    """The same, and each copy is whole and on disk before it has its name, and then read back and decoded."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        target = folder / file.parent.name / f"{file.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        unnamed = target.with_name(f".{target.name}")
        with unnamed.open("xb") as out:
            out.write(recoded(file))
            out.flush()
            os.fsync(out.fileno())
        unnamed.rename(target)
        with Image.open(io.BytesIO(target.read_bytes())) as picture:
            picture.load()


def textured(files: list[Path], bank: TextureBank) -> None:
    for number, file in enumerate(files):
        picture = decode(file)
        levels = bank.levels_on(picture, f"{file.parent.name}/{number}")
        encode(add_delta(picture, levels, bank.budget), format="PNG")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--photos", type=Path, default=None, help="class folders of photos instead of CIFAR-10")
    parser.add_argument("--work", type=Path, default=Path("build/texture-speed"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    source = args.photos
    if source is None:
        cifar = Cifar(args.data)
        source = cifar.write_folder(args.work / f"clean-{args.images}", *cifar.train(0, args.images))
    files = sorted(path for path in source.glob("*/*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    copies, bank_file = args.work / "copies", args.work / "bank"

    def fit() -> None:
        bank_file.unlink(missing_ok=True)
        fit_folder(source, bank_file, method="texture", device="cpu", workers=1)

    def protect() -> None:
        shutil.rmtree(copies, ignore_errors=True)
        protect_folder(source, copies, method="texture", device="cpu", workers=1)

    args.work.mkdir(parents=True, exist_ok=True)
    fit()
    bank = load_bank(bank_file)
    assert isinstance(bank, TextureBank)
    parts: dict[str, Callable[[], None]] = {
        "Pillow: decode and encode": lambda: plain(files),
        "Pillow, each copy synced, read back and decoded": lambda: kept(files, args.work / "kept"),
        "decode, texture, encode": lambda: textured(files, bank),
        "fit": fit,
        "protect_folder, everything": protect,
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(args.repeats):
        for name, part in parts.items():
            begun = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base, promised, *_ = medians.values()
    print(f"{len(files)} pictures, one thread, medians of {args.repeats}")
    print("| part | seconds | ms a picture | over Pillow | over Pillow that syncs and reads back |")
    print("|---|---|---|---|---|")
    for name, median in medians.items():
        each = 1000 * median / len(files)
        print(f"| {name} | {median:.2f} | {each:.2f} | {median / base:.2f} | {median / promised:.2f} |")


if __name__ == "__main__":
    main()
