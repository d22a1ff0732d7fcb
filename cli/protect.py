"""``bitterant protect SRC OUT``: the whole job, from a folder to its protected copy; and ``bitterant preview SRC``: a
few pictures at the three strengths first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .._version import __version__
from ..errors import ConfigError
from ..protect.request.config import ProtectConfig
from ..records.config import Config, Device, Option, Seed, checked
from ..records.text import counted, duration, pace, size, some
from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import Output, ProgressDisplay, after_protect, quoted, tell_next

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..imaging import Budget, FileProblem, Picture
    from ..protect import Preview, PreviewedPicture
    from ..protect.folder.plan import Plan
    from ..protect.folder.report import RunSummary


SHOWN_PROBLEMS = 10
NAMED_PROBLEMS = 3

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SRC", help="Folder of pictures. Sub-folders, such as cats and dogs, are taken for classes."
    ),
]
OutputArgument = Annotated[
    Path, typer.Argument(metavar="OUT", help="New folder for the protected copies. SRC is never changed.")
]


@options.takes_options(ProtectConfig, from_file=True)
def protect(
    source: SourceArgument, output_folder: OutputArgument, given: options.Given, terminal: options.Terminal
) -> None:
    """Write protected copies of the pictures in SRC to OUT.

    The copies look nearly the same to people. A model trained on them learns little of what they show; how little, on
    your pictures, 'bitterant verify' measures. The same command goes on with a run that was stopped.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug):
        prepare_torch()
        from ..protect import protect_folder
        from ..protect.folder.plan import Plan
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            outcome = protect_folder(source, output_folder, **given, progress=progress, stop=stop)
        if isinstance(outcome, Plan):
            tell_plan(output, outcome)
            return
        tell_summary(output, outcome)
        tell_next_of(output, outcome, source, output_folder, given.get("shard"))
        raise typer.Exit(outcome.exit_code)


def tell_next_of(output: Output, summary: RunSummary, source: Path, copies: Path, shard: str | None = None) -> None:
    """Print what to do with protected copies: also where single files failed, and where an earlier run made them. A
    share of a folder is joined with the others first; what these are called nobody knows here.
    """
    if shard is not None:
        output.say(f"Next, when all shares are there: bitterant merge {quoted(copies)} OTHERS... DEST", whole=True)
    elif summary.counts["protected"] and not summary.mostly_unprotected:
        tell_next(output, after_protect(source, copies, {problem.relative for problem in summary.problems}))


_KEYS: Final = {"random": ", a random key", "file": ", your key file", "seed": ", a key made of the seed"}


def tell_plan(output: Output, plan: Plan) -> None:
    """Print what a run would do, and that nothing was written."""
    for text in plan.warnings:
        output.warn(text)
    tell_problems(output, plan.problems)
    output.say(f"Plan for {plan.source} -> {plan.output}. Nothing was written.", style="bold")
    kinds = ", ".join(f"{count} {name}" for name, count in plan.by_format.items())
    classes = f" in {counted(len(plan.by_class), 'class', 'classes')}" if plan.by_class else ", no class folders"
    settings = plan.settings
    output.facts(
        [
            ("pictures", f"{plan.images}{classes} ({kinds})"),
            (
                "besides",
                f"{counted(plan.captions, 'caption file or label map', 'caption files and label maps')} to copy, "
                f"{counted(plan.skipped, 'other file')} left aside",
            ),
            (
                "method",
                f"{plan.method}, one pattern for each {settings['granularity']}, seed {settings['seed']}"
                f"{_KEYS.get(settings.get('key') or '', '')}",
            ),
            ("budget", f"{settings['epsilon'] * 255:g} of 255 levels"),
            *(
                [("models see", f"{plan.resolution} x {plan.resolution} pixels, on {settings['device']}")]
                if plan.resolution is not None
                else []
            ),
            *([("training", plan.schedule)] if plan.schedule else []),
            ("size", f"{size(plan.bytes_in)} now, about {size(plan.bytes_out)} protected"),
            ("time", _planned_time(plan)),
            ("memory", f"about {size(plan.peak_bytes)} at most"),
        ]
    )
    output.say(f"Measured on {counted(plan.sampled, 'picture')}; expect the time within a factor of two.", style="dim")
    output.result(plan.to_json())


def _planned_time(plan: Plan) -> str:
    """How long the stages take, without those that take no time to speak of."""
    from ..protect.methods import method_class

    making = "making the noise"
    if method_class(plan.method).instant:  # nothing is optimised: what time there is goes into looking at the pictures
        making = "finding clusters" if plan.settings["granularity"] == "cluster" else "dealing out textures"
    stages = {"reading": plan.seconds.read, making: plan.seconds.fit}
    stages[f"writing with {counted(plan.workers, 'thread')}"] = plan.seconds.write
    told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages.items() if round(seconds))
    return f"about {duration(plan.seconds.total)}: {told}" if told else "less than a second"


