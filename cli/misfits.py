"""Which files of a verification do not fit, and what to do about each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import Output

if TYPE_CHECKING:
    from ..attacks import VerificationReport

__all__ = ["tell_misfits"]

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
