"""How long many machines take for a million and a thousand million pictures, and what stops them from being faster.

Protection in shards, each a folder of its own that is written with one bank, is independent work: a driver hands shards
to cores and notes what is done. This simulates that schedule, event by event: nodes with cores, shards whose times
scatter, nodes that fail and come back, and a driver that serves one core at a time. The times it starts from are
measured here (in seconds of CPU, so a busy machine does no harm) or given; what a cluster is like is given.

    python benchmarks/scale_simulation.py
    python benchmarks/scale_simulation.py --pictures 1e9 --nodes 1000 --shard 10000 --days-between-failures 10
    python benchmarks/scale_simulation.py --picture-seconds 0.2 --fixed-seconds 0.5 --driver-seconds 0.002 --megabytes 3
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

#: Kinds of events, in the order in which those of one moment happen.
FAIL, DONE, BACK, AGAIN = range(4)
_MOST_FAILURES = 10_000


@dataclass(frozen=True)
class Costs:
    """What one picture and one shard take.

    Attributes:
        picture: seconds of one core a picture.
        fixed: seconds of one core a shard, beside its pictures.
        driver: seconds that the driver is busy with one shard: it takes a result, notes it, hands out the next shard.
        megabytes: read and written a picture, of all files together.
        copy_megabytes: of the finished copy.
        scatter: standard deviation of the time of a picture, over its mean.
    """

    picture: float
    fixed: float
    driver: float
    megabytes: float
    copy_megabytes: float
    scatter: float = 1.0


@dataclass(frozen=True)
class Cluster:
    """Who does the work.

    Attributes:
        nodes: machines.
        cores: of each; a core has one shard at a time.
        between_failures: mean seconds until a node fails; infinite for never.
        away: seconds until it is back.
        noticed: seconds until the driver hands out again what a lost node had.
        keeps: whether finished pictures of a lost shard are still there (OUT on a disk that all nodes share), so that
            the next run of the shard goes on with it.
    """

    nodes: int
    cores: int
    between_failures: float = math.inf
    away: float = 600.0
    noticed: float = 60.0
    keeps: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule.

    Attributes:
        seconds: from the first shard to the last.
        busy: core-seconds of work, with what was done twice.
        repeated: pictures that were written twice.
        failures: nodes lost.
        driver_share: share of the time that the driver was busy.
    """

    seconds: float
    busy: float
    repeated: float
    failures: int
    driver_share: float


