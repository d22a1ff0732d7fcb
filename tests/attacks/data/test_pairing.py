"""Which copy belongs to which original."""

from __future__ import annotations

import json
from pathlib import Path

from bitterant.attacks.data.pairing import pair_folders, read_manifest_rows
from bitterant.imaging import scan_folder


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def pairs_of(clean: Path, protected: Path) -> tuple[dict[str, str], dict[str, str]]:
    pairs, issues = pair_folders(scan_folder(clean), scan_folder(protected), read_manifest_rows(protected))
    return {p.clean.relative: p.protected.relative for p in pairs}, {issue.path: issue.kind for issue in issues}


def test_pairs_by_path_whatever_the_extension(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.jpg", "a/2.png", "b/deep/1.JPG", "b/2.jpg", "b/2.png")
    protected = touch(tmp_path / "out", "a/1.png", "a/2.png", "b/deep/1.png", "b/2.jpg.png", "b/2.png")
    pairs, issues = pairs_of(clean, protected)
    assert pairs == {
        "a/1.jpg": "a/1.png",
        "a/2.png": "a/2.png",
        "b/deep/1.JPG": "b/deep/1.png",
        "b/2.jpg": "b/2.jpg.png",
        "b/2.png": "b/2.png",
    }
    assert issues == {}


def test_the_manifest_goes_before_names(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg")
    protected = touch(tmp_path / "out", "a/1.png", "a/other.png", "b/1.png")
    rows = [
        {"source": "a/1.jpg", "output": None, "status": "failed", "reason": "first try"},
        {"source": "a/1.jpg", "output": "a/other.png", "status": "protected"},
        {"source": "a/2.jpg", "output": "a/1.png", "status": "protected"},
        {"source": "a/3.jpg", "output": None, "status": "skipped", "reason": "CMYK"},
        {"source": "notes.txt", "output": "notes.txt", "status": "copied"},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"source": "b/'  # a killed run leaves half a line
    (protected / "bitterant-manifest.jsonl").write_text(text)
    pairs, issues = pairs_of(clean, protected)
    assert pairs == {"a/1.jpg": "a/other.png", "a/2.jpg": "a/1.png", "b/1.jpg": "b/1.png"}
    assert issues == {"a/3.jpg": "missing"}


def test_missing_extra_and_relabelled_files_are_listed(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.png", "a/2.png", "b/3.png", "b/4.png")
    protected = touch(tmp_path / "out", "a/1.png", "a/3.png", "b/4.png", "b/9.png")
    pairs, issues = pairs_of(clean, protected)
    assert set(pairs) == {"a/1.png", "b/4.png"}
    assert issues == {"a/2.png": "missing", "b/3.png": "relabelled", "b/9.png": "extra"}


def test_a_class_of_another_name_is_relabelled(tmp_path: Path) -> None:
    clean = touch(tmp_path / "clean", "a/1.png", "b/2.png")
    protected = touch(tmp_path / "out", "a/1.png", "c/2.png")
    assert pairs_of(clean, protected) == ({"a/1.png": "a/1.png"}, {"b/2.png": "relabelled"})
