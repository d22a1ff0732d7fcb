"""The estimator of Bayes errors against loops, and against what is known of Bayes errors: T1 to T9 of the page.

Closed forms are those of two classes N(+mu, 1) and N(-mu, 1) with equal priors, whose Bayes error is Phi(-|mu|).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from bitterant.errors import ConfigError
from bitterant.protect.methods.beo.ascent import balanced
from bitterant.protect.methods.beo.posterior import (
    Scaling,
    all_pairs,
    bayes_errors,
    kernel_posterior,
    plug_in_errors,
)

MU = (1.2, 0.9)  # of length 1.5: a Bayes error of .0668


def gaussians(count: int, mu: tuple[float, ...] = MU, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points double ``[N, D]`` and labels, in turn of the one class and of the other."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    centre = torch.tensor(mu, dtype=torch.float64) * (1 - 2 * labels[:, None])
    return centre + torch.randn(count, len(mu), generator=generator, dtype=torch.float64), labels


def naive(
    queries: Tensor, references: Tensor, labels: list[int], classes: int, sigma: float, own: list[int],
    weights: list[float] | None = None,
) -> Tensor:  # fmt: skip
    """Loops and plain exponentials; ``own[i]`` is the reference that query i leaves out, -1 for none."""
    posterior = torch.zeros(len(queries), classes, dtype=torch.float64)
    for i, query in enumerate(queries):
        for j, reference in enumerate(references):
            if j != own[i]:
                square = sum((float(a) - float(b)) ** 2 for a, b in zip(query, reference, strict=True))
                weight = 1.0 if weights is None else weights[j]
                posterior[i, labels[j]] += weight * math.exp(-square / (2 * sigma**2))
        posterior[i] /= posterior[i].sum()
    return posterior


class TestEstimator:
    @pytest.mark.parametrize("leave_out", [False, True])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_it_agrees_with_loops(self, leave_out: bool, weighted: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        references = torch.randn(9, 3, generator=generator, dtype=torch.float64)
        labels = [0, 1, 2, 0, 1, 2, 0, 0, 1]
        rows, strangers = [4, 0, 7], torch.randn(2, 3, generator=generator, dtype=torch.float64)
        queries = torch.cat([references[rows], strangers])
        ids = {"query_ids": torch.tensor([*rows, 20, 21]), "reference_ids": torch.arange(9)} if leave_out else {}
        weights = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0, 4.0, 1.0] if weighted else None
        found = kernel_posterior(
            queries, references, torch.tensor(labels), 4, sigma=0.8, **ids,
            log_weights=None if weights is None else torch.tensor(weights, dtype=torch.float64).log(),
        )  # fmt: skip
        own = [*rows, -1, -1] if leave_out else [-1] * 5
        expected = naive(queries, references, labels, 4, 0.8, own, weights)
        assert torch.allclose(found, expected, atol=1e-12)
        assert torch.allclose(bayes_errors(found, "max"), 1 - expected.max(1).values, atol=1e-12)
        asked = torch.tensor([1, 0, 0, 3, 2])
        assert torch.allclose(bayes_errors(found, "true", asked), 1 - expected[torch.arange(5), asked], atol=1e-12)
        assert plug_in_errors(found, asked).tolist() == (expected.argmax(1) != asked).double().tolist()

    @pytest.mark.parametrize("kind", ["max", "true"])
    @pytest.mark.parametrize("rows", [5, 512])
    @pytest.mark.parametrize("scale", ["unit", "global", None])
    def test_all_pairs_leaves_each_out_and_has_gradient_on_both_sides(self, kind: Any, rows: int, scale: Any) -> None:
        features, labels = gaussians(12, (0.5, 0.2), seed=1)
        scaling = None if scale is None else Scaling.of(scale, features)
        errors, gradient = all_pairs(features, labels, 2, sigma=0.4, kind=kind, scaling=scaling, rows=rows)
        leaf = features.clone().requires_grad_(True)
        scaled, ids = leaf if scaling is None else scaling(leaf), torch.arange(12)
        posterior = kernel_posterior(scaled, scaled, labels, 2, sigma=0.4, query_ids=ids, reference_ids=ids)
        own = bayes_errors(posterior, kind, labels)
        (expected,) = torch.autograd.grad(own.sum(), leaf)
        assert torch.allclose(errors, own.detach())
        assert torch.allclose(gradient, expected, atol=1e-12)
        loops = naive(scaled.detach(), scaled.detach(), labels.tolist(), 2, 0.4, list(range(12)))
        wanted = loops.max(1).values if kind == "max" else loops[ids, labels]
        assert torch.allclose(errors, 1 - wanted, atol=1e-10)
        again, none = all_pairs(features, labels, 2, sigma=0.4, kind=kind, scaling=scaling, gradient=False)
        assert torch.allclose(again, errors)
        assert not none.any()

    @pytest.mark.parametrize("kind", ["max", "true"])
    def test_gradcheck(self, kind: Any) -> None:
        features, labels = gaussians(6, (0.5, 0.2), seed=2)
        strangers, theirs = gaussians(5, (0.4, 0.1), seed=3)

        def among(points: Tensor) -> Tensor:
            ids = torch.arange(len(points))
            posterior = kernel_posterior(points, points, labels, 2, sigma=0.5, query_ids=ids, reference_ids=ids)
            return bayes_errors(posterior, kind, labels)

        def against(points: Tensor, others: Tensor) -> Tensor:
            return bayes_errors(kernel_posterior(points, others, theirs, 2, sigma=0.5), kind, labels)

        assert torch.autograd.gradcheck(among, (features.requires_grad_(True),))
        assert torch.autograd.gradcheck(against, (features, strangers.requires_grad_(True)))

    def test_errors_far_below_single_precision_keep_their_gradient(self) -> None:
        """One minus a posterior of 1 - 1e-11 is 0 in float32, and all that start out confident would stay."""
        points = torch.tensor([[0.0], [0.1], [2.1], [2.2]], dtype=torch.float64)
        labels = torch.tensor([0, 0, 1, 1])
        exact, slope = all_pairs(points, labels, 2, sigma=0.3)
        single, single_slope = all_pairs(points.float(), labels, 2, sigma=0.3)
        assert 0 < float(exact.max()) < 1e-7
        assert torch.allclose(single.double(), exact, rtol=1e-3, atol=0)
        assert torch.allclose(single_slope.double(), slope, rtol=1e-2, atol=0)

    def test_a_reference_of_weight_three_counts_as_three(self) -> None:
        at = torch.tensor([[0.4]], dtype=torch.float64)
        references = torch.tensor([[0.0], [1.0], [1.0], [1.0]], dtype=torch.float64)
        weights = torch.tensor([1.0, 3.0], dtype=torch.float64).log()
        few = kernel_posterior(at, references[:2], torch.tensor([0, 1]), 2, sigma=0.5, log_weights=weights)
        many = kernel_posterior(at, references, torch.tensor([0, 1, 1, 1]), 2, sigma=0.5)
        assert torch.allclose(few, many)

    def test_alone_there_is_no_posterior(self) -> None:
        one, label = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
        with pytest.raises(ConfigError, match="besides the query itself"):
            kernel_posterior(one, one, label, 2, sigma=1.0, query_ids=label, reference_ids=label)
        with pytest.raises(ConfigError, match="needs the labels"):
            bayes_errors(torch.ones(1, 2) / 2, "true")

    def test_scalings(self) -> None:
        features = torch.tensor([[3.0, 4.0], [-5.0, 0.0]])
        assert torch.equal(Scaling.of("global", features)(features), features / 5)
        unit = Scaling.of("unit", features)(features)
        assert torch.allclose(unit, torch.tensor([[4.0, 2.0], [-4.0, -2.0]]) / math.sqrt(20))
        assert torch.isfinite(Scaling.of("unit", features)(torch.tensor([[-1.0, 2.0]]))).all()
        assert torch.isfinite(Scaling.of("global", torch.zeros(2, 2))(torch.zeros(2, 2))).all()

    def test_a_bank_keeps_the_class_shares_by_weight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that its estimate is that of all images: here one class is five times as frequent."""
        points, labels = gaussians(3000, (0.7, 0.0), seed=4)
        kept = (labels == 0) | (torch.arange(3000) % 10 < 2)
        points, labels = points[kept], labels[kept]
        whole = kernel_posterior(points, points, labels, 2, sigma=0.3, query_ids=torch.arange(len(points)),
                                 reference_ids=torch.arange(len(points)))  # fmt: skip
        monkeypatch.setattr("bitterant.protect.methods.beo.ascent.EXACT_LIMIT", 10)
        index, weights = balanced(labels, 2, torch.Generator().manual_seed(0), size=600)
        assert weights is not None
        assert torch.bincount(labels[index]).tolist() == [300, 300]
        sums = [float(weights.exp()[labels[index] == k].sum()) for k in (0, 1)]
        assert sums == pytest.approx(torch.bincount(labels).tolist(), rel=1e-4)
        errors = []
        for log_weights in (weights, None):
            bank = kernel_posterior(points, points[index], labels[index], 2, sigma=0.3, log_weights=log_weights,
                                    query_ids=torch.arange(len(points)), reference_ids=index)  # fmt: skip
            errors.append(float((bank - whole).abs().mean()))
        assert errors[0] < 0.05
        assert errors[1] > 2 * errors[0]

    def test_small_classes_give_what_they_have_and_the_others_share_the_rest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bitterant.protect.methods.beo.ascent.EXACT_LIMIT", 10)
        labels = torch.tensor([0] * 2 + [2] * 50 + [3] * 80)
        index, _ = balanced(labels, 5, torch.Generator().manual_seed(0), size=42)
        assert torch.bincount(labels[index], minlength=5).tolist() == [2, 0, 20, 20, 0]
        index, _ = balanced(labels, 5, torch.Generator().manual_seed(0), size=1)
        assert torch.bincount(labels[index], minlength=5).tolist() == [2, 0, 2, 2, 0]


