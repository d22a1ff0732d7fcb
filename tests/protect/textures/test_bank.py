"""The bank of textures: what it puts on a picture, and its file."""

from __future__ import annotations

import hashlib
import json
import stat
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

from bitterant.errors import BankError, ConfigError, ImageError, LabelError
from bitterant.imaging import Budget, ImageSet, Picture, add_delta
from bitterant.protect import TextureBank, load_bank
from bitterant.protect.bank_file import needs_torch, open_bank
from bitterant.protect.textures import TextureRecipe, Wave

SECRET = b"0123456789abcdef"
NAMES = ("cats", "dogs", "emus")


def bank(**options: Any) -> TextureBank:
    return TextureBank.of_classes(NAMES, options.pop("secret", SECRET), **options)


def pixels(seed: int, height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def test_keys_are_those_of_pictures_of_known_classes() -> None:
    made = bank()
    assert made.key_for("dogs/0123") == "dogs/0123"
    assert made.key_for("dogs") == "dogs"
    assert made.key_for("gnus/0123") is None
    assert made.key_for("0123") is None
    with pytest.raises(BankError, match=r"no texture for the class 'gnus'\. It knows: cats, dogs, emus"):
        made.levels_on(Picture(pixels(0, 20, 20)), "gnus/0123")


@given(
    height=st.integers(12, 90),
    width=st.integers(12, 90),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    alpha=st.booleans(),
    epsilon=st.sampled_from([2 / 255, 0.02, 8 / 255, 8.6 / 255, 200 / 255]),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_exact_and_no_colour_moves(
    height: int, width: int, channels: int, dtype: type, alpha: bool, epsilon: float
) -> None:
    made = bank(budget=Budget(epsilon), recipe=TextureRecipe(soft_period=1e6))
    colours = pixels(height, height, width, channels, dtype)
    veil = (np.indices((height, width)).sum(0) % 3).astype(np.uint8) if alpha else None
    before = Picture(colours, alpha=veil, bit_depth=8 if dtype == np.uint8 else 16)
    change = made.levels_on(before, "cats/1")
    assert change.shape == (height, width, 1)
    after = add_delta(before, change, made.budget)
    moved = after.pixels.astype(int) - colours
    scale = 1 if dtype == np.uint8 else 257
    limit = int(epsilon * 255 * scale + 1e-6)
    assert np.abs(moved).max() <= limit
    full = np.iinfo(dtype).max
    seen = np.ones((height, width), bool) if veil is None else veil > 0
    free = seen & ((colours >= limit) & (colours <= full - limit)).all(axis=2)
    assert (moved == moved[..., :1])[free].all()
    assert not moved[~seen].any()
    if epsilon * 255 % 1 < 0.5:  # else the texture is rounded up, and back into the budget
        assert (np.abs(moved[free]) == limit).all()


def test_apply_takes_arrays_and_tensors_and_keys_or_names() -> None:
    made = bank()
    image = pixels(1, 24, 32)
    digest = hashlib.sha256(image.transpose(2, 0, 1).tobytes()).hexdigest()
    out = made.apply(image, f"dogs/{digest}")
    assert out.dtype == np.uint8
    assert 0 < np.abs(out.astype(int) - image).max() <= made.budget.whole_levels
    assert np.array_equal(made.apply(image, "dogs"), out), "the digest of the pixels, where that of a file is not told"
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    assert torch.equal(made.apply(tensor, "dogs").mul(255).round().byte().permute(1, 2, 0), torch.from_numpy(out))
    square = ImageSet.from_tensors(torch.from_numpy(image[:, :24]).permute(2, 0, 1)[None], torch.tensor([1]),
                                   classes=NAMES)  # fmt: skip
    assert np.array_equal(made.apply(image[:, :24], square.keys[0]), made.apply(image[:, :24], "dogs"))
    for wrong in (image.astype(np.float32), image[:, :, :2], tensor.long()):
        with pytest.raises(ConfigError, match=r"\[0, 1\]|shape"):
            made.apply(wrong, "dogs")  # type: ignore[arg-type]
    grey = made.apply(image[:, :, :1], "dogs")
    assert grey.shape == (24, 32, 1)
    assert 0 < np.abs(grey.astype(int) - image[:, :, :1]).max() <= made.budget.whole_levels


def test_key_content_and_class_each_change_the_texture() -> None:
    made, picture = bank(), Picture(np.full((64, 64, 3), 128, np.uint8))
    found = made.levels_on(picture, "cats/1")
    assert np.array_equal(made.levels_on(picture, "cats/1"), found)
    for other in (
        bank(secret=b"another key, as long").levels_on(picture, "cats/1"),
        made.levels_on(picture, "cats/2"),
        made.levels_on(picture, "dogs/1"),
    ):
        assert (other != found).mean() > 0.03


def test_a_floor_weakens_plain_areas_alone() -> None:
    rng = np.random.default_rng(0)
    image = np.full((128, 128, 3), 120, np.uint8)
    image[:, 64:] = rng.integers(0, 256, (128, 64, 1))
    weak = bank(recipe=TextureRecipe(floor=0.25)).levels_on(Picture(image), "cats/1")
    full = bank(recipe=TextureRecipe(floor=1.0)).levels_on(Picture(image), "cats/1")
    assert np.array_equal(np.sign(weak), np.sign(full))
    np.testing.assert_allclose(weak[:, :32], 0.25 * full[:, :32], rtol=1e-5)
    assert (np.abs(weak[:, 96:]) >= 0.75 * np.abs(full[:, 96:])).all()
    small = np.ascontiguousarray(image[::4, ::4])
    one, two = (bank(recipe=TextureRecipe(floor=floor)).levels_on(Picture(small), "cats/1") for floor in (0.25, 1.0))
    assert np.array_equal(one, two), "thumbnails get it all"
    with pytest.raises(ConfigError, match="floor"):
        TextureRecipe(floor=0.0)


@pytest.mark.parametrize(("height", "width"), [(7, 60), (60, 5), (1, 1)])
def test_a_picture_too_small_is_an_error_of_that_picture(height: int, width: int) -> None:
    with pytest.raises(ImageError, match=f"short side of {min(height, width)} px is too small.* needs 8 px"):
        bank().levels_on(Picture(pixels(0, height, width)), "cats/1")


def test_small_pictures_get_longer_periods() -> None:
    """A wave of 6 cycles would have 5.3 px on 32: it is drawn with 5.2, which have 6.15."""
    made = bank(recipe=TextureRecipe(frequency_jitter=0.0, angle_jitter=0.0, spread=0.0))
    made = replace(made, codes=tuple((Wave(6.0, 10.0 * number),) for number, _ in enumerate(made.codes)))
    for side, cycles in ((24, 24 / 6.15), (32, 32 / 6.15), (48, 6.0), (200, 6.0)):
        plain = Picture(np.full((side, side, 3), 128, np.uint8))
        power = np.abs(np.fft.fft2(made.levels_on(plain, "cats/1")[..., 0], s=(512, 512))) ** 2
        power[0, 0] = 0
        row, column = np.unravel_index(power[:, :256].argmax(), (512, 256))
        found = np.hypot(min(row, 512 - row), column) * side / 512
        assert found == pytest.approx(cycles, abs=0.25)


def test_names_are_checked() -> None:
    with pytest.raises(LabelError, match="at least two classes"):
        TextureBank.of_classes(["cats"], SECRET)
    with pytest.raises(ConfigError, match="'cats' is named twice"):
        TextureBank.of_classes(["cats", "dogs", "cats"], SECRET)
    with pytest.raises(ConfigError, match="1001"):
        TextureBank.of_classes([str(number) for number in range(1001)], SECRET)


# ------------------------------------------------------------------ file
def test_the_file_holds_it_all_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    names = [f"Straße {number}" for number in range(70)]  # more than there are single waves
    for made in (bank(budget=Budget(4 / 255), seed=3, recipe=TextureRecipe(floor=0.5, spread=0.0)),
                 TextureBank.of_classes(names, SECRET, for_resolution=64)):  # fmt: skip
        path = tmp_path / "bank"
        made.save(path)
        data = path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SECRET.decode() not in repr(made)
        for again in (TextureBank.load(path), load_bank(path), open_bank(path)):
            assert again == made
            assert isinstance(again, TextureBank)
            assert again.digest() == made.digest()
        made.save(path)
        assert path.read_bytes() == data
        assert not needs_torch(path)
        with safe_open(path, framework="np") as handle:
            assert handle.metadata()["format"] == "bitterant-texture-bank"
            assert json.loads(handle.metadata()["classes"]) == list(made.classes)
    assert bank().digest() != bank(secret=b"another key, as long").digest()


def tampered(path: Path, **changes: Any) -> Path:
    """A bank file with other metadata or tensors; ``None`` leaves one out."""
    bank().save(path)
    with safe_open(path, framework="np") as handle:
        content = {**(handle.metadata() or {}), **{name: handle.get_tensor(name) for name in ("waves", "secret")}}
    content = {name: value for name, value in {**content, **changes}.items() if value is not None}
    tensors = {name: value for name, value in content.items() if not isinstance(value, str)}
    save_file(tensors, path, {name: value for name, value in content.items() if isinstance(value, str)})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"waves": None},
        {"secret": None},
        {"secret": np.zeros(0, np.uint8)},
        {"waves": np.zeros((3, 2, 2))},
        {"waves": np.full((3, 2, 2), np.nan)},
        {"waves": np.full((3, 2, 2), 5.0)},
        {"waves": np.zeros((3, 2, 2), np.float32)},
        {"waves": np.ones((2, 2, 2))},
        {"classes": '["cats", "cats", "dogs"]'},
        {"classes": "cats"},
        {"granularity": "class"},
        {"epsilon": "7"},
        {"epsilon": "x"},
        {"recipe": "{}"},
        {"recipe": "[1]"},
        {"recipe": TextureRecipe().to_json().replace("64", "1")},
        {"recipe": TextureRecipe().to_json().replace("64", '"x"')},
        {"seed": None},
    ],
    ids=str,
)
def test_damage_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(BankError, match="damaged") as caught:
        TextureBank.load(tampered(tmp_path / "bank", **changes))
    assert str(tmp_path / "bank") in str(caught.value)


