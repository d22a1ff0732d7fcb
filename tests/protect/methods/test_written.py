"""What is judged is what is written: copies made for a figure are the files that the writer makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.imaging import Budget, ImageSet, add_delta, decode, encode, load_image_set, scan_folder, squash
from bitterant.imaging.image_set import Writable
from bitterant.protect import BayesErrorAscent, ErrorMinimizing, protect_folder
from bitterant.protect.methods.minimization import SelfCheck
from bitterant.protect.methods.pgd import class_gradient, gradient_sums, pgd_min
from bitterant.protect.methods.written import WrittenCopies
from bitterant.surrogates import FrozenSurrogate, create_surrogate, recipe_for, train_classifier

SIDE = 16
QUICK = {"rounds": 3, "sample_rounds": 2, "surrogate_steps": 3, "device": "cpu", "attempts": 0}


def _pictures(root: Path, size: int = 24) -> Path:
    """One of each kind that holds less than a perturbation: greys, a palette, holes, and black and white."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    grey = rng.integers(60, 200, (size, size), dtype=np.uint8)
    alpha = np.full((size, size), 255, np.uint8)
    alpha[: size // 2] = 0
    made = {
        "a/colour.png": Image.fromarray(colours),
        "a/grey.png": Image.fromarray(grey),
        "a/grey-as-rgb.png": Image.fromarray(np.repeat(grey[..., None], 3, axis=2)),
        "b/deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "b/palette.png": Image.fromarray(colours).quantize(16),
        "b/holes.png": Image.fromarray(np.dstack([colours, alpha])),
        "b/checks.png": Image.fromarray((rng.integers(0, 2, (size, size, 3)) * 255).astype(np.uint8)),
    }
    for name, image in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _pictures(tmp_path / "src")


@pytest.fixture
def dataset(folder: Path) -> ImageSet:
    return load_image_set(scan_folder(folder), SIDE)[0]


def _names(dataset: ImageSet) -> list[str]:
    assert dataset.origins is not None
    return [origin.path.stem for origin in dataset.origins]


def _noise(rows: int, levels: float = 8.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 2, (rows, 3, SIDE, SIDE), generator=generator).float() * 2 - 1) * levels / 255


@pytest.mark.parametrize("encoder", ["PNG", "JPEG"])
def test_copies_are_those_that_the_writer_makes(dataset: ImageSet, encoder: str) -> None:
    assert dataset.origins is not None
    dataset = replace(dataset, origins=tuple(replace(origin, encoder=encoder) for origin in dataset.origins))
    budget, delta = Budget(8 / 255), _noise(len(dataset))
    # JPEG has neither transparency nor 16 bits, so those keep their own format whatever was asked for.
    rows = torch.tensor([row for row, name in enumerate(_names(dataset)) if name not in ("holes", "deep")]).flip(0)
    found = WrittenCopies(dataset, budget)(rows, lambda index: delta[index])
    for row, copy in zip(rows.tolist(), found, strict=True):
        levels = (delta[row] * 255).round().permute(1, 2, 0).numpy()
        assert dataset.origins is not None
        written = encode(add_delta(decode(dataset.origins[row].path), levels, budget), format=encoder)
        assert np.array_equal(copy.permute(1, 2, 0).numpy(), squash(decode(written), SIDE)), _names(dataset)[row]


def test_a_file_that_is_gone_is_taken_from_memory(dataset: ImageSet) -> None:
    assert dataset.origins is not None
    dataset.origins[0].path.unlink()
    found = WrittenCopies(dataset, Budget(8 / 255))(torch.tensor([0]), lambda index: torch.zeros(1, 3, SIDE, SIDE))
    assert torch.equal(found[0], dataset.images[0])


