"""Pictures held out, pseudo-labels where there are none, and dealt labels that say nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitterant.attacks import verify_folder
from bitterant.attacks.data import deal_labels
from bitterant.attacks.data.folders import load_labellings
from bitterant.attacks.data.splits import PseudoLabeller, PseudoLabelling, pseudo_labellings_for, stratified_split
from bitterant.attacks.terms import enough_to_hold_out, fewest_for_groups
from bitterant.errors import LabelError
from bitterant.surrogates.training import Recipe


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(0, 5), st.randoms())
def test_the_split_is_stratified_and_independent_of_order(counts: list[int], seed: int, random: object) -> None:
    keys = [f"{label}/{i}" for label, count in enumerate(counts) for i in range(count)]
    labels = [int(key.split("/")[0]) for key in keys]
    train, test = stratified_split(keys, labels, seed=seed)
    assert sorted(train + test) == list(range(len(keys)))
    for label, count in enumerate(counts):
        held = sum(labels[i] == label for i in test)
        assert held == (min(count - 1, max(1, round(0.2 * count))) if count > 1 else 0)
    order = list(range(len(keys)))
    random.shuffle(order)  # type: ignore[attr-defined]
    _, shuffled = stratified_split([keys[i] for i in order], [labels[i] for i in order], seed=seed)
    assert {keys[order[i]] for i in shuffled} == {keys[i] for i in test}


def test_identical_pictures_stay_on_one_side() -> None:
    keys = ["a/x"] * 5 + ["a/y"] * 5 + ["b/z", "b/w"]
    labels = [0] * 10 + [1] * 2
    train, test = stratified_split(keys, labels, seed=0)
    assert not {keys[i] for i in train} & {keys[i] for i in test}


def _flat(root: Path, count: int, side: int = 16) -> Path:
    """Warm pictures and cold ones, each with grain of its own."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        base = np.array([190, 120, 60] if number % 2 else [60, 120, 190])
        field = base + rng.normal(0, 12, (side, side, 3))
        Image.fromarray(field.clip(0, 255).astype(np.uint8)).save(root / f"{number:03d}.png")
    return root


def _images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    base = torch.tensor([[60, 120, 190], [190, 120, 60]])[torch.arange(count) % 2]
    return (base.view(-1, 3, 1, 1) + torch.randint(-12, 13, (count, 3, 16, 16), generator=generator)).to(torch.uint8)


@pytest.mark.parametrize("sight", ["colours", "content"])
def test_groups_are_those_that_the_eye_sees_and_serve_other_pictures(sight: str) -> None:
    images = _images(24)
    labeller = PseudoLabeller(PseudoLabelling(2, sight), images, seed=0, device=torch.device("cpu"))  # type: ignore[arg-type]
    found = labeller.label(images)
    if sight == "colours":
        assert len({int(found[i]) for i in range(0, 24, 2)}) == 1
        assert found[0] != found[1]
    assert set(found) == {0, 1}
    assert (labeller.label(images[3:5]) == found[3:5]).all()


def test_the_number_of_groups_follows_from_that_of_the_pictures() -> None:
    assert pseudo_labellings_for(fewest_for_groups() - 1) == ()
    for count in (fewest_for_groups(), 200, 5000):
        found = pseudo_labellings_for(count)
        assert len(set(found)) == 2
        assert all(fewest_for_groups(grouping.clusters) <= count for grouping in found)
    assert pseudo_labellings_for(5000)[0].clusters == 10


@pytest.mark.parametrize(("counts", "enough"), [([25, 25], True), ([22, 22], False), ([100], False), ([], False)])
def test_enough_is_what_a_held_out_fifth_allows(counts: list[int], enough: bool) -> None:
    assert enough_to_hold_out(counts) == enough


def test_a_flat_folder_is_verified_under_two_labellings(tmp_path: Path) -> None:
    clean = _flat(tmp_path / "clean", fewest_for_groups())
    shutil.copytree(clean, tmp_path / "copy")
    report = verify_folder(
        clean, tmp_path / "copy", report=tmp_path / "report", preset="smoke", adversaries=["none"], workers=1,
        recipe=Recipe(steps=12, batch_size=16), epsilon=8 / 255,
    )  # fmt: skip
    assert [row.grouping for row in report.labellings] == ["2 groups by content", "2 groups by colours"]
    assert sum(row.shown for row in report.labellings) == 1
    assert report.dataset.grouping in {row.grouping for row in report.labellings}
    assert "There are no class folders" in report.verdict.headline
    assert "nobody knows how a trainer would label it" in report.verdict.caveats[0]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "2 groups by colours" in page


def test_pictures_of_a_test_folder_get_the_groups_of_the_originals(tmp_path: Path) -> None:
    clean, test = _flat(tmp_path / "clean", 60), _flat(tmp_path / "test", 20)
    shutil.copytree(clean, tmp_path / "copy")
    data = load_labellings(
        clean, tmp_path / "copy", test=test, resolution=16, seed=0, device_type="cpu", epsilon=None,
        step=lambda *_: None,
    )  # fmt: skip
    by_colours = data[1]
    assert by_colours.test_source == "folder"
    # The first 20 of both folders are the same pictures: they are left out of training, and still labelled alike.
    assert len(by_colours.labels) == 40
    assert len({int(label) for label in by_colours.test_labels[::2]}) == 1


def test_too_few_pictures_are_refused_with_the_number(tmp_path: Path) -> None:
    clean = _flat(tmp_path / "clean", 20)
    shutil.copytree(clean, tmp_path / "copy")
    with pytest.raises(LabelError, match=rf"{fewest_for_groups()} pictures or more, and there are 20"):
        verify_folder(clean, tmp_path / "copy")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 2**32))
def test_each_class_is_dealt_evenly_and_its_own_label_last(classes: list[int], seed: int) -> None:
    labels = np.array(classes, dtype=np.int64)
    dealt = deal_labels(labels, 5, seed=seed)
    assert dealt.dtype == np.int64
    for label in np.unique(labels):
        counts = np.bincount(dealt[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts[label] == counts.min()


def test_the_same_seed_deals_the_same_and_another_does_not() -> None:
    labels = np.repeat(np.arange(3), 40)
    first, again, other = (deal_labels(labels, 3, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert not (labels == first).all()
