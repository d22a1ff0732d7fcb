"""Bayes-error ascent: the estimator against loops, closed forms and quadrature, and what a fit promises.

T1 to T8 are the statements about Bayes errors that docs/methods/beo.md lists.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from bitterant.errors import ConfigError, LabelError, UnknownNameError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import BayesErrorAscent
from bitterant.protect.methods.beo.posterior import (
    Scaling,
    all_pairs,
    bayes_errors,
    kernel_posterior,
    plug_in_errors,
)
from bitterant.protect.methods.beo.references import balanced

QUICK: dict[str, Any] = {
    "rounds": 3, "inner_steps": 1, "first_epochs": 30, "estimate_images": 0, "device": "cpu",
}  # fmt: skip


def gaussians(count: int, mu: tuple[float, float], seed: int) -> tuple[Tensor, Tensor]:
    """Two classes N(+mu, 1) and N(-mu, 1) with equal priors: points double ``[N, 2]`` and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    centre = torch.tensor(mu, dtype=torch.float64) * (1 - 2 * labels[:, None])
    return centre + torch.randn(count, 2, generator=generator, dtype=torch.float64), labels


def naive(queries: Tensor, references: Tensor, labels: Tensor, classes: int, sigma: float, own: list[int]) -> Tensor:
    """Loops and plain exponentials; ``own[i]`` is the reference that query i leaves out, -1 for none."""
    posterior = torch.zeros(len(queries), classes, dtype=torch.float64)
    for i, query in enumerate(queries):
        for j, reference in enumerate(references):
            if j != own[i]:
                weight = math.exp(-float((query - reference).square().sum()) / (2 * sigma**2))
                posterior[i, labels[j]] += weight
        posterior[i] /= posterior[i].sum()
    return posterior


