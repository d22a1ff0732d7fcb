"""What every victim keeps to, how it is trained, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bitterant.attacks.training.cache import describe
from bitterant.attacks.training.victims import (
    check_victim,
    create_victim,
    epochs_of,
    fit_recipe,
    published_recipe,
    training_steps,
    victim_names,
    victim_recipe,
)
from bitterant.errors import ConfigError, UnknownNameError
from bitterant.surrogates import (
    Recipe,
    recipe_for,
    step_cost,
    surrogate_family,
    surrogate_names,
    surrogate_spec,
    train_classifier,
)


@pytest.mark.parametrize(
    ("images", "scale", "steps"),
    [(1000, 1.0, 400), (100, 1.0, 200), (4000, 1.0, 800), (3000, 1.0, 690), (1000, 0.4, 160), (10, 0.4, 80)],
)
def test_steps_of_small_sets_grow_with_the_square_root(images: int, scale: float, steps: int) -> None:
    assert training_steps(400, images, scale=scale) == steps


@pytest.mark.parametrize("images", [5000, 16_000, 50_000, 1_281_167])
@pytest.mark.parametrize("batch", [64, 512])
def test_large_sets_are_seen_twelve_times_whatever_their_size(images: int, batch: int) -> None:
    recipe = fit_recipe(Recipe(batch_size=batch), images)
    floor = training_steps(400, images, batch_size=10**9)
    assert recipe.steps == max(floor, 10 * round(12 * images / batch / 10))
    assert floor >= 400 * (images / 1000) ** 0.5 - 5
    if batch == 64:
        assert epochs_of(recipe, images) == pytest.approx(12, abs=0.1)
    assert fit_recipe(Recipe(batch_size=batch), images, scale=4.0).steps == pytest.approx(4 * recipe.steps, abs=20)


@pytest.mark.parametrize("images", [10, 999, 50_000])
def test_epochs_that_were_asked_for_are_those_that_are_made(images: int) -> None:
    asked = fit_recipe(Recipe(batch_size=64), images, epochs=3.5)
    assert asked.steps == max(1, round(3.5 * images / asked.batch_size))
    assert epochs_of(asked, images) == pytest.approx(3.5, abs=asked.batch_size / images)
    published = published_recipe("emn", images, epochs=2)
    assert published.steps == 2 * images // published.batch_size
    assert published_recipe("emn", images).steps == 60 * images // published.batch_size


def test_a_batch_is_no_larger_than_the_set() -> None:
    assert fit_recipe(Recipe(batch_size=64), 20).batch_size == 20
    assert fit_recipe(Recipe(batch_size=64), 500).batch_size == 64


def test_every_victim_has_all_that_is_said_about_one() -> None:
    for name in victim_names():
        spec = surrogate_spec(name)
        assert spec is not None
        assert spec.description, name
        assert spec.family == surrogate_family(name), name
        assert not spec.embedded, name
        assert step_cost(name) == spec.cost > 0, name
        assert victim_recipe(name, 1000) == fit_recipe(spec.recipe, 1000), name
        assert check_victim(name) == name
    descriptions = [surrogate_spec(name).description for name in surrogate_names()]  # type: ignore[union-attr]
    assert len(set(descriptions)) == len(descriptions)


def test_what_starts_from_trained_weights_is_no_victim() -> None:
    assert {name for name in surrogate_names() if surrogate_spec(name).embedded} == set(  # type: ignore[union-attr]
        surrogate_names()
    ) - set(victim_names())
    for name in ("efficientnet-lite0", "conse"):
        with pytest.raises(ConfigError, match=f"'{name}' starts from trained weights.*small-cnn"):
            check_victim(name)
    with pytest.raises(UnknownNameError, match="resnet18"):
        check_victim("resnet-18")


def test_networks_out_of_the_table_have_a_recipe_and_a_cost() -> None:
    assert check_victim("timm:vit_tiny_patch16_224") == "timm:vit_tiny_patch16_224"
    assert (recipe_for("timm:vit_tiny_patch16_224").optimiser, recipe_for("timm:resnet10t").optimiser) == (
        "adamw",
        "sgd",
    )
    assert step_cost("timm:resnet10t") > 0
    assert recipe_for("convmixer@weights.safetensors") == recipe_for("convmixer")
    assert recipe_for("small-cnn+convmixer", steps=7) == Recipe(steps=7)


@pytest.mark.parametrize(
    "name", [name for name in victim_names() if name != "resnet50"]
)  # the block of resnet18, wider
def test_a_victim_learns_a_step_and_is_known_by_its_seed(name: str) -> None:
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    torch.manual_seed(1)
    first = create_victim(name, num_classes=3, resolution=16, seed=5)
    torch.manual_seed(2)
    again, other = (create_victim(name, num_classes=3, resolution=16, seed=seed) for seed in (5, 6))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.source == "random"
    before = first.fingerprint()
    recipe = replace(recipe_for(name), steps=1, batch_size=8, precision="float32")
    result = train_classifier(first, images, labels, recipe, seed=0, test_images=images, test_labels=labels, evals=1)
    assert result.finite
    assert result.predictions is not None
    assert result.predictions.shape == labels.shape
    assert first.fingerprint() != before
    assert describe(recipe) == describe(replace(recipe))