def simulate(pictures: int, shard: int, costs: Costs, cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Run the schedule once.

    Args:
        pictures: in all.
        shard: pictures of one shard; the last one may have fewer.
        costs: see there.
        cluster: see there.
        seed: of the times and the failures.

    Raises:
        ValueError: nodes fail so often that shards are never finished.
    """
    rng = random.Random(seed)
    whole, rest = divmod(pictures, shard)
    sizes: Iterator[float] = itertools.chain(itertools.repeat(float(shard), whole), [float(rest)] if rest else [])
    again: deque[float] = deque()
    events: list[tuple[float, int, int, int, float]] = []  # time, kind, node, life of the node, pictures
    running: list[dict[int, tuple[float, float, float]]] = [{} for _ in range(cluster.nodes)]  # begun, lasts, pictures
    lives, up, waiting = [0] * cluster.nodes, [True] * cluster.nodes, deque[int]()
    tickets = itertools.count()
    driver_free = driver_busy = busy = repeated = last = 0.0
    failures, left, in_hand = 0, float(pictures), 0

    def hand_out(now: float, node: int) -> None:
        """The driver takes what the core brings and gives it the next shard, when its turn comes."""
        nonlocal driver_free, driver_busy, in_hand
        size = again.popleft() if again else next(sizes, None)
        if size is None:
            waiting.append(node)
            return
        driver_free = max(driver_free, now) + costs.driver
        driver_busy += costs.driver
        mean = costs.picture * size
        noise = rng.gauss(1.0, costs.scatter / math.sqrt(max(1.0, size)))
        lasts = costs.fixed + mean * max(0.1, noise)
        ticket = next(tickets)
        running[node][ticket] = (driver_free, lasts, size)
        in_hand += 1
        heapq.heappush(events, (driver_free + lasts, DONE, node, lives[node], float(ticket)))

    if math.isfinite(cluster.between_failures):
        for node in range(cluster.nodes):
            heapq.heappush(events, (rng.expovariate(1 / cluster.between_failures), FAIL, node, 0, 0.0))
    for node in range(cluster.nodes):
        for _ in range(cluster.cores):
            hand_out(0.0, node)
    while left > 1e-6:
        now, kind, node, life, what = heapq.heappop(events)
        if kind == DONE and life == lives[node]:
            _, lasts, size = running[node].pop(int(what))
            in_hand -= 1
            busy += lasts
            left -= size
            last = now
            hand_out(now, node)
        elif kind == FAIL:
            failures += 1
            if failures > _MOST_FAILURES * cluster.nodes:
                raise ValueError("nodes fail before a shard is finished: make shards smaller, or nodes share a disk")
            lives[node] += 1
            up[node] = False
            for begun, lasts, size in running[node].values():
                share = min(1.0, max(0.0, (now - begun - costs.fixed) / max(1e-9, lasts - costs.fixed)))
                busy += max(0.0, min(lasts, now - begun))
                done = math.floor(share * size) if cluster.keeps else 0
                left -= done
                repeated += share * size - done
                in_hand -= 1
                heapq.heappush(events, (now + cluster.noticed, AGAIN, node, 0, size - done))
            running[node].clear()
            heapq.heappush(events, (now + cluster.away, BACK, node, 0, 0.0))
        elif kind == BACK:
            up[node] = True
            heapq.heappush(events, (now + rng.expovariate(1 / cluster.between_failures), FAIL, node, 0, 0.0))
            for _ in range(cluster.cores):
                hand_out(now, node)
        elif kind == AGAIN:
            again.append(what)
            while waiting:  # cores without work ask again; those of a lost node are no longer there
                idle = waiting.popleft()
                if up[idle] and len(running[idle]) < cluster.cores:
                    hand_out(now, idle)
                    break
    return Outcome(last, busy, repeated, failures, driver_busy / last if last else 0.0)


# ------------------------------------------------------------------ measuring
def measure(*, side: tuple[int, int] = (640, 480), few: int = 4, many: int = 16) -> Costs:
    """The times of this machine, of folders of JPEG pictures of so many px that one bank of textures is put on.

    Seconds of CPU with one thread: the slope over two folders is a picture's, what remains a shard's.
    """
    from folder_throughput import draw

    from bitterant.protect import apply_folder, fit_folder

    root = Path(tempfile.mkdtemp(prefix="bitterant-scale-"))
    try:
        folders = {count: root / str(count) for count in (2, few, many)}
        for count, folder in folders.items():
            for number in range(count):
                place = folder / "ab"[number % 2] / f"{number}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                draw(number, *side).save(place, quality=90)
        fit_folder(folders[few], root / "bank", method="texture", device="cpu", seed=0, workers=1)
        spent: dict[int, float] = {}
        moved: dict[int, float] = {}
        copies = 0.0
        for count, folder in folders.items():  # the first is there to load what is loaded once
            before, begun = _bytes_moved(), time.process_time()
            apply_folder(folder, root / f"out{count}", bank=root / "bank", workers=1)
            spent[count], moved[count] = time.process_time() - begun, _bytes_moved() - before
            copies = sum(path.stat().st_size for path in (root / f"out{count}").rglob("*.png")) / count
        picture = (spent[many] - spent[few]) / (many - few)
        return Costs(
            picture=picture,
            fixed=max(0.0, spent[few] - few * picture),
            driver=_driver(root),
            megabytes=max(0.0, moved[many] - moved[few]) / (many - few) / 1e6,
            copy_megabytes=copies / 1e6,
        )
    finally:
        shutil.rmtree(root)


def _bytes_moved() -> float:
    """Bytes that this process has read and written so far, from and to disks or caches; 0 where nobody counts."""
    try:
        lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    except OSError:
        return 0.0
    return float(lines["rchar"]) + float(lines["wchar"])


def _driver(root: Path, shards: int = 40) -> float:
    """Seconds to note one finished shard where a power cut does not lose it, with its few figures as JSON."""
    begun = time.perf_counter()
    with (root / "journal").open("ab") as journal:
        for number in range(shards):
            told = {"shard": number, "counts": {"protected": 1000}, "sha256": "0" * 64, "seconds": 12.5}
            journal.write(json.dumps(told).encode("ascii") + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
    return (time.perf_counter() - begun) / shards


# ------------------------------------------------------------------ the table
def table(
    costs: Costs, pictures: Iterable[int], nodes: Iterable[int], shards: Iterable[int], cluster: Cluster, *, seed: int
) -> list[str]:
    """Rows of Markdown, a schedule each."""
    rows = [
        "| pictures | nodes | shard | time | of the ideal | driver busy | nodes lost | written twice | storage |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for count, machines, shard in itertools.product(pictures, nodes, shards):
        found = simulate(count, shard, costs, replace(cluster, nodes=machines), seed=seed)
        ideal = count * costs.picture / (machines * cluster.cores)
        rows.append(
            f"| {_power(count)} | {machines} x {cluster.cores} | {shard:,} | {_duration(found.seconds)} "
            f"| {ideal / found.seconds:.0%} | {found.driver_share:.1%} | {found.failures} "
            f"| {found.repeated:,.0f} | {count * costs.megabytes / found.seconds:,.0f} MB/s |"
        )
    return rows


def _power(count: int) -> str:
    exponent = round(math.log10(count))
    return f"10^{exponent}" if 10**exponent == count else f"{count:,}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def describe(costs: Costs, shards: Sequence[int], price: float) -> list[str]:
    """What one picture costs, and how many cores one driver feeds."""
    lines = [
        f"- a picture: {costs.picture * 1000:.0f} ms of one core, {costs.megabytes:.2f} MB read and written, "
        f"of which its copy has {costs.copy_megabytes:.2f} MB; a shard besides: {costs.fixed:.2f} s of one core",
        f"- a million pictures: {costs.picture * 1e6 / 3600:.0f} core-hours, {costs.copy_megabytes:.2f} TB of copies, "
        f"{costs.picture * 1e6 / 3600 * price:.2f} at a price of {price:g} for a core-hour",
        f"- the driver: {costs.driver * 1000:.1f} ms a shard, so one feeds at most:",
    ]
    for shard in shards:
        lasts = costs.fixed + shard * costs.picture
        lines.append(
            f"    {lasts / costs.driver:,.0f} cores with shards of {shard:,} pictures ({_duration(lasts)} each)"
        )
    return lines


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", type=float, default=[1e6, 1e9])
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 10, 100, 1000, 4000])
    parser.add_argument("--cores", type=int, default=16, help="of a node")
    parser.add_argument("--shard", nargs="+", type=int, default=[1000, 10_000], help="pictures of a shard")
    parser.add_argument("--days-between-failures", type=float, default=30.0, help="of one node, in the mean")
    parser.add_argument("--away", type=float, default=600.0, help="seconds until a lost node is back")
    parser.add_argument("--noticed", type=float, default=60.0, help="seconds until its shards are handed out again")
    parser.add_argument("--local-disks", action="store_true", help="what a lost node wrote is lost, too")
    parser.add_argument("--price", type=float, default=0.04, help="of a core-hour, in any currency")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.add_argument_group("instead of measuring (all four)")
    given.add_argument("--picture-seconds", type=float)
    given.add_argument("--fixed-seconds", type=float)
    given.add_argument("--driver-seconds", type=float)
    given.add_argument("--megabytes", type=float, help="read and written a picture")
    args = parser.parse_args(words)
    told = (args.picture_seconds, args.fixed_seconds, args.driver_seconds, args.megabytes)
    if None not in told:
        costs = Costs(*told, copy_megabytes=args.megabytes / 3)
    elif any(value is not None for value in told):
        parser.error("give all four of --picture-seconds, --fixed-seconds, --driver-seconds and --megabytes, or none")
    else:
        costs = measure()
    cluster = Cluster(
        1, args.cores, args.days_between_failures * 86400, args.away, args.noticed, keeps=not args.local_disks
    )
    counts = [int(count) for count in args.pictures]
    print("\n".join([*describe(costs, args.shard, args.price), ""]))
    for line in table(costs, counts, args.nodes, args.shard, cluster, seed=args.seed):
        print(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
