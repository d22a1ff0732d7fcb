"""The three steps with real photographs and what people wrote about them. Needs a file beside the repository."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from bitterant.errors import BundleError
from bitterant.protect.zero_contact import apply_bundle, ask_for_folder, generate_bundle, write_asked

ARCHIVE = Path(__file__).resolve().parents[4] / "shared" / "data" / "coco_mini_captions_ccby.zip"

pytestmark = pytest.mark.skipif(not ARCHIVE.is_file(), reason="the captioned photographs are not beside the repository")


def test_from_captions_to_protected_photographs(tmp_path: Path, noise_source: Callable[[int], Any]) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "data")
    folder = tmp_path / "data"
    rows = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    table = [{"file_name": row["file"], "captions": row["captions"]} for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, table)), encoding="utf-8")

    asked = ask_for_folder(folder, secret=bytes(range(32)))
    write_asked(asked, tmp_path / "r.jsonl", tmp_path / "r.map.json")
    text = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    photos = sorted(folder.rglob("*.jpg"))
    assert len(photos) == len(asked.request.rows) == len(text.splitlines())
    assert all(set(json.loads(line)) == {"id", "prompt"} for line in text.splitlines())
    assert not any(photo.stem in text for photo in photos)

    bundle = generate_bundle(
        asked.request, noise_source(64), tmp_path / "n.noise.safetensors", secret=b"the server's own secret"
    )
    bad = tmp_path / "bad.noise.safetensors"
    bad.write_bytes(bundle.path.read_bytes()[:-1])
    with pytest.raises(BundleError):
        apply_bundle(folder, bad, tmp_path / "r.map.json", tmp_path / "protected")
    assert not (tmp_path / "protected").exists()

    summary = apply_bundle(folder, bundle, tmp_path / "r.map.json", tmp_path / "protected")
    assert summary.counts["protected"] == len(photos)
    assert summary.over_budget == 0
    for photo in photos:
        before = ImageOps.exif_transpose(Image.open(photo))
        after = Image.open(tmp_path / "protected" / photo.relative_to(folder).with_suffix(".png"))
        assert after.mode == before.mode
        assert 0 < np.abs(np.asarray(after, dtype=int) - np.asarray(before, dtype=int)).max() <= 8
