"""``bitterant preview SRC``: a few pictures at the three strengths, side by side, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._version import __version__
from ..errors import ConfigError
from ..records.config import Config, Option, checked
from ..records.shared_options import STRENGTHS, Device, Seed
from ..records.text import counted
from . import options
from .boundary import guarded, prepare_torch
from .progress import ProgressDisplay

if TYPE_CHECKING:
    import numpy as np

    from ..imaging import Budget, Entry, FolderScan, Picture


TILE_SIDE = 480
MOST_SHOWN = 12
ABOUT = (
    "The pattern here is random noise of the same strength, because the real pattern needs a run over the whole "
    "folder. The real one has stripes and patches and is seen more easily on plain areas than this noise."
)


def _check_count(count: int) -> ConfigError | None:
    return None if 1 <= count <= MOST_SHOWN else ConfigError(f"count must lie in 1..{MOST_SHOWN}, not {count}.")


class PreviewConfig(Config):
    """What ``preview`` is told."""

    output: Annotated[
        Path, Option(help="The page to write.", metavar="FILE.html", names=("--output", "-o"), everyday=True)
    ] = Path("bitterant-preview.html")
    count: Annotated[
        int, checked(_check_count), Option(help="How many pictures to show.", metavar="N", everyday=True)
    ] = 4
    seed: Seed = 0
    device: Device = "auto"


@options.takes_options(PreviewConfig)
def preview(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of pictures.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Show how visible the three strengths are on your own pictures, before you decide on one."""
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        from ..errors import FolderError
        from ..imaging import scan_source, write_atomic
        from ..imaging.page import is_own_page
        from ..records.files import check_free

        config = PreviewConfig.of(given)
        check_free(config.output, overwrite=is_own_page)  # an earlier preview makes room
        prepare_torch()

        scan = scan_source(source, follow_links=True)
        if not scan.entries:
            raise FolderError(
                f"There is no picture in {source}. Put pictures there (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, ...)."
            )
        with ProgressDisplay(output) as progress:
            page, shown = _page(scan, config, progress)
        write_atomic(config.output, page.encode("utf-8"), overwrite=is_own_page)
        output.say(f"{counted(shown, 'picture')} at three strengths: {config.output}", style="bold")
        output.say("It shows how visible the change is, not how well it protects. That is what verify is for.")
        output.result({"page": str(config.output), "pictures": shown})


def _page(scan: FolderScan, config: PreviewConfig, progress: ProgressDisplay) -> tuple[str, int]:
    """The HTML page, and how many pictures it shows. Unreadable pictures are left out."""
    from ..errors import FolderError
    from ..imaging import FLIP_MISSING, Budget, auto_resolution, flip_available, load_image_set, render_page
    from ..protect import create_method
    from ..surrogates import resolve_device

    resolution = auto_resolution(scan, resolve_device(config.device).type)
    some = replace(scan, entries=tuple(_spread(scan.entries, config.count)))
    data, entries, problems = load_image_set(some, resolution, with_labels=False)
    if not entries:
        raise FolderError(f"None of the pictures tried in {scan.root} can be read. {problems[0].reason}")
    budgets = {name: Budget.from_levels(levels) for name, levels in STRENGTHS.items()}
    banks = {
        name: create_method("noise", budget=budget, granularity="sample", seed=config.seed).fit(data)
        for name, budget in budgets.items()
    }
    rows = []
    for done, (entry, key) in enumerate(zip(entries, data.keys, strict=True)):
        progress("preview", done, len(entries))
        deltas = {name: (bank.levels_for(key), budgets[name]) for name, bank in banks.items()}
        rows.append(_row(entry, deltas))
    progress("preview", len(entries), len(entries))
    page = render_page(
        __package__ or "",
        "preview.html.j2",
        folder=str(scan.root),
        rows=rows,
        about=ABOUT,
        version=__version__,
        flip_missing=None if flip_available() else FLIP_MISSING,
    )
    return page, len(rows)


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """``count`` entries evenly spread over the folder."""
    count = min(count, len(entries))
    return [entries[(2 * i + 1) * len(entries) // (2 * count)] for i in range(count)]


def _row(entry: Entry, deltas: Mapping[str, tuple[np.ndarray, Budget]]) -> dict[str, Any]:
    """One picture, unchanged and at each strength, as the page shows it."""
    from ..imaging import add_delta, decode, measure_change, measure_visibility

    original = decode(entry.path)
    tiles = [_tile(original, "unchanged", "")]
    for name, (levels, budget) in deltas.items():
        changed = add_delta(original, levels, budget)
        change = measure_change(original, changed)
        seen = measure_visibility(original, changed, with_flip=True)
        flip = "" if seen.flip is None else f", FLIP {seen.flip:.3f}"
        note = (
            f"at most {budget.whole_levels} of 255 levels{flip}, CIEDE2000 {seen.ciede:.1f} "
            f"(patches {seen.ciede_patches:.1f}), PSNR {change.psnr:.1f} dB, SSIM {change.ssim:.3f}"
        )
        tiles.append(_tile(changed, name, note))
    return {"name": entry.relative, "width": original.width, "height": original.height, "tiles": tiles}


def _tile(picture: Picture, title: str, note: str) -> dict[str, str]:
    """The middle of the picture at its own size: scaled down, much of the change would vanish."""
    from ..imaging import png_data_uri

    rgb = picture.rgb8()
    top, left = (max(0, (side - TILE_SIDE) // 2) for side in rgb.shape[:2])
    return {"title": title, "note": note, "uri": png_data_uri(rgb[top : top + TILE_SIDE, left : left + TILE_SIDE])}
