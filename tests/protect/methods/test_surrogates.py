"""Every method that has a surrogate runs with every surrogate: names of the table, timm, CLIP, ensembles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bitterant.imaging import ImageSet
from bitterant.protect import Bank, create_method, load_bank
from bitterant.protect.methods import base
from bitterant.protect.methods.t2ue import generator_training as making
from bitterant.protect.methods.t2ue.generator_training import TrainRequest, make_generator
from bitterant.records.config import WeightsPolicy
from bitterant.surrogates import surrogate_names

METHODS: dict[str, dict[str, Any]] = {
    "emn": {"granularity": "class", "rounds": 1, "surrogate_steps": 1, "attempts": 0},
    "beo": {"rounds": 1, "inner_steps": 1, "first_epochs": 1, "estimate_images": 0},
    "uc": {"objective": "features", "rounds": 1, "updates": 2, "batch_size": 12, "clusters": 3},
}
SURROGATES = (*surrogate_names(), "timm:resnet10t", "small-cnn+convmixer", "clip:tiny-table")
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny CLIP: this says that it runs, never what a CLIP does."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'bitterant[clip]'")
    place = tmp_path_factory.mktemp("clip")
    (place / "tiny-table.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(place / "tiny-table.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = open_clip.create_model("tiny-table").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, place / "weights.safetensors")
    return place / "weights.safetensors"


@pytest.fixture(autouse=True)
def content_with_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bayes-error ascent trains large networks on until they are no longer underfit; here they only have to run."""
    monkeypatch.setattr("bitterant.protect.methods.beo.method.LEAST_CAP", 1)
    monkeypatch.setattr("bitterant.protect.methods.beo.method.UNDERFIT", 1.0)
    monkeypatch.setattr("bitterant.protect.methods.beo.method.CLEAN_TARGET", 1.0)


HEAVY = ("conse", "efficientnet-lite0", "resnet50", "vgg11")


@pytest.mark.parametrize(
    ("method", "surrogate"),
    [
        # One method takes the heavy networks through in every run, the others before a release.
        pytest.param(method, surrogate, marks=[pytest.mark.slow] if surrogate in HEAVY and method != "uc" else [])
        for method in METHODS
        for surrogate in SURROGATES
    ],
)
def test_it_crafts(method: str, surrogate: str, tiny: ImageSet, request: pytest.FixtureRequest) -> None:
    weights = request.getfixturevalue("clip_weights") if surrogate.startswith("clip:") else None
    few = tiny.select(range(18))
    bank = create_method(method, surrogate=surrogate, weights=weights, device="cpu", **METHODS[method]).fit(few)
    assert 0 < int(bank.levels.abs().max()) <= 8
    assert all(bool(row.any()) for row in bank.levels), "the gradient must reach every pattern"
    assert bank.surrogate == surrogate
    assert len(bank.surrogate_sha256) == 64


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("emn", {"granularity": "sample", "rounds": 1, "sample_rounds": 1, "surrogate_steps": 1, "attempts": 1}),
        ("emn", {"granularity": "sample", "preset": "paper", "sample_rounds": 1, "surrogate_steps": 1, "pgd_steps": 1}),
        ("beo", {"preset": "paper", "rounds": 3, "first_epochs": 1, "estimate_images": 0}),
        ("uc", {"rounds": 1, "clusters": 3, "attempts": 0}),
        ("uc", {"preset": "paper", "rounds": 1, "clusters": 2, "width": 4}),
    ],
)
def test_a_clip_goes_through_every_form_of_a_method(
    method: str, options: dict[str, Any], tiny: ImageSet, clip_weights: Path, tmp_path: Path
) -> None:
    made = create_method(method, surrogate="clip:tiny-table", weights=clip_weights, device="cpu", **options)
    bank = made.fit(tiny.select(range(18)))
    bank.save(tmp_path / "bank")
    kept = load_bank(tmp_path / "bank")
    assert isinstance(kept, Bank)
    assert 0 < int(kept.levels.abs().max()) <= kept.budget.levels
    assert bank.report["precision"]


def test_the_papers_t2ue_from_captions_through_a_clip_to_noise(
    clip_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, written, read back and asked: a small network stands for the paper's 31 million weights."""
    small = {"latent_dim": 8, "ngf": 8, "multipliers": (2, 2, 1), "hidden": 8, "mask_hidden": 4}
    monkeypatch.setitem(making._NETWORKS, 256, small)
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        folder = tmp_path / "pairs" / f"kind{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (20, 20, 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    request = TrainRequest(
        out=tmp_path / "made", pairs=tmp_path / "pairs", surrogate="clip:tiny-table",
        weights=WeightsPolicy(clip_weights), preset="paper", device="cpu",
        recipe={"steps": 2, "batch_size": 3, "image_side": 16},
    )  # fmt: skip
    report = make_generator(request)
    assert report.steps == 2
    record = json.loads((tmp_path / "made/training.json").read_text())
    assert (record["side"], record["dtype"], record["recipe"]["schedule"]) == (256, "float32", "cosine")
    assert "float32" in (tmp_path / "made/README.md").read_text()
    data = ImageSet.from_tensors(torch.rand(4, 3, 16, 16), torch.arange(4) % 2, classes=("cat", "dog"))
    made = create_method("t2ue", generator=str(tmp_path / "made"), weights=clip_weights, device="cpu")
    assert 0 < int(made.fit(data).levels.abs().max()) <= 8


def test_the_network_of_the_literature_is_the_default_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, name in (("cuda", "resnet18"), ("cuda:1", "resnet18"), ("cpu", "small-cnn"), ("mps", "small-cnn")):
        monkeypatch.setattr(base, "resolve_device", lambda asked, found=found: torch.device(found))
        assert [create_method(method).surrogate for method in ("emn", "beo")] == [name, name]
    monkeypatch.undo()
    assert create_method("emn", device="cpu").surrogate == "small-cnn"
