"""Every method that has a surrogate runs with every surrogate: names of the table, timm, CLIP, ensembles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bitterant.imaging import ImageSet
from bitterant.protect import create_method
from bitterant.surrogates import surrogate_names

METHODS: dict[str, dict[str, Any]] = {
    "emn": {"granularity": "class", "rounds": 1, "theta_steps": 1, "attempts": 0},
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
    monkeypatch.setattr("bitterant.protect.methods.beo.recipe._LEAST_CAP", 1)
    monkeypatch.setattr("bitterant.protect.methods.beo.fit.UNDERFIT", 1.0)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("method", METHODS)
def test_it_crafts(method: str, surrogate: str, tiny: ImageSet, request: pytest.FixtureRequest) -> None:
    weights = request.getfixturevalue("clip_weights") if surrogate.startswith("clip:") else None
    few = tiny.select(range(18))
    bank = create_method(method, surrogate=surrogate, weights=weights, device="cpu", **METHODS[method]).fit(few)
    assert 0 < int(bank.levels.abs().max()) <= 8
    assert all(bool(row.any()) for row in bank.levels), "the gradient must reach every pattern"
    assert bank.surrogate == surrogate
    assert len(bank.surrogate_sha256) == 64
