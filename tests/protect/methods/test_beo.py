"""Bayes-error ascent: what a fit promises. The estimator and its theory are in ``test_beo_posterior.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitterant.errors import ConfigError, FitError, LabelError, UnknownNameError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import BayesErrorAscent, FitProgress
from bitterant.protect.methods.beo.ascent import (
    Ascent,
    Copies,
    Stepper,
    balanced,
    into_ball,
    join,
    round_into_ball,
)
from bitterant.protect.methods.beo.cross_fit import (
    CrossFittedError,
    bootstrap_interval,
    random_noise,
    stratified_halves,
)
from bitterant.protect.methods.beo.method import LEAST_CAP, MOST_STEPS, ROUND_STEPS
from bitterant.protect.methods.beo.posterior import Scaling, bayes_errors, kernel_posterior
from bitterant.protect.methods.checkpoint import Checkpoint
from bitterant.protect.methods.pgd import RandomCropFlip
from bitterant.protect.methods.surrogate_training import SurrogateTrainer
from bitterant.protect.methods.written import ResizeOperator
from bitterant.surrogates import FrozenSurrogate, Surrogate, create_surrogate

QUICK: dict[str, Any] = {"rounds": 3, "inner_steps": 1, "first_epochs": 30, "estimate_images": 0, "device": "cpu"}
PAPER: dict[str, Any] = {**QUICK, "preset": "paper", "surrogate": "small-cnn"}


class Killed(Exception):
    """Stands for a kill: raised from inside the fit."""


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """State is normally kept now and then; here whenever it may be."""
    monkeypatch.setattr(Checkpoint, "due", lambda self, *, important=False: True)


def network(name: str = "small-cnn", seed: int = 0) -> Surrogate:
    """A surrogate whose running statistics are off their start, so that evaluation mode is not degenerate."""
    model = create_surrogate(name, num_classes=3, resolution=16, seed=seed).train()
    for step in range(3):
        model(torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(step)))
    return model.eval()


def ascent(copies: Copies, models: list[Surrogate], stepper: Stepper | None = None, **options: Any) -> Ascent:
    """Exact, without crops, unless told otherwise."""
    stepper = stepper or Stepper(copies, Budget(8 / 255), size=1 / 255, adam=False)
    usual: dict[str, Any] = {"sigma": 0.3, "kind": "max", "scale": "unit", "padding": 0}
    members = [FrozenSurrogate(model, features=True) for model in models]
    return Ascent(copies, members, stepper, **{**usual, **options}, generator=torch.Generator().manual_seed(0))


class Recorder(Stepper):
    """Moves nothing and remembers the gradients."""

    def __init__(self, copies: Copies) -> None:
        super().__init__(copies, Budget(8 / 255), size=1 / 255, adam=False)
        self.found = torch.zeros(copies.delta.shape)

    def __call__(self, rows: Tensor, gradient: Tensor) -> None:
        self.found[rows] = gradient


class TestSweep:
    @pytest.mark.parametrize("names", [["small-cnn"], ["small-cnn", "convmixer"]])
    @pytest.mark.parametrize("kind", ["max", "true"])
    def test_two_passes_give_the_gradient_of_one_graph(self, tiny: ImageSet, names: list[str], kind: Any) -> None:
        """Of the summed errors of all images as queries and as references; of several networks, the mean."""
        models, few = [network(name) for name in names], tiny.select(range(12))
        copies = Copies.start(few, 12, None)
        recorder = Recorder(copies)
        errors = torch.cat([part for _, part in ascent(copies, models, recorder, kind=kind).step()])
        leaf = (few.images.float() / 255).requires_grad_(True)
        total, ids = torch.zeros(()), torch.arange(12)
        for model in models:
            features = model.trunk()(leaf)
            scaled = Scaling.of("unit", features)(features)
            posterior = kernel_posterior(scaled, scaled, copies.labels, 3, sigma=0.3, query_ids=ids, reference_ids=ids)
            total = total + bayes_errors(posterior, kind, copies.labels).sum() / len(models)
        (expected,) = torch.autograd.grad(total, leaf)
        assert float(errors.sum()) == pytest.approx(total.item(), rel=1e-3)
        assert float((recorder.found - expected).norm()) < 1e-2 * float(expected.norm())

    def test_a_bank_of_everything_gives_the_same_errors_without_the_reference_side(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, copies = network(), Copies.start(tiny, len(tiny), None)
        exact = torch.cat([part for _, part in ascent(copies, [model], Recorder(copies)).step()])
        monkeypatch.setattr("bitterant.protect.methods.beo.ascent.EXACT_LIMIT", 10)
        recorder = Recorder(copies)
        banked = torch.cat([part for _, part in ascent(copies, [model], recorder, most=10).step()])
        assert torch.allclose(exact.sort().values, banked.sort().values, atol=1e-4)
        frozen = FrozenSurrogate(model, features=True)
        bank = frozen(tiny.images.float() / 255).detach()
        scaling, leaf = Scaling.of("unit", bank), (tiny.images[5:6].float() / 255).requires_grad_(True)
        posterior = kernel_posterior(
            scaling(frozen(leaf)), scaling(bank), copies.labels, 3, sigma=0.3,
            query_ids=torch.tensor([5]), reference_ids=torch.arange(len(tiny)),
        )  # fmt: skip
        (expected,) = torch.autograd.grad(bayes_errors(posterior, "max").sum(), leaf)
        assert float((recorder.found[5] - expected[0]).norm()) < 1e-2 * float(expected.norm())

    def test_the_gradient_goes_back_through_what_files_do(self, tiny: ImageSet) -> None:
        """One step along it raises the error of what a trainer sees."""
        model, resize = network(), ResizeOperator(16, (40, 53))
        copies = Copies.start(tiny, len(tiny), resize)
        sweep = ascent(copies, [model], Stepper(copies, Budget(8 / 255), size=8 / 255, adam=False))
        before = torch.cat([part for _, part in sweep.step()]).sum()
        after = torch.cat([part for _, part in sweep.step()]).sum()
        assert float(after) > float(before)
        assert torch.allclose(copies.delta_of(torch.tensor([3])), resize(copies.delta[3:4].float()))

    def test_crops_of_the_second_pass_are_those_of_the_first(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In batches of five, each with a crop of its own, against one graph with the crops drawn by hand."""
        monkeypatch.setattr("bitterant.protect.methods.beo.ascent.BATCH", 5)
        model, few = network(), tiny.select(range(12))
        copies = Copies.start(few, 12, None)
        recorder = Recorder(copies)
        list(ascent(copies, [model], recorder, padding=2).step())
        drawn = torch.Generator().manual_seed(0)
        seed = int(torch.randint(2**62, (), generator=drawn))
        order, crop = torch.randperm(12, generator=drawn), RandomCropFlip(2, torch.Generator().manual_seed(seed))
        leaf = (few.images.float() / 255).requires_grad_(True)
        features = torch.cat([model.trunk()(crop(leaf[part])) for part in order.split(5)])
        scaled, ids = Scaling.of("unit", features)(features), torch.arange(12)
        posterior = kernel_posterior(
            scaled, scaled, copies.labels[order], 3, sigma=0.3, query_ids=ids, reference_ids=ids
        )
        (expected,) = torch.autograd.grad(bayes_errors(posterior, "max").sum(), leaf)
        assert float((recorder.found - expected).norm()) < 1e-2 * float(expected.norm())

    def test_every_step_stays_in_the_budget_and_in_range(self, tiny: ImageSet) -> None:
        dark = replace(tiny, images=tiny.images.clone())
        dark.images[:, :, :4] = 0
        dark.images[:, :, 4:8] = 255
        copies = Copies.start(dark, len(dark), None)
        budget = Budget(5.1 / 255)
        sweep = ascent(copies, [network()], Stepper(copies, budget, size=3 / 255, adam=False))
        for _ in range(3):
            for _ in sweep.step():
                assert float(copies.delta.float().abs().max()) <= budget.epsilon * 1.001  # half precision
                perturbed = dark.images.float() / 255 + copies.delta.float()
                assert -1e-4 <= float(perturbed.min()) <= float(perturbed.max()) <= 1 + 1e-4

    def test_adam_is_torchs(self, tiny: ImageSet) -> None:
        few = tiny.select(range(4))
        middle = replace(few, images=torch.full_like(few.images, 128))
        copies = Copies.start(middle, 4, None)
        copies = replace(copies, delta=copies.delta.float())
        stepper = Stepper(copies, Budget(8 / 255), size=1e-3, adam=True)
        leaf = torch.zeros(copies.delta.shape, requires_grad=True)
        optimiser = torch.optim.Adam([leaf], lr=1e-3, maximize=True)
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            leaf.grad = torch.randn(leaf.shape, generator=generator)
            optimiser.step()
            stepper.count += 1
            for rows in (torch.tensor([2, 0]), torch.tensor([1, 3])):
                stepper(rows, leaf.grad[rows])
        assert torch.allclose(copies.delta, leaf.detach(), atol=1e-6)