class TestTheory:
    GRID = torch.linspace(-10, 10, 4001, dtype=torch.float64)[:, None]

    def smoothed(self, points: Tensor, labels: Tensor, sigma: float) -> float:
        """The Bayes error of points smoothed with N(0, sigma^2), by quadrature over our posterior."""
        posterior = kernel_posterior(self.GRID, points, labels, 2, sigma=sigma)
        density = torch.from_numpy(norm.pdf(self.GRID.numpy(), points.T.numpy(), sigma)).mean(1)
        assert float(torch.trapezoid(density, self.GRID[:, 0])) == pytest.approx(1.0, abs=1e-4)
        return float(torch.trapezoid(bayes_errors(posterior, "max") * density, self.GRID[:, 0]))

    @pytest.mark.parametrize("scale", [0.01, 0.1, 0.3, 1.0, 3.0])
    def test_t1_it_stays_in_range_where_kernels_underflow(self, scale: float) -> None:
        """The quotient with 1e-8 in it reads 1.0 from scale .3 on, more than is possible."""
        points = scale * torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(400) % 10
        errors, gradient = all_pairs(points, labels, 10, sigma=0.3)
        assert float(errors.min()) >= 0.0
        assert float(errors.max()) <= 0.9 + 1e-6
        assert torch.isfinite(gradient).all()
        if scale <= 0.3:
            assert float(gradient.abs().max()) > 0

    def test_t2_mixing_is_concave(self) -> None:
        """The error of a mix is at least the mean of the errors, and more where the boundaries differ."""
        one = gaussians(60, (1.5,), seed=1)
        for mu, least in ((0.5, 0.0), (-0.7, 0.05)):
            other = gaussians(60, (mu,), seed=2)
            mix = self.smoothed(torch.cat([one[0], other[0]]), torch.cat([one[1], other[1]]), 0.4)
            mean = (self.smoothed(*one, 0.4) + self.smoothed(*other, 0.4)) / 2
            assert mix >= mean + least - 1e-9
            for share in (1, 2):  # one third and one half as many of the second
                part = self.smoothed(
                    torch.cat([one[0]] * 2 + [other[0]] * share), torch.cat([one[1]] * 2 + [other[1]] * share), 0.4
                )
                weights = (2 / (2 + share), share / (2 + share))
                separate = weights[0] * self.smoothed(*one, 0.4) + weights[1] * self.smoothed(*other, 0.4)
                assert part >= separate - 1e-9

    def test_t3_smoothing_never_lowers_the_error(self) -> None:
        points, labels = gaussians(60, (1.0,), seed=3)
        found = [self.smoothed(points, labels, sigma) for sigma in (0.05, 0.1, 0.3, 0.6, 1.0)]
        assert all(after >= before - 1e-6 for before, after in pairwise(found))

    def test_t3_the_posterior_is_that_of_the_smoothed_points(self) -> None:
        points, labels = torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64), torch.tensor([0, 1, 0])
        at = torch.tensor([[0.5]], dtype=torch.float64)
        densities = [norm.pdf(0.5, float(point), 0.4) for point in points]
        expected = (densities[0] + densities[2]) / sum(densities)
        assert float(kernel_posterior(at, points, labels, 2, sigma=0.4)[0, 0]) == pytest.approx(expected)

    def test_t4_features_can_only_lose(self) -> None:
        """The first coordinate alone leaves Phi(-1.2) instead of Phi(-1.5), its absolute value a coin toss. Pictures
        that all differ leave nothing in pixel space, whatever a feature does to them."""
        points, labels = gaussians(2000)
        found = [
            float(all_pairs(features, labels, 2, sigma=0.2, gradient=False)[0].mean())
            for features in (points, points[:, :1], points[:, :1].abs())
        ]
        assert found[0] < found[1] < found[2]
        assert found[1] == pytest.approx(norm.cdf(-1.2), abs=0.02)
        assert found[2] == pytest.approx(0.5, abs=0.05)
        with_itself = kernel_posterior(points, points, labels, 2, sigma=1e-4)
        assert float(bayes_errors(with_itself, "max").max()) < 1e-6

    def test_t6_the_estimate_is_near_the_closed_form(self) -> None:
        points, labels = gaussians(1000)
        errors, _ = all_pairs(points, labels, 2, sigma=0.3, gradient=False)
        assert float(errors.mean()) == pytest.approx(norm.cdf(-1.5), abs=0.01)
        wide, _ = all_pairs(points, labels, 2, sigma=0.6, gradient=False)
        assert float(wide.mean()) > float(errors.mean()) + 0.01, "estimates of different bandwidths do not compare"

    @pytest.mark.parametrize("bound", ["l2", "linf"])
    def test_t5_t6_t7_ascent_rises_with_the_budget_and_stays_below_what_is_possible(self, bound: str) -> None:
        """Phi(-(|mu| - eps)) for L2 is the least error that any classifier makes against an adversary of that strength,
        and the most that any perturbation can leave (Bhagoji et al. 2019, arXiv 1909.12272). Held out, the plug-in
        error is judged; on the features it was raised in, the estimate itself can be higher."""
        points, labels = gaussians(1000)
        half, found = torch.arange(1000) % 4 < 2, [0.0]
        for epsilon in (0.1, 0.25, 0.5):
            delta = torch.zeros_like(points)
            for _ in range(20):
                _, gradient = all_pairs(points + delta, labels, 2, sigma=0.3)
                if bound == "linf":
                    delta = (delta + 0.1 * epsilon * gradient.sign()).clamp(-epsilon, epsilon)
                else:
                    delta += 0.1 * epsilon * gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)
                    delta *= (epsilon / delta.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
            moved = points + delta
            found.append(float(all_pairs(moved, labels, 2, sigma=0.3, gradient=False)[0].mean()))
            posterior = kernel_posterior(moved[half], moved[~half], labels[~half], 2, sigma=0.3)
            held_out = float(plug_in_errors(posterior, labels[half]).mean())
            left = max(1.5 - epsilon, 0.0) if bound == "l2" else math.hypot(1.2 - epsilon, 0.9 - epsilon)
            assert held_out <= norm.cdf(-left) + 0.03
        assert found == sorted(found)
        assert found[1] > 0.075
        assert found[3] > 0.15

    def test_t5_for_fixed_features_small_steps_never_end_below_the_start(self) -> None:
        points, labels = gaussians(200, seed=7)
        delta, found = torch.zeros_like(points), list[float]()
        for _ in range(30):
            errors, gradient = all_pairs(points + delta, labels, 2, sigma=0.5)
            found.append(float(errors.sum()))
            delta = (delta + 0.02 * gradient).clamp(-0.3, 0.3)
        assert all(after >= before - 1e-9 for before, after in pairwise(found))

    def test_t7_robust_classifiers_are_the_ceiling(self) -> None:
        """The attack that attains it: every point a step towards the other class. Any linear classifier's robust error
        is above what the estimator finds there (itself a little high: it smooths)."""
        points, labels = gaussians(3000, seed=1)
        mu, epsilon = torch.tensor(MU, dtype=torch.float64), 0.5
        side = (1 - 2 * labels[:, None]).double()
        moved = points - side * epsilon * mu / mu.norm()
        errors, _ = all_pairs(moved, labels, 2, sigma=0.3, gradient=False)
        assert float(errors.mean()) == pytest.approx(norm.cdf(-1.0 / math.hypot(1.0, 0.3)), abs=0.02)
        for angle in (0.0, 0.3, 1.0):
            turned = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
            direction = turned @ (mu / mu.norm())
            robust = float((side[:, 0] * (points @ direction) < epsilon).double().mean())
            assert float(errors.mean()) <= robust + 0.03

    def test_t8_the_nearest_neighbour_brackets_it(self) -> None:
        """Cover and Hart, asymptotically. A bandwidth that goes to zero is the nearest neighbour itself."""
        points, labels = gaussians(2000, (0.8, 0.0), seed=5)
        distance = torch.cdist(points, points).fill_diagonal_(math.inf)
        nearest = float((labels[distance.argmin(1)] != labels).double().mean())
        sharp, _ = all_pairs(points, labels, 2, sigma=1e-5, kind="true", gradient=False)
        assert float(sharp.mean()) == pytest.approx(nearest, abs=1e-3)
        lower = 0.5 * (1 - math.sqrt(max(0.0, 1 - 2 * nearest)))
        errors, _ = all_pairs(points, labels, 2, sigma=0.3, gradient=False)
        for truth in (float(norm.cdf(-0.8)), float(errors.mean())):
            assert lower - 0.03 <= truth <= nearest + 0.03

    def test_t9_a_high_error_need_not_harm_anyone(self) -> None:
        """Why no estimate is called a proof: classes overlap, and the line fitted to them still reads clean points."""
        points, labels = gaussians(2000)
        mu = torch.tensor(MU, dtype=torch.float64)
        side = (1 - 2 * labels[:, None]).double()
        moved = points - side * mu / mu.norm()
        clean, _ = all_pairs(points, labels, 2, sigma=0.3, gradient=False)
        raised, _ = all_pairs(moved, labels, 2, sigma=0.3, gradient=False)
        assert float(raised.mean()) > 3 * float(clean.mean())
        line = (side * moved).mean(0)  # of Fisher, for equal covariances that are the identity
        assert float((side[:, 0] * (points @ line) < 0).double().mean()) < float(clean.mean()) + 0.02
