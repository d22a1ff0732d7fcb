"""The page for people: what the template shows, in the order in which it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...imaging import render_page
from ..adversaries import Tier
from ..data import StealthFile
from ..judgement.grading import BOUNDS
from ..schema import Gate, Grade, VerificationReport
from .charts import ClassTable, curve_charts, matrices, mix_charts, visibility_charts
from .drawing import axis, power_picture, ring_chart
from .rows import class_rows, plain_words, trainer_rows
from .spectrum import Powers
from .tiles import GAIN, Tile
from .trainers import class_cases

__all__ = ["advice", "render_report"]

_MOST_ISSUES = 50
_SHOWN_ROWS = 14
_WHITE_LOW_SHARE = math.pi * 0.25**2
"""Random noise has its power spread evenly over all frequencies: the area of the circle of a quarter of a cycle."""

_TONES: dict[Grade, str] = {
    "strong": "ok",
    "moderate": "ok",
    "weak": "warn",
    "inconclusive": "warn",
    "none": "bad",
    "not graded": "",
    "not tested": "",
}
_EFFORTS: dict[Tier, str] = {
    "naive": "takes the pictures as they are",
    "transforms": "first compresses, scales, blurs or turns them grey",
    "training": "trains harder: augments, trains adversarially, cleans the pictures",
    "prior": "has a trained model already, or a few clean pictures",
    "relabel": "sorts them under other labels",
    "mixing": "mixes them with clean pictures",
}
"""The tiers, so that they can follow "The trainer …"."""

_WORDS: dict[Grade, str] = {"none": "no protection"}
_GATES = {
    "pass": ("ok", "passed"),
    "warn": ("warn", "in doubt"),
    "fail": ("bad", "failed"),
}


def render_report(
    report: VerificationReport,
    *,
    files: Sequence[StealthFile] = (),
    tiles: Sequence[Tile] = (),
    powers: Powers | None = None,
) -> str:
    """The HTML page: one file, nothing loaded from elsewhere.

    Args:
        report: the result.
        files: for the histograms of how visible the change is.
        tiles: pictures to show.
        powers: for the picture of the spectrum.
    """
    tested = [condition for condition in report.conditions if condition.arms]
    rows, by_class, confusions = trainer_rows(report), class_rows(report), matrices(report)
    curves, visibility = curve_charts(report), visibility_charts(files)
    owners = class_cases(report)
    mixing = [condition for condition in tested if condition.metric == "mv"]
    return render_page(
        __package__ or "bitterant.attacks",
        "verify.html.j2",
        report=report,
        verdict=report.verdict,
        advice=advice(report),
        headline=report.verdict.headline.replace(" %", "\u00a0%"),  # a number keeps its sign on its line
        dataset=report.dataset,
        stealth=report.stealth,
        plan=report.plan,
        tones=_TONES,
        grade_words={grade: _WORDS.get(grade, grade) for grade in _TONES},
        tone=_tone(report),
        tiers=_tiers(report),
        bounds=BOUNDS,
        owners=owners,
        unowned=[found for found in report.trainers if not found.tested],
        unequal=len(set(report.dataset.test_counts)) > 1,
        tiles=tiles,
        gain=GAIN,
        tested=tested,
        axis=axis(),
        rows=rows[:_SHOWN_ROWS],
        more_rows=rows[_SHOWN_ROWS:],
        not_counted=[c for c in report.conditions if c.status != "ok" and c.metric == "rho"],
        learned=[condition for condition in tested if condition.metric == "rho"],
        has_noise=any(condition.noise is not None for condition in tested),
        has_untrained=any("untrained" in condition.arms for condition in tested),
        by_class=any(condition.basis == "balanced accuracy" for condition in tested),
        curves=curves,
        mixing=mixing,
        mix_charts=mix_charts(report),
        matrices=confusions,
        class_rows=by_class,
        class_table=ClassTable.of(report),
        visibility=visibility,
        separability=report.separability,
        spectrum=report.spectrum,
        power_picture=power_picture(powers.protected) if powers is not None and powers.protected.any() else None,
        ring_chart=ring_chart(report.spectrum) if report.spectrum is not None else None,
        noise_low_share=_WHITE_LOW_SHARE,
        gates=_gates(report.gates),
        notable_gates=[gate for gate in report.gates if gate.status != "pass"],
        gate_words=_GATES,
        issues=report.dataset.issues[:_MOST_ISSUES],
        minutes=report.wall_seconds / 60,
    )


def advice(report: VerificationReport) -> str:
    """What follows from the verdict, for whoever has the pictures."""
    verdict = report.verdict
    if not verdict.valid:
        return "Believe none of these figures. Mend what the sentence above names, and verify again."
    grades = [tier.grade for tier in verdict.tiers if tier.upper is not None]
    if not verdict.graded or not grades:
        return (
            "This was a smoke test: it runs, and says no more. For a grade, verify with the preset quick or standard."
        )
    if "none" in grades:
        return (
            "Do not rely on this protection: at least one trainer still learns. Protect again with more strength or "
            "another method, or publish fewer, smaller, or no pictures."
        )
    if {"inconclusive", "not graded"} & set(grades):
        return "Too little was tested to tell. Give more test pictures, or repeat each training more often."
    told = [
        "It makes training harder, not impossible." if "weak" in grades else "",
        "Publish the copies alone, and keep originals, banks and keys to yourself: whoever has pairs of both can "
        "learn to undo the protection.",
        "" if report.plan.preset in ("standard", "full") else "Verify with the preset standard before you rely on it.",
    ]
    return " ".join(filter(None, told))


def _tone(report: VerificationReport) -> str:
    verdict = report.verdict
    if not verdict.valid:
        return "bad"
    grades = {tier.grade for tier in verdict.tiers if tier.upper is not None}
    if "none" in grades:
        return "bad"
    # Green would say more than was tested where a kind of trainer was left out.
    whole = verdict.graded and all(tier.complete for tier in verdict.tiers)
    return "ok" if whole and grades <= {"strong", "moderate"} else "warn"


def _tiers(report: VerificationReport) -> list[dict[str, Any]]:
    """The rows of the traffic-light table, with the hardest case in words."""
    by_id = {condition.id: condition for condition in report.conditions}
    rows = []
    for tier in report.verdict.tiers:
        worst = by_id.get(tier.worst or "")
        rows.append(
            {
                "verdict": tier,
                "title": _EFFORTS[tier.tier],
                "worst": worst,
                "case": None if worst is None else plain_words(worst),
                "share": None if tier.upper is None else min(1.0, max(0.0, tier.upper)),
            }
        )
    return rows


def _gates(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """One row a gate: how often it was passed."""
    found: dict[str, list[Gate]] = {}
    for gate in gates:
        found.setdefault(gate.id, []).append(gate)
    return [
        {
            "id": name,
            "title": group[0].title,
            "first": group[0],
            "total": len(group),
            "passed": sum(gate.status == "pass" for gate in group),
            "worst": next(status for status in ("fail", "warn", "pass") if any(g.status == status for g in group)),
        }
        for name, group in found.items()
    ]
