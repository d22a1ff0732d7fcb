"""Reports from predictions that were made up: whole, and without a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.data import VerificationData, load_sets
from bitterant.attacks.evaluation import RULE, analyse, check_data, check_gates, conclude, trainer_results
from bitterant.attacks.report import (
    choose_sample,
    describe_environment,
    describe_powers,
    describe_tool,
    measure_powers,
    measure_separability,
    mix_points,
    plan_digest,
)
from bitterant.attacks.report.measures import Powers
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Plan, VerificationReport
from bitterant.attacks.terms import Labelling
from bitterant.attacks.training import Cell, CellResult, GridResult, cells_of
from bitterant.imaging import ImageSet
from bitterant.surrogates import CurvePoint

SIDE, SEEDS, EVALS = 24, (11, 12, 13), 5
CLEAN = {"clean": 0.9, "noise": 0.88, "part": 0.7, "noise-mixed": 0.86, "untrained": 0.3, "shuffled": 0.0}


@dataclass(frozen=True)
class Made:
    """A report with all that its files are written from."""

    report: VerificationReport
    data: VerificationData
    cells: list[CellResult]
    labels: dict[str, np.ndarray]
    powers: Powers


def sets_of(classes: Sequence[str], per_class: int, seed: int, delta: np.ndarray | None) -> tuple[ImageSet, ImageSet]:
    """Random pictures, no two alike, and the same with ``delta`` (int ``[SIDE, SIDE]``) on them."""
    rng = np.random.default_rng(seed)
    labels = torch.arange(len(classes)).repeat(per_class)
    slope = rng.uniform(60, 190, (len(labels), 3, 1, 1)) + rng.uniform(-30, 30, (len(labels), 3, 1, 1)) * np.linspace(
        -1, 1, SIDE
    )
    squares = rng.uniform(-20, 20, (len(labels), 3, 6, 6)).repeat(SIDE // 6, axis=2).repeat(SIDE // 6, axis=3)
    clean = (slope + squares).round()
    after = clean if delta is None else np.clip(clean + delta, 0, 255)
    made = [torch.from_numpy(images.astype(np.uint8)) for images in (clean, after)]
    first = ImageSet.from_tensors(made[0], labels, classes=tuple(classes))
    return first, ImageSet(made[1], labels, first.classes, first.keys)


def answers(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Predictions of which about ``share`` is right."""
    right = rng.random(len(labels)) < share
    return np.where(right, labels, rng.integers(0, int(labels.max()) + 1, len(labels)))


def cell_result(cell: Cell, labels: np.ndarray, share: float) -> CellResult:
    rng = np.random.default_rng([cell.victim_seed, len(cell.arm), sum(map(ord, cell.adversary + cell.victim))])
    share = float(np.clip(share + rng.normal(0, 0.01), 0, 1))
    probe = ":" in cell.adversary and cell.adversary.startswith(("knn", "linear"))
    curve = tuple(CurvePoint(20 * k, 4.0 * k, 2.0 / k, 1 - 0.8**k, share * (1 - 0.5**k)) for k in range(1, EVALS + 1))
    predicted = answers(labels, share, rng)
    return CellResult(
        cell, 0 if probe else 100, 0.98, float("nan") if probe else 0.1, True, predicted, predicted, 100,
        () if probe else curve, 2.0, None if probe else predicted,
    )  # fmt: skip


