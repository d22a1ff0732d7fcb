"""``bitterant protect SRC OUT``: the whole job, from a folder to its protected copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .boundary import guarded, prepare_torch, stopping
from .output import Output, after_protect
from .progress import ProgressDisplay, duration, pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..imaging import FileProblem
    from ..protect.folder.plan import Plan
    from ..protect.folder.report import RunSummary


SHOWN_PROBLEMS = 10

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SRC", help="Folder of pictures; its sub-folders are the classes.")
]
OutputArgument = Annotated[
    Path, typer.Argument(metavar="OUT", help="New folder for the protected copies. SRC is never changed.")
]


def protect(
    ctx: typer.Context,
    source: SourceArgument,
    output_folder: OutputArgument,
    strength: options.StrengthOption = None,
    epsilon: options.EpsilonOption = None,
    method: options.MethodOption = "auto",
    granularity: options.GranularityOption = None,
    file_format: options.FormatOption = "lossless",
    metadata: options.MetadataOption = "keep",
    mark: options.MarkOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan with time and memory estimates; write nothing.")
    ] = False,
    resume: options.ResumeOption = True,
    strict: options.StrictOption = False,
    follow_links: options.FollowLinksOption = False,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    config: options.ConfigOption = None,
    keep_bank: Annotated[
        Path | None,
        typer.Option(
            "--bank",
            metavar="FILE",
            help="Keep the noise in FILE. Whoever has it can remove the protection: keep it private.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    surrogate: options.SurrogateOption = None,
    resolution: options.ResolutionOption = "auto",
    preset: options.PaperOption = None,
    precision: options.PrecisionOption = "auto",
    parameters: options.ParameterOption = None,
    generator: options.GeneratorOption = None,
    for_resolution: options.ForResolutionOption = None,
    coco: options.CocoOption = None,
    weights: options.WeightsOption = None,
    allow_download: options.AllowDownloadOption = False,
    workers: options.WorkersOption = None,
    max_pixels: options.MaxPixelsOption = 200_000_000,
    debug: options.DebugOption = False,
) -> None:
    """Write protected copies of the pictures in SRC to OUT.

    The copies look nearly the same to people. A model trained on them learns little of what they show.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with guarded(output, debug=debug):
        side = options.parse_resolution(resolution)
        chosen = options.method_parameters(parameters, generator=generator, for_resolution=for_resolution)
        prepare_torch()
        from ..protect import protect_folder
        from ..protect.folder.plan import Plan
        from ..records.progress import interruptible

        with ProgressDisplay(output) as progress, interruptible(stopping(output)) as stop:
            outcome = protect_folder(
                source,
                output_folder,
                method=method,
                granularity=granularity,
                epsilon=options.epsilon_levels(ctx, epsilon, strength) / 255,
                surrogate=surrogate,
                resolution=side,
                format=file_format,
                metadata=metadata,
                mark=mark,
                seed=seed,
                device=device,
                preset=preset,
                precision=precision,
                weights=weights,
                allow_download=allow_download,
                coco=coco,
                parameters=chosen,
                resume=resume,
                strict=strict,
                follow_links=follow_links,
                dry_run=dry_run,
                bank=keep_bank,
                workers=workers,
                max_pixels=max_pixels,
                progress=progress,
                stop=stop,
            )
        if isinstance(outcome, Plan):
            tell_plan(output, outcome)
            return
        tell_summary(output, outcome)
        if not outcome.exit_code and not outcome.already_done:
            without = {problem.relative for problem in outcome.problems}
            if following := after_protect(source, output_folder, without):
                output.say(f"Next: {following}", style="bold")
        raise typer.Exit(outcome.exit_code)


def tell_plan(output: Output, plan: Plan) -> None:
    """Print what a run would do, and that nothing was written."""
    for text in plan.warnings:
        output.warn(text)
    tell_problems(output, plan.problems)
    output.say(f"Plan for {plan.source} -> {plan.output}. Nothing was written.", style="bold")
    kinds = ", ".join(f"{count} {name}" for name, count in plan.by_format.items())
    classes = f" in {len(plan.by_class)} classes" if plan.by_class else ", no class folders"
    settings = plan.settings
    part = plan.seconds
    output.facts(
        [
            ("pictures", f"{plan.images}{classes} ({kinds})"),
            ("besides", f"{plan.captions} captions and label maps to copy, {plan.skipped} other files left aside"),
            ("method", f"{plan.method}, one pattern for each {settings['granularity']}, seed {settings['seed']}"),
            ("budget", f"{settings['epsilon'] * 255:g} of 255 levels"),
            *(
                [("models see", f"{plan.resolution} x {plan.resolution} pixels, on {settings['device']}")]
                if plan.resolution is not None
                else []
            ),
            ("size", f"{_size(plan.bytes_in)} now, about {_size(plan.bytes_out)} protected"),
            (
                "time",
                f"about {duration(part.total)}: reading {duration(part.read)}, making the noise {duration(part.fit)}, "
                f"writing {duration(part.write)} with {plan.workers} threads",
            ),
            ("memory", f"about {_size(plan.peak_bytes)} at most"),
        ]
    )
    output.say(f"Measured on {plan.sampled} of the pictures; expect the time within a factor of two.", style="dim")
    output.result(plan.to_json())


def _size(count: float) -> str:
    """Bytes in a form people read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"


def tell_summary(output: Output, summary: RunSummary) -> None:
    """Print what a run did: every input accounted for, what went wrong, and where the report lies."""
    from ..protect.folder.report import BEFORE_PUBLISHING

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
    output.say(BEFORE_PUBLISHING, style="dim")
    output.result(summary.to_json())


def tell_problems(output: Output, problems: Sequence[FileProblem], *, listed: str = "the manifest") -> None:
    """Print the files that were left aside, the first ones by name; ``listed`` says where the others stand."""
    for problem in problems[:SHOWN_PROBLEMS]:
        output.warn(f"{problem.relative}: {problem.reason}")
    if len(problems) > SHOWN_PROBLEMS:
        output.warn(f"... and {len(problems) - SHOWN_PROBLEMS} more; {listed} lists them all.")
