"""What a fit says of itself reaches the user."""

from __future__ import annotations

from typing import Any

import pytest

from bitterant.protect.folder.fitting import fit_warnings


def check(residual: float, *, conclusive: bool = True, target: float | None = 0.2) -> dict[str, Any]:
    rows = [
        {"attempt": 0, "residual": 0.9, "conclusive": True},
        {"attempt": 1, "residual": residual, "conclusive": conclusive},
    ]
    return {"self_check": {"target_residual": target, "chosen_attempt": 1, "attempts_made": 3, "results": rows}}


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (check(0.1), None),
        (check(0.27), "aimed at 20% and found that a small model still learns 27% "),
        (check(0.1, conclusive=False), "could not tell"),
        (check(0.9, target=None), None),
        ({"self_check": {"target_residual": 0.2, "chosen_attempt": 0, "results": []}}, None),
        ({"self_check": {"accuracy": 0.25}}, None),
        ({}, None),
    ],
)
def test_a_self_check_that_failed_is_a_warning(report: dict[str, Any], words: str | None) -> None:
    found = fit_warnings(report)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