class TestKnownCleanImages:
    def test_they_join_by_class_name_and_stay_as_they_are(self, tiny: ImageSet) -> None:
        mine, other = tiny.select(range(0, 36, 2)), tiny.select(range(35, 0, -2))
        renamed = replace(other, classes=("c2", "c1", "c0"), labels=2 - other.labels)  # type: ignore[operator]
        points = join(mine, renamed)
        assert len(points) == 36
        assert list(points.keys[18:]) == sorted(other.keys)
        wanted = {key: int(label) for key, label in zip(tiny.keys, tiny.labels.tolist(), strict=True)}  # type: ignore[union-attr]
        assert [int(label) for label in points.labels] == [wanted[key] for key in points.keys]  # type: ignore[union-attr]
        copies = Copies.start(points, 18, None)
        list(ascent(copies, [network()]).step())
        assert all(bool(row.any()) for row in copies.delta)
        assert torch.allclose(copies.seen(torch.arange(18, 36)), points.images[18:].float() / 255, atol=1e-6)
        assert torch.equal(copies.delta_of(torch.tensor([17]))[0], copies.delta[17].float())

    def test_our_own_images_among_them_are_left_out(self, tiny: ImageSet) -> None:
        assert join(tiny, tiny.select([0, 1])).keys == tiny.keys

    def test_a_fit_says_how_many_there_were(self, tiny: ImageSet) -> None:
        mine, other = tiny.select(range(0, 36, 2)), tiny.select(range(1, 36, 2))
        bank = BayesErrorAscent(**QUICK, clean_bank=other).fit(mine)
        assert bank.report["known_clean_images"] == 18
        assert set(bank.keys) == set(mine.keys)
        alone = BayesErrorAscent(**QUICK)
        assert alone.settings()["clean_bank"] is None
        assert (
            BayesErrorAscent(**QUICK, clean_bank=other).settings()["clean_bank"]
            != (BayesErrorAscent(**QUICK, clean_bank=mine).settings()["clean_bank"])
        )

    def test_what_does_not_fit_is_refused(self, tiny: ImageSet) -> None:
        def refuse(error: type[Exception], match: str, clean: ImageSet) -> None:
            with pytest.raises(error, match=match):
                BayesErrorAscent(**QUICK, clean_bank=clean).fit(tiny)

        refuse(LabelError, "no labels", ImageSet.from_tensors(tiny.images))
        refuse(LabelError, "does not have: fish", replace(tiny, classes=("c0", "c1", "fish")))
        refuse(ConfigError, "8 px", ImageSet.from_tensors(tiny.images[:, :, :8, :8], tiny.labels, classes=tiny.classes))


