"""The preset ``paper`` against the published loops, written out here plainly: one update from the same weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.errors import ConfigError
from bitterant.imaging import ImageSet
from bitterant.protect import BayesErrorAscent, ErrorMinimizing, FitProgress, UnlearnableClusters
from bitterant.protect.clusters import Clusters, FeatureSpace
from bitterant.protect.methods.beo.ascent import Ascent
from bitterant.protect.methods.uc.patterns import FeaturePull, GeneratorPatterns
from bitterant.surrogates import create_surrogate

EPSILON, ALPHA = 8 / 255, 0.8 / 255


@pytest.fixture(scope="module")
def stark(tiny: ImageSet) -> ImageSet:
    """With black and white in every picture: there, clamping before or after a mean makes a difference."""
    images = tiny.images.clone()
    images[:, :, :5], images[:, :, 5:10] = 0, 255
    images[::2, 0, 2:8] += 3
    return ImageSet(
        images=images, labels=tiny.labels, keys=tiny.keys, classes=tiny.classes, native_size=tiny.native_size
    )


def quiet(share: float) -> None:
    """Nobody listens."""


def official_step(net: nn.Module, noisy: Tensor, labels: Tensor) -> None:
    """One step of the surrogate: SGD .1 / .9 / 5e-4, gradient norm at most 5, on pictures that may leave [0, 1]."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    net.train()
    nn.CrossEntropyLoss()(net(noisy), labels).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimiser.step()
    net.eval()


def min_min(net: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, steps: int) -> Tensor:
    """The noise as it is before the last picture is brought into [0, 1]."""
    current, eta = (images + noise).clamp(0, 1), noise
    for _ in range(steps):
        leaf = current.clone().requires_grad_(True)
        nn.CrossEntropyLoss()(net(leaf), labels).backward()
        assert leaf.grad is not None
        eta = (leaf.detach() - ALPHA * leaf.grad.sign() - images).clamp(-EPSILON, EPSILON)
        current = (images + eta).clamp(0, 1)
    return eta


def alike(found: Tensor, wanted: Tensor, *, within: float = 1e-6) -> float:
    return float(((found - wanted).abs() <= within).float().mean())


class TestErrorMinimizing:
    def test_a_class_wise_round(self, stark: ImageSet) -> None:
        method = ErrorMinimizing(preset="paper", surrogate="small-cnn", surrogate_steps=1, device="cpu")
        assert stark.labels is not None
        trainer, stage = method.recipe.trainer(stark, 0), method.recipe.class_stage(stark)
        net, images = copy.deepcopy(trainer.model), stark.images.float() / 255
        state = stage.start()
        state["delta"] += 0.01
        delta = state["delta"].clone()
        stage.run_round(0, state, trainer, torch.Generator().manual_seed(1), quiet)

        fifth, again = (stage._stratified(stark.labels, torch.Generator().manual_seed(seed)) for seed in (5, 6))
        assert sorted(fifth.tolist()) == sorted(again.tolist())
        assert len(fifth) == 3 * round(0.2 * 12)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))  # sums run in this one
        official_step(net, (images + delta[stark.labels])[order], stark.labels[order])
        own = min_min(net, images[fifth], stark.labels[fifth], delta[stark.labels[fifth]], 1)
        for label in range(3):
            mean = own[stark.labels[fifth] == label].mean(0).clamp(-EPSILON, EPSILON)
            assert alike(state["delta"][label], mean) > 0.98
        clamped = (images[fifth] + own).clamp(0, 1) - images[fifth]
        assert alike(state["delta"][0], clamped[stark.labels[fifth] == 0].mean(0)) < 0.9, "the set tells them apart"

    @pytest.mark.parametrize(("steps", "least"), [(1, 0.95), (2, 0.85)])  # signs multiply what rounding differs by
    def test_a_sample_wise_round(self, stark: ImageSet, steps: int, least: float) -> None:
        method = ErrorMinimizing(
            preset="paper",
            granularity="sample",
            surrogate="small-cnn",
            surrogate_steps=1,
            pgd_steps=steps,
            device="cpu",
        )
        assert stark.labels is not None
        trainer, stage = method.recipe.trainer(stark, 0), method.recipe.sample_stage(stark)
        net, images = copy.deepcopy(trainer.model), stark.images.float() / 255
        state = stage.start(None)
        stage.run_round(0, state, trainer, torch.Generator().manual_seed(1), quiet)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
        official_step(net, images[order], stark.labels[order])
        wanted = min_min(net, images, stark.labels, torch.zeros_like(images), steps)
        assert state["delta"].dtype == torch.float32
        assert alike(state["delta"], wanted) > least
        assert float((images + state["delta"]).min()) < 0, "stored as it was before the last clamp"

    def test_the_network_sees_pictures_as_they_are_with_torchs_own_weights(self) -> None:
        method = ErrorMinimizing(preset="paper", device="cpu")
        assert method.surrogate == "resnet18-plain"
        model = create_surrogate("resnet18-plain", num_classes=3, resolution=32, seed=0)
        picture = torch.rand(2, 3, 32, 32)
        assert torch.equal(model.normalise(picture), picture)
        for module in model.net.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                assert bound * 0.95 < float(module.weight.abs().max()) <= bound

    def test_it_goes_on_until_the_error_is_small(self, tiny: ImageSet) -> None:
        told: list[FitProgress] = []
        method = ErrorMinimizing(preset="paper", surrogate="small-cnn", surrogate_steps=1, stop_error=0.0, device="cpu")
        assert method.recipe.rounds > 500
        stage = method.recipe.class_stage(tiny)
        assert not stage.done(30, 0.01001)
        assert stage.done(1, 0.0)
        assert not told


