"""The inner problem against hand-written loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitterant.protect.methods.pgd import (
    RandomCropFlip,
    class_gradient,
    class_means,
    gradient_sums,
    input_gradient,
    moved_sums,
    pgd_min,
)
from bitterant.surrogates import FrozenSurrogate, create_surrogate

EPS, ALPHA = 8 / 255, 2 / 255


@pytest.fixture(scope="module")
def frozen() -> FrozenSurrogate:
    model = create_surrogate("small-cnn", num_classes=3, resolution=16, seed=0).train()
    for step in range(3):  # running statistics off their start, so that evaluation mode is not degenerate
        model(torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(step)))
    return FrozenSurrogate(model)


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, 16, 16, generator=generator)
    images[:, :, 0] = 0.0  # the corners of the range, where a gradient through clamp would vanish
    images[:, :, 1] = 1.0
    return images, torch.tensor([0, 1, 2, 0, 1, 2])


def naive_pgd(model, image, label, delta, steps, in_range=True):
    """One image, plain: descend, project on the ball, project on the range."""
    current, moved = (image + delta).clamp(0, 1), image + delta
    for _ in range(steps):
        leaf = current.clone().requires_grad_(True)
        F.cross_entropy(model(leaf[None]), label[None]).backward()
        assert leaf.grad is not None
        moved = leaf.detach() - ALPHA * leaf.grad.sign()
        current = (image + (moved - image).clamp(-EPS, EPS)).clamp(0, 1)
    return current - image if in_range else (moved - image).clamp(-EPS, EPS)


def test_pgd_equals_the_naive_loop_and_lowers_the_loss(frozen: FrozenSurrogate, batch) -> None:
    images, labels = batch
    start = torch.zeros_like(images)
    got = pgd_min(frozen, images, labels, start, epsilon=EPS, step_size=ALPHA, steps=3)
    for row in range(len(images)):
        want = naive_pgd(frozen, images[row], labels[row], start[row], 3)
        assert float((got[row] - want).abs().gt(1e-5).float().mean()) < 0.01  # sign() amplifies rounding
    before, after = (F.cross_entropy(frozen(images + d), labels) for d in (start, got))
    assert float(after) < float(before)
    assert float(got.abs().max()) <= EPS + 1e-6
    assert float((images + got).min()) >= 0
    assert float((images + got).max()) <= 1


def test_summed_loss_gives_each_image_its_own_gradient(frozen: FrozenSurrogate, batch) -> None:
    images, labels = batch
    gradient, losses = input_gradient(frozen, images, labels)
    for row in range(len(images)):
        alone, loss = input_gradient(frozen, images[row : row + 1], labels[row : row + 1])
        assert torch.allclose(alone[0], gradient[row], atol=1e-5)
        assert torch.allclose(loss[0], losses[row], atol=1e-5)


def test_converged_images_are_left_alone_and_the_others_are_not(frozen: FrozenSurrogate, batch) -> None:
    images, labels = batch
    _, losses = input_gradient(frozen, images, labels)
    threshold = float(losses.median())
    start = torch.full_like(images, 0.01).minimum(1 - images)
    got = pgd_min(frozen, images, labels, start, epsilon=EPS, step_size=ALPHA, steps=1, skip_below=threshold)
    _, now = input_gradient(frozen, images + start, labels)
    for row in range(len(images)):
        assert torch.allclose(got[row], start[row], atol=1e-6) == bool(now[row] < threshold)


def test_the_papers_class_update_is_the_mean_of_own_steps(frozen: FrozenSurrogate, batch) -> None:
    images, labels = batch
    delta = torch.full((4, 3, 16, 16), 0.001)
    total = sum(
        moved_sums(frozen, images[rows], labels[rows], labels[rows], delta, epsilon=EPS, step_size=ALPHA)
        for rows in (slice(0, 4), slice(4, 6))
    )
    assert isinstance(total, torch.Tensor)
    got = class_means(total, labels, delta, EPS)
    for label in range(3):
        rows = [naive_pgd(frozen, images[i], labels[i], delta[label], 1, False) for i in range(6) if labels[i] == label]
        assert float((got[label] - torch.stack(rows).mean(0)).abs().gt(1e-5).float().mean()) < 0.02
    assert torch.equal(got[3], delta[3]), "a class without images keeps its pattern"


def test_class_gradient_equals_autograd_on_the_patterns(frozen: FrozenSurrogate, batch) -> None:
    images, labels = batch
    images = images * 0.8 + 0.1  # inside the range, where the clamp is the identity
    delta = torch.zeros(4, 3, 16, 16, requires_grad=True)
    F.cross_entropy(frozen(images + delta[labels]), labels, reduction="sum").backward()
    assert delta.grad is not None
    scale = delta.grad[:3].abs().mean((1, 2, 3), keepdim=True)
    total, seen = torch.zeros(4, 3, 16, 16), delta.detach()
    total += gradient_sums(frozen, images[:4], labels[:4], labels[:4], seen)
    total[1:3] += gradient_sums(
        frozen, images[4:], labels[4:] - 1, labels[4:], seen[1:3]
    )  # the patterns that they carry
    got = class_gradient(total)
    assert torch.allclose(got[:3], delta.grad[:3] / scale, atol=1e-3)
    assert float(got[3].abs().max()) == 0.0


def test_shift_is_a_crop_of_the_reflected_image_with_half_the_batch_mirrored(batch) -> None:
    images, _ = batch
    side = images.shape[-1]
    top, left = torch.randint(0, 5, (2,), generator=torch.Generator().manual_seed(3)).tolist()
    padded = nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    want = padded[:, :, top : top + side, left : left + side].clone()
    want[3:] = want[3:].flip(3)
    assert torch.equal(RandomCropFlip(2, torch.Generator().manual_seed(3))(images), want)
