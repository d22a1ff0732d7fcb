"""Retrieval scores against a matrix made by hand, a loop, and draws at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bitterant.errors import ConfigError
from bitterant.surrogates.image_text import retrieval_scores


def test_a_matrix_made_by_hand() -> None:
    """Three pictures with five captions each; cosines written down, ranks counted by hand."""
    # Columns: captions 0-4 of picture 0, 5-9 of picture 1, 10-14 of picture 2. Pictures are the axes.
    cosines = torch.tensor(
        [
            [0.9, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0],  # own best first: rank 0
            [0.3, 0.3, 0.0, 0.0, 0.0, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],  # two foreign ahead: 2
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.1, 0.1, 0.1, 0.1],  # five foreign ahead: 5
        ]
    )
    owners = torch.arange(3).repeat_interleave(5)
    forth, back = retrieval_scores(torch.eye(3), cosines.T.contiguous(), owners, ks=(1, 3, 6))
    assert forth.hits == {1: pytest.approx(1 / 3), 3: pytest.approx(2 / 3), 6: 1.0}
    assert forth.median_rank == 3
    # Captions 0..4: ranks 0 1 0 0 0; ties count against: caption 2-4 are 0.1 against 0 and 0.
    # Captions 5..9 of picture 1: behind picture 2 (0.5), and 0.25 against 0.2 of picture 0; 6-9 behind both.
    # Captions 10..14 of picture 2: 0.4 first; the others tie with picture 1 at 0.1.
    assert back.hits[1] == pytest.approx((4 + 0 + 1) / 15)
    assert back.hits[3] == 1.0
    assert back.queries == 15


def test_it_agrees_with_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(7, 4, generator=draw), dim=-1)
    owners = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5, 6])
    texts = F.normalize(torch.randn(10, 4, generator=draw), dim=-1)
    forth, back = retrieval_scores(images, texts, owners, ks=(1, 2, 5))
    ranks = []
    for i in range(7):
        scores = [float(images[i].double() @ texts[j].double()) for j in range(10)]
        best = max(scores[j] for j in range(10) if owners[j] == i)
        ranks.append(sum(scores[j] >= best for j in range(10) if owners[j] != i))
    assert forth.hits == {k: pytest.approx(np.mean([rank < k for rank in ranks])) for k in (1, 2, 5)}
    assert forth.median_rank == int(np.floor(np.median(ranks))) + 1
    ranks = []
    for j in range(10):
        scores = [float(images[i].double() @ texts[j].double()) for i in range(7)]
        ranks.append(sum(scores[i] >= scores[owners[j]] for i in range(7) if i != owners[j]))
    assert back.hits == {k: pytest.approx(np.mean([rank < k for rank in ranks])) for k in (1, 2, 5)}


def test_chance_is_what_random_vectors_reach() -> None:
    """The published values for 1,000 pictures with five captions, and a simulation."""
    owners = torch.arange(1000).repeat_interleave(5)
    forth, back = retrieval_scores(torch.eye(1000)[:, :3] + 0.1, torch.ones(5000, 3), owners)
    assert forth.chance_hits[10] == pytest.approx(0.01, abs=0.0005)
    assert forth.chance_median_rank == pytest.approx(647, abs=3)
    assert back.chance_hits[10] == pytest.approx(0.01, abs=1e-9)
    assert back.chance_median_rank == 500
    draw, found = torch.Generator().manual_seed(0), []
    few = torch.arange(40).repeat_interleave(5)
    for _ in range(30):
        images, texts = torch.randn(40, 8, generator=draw), torch.randn(200, 8, generator=draw)
        found.append(retrieval_scores(F.normalize(images, dim=-1), F.normalize(texts, dim=-1), few)[0])
    assert np.mean([score.hits[10] for score in found]) == pytest.approx(found[0].chance_hits[10], abs=0.04)


def test_all_the_same_is_not_perfect() -> None:
    """A collapsed model puts every answer last: ties count against it."""
    forth, back = retrieval_scores(torch.ones(5, 2), torch.ones(5, 2), torch.arange(5))
    assert forth.hits[1] == back.hits[1] == 0.0
    assert forth.median_rank == 5


def test_pictures_without_a_caption_are_refused() -> None:
    with pytest.raises(ConfigError, match="caption of its own"):
        retrieval_scores(torch.eye(3), torch.eye(3), torch.tensor([0, 0, 1]))


def test_a_caption_of_several_pictures_is_answered_by_any_of_them() -> None:
    """Two captions for three pictures; ranks counted by hand."""
    cosines = torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.6, 0.5]])
    own = torch.tensor([[True, False], [True, False], [False, True]])
    forth, back = retrieval_scores(torch.eye(3), cosines.T.contiguous(), own, ks=(1, 2))
    assert forth.ranks == (0, 1, 1), "picture 0 its own; the others have the foreign caption first"
    assert back.ranks == (0, 0), "the best of its two pictures; its only one"
    assert forth.chance_hits[1] == pytest.approx(1 / 2)
    assert back.chance_hits[1] == pytest.approx((2 / 3 + 1 / 3) / 2)
    one_each = retrieval_scores(torch.eye(3), torch.eye(3), torch.arange(3))
    assert one_each == retrieval_scores(torch.eye(3), torch.eye(3), torch.eye(3, dtype=torch.bool))


def test_a_network_that_broke_down_is_not_right() -> None:
    forth, back = retrieval_scores(torch.full((4, 2), torch.nan), torch.ones(4, 2), torch.arange(4))
    assert forth.hits[1] == back.hits[1] == 0.0


def test_captions_of_no_picture_are_refused() -> None:
    with pytest.raises(ConfigError, match="caption of its own"):
        retrieval_scores(torch.eye(2), torch.eye(2), torch.tensor([[True, False], [True, False]]))
