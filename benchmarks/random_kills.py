"""Stop commands at random moments, run them again, and compare with what they make when nobody disturbs them.

    python benchmarks/random_kills.py --kills 10 [--pictures DIR] [--only fit,verify]

Every command meets SIGKILL, SIGINT and SIGTERM, ``--kills`` times each, at moments spread over the time that it takes.
After every stop: no original was touched, and no file that stands there is half-written. SIGINT and SIGTERM have to
give exit code 130 and say how to go on, unless the command was done already. Then the same command is given until it
ends by itself, and what it leaves must be the same, byte for byte but for the clock. Needs fork: one process loads
everything, and each command runs in a child of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

SIGNALS: Final = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
_OF_THE_CLOCK: Final = ("created", "wall_seconds", "seconds", "reused_cells", "timing", "plan_hash", "command")
_TINY: Final = ("--resolution", "16", "--device", "cpu", "--workers", "2")
_STATE: Final = re.compile(r"\.bitterant-(?:tmp-|state\.)")
#: Seconds that a command may take to finish the files in hand.
_PATIENCE: Final = 120.0


@dataclass(frozen=True)
class Case:
    """A command that is stopped.

    Attributes:
        words: the command; ``{source}``, ``{out}`` and ``{kit}`` are paths.
        leaves: what it makes, below its own folder.
        again: a further run of the finished command says this and gives 0; empty where that is another matter.
        codes: exit codes of a run that nobody stops.
    """

    words: tuple[str, ...]
    leaves: str = "out"
    again: str = ""
    codes: tuple[int, ...] = (0,)


_EMN: Final = ("--set", "rounds=1", "--granularity", "class")
CASES: Final = {
    "protect emn": Case(("protect", "{kit}/tiny", "{out}", "--method", "emn", *_TINY, *_EMN), again="Nothing to do"),
    "protect texture": Case(  # with a key, or no two runs would be alike
        ("protect", "{source}", "{out}", "--method", "texture", "--key-file", "{kit}/key"), again="Nothing to do"
    ),
    "protect beside": Case(
        ("protect", "{source}", "{out}/copies", "--method", "texture", "--key-file", "{kit}/key",
         "--records", "beside"),
        again="Nothing to do",
    ),
    "fit": Case(("fit", "{kit}/tiny", "{out}.bank", "--method", "emn", *_TINY, *_EMN), "out.bank", "Nothing to do"),
    "apply": Case(("apply", "{source}", "{out}", "--bank", "{kit}/x.bank"), again="Nothing to do"),
    "t2ue apply": Case(
        ("t2ue", "apply", "{source}", "{kit}/x.noise.safetensors", "--out", "{out}", "--map", "{kit}/request.map.json")
    ),
    "publish": Case(("publish", "{kit}/protected", "{out}")),
    "verify": Case(
        ("verify", "{kit}/few", "{kit}/noisy", "--test", "{kit}/held", "--report", "{out}", "--preset", "smoke",
         "--seeds", "2", *_TINY),
        codes=(0, 4, 5),
    ),
}  # fmt: skip


@dataclass
class Tally:
    """What the stops of one command by one signal came to."""

    stops: int = 0
    early: int = 0
    late: int = 0
    resumed: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list, repr=False)


def load_everything() -> None:
    """Import what commands import, once for all children."""
    for package in ("records", "imaging", "surrogates", "protect", "attacks", "cli"):
        place = importlib.import_module(f"bitterant.{package}")
        for found in pkgutil.walk_packages(place.__path__, f"bitterant.{package}."):
            importlib.import_module(found.name)


def begin(words: tuple[str, ...], said: Path) -> int:
    """Run a command in a child; what it says goes to a file. Returns the child."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        from bitterant.cli import main

        sys.argv = ["bitterant", *words]  # as the process's own command
        code = main()
    except KeyboardInterrupt:  # before the command could take it; a process of its own would end so, too
        code = 130
        os.write(2, b"Stopped. The same command goes on where it stopped.\n")
    finally:
        os._exit(code)


