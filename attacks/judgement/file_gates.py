"""Gates that look at the files alone, and are known before the first training: G5 and G6."""

from __future__ import annotations

from collections.abc import Sequence

from ..schema import Gate, PairIssue, Protection, Stealth
from .rule import RULE

__all__ = ["check_data"]

_NAMED = 3
"""G5: so many pictures are named in the gate; all of them stand among the issues."""

_BROKEN = {
    "relabelled": "relabelled",
    "resized": "of another size or mode",
    "unreadable": "unreadable",
    "extra": "without original",
}
"""Kinds of issues that fail G6.

``extra``: a picture in a class folder of PROTECTED that has no original is published with the others, so a trainer
learns from it, but no arm holds it. It may be a clean picture under another name, which alone would undo the
protection of its class. The victims were then not trained on what a trainer gets, and no figure of theirs counts.
"""


def check_data(
    stealth: Stealth, issues: Sequence[PairIssue], protection: Protection | None, test_images: int
) -> list[Gate]:
    """G5 and G6.

    Args:
        stealth: how far the files are from their originals.
        issues: files that could not be paired, or have another form, and near-duplicates.
        protection: what the run file says.
        test_images: how many are tested on.
    """
    return [_apart(issues, test_images), _files(stealth, issues, protection.format if protection else None)]


def _count(issues: Sequence[PairIssue], kind: str) -> int:
    return sum(issue.kind == kind for issue in issues)


def _apart(issues: Sequence[PairIssue], tested: int) -> Gate:
    near = [issue.path for issue in issues if issue.kind == "near"]
    share = len(near) / max(1, tested)
    names = f": {', '.join(near[:_NAMED])}{', ...' if len(near) > _NAMED else ''}" if near else ""
    return Gate(
        id="G5",
        scope="all",
        title="Test pictures are other pictures than those trained on",
        status="pass" if not near else ("warn" if share <= RULE.near_share else "fail"),
        decisive=True,
        value=f"{len(near)} of {tested} nearly equal a training picture{names}",
        threshold=f"at most {100 * RULE.near_share:.0f} % of them, better none",
    )


def _files(stealth: Stealth, issues: Sequence[PairIssue], file_format: str | None) -> Gate:
    broken = [f"{count} {words}" for kind, words in _BROKEN.items() if (count := _count(issues, kind))]
    remarks = ["no budget stated"] if stealth.budget_levels is None else []
    if stealth.over_budget:
        over = f"{len(stealth.over_budget)} over budget"
        # Copies that keep a lossy format cannot keep a budget, and whoever chose it was told.
        if file_format == "same":
            remarks.append(f"{over}, which the run file announces (--format same)")
        else:
            broken.insert(0, over)
    found = ", ".join([*broken, *remarks]) or "all as they should be"
    budget = "a stated budget" if stealth.budget_levels is None else f"at most {stealth.budget_levels:g} levels"
    return Gate(
        id="G6",
        scope="all",
        title="Every protected file decodes, has an original with its form and label, and keeps the budget",
        status="fail" if broken else ("warn" if remarks else "pass"),
        decisive=True,
        value=f"{found}; largest change {stealth.linf_max:g} levels",
        threshold=f"{budget}, same size and mode, labels intact, nothing without an original",
    )
