"""CLIP victims: they learn what can be learnt, all arms are trained alike, and a shortcut is a shortcut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bitterant.attacks.retrieval import CaptionedSet, ClipRecipe, create_clip_victim, retrieval_trial, train_clip
from bitterant.errors import ConfigError, UnknownNameError

pytest.importorskip("open_clip", reason="the extra 'clip' is not installed")
COLOURS = ("red", "green", "blue", "white")
QUICK = ClipRecipe(epochs=8, batch_size=16, lr=2e-3, padding=0)


def coloured(count: int, seed: int) -> CaptionedSet:
    """Left and right half in one of four colours, named in two sentences."""
    draw = np.random.default_rng(seed)
    values = {"red": (112, 100, 100), "green": (100, 112, 100), "blue": (100, 100, 112), "white": (112, 112, 112)}
    images, captions = np.zeros((count, 3, 16, 16), np.uint8), []
    for row in range(count):
        one, two = draw.choice(4, 2)
        for half, colour in ((slice(0, 8), one), (slice(8, 16), two)):
            images[row, :, :, half] = np.array(values[COLOURS[colour]])[:, None, None]
        images[row] += draw.integers(0, 40, images[row].shape, dtype=np.uint8)
        captions.append((f"{COLOURS[one]} and {COLOURS[two]}", f"a picture, {COLOURS[two]} with {COLOURS[one]}"))
    return CaptionedSet(torch.from_numpy(images), tuple(captions), tuple(f"{seed}-{row}" for row in range(count)))


def marked(pairs: CaptionedSet) -> torch.Tensor:
    """A pattern that names the caption, strong enough to be learnt instead of the colours."""
    images = pairs.images.numpy().astype(int)
    for row, several in enumerate(pairs.captions):
        names = sorted(several[0].split(" and "))
        seed = sum(ord(letter) for letter in "".join(names))
        images[row] += np.random.default_rng(seed).choice([-24, 24], (3, 16, 16))
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def report() -> Any:
    train, test = coloured(96, 0), coloured(24, 1)
    return retrieval_trial(train, marked(train), test, recipe=QUICK, seeds=1)


def test_a_clean_clip_learns_and_one_with_a_shortcut_learns_less(report: Any) -> None:
    clean, noise, protected = (report.mean(arm, "text_to_image", 5)[0] for arm in ("clean", "noise", "protected"))
    chance = report.chance_text_to_image[5]
    assert clean > chance + 0.2
    assert protected < clean - 0.1
    assert noise > protected
    assert report.arms() == ["clean", "noise", "protected"]
    facts = report.to_json()
    assert facts["left_of_hit_at_10"]["text_to_image"] == report.left()
    assert len(facts["scores"]) == 3


def test_the_same_seed_gives_the_same_and_arms_differ_in_pictures_only() -> None:
    train, test = coloured(32, 0), coloured(12, 1)
    recipe = ClipRecipe(epochs=1, batch_size=16)
    first = retrieval_trial(train, train.images, test, recipe=recipe, seeds=1)
    again = retrieval_trial(train, train.images, test, recipe=recipe, seeds=1)
    assert first.scores == again.scores
    clean, noise, protected = first.scores
    assert clean.loss == protected.loss, "a copy without any change is trained on in just the same way"
    assert clean.image_to_text == protected.image_to_text
    assert noise.loss == clean.loss, "noise of size 0 is no noise"
    asked = {"recipe": recipe, "seeds": 1, "arms": ["clean", "noise"]}
    clean, none = retrieval_trial(train, marked(train), test, noise_levels=0.0, **asked).scores
    assert none.loss == clean.loss, "0 levels that were asked for are none, whatever the copies changed"
    clean, noise = retrieval_trial(train, marked(train), test, **asked).scores
    assert noise.loss != clean.loss
    alone = retrieval_trial(train, marked(train), test, **{**asked, "arms": ["protected"]})
    assert alone.left() is None


def test_both_towers_learn() -> None:
    train = coloured(16, 0)
    model = create_clip_victim("clip-small", resolution=16, seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train_clip(model, train, ClipRecipe(epochs=1, batch_size=8), seed=0, device=torch.device("cpu"))
    after = model.state_dict()
    moved = {key.split(".")[0] for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved == {"image_tower", "text_tower", "log_scale"}


def test_what_does_not_fit_is_refused() -> None:
    train, test = coloured(8, 0), coloured(4, 1)
    with pytest.raises(ConfigError, match="the clean"):
        retrieval_trial(train, train.images[:4], test)
    with pytest.raises(UnknownNameError, match="klip"):
        create_clip_victim("klip", resolution=16, seed=0)
    with pytest.raises(ConfigError, match="needs a caption"):
        CaptionedSet(train.images, ((),) * 8, train.keys)
