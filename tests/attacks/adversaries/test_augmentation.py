"""Augmentations against slow and obvious versions; the same seed gives the same step whatever happened before."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.attacks.adversaries import augmentation, create_adversary
from bitterant.attacks.adversaries.augmentation import (
    CutMixObjective,
    CutoutObjective,
    MixupObjective,
    ResizedCropObjective,
    RotateObjective,
    TrivialAugmentObjective,
    UEraserObjective,
    boxes,
    resized_crops,
    rotated,
    strong_augment,
    trivial_augment,
)
from bitterant.attacks.adversaries.learning import PlainTraining
from bitterant.attacks.adversaries.objectives import AdversarialObjective
from bitterant.attacks.adversaries.prior import _ContrastiveObjective
from bitterant.surrogates import Objective

from .conftest import Spy, a_batch

SIDE = 16


ALL: list[tuple[str, Objective]] = [
    ("cutout", CutoutObjective()),
    ("mixup", MixupObjective()),
    ("cutmix", CutMixObjective()),
    ("rotate", RotateObjective()),
    ("resized-crop", ResizedCropObjective()),
    ("trivial", TrivialAugmentObjective()),
    ("ueraser", UEraserObjective()),
    ("ueraser:jpeg", UEraserObjective(versions=2, jpeg=True)),
    ("pgd", AdversarialObjective(8 / 255, 3, 0.25)),
    ("fgsm", AdversarialObjective(8 / 255, 1, 1.25)),
    ("simclr", _ContrastiveObjective(0.5)),
]


@pytest.mark.parametrize(
    ("operation", "strengths"),
    [("ShearX", (0.31, -0.17)), ("ShearY", (0.31, -0.17)), ("TranslateX", (3.7, -5.0)), ("TranslateY", (3.7, -5.0)),
     ("Rotate", (13.3, -71.0)), ("Sharpness", (0.6, -0.6))],
)  # fmt: skip
def test_what_a_gpu_does_without_copies_is_what_torchvision_does(operation: str, strengths: tuple[float, ...]) -> None:
    from torchvision.transforms.v2 import InterpolationMode

    host, device = (cast(Any, augmentation._trivial_augment_wide(host)) for host in (True, False))
    pictures = torch.randint(0, 256, (3, 3, 33, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for strength in strengths:
        wanted, found = (
            change._apply_image_or_video_transform(pictures, operation, strength, InterpolationMode.NEAREST, {})
            for change in (host, device)
        )
        assert not torch.equal(wanted, pictures)
        assert float((found != wanted).float().mean()) < 0.01  # a place between two pixels may go to either


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


WIDE = 24


def smooth_tensors(count: int, seed: int, side: int = WIDE) -> Tensor:
    """Smooth pictures, uint8."""
    rng = np.random.default_rng(seed)
    pictures = scipy.ndimage.gaussian_filter(rng.normal(size=(count, 3, side, side)), (0, 0, 3, 3))
    return torch.from_numpy(np.rint(128 + 70 * pictures / np.abs(pictures).max()).astype(np.uint8))


@pytest.mark.parametrize("degrees", [90.0, -90.0, 180.0])
def test_quarter_turns_are_exact(degrees: float) -> None:
    batch = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    found = rotated(batch, torch.full((2,), degrees))
    assert torch.allclose(found, torch.rot90(batch, round(degrees / 90), (2, 3)), atol=1e-5)


def test_a_rotation_is_that_of_scipy_inside_and_fills_the_corners() -> None:
    batch = smooth_tensors(1, 0, 32).float() / 255
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


class WideSpy(nn.Module):
    """Remembers what it was shown."""

    def __init__(self, side: int = WIDE) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * side * side, 4)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return self.layer(images.flatten(1))


def test_each_picture_of_a_batch_is_turned_by_its_own_angle_within_the_limit() -> None:
    y, x = np.mgrid[0:WIDE, 0:WIDE] - (WIDE - 1) / 2
    bar = np.exp(-(y**2) / 8)  # level; its direction is read from the second moments
    batch = torch.from_numpy(np.tile(bar, (40, 3, 1, 1))).float()
    spy = WideSpy()
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


def test_resized_crops_are_rectangles_within_the_picture_of_the_drawn_area_and_shape() -> None:
    """On a picture whose values are its coordinates, what is seen says where it was taken from."""
    place = (torch.arange(WIDE) + 0.5) / WIDE
    batch = torch.zeros(300, 3, WIDE, WIDE)
    batch[:, 0], batch[:, 1] = place, place[:, None]
    found = resized_crops(batch, 0.25, torch.Generator().manual_seed(0))
    middle = slice(2, WIDE - 2)  # within half a pixel of the border the values of a ramp are reflected
    across, down = found[:, 0, WIDE // 2, middle], found[:, 1, middle, WIDE // 2]
    assert torch.allclose(across.diff(n=2), torch.zeros(1), atol=1e-5), "evenly enlarged"
    assert torch.allclose(down.diff(n=2), torch.zeros(1), atol=1e-5)
    width, height = (line.diff().mean(1) * WIDE for line in (across, down))
    left, top = across[:, 0] - 2.5 * width / WIDE, down[:, 0] - 2.5 * height / WIDE
    assert float(torch.stack([left, top]).min()) > -1e-4
    assert float(torch.stack([left + width, top + height]).max()) < 1 + 1e-4
    area, ratio = width * height, width / height
    assert 0.24 < float(area.min()) < 0.3
    assert 0.9 < float(area.max()) <= 1.001
    assert 0.74 < float(ratio.min()) < 0.8
    assert 1.25 < float(ratio.max()) < 1.34
    assert 0.55 < float(area.mean()) < 0.65
    assert float((left / (1 - width).clamp(min=0.05)).std()) > 0.2, "at places of their own"


def test_the_least_area_is_the_adversarys() -> None:
    assert create_adversary("resized-crop:0.08").learner() == PlainTraining(ResizedCropObjective(0.08))
    assert create_adversary("resized-crop").name == "resized-crop:0.25"
