"""The training loop: learns, repeats itself, never looks at the test set, and says when it failed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bitterant.surrogates import (
    Recipe,
    create_surrogate,
    crop_flip,
    draw_crops,
    epoch_order,
    pad_images,
    predict_logits,
    recipe_for,
    train_classifier,
)


def stripes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes: horizontal and vertical stripes with a random phase and noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    phase = torch.randint(0, 8, (count, 1, 1), generator=generator)
    wave = ((torch.arange(16).view(1, -1, 1) + phase) // 4 % 2 * 160).expand(count, 16, 16)
    flat = torch.where(labels.view(-1, 1, 1) == 0, wave, wave.transpose(1, 2))
    noise = torch.randint(0, 60, (count, 3, 16, 16), generator=generator)
    return (flat.unsqueeze(1) + noise).to(torch.uint8), labels


def train(recipe: Recipe, seed: int = 0, **options: Any):
    images, labels = stripes(64, 0)
    test_images, test_labels = stripes(40, 1)
    model = create_surrogate("small-cnn", num_classes=2, resolution=16, seed=seed)
    return model, train_classifier(
        model, images, labels, recipe, seed=seed, test_images=test_images, test_labels=test_labels, evals=4, **options
    )  # type: ignore[arg-type]


def test_it_learns_and_reports_consistently() -> None:
    model, result = train(recipe_for("small-cnn", steps=40, batch_size=16))
    test_images, test_labels = stripes(40, 1)
    assert result.finite
    assert result.steps == 40
    assert result.train_accuracy > 0.95
    assert result.curve[-1].test_accuracy is not None
    assert result.curve[-1].test_accuracy > 0.9
    assert [p.step for p in result.curve] == [10, 20, 30, 40]
    assert result.predictions is not None
    assert torch.equal(result.predictions, predict_logits(model, test_images).argmax(1))
    best = max(p.test_accuracy or 0 for p in result.curve)
    assert result.peak_predictions is not None
    assert float((result.peak_predictions == test_labels).float().mean()) == pytest.approx(best)


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    recipe = recipe_for("small-cnn", steps=6, batch_size=16)
    a, b, c = (train(recipe, seed)[0].fingerprint() for seed in (3, 3, 4))
    assert a == b != c


def test_dropout_repeats_whatever_was_drawn_before() -> None:
    """Dropout draws from the global generator, which depends on what else a process has done."""
    images, labels = stripes(32, 0)

    def train_with_dropout(seed: int) -> torch.Tensor:
        weights = torch.randn(2, 3 * 16 * 16, generator=torch.Generator().manual_seed(0)) / 30
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(3 * 16 * 16, 2))
        linear = net[2]
        assert isinstance(linear, torch.nn.Linear)
        linear.weight.data.copy_(weights)
        linear.bias.data.zero_()
        before = torch.random.get_rng_state()
        train_classifier(net, images, labels, Recipe(steps=5, batch_size=16, precision="float32"), seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator was moved"
        return linear.weight.detach()

    torch.manual_seed(1)
    first = train_with_dropout(3)
    torch.rand(17)
    assert torch.equal(first, train_with_dropout(3))
    assert not torch.equal(first, train_with_dropout(4))


def test_the_test_set_cannot_change_the_training() -> None:
    recipe = recipe_for("small-cnn", steps=6, batch_size=16)
    images, labels = stripes(64, 0)
    prints = []
    for test_seed in (1, 2):
        test_images, test_labels = stripes(40, test_seed)
        model = create_surrogate("small-cnn", num_classes=2, resolution=16, seed=0)
        train_classifier(
            model, images, labels, recipe, seed=0, test_images=test_images, test_labels=test_labels, evals=test_seed
        )
        prints.append(model.fingerprint())
    assert prints[0] == prints[1]


def test_learning_rate_zero_learns_nothing() -> None:
    model, result = train(recipe_for("small-cnn", steps=10, batch_size=16, lr=0.0))
    start = dict(create_surrogate("small-cnn", num_classes=2, resolution=16, seed=0).named_parameters())
    assert all(torch.equal(value, start[name]) for name, value in model.named_parameters())
    assert result.train_accuracy < 0.8
    assert result.finite


def test_divergence_is_reported_not_hidden() -> None:
    _, result = train(recipe_for("small-cnn", steps=40, batch_size=16, lr=1e25, clip_norm=1e30, precision="float32"))
    assert not result.finite
    assert result.steps < 40


class TestAugment:
    def test_crop_flip_equals_the_naive_loop(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (5, 3, 7, 7), dtype=torch.uint8)
        padded = pad_images(images, 2)
        index = torch.tensor([4, 0, 2, 2])
        crops = draw_crops(4, 2, True, generator)
        got = crop_flip(padded, index, crops, 7)
        for row, (i, top, left, flip) in enumerate(zip(index, *crops, strict=True)):
            want = padded[i, :, top : top + 7, left : left + 7]
            assert torch.equal(got[row], want.flip(2) if flip else want)

    @pytest.mark.parametrize("padding", [0, 1, 3])
    def test_padding_bytes_equals_reflecting_floats(self, padding: int) -> None:
        images = torch.randint(0, 256, (2, 3, 6, 6), dtype=torch.uint8)
        want = torch.nn.functional.pad(images.float(), (padding,) * 4, mode="reflect")
        assert torch.equal(pad_images(images, padding).float(), want)
        assert torch.equal(pad_images(images.float(), padding), want)

    def test_an_epoch_sees_every_image_once_and_drops_only_a_small_rest(self) -> None:
        generator = torch.Generator().manual_seed(0)
        assert sorted(torch.cat(epoch_order(10, 4, generator)).tolist()) == list(range(10))
        assert sum(len(b) for b in epoch_order(9, 4, generator)) == 8
        assert [len(b) for b in epoch_order(1, 4, generator)] == [1]


def test_a_precision_that_was_settled_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A verification settles it once; each of its trainings would tell that somebody asked for it."""

    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("bitterant.surrogates.training.choose_precision", measured)
    images, labels = torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 2
    for precision in ("float32", "bfloat16"):
        network = create_surrogate("small-cnn", num_classes=2, resolution=8, seed=0)
        train_classifier(network, images, labels, Recipe(steps=1, batch_size=8, precision=precision), seed=0)
    assert not caplog.records
