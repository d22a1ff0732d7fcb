"""Objectives against slow and obvious versions; the same seed gives the same step whatever happened before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.adversarial import AdversarialObjective, worst_in_ball
from bitterant.attacks.adversaries.augmentation import (
    CutMixObjective,
    CutoutObjective,
    MixupObjective,
    RotateObjective,
    TrivialAugmentObjective,
    UEraserObjective,
    boxes,
    strong_augment,
    trivial_augment,
)
from bitterant.attacks.adversaries.learning import PlainTraining
from bitterant.attacks.adversaries.prior import _ContrastiveObjective, nt_xent
from bitterant.surrogates import Objective, create_surrogate

SIDE = 16


class Spy(nn.Module):
    """A linear classifier that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.1 * torch.randn(4, 3 * SIDE * SIDE, generator=generator))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return images.flatten(1) @ self.weight.T


def a_batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator), torch.arange(count) % 4


ALL: list[tuple[str, Objective]] = [
    ("cutout", CutoutObjective()),
    ("mixup", MixupObjective()),
    ("cutmix", CutMixObjective()),
    ("rotate", RotateObjective()),
    ("trivial", TrivialAugmentObjective()),
    ("ueraser", UEraserObjective()),
    ("ueraser:jpeg", UEraserObjective(versions=2, jpeg=True)),
    ("pgd", AdversarialObjective(8 / 255, 3, 0.25)),
    ("fgsm", AdversarialObjective(8 / 255, 1, 1.25)),
    ("simclr", _ContrastiveObjective(0.5)),
]


@pytest.mark.parametrize(("name", "objective"), ALL, ids=[name for name, _ in ALL])
def test_every_objective_is_a_function_of_its_generator(name: str, objective: Objective) -> None:
    batch, labels = a_batch()
    before = batch.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model = Spy()
    loss, logits = objective(model, batch, labels, torch.Generator().manual_seed(7), 0.0)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left as it was"
    assert torch.equal(batch, before)
    assert loss.requires_grad
    assert bool(loss.isfinite())
    assert logits.shape[0] == 12
    shown = model.seen[-1]
    assert not torch.equal(shown[:12], batch), "it trains on something else"
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
    torch.manual_seed(99)
    again, _ = objective(Spy(), batch, labels, torch.Generator().manual_seed(7), 0.0)
    other, _ = objective(Spy(), batch, labels, torch.Generator().manual_seed(8), 0.0)
    assert torch.equal(loss, again)
    assert not torch.equal(loss, other)


def test_boxes_are_cut_off_at_the_border() -> None:
    rows, columns, sides = torch.tensor([0, 8, 15]), torch.tensor([5, 8, 0]), torch.tensor([6, 0, 5])
    found = boxes(rows, columns, sides, SIDE)
    for picture, (y, x, s) in enumerate(zip(rows.tolist(), columns.tolist(), sides.tolist(), strict=True)):
        for v in range(SIDE):
            for u in range(SIDE):
                inside = y - s // 2 <= v < y - s // 2 + s and x - s // 2 <= u < x - s // 2 + s
                assert bool(found[picture, 0, v, u]) == inside


def test_cutout_blackens_one_square() -> None:
    batch, labels = a_batch()
    model = Spy()
    CutoutObjective(0.5)(model, batch + 0.01, labels, torch.Generator().manual_seed(0), 0.0)
    black = (model.seen[0] == 0).all(dim=1)
    assert ((black.sum(dim=(1, 2)) >= 16) & (black.sum(dim=(1, 2)) <= 64)).all(), "8 x 8 px, less at the border"
    kept = ~black[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(model.seen[0][kept], (batch + 0.01)[kept])


def test_mixup_weighs_the_labels_as_it_does_the_pictures() -> None:
    batch, labels = a_batch()
    model = Spy()
    loss, logits = MixupObjective()(model, batch, labels, torch.Generator().manual_seed(5), 0.0)
    generator = torch.Generator().manual_seed(5)
    weight, order = torch.rand(12, generator=generator), torch.randperm(12, generator=generator)
    total = 0.0
    for i in range(12):
        expected = weight[i] * batch[i] + (1 - weight[i]) * batch[order[i]]
        assert torch.allclose(model.seen[0][i], expected, atol=1e-6)
        parts = [F.cross_entropy(logits[i : i + 1], labels[j : j + 1]) for j in (i, int(order[i]))]
        total += float((weight[i] * parts[0] + (1 - weight[i]) * parts[1]).detach())
    assert float(loss) == pytest.approx(total / 12, rel=1e-5)


def test_cutmix_weighs_the_labels_by_the_pixels_that_are_left() -> None:
    batch, labels = a_batch()
    model = Spy()
    loss, logits = CutMixObjective()(model, batch, labels, torch.Generator().manual_seed(5), 0.0)
    total, cut = 0.0, 0
    for i in range(12):
        own = (model.seen[0][i] == batch[i]).all(dim=0)
        share = float(own.float().mean())
        others = [j for j in range(12) if bool((model.seen[0][i] == batch[j])[:, ~own].all())]
        j = others[0] if share < 1 else i
        cut += share < 1
        parts = [float(F.cross_entropy(logits[i : i + 1], labels[k : k + 1])) for k in (i, j)]
        total += share * parts[0] + (1 - share) * parts[1]
    assert cut > 6
    assert float(loss) == pytest.approx(total / 12, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 10])
