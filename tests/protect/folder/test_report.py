"""The run file is valid and complete; the report is one self-contained page that tells the truth."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitterant.errors import ResumeError
from bitterant.imaging import flip_available
from bitterant.protect.folder import protect_folder
from bitterant.protect.folder.report import Histogram, flatten, tables
from bitterant.protect.folder.tally import Figure, Figures
from bitterant.records.manifest import ManifestRow
from bitterant.records.run_file import RunFile, json_safe, read_run_file

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


@pytest.fixture
def output(kit: Any, labelled: Any) -> Path:
    source = kit.folder(each=4)
    (source / "class0/<b>bad&.png").write_bytes(b"junk")
    (source / "notes.pdf").write_text("x")
    protect_folder(source, kit.root / "out", method=labelled(device="cpu", seed=3), resolution=16)
    return kit.root / "out"


# ------------------------------------------------------------------ run file
def test_the_run_file_validates_and_agrees_with_the_manifest(kit: Any, output: Path) -> None:
    run = read_run_file(output / "bitterant-run.json")
    assert run is not None
    rows = kit.rows(output)
    assert run.schema_version == 1
    assert (run.command, run.seed) == ("protect", 3)
    assert run.counts == {"protected": 8, "copied": 0, "skipped": 1, "failed": 1}
    assert sum(run.counts.values()) == len(rows)
    assert set(run.versions) == {"bitterant", "python", "torch", "numpy", "pillow", "scikit-learn"}
    assert run.fit == {"stop_rule": "at once", "self_check": {"accuracy": 0.25, "chance": 0.5}}
    ssim = sorted(row["ssim"] for row in rows if row["ssim"] is not None)
    assert run.stealth.ssim is not None
    assert run.stealth.ssim.minimum == ssim[0]
    assert run.stealth.ssim.median == pytest.approx(np.median(ssim), abs=1e-6)
    for name in ("ciede", "ciede_p95", "ciede_patches"):
        values = [row[name] for row in rows if row[name] is not None]
        assert len(values) == 8
        assert getattr(run.stealth, name).median == pytest.approx(np.median(values), abs=1e-6)
    assert run.stealth.flip_files == (8 if flip_available() else 0)
    assert (run.stealth.flip_reason is None) == flip_available()
    assert run.timing.total >= run.timing.write > 0
    assert run.bank_sha256 is None
    assert RunFile.model_validate_json(run.to_bytes()) == run


def test_no_path_of_the_machine_is_published(kit: Any, output: Path) -> None:
    for name in ("bitterant-run.json", "bitterant-manifest.jsonl", "bitterant-report.html"):
        assert str(kit.root) not in (output / name).read_text()


def test_a_damaged_run_file_says_how_to_start_again(tmp_path: Path) -> None:
    path = tmp_path / "bitterant-run.json"
    assert read_run_file(path) is None
    path.write_text('{"schema_version": 2}')
    with pytest.raises(ResumeError, match="--no-resume"):
        read_run_file(path)


def test_json_safe_makes_anything_strict_json() -> None:
    value = {1: (math.inf, math.nan, 1.5), "a\udcff": [None, True, Path("x")], "n": {"m": {3}}}
    text = json.dumps(json_safe(value), allow_nan=False)
    assert json.loads(text) == {"1": ["inf", "nan", 1.5], "a\\udcff": [None, True, "x"], "n": {"m": [3]}}


def figures(rows: list[ManifestRow]) -> Figures:
    added = Figures()
    for number, row in enumerate(rows):
        added.add(number, row)
    return added


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(30, 5, 999).round(3)
    rows = [ManifestRow("a", "a", "0", "0", "protected", linf_levels=8.0, psnr=float(value)) for value in values]
    for count in (1, 2, 19, 999):
        found = figures(rows[:count]).stealth().psnr
        assert found is not None
        told = [found.minimum, found.p05, found.median, found.p95, found.maximum]
        assert told == pytest.approx(np.quantile(values[:count], [0, 0.05, 0.5, 0.95, 1]), abs=1e-6)
        low, high = values[:count].min(), values[:count].max()
        if count > 1:
            counts, edges = figures(rows[:count]).of("psnr").histogram(24)
            meant = np.histogram(values[:count], 24, (low, high))
            assert (counts.tolist(), edges.tolist()) == (meant[0].tolist(), meant[1].tolist())


def test_pictures_that_did_not_change_are_counted_apart() -> None:
    same = ManifestRow("a", "a", "0", "0", "protected", linf_levels=0.0, psnr=None, ssim=1.0)
    other = ManifestRow("b", "b", "0", "0", "protected", linf_levels=8.0, psnr=33.0, ssim=0.9)
    failed = ManifestRow("c", None, "0", None, "failed")
    stealth = figures([same, other, failed]).stealth()
    assert stealth.unchanged == 1
    assert stealth.psnr is not None
    assert (stealth.psnr.minimum, stealth.psnr.maximum) == (33.0, 33.0)
    assert figures([failed]).stealth().ssim is None


# ------------------------------------------------------------------ report
class Page(HTMLParser):
    """Collects what the test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "src":
                self.images.append(value or "")
            elif name in ("href", "action", "data", "srcset"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += " " + data


def read(output: Path) -> Page:
    return Page((output / "bitterant-report.html").read_text(encoding="utf-8"))


def test_the_page_is_self_contained(output: Path) -> None:
    text = (output / "bitterant-report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert page.links == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(page.images) == 9
    assert all(uri.startswith("data:image/png;base64,") for uri in page.images)
    folded = text.index("<details>")
    assert text[:folded].count("<img") == 3, "first one picture, and what to do"
    assert text.index("Worst of all") < text.index("What to do next") < folded


def test_the_page_says_what_was_done_and_what_was_not(output: Path) -> None:
    text = " ".join(read(output).text.split())
    assert "8 of 10 files were written as protected copies with labelled (sample-wise)" in text
    assert "by more than 8 of 255 levels" in text
    for words in ("before", "after", "difference × 10", "at most 8 levels", "bitterant verify", "cannot promise"):
        assert words in text
    assert "self check: accuracy" in text
    assert "0.25" in text
    assert "class0/<b>bad&.png" in text
    assert "notes.pdf" in text
    assert "b" not in read(output).tags, "names are escaped"


def test_best_median_and_worst_are_those_of_the_manifest(kit: Any, output: Path) -> None:
    by = "flip" if flip_available() else "ciede_patches"
    ranked = sorted((row for row in kit.rows(output) if row[by] is not None), key=lambda row: row[by])
    assert len(ranked) == 8
    text = " ".join(read(output).text.split())
    for title, row in (("Best", ranked[0]), ("Median", ranked[len(ranked) // 2]), ("Worst", ranked[-1])):
        flip = f"FLIP {row['flip']:.3f}, " if flip_available() else ""
        colour = f"CIEDE2000 {row['ciede']:.1f}, of patches {row['ciede_patches']:.1f}"
        figures = f"{flip}{colour}, SSIM {row['ssim']:.3f}, {row['psnr']:.1f} dB"
        assert f"{title} of all: {figures} before {row['source']}" in text


def test_pictures_are_ranked_by_the_best_figure_that_all_have() -> None:
    def row(name: str, **figures: float) -> ManifestRow:
        return ManifestRow(name, name, "0", "0", "protected", linf_levels=8.0, **figures)  # type: ignore[arg-type]

    def ranked(rows: list[ManifestRow]) -> tuple[tuple[int, int, int] | None, str]:
        return figures(rows).ranked()

    old = [row("a", ssim=0.9), row("b", ssim=0.8), row("c", ssim=0.95)]
    assert ranked(old) == ((2, 0, 1), "ssim")
    some = [row("a", ssim=0.9, ciede_patches=1.0, flip=0.2), row("b", ssim=0.8, ciede_patches=0.5)]
    assert ranked(some) == ((1, 0, 0), "ciede_patches")
    full = [row("a", ssim=0.9, ciede_patches=1.0, flip=0.2), row("b", ssim=0.8, ciede_patches=0.5, flip=0.3)]
    failed = ManifestRow("c", None, "0", None, "failed")
    assert ranked([full[0], failed, full[1]]) == ((0, 2, 2), "flip")
    assert ranked([]) == (None, "ssim")


def test_a_placebo_is_called_one(kit: Any) -> None:
    protect_folder(kit.folder(), kit.root / "out", **NOISE)
    assert "It protects nothing" in " ".join(read(kit.root / "out").text.split())


def test_files_over_budget_are_said_plainly(kit: Any) -> None:
    kit.draw(kit.root / "src/a/x.jpg", 1)
    kit.draw(kit.root / "src/b/y.jpg", 2)
    protect_folder(kit.root / "src", kit.root / "out", **NOISE, format="same")
    text = " ".join(read(kit.root / "out").text.split())
    assert "2 files were written as JPEG, which changes pixels by more than the budget" in text


def test_many_problems_are_cut_but_counted(kit: Any) -> None:
    source = kit.folder()
    for index in range(130):
        (source / f"class0/bad{index:03}.png").write_bytes(b"")
    protect_folder(source, kit.root / "out", **NOISE)
    text = " ".join(read(kit.root / "out").text.split())
    assert "The first 100 of 130" in text
    assert "bad099.png" in text
    assert "bad100.png" not in text


def test_a_run_without_any_picture_protected_still_has_a_page(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitterant.protect.folder import writing

    monkeypatch.setattr(writing, "encode", lambda picture, format: b"junk")
    protect_folder(kit.folder(), kit.root / "out", **NOISE)
    assert read(kit.root / "out").images == []


def test_a_histogram_counts_every_value() -> None:
    values = [0.9, 0.91, 0.95, 0.95, 1.0]

    def figure(values: list[float]) -> Figure:
        rows = [ManifestRow("a", "a", "0", "0", "protected", linf_levels=8.0, ssim=value) for value in values]
        return figures([*rows, ManifestRow("b", "b", "0", "0", "protected")]).of("ssim")

    histogram = Histogram.of("SSIM", figure(values), ".2f")
    assert histogram is not None
    assert (histogram.low, histogram.high, histogram.median) == ("0.90", "1.00", "0.95")
    assert sum(int(bar.title.split(": ")[1].split()[0]) for bar in histogram.bars) == 5
    assert max(bar.height for bar in histogram.bars) == Histogram.HEIGHT
    assert histogram.median_x == pytest.approx(Histogram.WIDTH / 2)
    one = Histogram.of("SSIM", figure([0.5, 0.5]), ".2f")
    assert one is not None
    assert len(one.bars) == 1
    assert Histogram.of("SSIM", figure([]), ".2f") is None


def test_any_report_of_a_method_becomes_rows_and_tables() -> None:
    report = {
        "rounds": 3,
        "ok": True,
        "none": None,
        "self_check": {"accuracy": 0.123456, "results": [{"a": 1}, {"a": 2.0, "b": [1, 2]}]},
        "values": [1.0, 2.5],
        "empty": [],
        "many": list(range(20)),
    }
    assert flatten(report) == [
        ("rounds", "3"),
        ("ok", "yes"),
        ("self check: accuracy", "0.1235"),
        ("values", "1, 2.5"),
        ("empty", "none"),
        ("many", "20 values, the last: 19"),
    ]
    (table,) = tables(report)
    assert (table.title, table.columns, table.total) == ("self check: results", ("a", "b"), 2)
    assert table.rows == (("1", ""), ("2", "1, 2"))


def test_long_tables_are_cut_but_counted() -> None:
    (table,) = tables({"rounds": [{"loss": index} for index in range(80)]})
    assert (len(table.rows), table.total) == (50, 80)
