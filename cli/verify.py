"""``bitterant verify CLEAN PROTECTED``: attack the protection and say what is left of it.

Which files of a verification do not fit, and what to do about each kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..attacks.beside import report_beside
from ..errors import ConfigError
from . import options
from .boundary import guarded, prepare_torch
from .options import complete_adversary
from .output import Output
from .progress import ProgressDisplay

if TYPE_CHECKING:
    from ..attacks import VerificationReport
    from ..attacks.schema import WorstCase

NAMED = 3
"""So many files of a kind are named; all of them stand in the report."""

_KINDS = {
    "unreadable": ("cannot be read", "Replace broken originals, and protect again what has a broken copy."),
    "resized": ("size or mode is not that of the original", "Protect again, and leave the copies as they are."),
    "relabelled": ("the copy lies in another class", "Move it into the class folder of its original."),
    "extra": ("in PROTECTED without original", "Take it out, or protect it as part of CLEAN."),
    "over budget": ("changed by more than was promised", "Protect again, and leave the copies as they are."),
    "missing": ("without protected copy", "Protect CLEAN again, or take what is not published out of it."),
    "leaked": ("tested on, so left out of training", "Test on pictures that are not in CLEAN, in no file."),
    "near": ("test pictures that nearly equal a training picture", "Test on other pictures, with --test."),
    "untestable": ("test pictures that cannot be read", "Replace them, or take them out."),
}
"""What is wrong, in words, and the remedy, the gravest first."""


def tell_misfits(output: Output, result: VerificationReport) -> None:
    """Name the files, a few of each kind, on stderr; say nothing where all fit."""
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in _KINDS}
    for issue in result.dataset.issues:
        found.setdefault(issue.kind, []).append((issue.path, issue.detail))
    announced = result.protection is not None and result.protection.format == "same"
    if not announced:  # copies in a lossy format stray, and whoever chose it was told
        found["over budget"] += [(path, "") for path in result.stealth.over_budget]
    for kind, files in found.items():
        if not files:
            continue
        what, remedy = _KINDS.get(kind, (f"are {kind}", "See the report."))
        output.say(f"  {len(files)} {'file' if len(files) == 1 else 'files'}: {what}. {remedy}")
        for path, detail in files[:NAMED]:
            output.say(f"      {path}{': ' if detail else ''}{detail}", style="dim")
        if len(files) > NAMED:
            output.say(f"      and {len(files) - NAMED} more", style="dim")


SHOWN_CAVEATS = 4


def verify(
    clean: Annotated[
        Path, typer.Argument(metavar="CLEAN", help="The originals; in class folders, or else sorted by how they look.")
    ],
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="The protected copies of the same pictures.")],
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Clean pictures to test on, in the same class folders. Without it a part of CLEAN is held out.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for report.html, report.json and the tables beside them.",
            show_default="PROTECTED-report, beside PROTECTED",
        ),
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Keep no report.", rich_help_panel=options.ADVANCED)
    ] = False,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How much to try: smoke (about a minute), quick, standard, full; or emn, apbench: as in a paper.",
        ),
    ] = "quick",
    epsilon: options.PromisedEpsilonOption = None,
    require_tier: Annotated[
        str | None,
        typer.Option(
            metavar="TIER",
            help="With --require-grade: the trainer to withstand, such as naive or transforms.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    require_grade: Annotated[
        str | None, typer.Option(metavar="GRADE", help="Exit code 4 unless reached: weak, moderate or strong.")
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(metavar="M", help="Leave out conditions that do not fit in; the report says which."),
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep finished trainings here. Verifications that share a folder share those on the clean pictures.",
            show_default="cells in the report's folder",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Use trainings that an earlier run kept, or do all anew. Default: use them.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = True,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    config: options.ConfigOption = None,
    victim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Train this model; may be given several times. See 'bitterant list victims'.",
            show_default="the preset's",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    adversary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Try this against the protection; may be given several times. See 'bitterant list adversaries'.",
            autocompletion=complete_adversary,
            show_default="the preset's",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How often each training is repeated.",
            show_default="the preset's",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="N",
            help="How often each training sees every picture.",
            show_default="the preset's: 12 for quick and standard, 48 for full, more for few pictures",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    precision: options.PrecisionOption = "auto",
    resolution: options.ResolutionOption = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Trainings at the same time.",
            show_default="one a processor",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights for LPIPS, a measure of how visible the change is; see docs/file-formats.md.",
            show_default="torch's cache",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    debug: options.DebugOption = False,
) -> None:
    """Train models on CLEAN, on PROTECTED and on random noise, and say how much a trainer still learns.

    Exit code 4: the required grade was not reached. 5: the test itself is not valid, see the report.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if report is None and not no_report:
        report, cells = report_beside(protected, cells)
    kept = report / "cells" if cells is None and report is not None else cells
    with guarded(output, debug=debug, stopped=_stopped(kept, resume=resume)):
        if no_report and report is not None:
            raise ConfigError("Give --report or --no-report, not both.")
        if report is not None and (report / "report.json").exists():
            output.warn(f"The report that is in {report} will be replaced; give another --report to keep it.")
        side = options.parse_resolution(resolution)
        promised = options.promised_epsilon(epsilon)
        prepare_torch()
        from ..attacks import verify_folder

        with ProgressDisplay(output) as progress:
            result = verify_folder(
                clean,
                protected,
                test=test,
                report=report,
                preset=preset,
                victims=victim or None,
                adversaries=adversary or None,
                seeds=seeds,
                epochs=epochs,
                precision=precision,
                resolution=side,
                seed=seed,
                device=device,
                epsilon=promised,
                require_tier=require_tier,
                require_grade=require_grade,
                max_minutes=max_minutes,
                workers=workers,
                lpips=lpips,
                cells=cells,
                resume=resume,
                progress=progress,
            )
        tell_verdict(output, result, report)
        tell_misfits(output, result)
        if result.reused_cells:
            output.say(f"  {result.reused_cells} of {len(result.cells)} trainings were done before and kept in {kept}.")
        output.result(result.model_dump(mode="json"))
        raise typer.Exit(result.exit_code())


