"""Folders as people have them: what is protected, under which class, what is copied, and what the summary says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import FolderError
from bitterant.protect.folder import protect_folder

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


def statuses(kit: Any, output: Path) -> dict[str, str]:
    return {row["source"]: row["status"] for row in kit.rows(output)}


def test_classes_are_found_below_train_and_test_and_are_one_across_them(kit: Any) -> None:
    for part in ("train", "Test"):
        for name in ("cats", "dogs"):
            for i in range(2):
                kit.draw(kit.root / f"src/{part}/{name}/{i}.png", hash((part, name, i)) % 1000)
    told: list[str] = []

    def listen(stage: str, done: float, total: float, message: str = "") -> None:
        if stage == "found":
            told.append(message)

    protect_folder(kit.root / "src", kit.root / "out", method="texture", device="cpu", progress=listen)
    keys = {row["source"]: row["key"] for row in kit.rows(kit.root / "out")}
    assert len(keys) == 8
    assert {key.split("/")[0] for key in keys.values()} == {"cats", "dogs"}
    assert told == ["8 pictures in 2 classes below Test, train: cats, dogs"]


def test_loose_pictures_are_protected_and_the_summary_says_how(kit: Any) -> None:
    for i in range(5):
        kit.draw(kit.root / f"src/{i}.jpg", i)
    kit.draw(kit.root / "src/scraps/a.jpg", 9)
    summary = protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    assert set(statuses(kit, kit.root / "out").values()) == {"protected"}
    assert summary.exit_code == 0
    assert any("5 of 6 pictures lie in no class folder" in text for text in summary.warnings)


def test_label_maps_are_copied_byte_for_byte(kit: Any) -> None:
    for i in range(3):
        kit.draw(kit.root / f"src/images/{i}.jpg", i)
        values = Image.fromarray((np.indices((24, 20)).sum(0) // 12).astype(np.uint8))
        (kit.root / "src/masks").mkdir(exist_ok=True)
        values.save(kit.root / f"src/masks/{i}.png")
    summary = protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    assert summary.counts == {"protected": 3, "copied": 3, "skipped": 0, "failed": 0}
    for i in range(3):
        assert (kit.root / f"out/masks/{i}.png").read_bytes() == (kit.root / f"src/masks/{i}.png").read_bytes()
    assert any("3 label maps in masks/" in text for text in summary.warnings)
    again = protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    assert again.already_done


def test_a_run_that_leaves_most_pictures_out_says_so_and_fails(kit: Any) -> None:
    kit.draw(kit.root / "src/a/0.png", 0)
    for i in range(2):
        kit.draw(kit.root / f"src/a/{i}.gif", i)
    summary = protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    assert (summary.unprotected, summary.counts["protected"]) == (2, 1)
    assert summary.exit_code == 1
    assert "2 of 3 are not in the output" in summary.headline
    kit.draw(kit.root / "src/a/1.png", 1)
    summary = protect_folder(kit.root / "src", kit.root / "even", **NOISE)
    assert summary.exit_code == 0
    assert "NOT" not in summary.headline


@pytest.fixture
def linked(kit: Any) -> Path:
    for name in ("a", "b"):
        for i in range(2):
            kit.draw(kit.root / f"blobs/{name}{i}.png", ord(name) + i)
            link = kit.root / f"src/{name}/{i}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(kit.root / f"blobs/{name}{i}.png")
            except OSError:
                pytest.skip("this system makes no symbolic links")
    return kit.root / "src"


def test_links_are_explained_and_followed_when_asked(kit: Any, linked: Path) -> None:
    with pytest.raises(FolderError, match=r"4 symbolic links.*--follow-links"):
        protect_folder(linked, kit.root / "out", **NOISE)
    before = kit.tree(kit.root / "blobs")
    summary = protect_folder(linked, kit.root / "out", **NOISE, follow_links=True)
    assert summary.counts["protected"] == 4
    assert kit.tree(kit.root / "blobs") == before
    assert not (kit.root / "out/a/0.png").is_symlink()


def test_links_into_the_output_are_refused(kit: Any, linked: Path) -> None:
    (kit.root / "out").mkdir()
    kit.draw(kit.root / "out/x.png", 1)
    (linked / "a/x.png").symlink_to(kit.root / "out/x.png")
    with pytest.raises(FolderError, match="leads into the output folder"):
        protect_folder(linked, kit.root / "out", **NOISE, follow_links=True)


def test_one_picture_is_protected_alone(kit: Any) -> None:
    kit.draw(kit.root / "photos/1.jpg", 1)
    kit.draw(kit.root / "photos/2.jpg", 2)
    summary = protect_folder(kit.root / "photos/1.jpg", kit.root / "out", **NOISE)
    assert summary.counts == {"protected": 1, "copied": 0, "skipped": 0, "failed": 0}
    assert (kit.root / "out/1.png").is_file()
    with pytest.raises(FolderError, match="contains the source"):
        protect_folder(kit.root / "photos/1.jpg", kit.root / "photos", **NOISE)