class TestUnlearnableClusters:
    def test_one_update_of_a_generator(self, tiny: ImageSet) -> None:
        method = UnlearnableClusters(preset="paper", surrogate="small-cnn", width=4, device="cpu")
        recipe = method.recipe
        assert (recipe.epsilon, recipe.batch_size, recipe.rounds) == (16 / 255, 256, 50)
        model = create_surrogate("small-cnn", num_classes=2, resolution=16, seed=5)
        with torch.no_grad():  # features far enough apart that single precision can tell the loss
            model.train()(tiny.images.float() / 255)
            norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
            norms[-1].weight.mul_(8)
        space = FeatureSpace(model, torch.device("cpu"), 16, precision=recipe.precision)
        centres = space.of(tiny.images[:2])
        pull = FeaturePull(tiny, space, Clusters(centres, torch.arange(36) % 2), None, recipe.windows, paper=True)
        patterns = GeneratorPatterns(
            2, 16, recipe.epsilon, width=4, bound=recipe.bound, lr=recipe.lr, weight_decay=recipe.weight_decay,
            seed=0, device=torch.device("cpu"),
        )  # fmt: skip
        net, z = copy.deepcopy(patterns._nets[0]), patterns._noise[0]
        index = torch.randperm(36, generator=torch.Generator().manual_seed(2))
        own = torch.zeros_like(index)
        gradient, loss = pull.on_patterns(
            index, own, patterns.delta([0]), torch.Generator().manual_seed(3), batch_size=256
        )
        patterns.step(gradient, [0], 0.0)

        optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=5e-4)
        delta = net(z)[0].clamp(-recipe.epsilon, recipe.epsilon)
        draws = torch.Generator().manual_seed(3)
        tops, lefts = (torch.randint(0, 3, (36,), generator=draws).tolist() for _ in range(2))
        mirrored = (torch.rand(36, generator=draws) < 0.5).tolist()
        seen = []
        for row, picture in enumerate(index.tolist()):
            large = F.interpolate(tiny.images[picture][None].float() / 255, (18, 18), mode="bilinear")[0]
            crop = large[:, tops[row] : tops[row] + 16, lefts[row] : lefts[row] + 16]
            crop = crop.flip(2) if mirrored[row] else crop
            seen.append((crop + delta).clamp(0, 1))  # the noise comes after the crop and is not mirrored
        features = model.eval().trunk()(torch.stack(seen))
        wanted = centres[1].softmax(0).expand_as(features)
        official = nn.KLDivLoss(reduction="batchmean")(features.log_softmax(1), wanted)
        official.backward()
        optimiser.step()
        assert float(loss) == pytest.approx(float(official), rel=0.01)
        # Adam's first moment is a tenth of gradient plus weight decay: a gradient of another size shows here.
        for ours, theirs in zip(patterns._nets[0].parameters(), net.parameters(), strict=True):
            first, moment = patterns._optimisers[0].state[ours]["exp_avg"], optimiser.state[theirs]["exp_avg"]
            assert float((first - moment).norm()) <= 1e-3 * float(moment.norm()) + 1e-9
            assert alike(ours.detach(), theirs.detach(), within=1e-5) > 0.95

    def test_an_epoch_sees_every_picture_once_the_last_batch_too(
        self, tiny: ImageSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Tensor] = []
        real = FeaturePull.on_patterns

        def spy(self: FeaturePull, index: Tensor, *args: object, **options: object) -> tuple[Tensor, Tensor]:
            seen.append(index)
            return real(self, index, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(FeaturePull, "on_patterns", spy)
        UnlearnableClusters(
            preset="paper", surrogate="small-cnn", width=4, batch_size=16, rounds=1, clusters=2, device="cpu"
        ).fit(tiny)
        assert [len(part) for part in seen] == [16, 16, 4] * 2
        for epoch in (seen[:3], seen[3:]):
            assert sorted(torch.cat(epoch).tolist()) == list(range(36))


class TestBayesErrorAscent:
    def test_one_step_with_gradient_on_both_sides_whatever_the_number(self, tiny: ImageSet) -> None:
        method = BayesErrorAscent(preset="paper", surrogate="small-cnn", device="cpu")
        recipe = method.recipe
        assert recipe.most_exact is None
        assert recipe.surrogate != "resnet18-plain"
        assert BayesErrorAscent(preset="paper", device="cpu").surrogate == "resnet18-plain"
        copies = recipe.start(tiny, len(tiny))
        model = recipe.trainer(tiny, 0).model
        model.eval()
        members, _ = recipe.members(model, 16)
        stepper = recipe.stepper(copies)
        ascent = Ascent(
            copies, members, stepper, sigma=recipe.sigma, kind=recipe.kind, scale=recipe.scaling, padding=0,
            most=recipe.most_exact, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        for _ in ascent.step():
            pass

        images = tiny.images.float() / 255
        leaf = images.clone().requires_grad_(True)
        features = model.trunk()(leaf)
        u = features / features.detach().abs().max()
        errors = []
        for i in range(len(images)):
            kernel = torch.exp(-(u[i] - u).square().sum(1) / (2 * 0.3**2))
            kernel = torch.cat([kernel[:i], torch.zeros(1), kernel[i + 1 :]])
            assert tiny.labels is not None
            posterior = torch.stack([kernel[tiny.labels == k].sum() for k in range(3)]) / (kernel.sum() + 1e-8)
            errors.append(1 - posterior.max())
        optimiser = torch.optim.AdamW([leaf], lr=1e-3, weight_decay=1e-2, maximize=True)
        torch.stack(errors).sum().backward()
        optimiser.step()
        assert leaf.grad is not None
        moment = stepper.moments["first"]
        assert float(F.cosine_similarity(moment.flatten(), leaf.grad.flatten(), dim=0)) > 0.999
        wanted = torch.minimum(torch.maximum(leaf.detach(), images - EPSILON), images + EPSILON).clamp(0, 1) - images
        assert copies.delta.dtype == torch.float32
        assert alike(copies.delta, wanted, within=2e-5) > 0.97

    def test_blocks_of_rows_give_the_gradient_of_the_whole(self) -> None:
        from bitterant.protect.methods.beo.posterior import all_pairs

        features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(40) % 3
        whole = all_pairs(features, labels, 3, sigma=0.8)
        parts = all_pairs(features, labels, 3, sigma=0.8, rows=7)
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("method", [ErrorMinimizing, BayesErrorAscent, UnlearnableClusters])
def test_the_paper_is_computed_in_float32(method: type) -> None:
    assert method(preset="paper", device="cpu").recipe.precision == "float32"
    with pytest.raises(ConfigError, match="float32"):
        method(preset="paper", device="cpu", precision="bfloat16")
    with pytest.raises(ConfigError, match="precision"):
        method(device="cpu", precision="float8")
