"""What a verification writes: report.json for programs, report.html for people, and tables to redo the statistics.

They say where the run took place and which program ran: what a reader needs beside the command to repeat it. Whether
they can be written is asked before anything is read or trained.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..._version import __version__
from ...errors import FolderError, OutputError
from ...imaging import sweep_temporaries_of, write_atomic
from ...imaging.page import is_own_page
from ...records.files import check_free
from ...records.places import lies_in, open_regular
from ...records.processes import available_cpus
from ..data import stealth_csv
from ..facts import Environment, Node, Tool
from ..schema import CellRecord, Plan, VerificationReport
from ..training import CellResult, processor_name
from .measures import Pictures, Powers, choose_tiles
from .page import render_report

REPORT_FILES = {
    "classification": (
        "plan.json", "stealth.csv", "curves.csv", "predictions.npz", "report.json", "report.html",
    ),
    "retrieval": ("plan.json", "stealth.csv", "ranks.npz", "report.json", "report.html"),
}  # fmt: skip
"""Names of all files beside each other in the folder of a report, by its kind."""

_NEXT_PLAN = "plan-next.json"
"""The plan of a run that has not ended, beside the finished report of another."""
_JSON_FILES = ("plan.json", "report.json")
_SCHEMA = b'"schema_version"'
"""The first field of each of them."""

_PROBE = b"\0" * 65536
"""As much as a small file of the report, so that a disk that is full is told."""


def check_places(
    report: Path | None, cells: Path | None, names: Iterable[str], pictures: Iterable[Path | None]
) -> None:
    """Check the folder of the report and that of the kept trainings.

    Args:
        report, cells: the folders; ``None`` where nothing is to be written.
        names: of the files that will lie in the report's folder.
        pictures: folders of pictures, in which neither may lie.

    Raises:
        FolderError: a place is a file, lies among the pictures, or a folder stands where a file of the report must.
        OutputError: a place cannot be read or written, or holds a file that is not ours where one of the report must.
    """
    folders = [folder for folder in pictures if folder is not None]
    for name, place, files in (("report", report, names), ("cells", cells, ())):
        if place is not None:
            _check_beside(name, place, folders)
            check_place(name, place, files)


def check_place(name: str, place: Path, files: Iterable[str] = ()) -> None:
    """Try whether files can be written into a folder that may not be there yet. Nothing of the trial is left, nor what
    a killed run left half-written of these files.

    Args:
        name: what the folder is for; the option that names it is called so too.
        place: the folder.
        files: names of the files that will be written or replaced in it.

    Raises:
        FolderError: it is no folder, or another folder stands in the way of a file.
        OutputError: it cannot be read or written, or a file that is not ours has the name of one of them.
    """
    try:
        there = _nearest(place)
        if not there.is_dir():
            raise FolderError(
                f"The {name} folder {place} cannot be made: {there} is a file. "
                f"Name another folder with --{name}; it need not be there yet."
            )
        if there == place.absolute():
            for _ in os.scandir(place):
                break
            blocked = [file for file in files if (place / file).is_dir()]
            if blocked:
                raise FolderError(
                    f"{place / blocked[0]} is a folder where a file of the {name} must be written. "
                    f"Move it away, or name another folder with --{name}."
                )
            for file in files:
                check_free(place / file, overwrite=is_own_report_file)
                sweep_temporaries_of(place / file)
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"The {name} folder {place} cannot be used: {error.strerror or error}. Nothing was trained. Change its "
            f"permissions or free some space, or name another folder with --{name}."
        ) from error


def is_own_report_file(path: Path) -> bool:
    """Whether a file belongs to a report that bitterant wrote, so that another may take its place. Tables and arrays
    say nothing of their maker: they do where one of the JSON files beside them is ours.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix == ".html":
        return is_own_page(path)
    if path.suffix == ".json":
        with open_regular(path) as file:
            return file.read(64).lstrip(b"{ \r\n").startswith(_SCHEMA)
    return any((path.parent / name).is_file() and is_own_report_file(path.parent / name) for name in _JSON_FILES)


def _nearest(place: Path) -> Path:
    """The folder itself, or else the last part of its path that is there."""
    path = place.absolute()
    while path != path.parent:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():  # it leads nowhere, so that no folder can be made of that name
                raise
            path = path.parent
        else:
            break
    return path


def _check_beside(name: str, place: Path, folders: Iterable[Path]) -> None:
    """A folder without images inside an image folder would be taken for a class, or stop a loader."""
    for folder in folders:
        if lies_in(place, folder):
            raise FolderError(
                f"The {name} folder {place} lies in {folder}, where loaders would take it for a class. "
                f"Choose a place beside it with --{name}."
            )


_CURVE_COLUMNS = (
    "victim", "adversary", "arm", "seed_index", "victim_seed", "step", "epoch", "train_loss", "train_accuracy",
    "test_accuracy",
)  # fmt: skip


