"""What trains and crafts on a GPU mixes no devices, draws there, and does not make it wait at every step.

The GPU is a fake one (:mod:`.fake_device`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.registry import adversary_classes
from bitterant.imaging import ImageSet
from bitterant.protect import create_method
from bitterant.protect.methods.beo import BayesErrorAscent
from bitterant.protect.methods.beo.ascent import Ascent
from bitterant.protect.methods.emn import ErrorMinimizing
from bitterant.protect.methods.pgd import pgd_min
from bitterant.surrogates import (
    FrozenSurrogate,
    Recipe,
    create_surrogate,
    fused,
    generator_on,
    transfer,
)

from .fake_device import CUDA, DeviceGenerator, FakeDevice, OnDevice

SIDE, COUNT, CLASSES = 16, 32, 4
LABELS = torch.arange(COUNT) % CLASSES
DRAWN = torch.randint(0, 120, (COUNT, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
IMAGES = (DRAWN + 5 * LABELS.view(-1, 1, 1, 1)).to(torch.uint8)


def no_more(few: Counter[str], many: Counter[str]) -> None:
    """A longer training asks the device no oftener than a shorter one."""
    assert not many - few, f"these waits grow with the steps: {many - few}"


class TestTheDeviceItself:
    def test_operands_on_the_cpu_are_refused_and_single_numbers_are_not(self, gpu: FakeDevice) -> None:
        there = torch.ones(3, 2, device=CUDA)
        assert isinstance(there, OnDevice)
        assert isinstance(there * torch.tensor(2.0), OnDevice)
        for work in (
            lambda: there + torch.ones(2),
            lambda: torch.cat([there, torch.ones(1, 2)]),
            lambda: there[torch.tensor([0])],
            lambda: IMAGES[torch.zeros(2, dtype=torch.int64, device=CUDA)],
            lambda: torch.nn.Linear(2, 2)(there),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                work()

    def test_a_generator_of_the_other_device_is_refused(self, gpu: FakeDevice) -> None:
        host, device = torch.Generator(), generator_on(CUDA, torch.Generator())
        assert isinstance(device, DeviceGenerator)
        torch.rand(2, generator=device, device=CUDA)
        torch.rand(2, generator=host)
        for generator, place in ((host, "cuda"), (device, "cpu")):
            with pytest.raises(RuntimeError, match="device type for generator"):
                torch.rand(2, generator=generator, device=place)

    def test_what_the_host_waits_for_is_counted(self, gpu: FakeDevice) -> None:
        there = torch.arange(6.0, device=CUDA)
        questions: list[Callable[[], Any]] = [
            lambda: float(there[0]), lambda: there.tolist(), lambda: there.cpu(), lambda: there[there > 2],
            lambda: there.nonzero(), lambda: bool((there > 2).any()), lambda: there.unique(),
            lambda: torch.ones(3).to(CUDA), lambda: torch.tensor([1.0], device=CUDA),
        ]  # fmt: skip
        for number, ask in enumerate(questions):
            assert gpu.waits_of(ask).total() == 1, number
        silent: list[Callable[[], Any]] = [
            lambda: there * 2, lambda: there[there.argsort()], lambda: transfer(torch.ones(3), CUDA),
            lambda: torch.where(there > 2, there, 0.0), lambda: there.clone().masked_fill_(there > 2, 0.0),
        ]  # fmt: skip
        for number, work in enumerate(silent):
            assert not gpu.waits_of(work), number

    def test_gradients_are_those_of_a_cpu(self, gpu: FakeDevice) -> None:
        network = create_surrogate("small-cnn", num_classes=CLASSES, resolution=SIDE, seed=0)
        images = IMAGES.float() / 255
        found = []
        for device in ("cpu", "cuda"):
            model = network.to(device)
            for parameter in model.parameters():
                parameter.grad = None
            model(images.to(device)).square().sum().backward()
            found.append([parameter.grad.cpu() for parameter in model.parameters()])  # type: ignore[union-attr]
        assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in zip(*found, strict=True))


def test_optimisers_on_cuda_are_fused(gpu: FakeDevice) -> None:
    here, there = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).to(CUDA)
    assert (fused(here.parameters()), fused(there.parameters())) == (None, True)
    optimiser = torch.optim.SGD(there.parameters(), lr=0.1, fused=fused(there.parameters()))
    there(torch.ones(1, 2, device=CUDA)).sum().backward()
    before = there.weight.detach().cpu()
    optimiser.step()
    assert torch.allclose(there.weight.detach().cpu(), before - 0.1)


def job(steps: int, arm: Any = "protected") -> TrainingJob:
    return TrainingJob(
        arm=arm, victim="small-cnn", classes=CLASSES, images=IMAGES, labels=LABELS, test_images=IMAGES[:8],
        test_labels=LABELS[:8], clean_subset_images=IMAGES[8:16], clean_subset_labels=LABELS[8:16],
        clean_subset_in_arm=IMAGES[8:16], recipe=Recipe(steps=steps, batch_size=16), seed=0, evals=1, device="cuda",
    )  # fmt: skip


TRAINERS = sorted(
    name
    for name, cls in adversary_classes().items()
    if cls.tier == "training" and name != "purify" and create_adversary(name).learner() is not None
)


def test_the_table_has_the_trainers_that_there_are() -> None:
    assert {"adversarial", "cutmix", "dvae", "mixup", "staged", "trivial-augment", "ueraser"} <= set(TRAINERS)


@pytest.mark.parametrize("name", ["none", *TRAINERS, "ueraser:jpeg", "pairs:8", "simclr", "recover"])
def test_a_training_asks_no_more_for_more_steps(name: str, gpu: FakeDevice) -> None:
    learner = create_adversary(name).learner() or PlainTraining()
    # The first training also fills what is kept for later ones.
    learner(job(2))
    few, many = (gpu.waits_of(lambda steps=steps: learner(job(steps))) for steps in (2, 6))
    assert few
    no_more(few, many)


def frozen_and_batch() -> tuple[FrozenSurrogate, Tensor, Tensor]:
    model = create_surrogate("small-cnn", num_classes=CLASSES, resolution=SIDE, seed=0).to(CUDA)
    return FrozenSurrogate(model), IMAGES.to(CUDA).float() / 255, LABELS.to(CUDA)


@pytest.mark.parametrize("skip_below", [0.0, 0.5])
def test_a_sweep_asks_nothing(skip_below: float, gpu: FakeDevice) -> None:
    frozen, images, labels = frozen_and_batch()

    def sweep() -> None:
        pgd_min(
            frozen, images, labels, torch.zeros_like(images), epsilon=0.03, step_size=0.01, steps=3,
            skip_below=skip_below,
        )  # fmt: skip

    assert not gpu.waits_of(sweep)


def tiny() -> ImageSet:
    return ImageSet.from_tensors(IMAGES, LABELS, classes=("a", "b", "c", "d"))


@pytest.mark.parametrize("preset", [None, "paper"])
def test_rounds_of_emn_ask_no_more_for_more_updates(preset: Any, gpu: FakeDevice) -> None:
    data = tiny().to(CUDA)

    def waits(stage: str, **more: Any) -> Counter[str]:
        method = ErrorMinimizing(preset=preset, surrogate="small-cnn", device="cuda", granularity="sample", **more)
        trainer, steps = method.recipe.trainer(data, 0), {"updates": 2 * more["surrogate_steps"]}
        if stage == "class":
            made = replace(method.recipe.class_stage(data), per_class=2, **steps)
            state = made.start()
        else:
            made = method.recipe.sample_stage(data)
            state = made.start(None)
        generator = torch.Generator().manual_seed(0)
        return gpu.waits_of(lambda: made.run_round(0, state, trainer, generator, lambda share: None))

    for stage in ("class", "sample"):
        no_more(*(waits(stage, surrogate_steps=steps, pgd_steps=steps) for steps in (1, 4)))


def test_sweeps_of_beo_ask_no_more_for_more_of_them(gpu: FakeDevice) -> None:
    method = BayesErrorAscent(surrogate="small-cnn", device="cuda")
    recipe = method.recipe
    copies = recipe.start(tiny().to(CUDA), COUNT)
    frozen, _ = recipe.members(recipe.trainer(copies.points, 0).model, SIDE)
    for most in (None, 8):  # all against all, or against a bank
        ascent = Ascent(
            copies, frozen, recipe.stepper(copies), sigma=recipe.sigma, kind=recipe.kind, scale=recipe.scaling,
            padding=2, most=most, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert not gpu.waits_of(lambda ascent=ascent: [list(ascent.step()) for _ in range(2)])


FITS: dict[str, dict[str, Any]] = {
    "emn": {"rounds": 1, "attempts": 0},
    "emn sample-wise": {"rounds": 1, "sample_rounds": 1, "attempts": 0, "granularity": "sample"},
    "beo": {"preset": "paper", "rounds": 3, "first_epochs": 16, "estimate_images": 0},
    "uc": {"rounds": 1, "clusters": 2, "attempts": 0},
    "uc joint": {"rounds": 1, "clusters": 2, "attempts": 0, "objective": "joint"},
    "uc generator": {"rounds": 2, "clusters": 2, "parametrisation": "generator", "width": 4},
}


@pytest.mark.parametrize("name", FITS)
def test_fits_mix_no_devices(name: str, gpu: FakeDevice) -> None:
    more = {"surrogate": "small-cnn", **FITS[name]}
    if name.startswith("uc") and "generator" not in name:
        more["label_surrogate"] = "small-cnn"
    bank = create_method(name.partition(" ")[0], device="cuda", seed=0, **more).fit(tiny())
    levels = bank.apply_set(IMAGES, tiny().keys)
    assert np.abs(np.asarray(levels, dtype=np.int16) - IMAGES.numpy()).max() > 0
