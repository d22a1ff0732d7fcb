"""``bitterant verify CLEAN PROTECTED``: attack the protection, say what is left of it, and which files do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..attacks.config import VerifyConfig
from ..errors import ConfigError
from ..records.text import counted
from . import options
from .boundary import guarded, prepare_torch
from .output import Output, ProgressDisplay

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


def tell_file_issues(output: Output, result: VerificationReport) -> None:
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
        output.say(f"  {counted(len(files), 'file')}: {what}. {remedy}")
        for path, detail in files[:NAMED]:
            output.say(f"      {path}{': ' if detail else ''}{detail}", style="dim")
        if len(files) > NAMED:
            output.say(f"      and {len(files) - NAMED} more", style="dim")


def tell_missing_records(output: Output, result: VerificationReport, protected: Path) -> None:
    """Say so where nothing was found of the run that made the copies, and where it was looked for."""
    if result.protection is None:
        from ..records.run_file import find_records, where_looked

        paired = "" if find_records(protected) else ", and they were paired with the originals by their names alone"
        output.say(
            f"  No run file of 'bitterant protect' that can be used lies in {where_looked(protected)}, so how the "
            f"copies were made is not known{paired}."
        )


SHOWN_CAVEATS = 4


@options.takes_options(VerifyConfig, from_file=True)
def verify(
    clean: Annotated[
        Path, typer.Argument(metavar="CLEAN", help="The originals; in class folders, or else sorted by how they look.")
    ],
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="The protected copies of the same pictures.")],
    given: options.Given,
    terminal: options.Terminal,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Keep no report.", rich_help_panel=options.ADVANCED)
    ] = False,
) -> None:
    """Train models on CLEAN, on PROTECTED and on random noise, and say how much a trainer still learns.

    Exit code 4: the required grade was not reached. 5: the test itself is not valid, see the report.
    """
    output = terminal.output
    from ..attacks.beside import report_beside

    named: Path | None = given.get("report")
    if named is None and not no_report:
        given["report"], given["cells"] = report_beside(protected, given.get("cells"))
    report: Path | None = given.get("report")
    kept = given.get("cells") or (None if report is None else report / "cells")
    with guarded(output, debug=terminal.debug, stopped=_stopped(kept, resume=given.get("resume", True))):
        if no_report and named is not None:
            raise ConfigError("Give --report or --no-report, not both.")
        if report is not None and (report / "report.json").exists():
            output.warn(f"The report that is in {report} will be replaced; give another --report to keep it.")
        prepare_torch()
        from ..attacks import verify_folder

        with ProgressDisplay(output) as progress:
            result = verify_folder(clean, protected, **given, progress=progress)
        tell_verdict(output, result, report)
        tell_file_issues(output, result)
        tell_missing_records(output, result, protected)
        if result.reused_cells:
            output.say(
                f"  {result.reused_cells} of {counted(len(result.cells), 'training')} "
                f"{'was' if result.reused_cells == 1 else 'were'} done before and kept in {kept}."
            )
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