def test_attacked_pictures_stay_in_the_ball_and_have_a_larger_loss(steps: int) -> None:
    batch, labels = a_batch()
    batch[0], batch[1] = 0.0, 1.0
    model = Spy()
    epsilon = 8 / 255
    found = worst_in_ball(
        model, batch, labels, torch.Generator().manual_seed(0),
        epsilon=epsilon, steps=steps, step_size=epsilon / 4 if steps > 1 else 1.25 * epsilon,
    )  # fmt: skip
    assert float((found - batch).abs().max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    losses = [F.cross_entropy(model(pictures), labels, reduction="none") for pictures in (batch, found)]
    assert (losses[1] > losses[0]).all()
    if steps > 1:  # of a linear model with one step left or right, the best corner of the ball is known
        noise = batch + epsilon * (2 * torch.rand(batch.shape, generator=torch.Generator().manual_seed(1)) - 1)
        random = F.cross_entropy(model(noise.clamp(0, 1)), labels, reduction="none")
        assert (losses[1] > random).all()


def test_attacks_leave_mode_and_batch_statistics_alone() -> None:
    model = create_surrogate("small-cnn", num_classes=4, resolution=SIDE, seed=0).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch, labels = a_batch()
    worst_in_ball(model, batch, labels, torch.Generator(), epsilon=0.03, steps=2, step_size=0.01)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_ueraser_trains_on_the_worst_version_of_each_picture() -> None:
    batch, labels = a_batch()
    model = Spy()
    loss, _ = UEraserObjective(versions=5)(model, batch, labels, torch.Generator().manual_seed(2), 0.0)
    versions, worst = model.seen[:5], model.seen[5]
    assert len(model.seen) == 6
    scores = [version.flatten(1) @ model.weight.T for version in versions]
    losses = torch.stack([F.cross_entropy(score, labels, reduction="none") for score in scores])
    for i in range(12):
        assert torch.equal(worst[i], versions[int(losses[:, i].argmax())][i])
    assert float(loss.detach()) == pytest.approx(float(losses.max(dim=0).values.mean()), rel=1e-5)
    UEraserObjective()(model, batch, labels, torch.Generator().manual_seed(2), 0.25)
    assert len(model.seen) == 7, "one version in the last three quarters"


def test_jpeg_is_really_part_of_the_variant_that_is_named_so() -> None:
    """In the published benchmark the compressed pictures are computed and dropped."""
    batch, _ = a_batch()
    plain = strong_augment(batch, torch.Generator().manual_seed(2))
    compressed = strong_augment(batch, torch.Generator().manual_seed(2), jpeg=True)
    assert compressed.shape == plain.shape
    assert float((plain - compressed).abs().mean()) > 0.01
    assert create_adversary("ueraser:jpeg").learner() == PlainTraining(UEraserObjective(jpeg=True))


def test_trivial_augment_changes_groups_in_different_ways() -> None:
    batch = torch.full((64, 3, SIDE, SIDE), 0.5)
    batch[:, :, 4:9, 3:] = torch.tensor([0.9, 0.3, 0.1])[:, None, None]
    changed = trivial_augment(batch, torch.Generator().manual_seed(0))
    kinds = {group.numpy().tobytes() for group in changed.split(8)}
    assert len(kinds) >= 3
    assert all(bool((group == group[:1]).all()) for group in changed.split(8))


def test_the_contrastive_loss_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    both = [row / np.linalg.norm(row) for row in torch.cat([first, second]).numpy()]
    total = 0.0
    for i in range(10):
        scores = [np.exp(both[i] @ both[j] / 0.5) for j in range(10) if j != i]
        total -= np.log(np.exp(both[i] @ both[(i + 5) % 10] / 0.5) / sum(scores))
    assert float(nt_xent(first, second, 0.5)) == pytest.approx(total / 10, rel=1e-5)
    same = torch.ones(3, 4)
    assert float(nt_xent(same, same, 0.5)) == pytest.approx(np.log(5)), "all alike: one of 2 B - 1"
