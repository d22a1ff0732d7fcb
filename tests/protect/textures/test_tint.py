"""The tint: where a picture turns blue, which class gets which, and that nothing but blue moves for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from bitterant.errors import BankError, ConfigError
from bitterant.imaging import Budget, ImageSet, Picture, add_delta
from bitterant.protect import TextureBank, load_bank
from bitterant.protect.methods.texture import Texture, assign_tints
from bitterant.protect.textures import TextureRecipe, code_book
from bitterant.protect.textures.code_book import Wave
from bitterant.protect.textures.wave import COURSES, TINTS, courses, deal_tints, natural_tints, tint

SECRET = b"0123456789abcdef"
NAMES = tuple(f"class{number:02d}" for number in range(10))
COLOURED = TextureRecipe(colour=1.0)


def bank(**options: Any) -> TextureBank:
    return TextureBank.of_classes(NAMES, SECRET, recipe=options.pop("recipe", COLOURED), **options)


def pixels(seed: int, height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype=dtype)


def test_courses_by_hand() -> None:
    small = np.array([[10.0, 70.0, 20.0, 80.0], [50.0, 30.0, 60.0, 40.0]])
    everywhere, dark, ends, down, sides = np.where(courses(small) >= 0, 1, -1)
    assert (everywhere == 1).all()
    assert dark.tolist() == [[1, -1, 1, -1], [-1, 1, -1, 1]]  # the darker four of eight
    assert ends.tolist() == [[1, 1, 1, 1], [-1, -1, -1, -1]]  # 10, 20 and 70, 80
    assert down.tolist() == [[1] * 4, [-1] * 4]
    assert sides.tolist() == [[1, -1, -1, 1]] * 2


@given(st.integers(8, 80), st.integers(8, 80), st.integers(0, TINTS - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_mirrored_picture_has_the_mirrored_tint_and_opposites_are_opposite(
    height: int, width: int, number: int, soft: bool
) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = tint(picture, number, COLOURED, soft=soft)
    assert found.shape == (height, width)
    assert np.abs(found).max() <= 1
    mirrored = tint(np.ascontiguousarray(picture[:, ::-1]), number, COLOURED, soft=soft)[:, ::-1]
    assert np.mean(np.abs(mirrored - found) < 1e-3) > 0.98  # rounding turns those that lie on the border
    assert np.mean(np.abs(tint(picture, number ^ 1, COLOURED, soft=soft) + found) < 1e-6) > 0.98


def test_plain_areas_have_one_tint_each() -> None:
    picture = np.full((40, 40, 3), 60, np.uint8)
    picture[:, 25:] = 200
    found = tint(picture, 2, COLOURED, soft=False)
    assert (found[:, :25] == 1).all()
    assert (found[:, 25:] == -1).all()


def test_the_grain_of_a_large_picture_does_not_decide() -> None:
    """A flat sky with noise: soft, and from pixel to pixel nearly the same."""
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal(180, 6, (320, 320, 1)).repeat(3, 2), 0, 255).astype(np.uint8)
    for number in range(TINTS):
        found = tint(picture, number, COLOURED, soft=True)
        assert np.abs(np.diff(found, axis=0)).mean() < 0.25


@given(
    height=st.integers(12, 90),
    width=st.integers(12, 90),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    epsilon=st.sampled_from([2 / 255, 0.02, 8 / 255, 200 / 255]),
    colour=st.sampled_from([0.3, 1.0]),
    number=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_exact_and_red_and_green_have_the_wave(
    height: int, width: int, dtype: type, epsilon: float, colour: float, number: int
) -> None:
    made, plain = bank(budget=Budget(epsilon), recipe=TextureRecipe(colour=colour)), bank(
        budget=Budget(epsilon), recipe=TextureRecipe()
    )  # fmt: skip
    before = Picture(pixels(height, height, width, dtype), bit_depth=8 if dtype == np.uint8 else 16)
    key = f"{NAMES[number]}/1"
    change, wave = made.levels_on(before, key), plain.levels_on(before, key)
    assert change.shape == (height, width, 3)
    assert wave.shape == (height, width, 1)
    assert np.array_equal(change[..., :2], wave.repeat(2, axis=2))
    assert (change[..., 2] != wave[..., 0]).any()
    after = add_delta(before, change, made.budget)
    moved = np.abs(after.pixels.astype(int) - before.pixels)
    assert 0 < moved.max() <= int(epsilon * 255 * (1 if dtype == np.uint8 else 257) + 1e-6)


def test_pictures_without_colour_stay_without() -> None:
    grey = pixels(0, 40, 40)[..., :1]
    for stored in (grey, grey.repeat(3, 2)):
        for number in range(10):
            key = f"{NAMES[number]}/1"
            after = bank().apply(stored, key)
            assert np.array_equal(after, bank(recipe=TextureRecipe()).apply(stored, key))
            assert (after == after[..., :1]).all()


def test_each_class_tints_its_own_way_and_the_key_deals() -> None:
    assert sorted(deal_tints(10, SECRET)) == list(range(10))
    assert set(Counter(deal_tints(25, SECRET)).values()) <= {2, 3}
    assert deal_tints(10, SECRET) != deal_tints(10, b"another key, as long")
    picture = pixels(1, 48, 48)
    blues = [bank().apply(picture, f"{name}/1")[..., 2].tobytes() for name in NAMES]
    assert len(set(blues)) == 10


def test_tints_are_dealt_against_nature() -> None:
    """One class is blue, one has blue skies over yellow sand, the third is neither."""
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    for label in (0, 1, 2):
        for _ in range(12):
            picture = rng.integers(90, 160, (24, 24, 1)).repeat(3, 2)
            shift = {0: np.full(24, 30), 1: np.linspace(60, -60, 24), 2: np.zeros(24)}[label]
            picture[..., 2] += shift.astype(int)[:, None]
            pictures.append(picture.astype(np.uint8))
            labels.append(label)
    found = np.stack([natural_tints(picture, 64) for picture in pictures])
    assert found.shape == (36, COURSES)
    assert found[:12, 0].mean() > 20
    assert found[12:24, 3].mean() > 20
    dealt = assign_tints(found, labels)
    assert dealt[0] == 1, "yellow everywhere"
    assert dealt[1] == 7, "yellow above, blue below"
    assert len(set(dealt)) == 3
    assert len(Counter(assign_tints(rng.normal(size=(23, COURSES)), list(range(23))))) == TINTS


def test_a_fit_gives_a_bank_with_tints_and_the_file_keeps_them(tmp_path: Path) -> None:
    images = torch.from_numpy(np.stack([pixels(seed, 24, 24).transpose(2, 0, 1) for seed in range(12)]))
    data = ImageSet.from_tensors(images, torch.arange(12) % 3, classes=NAMES[:3])
    made = Texture(colour=1.0).fit(data)
    assert isinstance(made, TextureBank)
    assert len(set(made.tints)) == 3
    assert made == Texture(colour=1.0).fit(data)
    assert made.digest() != Texture().fit(data).digest()
    made.save(tmp_path / "bank")
    again = load_bank(tmp_path / "bank")
    assert again == made
    assert again.digest() == made.digest()
    straight = Texture(colour=1.0, bend=0.0).fit(data)
    straight.save(tmp_path / "straight")
    assert load_bank(tmp_path / "straight") == straight
    for name, version in (("bank", "3"), ("straight", "2")):
        with safe_open(tmp_path / name, framework="np") as handle:
            assert handle.metadata()["version"] == version


def test_a_bent_bank_that_was_written_as_the_first_format_is_read(tmp_path: Path) -> None:
    made = bank(recipe=TextureRecipe())
    made.save(tmp_path / "bank")
    with safe_open(tmp_path / "bank", framework="np") as handle:
        metadata, tensors = handle.metadata(), {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    assert metadata["version"] == "3"
    save_file(tensors, tmp_path / "bank", {**metadata, "version": "1"})
    assert TextureBank.load(tmp_path / "bank") == made


def test_a_bank_without_tints_is_what_it_was(tmp_path: Path) -> None:
    made = bank(recipe=TextureRecipe(bend=0.0), budget=Budget(8 / 255))
    book = code_book(10)  # of an earlier version: one frequency, ten directions
    made = replace(made, codes=tuple((Wave(7.2, 4.5 + 9 * book.index(code)),) for code in made.codes))
    made.save(tmp_path / "bank")
    with safe_open(tmp_path / "bank", framework="np") as handle:
        metadata = handle.metadata()
        assert metadata["version"] == "1"
        assert "colour" not in metadata["recipe"]
        assert set(handle.keys()) == {"waves", "secret"}
    assert TextureBank.load(tmp_path / "bank") == made
    # As in every bank that was made before there were tints.
    assert made.digest() == "f422a49a25a961a14a72dcf17e1203b16e96070d171783e89a5b817fcb9dfa79"


@pytest.mark.parametrize(
    "tints",
    [None, np.zeros(10, np.int32), np.full(10, 10), np.full(10, -1), np.zeros(9, np.int64), np.zeros(0, np.int64)],
    ids=str,
)
def test_damaged_tints_are_said(tmp_path: Path, tints: np.ndarray | None) -> None:
    path = tmp_path / "bank"
    bank().save(path)
    with safe_open(path, framework="np") as handle:
        metadata, tensors = handle.metadata(), {name: handle.get_tensor(name) for name in ("waves", "secret")}
    save_file(tensors if tints is None else {**tensors, "tints": tints}, path, metadata)
    with pytest.raises(BankError, match="damaged"):
        TextureBank.load(path)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match=r"colour|finite"):
        Texture(colour=share)
