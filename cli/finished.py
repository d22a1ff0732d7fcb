"""Commands on what is there already: ``inspect`` compares two pictures or folders, ``merge`` joins the shares of a
run, ``compare`` sets reports side by side, ``publish`` copies what may be shown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from ..errors import ConfigError
from ..protect.request.config import RecordsConfig
from ..records.config import Config, Option, checked
from ..records.text import some_counted
from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import Output, ProgressDisplay, shown
from .protect import tell_summary

if TYPE_CHECKING:
    from ..attacks.report.compare import Comparison
    from ..imaging import Change, Visibility
    from ..protect.folder.publish import PublishSummary


_SHOWN_PAIRS = 5

#: FLIP takes a tenth of a second a pair; of more pairs than these it is not measured.
_FLIP_PAIRS = 200

_LEAST_GAIN = 0.1

_EXPLAINED = (
    "PSNR and SSIM: the higher, the closer (SSIM 1 is identical). The others: the lower, the closer. CIEDE2000 is the "
    "difference of colour as the eye has it: its mean, what 95 % of the pixels stay below, and that of small patches, "
    "where 1 is just noticeable. FLIP goes from 0 to 1."
)
"""What the columns mean."""


@dataclass(frozen=True)
class _Pair:
    name: str
    before: Path
    after: Path


@dataclass(frozen=True)
class _Measured:
    pair: _Pair
    change: Change
    seen: Visibility

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the more visible."""
        return self.seen.ciede_patches, self.change.linf_levels


def _check_gain(gain: float) -> ConfigError | None:
    return None if gain >= _LEAST_GAIN else ConfigError(f"gain must be at least {_LEAST_GAIN}, not {gain:g}.")


class InspectConfig(Config):
    """What ``inspect`` is told."""

    picture: Annotated[
        Path | None,
        Option(
            help="Write A, B and their amplified difference side by side. Of two folders: the pair that changed most.",
            metavar="FILE.png",
            everyday=True,
        ),
    ] = None
    gain: Annotated[
        float,
        checked(_check_gain),
        Option(help="How much the difference in --picture is amplified.", metavar="X", everyday=True),
    ] = 10.0


