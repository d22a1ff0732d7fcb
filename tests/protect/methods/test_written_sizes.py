"""The matrix of the round resize against the real thing: file size up, working resolution down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitterant.imaging import Budget, ImageSet, Picture, add_delta, squash
from bitterant.protect.methods.pgd import class_gradient, gradient_sums, pgd_min
from bitterant.protect.methods.written import ResizeOperator
from bitterant.surrogates import FrozenSurrogate, create_surrogate


@pytest.mark.parametrize("native", [(40, 53), (16, 31), (10, 12), (200, 150)])
def test_it_is_what_a_trainer_sees_of_a_protected_file(native: tuple[int, int]) -> None:
    base = np.array([128, 128, 129], dtype=np.uint8)  # a colour, if only just: greys get the mean of the channels
    picture = Picture(np.broadcast_to(base, (*native, 3)).copy())
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(-100, 101, (3, 16, 16), generator=generator).float()
    protected = add_delta(picture, levels.permute(1, 2, 0).numpy(), Budget.from_levels(100))
    seen = squash(protected, 16).astype(np.float32) - base
    expected = ResizeOperator(16, native)(levels).permute(1, 2, 0).numpy()
    assert np.abs(seen - expected).max() <= 2.0, "beyond the two roundings"


def test_adjoint_is_the_transpose() -> None:
    resize = ResizeOperator(16, (40, 53))
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    assert torch.allclose((resize(a) * b).sum(), (a * resize.adjoint(b)).sum(), rtol=1e-5)


def test_it_never_enlarges_and_is_nothing_at_the_own_size() -> None:
    delta = torch.rand(3, 16, 16) * 2 - 1
    assert float(ResizeOperator(16, (40, 53))(delta).abs().max()) <= float(delta.abs().max()) + 1e-6
    images = ImageSet.from_tensors(torch.rand(2, 3, 16, 16))
    assert ResizeOperator.of(images) is None


def test_gradients_through_the_trip_equal_autograd_and_lower_the_loss() -> None:
    model = create_surrogate("small-cnn", num_classes=3, resolution=16, seed=0)
    frozen, resize = FrozenSurrogate(model), ResizeOperator(16, (40, 53))
    images = 0.2 + 0.6 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    delta = torch.zeros(3, 3, 16, 16, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(frozen(images + resize(delta)[labels]), labels, reduction="sum")
    (wanted,) = torch.autograd.grad(loss, delta)
    got = class_gradient(gradient_sums(frozen, images, labels, labels, resize(delta.detach())), resize)
    assert torch.allclose(got, wanted / wanted.abs().mean((1, 2, 3), keepdim=True), atol=1e-3)
    own = pgd_min(
        frozen, images, labels, torch.zeros_like(images), epsilon=0.03, step_size=0.01, steps=3, resize=resize
    )
    after = torch.nn.functional.cross_entropy(frozen((images + resize(own)).clamp(0, 1)), labels, reduction="sum")
    assert float(after) < float(loss)
    assert float(own.abs().max()) <= 0.03 + 1e-6
