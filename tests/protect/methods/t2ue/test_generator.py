"""Shapes, bounds, sizes, and what the noise listens to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitterant.errors import ConfigError
from bitterant.protect.methods.t2ue import LatentNoiseGenerator, SSANoiseGenerator
from bitterant.protect.methods.t2ue.generator import Carriers
from bitterant.protect.methods.t2ue.training import noisy_pictures

SMALL: dict[str, Any] = {"latent_dim": 8, "text_dim": 24, "ngf": 4, "hidden": 8, "mask_hidden": 4}


def inputs(count: int, generator: Any) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    z = torch.stack([generator.draw(seed) for seed in range(count)])
    return z, torch.randn(count, generator.text_dim, generator=draw)


SIZES = [((4, 4, 2, 1), 32), ((8, 4, 4, 2, 1), 64), ((4, 4, 4, 4, 2, 1, 1), 256)]


@torch.no_grad()
@pytest.mark.parametrize(("multipliers", "side"), SIZES)
def test_shapes_masks_and_resize(multipliers: tuple[int, ...], side: int) -> None:
    net = SSANoiseGenerator(multipliers=multipliers, **SMALL).eval()
    out = net(*inputs(2, net))
    assert out.delta.shape == (2, 3, side, side)
    assert net.native_size == side
    assert [tuple(mask.shape[-2:]) for mask in out.masks][-1] == (side, side)
    assert all(0 < float(mask.min()) <= float(mask.max()) < 1 for mask in out.masks)
    assert noisy_pictures(torch.full((2, 3, 224, 224), 0.5), out.delta).shape == (2, 3, 224, 224)


def test_the_papers_network_has_its_size() -> None:
    with torch.device("meta"):
        net = SSANoiseGenerator()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(31.3e6, rel=0.01)
    assert net.native_size == 256


@pytest.mark.parametrize("bound", ["tanh", "clamp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bound_holds(bound: str, dtype: torch.dtype) -> None:
    net = SSANoiseGenerator(multipliers=(2, 1), bound=bound, epsilon=8 / 255, **SMALL).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        net.out[-1].weight.mul_(1e4)  # type: ignore[operator, union-attr]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
        delta = net(*inputs(3, net)).delta.detach()
    assert delta.dtype is torch.float32
    assert float(delta.abs().max()) <= float(torch.tensor(8 / 255))
    assert float(delta.abs().max()) == pytest.approx(8 / 255, rel=1e-3), "and is reached"


def test_the_papers_start_ignores_the_text_and_ours_does_not(generator: SSANoiseGenerator) -> None:
    paper = SSANoiseGenerator(multipliers=(2, 1), **SMALL).eval()
    for net, listens in ((paper, False), (generator, True)):
        z, text = inputs(2, net)
        one, other = net(z[:1], text[:1]).delta, net(z[:1], text[1:]).delta
        assert bool(torch.equal(one, other)) is not listens


def test_gradient_reaches_every_weight(generator: SSANoiseGenerator) -> None:
    generator.train()
    z, text = inputs(4, generator)
    generator(z, text).delta.square().sum().backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # The first linear layer feeds norms, which take its bias out of some channels but not out of all.
    assert silent == []


def test_carriers_shift_with_z_and_agree_with_the_formula() -> None:
    waves = Carriers(16, (4, 8), crop=1.0)
    z = torch.tensor([[0.0, 0.0], [1.0, -0.5]])
    out = waves(z)
    assert out.shape == (2, 16, 16, 16)
    crop = torch.distributions.Normal(0.0, 1.0).cdf(z[1])
    for row, column in ((0, 0), (3, 7)):
        x, y = (column + 0.5) / 16 + float(crop[0]), (row + 0.5) / 16 + float(crop[1])
        # third direction of the second period: 2 waves across and 2 down
        wanted = torch.sin(torch.tensor(2 * torch.pi * (2 * x + 2 * y)))
        assert float(out[1, 6, row, column]) == pytest.approx(float(wanted), abs=1e-4)
    assert not torch.allclose(out[0], out[1], atol=0.1)
    still = Carriers(16, (4, 8))(z)
    assert torch.equal(still[0], still[1])


@pytest.mark.parametrize("wrong", [{"carriers": (3,)}, {"multipliers": ()}, {"bound": "hard"}, {"epsilon": 0.0}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SSANoiseGenerator(**{"multipliers": (2, 1), **SMALL, **wrong})


def test_the_latent_generator_has_the_same_face() -> None:
    torch.manual_seed(0)
    net = LatentNoiseGenerator(native_px=32, text_dim=24).eval()
    out = net(*inputs(2, net))
    assert out.delta.shape == (2, 3, 32, 32)
    assert float(out.delta.detach().abs().max()) <= float(torch.tensor(8 / 255))
    assert out.masks == []
