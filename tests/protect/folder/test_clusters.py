"""Folders without classes: clusters take the place of labels, and a bank of clusters takes new pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import BankError
from bitterant.imaging import load_image_set, scan_folder
from bitterant.protect import apply_folder, fit_folder, load_bank, protect_folder, read_manifest
from bitterant.protect.clusters import assign, extractor_of, open_space

QUICK = {"rounds": 2, "updates": 2, "attempts": 0, "objective": "labels"}
OPTIONS: dict[str, dict[str, Any]] = {
    "uc": {"method": "uc", "device": "cpu", "resolution": 16, "parameters": QUICK},
    "texture": {"method": "texture", "device": "cpu", "resolution": 16, "granularity": "cluster", "seed": 0},
}
Fitted = tuple[Path, Path, Path, dict[str, Any]]


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


@pytest.fixture(
    scope="module",
    params=[("uc", "small-cnn"), ("texture", "small-cnn"), ("texture", "efficientnet-lite0")],
    ids="-".join,
)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A flat folder, its protected copy, the bank, and how it was made: one surrogate looks at working images, one at
    pictures."""
    place = tmp_path_factory.mktemp("flat")
    source = draw(place / "photos", 24, seed=0)
    method, surrogate = request.param
    how = {**OPTIONS[method], "surrogate": surrogate}
    summary = protect_folder(source, place / "out", bank=place / "kept.bank", **how)
    assert summary.exit_code == 0
    assert any("Without classes" in text for text in summary.warnings)
    return source, place / "out", place / "kept.bank", how


def test_a_flat_folder_is_protected_without_being_told_how(fitted: Fitted) -> None:
    _, out, bank, _ = fitted
    levels = load_bank(bank).budget.whole_levels
    rows = read_manifest(out / "bitterant-manifest.jsonl").rows
    assert len(rows) == 24
    assert all(row.status == "protected" and 0 < (row.linf_levels or 0) <= levels for row in rows)
    assert len({row.key for row in rows}) > 1
    assert all((row.key or "").startswith("cluster-") for row in rows)


def test_applying_the_bank_to_the_same_pictures_gives_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    source, out, bank, _ = fitted
    apply_folder(source, tmp_path / "again", bank=bank, device="cpu")
    for path in sorted(out.glob("*.png")):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_pictures_the_bank_has_forgotten_are_looked_at_as_in_the_fit(fitted: Fitted, tmp_path: Path) -> None:
    source, out, bank, _ = fitted
    known = load_bank(bank)
    assert known.clusters is not None
    replace(known, clusters=replace(known.clusters, members={})).save(tmp_path / "forgetful.bank")
    apply_folder(source, tmp_path / "again", bank=tmp_path / "forgetful.bank", device="cpu")
    before, after = (
        {row.source: row.key for row in read_manifest(folder / "bitterant-manifest.jsonl").rows}
        for folder in (out, tmp_path / "again")
    )
    assert before == after
    assert len(set(after.values())) > 1


def test_new_pictures_get_a_pattern_and_their_company_does_not_matter(fitted: Fitted, tmp_path: Path) -> None:
    _, _, bank, _ = fitted
    many = draw(tmp_path / "many", 9, seed=5)
    summary = apply_folder(many, tmp_path / "many-out", bank=bank, device="cpu")
    assert summary.counts["protected"] == 9
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.png").write_bytes((many / "04.png").read_bytes())
    apply_folder(tmp_path / "one", tmp_path / "one-out", bank=bank, device="cpu")
    assert (tmp_path / "one-out" / "x.png").read_bytes() == (tmp_path / "many-out" / "04.png").read_bytes()


def test_fit_and_apply_give_what_protect_gives(fitted: Fitted, tmp_path: Path) -> None:
    source, _, kept, how = fitted
    fit_folder(source, tmp_path / "own.bank", **how)
    assert (tmp_path / "own.bank").read_bytes() == kept.read_bytes()


def test_class_folders_do_not_change_the_noise(fitted: Fitted, tmp_path: Path) -> None:
    source, out, _, how = fitted
    for path in sorted(source.glob("*.png")):
        target = tmp_path / "classes" / ("a" if int(path.stem) % 3 else "b") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    protect_folder(tmp_path / "classes", tmp_path / "out", **how)
    for path in sorted((tmp_path / "out").rglob("*.png")):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_clusters_are_found_at_more_detail_than_the_working_images_have(fitted: Fitted) -> None:
    *_, bank, how = fitted
    clusters = load_bank(bank).clusters
    assert clusters is not None
    assert clusters.feature_size == (224 if how["surrogate"] == "efficientnet-lite0" else 0)


def test_a_set_without_those_details_is_not_guessed_at(fitted: Fitted) -> None:
    source, _, kept, _ = fitted
    bank = load_bank(kept)
    dataset, _, _ = load_image_set(scan_folder(source), bank.resolution)
    space = open_space(bank)
    if extractor_of(bank, space) is None:
        assert assign(bank, dataset, space).clusters is not None
        return
    with pytest.raises(BankError, match="pictures of 224 px"):
        assign(bank, dataset, space)


@pytest.mark.parametrize("method", OPTIONS)
def test_other_weights_than_those_of_the_fit_are_refused(method: str, tmp_path: Path) -> None:
    fit_folder(draw(tmp_path / "photos", 8, seed=0), tmp_path / "bank", surrogate="small-cnn", **OPTIONS[method])
    other = replace(load_bank(tmp_path / "bank"), seed=1)
    with pytest.raises(BankError, match="other weights of small-cnn"):
        apply_folder(draw(tmp_path / "new", 2, seed=7), tmp_path / "out", bank=other, device="cpu")


def test_files_in_another_order_give_the_same_noise(fitted: Fitted, tmp_path: Path) -> None:
    source, out, _, how = fitted
    (tmp_path / "renamed").mkdir()
    for path in source.glob("*.png"):
        (tmp_path / "renamed" / f"{99 - int(path.stem)}.png").write_bytes(path.read_bytes())
    protect_folder(tmp_path / "renamed", tmp_path / "out", **how)
    for path in (tmp_path / "out").glob("*.png"):
        assert path.read_bytes() == (out / f"{99 - int(path.stem):02d}.png").read_bytes()