@options.takes_options(InspectConfig)
def inspect(
    before: Annotated[Path, typer.Argument(metavar="A", help="The original: a picture, or a folder.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The copy: a picture, or a folder.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Measure how much B differs from A: the largest change of any pixel, PSNR, SSIM, CIEDE2000 and FLIP."""
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..records.files import check_free

        config = InspectConfig.of(given)
        picture = config.picture
        if picture is not None:
            check_free(picture)  # before minutes of comparing
        prepare_torch()
        from ..imaging import Sight, tell_sights

        pairs, alone = _pairs(before, after, output)
        measured, problems = _measure(pairs, output)
        worst = max(measured, key=lambda item: item.rank, default=None)
        _tell_inspected(output, measured)
        if measured:
            output.say(_EXPLAINED, style="dim")
        if alone:
            output.say(
                f"{alone[0]} has no partner."
                if len(alone) == 1
                else f"{len(alone)} files have no partner, for example {alone[0]}."
            )
        sights = tell_sights([Sight(i.pair.name, i.seen.ciede_patches, i.seen.ciede_flat) for i in measured])
        for text in sights:
            output.say(text)
        for problem in problems:
            output.warn(problem)
        if picture is not None and worst is not None:
            _write_picture(worst.pair, picture, config.gain)
            output.say(f"{worst.pair.name} | copy | difference x{config.gain:g}: {picture}")
        output.result(
            {
                "pairs": [
                    {
                        "name": item.pair.name,
                        "linf_levels": item.change.linf_levels,
                        "psnr": item.change.psnr if math.isfinite(item.change.psnr) else None,
                        "ssim": item.change.ssim,
                        "ciede": item.seen.ciede,
                        "ciede_p95": item.seen.ciede_p95,
                        "ciede_patches": item.seen.ciede_patches,
                        "ciede_flat": item.seen.ciede_flat,
                        "flip": item.seen.flip,
                    }
                    for item in measured
                ],
                "seen": sights,
                "unpaired": alone,
                "problems": problems,
                "picture": None if picture is None or worst is None else str(picture),
            }
        )
        raise typer.Exit(1 if problems else 0)


def _pairs(before: Path, after: Path, output: Output) -> tuple[list[_Pair], list[str]]:
    """The pairs to compare, and the names that have no partner."""
    from ..errors import FolderError
    from ..imaging import scan_folder

    for path in (before, after):
        if not path.exists():
            raise FolderError(f"There is no file or folder {path}. Check the path.")
    if before.is_dir() != after.is_dir():
        raise FolderError("Give two pictures or two folders, not one of each.")
    if not before.is_dir():
        return [_Pair(before.name, before, after)], []
    firsts = {entry.relative: entry.path for entry in scan_folder(before, follow_links=True).entries}
    seconds = {entry.relative: entry.path for entry in scan_folder(after, follow_links=True).entries}
    renamed = _renamed(after, output)
    free: dict[str, list[str]] = {}
    for name in seconds:
        if name not in firsts:
            free.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    pairs: list[_Pair] = []
    alone: list[str] = []
    for name, path in firsts.items():
        # By the manifest; else the same name; else a.jpg.png for a.jpg; else the only file that differs in its ending.
        others = free.get(str(PurePosixPath(name).with_suffix("")), [])
        tried = [renamed.get(name), name, f"{name}.png", *(others if len(others) == 1 else [])]
        partner = next((seconds[other] for other in tried if other in seconds), None)
        if partner is None:
            alone.append(name)
        else:
            pairs.append(_Pair(name, path, partner))
    if not pairs:
        raise FolderError(f"No picture in {after} belongs to one in {before}: no names agree.")
    return pairs, alone


def _renamed(folder: Path, output: Output) -> dict[str, str]:
    """Source name to output name, where ``folder`` was written by bitterant; otherwise that is told."""
    from ..records.manifest import open_manifest
    from ..records.run_file import find_records, where_looked

    records = find_records(folder)
    if records is None:
        output.say(
            f"No manifest of 'bitterant protect' lies in {where_looked(folder)}: pictures are paired by their names.",
            style="dim",
        )
        return {}
    rows = open_manifest(records.manifest).rows
    return {row.source: row.output for row in rows if row.status == "protected" and row.output}


def _measure(pairs: list[_Pair], output: Output) -> tuple[list[_Measured], list[str]]:
    from ..errors import BitterantError
    from ..imaging import decode, measure_change, measure_visibility

    measured: list[_Measured] = []
    problems: list[str] = []
    with ProgressDisplay(output) as progress:
        for done, pair in enumerate(pairs):
            progress("compare", done, len(pairs))
            try:
                first, second = decode(pair.before), decode(pair.after)
                change = measure_change(first, second)
                seen = measure_visibility(first, second, with_flip=len(pairs) <= _FLIP_PAIRS)
                measured.append(_Measured(pair, change, seen))
            except BitterantError as error:
                problems.append(str(error))
        progress("compare", len(pairs), len(pairs))
    return measured, problems


def _tell_inspected(output: Output, measured: list[_Measured]) -> None:
    columns = ("picture", "largest change (of 255)", "PSNR dB", "SSIM", "CIEDE2000", "95 %", "patches", "FLIP")
    if measured and all(item.seen.flip is None for item in measured):
        columns = columns[:-1]
    if len(measured) <= _SHOWN_PAIRS:
        output.answer(columns, [(item.pair.name, *_figures_of(item))[: len(columns)] for item in measured])
        return
    ranked = sorted(measured, key=lambda item: item.rank, reverse=True)
    psnr, ssim = (median(getattr(item.change, name) for item in measured) for name in ("psnr", "ssim"))
    seen = [median(getattr(item.seen, name) for item in measured) for name in ("ciede", "ciede_p95", "ciede_patches")]
    flips = [item.seen.flip for item in measured if item.seen.flip is not None]
    largest = max(item.change.linf_levels for item in measured)
    same = sum(item.change.linf_levels == 0 for item in measured)
    output.answer(
        columns,
        [
            (
                f"all {len(measured)}: largest, medians",
                f"{largest:g}",
                f"{psnr:.1f}",
                f"{ssim:.4f}",
                *(f"{value:.2f}" for value in seen),
                *([f"{median(flips):.3f}"] if flips else []),
            ),
            *((item.pair.name, *_figures_of(item))[: len(columns)] for item in ranked[:_SHOWN_PAIRS]),
        ],
    )
    output.say(
        f"The {_SHOWN_PAIRS} pictures in which the change shows most are listed; {same} of {len(measured)} "
        f"{'is' if same == 1 else 'are'} identical."
    )


def _figures_of(item: _Measured) -> tuple[str, ...]:
    change, seen = item.change, item.seen
    return (
        f"{change.linf_levels:g}",
        f"{change.psnr:.1f}",
        f"{change.ssim:.4f}",
        f"{seen.ciede:.2f}",
        f"{seen.ciede_p95:.2f}",
        f"{seen.ciede_patches:.2f}",
        "" if seen.flip is None else f"{seen.flip:.3f}",
    )


def _write_picture(pair: _Pair, target: Path, gain: float) -> None:
    """Three tiles in a row: before, after, difference."""
    import io

    import numpy as np
    from PIL import Image

    from ..imaging import decode, difference_tile, write_atomic

    before, after = decode(pair.before).rgb8(), decode(pair.after).rgb8()
    gap = np.full((before.shape[0], 8, 3), 255, dtype=np.uint8)
    row = np.concatenate([before, gap, after, gap, difference_tile(before, after, gain=gain)], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, "PNG")
    write_atomic(target, buffer.getvalue(), overwrite=False)


@options.takes_options(RecordsConfig)
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="OUT... DEST", help="Output folders of all shares, and the new folder for the whole."),
    ],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Join the output folders of all shares of a run to the one of a whole run.

    Shares are what 'bitterant protect' and 'bitterant apply' write with --shard. They are compared and not changed.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..protect.folder.merging import merge_folders
        from ..records.progress import interruptible

        if len(folders) < 2:
            raise ConfigError("Name the output folders of all shares, and the new folder for the whole last.")
        *shares, destination = folders
        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = merge_folders(shares, destination, **given, progress=progress, stop=stop)
        tell_summary(output, summary)
        raise typer.Exit(summary.exit_code)


@options.takes_options()
def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT...", help="Folders of verify --report, or their report.json."),
    ],
    terminal: options.Terminal,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page. Never overwritten.")
    ] = None,
) -> None:
    """Put verifications of several protections side by side: grades, accuracies, worst cases, visibility.

    They must have the same test pictures, classes and verdict rule. Where seeds or victims differ you are warned.
    """
    out = terminal.output
    with guarded(out, debug=terminal.debug):
        prepare_torch()
        from ..attacks.report.compare import compare_reports, render_comparison
        from ..records.files import check_free, write_atomic

        if output is not None:
            check_free(output)
        found = compare_reports(reports)
        for warning in found.warnings:
            out.warn(warning)
        columns, rows = _comparison_table(found)
        out.answer(columns, rows)
        if output is not None:
            write_atomic(output, render_comparison(found).encode(), overwrite=False)
            out.facts([("page", str(output))])
        out.result(_as_json(asdict(found)))