class TestEstimator:
    @pytest.mark.parametrize("leave_out", [False, True])
    def test_it_agrees_with_loops(self, leave_out: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        references = torch.randn(9, 3, generator=generator, dtype=torch.float64)
        labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
        rows = torch.tensor([4, 0, 7])
        ids = {"query_ids": rows, "reference_ids": torch.arange(9)} if leave_out else {}
        found = kernel_posterior(references[rows], references, labels, 3, sigma=0.8, **ids)
        expected = naive(references[rows], references, labels, 3, 0.8, rows.tolist() if leave_out else [-1] * 3)
        assert torch.allclose(found, expected, atol=1e-12)
        assert torch.allclose(bayes_errors(found, "max"), 1 - expected.max(1).values, atol=1e-12)
        own = labels[rows]
        assert torch.allclose(bayes_errors(found, "true", own), 1 - expected[torch.arange(3), own], atol=1e-12)

    def test_a_weighted_reference_counts_for_several(self) -> None:
        references = torch.tensor([[0.0], [1.0], [1.0], [1.0]], dtype=torch.float64)
        few = kernel_posterior(torch.tensor([[0.4]], dtype=torch.float64), references[:2], torch.tensor([0, 1]), 2,
                               sigma=0.5, log_weights=torch.tensor([1.0, 3.0], dtype=torch.float64).log())  # fmt: skip
        many = kernel_posterior(torch.tensor([[0.4]], dtype=torch.float64), references, torch.tensor([0, 1, 1, 1]), 2,
                                sigma=0.5)  # fmt: skip
        assert torch.allclose(few, many)

    @pytest.mark.parametrize("kind", ["max", "true"])
    @pytest.mark.parametrize("rows", [4, 512])
    def test_the_gradient_of_all_pairs_is_that_of_autograd_on_both_sides(self, kind: Any, rows: int) -> None:
        features, labels = gaussians(12, (0.5, 0.2), seed=1)
        scaling = Scaling.of("unit", features)
        errors, gradient = all_pairs(features, labels, 2, sigma=0.4, kind=kind, scaling=scaling, rows=rows)
        leaf = features.clone().requires_grad_(True)
        ids = torch.arange(12)
        posterior = kernel_posterior(
            scaling(leaf), scaling(leaf), labels, 2, sigma=0.4, query_ids=ids, reference_ids=ids
        )
        own = bayes_errors(posterior, kind, labels)
        (expected,) = torch.autograd.grad(own.sum(), leaf)
        assert torch.allclose(errors, own.detach())
        assert torch.allclose(gradient, expected, atol=1e-12)

    def test_gradcheck(self) -> None:
        features, labels = gaussians(6, (0.5, 0.2), seed=2)

        def error(points: Tensor) -> Tensor:
            ids = torch.arange(len(points))
            return bayes_errors(
                kernel_posterior(points, points, labels, 2, sigma=0.5, query_ids=ids, reference_ids=ids), "true", labels
            ).sum()

        assert torch.autograd.gradcheck(error, (features.requires_grad_(True),))

    @pytest.mark.parametrize("scale", [0.01, 0.1, 0.3, 1.0, 3.0])
    def test_t1_it_stays_in_range_where_kernels_underflow(self, scale: float) -> None:
        """The quotient with 1e-8 reads 1.0, more than is possible, from scale .3 on."""
        points = scale * torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(200) % 10
        errors, gradient = all_pairs(points, labels, 10, sigma=0.3)
        assert float(errors.min()) >= 0.0
        assert float(errors.max()) <= 0.9 + 1e-6
        assert torch.isfinite(gradient).all()

    def test_alone_there_is_no_posterior(self) -> None:
        one, label = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
        with pytest.raises(ConfigError, match="besides the query itself"):
            kernel_posterior(one, one, label, 2, sigma=1.0, query_ids=label, reference_ids=label)

    def test_a_bank_keeps_the_class_shares_by_weight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bitterant.protect.methods.beo.references.EXACT_LIMIT", 10)
        labels = torch.tensor([0] * 60 + [1] * 12)
        index, weights = balanced(labels, 2, torch.Generator().manual_seed(0), size=16)
        assert weights is not None
        chosen = labels[index]
        assert torch.bincount(chosen).tolist() == [8, 8]
        assert [float(weights.exp()[chosen == k].sum()) for k in (0, 1)] == pytest.approx([60, 12], rel=1e-5)


class TestTheory:
    GRID = np.linspace(-12, 12, 24_001)

    def bayes(self, first: np.ndarray, second: np.ndarray) -> float:
        """Bayes error by quadrature of two class densities with equal priors."""
        return float(np.trapezoid(np.minimum(first, second) / 2, self.GRID))

    def normal(self, mu: float, s: float = 1.0) -> np.ndarray:
        return norm.pdf(self.GRID, mu, s)

    def test_t2_mixing_is_concave(self) -> None:
        for (a, b), (c, d) in [((1.5, -1.5), (0.5, -0.5)), ((1.5, -1.5), (-1.0, 2.0)), ((2.0, 0.0), (0.0, 2.0))]:
            one = self.bayes(self.normal(a), self.normal(b))
            other = self.bayes(self.normal(c), self.normal(d))
            for r in (0.2, 0.5, 0.8):
                mixed = self.bayes(
                    (1 - r) * self.normal(a) + r * self.normal(c), (1 - r) * self.normal(b) + r * self.normal(d)
                )
                assert mixed >= (1 - r) * one + r * other - 1e-9
        assert self.bayes(self.normal(1.5), self.normal(-1.5)) == pytest.approx(norm.cdf(-1.5), abs=1e-5)

    @pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
    def test_t3_smoothing_never_lowers_the_error(self, sigma: float) -> None:
        sharp = self.bayes(self.normal(1.0), self.normal(-1.0))
        smooth = self.bayes(self.normal(1.0, math.hypot(1, sigma)), self.normal(-1.0, math.hypot(1, sigma)))
        assert smooth >= sharp

    def test_t3_the_posterior_is_that_of_the_smoothed_points(self) -> None:
        points, labels = torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64), torch.tensor([0, 1, 0])
        at = torch.tensor([[0.5]], dtype=torch.float64)
        densities = [norm.pdf(0.5, float(p), 0.4) for p in points]
        expected = (densities[0] + densities[2]) / sum(densities)
        assert float(kernel_posterior(at, points, labels, 2, sigma=0.4)[0, 0]) == pytest.approx(expected)

    def test_t4_features_can_only_lose(self) -> None:
        """The error of |x| is at least that of x, and for symmetric classes it is a coin toss."""
        points, labels = gaussians(1000, (1.5, 0.0), seed=0)
        plain, _ = all_pairs(points[:, :1], labels, 2, sigma=0.3, gradient=False)
        folded, _ = all_pairs(points[:, :1].abs(), labels, 2, sigma=0.3, gradient=False)
        assert float(folded.mean()) > float(plain.mean()) + 0.2

    def test_t6_the_estimate_is_near_the_closed_form(self) -> None:
        points, labels = gaussians(1000, (1.2, 0.9), seed=0)
        errors, _ = all_pairs(points, labels, 2, sigma=0.3, gradient=False)
        assert float(errors.mean()) == pytest.approx(norm.cdf(-1.5), abs=0.015)

    def test_t5_t7_ascent_rises_with_the_budget_and_not_above_what_is_possible(self) -> None:
        """Held out, the plug-in error stays at the least robust error Phi(-(|mu| - eps)), to sampling error."""
        points, labels = gaussians(1000, (1.2, 0.9), seed=0)
        found, held_out = [], []
        for epsilon in (0.0, 0.25, 0.5):
            delta = torch.zeros_like(points)
            for _ in range(40 if epsilon else 0):
                _, gradient = all_pairs(points + delta, labels, 2, sigma=0.3)
                delta += 0.1 * epsilon * gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
                delta *= (epsilon / delta.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
            moved = points + delta
            errors, _ = all_pairs(moved, labels, 2, sigma=0.3, gradient=False)
            found.append(float(errors.mean()))
            first = torch.arange(len(points)) % 4 < 2
            plugs = [
                plug_in_errors(kernel_posterior(moved[q], moved[~q], labels[~q], 2, sigma=0.3), labels[q])
                for q in (first, ~first)
            ]
            held_out.append(float(torch.cat(plugs).mean()))
            assert held_out[-1] <= norm.cdf(-(1.5 - epsilon)) + 0.03
        assert found[0] < found[1] < found[2]
        assert found[2] > found[0] + 0.05

    def test_t8_the_nearest_neighbour_brackets_it(self) -> None:
        points, labels = gaussians(2000, (0.8, 0.0), seed=5)
        distance = torch.cdist(points, points).fill_diagonal_(math.inf)
        one_nn = float((labels[distance.argmin(1)] != labels).double().mean())
        lower = 0.5 * (1 - math.sqrt(max(0.0, 1 - 2 * one_nn)))
        errors, _ = all_pairs(points, labels, 2, sigma=0.3, gradient=False)
        assert lower - 0.03 <= float(errors.mean()) <= one_nn + 0.03


class TestMethod:
    def test_the_estimate_rises_and_the_budget_holds(self, tiny: ImageSet) -> None:
        method = BayesErrorAscent(**{**QUICK, "rounds": 8, "inner_steps": 2}, budget=Budget(16 / 255))
        bank = method.fit(tiny)
        estimates = [row["estimate"] for row in bank.report["rounds"]]
        assert bank.report["trainings"][0]["estimate"] <= 0.3
        assert estimates[-1] > estimates[0]
        assert int(bank.levels.abs().max()) <= 16
        assert bank.granularity == "sample"
        assert len(bank.keys) == len(tiny)

    def test_the_report_has_the_estimate_of_three_arms_with_intervals(self, tiny: ImageSet) -> None:
        bank = BayesErrorAscent(**{**QUICK, "rounds": 1, "estimate_images": 36}, estimate_steps=20).fit(tiny)
        found = bank.report["estimated_bayes_error"]
        assert set(found) == {"clean", "noise", "protected"}
        for arm in found.values():
            assert 0 <= arm["low"] <= arm["estimate"] <= arm["high"] <= 1
        assert "provably" not in str(bank.report).lower()

    def test_an_underfit_surrogate_is_refused_with_the_reason(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bitterant.protect.methods.beo.recipe._LEAST_CAP", 1)
        monkeypatch.setattr("bitterant.protect.methods.beo.fit.BeoFit._worst_estimate", lambda self: 0.7)
        with pytest.raises(ConfigError, match=r"cannot tell the classes.* is 0\.70.*--surrogate resnet18"):
            BayesErrorAscent(**{**QUICK, "first_epochs": 1}).fit(tiny)

    def test_a_large_set_goes_through_a_bank(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ascent", "references", "fit"):
            monkeypatch.setattr(f"bitterant.protect.methods.beo.{name}.EXACT_LIMIT", 20)
        bank = BayesErrorAscent(**QUICK).fit(tiny)
        assert "bank of references" in bank.report["references"]
        assert all(bool(row.any()) for row in bank.levels)

    def test_known_clean_images_join_the_references(self, tiny: ImageSet) -> None:
        mine, other = tiny.select(range(0, 36, 2)), tiny.select(range(1, 36, 2))
        bank = BayesErrorAscent(**QUICK, clean_bank=other).fit(mine)
        assert bank.report["known_clean_images"] == 18
        assert len(bank.keys) == 18
        with pytest.raises(LabelError, match="no labels"):
            BayesErrorAscent(**QUICK, clean_bank=ImageSet.from_tensors(tiny.images)).fit(mine)

    @pytest.mark.parametrize("options", [{}, {"preset": "paper", "surrogate": "small-cnn", "first_epochs": 20}])
    def test_a_killed_fit_ends_with_the_same_bytes(
        self, tiny: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        clock = iter(range(0, 10**9, 100))
        monkeypatch.setattr("bitterant.protect.methods.beo.fit.time.monotonic", lambda: float(next(clock)))
        make = lambda: BayesErrorAscent(**{**QUICK, **options})  # noqa: E731
        whole = make().fit(tiny)

        class Killed(Exception):
            pass

        seen = 0

        def kill(step: Any) -> None:
            nonlocal seen
            seen += "round 3" in step.message
            if seen == 1:
                raise Killed

        with pytest.raises(Killed):
            make().fit(tiny, progress=kill, checkpoint=tmp_path / "state")
        assert torch.equal(whole.levels, make().fit(tiny, checkpoint=tmp_path / "state").levels)

    def test_bad_requests(self, tiny: ImageSet) -> None:
        with pytest.raises(ConfigError, match="sigma"):
            BayesErrorAscent(sigma=0.0)
        with pytest.raises(UnknownNameError, match="kind of beo"):
            BayesErrorAscent(kind="mean")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="not per class"):
            BayesErrorAscent(granularity="class")
        lonely = tiny.select([0, 1, 3, 4, 6, 2])
        with pytest.raises(LabelError, match="two different images of every class"):
            BayesErrorAscent(**QUICK).fit(lonely)