def test_what_is_no_bank_of_textures(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="format 9; this bitterant reads 1"):
        TextureBank.load(tampered(tmp_path / "bank", version="9"))
    with pytest.raises(BankError, match="not a bank of textures"):
        TextureBank.load(tampered(tmp_path / "bank", format="other"))
    with pytest.raises(BankError, match="no bank file"):
        open_bank(tmp_path / "absent")
    (tmp_path / "noise").write_bytes(b"x" * 40)
    with pytest.raises(BankError, match="damaged"):
        open_bank(tmp_path / "noise")
    with pytest.raises(BankError, match="damaged"):
        TextureBank.load(tmp_path / "noise")


def test_two_waves_of_a_class_come_back() -> None:
    made = TextureBank(("a", "b"), ((Wave(4.0, 10.0), Wave(8.0, 70.0)), (Wave(4.0, 10.0),)), SECRET, Budget(8 / 255))
    assert made.code_for("a/1") == (Wave(4.0, 10.0), Wave(8.0, 70.0))
    with pytest.raises(BankError, match="distinct"):
        TextureBank(("a", "b"), ((Wave(4.0, 10.0),), (Wave(4.0, 10.0),)), SECRET, Budget(8 / 255))


def test_a_texture_follows_what_a_16_bit_file_uses_of_its_range() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint16)
    bank = TextureBank.of_classes(["a", "b"], bytes(range(16)))
    eight = bank.levels_on(Picture(levels.astype(np.uint8)), "a/x")
    for white, bits in ((4095, 12), (65535, 16)):
        pixels = (levels.astype(np.uint32) * white // 255).astype(np.uint16)
        picture = Picture(pixels, bit_depth=16, white=None if bits == 16 else white)
        assert np.mean(bank.levels_on(picture, "a/x") == eight) > 0.95  # values between two levels are rounded
