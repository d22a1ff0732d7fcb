"""Every network of the registry: shapes, determinism, weights in and out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bitterant.errors import ConfigError, UnknownNameError, WeightsError
from bitterant.surrogates import FrozenSurrogate, create_surrogate, surrogate_family, surrogate_names

LIGHT = ("small-cnn", "convmixer", "mobilenetv2", "resnet18")


@pytest.mark.parametrize("resolution", [32, 64, 112])
@pytest.mark.parametrize("name", LIGHT)
def test_logits_have_one_value_a_class_at_any_resolution(name: str, resolution: int) -> None:
    model = create_surrogate(name, num_classes=7, resolution=resolution, seed=0).eval()
    assert model(torch.rand(2, 3, resolution, resolution)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0", "timm:resnet10t"])
def test_heavy_networks_build(name: str) -> None:
    model = create_surrogate(name, num_classes=3, resolution=64, seed=0).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)


def test_a_transformer_of_timm_takes_the_working_resolution() -> None:
    model = create_surrogate("timm:vit_tiny_patch16_224", num_classes=3, resolution=64, seed=0).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)


def test_the_stem_follows_the_resolution() -> None:
    stems = []
    for resolution in (64, 65):
        stem = create_surrogate("resnet18", num_classes=2, resolution=resolution, seed=0).net.conv1
        assert isinstance(stem, torch.nn.Conv2d)
        stems.append((stem.kernel_size, stem.stride))
    assert stems == [((3, 3), (1, 1)), ((7, 7), (2, 2))]


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    prints = [create_surrogate("small-cnn", num_classes=2, resolution=32, seed=s).fingerprint() for s in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(before, torch.get_rng_state())


def test_the_embedded_network_knows_imagenet_and_a_new_head_keeps_the_body() -> None:
    full = create_surrogate("efficientnet-lite0", num_classes=1000, resolution=224, seed=0)
    head = create_surrogate("efficientnet-lite0", num_classes=4, resolution=224, seed=0)
    assert full.source == head.source == "embedded"
    a, b = full.net.state_dict(), head.net.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a if not k.startswith("classifier"))
    assert b["classifier.weight"].shape == (4, 1280)
    # Trained weights have opinions, about noise too (.11 here); a random head stays near 1 / 1000.
    with torch.no_grad():
        noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        assert full.eval()(noise).softmax(1).max() > 0.05


def test_normalisation_is_inside() -> None:
    model = create_surrogate("efficientnet-lite0", num_classes=2, resolution=64, seed=0)
    image = torch.rand(1, 3, 8, 8)
    assert torch.allclose(model.normalise(image), (image * 255 - 127) / 128, atol=1e-5)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        create_surrogate("resnet-18", num_classes=2, resolution=32, seed=0)
    with pytest.raises(UnknownNameError):
        create_surrogate("timm:nonesuch", num_classes=2, resolution=32, seed=0)


def test_one_class_is_no_classifier() -> None:
    with pytest.raises(ConfigError, match="at least 2 classes"):
        create_surrogate("small-cnn", num_classes=1, resolution=32, seed=0)


def test_families() -> None:
    assert surrogate_family("resnet18") == surrogate_family("resnet50")
    assert len({surrogate_family(n) for n in ("small-cnn", "convmixer", "mobilenetv2", "resnet18")}) == 4
    assert set(LIGHT) <= set(surrogate_names())


class TestWeights:
    def test_round_trip_through_safetensors_and_torch(self, tmp_path: Path) -> None:
        source = create_surrogate("small-cnn", num_classes=3, resolution=32, seed=1)
        save_file(source.net.state_dict(), tmp_path / "w.safetensors")
        torch.save({"state_dict": {f"module.{k}": v for k, v in source.net.state_dict().items()}}, tmp_path / "w.pt")
        for file in ("w.safetensors", "w.pt"):
            loaded = create_surrogate("small-cnn", num_classes=3, resolution=32, seed=9, weights=tmp_path / file)
            assert loaded.fingerprint() == source.fingerprint()
            assert loaded.source == file

    def test_a_head_of_another_size_starts_fresh(self, tmp_path: Path) -> None:
        source = create_surrogate("small-cnn", num_classes=3, resolution=32, seed=1)
        save_file(source.net.state_dict(), tmp_path / "w.safetensors")
        loaded = create_surrogate("small-cnn", num_classes=5, resolution=32, seed=9, weights=tmp_path / "w.safetensors")
        a, b = source.net.state_dict(), loaded.net.state_dict()
        assert torch.equal(a["features.0.weight"], b["features.0.weight"])
        assert b["head.weight"].shape[0] == 5

    def test_other_architectures_are_refused_with_the_first_differences(self, tmp_path: Path) -> None:
        source = create_surrogate("convmixer", num_classes=3, resolution=32, seed=1)
        save_file(source.net.state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match="does not fit this architecture: missing features"):
            create_surrogate("small-cnn", num_classes=3, resolution=32, seed=0, weights=tmp_path / "w.safetensors")

    def test_absent_damaged_and_executable_files_are_refused(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (exec, ("raise SystemExit('ran code')",))

        (tmp_path / "trap.pt").write_bytes(pickle.dumps({"a": Trap()}))
        (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
        (tmp_path / "text.pt").write_text("hello")  # a pickle that asks for what was never kept
        (tmp_path / "picture.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
        for name in ("absent.pt", "trap.pt", "cut.safetensors", "text.pt", "picture.pt"):
            with pytest.raises(WeightsError):
                create_surrogate("small-cnn", num_classes=3, resolution=32, seed=0, weights=tmp_path / name)


class TestFrozen:
    def test_folding_changes_nothing_but_rounding_and_leaves_the_original_alone(self) -> None:
        model = create_surrogate("small-cnn", num_classes=4, resolution=32, seed=0)
        model.train()
        model(torch.rand(8, 3, 32, 32))  # move the running statistics off their start
        before = model.fingerprint()
        frozen = FrozenSurrogate(model)
        images = torch.rand(3, 3, 32, 32)
        assert torch.allclose(frozen(images), model.eval()(images), atol=1e-4)
        assert model.fingerprint() == before
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.model.modules()), "batch norm was not folded"

    def test_the_gradient_reaches_the_image_and_no_weight(self) -> None:
        model = create_surrogate("small-cnn", num_classes=4, resolution=32, seed=0)
        frozen = FrozenSurrogate(model, bf16=True)
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        logits = frozen(images)
        assert logits.dtype == torch.float32
        logits.sum().backward()
        assert images.grad is not None
        assert float(images.grad.abs().sum()) > 0
        assert all(p.grad is None for p in [*model.parameters(), *frozen.model.parameters()])
