"""Adversarial training: attacks stay in the ball and use all of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining
from bitterant.attacks.adversaries.objectives import worst_in_ball
from bitterant.surrogates import create_surrogate

from .conftest import Spy, a_batch

SIDE = 16


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


WIDE = 24


class WideSpy(nn.Module):
    """Remembers what it was shown."""

    def __init__(self, side: int = WIDE) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * side * side, 4)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("levels", [2, 4, 6, 8, 16])
@pytest.mark.parametrize("prefix", ["adversarial", "fast-adversarial"])
def test_the_ladder_of_radii(prefix: str, levels: int) -> None:
    adversary = create_adversary(f"{prefix}:{levels}")
    assert adversary.name == f"{prefix}:{levels}"
    learner = adversary.learner()
    assert isinstance(learner, PlainTraining)
    spy = WideSpy()
    batch = torch.full((6, 3, WIDE, WIDE), 0.5)
    assert learner.objective is not None
    learner.objective(spy, batch, torch.arange(6) % 4, torch.Generator().manual_seed(0), 0.0)
    reached = float((spy.seen[-1] - batch).abs().max()) * 255
    assert reached == pytest.approx(levels, abs=1e-3), "the whole radius is used, and no more"