class TestHeldOut:
    def test_halves_are_disjoint_and_hold_every_class(self) -> None:
        labels = torch.tensor([0] * 9 + [1] * 2 + [2] * 3 + [3] + [4] * 30)
        one, other = stratified_halves(labels, 6, torch.Generator().manual_seed(0), max_images=1000)
        assert not set(one.tolist()) & set(other.tolist())
        assert set(labels[one].tolist()) == set(labels[other].tolist()) == {0, 1, 2, 4}
        assert len(one) + len(other) == 44
        assert abs(len(one) - len(other)) <= 1
        one, other = stratified_halves(labels, 6, torch.Generator().manual_seed(0), max_images=12)
        assert len(one) + len(other) <= 16
        assert set(labels[one].tolist()) == set(labels[other].tolist()) == {0, 1, 2, 4}

    def test_the_interval_covers_as_often_as_it_says(self) -> None:
        generator = torch.Generator().manual_seed(0)
        hits = 0
        for _ in range(100):
            values = (torch.rand(200, generator=generator) < 0.3).float()
            low, high = bootstrap_interval(values, generator, resamples=300)
            assert low <= float(values.mean()) <= high
            hits += low <= 0.3 <= high
        assert 88 <= hits <= 100

    def test_it_tells_overlapping_classes_from_separate_ones(self, faint: ImageSet) -> None:
        """Pictures that are the same in all classes leave an error near chance; random noise hardly any."""
        ordered = faint.select(range(len(faint)))
        held_out = CrossFittedError(ordered, Budget(1.0), seed=0, device=torch.device("cpu"), max_images=72, steps=40)
        blank = -ordered.images.float() / 255 + 0.5
        clean, gone = held_out(None), held_out(lambda index: blank[index])
        noise = held_out(random_noise(ordered, Budget(8 / 255), held_out.index, 1))
        assert clean.images == gone.images == 72
        assert clean.estimate < 0.35
        assert noise.estimate < 0.5
        assert 0.5 <= gone.estimate <= 0.8
        for found in (clean, gone, noise):
            assert 0 <= found.low <= found.estimate <= found.high <= 1
            assert 0 <= found.one_minus_max <= 2 / 3 + 1e-6

    def test_noise_has_every_sign_at_the_full_budget(self, tiny: ImageSet) -> None:
        index = torch.tensor([4, 1])
        noise = random_noise(tiny, Budget(5.1 / 255), index, 0)(index) * 255
        assert sorted(noise.round().unique().tolist()) == [-5.0, 5.0]


