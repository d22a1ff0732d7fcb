"""CLIP and ensembles as surrogates, on a tiny open_clip configuration with random weights: plumbing, no claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from bitterant.errors import ConfigError, SetupError, UnknownNameError, WeightsError
from bitterant.surrogates import (
    ClipSurrogate,
    FrozenSurrogate,
    check_surrogate,
    class_losses,
    class_scores,
    create_surrogate,
    surrogate_family,
)

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'bitterant[clip]'")

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dictionary of the tiny model, which open_clip knows as ``tiny-test``."""
    place = tmp_path_factory.mktemp("clip")
    (place / "tiny-test.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(place / "tiny-test.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-test")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, place / "tiny.safetensors")
    return place / "tiny.safetensors"


def make(weights: Path, **changes: object) -> ClipSurrogate:
    options = {"num_classes": 3, "resolution": 24, "seed": 0, "weights": weights, **changes}
    model = create_surrogate("clip:tiny-test", **options)  # type: ignore[arg-type]
    assert isinstance(model, ClipSurrogate)
    return model


def test_it_is_what_open_clip_computes(weights: Path) -> None:
    images = torch.rand(2, 3, 24, 24)
    model = make(weights).eval()
    peer = open_clip.create_model("tiny-test", pretrained=str(weights)).eval()
    mean, std = torch.tensor(peer.visual.image_mean), torch.tensor(peer.visual.image_std)
    seen = F.interpolate(images, (32, 32), mode="bilinear", align_corners=False)
    expected = peer.encode_image((seen - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert torch.allclose(model.trunk()(images), F.normalize(expected, dim=-1) * 4.0, atol=1e-4)
    assert model(images).shape == (2, 3)
    assert model.source == "tiny.safetensors"


def test_only_the_last_layer_learns_and_the_body_stays_in_evaluation_mode(weights: Path) -> None:
    model = make(weights).train()
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"net.head.weight", "net.head.bias"}
    assert model.training
    assert not model.net.training


def test_the_gradient_reaches_the_pixels(weights: Path) -> None:
    frozen = FrozenSurrogate(make(weights))
    images = torch.rand(2, 3, 40, 40, requires_grad=True)
    (gradient,) = torch.autograd.grad(frozen(images).logsumexp(1).sum(), images)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_texts_make_a_zero_shot_classifier(weights: Path) -> None:
    model = make(weights).zero_shot(["a hat", "a shoe", "a dress"]).eval()
    images = torch.rand(4, 3, 32, 32)
    features = F.normalize(model.trunk()(images), dim=-1)
    expected = 100.0 * features @ model.text_features(["a hat", "a shoe", "a dress"]).T
    assert torch.allclose(model(images), expected, atol=1e-3)
    with pytest.raises(ConfigError, match="2 texts for 3 classes"):
        model.zero_shot(["a", "b"])


def test_what_is_missing_is_said(weights: Path, tmp_path: Path) -> None:
    make_plain = {"num_classes": 2, "resolution": 32, "seed": 0}
    with pytest.raises(ConfigError, match="names no weights"):
        create_surrogate("clip:ViT-B-32", **make_plain)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="--allow-download"):
        create_surrogate("clip:ViT-B-32/laion400m_e31", **make_plain)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="CLIP architecture"):
        check_surrogate("clip:ViT-Q-32/openai")
    with pytest.raises(UnknownNameError, match="tag of clip:ViT-B-32"):
        check_surrogate("clip:ViT-B-32/opanai")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not fit this architecture: missing"):
        make(tmp_path / "other.safetensors")


class TestImagenetResnets:
    def test_a_file_in_torchvisions_names_loads_with_the_standard_stem(self, tmp_path: Path) -> None:
        from torchvision.models import resnet18

        peer = resnet18(weights=None).eval()
        torch.save(peer.state_dict(), tmp_path / "w.pt")
        model = create_surrogate("resnet18/IMAGENET1K_V1", num_classes=4, resolution=32, seed=0,
                                 weights=tmp_path / "w.pt").eval()  # fmt: skip
        peer.fc = torch.nn.Identity()  # type: ignore[assignment]
        images = torch.rand(1, 3, 32, 32)
        seen = F.interpolate(images, (112, 112), mode="bilinear", align_corners=False)
        assert torch.allclose(model.trunk()(images), peer(model.normalise(seen)), atol=1e-5)
        assert model(images).shape == (1, 4)

    def test_a_tag_that_is_not_there_is_not_fetched_unasked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
        with pytest.raises(SetupError, match="not on this machine"):
            create_surrogate("resnet50/IMAGENET1K_V2", num_classes=2, resolution=32, seed=0)
        with pytest.raises(UnknownNameError, match="tag of resnet18"):
            check_surrogate("resnet18/IMAGENET1K_V2")
        with pytest.raises(UnknownNameError, match="tag of small-cnn"):
            check_surrogate("small-cnn/IMAGENET1K_V1")


class TestEnsemble:
    def test_losses_are_averaged_over_members(self) -> None:
        model = create_surrogate("small-cnn+convmixer", num_classes=3, resolution=16, seed=0).eval()
        images, labels = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
        outputs = model(images)
        assert outputs.shape == (2, 5, 3)
        naive = torch.zeros(5)
        for member in model.members:
            for row in range(5):
                naive[row] += -member(images)[row].log_softmax(0)[labels[row]] / 2
        assert torch.allclose(class_losses(outputs, labels), naive, atol=1e-5)
        assert torch.allclose(class_losses(outputs, labels, reduction="mean"), naive.mean(), atol=1e-5)
        assert class_scores(outputs).shape == (5, 3)
        assert torch.allclose(FrozenSurrogate(model)(images), outputs, atol=1e-4)

    def test_features_lie_side_by_side(self) -> None:
        model = create_surrogate("small-cnn+convmixer", num_classes=3, resolution=16, seed=0).eval()
        images = torch.rand(2, 3, 16, 16)
        assert model.trunk()(images).shape == (2, 64 + 96)
        assert torch.allclose(FrozenSurrogate(model, features=True)(images), model.trunk()(images), atol=1e-4)

    def test_members_differ_and_one_file_does_not_serve_two(self, tmp_path: Path) -> None:
        model = create_surrogate("small-cnn+small-cnn", num_classes=3, resolution=16, seed=0)
        first, second = model.members
        assert first.fingerprint() != second.fingerprint()
        assert surrogate_family("small-cnn+resnet18") == "plain-cnn+resnet"
        with pytest.raises(ConfigError, match="names several"):
            create_surrogate("small-cnn+resnet18", num_classes=3, resolution=16, seed=0, weights=tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["small-cnn", "convmixer", "mobilenetv2", "resnet18", "efficientnet-lite0",
                                  "timm:vit_tiny_patch16_224"])  # fmt: skip
def test_features_are_what_the_last_layer_gets(name: str) -> None:
    model = create_surrogate(name, num_classes=3, resolution=32, seed=0).eval()
    images = torch.rand(2, 3, 32, 32)
    features = model.trunk()(images)
    assert torch.allclose(model.head(features), model(images), atol=1e-5)
    assert model(images).shape == (2, 3), "taking the features must not take the head off the model"
    before = model.fingerprint(head=False)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    assert model.fingerprint(head=False) == before
    assert model.fingerprint() != before
