"""The bank file: refuses what is damaged, foreign, newer or over budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bitterant.errors import BankError, BudgetExceeded, ConfigError
from bitterant.imaging import Budget
from bitterant.protect import Bank
from bitterant.protect.bank_file import StoredLevels


def bank(levels: int = 8, side: int = 4) -> Bank:
    values = torch.randint(-levels, levels + 1, (2, 3, side, side), generator=torch.Generator().manual_seed(0))
    return Bank("emn", "class", Budget(levels / 255), values.to(torch.int16), ("a", "b"), "small-cnn", "ab" * 32, 3)


@given(
    epsilon=st.integers(1, 200),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    data=st.data(),
)
def test_any_image_of_any_size_stays_within_budget_and_range(epsilon: int, height: int, width: int, data) -> None:
    value = data.draw(st.sampled_from([0, 3, 128, 254, 255]))
    image = np.full((height, width, 3), value, dtype=np.uint8)
    out = bank(epsilon).apply(image, "a")
    assert np.abs(out.astype(int) - image.astype(int)).max() <= epsilon
    as_tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    assert torch.equal((bank(epsilon).apply(as_tensor, "a") * 255).round().permute(1, 2, 0).to(torch.uint8),
                       torch.from_numpy(out))  # fmt: skip


def test_large_budgets_survive_the_file(tmp_path: Path) -> None:
    for levels in (8, 127, 200):
        bank(levels).save(tmp_path / "b")
        assert torch.equal(Bank.load(tmp_path / "b").levels, bank(levels).levels)


def test_over_budget_banks_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        Bank("emn", "class", Budget(8 / 255), torch.full((1, 3, 2, 2), 9, dtype=torch.int16), ("a",))
    bank().save(tmp_path / "b")
    levels = load_file(tmp_path / "b")["levels"]
    levels[0, 0, 0, 0] = 100
    with safe_open(tmp_path / "b", framework="pt") as handle:
        metadata = handle.metadata()
    save_file({"levels": levels}, tmp_path / "tampered", metadata)
    with pytest.raises(BankError, match="damaged"):
        Bank.load(tmp_path / "tampered")


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A bank whose file counts as large."""
    bank().save(tmp_path / "b")
    monkeypatch.setattr("bitterant.protect.bank.LARGEST_IN_MEMORY", 0)
    return Bank.load(tmp_path / "b")


def test_a_bank_and_its_file_are_equal_and_others_are_not(stored: Bank) -> None:
    assert bank() == bank()
    assert bank() == stored
    assert stored == bank()
    assert hash(bank()) == hash(stored)
    assert bank() != bank(levels=7)
    assert bank() != bank(side=5)
    other = bank().levels.clone()
    other[1, 2, 3, 3] = -other[1, 2, 3, 3] or 1
    assert bank() != replace(bank(), levels=other)
    assert bank() != replace(bank(), keys=("a", "c"))
    assert bank() != "a bank"


@pytest.mark.parametrize("levels", [8, 200])
def test_a_large_bank_is_read_row_by_row_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    whole = bank(levels)
    whole.save(tmp_path / "b")
    monkeypatch.setattr("bitterant.protect.bank.LARGEST_IN_MEMORY", 0)
    read: list[int] = []
    real = StoredLevels.read
    monkeypatch.setattr(StoredLevels, "read", lambda self, number: read.append(number) or real(self, number))
    large = Bank.load(tmp_path / "b")
    assert (large.keys, large.resolution, large.key_for("b/x"), read) == (("a", "b"), 4, "b", [])
    assert np.array_equal(large.levels_for("b"), whole.levels_for("b"))
    assert read == [1]
    assert large.digest() == whole.digest()
    assert torch.equal(large.levels, whole.levels)
    large.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_large_bank_over_its_budget_is_noticed_where_it_is_read(tmp_path: Path, stored: Bank) -> None:
    tensors = load_file(tmp_path / "b")
    tensors["levels"][1, 0, 0, 0] = 100
    with safe_open(tmp_path / "b", framework="pt") as handle:
        metadata = handle.metadata()
    save_file(tensors, tmp_path / "tampered", metadata)
    tampered = Bank.load(tmp_path / "tampered")
    assert tampered.levels_for("a").shape == (4, 4, 3)
    with pytest.raises(BankError, match=r"tampered is damaged.*\(1 entries for b"):
        tampered.levels_for("b")
    with pytest.raises(BankError, match="damaged"):
        tampered.digest()