def _stopped(kept: Path | None, *, resume: bool) -> str:
    """What to say on Ctrl-C."""
    if kept is None:
        return "Stopped. Nothing was decided; the same command starts over. Without --no-report it would go on."
    again = "the same command" if resume else "the same command without --no-resume"
    return f"Stopped. Finished trainings are kept in {kept}; {again} goes on from there."


def tell_verdict(output: Output, result: VerificationReport, report: Path | None) -> None:
    """Print the verdict, what each kind of trainer still learns, what to keep in mind, and where the report lies."""
    verdict = result.verdict
    output.say(verdict.headline, style="bold")
    if verdict.valid:
        by_id = {condition.id: condition for condition in result.conditions}
        rows = []
        for tier in verdict.tiers:
            worst = by_id.get(tier.worst or "")
            if worst is None or worst.figure is None:
                continue
            share = f"{worst.figure.estimate:.2f} ({worst.figure.low:.2f} to {worst.figure.high:.2f})"
            words = (
                f"still learnable {share} of what clean pictures teach"
                if worst.metric == "rho"
                else f"they add {share} of what clean pictures would add"
            )
            part = "" if tier.complete else ", partly tested"
            rows.append((tier.tier, f"{tier.grade}{part}; {words}: {worst.id}"))
        output.facts(rows)
        _tell_trainers(output, result)
    if result.labellings:
        output.say("  The pictures came without classes; by the labels that were made for them:")
        output.facts([(row.grouping, row.grade if row.valid else "not valid") for row in result.labellings])
    for caveat in verdict.caveats[:SHOWN_CAVEATS]:
        output.say(f"  - {caveat}", style="dim")
    if report is not None:
        output.facts([("report", str(report / "report.html")), ("for programs", str(report / "report.json"))])


def _tell_trainers(output: Output, result: VerificationReport) -> None:
    """Print what each class of trainers gets at most, among the adversaries seen in crafting and among the others."""
    tested = [found for found in result.trainers if found.tested]
    if not tested:
        return
    rows = []
    for found in tested:
        cases = {"seen": found.seen, "held out": found.held_out}
        told = "; ".join(f"{name} {_case(case)}" for name, case in cases.items() if case is not None)
        if found.worst is not None and found.worst.moment == "peak" and found.at_end is not None:
            told += f"; at the end at most {100 * found.at_end.accuracy.estimate:.0f} %: {found.at_end.id}"
        left = ", ".join(text.partition(": ")[0] for text in found.untested)  # an id has no space behind its colon
        rows.append((found.trainer, f"{told}{f'; not tested: {left}' if left else ''}"))
    absent = ", ".join(found.trainer for found in result.trainers if not found.tested)
    held = ", ".join(found.trainer for found in tested if found.held_out is not None)
    kept = (
        f"Adversaries held out from crafting: {held} alone" if held else "No adversary held out from crafting was run"
    )
    output.say("  At most, by what the trainer owns and spends (accuracy on clean test pictures):")
    output.facts(rows)
    output.say(
        f"  {f'No trainer was tested of: {absent}. ' if absent else ''}"
        f"{kept}. "
        "One protected copy was judged, so how much another seed of the protection would change is in no interval. "
        "'bitterant list adversaries' explains the words."
    )


def _case(case: WorstCase) -> str:
    """One worst case: what the trainer gets, of what, and how."""
    gets, share = case.accuracy, ""
    if case.rho is not None:
        share = f", still learnable {case.rho.estimate:.2f}"
    elif case.mv is not None:
        share = f", marginal value {case.mv.estimate:.2f}"
    moments = {"final": "", "peak": ", at its best moment", "validated": ", at the moment chosen with clean pictures"}
    return (
        f"{100 * gets.estimate:.0f} % ({100 * gets.low:.0f} to {100 * gets.high:.0f}) "
        f"of {100 * case.clean.estimate:.0f} %{share}: {case.id}{moments[case.moment]}"
    )