def test_what_can_be_written_is_seen_while_reading(dataset: ImageSet) -> None:
    writable = dataset.writable
    assert writable is not None
    greys = dict(zip(_names(dataset), writable.grey.tolist(), strict=True))
    assert {name for name, grey in greys.items() if grey} == {"grey", "grey-as-rgb", "deep"}
    assert writable.opaque is not None
    holes = writable.opaque[_names(dataset).index("holes")]
    assert holes[: SIDE // 2 - 1].max() == 0
    assert holes[SIDE // 2 + 1 :].min() == 255
    delta = _noise(len(dataset))
    left = writable(delta)
    assert torch.allclose(left[writable.grey], delta[writable.grey].mean(1, keepdim=True).expand(-1, 3, -1, -1))
    colour = _names(dataset).index("colour")
    assert torch.equal(left[colour], delta[colour])


def test_a_folder_of_plain_colour_pictures_holds_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / name / "0.png")
    assert load_image_set(scan_folder(tmp_path), 8)[0].writable is None


def test_noise_for_greys_is_grey_from_the_start(dataset: ImageSet) -> None:
    """Averaging it in the writer, after the fit, would undo what the fit made of colours."""
    bank = ErrorMinimizing(granularity="sample", **QUICK).fit(dataset)  # type: ignore[arg-type]
    assert dataset.writable is not None
    for key, name, grey in zip(dataset.keys, _names(dataset), dataset.writable.grey.tolist(), strict=True):
        levels = bank.levels_for(key)
        assert bool((levels == levels[..., :1]).all()) == grey, name
        assert np.abs(levels).max() > 0


def test_the_ascent_keeps_greys_grey(tmp_path: Path) -> None:
    greys = load_image_set(scan_folder(_shapes(tmp_path, 12, seed=0)), SIDE)[0]
    bank = BayesErrorAscent(rounds=1, device="cpu", surrogate="small-cnn", estimate_images=0).fit(greys)
    assert torch.equal(bank.levels, bank.levels[:, :1].expand_as(bank.levels))
    assert bank.levels.any()


def test_gradients_are_those_of_what_is_written() -> None:
    """Checked against autograd through the projection written out."""
    torch.manual_seed(0)
    frozen = FrozenSurrogate(create_surrogate("small-cnn", num_classes=2, resolution=SIDE, seed=0))
    # Away from black and white: gradients are not taken through the clamp.
    images, labels = 0.1 + 0.8 * torch.rand(4, 3, SIDE, SIDE), torch.tensor([0, 1, 0, 1])
    greys, mask = torch.tensor([True, False, False, True]), torch.full((4, SIDE, SIDE), 255, dtype=torch.uint8)
    mask[3, :5] = 0
    writable = Writable(greys, mask)
    delta = (_noise(2) * 0.5).requires_grad_(True)
    own = delta[labels]
    arrived = torch.where(greys.view(-1, 1, 1, 1), own.mean(1, keepdim=True).expand_as(own), own) * (
        mask[:, None] / 255
    )
    loss = torch.nn.functional.cross_entropy(frozen(images + arrived), labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, delta)
    expected = expected / expected.abs().mean(dim=(1, 2, 3), keepdim=True)
    got = class_gradient(gradient_sums(frozen, images, labels, labels, delta.detach(), writable=writable))
    assert torch.allclose(got, expected, atol=1e-4)
    moved = pgd_min(
        frozen, images, labels, torch.zeros_like(images), epsilon=0.03, step_size=0.01, steps=3, writable=writable
    )
    assert torch.allclose(moved[0], moved[0, :1].expand(3, -1, -1), atol=1e-6)
    assert bool((moved[3, :, :5] == 0).all())
    assert not torch.allclose(moved[1], moved[1, :1].expand(3, -1, -1), atol=1e-2)


def _shapes(root: Path, each: int, seed: int) -> Path:
    """Grey pictures of three classes that a small network learns at once: bars across, bars along, none."""
    rng = np.random.default_rng(seed)
    for label in range(3):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            field = rng.normal(128, 12, (SIDE, SIDE))
            place = int(rng.integers(2, SIDE - 4))
            if label == 0:
                field[place : place + 2] += 30
            elif label == 1:
                field[:, place : place + 2] += 30
            Image.fromarray(field.clip(0, 255).astype(np.uint8)).save(root / str(label) / f"{number}.png")
    return root


@pytest.mark.slow
def test_a_victim_of_the_written_greys_agrees_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief_self_checks: None
) -> None:
    """From end to end: a network trained on the files in OUT learns about what the run says is left."""
    defaults = SelfCheck.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "steps", 150)
    source, test = _shapes(tmp_path / "src", 24, seed=0), _shapes(tmp_path / "test", 20, seed=1)
    summary = protect_folder(source, tmp_path / "out", method="emn", parameters={"attempts": 1}, device="cpu")
    check = json.loads(summary.run_file.read_bytes())["fit"]["self_check"]["results"][0]

    def accuracy(folder: Path) -> float:
        train, held = (load_image_set(scan_folder(place), SIDE)[0] for place in (folder, test))
        victim = create_surrogate("small-cnn", num_classes=3, resolution=SIDE, seed=5)
        assert train.labels is not None
        assert held.labels is not None
        result = train_classifier(
            victim, train.images, train.labels, recipe_for("small-cnn", steps=150), seed=5,
            test_images=held.images, test_labels=held.labels, evals=1, device=torch.device("cpu"),
        )  # fmt: skip
        assert result.predictions is not None
        return float((result.predictions == held.labels).float().mean())

    assert check["clean_accuracy"] > 0.8
    assert abs(accuracy(tmp_path / "out") - check["protected_accuracy"]) < 0.25
