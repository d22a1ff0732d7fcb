"""What networks are computed in; batch norms that are folded; and generators that are left alone."""

from __future__ import annotations

import time

import pytest
import timm
import torch
from torch import nn

from bitterant.surrogates import (
    FrozenSurrogate,
    add_rows,
    choose_precision,
    create_surrogate,
    generator_on,
    now,
    own_randomness,
)
from bitterant.surrogates.arithmetic import LEAST_AGREEMENT, sign_agreement
from bitterant.surrogates.freezing import fold_batch_norms

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Knife(nn.Module):
    """Its gradient is the difference of two weights that only float32 tells apart."""

    bf16_on_cpu = True

    def __init__(self, difference: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 1.0 + difference]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rest = images.mean((1, 2, 3))
        return torch.stack([rest * self.scale[0], rest * self.scale[1]], 1)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes bfloat16 faster."""
    monkeypatch.setattr("bitterant.surrogates.arithmetic.supports_bf16", lambda device: True)


def test_without_fast_bfloat16_it_is_float32_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitterant.surrogates.arithmetic.supports_bf16", lambda device: False)
    found = choose_precision(Knife(1.0), CPU, resolution=8)
    assert (found.name, found.agreement) == ("float32", None)


@pytest.mark.parametrize(("difference", "name"), [(1.0, "bfloat16"), (1e-4, "float32")])
def test_the_signs_of_the_gradient_decide(fast: None, difference: float, name: str) -> None:
    found = choose_precision(Knife(difference), CPU, resolution=8)
    assert found.name == name
    assert found.agreement is not None
    assert (found.agreement >= LEAST_AGREEMENT) == (name == "bfloat16")
    assert found.to_json()["sign_agreement"] == round(found.agreement, 4)
    assert choose_precision(Knife(difference), CPU, resolution=8) == found, "the pictures are always the same"


@pytest.mark.parametrize("agreement", [0.9499, 0.95, 1.0])
def test_a_gpu_has_the_same_rule(fast: None, monkeypatch: pytest.MonkeyPatch, agreement: float) -> None:
    asked: list[torch.device] = []

    def measured(model: nn.Module, device: torch.device, resolution: int) -> float:
        asked.append(device)
        return agreement

    monkeypatch.setattr("bitterant.surrogates.arithmetic.sign_agreement", measured)
    here, there = (choose_precision(Knife(1.0), device, resolution=8) for device in (CPU, GPU))
    assert here == there
    assert here.bf16 == (agreement >= LEAST_AGREEMENT)
    assert asked == [CPU, GPU], "each measures on itself"


def test_a_gpu_without_bfloat16_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    found = choose_precision(Knife(1.0), GPU, resolution=8)
    assert (found.name, found.agreement) == ("float32", None)
    assert "cuda" in found.reason


def test_what_was_asked_for_is_done_and_measured(fast: None) -> None:
    assert choose_precision(Knife(1.0), CPU, resolution=8, asked="float32").name == "float32"
    asked = choose_precision(Knife(1e-4), CPU, resolution=8, asked="bfloat16")
    assert asked.bf16
    assert asked.agreement is not None
    assert asked.agreement < LEAST_AGREEMENT


def test_the_network_is_left_as_it_is() -> None:
    model = create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0).train()
    before = model.fingerprint()
    assert 0.5 < sign_agreement(model, CPU, 16) <= 1.0
    assert (model.fingerprint(), model.training) == (before, True)
    assert all(parameter.requires_grad for parameter in model.parameters())


def _stir(net: nn.Module) -> nn.Module:
    """Running statistics and weights that a folded norm has to take over."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.bias):
                assert value is not None
                value.data.normal_(0, 0.1, generator=generator)
            for value in (module.running_var, module.weight):
                assert value is not None
                value.data.uniform_(0.8, 1.25, generator=generator)
    return net.eval()


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "test_resnet", "mobilenetv2_035"])
def test_norms_of_depthwise_networks_are_folded(name: str) -> None:
    with own_randomness(0):
        net = _stir(timm.create_model(name, pretrained=False, num_classes=5))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(images)
        folded = FrozenSurrogate(net)
        assert torch.allclose(folded(images), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert not [module for module in folded.model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_exact_features_keep_timms_norms_and_their_last_bit() -> None:
    with own_randomness(0):
        net = _stir(timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=5))
    images = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = net.to(memory_format=torch.channels_last)(images)
        assert torch.equal(FrozenSurrogate(net, exactly=True)(images), wanted)


def test_a_convolution_that_is_used_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.conv(self.one(self.conv(x))))

    net = _stir(Twice())
    images = torch.rand(1, 3, 4, 4)
    assert torch.allclose(fold_batch_norms(net)(images), _stir(net)(images))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 2


def test_other_devices_generators_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` seeds those of all GPUs."""

    def touched(seed: int) -> None:
        raise AssertionError("the caller's generators were seeded")

    monkeypatch.setattr(torch, "manual_seed", touched)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    before = torch.get_rng_state()
    with own_randomness(7):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with own_randomness(7):
        assert torch.equal(torch.rand(3), first)
    assert create_surrogate("small-cnn", num_classes=2, resolution=16, seed=1).training


def test_sums_of_rows_and_draws() -> None:
    rows = torch.arange(12.0).view(4, 3)
    total = add_rows(torch.ones(3, 3), torch.tensor([2, 0, 2, 2]), rows)
    assert total.tolist() == [[4, 5, 6], [1, 1, 1], [16, 19, 22]]
    generator = torch.Generator().manual_seed(4)
    assert generator_on(CPU, generator) is generator


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU, where ``index_add_`` adds in no fixed order."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    def index_add_(self, *args: object, **options: object) -> torch.Tensor:
        raise AssertionError("no order is promised")


def test_sums_of_rows_have_an_order_on_a_gpu() -> None:
    rows = torch.arange(12.0).view(4, 3)
    total = add_rows(torch.ones(3, 3).as_subclass(OnGpu), torch.tensor([2, 0, 2, 2]), rows)
    assert total.tolist() == [[4, 5, 6], [1, 1, 1], [16, 19, 22]]


@pytest.mark.parametrize(("device", "waits"), [("cpu", []), ("cuda:1", ["cuda:1"]), ("mps", ["mps"])])
def test_the_clock_is_read_when_the_device_is_done(
    monkeypatch: pytest.MonkeyPatch, device: str, waits: list[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda which: told.append(str(which)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: told.append("mps"))
    monkeypatch.setattr(time, "perf_counter", lambda: told.append("clock") or 7.0)
    assert now(device) == 7.0
    assert told == [*waits, "clock"]
