"""Error-minimizing noise: it lowers what it should, resumes to the byte, and closes the loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from torch import Tensor, nn

from bitterant.errors import ConfigError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import ErrorMinimizing, FitProgress
from bitterant.protect.methods import FitContext, minimization, stages
from bitterant.protect.methods.checkpoint import Checkpoint
from bitterant.protect.methods.minimization import CheckResult, FitWork, MinimizationFit, PassCost, SelfCheck
from bitterant.protect.methods.pgd import RandomCropFlip, input_gradient
from bitterant.protect.methods.surrogate_training import SurrogateTrainer, crop_padding
from bitterant.records.run_state import StateFiles
from bitterant.surrogates import create_surrogate, train_classifier
from bitterant.surrogates.training import Recipe

QUICK = {"rounds": 3, "sample_rounds": 2, "surrogate_steps": 3, "device": "cpu"}


class Killed(Exception):
    """Stands for a kill: raised from inside the fit."""


@pytest.fixture(autouse=True)
def _save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """State is normally kept every few seconds; here after every round, so that every round can be resumed."""
    monkeypatch.setattr(Checkpoint, "due", lambda self, *, important=False: True)


@pytest.mark.parametrize("granularity", ["class", "sample"])
def test_a_killed_fit_ends_with_the_same_bytes(granularity: str, tiny: ImageSet, tmp_path: Path) -> None:
    method = ErrorMinimizing(granularity=granularity, attempts=2, target=0.0, **QUICK)  # type: ignore[arg-type]
    tells: list[str] = []
    whole = method.fit(tiny, progress=lambda p: tells.append(p.message))
    for moment in range(2, len(tells), 5):
        count = 0

        def die(progress: FitProgress, moment: int = moment) -> None:
            nonlocal count
            count += 1
            if count == moment:
                raise Killed

        state = tmp_path / f"state-{moment}"
        with pytest.raises(Killed):
            method.fit(tiny, progress=die, checkpoint=state)
        resumed_tells: list[str] = []
        again = method.fit(tiny, progress=lambda p, to=resumed_tells: to.append(p.message), checkpoint=state)
        assert torch.equal(again.levels, whole.levels), f"killed at tell {moment}"
        assert again.report == whole.report
        assert again.surrogate_sha256 == whole.surrogate_sha256
        if moment > 6:
            assert len(resumed_tells) < len(tells), "resumed from the start"


def test_state_of_another_fit_is_ignored(tiny: ImageSet, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ErrorMinimizing(seed=1, attempts=0, **QUICK).fit(tiny, checkpoint=state)  # type: ignore[arg-type]
    assert Checkpoint(state, "another").load() is None
    a = ErrorMinimizing(seed=2, attempts=0, **QUICK).fit(tiny, checkpoint=state)  # type: ignore[arg-type]
    b = ErrorMinimizing(seed=2, attempts=0, **QUICK).fit(tiny)  # type: ignore[arg-type]
    assert torch.equal(a.levels, b.levels)


def test_damaged_state_is_ignored(tiny: ImageSet, tmp_path: Path) -> None:
    state, other = StateFiles(tmp_path).checkpoint, tmp_path / "holiday.jpg"
    for path in (state, other):
        path.write_bytes(b"\x08\x00\x00\x00 cut short")
    bank = ErrorMinimizing(attempts=0, **QUICK).fit(tiny, checkpoint=state)  # type: ignore[arg-type]
    assert torch.equal(bank.levels, ErrorMinimizing(attempts=0, **QUICK).fit(tiny).levels)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="exists already and is left alone"):
        ErrorMinimizing(attempts=0, **QUICK).fit(tiny, checkpoint=other)  # type: ignore[arg-type]


def fresh_network(images: Tensor, tested: ImageSet) -> float:
    """Accuracy on the set as it is of a new network that was trained on ``images`` until it fits them."""
    assert tested.labels is not None
    model = create_surrogate("small-cnn", num_classes=3, resolution=16, seed=77)
    result = train_classifier(
        model, images, tested.labels, Recipe(steps=120, batch_size=18), seed=0, test_images=tested.images,
        test_labels=tested.labels, evals=1,
    )  # fmt: skip
    assert result.train_accuracy > 0.9
    return float((result.predictions == tested.labels).float().mean())


@pytest.fixture(scope="module")
def learned_from_clean(faint: ImageSet) -> float:
    return fresh_network(faint.images, faint)


@pytest.mark.parametrize("granularity", ["class", "sample"])
def test_a_fresh_network_reads_the_noise_and_not_the_pictures(
    granularity: str, faint: ImageSet, learned_from_clean: float
) -> None:
    """The point of it all, small: trained on protected copies, a new network gets them right and clean ones wrong."""
    method = ErrorMinimizing(granularity=granularity, rounds=12, surrogate_steps=5, attempts=0, device="cpu")  # type: ignore[arg-type]
    bank = method.fit(faint)
    levels = torch.stack([torch.from_numpy(bank.levels_for(bank.key_for(k) or "")) for k in faint.keys])
    protected = (faint.images + levels.permute(0, 3, 1, 2)).clamp(0, 255).to(torch.uint8)
    assert learned_from_clean > 0.9
    assert fresh_network(protected, faint) < learned_from_clean - 0.25


class TestClosedLoop:
    def check(self, monkeypatch: pytest.MonkeyPatch, residuals: list[float]) -> list[int]:
        """Make the self-check return these residuals in turn; returns the list of attempts it was called with."""
        calls: list[int] = []

        def scripted(self: SelfCheck, delta_of: object, *, attempt: int, **rest: object) -> CheckResult:
            calls.append(attempt)
            return CheckResult(0.25 + 0.5 * residuals[attempt], 0.75, 0.25, 1.0, 100)

        monkeypatch.setattr(SelfCheck, "__call__", scripted)
        return calls

    def test_it_stops_when_the_victim_is_fooled(self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.check(monkeypatch, [0.8, 0.1])
        bank = ErrorMinimizing(attempts=4, target=0.3, **QUICK).fit(tiny)  # type: ignore[arg-type]
        assert calls == [0, 1]
        outcome = bank.report["self_check"]
        assert outcome["chosen_attempt"] == 1
        assert outcome["outcome"].startswith("reached")

    def test_it_keeps_the_best_and_says_so_when_the_budget_ends(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.check(monkeypatch, [0.8, 0.5, 0.6])
        bank = ErrorMinimizing(attempts=3, target=0.3, **QUICK).fit(tiny)  # type: ignore[arg-type]
        outcome = bank.report["self_check"]
        assert outcome["chosen_attempt"] == 1
        assert outcome["attempts_made"] == 3
        assert outcome["outcome"].startswith("not reached in 3 attempts")
        assert "0.50" in outcome["outcome"]

    def test_the_check_itself_tells_protection_from_none(self, tiny: ImageSet) -> None:
        check = SelfCheck(tiny, Budget(8 / 255), seed=0, device=torch.device("cpu"), steps=60)
        assert check.possible
        nothing = check(lambda index: torch.zeros(len(index), 3, 16, 16), attempt=0)
        assert nothing.conclusive
        assert nothing.residual > 0.7

    @pytest.mark.parametrize("needed", [1, 2, 3])
    @pytest.mark.parametrize("granularity", ["class", "sample"])
    def test_the_time_in_all_is_right_within_a_factor_of_two(
        self, granularity: Literal["class", "sample"], needed: int, faint: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the first twentieth on, although nobody knows how many attempts it will take. The clock counts what the
        networks compute: pictures on their way forward, back to the input, and back to the weights."""
        clock, told, check = 0, list[tuple[int, float]](), SelfCheck.__call__

        def scripted(self: SelfCheck, *of: Any, **options: Any) -> CheckResult:
            found = check(self, *of, **options)
            left = 0.0 if options["attempt"] + 1 == needed else 0.5
            return replace(found, clean_accuracy=1.0, chance=0.0, protected_accuracy=left)

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            nonlocal clock
            if isinstance(module, nn.Conv2d) and module.in_channels == 3:
                back = 2 if module.weight.requires_grad else int(inputs[0].requires_grad)
                clock += len(inputs[0]) * (1 + back * torch.is_grad_enabled())

        monkeypatch.setattr(SelfCheck, "__call__", scripted)
        monkeypatch.setitem(SelfCheck.__init__.__kwdefaults__, "steps", 40)  # type: ignore[arg-type]
        method = ErrorMinimizing(granularity=granularity, rounds=5, attempts=3, device="cpu")
        hook = nn.modules.module.register_module_forward_hook(count)
        try:
            method.fit(faint, progress=lambda step: told.append((clock, step.fraction)))
        finally:
            hook.remove()
        estimates = [passed / share for passed, share in told if share and passed > 0.05 * clock]
        assert clock / 2 <= min(estimates)
        assert max(estimates) <= 2 * clock
        assert max(now - before for (before, _), (now, _) in pairwise(told)) < 0.1 * clock

    def test_too_few_images_are_said_not_guessed(self, tiny: ImageSet) -> None:
        pair = tiny.select([0, 1])
        bank = ErrorMinimizing(attempts=3, **QUICK).fit(pair)  # type: ignore[arg-type]
        assert "too few images" in bank.report["self_check"]["outcome"]