class TestBall:
    def test_it_is_the_projection_on_the_ball(self) -> None:
        delta = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 0.2, 6).view(
            -1, 1, 1, 1
        )
        inside = into_ball(delta, 0.05)
        for before, after in zip(delta, inside, strict=True):
            radius = 0.05 * 75**0.5
            length = float(before.norm())
            assert torch.allclose(after, before if length <= radius else before / length * radius, atol=1e-6)
        assert into_ball(delta, None) is delta

    @pytest.mark.parametrize("rms", [1 / 255, 1.5 / 255, 4 / 255])
    def test_rounding_does_not_leave_it(self, rms: float) -> None:
        delta = into_ball(torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(1)), rms)
        levels = round_into_ball(delta, Budget(8 / 255), rms)
        assert int(levels.abs().max()) <= 8
        found = levels.float().square().mean((1, 2, 3)).sqrt()
        assert float(found.max()) <= rms * 255
        assert float(found.min()) > 0.5 * rms * 255
        assert torch.equal(round_into_ball(delta, Budget(8 / 255), None), Budget(8 / 255).quantise(delta))


class TestFit:
    def test_a_fit_that_breaks_down_is_no_empty_perturbation(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "bitterant.protect.methods.beo.ascent.into_ball", lambda delta, rms: torch.full_like(delta, torch.nan)
        )
        with pytest.raises(FitError):
            BayesErrorAscent(**{**QUICK, "rounds": 1}, rms=4 / 255).fit(tiny)

    def test_an_l2_bound_holds_in_the_bank(self, faint: ImageSet) -> None:
        bank = BayesErrorAscent(**{**QUICK, "rounds": 4}, budget=Budget(24 / 255), rms=3 / 255).fit(faint)
        found = bank.levels.float().square().mean((1, 2, 3)).sqrt()
        assert 1 < float(found.min()) <= float(found.max()) <= 3
        assert int(bank.levels.abs().max()) <= 24

    def test_the_estimate_rises_and_the_files_keep_the_budget(self, faint: ImageSet) -> None:
        method = BayesErrorAscent(**{**QUICK, "rounds": 6, "inner_steps": 2})
        bank = method.fit(replace(faint, native_size=(40, 53)))
        found = [row["estimate"] for row in bank.report["rounds"]]
        assert bank.report["trainings"][0]["uncertainty"] <= 0.3
        assert found[-1] > found[0] + 0.1
        assert int(bank.levels.abs().max()) <= 8
        for row in range(3):
            for repeats in (1, 3):  # the own size, and 48 px
                picture = faint.images[row].permute(1, 2, 0).numpy().repeat(repeats, 0).repeat(repeats, 1)
                out = bank.apply(picture, faint.keys[row])
                assert 0 < int(np.abs(out.astype(int) - picture.astype(int)).max()) <= 8

    def test_the_report_has_three_arms_with_intervals_and_promises_nothing(self, tiny: ImageSet) -> None:
        lines: list[str] = []
        bank = BayesErrorAscent(**{**QUICK, "rounds": 1, "estimate_images": 36}, estimate_steps=20).fit(
            tiny, progress=lambda step: lines.append(step.message)
        )
        found = bank.report["estimated_bayes_error"]
        assert list(found) == ["clean", "noise", "protected"]
        for arm in found.values():
            assert 0 <= arm["low"] <= arm["estimate"] <= arm["high"] <= 1
        assert "provably" not in (str(bank.report) + " ".join(lines)).lower()
        assert any(line.startswith("training the surrogate") for line in lines)
        assert "round 1 of 1" in lines
        assert any(line.endswith("fresh networks: protected images") for line in lines)
        assert "cross-fitted" in lines[-1]

    def test_large_sets_go_through_a_bank(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("method", "ascent"):
            monkeypatch.setattr(f"bitterant.protect.methods.beo.{name}.EXACT_LIMIT", 20)
        bank = BayesErrorAscent(**QUICK).fit(tiny)
        assert "bank of references" in bank.report["references"]
        assert all(bool(row.any()) for row in bank.levels)

    def test_restarts_train_the_planned_steps_and_no_more(self, faint: ImageSet) -> None:
        """On protected copies a surrogate is uncertain because that was wanted: it is not trained on for it."""
        bank = BayesErrorAscent(**{**QUICK, "rounds": 5, "inner_steps": 4, "restart_every": 2}).fit(faint)
        assert [row["round"] for row in bank.report["trainings"]] == [0, 2, 4]
        assert [row["steps"] for row in bank.report["trainings"][1:]] == [30, 30]

    def test_a_body_that_keeps_its_weights_is_not_trained(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bitterant.protect.methods.beo import method as recipe

        def fixed(name: str, *, num_classes: int, resolution: int, seed: int, **_: Any) -> Surrogate:
            net = create_surrogate(name, num_classes=num_classes, resolution=resolution, seed=seed).net
            return Surrogate(net, name=name, num_classes=num_classes, head_only=True)

        monkeypatch.setattr(recipe, "create_surrogate", fixed)
        monkeypatch.setattr("bitterant.protect.methods.beo.method.UNDERFIT", 1.0)
        bank = BayesErrorAscent(**QUICK).fit(tiny)
        assert [row["steps"] for row in bank.report["trainings"]] == [0]
        assert int(bank.levels.abs().max()) > 0

    def test_the_papers_schedule_is_that_of_the_public_code(self) -> None:
        settings = BayesErrorAscent(preset="paper").settings()
        expected = {
            "surrogate": "resnet18-plain", "rounds": 200, "inner_steps": 1, "first_epochs": 30, "restart_every": 1,
            "scaling": "global", "ascent": "adam", "step_size": 1e-3, "sigma": 0.3, "kind": "max",
        }  # fmt: skip
        assert {name: settings[name] for name in expected} == expected
        recipe = BayesErrorAscent(preset="paper").recipe
        plan = recipe.training(50_000)
        assert (plan.blocks, plan.most, plan.steps) == (30, 30, 391)
        assert recipe.learning_rate(0, plan) == 0.1
        assert recipe.learning_rate(15, plan) == pytest.approx(0.05)
        assert recipe.padding(32) == 0

    def test_ours_prolongs_a_training_within_a_cap(self) -> None:
        recipe = BayesErrorAscent().recipe
        for count, planned in ((36, 30), (1000, 240), (50_000, 4000), (10_000_000, 4000)):
            plan = recipe.training(count)
            assert planned <= plan.blocks * plan.steps < planned + plan.steps
            assert max(1500, 3 * planned) <= plan.most * plan.steps <= max(1500, 3 * planned) + 3 * plan.steps
            assert [recipe.learning_rate(block, plan) for block in (0, plan.most)] == [0.1, 0.02]
        assert recipe.round_steps(1000) == 16
        assert recipe.round_steps(10**7) == 200

    def test_it_is_prolonged_on_the_images_as_they_are(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[bool] = []
        steps = SurrogateTrainer.steps

        def spy(self: SurrogateTrainer, *args: Any, plain: bool = False, **more: Any) -> float:
            seen.append(plain)
            return steps(self, *args, plain=plain, **more)

        monkeypatch.setattr(SurrogateTrainer, "steps", spy)
        monkeypatch.setattr("bitterant.protect.methods.beo.method.CLEAN_TARGET", -1.0)
        monkeypatch.setattr("bitterant.protect.methods.beo.method.LEAST_CAP", 50)
        method = BayesErrorAscent(**{**QUICK, "rounds": 2, "first_epochs": 2})
        plan = method.recipe.training(len(tiny))
        method.fit(tiny)
        assert seen == [False] * plan.blocks + [True] * (plan.most - plan.blocks) + [False]

    def test_the_dry_run_counts_what_it_should(self, tiny: ImageSet) -> None:
        """More for more images, for Adam's state, and for the small networks beside another surrogate."""
        options: dict[str, Any] = {"surrogate": "convmixer", "device": "cpu"}
        few, many = (BayesErrorAscent(**options).estimate(tiny, total) for total in (500, 50_000))
        assert many.seconds > 3 * few.seconds > 0
        adam = BayesErrorAscent(**options, ascent="adam").estimate(tiny, 50_000)
        assert adam.peak_bytes - many.peak_bytes == 8 * 50_000 * 3 * 16 * 16
        pair = tiny.select([0, 1])
        assert BayesErrorAscent(**options).estimate(pair, 1000).seconds > 0
        assert "4,000 steps (30 epochs would be 11,730) first" in many.schedule

    @pytest.mark.parametrize(
        ("count", "told"),
        [
            (500, "120 steps (30 epochs) first, up to 1,500 in all while the surrogate is underfit, and 8 (2"),
            (12_800, "3,000 steps (30 epochs) first, up to 9,000 in all while the surrogate is underfit, and 200"),
            (12_801, "and 200 (2 epochs would be 202) in every other round"),
            (17_100, "4,000 steps (30 epochs would be 4,020) first, up to 12,000 in all"),
        ],
    )
    def test_the_bounds_of_training_are_told(self, count: int, told: str) -> None:
        recipe = BayesErrorAscent(device="cpu").recipe
        assert told in recipe.schedule(count)
        plan = recipe.training(count)
        assert f"{plan.blocks * plan.steps:,} steps" in recipe.schedule(count)
        assert f"{recipe.round_steps(count):,} (2 epochs" in recipe.schedule(count)
        page = (Path(__file__).parents[3] / "docs/methods/beo.md").read_text(encoding="utf-8")
        assert f"at most {MOST_STEPS:,} steps" in page
        assert f"to three times as many or {LEAST_CAP:,} steps" in page
        assert f"at most {ROUND_STEPS} steps" in page

    def test_the_paper_has_no_bounds(self) -> None:
        told = BayesErrorAscent(preset="paper", device="cpu").recipe.schedule(50_000)
        assert told == "11,730 steps (30 epochs) from scratch in every round"

    def test_the_report_tells_how_long_the_surrogate_was_trained(self, tiny: ImageSet) -> None:
        method = BayesErrorAscent(**{**QUICK, "rounds": 1})
        report = method.fit(tiny).report
        assert report["surrogate_training"] == method.recipe.schedule(len(tiny))


class TestRefusals:
    def test_an_underfit_surrogate_says_why_and_what_to_do(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every picture in two classes, three times each: nothing can tell these apart."""
        monkeypatch.setattr("bitterant.protect.methods.beo.method.LEAST_CAP", 1)
        images = tiny.images[:6].repeat(6, 1, 1, 1)
        labels = torch.arange(36) // 18
        blind = ImageSet.from_tensors(images, labels, classes=["a", "b"], keys=[f"{i:02}" for i in range(36)])
        with pytest.raises(ConfigError, match=r"(?s)small-cnn.*cannot tell.*Use another surrogate.*resolution"):
            BayesErrorAscent(**{**QUICK, "first_epochs": 1}).fit(blind)

    @pytest.mark.parametrize("limit", [4000, 20])
    def test_features_that_are_no_numbers(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        monkeypatch.setattr("bitterant.protect.methods.beo.ascent.EXACT_LIMIT", limit)
        model = network()
        with torch.no_grad():
            next(iter(model.parameters()))[0] = float("nan")
        copies = Copies.start(tiny, len(tiny), None)
        with pytest.raises(FitError, match="not numbers"):
            list(ascent(copies, [model]).step())

    def test_a_training_that_diverges(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bitterant.protect.methods.beo.method._PEAK", 1e30)
        with pytest.raises(FitError, match="not numbers"):
            BayesErrorAscent(**{**QUICK, "first_epochs": 10}).fit(tiny)

    def test_a_class_with_one_image(self, tiny: ImageSet) -> None:
        lonely = tiny.select([0, 1, 3, 4, 6, 2])
        with pytest.raises(LabelError, match=r"two different images.*1 of 3 classes have one: c2"):
            BayesErrorAscent(**QUICK).fit(lonely)
        copied = tiny.select([0, 1, 3, 4, 6, 2, 2])
        with pytest.raises(LabelError, match="two different images"):
            BayesErrorAscent(**QUICK).fit(copied)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"sigma": 0.0}, ConfigError, "sigma"),
            ({"sigma": float("nan")}, ConfigError, "sigma"),
            ({"step_size": 1.0}, ConfigError, "step_size"),
            ({"rounds": 0}, ConfigError, "rounds of beo must be at least 1"),
            ({"estimate_images": -1}, ConfigError, "estimate_images"),
            ({"rms": 0.5 / 255}, ConfigError, "under one level"),
            ({"kind": "mean"}, UnknownNameError, "kind of beo"),
            ({"scaling": "none"}, UnknownNameError, "scaling of beo"),
            ({"ascent": "sgd"}, UnknownNameError, "ascent of beo"),
            ({"preset": "papper"}, UnknownNameError, "preset of beo"),
            ({"granularity": "class"}, ConfigError, "not per class"),
        ],
    )
    def test_bad_requests(self, options: dict[str, Any], error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            BayesErrorAscent(**options)


class TestResume:
    CASES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("ours", {**QUICK, "first_epochs": 20, "estimate_images": 36, "estimate_steps": 4}),
        ("ours-adam-restarts", {**QUICK, "rounds": 4, "first_epochs": 12, "restart_every": 2, "ascent": "adam"}),
        ("paper", {**PAPER, "rounds": 2, "first_epochs": 8}),
    )

    @pytest.mark.parametrize("options", [case[1] for case in CASES], ids=[case[0] for case in CASES])
    def test_a_killed_fit_ends_with_the_same_bytes(
        self, tiny: ImageSet, tmp_path: Path, save_always: None, monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        monkeypatch.setattr("bitterant.protect.methods.beo.method.UNDERFIT", 1.0)
        monkeypatch.setattr("bitterant.protect.methods.beo.method.LEAST_CAP", 1)
        method = BayesErrorAscent(**options)
        tells: list[str] = []
        whole = method.fit(tiny, progress=lambda step: tells.append(step.message))
        for moment in _moments(len(tells)):
            state, seen = tmp_path / f"state-{moment}", 0

            def die(step: FitProgress, moment: int = moment) -> None:
                nonlocal seen
                seen += 1
                if seen == moment:
                    raise Killed

            with pytest.raises(Killed):
                method.fit(tiny, progress=die, checkpoint=state)
            again_tells: list[str] = []
            again = method.fit(tiny, progress=lambda step, to=again_tells: to.append(step.message), checkpoint=state)
            assert torch.equal(again.levels, whole.levels), f"killed at {tells[moment - 1]}"
            assert again.report == whole.report
            assert again.surrogate_sha256 == whole.surrogate_sha256
            if moment > len(tells) // 2:
                assert len(again_tells) < len(tells), "it began anew"

    def test_a_fit_does_not_depend_on_the_global_generator(self, tiny: ImageSet) -> None:
        banks = []
        for seed in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                banks.append(BayesErrorAscent(**QUICK).fit(tiny))
        assert torch.equal(banks[0].levels, banks[1].levels)


def _moments(count: int) -> Iterator[int]:
    """About five moments, spread over the fit, the last tell but one among them."""
    yield from range(2, count - 1, max(1, count // 4))
    yield count - 1


def test_the_bank_of_a_large_set_does_not_depend_on_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (5_000, 50_000):
        labels = torch.arange(count) % 7
        index, weights = balanced(labels, 7, torch.Generator().manual_seed(0))
        assert 4000 < len(index) <= 4096
        assert weights is not None
        assert torch.equal(index, index.sort().values)
        assert float(weights.exp().sum()) == pytest.approx(count, rel=1e-4)
