"""What is told before the work about sizes, and after it about what a lossy format took away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.imaging import Budget, Picture, scan_folder
from bitterant.imaging.perturb import share_kept
from bitterant.protect.folder import plan as growth
from bitterant.protect.folder import protect_folder
from bitterant.protect.request import WriteConfig
from bitterant.records.config import FormatPolicy

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


@pytest.fixture
def photos(kit: Any) -> Any:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (kit.root / "src" / name).mkdir(parents=True)
        for i in range(2):
            smooth = np.linspace(0, 180, 160)[:, None, None] + rng.normal(30, 10, (120, 160, 160, 3))[0]
            Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8)).save(kit.root / f"src/{name}/{i}.jpg", quality=80)
    return kit


def test_a_folder_that_grows_much_is_told_before_the_work(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = scan_folder(photos.root / "src")
    assert growth.foresee_growth(scan, photos.root / "out", Budget(8 / 255), WriteConfig()) == []
    monkeypatch.setattr(growth, "WORTH_TELLING", 1000)
    (told,) = growth.foresee_growth(scan, photos.root / "out", Budget(8 / 255), WriteConfig())
    assert "4 pictures are written without loss. --format webp" in told
    (told,) = growth.foresee_growth(scan, photos.root / "out", Budget(8 / 255), WriteConfig(format="webp"))
    assert "--format" not in told
    assert growth.foresee_growth(scan, photos.root / "out", Budget(8 / 255), WriteConfig(format="same")) == []
    stages: list[str] = []
    protect_folder(
        photos.root / "src", photos.root / "out", **NOISE, progress=lambda *step: stages.append(step[0] + step[3])
    )
    place = next(i for i, text in enumerate(stages) if "will take about" in text)
    assert not any(text.startswith(("read", "fit", "write")) for text in stages[:place])


def test_lossless_webp_keeps_the_change_exactly_in_smaller_files(photos: Any) -> None:
    sizes = {}
    policies: tuple[tuple[FormatPolicy, str], ...] = (("lossless", "png"), ("webp", "webp"))
    for policy, suffix in policies:
        summary = protect_folder(photos.root / "src", photos.root / policy, **NOISE, format=policy)
        assert (summary.counts["protected"], summary.over_budget) == (4, 0)
        sizes[policy] = sum(path.stat().st_size for path in (photos.root / policy).rglob(f"*.{suffix}"))
        rows = photos.rows(photos.root / policy)
        assert all(row["linf_levels"] <= 8 and row["kept"] is None for row in rows)
    assert 0 < sizes["webp"] < sizes["lossless"]


def test_what_jpeg_leaves_of_the_change_is_measured_and_told(photos: Any) -> None:
    summary = protect_folder(photos.root / "src", photos.root / "out", **NOISE, format="same")
    kept = [row["kept"] for row in photos.rows(photos.root / "out")]
    assert all(0.3 < share <= 1 for share in kept)
    assert any(f"JPEG left {100 * sorted(kept)[1]:.0f} % of the change" in text for text in summary.warnings)


def test_the_share_by_hand() -> None:
    def picture(*values: int) -> Picture:
        return Picture(np.array(values, np.uint8).reshape(1, -1, 1))

    before, meant = picture(100, 100, 100), picture(104, 96, 100)
    assert share_kept(before, meant, meant) == 1.0
    assert share_kept(before, meant, before) == 0.0
    assert share_kept(before, meant, picture(102, 98, 150)) == 0.5
    assert share_kept(before, meant, picture(96, 104, 100)) == 0.0
    assert share_kept(before, before, meant) == 1.0