def test_the_log_and_the_stop_rule_are_in_the_report(tiny: ImageSet) -> None:
    report = ErrorMinimizing(granularity="sample", attempts=0, **QUICK).fit(tiny).report  # type: ignore[arg-type]
    stages = [row["stage"] for row in report["rounds"]]
    assert stages[:3] == ["class-wise"] * 3
    assert set(stages[3:]) == {"sample-wise"}
    assert report["final_error"] == report["rounds"][-1]["error"]
    assert "surrogate error <= 0.01" in report["stop_rule"]


def test_the_papers_schedule_is_the_published_one() -> None:
    sample = ErrorMinimizing(preset="paper", granularity="sample").settings()
    assert sample["surrogate"] == "resnet18-plain"
    assert sample["pgd_steps"] == 20
    assert sample["surrogate_steps"] == 10
    assert sample["step_size"] == pytest.approx(0.8 / 255)
    assert sample["stop_error"] == 0.01
    assert sample["attempts"] == 0
    with pytest.raises(ConfigError, match="step_size"):
        ErrorMinimizing(step_size=1.0)


def test_the_stop_rule_sees_the_same_error_after_a_kill(
    tiny: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 of 299 wrong is 0.01003: above the 0.01 at which a stage ends, though the log shows 0.01."""
    record = stages.RoundRecord
    monkeypatch.setattr(stages, "RoundRecord", lambda *of, **_: record(*of[:3], error=3 / 299))
    method = ErrorMinimizing(preset="paper", surrogate="small-cnn", rounds=4, surrogate_steps=1, device="cpu")
    whole = method.fit(tiny)
    assert [row["error"] for row in whole.report["rounds"]] == [0.01] * 4

    def die(progress: FitProgress) -> None:
        if "round 3" in progress.message:
            raise Killed

    with pytest.raises(Killed):
        method.fit(tiny, progress=die, checkpoint=tmp_path / "state")
    again = method.fit(tiny, checkpoint=tmp_path / "state")
    assert again.report == whole.report
    assert torch.equal(again.levels, whole.levels)


@pytest.mark.parametrize("seed", [0, 3, 2**30, 2**31 - 1])
def test_every_seed_can_be_fitted_with(tiny: ImageSet, seed: int) -> None:
    method = ErrorMinimizing(seed=seed, attempts=0, rounds=1, surrogate_steps=1, device="cpu")
    derived = method.recipe.derived_seed(2, 1, 29)
    assert 0 <= derived < 2**63
    plain = ((seed * 1009 + 2) * 1009 + 1) * 10007 + 29
    assert derived == plain or plain >= 2**63
    assert method.recipe.derived_seed(2, 1, 30) != derived
    assert method.fit(tiny).seed == seed


@pytest.mark.parametrize(("preset", "batch"), [(None, 128), ("paper", 512)])
def test_the_estimate_is_for_the_batches_of_the_fit_not_of_the_sample(
    tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, preset: Literal["paper"] | None, batch: int
) -> None:
    """A clock on which each image of a surrogate step takes a second, and all else no time."""
    clock = [0.0]

    def steps(self: SurrogateTrainer, count: int, *_: object, **__: object) -> float:
        clock[0] += count * self._batch_size
        return 0.0

    monkeypatch.setattr(SurrogateTrainer, "steps", steps)
    monkeypatch.setattr("bitterant.protect.methods.minimization.now", lambda *_: clock[0])
    method = ErrorMinimizing(
        preset=preset, surrogate="small-cnn", rounds=7, surrogate_steps=3, attempts=0, device="cpu", granularity="class"
    )
    assert len(tiny) == 36
    assert method.estimate(tiny, 10_000).seconds == pytest.approx(7 * 3 * batch)
    assert method.estimate(tiny, 50).seconds == pytest.approx(7 * 3 * 50)


@pytest.mark.parametrize("granularity", ["class", "sample"])
@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_the_dry_run_and_the_progress_count_the_same_passes(
    tiny: ImageSet, monkeypatch: pytest.MonkeyPatch, granularity: Literal["class", "sample"], preset: str
) -> None:
    found: list[FitWork] = []
    real: Any = minimization.fit_work

    def counted(*told: Any) -> FitWork:
        found.append(real(*told[:-1], PassCost(1.0, 1.0, 1.0)))
        return real(*told)

    monkeypatch.setattr(minimization, "fit_work", counted)
    # Other tests make it short; the dry run is about the one that is made.
    monkeypatch.setitem(SelfCheck.__init__.__kwdefaults__, "steps", minimization.CHECK_STEPS)  # type: ignore[arg-type]
    method = ErrorMinimizing(granularity=granularity, preset=preset, surrogate="small-cnn", device="cpu")
    estimate = method.estimate(tiny, len(tiny))
    assert MinimizationFit(method.recipe, tiny, FitContext(None, Checkpoint(None, ""))).work.of(0) > 0
    dry, fit = found
    assert dry.stages == fit.stages
    assert len(dry.stages) == (2 if granularity == "sample" and preset != "paper" else 1)
    assert estimate.seconds > 0
    if fit.check is None:
        assert dry.check is None
    else:
        assert dry.check is not None
        assert dry.check.of(0) == pytest.approx(fit.check.of(0), rel=0.1)


def test_an_update_in_blocks_is_that_of_whole_passes(tiny: ImageSet) -> None:
    """A pass has one crop, and its second half is mirrored, into however many blocks it is cut."""
    method = cast(Any, ErrorMinimizing(device="cpu", surrogate="small-cnn", precision="float32"))
    dataset = tiny.to("cpu")
    stage = replace(method.recipe.class_stage(dataset), batch_size=10, block=3)
    frozen = method.recipe.trainer(dataset, 0).frozen()
    shape = (len(dataset.classes), 3, dataset.resolution, dataset.resolution)
    seen = 0.03 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    labels = stage._labels()
    index = stage._balanced(labels, torch.Generator().manual_seed(1))[0]
    blocks, crops = stage._passes(index, labels, torch.Generator().manual_seed(2))
    assert max(len(block.places) for block in blocks) <= 3
    total = torch.zeros_like(seen)
    for block, crop in zip(blocks, crops, strict=True):
        total[block.low : block.high] += stage.gradient_sums(frozen, *block.carrying(seen), crop)

    crop = RandomCropFlip(crop_padding(dataset.resolution), torch.Generator().manual_seed(2))
    want = torch.zeros_like(seen)
    assert dataset.labels is not None
    for part in index.split(10):
        images, labels = dataset.images[part].float() / 255, dataset.labels[part]
        gradient, _ = input_gradient(frozen, (images + seen[labels]).clamp(0, 1), labels, crop)
        want.index_add_(0, labels, gradient)
    torch.testing.assert_close(total, want, rtol=1e-4, atol=1e-6)