def end(child: int) -> int:
    """The exit code, or minus the signal; what takes too long is killed and reads as -9."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def timeless(value: Any) -> Any:
    """JSON without what depends on the clock."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in _OF_THE_CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def contents(place: Path) -> dict[str, object]:
    """Everything that stands in a folder, or a file alone: bytes, or for our own tables what is not of the clock."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    found: dict[str, object] = {}
    for path in sorted(files):
        name = path.name if path == place else path.relative_to(place).as_posix()
        if name.endswith(".json"):
            found[name] = timeless(json.loads(path.read_bytes()))
        elif path.name == "bitterant-manifest.jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_bytes().splitlines()]
        elif not name.endswith((".html", "curves.csv")) and not name.startswith("cells/"):  # pages tell the time
            found[name] = path.read_bytes()
    return found


def half_written(place: Path, whole: dict[str, object]) -> list[str]:
    """What stands there although the finished command leaves something else; what is under way does not count."""
    wrong = []
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    for path in files:
        name = path.name if path == place else path.relative_to(place).as_posix()
        if (
            _STATE.search(name)
            or name.startswith("cells/")
            or name.endswith((".html", ".jsonl", ".lock", "curves.csv"))
        ):
            continue
        found = timeless(json.loads(path.read_bytes())) if name.endswith(".json") else path.read_bytes()
        if name not in whole or whole[name] != found:
            wrong.append(name)
    return wrong


def untouched(folders: list[Path]) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of all originals."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


class Kills:
    """One folder of pictures and all that the commands need, and the runs that are stopped.

    Args:
        place: a scratch folder.
        source: the pictures.
        seed: of the moments.
    """

    def __init__(self, place: Path, source: Path, seed: int) -> None:
        self.place, self.source, self.kit = place, source, place / "kit"
        self.moments = random.Random(seed)
        self.kit.mkdir()
        self._prepare()

    def _words(self, case: Case, out: Path) -> tuple[str, ...]:
        return tuple(word.format(source=self.source, out=out, kit=self.kit) for word in case.words)

    def _run(self, *words: str) -> str:
        said = self.place / "said"
        code = end(begin(words, said))
        if code not in (0, 4, 5):
            raise SystemExit(f"{' '.join(words)}: {code}\n{said.read_text(errors='replace')}")
        return said.read_text(errors="replace")

    def _prepare(self) -> None:
        kit = str(self.kit)
        self._run("protect", str(self.source), f"{kit}/protected", "--method", "texture", "--bank", f"{kit}/x.bank")
        asked = ("--out", f"{kit}/request.jsonl", "--map", f"{kit}/request.map.json", "--key-file", f"{kit}/key")
        self._run("t2ue", "captions", str(self.source), "--yes", *asked)
        self._run("t2ue", "noise", f"{kit}/request.jsonl", "--out", f"{kit}/x.noise.safetensors")
        for number, path in enumerate(sorted(self.source.rglob("*.png"))):
            few, noisy, held = (self.kit / name / path.relative_to(self.source) for name in ("few", "noisy", "held"))
            for copy in (few, noisy, held):
                copy.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(path).convert("RGB")).copy()
            Image.fromarray(pixels).save(few)
            Image.fromarray(pixels[:, ::-1]).save(held)  # others, to test on
            if number % 10 < 4:
                tiny = self.kit / "tiny" / path.relative_to(self.source)
                tiny.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tiny)
            pixels[number % len(pixels)] ^= 1
            Image.fromarray(pixels).save(noisy)

    def measure(self, name: str, case: Case, kills: int, tally: Callable[[str, signal.Signals], Tally]) -> None:
        """Stop one command by every signal, so often each."""
        out = self.place / "whole" / "out"
        out.parent.mkdir()
        begun = time.monotonic()
        self._run(*self._words(case, out))
        duration = time.monotonic() - begun
        whole = contents(out.parent / case.leaves)
        shutil.rmtree(out.parent)
        originals = untouched([self.source, self.kit])
        print(f"{name}: {len(whole)} files in {duration:.1f} s", flush=True)
        for number in SIGNALS:
            left = kills
            while left > 0:
                row = tally(name, number)
                folder = self.place / "stopped"
                folder.mkdir()
                # Now and then one run is stopped several times.
                for _ in range(min(left, self.moments.choice((1, 1, 2, 3)))):
                    left -= 1
                    self._stop(case, folder, number, duration, whole, row)
                begun = time.monotonic()
                said = self.place / "said"
                words = self._words(case, folder / "out")
                code = end(begin(words, said))
                row.resumed += 1
                row.seconds += time.monotonic() - begun
                found = contents(folder / case.leaves) if (folder / case.leaves).exists() else {}
                if code not in case.codes:
                    row.wrong.append(f"resumed: {code}, {said.read_text(errors='replace')[-600:]}")
                elif found != whole:
                    parts = sorted(part for part in {*found, *whole} if found.get(part) != whole.get(part))
                    row.wrong.append(f"other files: {parts[:5]}")
                elif case.again:
                    code = end(begin(words, said))
                    if code != 0 or case.again not in said.read_text(errors="replace"):
                        row.wrong.append(f"again: {code}, {said.read_text(errors='replace')[-300:]}")
                if untouched([self.source, self.kit]) != originals:
                    row.wrong.append("an original was touched")
                shutil.rmtree(folder)

    def _stop(
        self, case: Case, folder: Path, number: signal.Signals, duration: float, whole: dict[str, object], row: Tally
    ) -> None:
        said = self.place / "said"
        said.write_text("")  # not what an earlier run said, where the signal comes before this one opens it
        before = sorted(folder.rglob("*"))
        child = begin(self._words(case, folder / "out"), said)
        until = time.monotonic() + self.moments.uniform(0.01, 0.98) * duration
        while time.monotonic() < until and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(child, number)
        code = end(child)
        text = said.read_text(errors="replace")
        row.stops += 1
        row.late += code in case.codes
        stopped = code == -number if number == signal.SIGKILL else code == 130 and "goes on" in text
        # A signal may come before the command is there to take it.
        early = not text and code in (130, -signal.SIGTERM) and sorted(folder.rglob("*")) == before
        row.early += early
        if not stopped and not early and code not in case.codes:
            row.wrong.append(f"stopped: {code}, {text[-600:]}")
        leaves = folder / case.leaves
        if leaves.exists() and (half := half_written(leaves, whole)):
            row.wrong.append(f"half-written: {half[:5]}")


def draw(folder: Path) -> None:
    """Some small pictures in two classes, with a caption each."""
    rng = np.random.default_rng(0)
    for number in range(20):
        name = ("cats", "dogs")[number % 2]
        path = folder / name / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(40, 216, (48, 64, 3), np.uint8)).save(path)


def table(tallies: dict[tuple[str, signal.Signals], Tally]) -> str:
    """One row a command and signal."""
    head = ("command", "signal", "stops", "too early", "too late", "resumed", "seconds", "wrong")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (name, number), row in tallies.items():
        mean = f"{row.seconds / max(1, row.resumed):.1f}"
        cells = (name, number.name, row.stops, row.early, row.late, row.resumed, mean, len(row.wrong))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    stops, wrong = (
        sum(count) for count in zip(*((row.stops, len(row.wrong)) for row in tallies.values()), strict=True)
    )
    return "\n".join([*lines, "", f"{stops} stops, {wrong} wrong"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="PNG files in two classes or more; drawn here if left out")
    parser.add_argument("--kills", type=int, default=10, help="of each command by each signal")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", help=f"commands, with commas between them, of: {', '.join(CASES)}")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"no such command: {', '.join(unknown)}; there are: {', '.join(CASES)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    load_everything()
    tallies: dict[tuple[str, signal.Signals], Tally] = {}
    with tempfile.TemporaryDirectory(prefix="bitterant-kills-") as scratch:
        place = Path(scratch)
        source = args.pictures or place / "pictures"
        if args.pictures is None:
            draw(source)
        kills = Kills(place, source, args.seed)
        for name in names:
            kills.measure(
                name, CASES[name], args.kills, lambda name, number: tallies.setdefault((name, number), Tally())
            )
            for (row, number), tally in tallies.items():
                if row == name:
                    print("\n".join([f"{number.name}: {tally}", *tally.wrong]), flush=True)
    print(table(tallies))
    raise SystemExit(1 if any(row.wrong for row in tallies.values()) else 0)


if __name__ == "__main__":
    main()
