"""The training of surrogates: steps are repeatable, and say how far they are."""

from __future__ import annotations

import torch
from torch import nn

from bitterant.imaging import ImageSet
from bitterant.protect.methods.surrogate_training import SurrogateTrainer
from bitterant.surrogates import Surrogate


def trainer(dataset: ImageSet, *, augment: bool = True) -> SurrogateTrainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 3))
    model = Surrogate(net, name="with-dropout", num_classes=3)
    assert dataset.labels is not None
    return SurrogateTrainer(model, dataset.images, dataset.labels, batch_size=12, augment=augment)


def none(index: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(index), 3, 16, 16)


def test_dropout_depends_on_the_generator_alone(tiny: ImageSet) -> None:
    digests = []
    for outer, seed in ((1, 5), (2, 5), (1, 6)):
        with torch.random.fork_rng():
            torch.manual_seed(outer)
            one = trainer(tiny)
            before = torch.get_rng_state()
            one.steps(4, none, torch.Generator().manual_seed(seed))
            assert torch.equal(torch.get_rng_state(), before)
        digests.append(one.model.fingerprint())
    assert digests[0] == digests[1] != digests[2]


def test_progress_and_the_learning_rate(tiny: ImageSet) -> None:
    one, seen = trainer(tiny), list[float]()
    one.steps(25, none, torch.Generator().manual_seed(0), seen.append)
    assert seen == [0.4, 0.8]
    before = one.model.fingerprint()
    one.set_learning_rate(0.0)
    one.steps(3, none, torch.Generator().manual_seed(0))
    assert one.model.fingerprint() == before


def test_plain_steps_see_the_images_as_they_are(tiny: ImageSet) -> None:
    digests = []
    for augment, plain in ((False, False), (True, True), (True, False)):
        one = trainer(tiny, augment=augment)
        one.steps(3, none, torch.Generator().manual_seed(0), plain=plain)
        digests.append(one.model.fingerprint())
    assert digests[0] == digests[1] != digests[2]
