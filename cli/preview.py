"""``bitterant preview SRC``: a few pictures at the three strengths, side by side, in seconds."""

from __future__ import annotations

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
    from ..imaging import Picture
    from ..protect import Preview, PreviewedPicture


TILE_SIDE = 480
MOST_SHOWN = 12


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
        from ..imaging import Budget, write_atomic
        from ..imaging.page import is_own_page
        from ..records.files import check_free

        config = PreviewConfig.of(given)
        check_free(config.output, overwrite=is_own_page)  # an earlier preview makes room
        prepare_torch()
        from ..protect import Preview

        budgets = {name: Budget.from_levels(levels) for name, levels in STRENGTHS.items()}
        preview = Preview(source, budgets, seed=config.seed, device=config.device)
        with ProgressDisplay(output) as progress:
            page, shown = _page(preview, config.count, progress)
        write_atomic(config.output, page.encode("utf-8"), overwrite=is_own_page)
        output.say(f"{counted(shown, 'picture')} at three strengths: {config.output}", style="bold")
        output.say("It shows how visible the change is, not how well it protects. That is what verify is for.")
        output.result({"page": str(config.output), "pictures": shown})


def _page(preview: Preview, count: int, progress: ProgressDisplay) -> tuple[str, int]:
    """The HTML page, and how many pictures it shows. Unreadable pictures are left out."""
    from ..imaging import FLIP_MISSING, flip_available, render_page

    names, rows = preview.spread(count), []
    progress("preview", 0, len(names))
    for picture in preview.pictures(names):
        rows.append(_row(picture))
        progress("preview", len(rows), len(names))
    page = render_page(
        __package__ or "",
        "preview.html.j2",
        folder=str(preview.root),
        rows=rows,
        about=preview.about,
        version=__version__,
        flip_missing=None if flip_available() else FLIP_MISSING,
    )
    return page, len(rows)


def _row(picture: PreviewedPicture) -> dict[str, Any]:
    """One picture, unchanged and at each strength, as the page shows it."""
    from ..imaging import Budget, measure_change, measure_visibility

    original = picture.before
    tiles = [_tile(original, "unchanged", "")]
    for name, changed in picture.after.items():
        change = measure_change(original, changed)
        seen = measure_visibility(original, changed, with_flip=True)
        flip = "" if seen.flip is None else f", FLIP {seen.flip:.3f}"
        levels = Budget.from_levels(STRENGTHS[name]).whole_levels  # type: ignore[index]
        note = (
            f"at most {levels} of 255 levels{flip}, CIEDE2000 {seen.ciede:.1f} "
            f"(patches {seen.ciede_patches:.1f}), PSNR {change.psnr:.1f} dB, SSIM {change.ssim:.3f}"
        )
        tiles.append(_tile(changed, name, note))
    return {"name": picture.relative, "width": original.width, "height": original.height, "tiles": tiles}


def _tile(picture: Picture, title: str, note: str) -> dict[str, str]:
    """The middle of the picture at its own size: scaled down, much of the change would vanish."""
    from ..imaging import png_data_uri

    rgb = picture.rgb8()
    top, left = (max(0, (side - TILE_SIDE) // 2) for side in rgb.shape[:2])
    return {"title": title, "note": note, "uri": png_data_uri(rgb[top : top + TILE_SIDE, left : left + TILE_SIDE])}