def test_a_large_bank_whose_file_is_another_by_now(tmp_path: Path, stored: Bank) -> None:
    bank(7).save(tmp_path / "b")
    with pytest.raises(BankError, match="was changed while it was in use"):
        stored.levels_for("a")
    (tmp_path / "b").unlink()
    with pytest.raises(BankError, match="cannot be read"):
        stored.levels_for("a")


def test_absent_cut_foreign_and_newer_files(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no bank file"):
        Bank.load(tmp_path / "absent")
    bank().save(tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-7])
    with pytest.raises(BankError, match="damaged"):
        Bank.load(tmp_path / "cut")
    save_file({"levels": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(BankError, match="not a bank"):
        Bank.load(tmp_path / "foreign")
    save_file({"levels": torch.zeros(1)}, tmp_path / "newer", {"format": "bitterant-bank", "version": "99"})
    with pytest.raises(BankError, match="format 99"):
        Bank.load(tmp_path / "newer")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keys", "5"),
        ("keys", "null"),
        ("keys", '{"a": 1, "b": 2}'),
        ("keys", "[1, 2]"),
        ("keys", '"ab"'),
        ("keys", "[" * 100_000),
        ("seed", "many"),
        ("epsilon", "[]"),
        ("norm", "l2"),
        ("granularity", "folder"),
    ],
)
def test_metadata_of_another_kind_is_a_damaged_bank(tmp_path: Path, name: str, value: str) -> None:
    bank().save(tmp_path / "b")
    with safe_open(tmp_path / "b", framework="pt") as handle:
        metadata = handle.metadata()
    save_file(load_file(tmp_path / "b"), tmp_path / "odd", {**metadata, name: value})
    with pytest.raises(BankError):
        Bank.load(tmp_path / "odd")


def test_levels_that_are_no_whole_numbers_are_a_damaged_bank(tmp_path: Path) -> None:
    bank().save(tmp_path / "b")
    with safe_open(tmp_path / "b", framework="pt") as handle:
        metadata = handle.metadata()
    save_file({"levels": load_file(tmp_path / "b")["levels"].float() + 0.5}, tmp_path / "odd", metadata)
    with pytest.raises(BankError, match="F32"):
        Bank.load(tmp_path / "odd")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_precision_are_protected_alike(dtype: torch.dtype) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    tensor = (torch.from_numpy(image).permute(2, 0, 1).double() / 255).to(dtype)
    out = bank().apply(tensor, "a")
    assert (out.dtype, out.shape) == (dtype, tensor.shape)
    seen = (tensor.double() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()  # bfloat16 moves some by a level
    wanted = torch.from_numpy(bank().apply(seen, "a")).permute(2, 0, 1).double() / 255
    assert torch.equal(out, wanted.to(dtype))


def test_an_images_key_finds_the_pattern_of_its_class() -> None:
    image = np.full((4, 4, 3), 128, np.uint8)
    assert np.array_equal(bank().apply(image, "b/some-digest"), bank().apply(image, "b"))
    assert not np.array_equal(bank().apply(image, "b"), bank().apply(image, "a"))


def test_wrong_keys_and_wrong_images_are_explained() -> None:
    with pytest.raises(BankError, match="knows: a, b"):
        bank().apply(np.zeros((4, 4, 3), np.uint8), "c")
    with pytest.raises(ConfigError, match="shape"):
        bank().apply(np.zeros((4, 4, 2), np.uint8), "a")
    with pytest.raises(ConfigError):
        bank().apply(torch.zeros(1, 3, 4, 4), "a")
