"""Losses against loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bitterant.protect.methods.t2ue.training import contrastive_loss, sameness


def naive(images: torch.Tensor, texts: torch.Tensor, scale: float, groups: list[int] | None = None) -> float:
    count, total = len(images), 0.0
    for i in range(count):
        for a, b in ((images, texts), (texts, images)):
            scores = []
            for j in range(count):
                if groups is not None and j != i and groups[i] == groups[j]:
                    continue
                scores.append(scale * float((a[i] * b[j]).sum()))
            own = scale * float((a[i] * b[i]).sum())
            total += math.log(sum(math.exp(score) for score in scores)) - own
    return total / (2 * count)


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2, 1]])
def test_contrastive_loss_agrees_with_the_loop(groups: list[int] | None) -> None:
    draw = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 7, generator=draw), dim=-1) for _ in range(2))
    loss = contrastive_loss(images, texts, 4.0, None if groups is None else torch.tensor(groups))
    assert float(loss) == pytest.approx(naive(images, texts, 4.0, groups), abs=1e-5)


def test_contrastive_loss_is_small_where_pairs_fit_and_log_n_where_nothing_tells() -> None:
    eye = torch.eye(6)
    assert float(contrastive_loss(eye, eye, 50.0)) < 1e-6
    same = torch.ones(6, 1)
    assert float(contrastive_loss(same, same, 50.0)) == pytest.approx(math.log(6), abs=1e-5)


def test_sameness_agrees_with_the_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 3, 5, 5, generator=draw), torch.randn(4, 3, 5, 5, generator=draw)
    b[0] = a[0]
    rows = [max(0.0, float((x * y).sum() / (x.norm() * y.norm())) - 0.1) for x, y in zip(a, b, strict=True)]
    assert float(sameness(a, b, free=0.1)) == pytest.approx(sum(rows) / 4, abs=1e-6)
