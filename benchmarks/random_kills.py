"""Kill ``bitterant protect`` at random moments, resume it, and compare with a run that nobody disturbed.

A process with its own group is started and ended with SIGKILL after a random share of the time that the undisturbed
run took; the same command is then given again until it ends by itself. Every picture must be the same byte for byte,
and the manifest the same but for its ``seconds``.

    python benchmarks/random_kills.py PICTURES --kills 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OWN = ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html")


def command(source: Path, target: Path, extra: list[str]) -> list[str]:
    return [sys.executable, "-m", "bitterant", "protect", str(source), str(target), "--quiet", *extra]


def pictures(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in OWN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def manifest(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / OWN[0]).read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def killed_after(words: list[str], seconds: float) -> bool:
    """Start the command, end it with SIGKILL after so long; False where it was done before."""
    process = subprocess.Popen(words, start_new_session=True)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PICTURES")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", help="further options of protect, after --")
    args = parser.parse_args()
    moments = random.Random(args.seed)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="bitterant-kills-") as place:
        whole = Path(place, "undisturbed")
        begun = time.perf_counter()
        subprocess.run(command(args.source, whole, args.options), check=True)
        duration = time.perf_counter() - begun
        expected, rows = pictures(whole), manifest(whole)
        print(f"undisturbed: {len(expected)} files in {duration:.1f} s", flush=True)
        for number in range(args.kills):
            target = Path(place, f"killed-{number}")
            words = command(args.source, target, args.options)
            share = moments.uniform(0.05, 0.98)
            hit = killed_after(words, share * duration)
            left = len(pictures(target)) if target.exists() else 0
            begun = time.perf_counter()
            subprocess.run(words, check=True)
            again = time.perf_counter() - begun
            same = pictures(target) == expected and manifest(target) == rows
            wrong += not same or not hit
            print(
                f"kill {number + 1} at {share:.0%}: {'killed' if hit else 'was done already'}, {left} files in OUT, "
                f"resumed in {again:.1f} s, {'identical' if same else 'DIFFERENT'}",
                flush=True,
            )
            shutil.rmtree(target)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
