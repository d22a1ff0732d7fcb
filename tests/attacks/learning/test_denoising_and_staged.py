"""Rotation, noise with a denoiser, staged training, and the ladder of adversarial radii."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.augmentation import RotateObjective, rotated
from bitterant.attacks.adversaries.denoising import Denoiser, NoiseAndDenoise, noised_and_denoised, train_denoiser
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.staged import Block, Brake, StagedTraining, clustering, shallow_blocks
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe, create_surrogate, train_classifier

SIDE = 24


def smooth(count: int, seed: int, side: int = SIDE) -> Tensor:
    """Smooth pictures, uint8."""
    rng = np.random.default_rng(seed)
    pictures = scipy.ndimage.gaussian_filter(rng.normal(size=(count, 3, side, side)), (0, 0, 3, 3))
    return torch.from_numpy(np.rint(128 + 70 * pictures / np.abs(pictures).max()).astype(np.uint8))


# Rotation


@pytest.mark.parametrize("degrees", [90.0, -90.0, 180.0])
def test_quarter_turns_are_exact(degrees: float) -> None:
    batch = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    found = rotated(batch, torch.full((2,), degrees))
    assert torch.allclose(found, torch.rot90(batch, round(degrees / 90), (2, 3)), atol=1e-5)


def test_a_rotation_is_that_of_scipy_inside_and_fills_the_corners() -> None:
    batch = smooth(1, 0, 32).float() / 255
    found = rotated(batch, torch.tensor([25.0]))[0].numpy()
    there, back = (
        scipy.ndimage.rotate(batch[0].numpy(), degrees, axes=(1, 2), reshape=False, order=1, mode="mirror")
        for degrees in (25.0, -25.0)
    )
    y, x = np.mgrid[0:32, 0:32] - 15.5
    inside = np.hypot(y, x) < 14
    assert np.abs(found - there)[:, inside].max() < 1e-4
    assert np.abs(found - back)[:, inside].max() > 0.1, "and not the other way"
    assert found.min() > 0.1, "no black corners"


class Spy(nn.Module):
    """Remembers what it was shown."""

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * side * side, 4)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.layer(images.flatten(1))


def test_each_picture_of_a_batch_is_turned_by_its_own_angle_within_the_limit() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
    bar = np.exp(-(y**2) / 8)  # level; its direction is read from the second moments
    batch = torch.from_numpy(np.tile(bar, (40, 3, 1, 1))).float()
    spy = Spy()
    RotateObjective(30.0)(spy, batch, torch.zeros(40, dtype=torch.int64), torch.Generator().manual_seed(0), 0.0)
    round_window = np.hypot(y, x) < 10
    angles = []
    for picture in spy.seen[0][:, 0].numpy() * round_window:
        moments = [(picture * values).sum() for values in (x * x, y * y, x * y)]
        angles.append(-0.5 * np.rad2deg(np.arctan2(2 * moments[2], moments[0] - moments[1])))
    expected = 30 * (2 * torch.rand(40, generator=torch.Generator().manual_seed(0)) - 1).numpy()
    assert np.abs(angles - expected).max() < 3
    assert max(angles) > 20
    assert min(angles) < -20
    assert create_adversary("rotate:15").learner() == PlainTraining(RotateObjective(15.0))


# Noise and a denoiser


@pytest.mark.parametrize("side", [15, 16])
def test_an_untrained_denoiser_is_a_box_blur(side: int) -> None:
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = batch.numpy()
    for axis in (2, 3):
        expected = scipy.ndimage.uniform_filter1d(expected, 5, axis=axis, mode="mirror")
    assert np.allclose(Denoiser().eval()(batch).detach().numpy(), expected, atol=1e-5)


def test_noise_that_was_there_before_goes_with_the_noise_that_is_added() -> None:
    sigma = 16 / 255
    network = train_denoiser(smooth(60, 0), sigma=sigma, steps=30, seed=0, device="cpu")
    clean = smooth(12, 1)
    noise = torch.randint(-1, 2, clean.shape, generator=torch.Generator().manual_seed(2)).sign() * 8
    dirty = (clean.int() + noise).clamp(0, 255).to(torch.uint8)
    after = noised_and_denoised(network, dirty, sigma=sigma, seed=3, device="cpu")
    assert (after.shape, after.dtype) == (clean.shape, torch.uint8)
    before_error, after_error = (
        (pictures.float() - clean.float()).square().mean().sqrt() for pictures in (dirty, after)
    )
    assert float(before_error) > 6
    assert float(after_error) < 0.7 * float(before_error), "for all the noise that was added"
    undenoised = noised_and_denoised(nn.Identity(), dirty, sigma=sigma, seed=3, device="cpu")  # type: ignore[arg-type]
    assert float((undenoised.float() - clean.float()).square().mean().sqrt()) > 14
    again = noised_and_denoised(network, dirty[:5], sigma=sigma, seed=3, device="cpu")
    apart = [float((again.float() - after[rows].float()).abs().mean()) for rows in (slice(0, 5), slice(5, 10))]
    assert apart[0] < 5 < apart[1], "no picture is mixed up with another"


def test_a_denoiser_that_learned_keeps_edges() -> None:
    """Better than the box blur it starts from, on pictures of its kind."""
    rng = np.random.default_rng(0)
    steps = rng.integers(20, 236, (40, 3, 3, 3)).repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
    train, test = torch.from_numpy(steps[:30]), torch.from_numpy(steps[30:])
    trained = train_denoiser(train, sigma=16 / 255, steps=40, seed=0, device="cpu")
    found = [
        float((noised_and_denoised(network, test, sigma=16 / 255, seed=1, device="cpu").float() - test.float())
              .square().mean().sqrt())
        for network in (trained, Denoiser())
    ]  # fmt: skip
    assert found[0] < 0.7 * found[1]


def test_the_same_seed_gives_the_same_denoiser() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_denoiser(smooth(9, 0), sigma=0.1, steps=2, seed=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    second = train_denoiser(smooth(9, 0), sigma=0.1, steps=2, seed=5, device="cpu")
    other = train_denoiser(smooth(9, 0), sigma=0.1, steps=2, seed=6, device="cpu")
    weights = [network.layers[0].weight for network in (first, second, other)]
    assert torch.equal(weights[0], weights[1])  # type: ignore[arg-type]
    assert not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def job(train_set: ImageSet, test_set: ImageSet) -> TrainingJob:
    assert train_set.labels is not None
    assert test_set.labels is not None
    return TrainingJob(
        arm="protected", victim="small-cnn", classes=4, images=train_set.images, labels=train_set.labels,
        test_images=test_set.images[:40], test_labels=test_set.labels[:40], clean_subset_images=train_set.images[:8],
        clean_subset_labels=train_set.labels[:8], recipe=Recipe(steps=4, batch_size=32), seed=5, evals=1, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("few", [False, True])
def test_who_denoises_learns_from_its_own_pictures_or_from_the_few(
    few: bool, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitterant.attacks.adversaries import denoising

    known: list[Tensor] = []
    trained: list[TrainingJob] = []

    def note_denoiser(images: Tensor, **options: object) -> nn.Module:
        known.append(images)
        assert options["steps"] == 2, "half of the recipe's"
        return nn.Identity()

    class NoteTraining:
        def __call__(self, job: TrainingJob) -> object:
            trained.append(job)
            return PlainTraining()(job)

    monkeypatch.setattr(denoising, "train_denoiser", note_denoiser)
    monkeypatch.setattr(denoising, "PlainTraining", NoteTraining)
    result = NoiseAndDenoise(16 / 255, clean_subset=few)(job)
    assert result.finite
    assert known[0] is (job.clean_subset_images if few else job.images)
    for now, before in ((trained[0].images, job.images), (trained[0].test_images, job.test_images)):
        assert 8 < float((now.float() - before.float()).std()) < 18, "training and test pictures went through"
    assert torch.equal(trained[0].labels, job.labels)


def test_denoisers_and_who_has_what() -> None:
    assert create_adversary("noise-denoise:32").learner() == NoiseAndDenoise(32 / 255)
    assert create_adversary("noise-denoise").clean_share == 0
    few = create_adversary("few-denoise:0.01")
    assert few.clean_share == 0.01
    assert few.learner() == NoiseAndDenoise(16 / 255, clean_subset=True)


# Staged training


def test_clustering_is_the_variance_between_classes_less_chance() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 5
    noise = rng.normal(size=(60, 3))
    values = noise + np.outer(labels, [0.0, 1.0, 100.0])
    expected = []
    for feature in values.T:
        groups = [feature[labels == k] for k in range(5)]
        inside = sum(((group - group.mean()) ** 2).sum() for group in groups) / (60 - 5)
        expected.append(1 - inside / feature.var(ddof=1))
    found = clustering(torch.from_numpy(values), torch.from_numpy(labels))
    assert found == pytest.approx(np.mean(expected), abs=1e-5)
    by_chance = [clustering(torch.randn(64, 20), torch.randint(10, (64,))) for _ in range(30)]
    assert abs(np.mean(by_chance)) < 0.03
    assert clustering(torch.randn(4, 3), torch.arange(4)) == 0
    assert clustering(torch.ones(8, 3), torch.arange(8) % 2) == 0


def test_shallow_blocks_are_the_first_layers_in_order() -> None:
    network = create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0).net
    blocks = shallow_blocks(network, 1 / 3, 2)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [[names[id(parameter)] for parameter in block.parameters] for block in blocks]
    assert found == [
        ["features.0.weight", "features.1.weight", "features.1.bias"],
        ["features.4.weight", "features.5.weight", "features.5.bias"],
    ]
    assert len(shallow_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 1.0, 3)) == 1, "never the last layer"


def test_blocks_up_to_the_one_that_sorts_are_slowed_and_let_go() -> None:
    blocks = [Block(nn.Identity(), [nn.Parameter(torch.zeros(1))]) for _ in range(3)]
    brake = Brake(blocks, threshold=0.2, slowest=0.25, every=2)

    def decided(*measures: float, steps: int = 2) -> list[float]:
        for block, measure in zip(blocks, measures, strict=True):
            block.measure = measure
        for _ in range(steps):
            brake.after_step()
        return [block.rate for block in blocks]

    assert decided(0.1, 0.3, 0.1, steps=1) == [1, 1, 1]
    assert decided(0.1, 0.3, 0.1, steps=1) == [0.5, 0.5, 1]
    assert decided(0.3, 0.1, 0.1) == [0.25, 1, 1]
    assert decided(0.1, 0.1, 0.5) == [0.25, 0.5, 0.5]
    assert decided(0.1, 0.1, 0.1, steps=4) == [1, 1, 1]


def test_a_slowed_block_moves_as_with_a_smaller_learning_rate() -> None:
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    network = nn.Sequential(first, nn.ReLU(), last)
    brake = Brake([Block(first, list(first.parameters()), rate=0.125)], threshold=9.0, slowest=0.125, every=10**6)
    batch, target = torch.randn(8, 3), torch.arange(8) % 2
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    loss, _ = brake.objective(network, batch, target, torch.Generator())
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
    optimiser.step()
    brake.after_step()
    for parameter, was, gradient, rate in zip(
        network.parameters(), before, gradients, (0.0625, 0.0625, 0.5, 0.5), strict=True
    ):
        assert torch.allclose(parameter, was - rate * gradient, atol=1e-6)
    assert not first._forward_hooks


@pytest.mark.parametrize("coded", [False, True])
def test_staged_training_slows_under_a_planted_code_and_not_otherwise(job: TrainingJob, coded: bool) -> None:
    images = job.images.clone()
    if coded:  # a brightness for each class: a shallow layer cannot but sort by it
        images = (images.int() + 25 * (job.labels[:, None, None, None] - 1)).clamp(0, 255).to(torch.uint8)
    network = job.fresh_network()
    brake = replace(StagedTraining(), threshold=0.25, every=2).brake(network)
    rates: list[float] = []

    def after_step() -> None:
        brake.after_step()
        rates.append(brake.blocks[0].rate)

    train_classifier(
        network, images, job.labels, Recipe(steps=30, batch_size=64), seed=5, evals=1, device="cpu",
        objective=brake.objective, after_step=after_step,
    )  # fmt: skip
    assert rates[-1] == (1 / 64 if coded else 1.0)


def test_staged_is_plain_where_nothing_sorts(job: TrainingJob) -> None:
    """Watching alone changes nothing."""
    plain, staged = PlainTraining()(job), replace(StagedTraining(), threshold=9.0)(job)
    assert plain.predictions is not None
    assert staged.predictions is not None
    assert torch.equal(plain.predictions, staged.predictions)
    assert plain.final_loss == staged.final_loss
    assert create_adversary("staged").learner() == StagedTraining()


# The ladder of radii


@pytest.mark.parametrize("levels", [2, 4, 6, 8, 16])
@pytest.mark.parametrize("prefix", ["adversarial", "fast-adversarial"])
def test_the_ladder_of_radii(prefix: str, levels: int) -> None:
    adversary = create_adversary(f"{prefix}:{levels}")
    assert adversary.name == f"{prefix}:{levels}"
    learner = adversary.learner()
    assert isinstance(learner, PlainTraining)
    spy = Spy()
    batch = torch.full((6, 3, SIDE, SIDE), 0.5)
    assert learner.objective is not None
    learner.objective(spy, batch, torch.arange(6) % 4, torch.Generator().manual_seed(0), 0.0)
    reached = float((spy.seen[-1] - batch).abs().max()) * 255
    assert reached == pytest.approx(levels, abs=1e-3), "the whole radius is used, and no more"
