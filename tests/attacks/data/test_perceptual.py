"""LPIPS by the package lpips: against torchmetrics with the same weights, and every way in which there are none.

The backbones here have random weights: only that they are loaded and used rightly is tested, no distance is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision import models

from bitterant.attacks.data import perceptual as module
from bitterant.attacks.data.perceptual import BACKBONES, ENVIRONMENT_VARIABLE, Lpips, Network, find_lpips
from bitterant.errors import WeightsError


@pytest.fixture
def package() -> None:
    """The extra is installed."""
    pytest.importorskip("lpips")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache is an empty folder, and nobody named a file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def random_backbone(network: Network, seed: int = 0) -> dict[str, torch.Tensor]:
    """As torchvision names it, with the layers that LPIPS needs; the classifier is left out, it is large."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        features: Any = models.get_model(BACKBONES[network], weights=None).features
        shapes = features.state_dict()
    return {
        f"features.{name}": torch.randn(tensor.shape, generator=generator) / max(1, tensor[0].numel()) ** 0.5
        for name, tensor in shapes.items()
    }


def theirs(network: Any, backbone: dict[str, torch.Tensor]) -> Any:
    """torchmetrics' LPIPS with this backbone and the published heads."""
    net: Any = _LPIPS(pretrained=True, net=network, pnet_rand=True)
    stages = net.net.slices if network == "squeeze" else [getattr(net.net, f"slice{i}") for i in range(1, 6)]
    for stage in stages:
        for index, layer in stage.named_children():
            own = {name: backbone[f"features.{index}.{name}"] for name in layer.state_dict()}
            layer.load_state_dict(own)
    return net


def pictures(height: int = 70, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return before, np.clip(before + rng.integers(-8, 9, before.shape), 0, 255).astype(np.uint8)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("network", BACKBONES)
def test_it_is_the_distance_of_torchmetrics(network: Network, tmp_path: Path) -> None:
    backbone = random_backbone(network)
    save_file(backbone, tmp_path / "backbone.safetensors")
    found = find_lpips(tmp_path / "backbone.safetensors").lpips
    assert isinstance(found, Lpips)
    assert found.network == network
    before, after = pictures()
    batches = [torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1 for pixels in (before, after)]
    with torch.no_grad():
        expected = float(theirs(network, backbone)(*batches))
    assert expected > 0
    assert found(before, after) == pytest.approx(expected, rel=1e-4)
    assert found(before, before) == 0.0
    assert found(after, before) == pytest.approx(found(before, after), rel=1e-5)


@pytest.mark.usefixtures("package")
def test_small_pictures_are_enlarged(tmp_path: Path) -> None:
    save_file(random_backbone("alex"), tmp_path / "a.safetensors")
    found = find_lpips(tmp_path / "a.safetensors").lpips
    assert found is not None
    assert np.isfinite(found(*pictures(8, 11)))


@pytest.mark.usefixtures("package")
def test_the_state_of_the_package_lpips_holds_both_parts(tmp_path: Path) -> None:
    """The package calls a layer ``net.slice1.0.weight`` and a head ``lin0.model.1.weight``, and again ``lins.0...``."""
    backbone = random_backbone("alex")
    save_file(backbone, tmp_path / "a.safetensors")
    net = theirs("alex", backbone)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert "net.slice1.0.weight" in state
    torch.save(state, tmp_path / "whole.pth")
    whole, parts = (find_lpips(tmp_path / name).lpips for name in ("whole.pth", "a.safetensors"))
    assert whole is not None
    assert parts is not None
    assert "heads of the same file" in whole.source
    assert "heads of the package lpips" in parts.source
    assert whole(*pictures()) == parts(*pictures())


@pytest.mark.usefixtures("package")
def test_the_environment_names_a_file_and_the_caller_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(random_backbone("squeeze"), tmp_path / "s.safetensors")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "s.safetensors"))
    found = find_lpips().lpips
    assert found is not None
    assert found.source.endswith(
        f"(sha256 {hashlib.sha256((tmp_path / 's.safetensors').read_bytes()).hexdigest()[:16]})"
    )
    with pytest.raises(WeightsError, match="no weights file"):
        find_lpips(tmp_path / "none.pth")


def save_cached(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Path:
    """Save as torchvision does: the name ends in the beginning of the file's own hash."""
    torch.save(state, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    return (folder / "new").rename(folder / f"{name}-{digest[:8]}.pth")


@pytest.mark.usefixtures("package")
def test_torchs_cache_is_used_where_its_file_is_whole(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_cached(empty_cache, "alexnet", random_backbone("alex"))
    monkeypatch.setattr(module, "_cache_path", lambda network: file if network == "alex" else empty_cache / network)
    found = find_lpips().lpips
    assert found is not None
    assert found.source == f"alex, heads of the package lpips, backbone {file.name}"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    damaged = find_lpips()
    assert damaged.lpips is None
    assert "damaged" in (damaged.reason or "")
    with pytest.raises(WeightsError, match="damaged"):
        find_lpips(file)


@pytest.mark.usefixtures("package")
def test_without_weights_there_is_a_reason_and_no_number() -> None:
    found = find_lpips()
    assert found.lpips is None
    assert "alexnet-owt-7be5be79.pth" in (found.reason or "")


def test_without_the_package_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert find_lpips().reason == "the package lpips is not installed (pip install 'bitterant[lpips]')"
    with pytest.raises(WeightsError, match=r"lpips is not installed.*bitterant\[lpips\]"):
        find_lpips(tmp_path / "a.safetensors")


@pytest.mark.usefixtures("package")
def test_nothing_is_fetched_and_nothing_is_left_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    save_file(random_backbone("alex"), tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    found = [find_lpips(tmp_path / "a.safetensors").lpips for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] is not None
    assert found[1] is not None
    assert found[0](*pictures()) == found[1](*pictures())
    assert find_lpips().lpips is None


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("features.10.bias"), "features.10.bias"),
        (lambda state: state.update({"features.3.weight": torch.zeros(2, 2)}), "features.3.weight"),
        (lambda state: state.pop("features.0.weight"), "no AlexNet, VGG-16 or SqueezeNet"),
        (lambda state: state.update({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}), r"\(heads\.1\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], words: str
) -> None:
    """Nothing is filled up with random values."""
    state = random_backbone("alex")
    change(state)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=words):
        find_lpips(tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        find_lpips(tmp_path / "b.pth")