def tell_summary(output: Output, summary: RunSummary) -> None:
    """Print what a run did: every input accounted for, what went wrong, and where the report lies."""
    for text in summary.warnings:
        output.warn(text)
    tell_problems(output, summary.problems)
    output.say(summary.headline, style="bold")
    facts = []
    if not summary.already_done:
        facts.append(("time", ", ".join(filter(None, [duration(summary.seconds), pace(summary.images_per_second)]))))
    facts += [("report", str(summary.report)), ("manifest", str(summary.manifest))]
    if summary.bank is not None:
        facts.append(("bank", f"{summary.bank} (keep it private: whoever has it can remove the protection)"))
    output.facts(facts)
    output.say(summary.before_publishing, style="dim")
    output.result(summary.to_json())


def tell_problems(output: Output, problems: Sequence[FileProblem], *, listed: str = "the manifest") -> None:
    """Print the files that were left aside, a line for each reason; ``listed`` says where the others stand."""
    reasons: dict[str, list[str]] = {}
    for problem in problems:
        reasons.setdefault(problem.reason, []).append(problem.relative)
    shown = list(reasons.items())[:SHOWN_PROBLEMS]
    for reason, names in shown:
        files = names[0] if len(names) == 1 else f"{len(names)} files ({some(names, NAMED_PROBLEMS)})"
        output.warn(f"{files}: {reason}")
    rest = len(problems) - sum(len(names) for _, names in shown)
    if rest:
        output.warn(f"... and {rest} more; {listed} lists them all.")


_TILE_SIDE = 480
_MOST_PREVIEWED = 12


def _check_count(count: int) -> ConfigError | None:
    return (
        None if 1 <= count <= _MOST_PREVIEWED else ConfigError(f"count must lie in 1..{_MOST_PREVIEWED}, not {count}.")
    )


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
        from ..imaging import write_atomic
        from ..imaging.page import is_own_page
        from ..records.files import check_free

        config = PreviewConfig.of(given)
        check_free(config.output, overwrite=is_own_page)  # an earlier preview makes room
        prepare_torch()
        from ..protect import Preview

        preview = Preview(source, seed=config.seed, device=config.device)
        with ProgressDisplay(output) as progress:
            page, shown = _preview_page(preview, config.count, progress)
        write_atomic(config.output, page.encode("utf-8"), overwrite=is_own_page)
        output.say(f"{counted(shown, 'picture')} at three strengths: {config.output}", style="bold")
        output.say("It shows how visible the change is, not how well it protects. That is what verify is for.")
        output.result({"page": str(config.output), "pictures": shown})


def _preview_page(preview: Preview, count: int, progress: ProgressDisplay) -> tuple[str, int]:
    """The HTML page, and how many pictures it shows. Unreadable pictures are left out."""
    from ..imaging import FLIP_MISSING, flip_available, render_page

    names, rows = preview.spread(count), []
    progress("preview", 0, len(names))
    for picture in preview.pictures(names):
        rows.append(_preview_row(picture, preview.budgets))
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


def _preview_row(picture: PreviewedPicture, budgets: Mapping[str, Budget]) -> dict[str, Any]:
    """One picture, unchanged and at each strength, as the page shows it."""
    from ..imaging import measure_change, measure_visibility

    original = picture.before
    tiles = [_preview_tile(original, "unchanged", "")]
    for name, changed in picture.after.items():
        change = measure_change(original, changed)
        seen = measure_visibility(original, changed, with_flip=True)
        flip = "" if seen.flip is None else f", FLIP {seen.flip:.3f}"
        levels = budgets[name].whole_levels
        note = (
            f"at most {levels} of 255 levels{flip}, CIEDE2000 {seen.ciede:.1f} "
            f"(patches {seen.ciede_patches:.1f}), PSNR {change.psnr:.1f} dB, SSIM {change.ssim:.3f}"
        )
        tiles.append(_preview_tile(changed, name, note))
    return {"name": picture.relative, "width": original.width, "height": original.height, "tiles": tiles}


def _preview_tile(picture: Picture, title: str, note: str) -> dict[str, str]:
    """The middle of the picture at its own size: scaled down, much of the change would vanish."""
    from ..imaging import png_data_uri

    rgb = picture.rgb8()
    top, left = (max(0, (side - _TILE_SIDE) // 2) for side in rgb.shape[:2])
    return {"title": title, "note": note, "uri": png_data_uri(rgb[top : top + _TILE_SIDE, left : left + _TILE_SIDE])}