def _comparison_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """One line for each row of each section."""
    columns = ["", *(shown(column.name) for column in found.columns)]
    rows = [["method", *(column.method for column in found.columns)]]
    for section in found.sections:
        rows += [[row.name, *(cell.words for cell in row.cells)] for row in section.rows]
    return columns, rows


def _as_json(value: Any) -> Any:
    """Figures as JSON has them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return value


_SHOWN_LEFT = 10


@options.takes_options()
def publish(
    output_folder: Annotated[Path, typer.Argument(metavar="OUT", help="A finished output folder of protect or apply.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="New folder for what may be shown.")],
    terminal: options.Terminal,
    with_tdmrep: Annotated[
        str | None,
        typer.Option(
            metavar="URL-PATH",
            help="Write tdmrep.json, which reserves text and data mining for all files below this path of your site, "
            "such as /photos.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; write nothing.")] = False,
) -> None:
    """Copy what may be shown of OUT to DEST: protected pictures, and captions and labels that name only them.

    Reports, manifests, banks and pictures without protection are left behind and named.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..protect.folder.publish import publish_folder
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            summary = publish_folder(
                output_folder, destination, tdmrep=with_tdmrep, dry_run=dry_run, progress=progress, stop=stop
            )
        _tell_published(output, summary)


def _tell_published(output: Output, summary: PublishSummary) -> None:
    reasons: dict[str, list[str]] = {}
    for item in summary.left:
        reasons.setdefault(item.reason, []).append(item.name)
    first = list(reasons.items())[:_SHOWN_LEFT]
    for reason, names in first:
        output.say(f"left behind: {some_counted(names)} ({reason})")
    rest = len(summary.left) - sum(len(names) for _, names in first)
    if rest:
        output.say(f"... and {rest} more; --json lists them all.")
    output.say(summary.headline, style="bold")
    if summary.tdmrep is not None:
        output.say(f"Put {summary.tdmrep} where your site shows it as /.well-known/{summary.tdmrep.name}.")
    output.result(summary.to_json())