def make_report(
    adversaries: Sequence[str] = ("jpeg:10", "mix:0.5"),
    *,
    classes: Sequence[str] = ("ants", "bees", "crows", "doves"),
    protected: float | Mapping[str, float] = 0.3,
    shares: Mapping[str, float] | None = None,
    victims: Sequence[str] = ("small-cnn",),
    delta: np.ndarray | None = None,
    per_class: int = 30,
    **changes: Any,
) -> Made:
    """A report on made-up predictions.

    Args:
        adversaries: besides ``none``.
        classes: their names.
        protected: accuracy on protected (or mixed) pictures, one number or one an adversary.
        shares: accuracy of the other arms.
        victims: the first meets every adversary.
        delta: what was put on every picture; a wave of 8 levels where left out.
        per_class: pictures of a class, to train on and to test on.
        **changes: fields of the report to replace.
    """
    if delta is None:
        delta = np.rint(8 * np.cos(2 * np.pi * np.arange(SIDE) * 6 / SIDE)).astype(int)[None, :].repeat(SIDE, axis=0)
    request = resolve_request(VerifyConfig(
        preset="quick", victims=tuple(victims), adversaries=tuple(adversaries), seeds=len(SEEDS), seed=0,
        require_tier=None, require_grade=None, max_minutes=None, recipe=None,
    ))  # fmt: skip
    clean, after = sets_of(classes, per_class, 0, delta)
    data = load_sets(clean, after, sets_of(classes, per_class, 1, None)[0], epsilon=8 / 255)
    plan = Plan(
        rule=RULE, preset="quick", seed=0, victim_seeds=SEEDS, conditions=plan_conditions(request), resolution=SIDE,
        recipes={name: {"steps": 100, "lr": 0.1} for name in victims}, train_images=len(data.labels),
        test_images=len(data.test_labels), noise_levels=data.noise_levels, alpha=0.05, draws=400, evals=EVALS,
        max_minutes=None, required_tier=None, required_grade=None, data_sha256=data.sha256(),
    )  # fmt: skip
    labellings = {name: _labelling(name, data) for name in request.adversaries}
    grid = GridResult()
    for planned in plan.conditions:
        for cell in cells_of(planned, SEEDS):
            if cell not in grid.cells:
                known = {**CLEAN, **(shares or {})}
                by_name = protected if isinstance(protected, Mapping) else {}
                treated = by_name.get(cell.adversary, by_name.get("none", 0.3)) if by_name else protected
                share = known.get(cell.arm, treated)
                grid.cells[cell] = cell_result(cell, labellings[cell.adversary].test, float(share))  # type: ignore[arg-type]
    stealth, dataset, cells = data.stealth(), data.describe(), list(grid.cells.values())
    conditions = analyse(plan, grid, request.adversaries, labellings)
    files = check_data(stealth, data.issues, None, len(data.test_labels))
    gates = check_gates(plan, conditions, cells, data.test_labels, len(data.classes), files, None, request.victims)
    conditions, verdict = conclude(plan, conditions, gates, data.issues, ["One caveat."])
    sample = choose_sample(data, seed=0)
    powers = measure_powers(sample)
    values: dict[str, Any] = {
        "tool": describe_tool(),
        "created": "2026-01-01T10:00:00+00:00",
        "command": "bitterant verify clean protected",
        "wall_seconds": 60.0,
        "plan": plan,
        "plan_hash": plan_digest(plan),
        "environment": describe_environment("cpu", 1),
        "dataset": dataset,
        "protection": None,
        "stealth": stealth,
        "spectrum": describe_powers(powers),
        "separability": measure_separability(sample, seed=0),
        "cells": tuple(c.record(labellings[c.cell.adversary].test) for c in cells),
        "conditions": tuple(conditions),
        "mixing": mix_points(conditions),
        "trainers": trainer_results(conditions),
        "gates": tuple(gates),
        "verdict": verdict,
    }
    report = VerificationReport(**{**values, **changes})
    return Made(report, data, cells, {name: found.test for name, found in labellings.items()}, powers)


def _labelling(name: str, data: VerificationData) -> Labelling:
    if name.startswith("regroup"):
        return Labelling(data.labels // 2, data.test_labels // 2, (len(data.classes) + 1) // 2, "pairs of classes")
    return Labelling(data.labels, data.test_labels, len(data.classes))


MakeReport = Callable[..., Made]


@pytest.fixture(scope="session")
def report_maker() -> MakeReport:
    return make_report


@pytest.fixture(scope="session")
def made() -> Made:
    """A report with an adversary of every kind that the page treats on its own."""
    return make_report(
        ["early-stop", "jpeg:10", "knn", "regroup:2", "mix:0.5", "mix:0.8"], protected={"jpeg:10": 0.85, "none": 0.3}
    )
