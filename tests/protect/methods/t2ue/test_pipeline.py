"""Saved and loaded, row by row, and never with another text tower."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bitterant.errors import ConfigError, WeightsError
from bitterant.protect.methods.t2ue import (
    SSANoiseGenerator,
    T2UEPipeline,
    TextEmbedder,
    embedded_folder,
    measure_noise,
)
from bitterant.surrogates.image_text import TextTower


@pytest.fixture
def pipeline(generator: SSANoiseGenerator, embedder: TextEmbedder) -> T2UEPipeline:
    return T2UEPipeline(generator, embedder)


PROMPTS = ["a photo of a cat.", "a dog", "a ship at sea", "a cat", "two frogs"]
SEEDS = [5, 6, 7, 8, 9]


def test_a_row_depends_on_its_own_text_and_seed_alone(pipeline: T2UEPipeline) -> None:
    whole = pipeline(PROMPTS, SEEDS, batch_size=8).delta
    parts = torch.cat([pipeline([text], [seed]).delta for text, seed in zip(PROMPTS, SEEDS, strict=True)])
    back = pipeline(PROMPTS[::-1], SEEDS[::-1], batch_size=2).delta.flip(0)
    assert torch.equal(whole, parts)
    assert torch.equal(whole, back)
    assert not torch.equal(whole[0], pipeline(PROMPTS[:1], [99]).delta[0])
    assert not torch.equal(whole[0], pipeline(["another text"], SEEDS[:1]).delta[0])


def test_units_of_the_budget(pipeline: T2UEPipeline) -> None:
    made = pipeline.generate(PROMPTS, SEEDS)
    assert made.dtype == np.float32
    assert np.abs(made).max() <= 1.0
    assert np.allclose(made * pipeline.epsilon, pipeline(PROMPTS, SEEDS).delta.numpy(), atol=1e-6)


def test_saved_and_loaded_makes_the_same(
    pipeline: T2UEPipeline, texts: TextTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline.save_pretrained(str(tmp_path / "made"))
    loaded = T2UEPipeline.load(tmp_path / "made")
    loaded.text_embedder._tower = (texts,)
    assert torch.equal(loaded(PROMPTS, SEEDS).delta, pipeline(PROMPTS, SEEDS).delta)
    assert loaded.generator_sha256 == pipeline.generator_sha256
    alone = SSANoiseGenerator.from_pretrained(str(tmp_path / "made" / "generator"))
    assert isinstance(alone, SSANoiseGenerator)
    assert not alone.training


def test_half_precision_on_disk_is_single_in_memory(pipeline: T2UEPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(str(tmp_path / "made"))
    from safetensors.torch import load_file, save_file

    path = tmp_path / "made" / "generator" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.half() if value.is_floating_point() else value for key, value in load_file(path).items()},
              path, metadata={"format": "pt"})  # fmt: skip
    loaded = T2UEPipeline.load(tmp_path / "made")
    assert {p.dtype for p in loaded.generator.parameters()} == {torch.float32}


def test_damage_and_other_towers_are_refused(pipeline: T2UEPipeline, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model_index.json"):
        T2UEPipeline.load(tmp_path)
    pipeline.save_pretrained(str(tmp_path / "made"))
    path = tmp_path / "made" / "generator" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read"):
        T2UEPipeline.load(tmp_path / "made")
    other = TextEmbedder("other", "0" * 64, pipeline.generator.text_dim)
    with pytest.raises(ConfigError, match="was trained on vectors of hash"):
        T2UEPipeline(pipeline.generator, other)


def test_measures_tell_texts_from_seeds(generator: SSANoiseGenerator, embedder: TextEmbedder) -> None:
    facts = measure_noise(generator, embedder).facts()
    assert set(facts) == {"same_text", "same_class", "other_class", "saturated"}
    assert all(-1.0 <= value <= 1.0 for value in facts.values())
    flat = SSANoiseGenerator(latent_dim=2, text_dim=24, ngf=4, multipliers=(2, 1), hidden=4, mask_hidden=2)
    with torch.no_grad():
        flat.fc.weight.zero_()  # no seed gets through, and at the paper's start no text either
    assert measure_noise(flat, embedder).same_text == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("generator", ["planted", "SSANoiseGenerator"]),
        ("generator", ["planted", "Planted"]),
        ("text_embedder", ["planted", "TextEmbedder"]),
        ("generator", ["subprocess", "Popen"]),
        ("generator", ["bitterant.protect.methods.t2ue.generator", "NoiseGenerator"]),
        ("generator", ["SSANoiseGenerator"]),
        ("generator", "SSANoiseGenerator"),
        ("generator", [["planted"], "SSANoiseGenerator"]),
        ("generator", None),
    ],
    ids=range(9),
)
def test_nothing_that_lies_in_the_folder_or_is_named_there_is_run(
    pipeline: T2UEPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, named: object
) -> None:
    folder = tmp_path / "made"
    pipeline.save_pretrained(str(folder))
    program = (
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass SSANoiseGenerator: pass\nPlanted = SSANoiseGenerator\n"
    )
    for place in (folder, folder / "generator", folder / "text_embedder", tmp_path):
        (place / "planted.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, part: named}))
    with pytest.raises(WeightsError, match=r"model_index\.json names classes that are not those of bitterant"):
        T2UEPipeline.load(folder)
    assert not (tmp_path / "ran").exists()
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"text_embedder": ["bitterant.protect.methods.t2ue.text_embedder", "TextEmbedder"]},
        {"generator": ["bitterant.protect.methods.t2ue.elsewhere", "SSANoiseGenerator"]},
    ],
    ids=["as written", "before the move", "a module that is gone"],
)
def test_a_generator_outlives_a_move_of_our_classes(
    pipeline: T2UEPipeline, tmp_path: Path, named: dict[str, list[str]]
) -> None:
    pipeline.save_pretrained(str(tmp_path))
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, **named}))
    assert T2UEPipeline.load(tmp_path).generator_sha256 == pipeline.generator_sha256


def test_the_embedded_generator_is_one_that_is_read() -> None:
    assert T2UEPipeline.load(embedded_folder()).native_size == 32


def test_weights_that_are_pickles_are_not_read(pipeline: T2UEPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    pipeline.save_pretrained(str(folder), safe_serialization=False)
    assert not list(folder.rglob("*.safetensors"))
    with pytest.raises(WeightsError, match="cannot be read"):
        T2UEPipeline.load(folder)
