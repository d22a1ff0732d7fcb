"""The real generator, tiny and untrained, as what makes the noise of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitterant.protect.methods.t2ue import SSANoiseGenerator, T2UEPipeline, TextEmbedder
from bitterant.protect.zero_contact import NoiseBundle, NoiseSource, RequestMap, apply_bundle, generate_bundle
from bitterant.surrogates.image_text import TextTower

WIDTH = 16
SERVER = b"the server's own secret"


class Letters(TextTower):
    """A text tower without weights: a vector drawn by the digest of the text."""

    name = "letters"
    width = WIDTH

    def forward(self, texts: Sequence[str]) -> Tensor:
        seeds = [int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:12], 16) for text in texts]
        return torch.stack([torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def fingerprint(self) -> str:
        return "ab" * 32


def tiny_generator() -> SSANoiseGenerator:
    torch.manual_seed(0)
    generator = SSANoiseGenerator(
        latent_dim=6, text_dim=WIDTH, ngf=4, multipliers=(2, 2, 1), base=4, hidden=8, mask_hidden=4, gate_init=0.5
    )
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # zeros at the start would hide text and z
    return generator


@pytest.fixture(scope="module")
def pipeline() -> T2UEPipeline:
    return T2UEPipeline(tiny_generator(), TextEmbedder.of(Letters()))


def test_it_is_a_source(pipeline: T2UEPipeline) -> None:
    source: NoiseSource = pipeline
    noise = source.generate(["a cat", "a dog"], [0, 2**63 - 1])
    assert noise.shape == (2, 3, source.native_size, source.native_size)
    assert noise.dtype == np.float32
    assert np.abs(noise).max() <= 1
    assert all((source.generator_id, source.generator_sha256, source.text_encoder, source.text_norm))


@pytest.mark.parametrize("z_mode", ["sample", "class"])
def test_the_same_noise_in_any_company(kit: Any, pipeline: T2UEPipeline, z_mode: Any) -> None:
    kit.source = pipeline
    kit.classes(each=5)
    asked = kit.ask()
    bundles = [kit.make(asked, f"b{size}", batch_size=size, z_mode=z_mode) for size in (1, 3, 64)]
    first = bundles[0].path.read_bytes()
    assert all(bundle.path.read_bytes() == first for bundle in bundles)
    other = kit.make(asked, "other", secret=b"another secret altogether", z_mode=z_mode)
    for name in other.tensor_of:
        assert (other.levels_of(name) != bundles[0].levels_of(name)).any()


def test_from_words_to_pictures(kit: Any, pipeline: T2UEPipeline) -> None:
    photos = kit.captioned()
    asked = kit.ask()
    bundle = generate_bundle(asked.request, pipeline, kit.root / "n.noise.safetensors", secret=SERVER)
    assert bundle.info.generator_sha256 == pipeline.generator_sha256
    assert len({bundle.levels_of(name).tobytes() for name in bundle.tensor_of}) == 4
    opened = NoiseBundle.load(bundle.path)
    opened.verify(RequestMap.read(kit.map), max_epsilon=8)
    summary = apply_bundle(photos, opened, kit.map, kit.root / "protected")
    assert (summary.counts["protected"], summary.over_budget, summary.exit_code) == (4, 0, 0)


def test_saved_and_loaded_it_makes_the_same_noise(tmp_path: Path) -> None:
    """With the sentence encoder: that is what a folder of a generator can name."""
    from bitterant.protect.methods.t2ue import load_source
    from bitterant.surrogates.image_text import create_text_tower

    tower = create_text_tower("minilm")
    generator = SSANoiseGenerator(
        text_dim=tower.width, ngf=4, multipliers=(2, 1), hidden=8, mask_hidden=4, gate_init=0.5
    )
    made = T2UEPipeline(generator, TextEmbedder.of(tower))
    made.save_pretrained(str(tmp_path / "generator"))
    loaded = load_source(tmp_path / "generator", "cpu")
    assert loaded.generator_sha256 == made.generator_sha256
    words = ["a cat", "two dogs in the snow"]
    np.testing.assert_array_equal(loaded.generate(words, [1, 2]), made.generate(words, [1, 2]))
