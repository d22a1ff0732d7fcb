"""Folders without classes: clusters take the place of labels, and a bank of clusters takes new pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import BankError
from bitterant.protect import apply_folder, fit_folder, load_bank, protect_folder, read_manifest

OPTIONS = {"surrogate": "small-cnn", "device": "cpu", "resolution": 16}


def draw(folder: Path, count: int, seed: int) -> Path:
    """Flat folder of stripes in two directions and several colours, 40 x 30 px."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        wave = np.sin(np.arange(40 if number % 2 else 30) * rng.uniform(0.3, 0.9))
        plane = np.tile(wave, (30, 1)) if number % 2 else np.tile(wave[:, None], (1, 40))
        pixels = 128 + 70 * plane[:, :, None] * rng.uniform(0.3, 1, 3) + rng.normal(0, 4, (30, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A flat folder, its protected copy and the bank."""
    place = tmp_path_factory.mktemp("flat")
    source = draw(place / "photos", 24, seed=0)
    summary = protect_folder(source, place / "out", bank=place / "kept.bank", **OPTIONS)  # type: ignore[call-overload]
    assert summary.exit_code == 0
    return source, place / "out", place / "kept.bank"


def test_a_flat_folder_is_protected_without_being_told_how(fitted: tuple[Path, Path, Path]) -> None:
    _, out, _ = fitted
    rows = read_manifest(out / "bitterant-manifest.jsonl").rows
    assert len(rows) == 24
    assert all(row.status == "protected" and 0 < (row.linf_levels or 0) <= 8 for row in rows)
    assert len({row.key for row in rows}) > 1
    assert all((row.key or "").startswith("cluster-") for row in rows)


def test_applying_the_bank_to_the_same_pictures_gives_the_same_bytes(
    fitted: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    source, out, bank = fitted
    apply_folder(source, tmp_path / "again", bank=bank, device="cpu")
    for path in sorted(out.glob("*.png")):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_new_pictures_get_a_pattern_and_their_company_does_not_matter(
    fitted: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, _, bank = fitted
    many = draw(tmp_path / "many", 9, seed=5)
    summary = apply_folder(many, tmp_path / "many-out", bank=bank, device="cpu")
    assert summary.counts["protected"] == 9
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.png").write_bytes((many / "04.png").read_bytes())
    apply_folder(tmp_path / "one", tmp_path / "one-out", bank=bank, device="cpu")
    assert (tmp_path / "one-out" / "x.png").read_bytes() == (tmp_path / "many-out" / "04.png").read_bytes()


def test_fit_and_apply_give_what_protect_gives(fitted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    source, _, kept = fitted
    fit_folder(source, tmp_path / "own.bank", **OPTIONS)  # type: ignore[arg-type]
    assert (tmp_path / "own.bank").read_bytes() == kept.read_bytes()


def test_class_folders_do_not_change_the_noise(fitted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    source, out, _ = fitted
    for path in sorted(source.glob("*.png")):
        target = tmp_path / "classes" / ("a" if int(path.stem) % 3 else "b") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    protect_folder(tmp_path / "classes", tmp_path / "out", method="uc", **OPTIONS)  # type: ignore[call-overload]
    for path in sorted((tmp_path / "out").rglob("*.png")):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_other_weights_than_those_of_the_fit_are_refused(fitted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, _, bank = fitted
    other = replace(load_bank(bank), seed=1)
    with pytest.raises(BankError, match="other weights of small-cnn"):
        apply_folder(draw(tmp_path / "new", 2, seed=7), tmp_path / "out", bank=other, device="cpu")