def curves_csv(cells: Sequence[CellRecord]) -> bytes:
    """One line a point of a learning curve. A loss that was not finite, and what was not measured, stay empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CURVE_COLUMNS)
    for cell in cells:
        identity = (cell.victim, cell.adversary, cell.arm, cell.seed_index, cell.victim_seed)
        for point in cell.curve:
            figures = (point.epoch, point.train_loss, point.train_accuracy, point.test_accuracy)
            writer.writerow((*identity, point.step, *("" if value is None else f"{value:.6g}" for value in figures)))
    return stream.getvalue().encode()


def predictions_npz(
    cells: Sequence[CellResult], test_labels: NDArray[np.int64], labels: Mapping[str, NDArray[np.int64]]
) -> bytes:
    """Predicted classes of every training, and the true ones.

    Args:
        cells: every training.
        test_labels: true classes of the test pictures, ``[M]``.
        labels: the same under each adversary, by name.
    """
    arrays: dict[str, np.ndarray] = {"labels": test_labels.astype(np.uint16)}
    for adversary, own in labels.items():
        if not np.array_equal(own, test_labels):
            arrays[f"labels|{adversary}"] = own.astype(np.uint16)
    for result in cells:
        cell = result.cell
        name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
        arrays[f"{name}|final"] = result.predictions.astype(np.uint16)
        arrays[f"{name}|peak"] = result.peak_predictions.astype(np.uint16)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


_NUMBERS = re.compile(rb"\[\s+((?:-?[0-9][-0-9.eE+]*|null)(?:,\s+(?:-?[0-9][-0-9.eE+]*|null))*)\s+\]")


def plan_bytes(plan: Plan) -> bytes:
    """``plan.json`` as it is written and hashed."""
    return plan.model_dump_json(indent=2).encode() + b"\n"


def plan_digest(plan: Plan) -> str:
    """sha256 of ``plan.json``."""
    return hashlib.sha256(plan_bytes(plan)).hexdigest()


def report_bytes(report: VerificationReport) -> bytes:
    """``report.json``: indented, with every list of numbers on one line."""
    text = report.model_dump_json(indent=2).encode() + b"\n"
    # Inside a text a line break is written as two signs, so nothing that spans lines can be part of one.
    return _NUMBERS.sub(lambda found: b"[" + b", ".join(re.split(rb",\s+", found[1])) + b"]", text)


def write_plan(folder: Path, plan: Plan) -> None:
    """Write ``plan.json``; done before the first training. Where a finished report of another plan lies, it stays whole
    until the new one takes its place, and the plan waits beside it under another name."""
    content, place = plan_bytes(plan), folder / "plan.json"
    if (folder / "report.json").exists() and not (place.exists() and place.read_bytes() == content):
        place = folder / _NEXT_PLAN
    write_atomic(place, content, overwrite=is_own_report_file)


def write_report(
    folder: Path,
    report: VerificationReport,
    data: Pictures,
    tables: Mapping[str, bytes],
    powers: Powers | None,
    *,
    captions: Mapping[str, str] | None = None,
) -> None:
    """Write ``plan.json``, ``report.json``, ``report.html``, ``stealth.csv`` and the tables into ``folder``.

    Args:
        folder: where to.
        report: the result.
        data: the pictures that it is about.
        tables: what else is needed to redo the statistics, by the names of the files.
        powers: of the change, for the picture of its spectrum; ``None`` where nothing was trained.
        captions: of the originals, by path, where pictures are told by them.

    Raises:
        OutputError: the folder cannot be written.
    """
    tiles = choose_tiles(data, seed=report.plan.seed, captions=captions)
    page = render_report(report, files=data.files, tiles=tiles, powers=powers)
    contents = {
        "stealth.csv": stealth_csv(data.files, budget_levels=data.budget_levels),
        **tables,
        "plan.json": plan_bytes(report.plan),
        "report.json": report_bytes(report),
        "report.html": page.encode(),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content, overwrite=is_own_report_file)
    (folder / _NEXT_PLAN).unlink(missing_ok=True)


_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "kornia", "diffusers")
_ROOT = Path(__file__).resolve().parents[2]
_GIT_SECONDS = 10


def describe_tool() -> Tool:
    """Version and, in a checkout, the commit."""
    return Tool(version=__version__, git=_commit(_ROOT))


def _commit(root: Path) -> str | None:
    """The commit of a checkout; ``None`` where ``root`` is none, such as an installed package."""
    if not (root / ".git").exists():  # another project's checkout that holds our package says nothing about us
        return None
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def describe_environment(
    device: str, workers: int, *, executor: str = "serial", nodes: Sequence[Node] = ()
) -> Environment:
    """Versions, devices and switches; no names of machines or people.

    Args:
        device: where trainings ran, as torch calls it.
        workers: how many at the same time.
        executor: who ran them.
        nodes: the machines of a cluster; none where it was this one.
    """
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    on_cpu = device.startswith("cpu")
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=versions,
        device=device,
        device_name=_device_name(device, nodes),
        cuda=torch.version.cuda,
        cpu=processor_name(),
        cpus=available_cpus(),
        ram_gib=_memory_gib(),
        executor=executor,
        workers=workers,
        nodes=tuple(nodes),
        threads=1 if on_cpu else torch.get_num_threads(),
        determinism={
            "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn deterministic": torch.backends.cudnn.deterministic,
            "cudnn benchmark": torch.backends.cudnn.benchmark,
            "matmul precision": torch.get_float32_matmul_precision(),
            "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            "one thread a training": on_cpu,
        },
    )


def _device_name(device: str, nodes: Sequence[Node]) -> str | None:
    if not device.startswith("cuda"):
        return None
    if nodes:
        return ", ".join(dict.fromkeys(node.device_name for node in nodes if node.device_name is not None)) or None
    return torch.cuda.get_device_name(device)


def _memory_gib() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    return round(pages * size / 2**30, 1)
