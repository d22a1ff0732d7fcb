"""Whole folders: every file is accounted for, on disk the budget holds, and nothing else changes."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from bitterant.errors import ImageError, LabelError, ResumeError
from bitterant.imaging import Budget, Picture, decode, flip_available, scan_folder
from bitterant.imaging.scan import OWN_NAMES, OWN_PREFIXES
from bitterant.imaging.visibility import SEEN
from bitterant.protect.bank import Bank
from bitterant.protect.folder import apply_folder, fit_folder, protect_folder, run, writing
from bitterant.protect.methods import create_method
from bitterant.records import places
from bitterant.records.manifest import MANIFEST_NAME
from bitterant.records.run_file import REPORT_NAME, RUN_FILE_NAME
from bitterant.records.run_state import STATE_PREFIX

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


@pytest.fixture
def mixed(kit: Any) -> Path:
    """All formats and modes, captions, and files that are wrong in every way."""
    source = kit.folder()
    kit.draw(source / "class0/photo.jpg", 20, quality=92)
    kit.draw(source / "class0/photo.png", 21)
    kit.draw(source / "class0/grey.jpeg", 22, mode="L")
    kit.draw(source / "class0/deep/er/alpha.png", 23, mode="RGBA")
    kit.draw(source / "class1/palette.png", 24, mode="P")
    kit.draw(source / "class1/lossless.webp", 25, lossless=True)
    kit.draw(source / "class1/scan.tif", 26)
    kit.draw(source / "class1/old.bmp", 27)
    Image.fromarray(np.arange(24 * 20, dtype=np.uint16).reshape(24, 20) * 90).save(source / "class1/sixteen.png")
    (source / "class0/zero.png").write_bytes(b"")
    (source / "class1/cut.png").write_bytes((source / "class1/0.png").read_bytes()[:-40])
    kit.draw(source / "class1/print.jpg", 28, mode="CMYK")
    (source / "class0/photo.txt").write_text("a caption")
    (source / "metadata.jsonl").write_text('{"file_name": "class0/photo.jpg", "text": "x"}\n')
    (source / "readme.pdf").write_text("x")
    (source / ".DS_Store").write_text("x")
    kit.draw(source / "stray.png", 29)
    (source / "class1/link.png").symlink_to(source / "class0/0.png")
    return source


def oracle_levels(before: Path, after: Path) -> int:
    """Largest difference in 8-bit levels, by plain Pillow and integers."""
    one, two = (np.asarray(Image.open(path).convert("RGB"), np.int64) for path in (before, after))
    return int(np.abs(one - two).max())


def test_every_input_is_accounted_for_and_keeps_the_budget(kit: Any, mixed: Path) -> None:
    before = kit.tree(mixed)
    output = kit.root / "out"
    summary = protect_folder(mixed, output, **NOISE)
    assert kit.tree(mixed) == before, "originals are never touched"
    rows = {row["source"]: row for row in kit.rows(output)}
    on_disk = {path.relative_to(mixed).as_posix() for path in mixed.rglob("*") if not path.is_dir()}
    assert set(rows) == on_disk
    assert [os.fsencode(name) for name in rows] == sorted(os.fsencode(name) for name in rows)
    assert summary.counts == {"protected": 16, "copied": 2, "skipped": 3, "failed": 3}
    assert (summary.inputs, summary.exit_code, summary.over_budget) == (len(on_disk), 1, 0)

    written = {name for name in kit.tree(output) if not name.startswith("bitterant-")}
    assert written == {row["output"] for row in rows.values() if row["output"]}
    assert written == {row["output"] for row in rows.values() if row["status"] in ("protected", "copied")}
    for row in rows.values():
        if row["status"] != "skipped" and row["sha256_in"] is not None:
            assert row["sha256_in"] == hashlib.sha256((mixed / row["source"]).read_bytes()).hexdigest()
        if row["output"]:
            assert row["sha256_out"] == hashlib.sha256((output / row["output"]).read_bytes()).hexdigest()
        if row["status"] == "protected":
            image = Image.open(output / row["output"])
            assert (row["width"], row["height"], row["mode"], row["format"]) == (*image.size, image.mode, image.format)
            if "sixteen" not in row["source"]:
                assert oracle_levels(mixed / row["source"], output / row["output"]) == row["linf_levels"]
            assert 1 <= row["linf_levels"] <= 8
            assert 20 < row["psnr"] < 60
            assert 0 < row["ssim"] <= 1
            assert 0 < row["ciede"] <= row["ciede_p95"] < 20
            assert 0 < row["ciede_patches"] < 20
            assert (row["flip"] is None) != flip_available()
            folder, slash, _ = row["source"].partition("/")
            assert row["key"] == f"{folder if slash else '.'}/{row['sha256_in']}"
        if row["status"] in ("failed", "skipped"):
            assert row["reason"]


def test_names_formats_and_modes_are_kept_but_jpeg_becomes_png(kit: Any, mixed: Path) -> None:
    protect_folder(mixed, kit.root / "out", **NOISE)
    rows = {row["source"]: row for row in kit.rows(kit.root / "out")}
    assert rows["class0/photo.jpg"]["output"] == "class0/photo.jpg.png"
    assert rows["class0/photo.png"]["output"] == "class0/photo.png"
    assert (rows["class0/grey.jpeg"]["output"], rows["class0/grey.jpeg"]["mode"]) == ("class0/grey.png", "L")
    assert rows["class0/deep/er/alpha.png"]["mode"] == "RGBA"
    for name, fmt in (("lossless.webp", "WEBP"), ("scan.tif", "TIFF"), ("old.bmp", "BMP"), ("sixteen.png", "PNG")):
        row = rows[f"class1/{name}"]
        assert (row["output"], row["format"]) == (f"class1/{name}", fmt)
    assert rows["class1/sixteen.png"]["mode"].startswith("I;16")
    caption = json.loads((kit.root / "out/metadata.jsonl").read_text())
    assert caption["file_name"] == "class0/photo.jpg.png"
    assert (kit.root / "out/class0/photo.txt").read_text() == "a caption"
    protected, original = decode(kit.root / "out/class0/deep/er/alpha.png"), decode(mixed / "class0/deep/er/alpha.png")
    assert protected.alpha is not None
    assert original.alpha is not None
    assert np.array_equal(protected.alpha, original.alpha)


def test_the_output_is_a_drop_in_image_folder(kit: Any, mixed: Path) -> None:
    protect_folder(mixed, kit.root / "out", **NOISE)
    scan = scan_folder(kit.root / "out")
    assert scan.classes == (".", "class0", "class1")
    assert not [path for path in (kit.root / "out").iterdir() if path.is_dir() and path.name not in scan.classes]


def test_problems_are_listed_and_strict_makes_skips_count(kit: Any) -> None:
    source = kit.folder()
    (source / "notes.pdf").write_text("x")
    (source / ".hidden").write_text("x")
    summary = protect_folder(source, kit.root / "out", **NOISE)
    assert [problem.relative for problem in summary.problems] == ["notes.pdf"]
    assert summary.exit_code == 0
    assert protect_folder(source, kit.root / "strict", **NOISE, strict=True).exit_code == 1
    (source / "notes.pdf").unlink()
    assert protect_folder(source, kit.root / "clean", **NOISE, strict=True).exit_code == 0


def test_jpeg_kept_as_jpeg_is_counted_when_over_budget(kit: Any) -> None:
    source = kit.root / "src"
    for index in range(2):
        kit.draw(source / f"class{index}/photo.jpg", index, quality=90)
    summary = protect_folder(source, kit.root / "out", **NOISE, format="same")
    rows = kit.rows(kit.root / "out")
    assert all(row["output"] == row["source"] and row["format"] == "JPEG" for row in rows)
    over = [row for row in rows if row["linf_levels"] > 8]
    assert summary.over_budget == len(over) == 2
    assert all("over budget" in row["reason"] for row in over)
    for row in rows:
        assert oracle_levels(source / row["source"], kit.root / "out" / row["output"]) == row["linf_levels"]
    assert "over the budget" in summary.headline
    assert any("JPEG" in text for text in summary.warnings)


def test_the_orientation_is_applied_and_rights_are_kept(kit: Any) -> None:
    source = kit.folder()
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "(c) somebody"
    kit.draw(source / "class0/turned.jpg", 5, size=(30, 20), exif=exif)
    protect_folder(source, kit.root / "out", **NOISE)
    image = Image.open(kit.root / "out/class0/turned.png")
    assert image.size == (20, 30)
    assert 0x0112 not in image.getexif()
    assert image.getexif()[0x8298] == "(c) somebody"
    protect_folder(source, kit.root / "bare", **NOISE, metadata="strip")
    assert 0x8298 not in Image.open(kit.root / "bare/class0/turned.png").getexif()


def test_the_result_depends_on_neither_workers_nor_names(kit: Any) -> None:
    source = kit.folder(each=5)
    protect_folder(source, kit.root / "one", **NOISE, workers=1)
    protect_folder(source, kit.root / "four", **NOISE, workers=4)
    assert kit.result(kit.root / "one") == kit.result(kit.root / "four")
    pixels = decode(kit.root / "one/class0/2.png").pixels
    (source / "class0/2.png").rename(source / "class0/renamed.png")
    protect_folder(source, kit.root / "renamed", **NOISE)
    assert np.array_equal(decode(kit.root / "renamed/class0/renamed.png").pixels, pixels)


def test_no_bank_and_no_state_is_left_in_the_output(kit: Any) -> None:
    protect_folder(kit.folder(), kit.root / "out", **NOISE)
    roots = {path.name for path in (kit.root / "out").iterdir()}
    ours = {"bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html"}
    assert roots == {"class0", "class1", *ours}


def test_a_kept_bank_applied_alone_gives_the_same_files(kit: Any, mixed: Path) -> None:
    bank = kit.root / "keep" / "my.bank"
    summary = protect_folder(mixed, kit.root / "out", **NOISE, bank=bank)
    assert summary.bank == bank
    for given_bank in (bank, Bank.load(bank)):
        output = kit.root / f"applied-{type(given_bank).__name__}"
        applied = apply_folder(mixed, output, bank=given_bank)
        assert applied.counts == summary.counts
        assert kit.result(output) == kit.result(kit.root / "out")
    fitted = fit_folder(mixed, kit.root / "fit.bank", **NOISE)
    assert (fitted.images, fitted.exit_code, len(fitted.problems)) == (16, 1, 3)
    assert torch.equal(Bank.load(kit.root / "fit.bank").levels, Bank.load(bank).levels)


def test_a_class_bank_protects_new_pictures_of_its_classes_and_no_others(kit: Any) -> None:
    source = kit.folder()
    fit_folder(source, kit.root / "my.bank", **NOISE, granularity="class")
    kit.draw(source / "class0/new.png", 50)
    kit.draw(source / "class9/other.png", 51)
    summary = apply_folder(source, kit.root / "out", bank=kit.root / "my.bank")
    assert summary.counts == {"protected": 7, "copied": 0, "skipped": 1, "failed": 0}
    assert [problem.relative for problem in summary.problems] == ["class9/other.png"]
    assert not (kit.root / "out/class9").exists(), "what is not protected is not copied"


def test_a_method_object_brings_its_own_settings(kit: Any, labelled: Any) -> None:
    from bitterant.imaging import Budget

    method = labelled(budget=Budget(3 / 255), granularity="class", seed=5, device="cpu")
    protect_folder(kit.folder(), kit.root / "out", method=method)
    run = json.loads((kit.root / "out/bitterant-run.json").read_text())
    found = [run["settings"][name] for name in ("method", "granularity", "seed", "epsilon")]
    assert found == ["labelled", "class", 5, 3 / 255]
    assert run["seed"] == 5
    assert {row["linf_levels"] for row in kit.rows(kit.root / "out")} == {3.0}


def test_a_source_without_classes_works_where_no_labels_are_needed(kit: Any) -> None:
    kit.draw(kit.root / "flat/one.png", 1)
    kit.draw(kit.root / "flat/two.jpg", 2)
    summary = protect_folder(kit.root / "flat", kit.root / "out", **NOISE)
    assert summary.counts["protected"] == 2
    assert [row["key"] for row in kit.rows(kit.root / "out")] == [
        row["sha256_in"] for row in kit.rows(kit.root / "out")
    ]


def test_copies_of_one_picture_get_one_perturbation(kit: Any) -> None:
    source = kit.folder()
    (source / "class0/copy.png").write_bytes((source / "class0/0.png").read_bytes())
    protect_folder(source, kit.root / "out", **NOISE)
    assert (kit.root / "out/class0/copy.png").read_bytes() == (kit.root / "out/class0/0.png").read_bytes()


def test_pixel_limits_hold(kit: Any) -> None:
    source = kit.folder()
    kit.draw(source / "class0/large.png", 3, size=(60, 60))
    summary = protect_folder(source, kit.root / "out", **NOISE, max_pixels=1000)
    assert [(problem.relative, "--max-pixels" in problem.reason) for problem in summary.problems] == [
        ("class0/large.png", True)
    ]


# ------------------------------------------------------------------ read back
def _inverted_corner(data: bytes) -> bytes:
    pixels = np.array(Image.open(io.BytesIO(data)))
    pixels[0, 0] ^= 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("liar", ["disk", "encoder"])
def test_bytes_that_decode_to_too_large_a_change_are_thrown_away(
    kit: Any, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    """The check reads the disk, not the memory: a disk or an encoder that changes pixels is found out."""
    write, encode = writing.write_atomic, writing.encode

    def lying_disk(path: Path, data: bytes, **options: Any) -> None:
        write(path, _inverted_corner(data) if path.name == "1.png" else data, **options)

    def lying_encoder(picture: Picture, *, format: str) -> bytes:
        data = encode(picture, format=format)
        return _inverted_corner(data) if picture.source.endswith("1.png") else data

    if liar == "disk":
        monkeypatch.setattr(writing, "write_atomic", lying_disk)
    else:
        monkeypatch.setattr(writing, "encode", lying_encoder)
    source, output = kit.folder(), kit.root / "out"
    summary = protect_folder(source, output, **NOISE)
    assert summary.counts == {"protected": 4, "copied": 0, "skipped": 0, "failed": 2}
    assert summary.exit_code == 1
    for problem in summary.problems:
        assert "read back from disk" in problem.reason
        assert not (output / problem.relative).exists()


def test_a_file_that_cannot_be_read_back_is_removed(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "encode", lambda picture, format: b"not an image")
    source, output = kit.folder(), kit.root / "out"
    summary = protect_folder(source, output, **NOISE)
    assert summary.counts["failed"] == 6
    assert not [name for name in kit.tree(output) if name.endswith(".png")]


def test_a_source_that_changes_under_way_fails_alone(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "fit":
            kit.draw(source / "class1/1.png", 77)

    summary = protect_folder(source, output, **NOISE, progress=progress)
    assert [(problem.relative, problem.reason) for problem in summary.problems] == [
        ("class1/1.png", "the file changed while the run was under way")
    ]
    assert not (output / "class1/1.png").exists()


def test_a_file_that_could_be_read_only_later_is_not_said_to_have_changed(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output, bank = kit.folder(), kit.root / "out", kit.root / "bank"
    fit_folder(source, bank, **NOISE)
    real = places.sha256_file

    def sha256_file(path: Path) -> str:
        if path.match("class1/1.png"):
            raise OSError("the disk is slow today")
        return real(path)

    monkeypatch.setattr(places, "sha256_file", sha256_file)
    (problem,) = apply_folder(source, output, bank=bank).problems
    assert (problem.relative, "when the run began" in problem.reason) == ("class1/1.png", True)
    assert not (output / "class1/1.png").exists()
    monkeypatch.undo()
    with pytest.raises(ResumeError, match=r"class1/1\.png.*--no-resume"):
        apply_folder(source, output, bank=bank)
    assert "--no-resume" in problem.reason  # what it says to do is what helps
    assert apply_folder(source, output, bank=bank, resume=False).exit_code == 0


def test_a_folder_that_cannot_be_read_is_a_failure(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output, bank = kit.folder(), kit.root / "out", kit.root / "bank"
    kit.draw(source / "class9/1.png", 9)
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path).name == "class9":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    summary = protect_folder(source, output, **NOISE)
    assert (summary.exit_code, summary.counts["failed"]) == (1, 1)
    assert [(problem.relative, problem.reason) for problem in summary.problems] == [
        ("class9", "the folder cannot be read: Permission denied")
    ]
    again = protect_folder(source, output, **NOISE)
    assert (again.exit_code, again.already_done) == (1, True)
    assert fit_folder(source, bank, **NOISE).exit_code == 1
    assert apply_folder(source, kit.root / "applied", bank=bank).exit_code == 1
    kit.draw(kit.root / "two/class0/1.png", 1)
    kit.draw(kit.root / "two/class9/1.png", 2)
    with pytest.raises(LabelError, match=r"class0\. class9: the folder cannot be read: Permission denied\."):
        protect_folder(kit.root / "two", kit.root / "none", method="texture")
    monkeypatch.undo()
    with pytest.raises(ResumeError, match=r"class9/1\.png.*gone \(class9\)"):
        protect_folder(source, output, **NOISE)


def test_one_failing_encoder_does_not_stop_the_run(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing.encode

    def encode(picture: Any, *, format: Any) -> bytes:
        if picture.width == 21:
            raise ImageError(picture.source, "does not fit")
        return real(picture, format=format)

    monkeypatch.setattr(writing, "encode", encode)
    summary = protect_folder(kit.folder(), kit.root / "out", **NOISE)
    assert (summary.counts["protected"], summary.counts["failed"]) == (4, 2)


# ------------------------------------------------------------------ progress, names
def test_progress_runs_through_the_stages_and_reaches_the_end(kit: Any) -> None:
    told: list[tuple[str, float, float]] = []
    protect_folder(kit.folder(), kit.root / "out", **NOISE, progress=lambda *step: told.append(step[:3]))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["found", "read", "fit", "write", "report"]
    for stage in ("read", "write"):
        counts = [done for name, done, _ in told if name == stage]
        assert counts == [1, 2, 3, 4, 5, 6]
    assert all(0 <= done <= total for _, done, total in told)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
        unique_by=lambda name: unicodedata.normalize("NFC", name).casefold(),
    )
)
def test_any_file_name_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, kit: Any, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("names")
    for index, name in enumerate(names):
        kit.draw(root / "src/class0" / f"{name}.png", index)
    kit.draw(root / "src/class1/x.png", 100)
    (root / "src/class1" / os.fsdecode(b"undecodable-\xff.png")).write_bytes((root / "src/class1/x.png").read_bytes())
    summary = protect_folder(root / "src", root / "out", **NOISE)
    hidden = sum(name.startswith(".") for name in names)
    assert summary.counts == {"protected": len(names) - hidden + 2, "copied": 0, "skipped": hidden, "failed": 0}
    assert (root / "out/class1" / os.fsdecode(b"undecodable-\xff.png")).exists()
    assert protect_folder(root / "src", root / "out", **NOISE).already_done


def test_pnginfo_text_survives(kit: Any) -> None:
    source = kit.folder()
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    kit.draw(source / "class0/text.png", 1, pnginfo=text)
    protect_folder(source, kit.root / "out", **NOISE)
    assert Image.open(kit.root / "out/class0/text.png").info["Author"] == "somebody"


# ------------------------------------------------------------------ nothing counts as protected that is not
def test_a_class_that_could_not_be_read_gets_no_row(kit: Any) -> None:
    source = kit.folder()
    (source / "lost").mkdir()
    (source / "lost/bad.png").write_bytes(b"junk")
    fit_folder(source, kit.root / "my.bank", **NOISE, granularity="class")
    assert Bank.load(kit.root / "my.bank").keys == ("class0", "class1")
    kit.draw(source / "lost/bad.png", 5)  # repaired since
    summary = apply_folder(source, kit.root / "out", bank=kit.root / "my.bank")
    assert summary.counts == {"protected": 6, "copied": 0, "skipped": 1, "failed": 0}
    assert "holds no perturbation" in summary.problems[0].reason


def test_a_row_of_zeros_protects_nothing_and_fails(kit: Any) -> None:
    source = kit.folder()
    fit_folder(source, kit.root / "my.bank", **NOISE, granularity="class")
    bank = Bank.load(kit.root / "my.bank")
    bank.levels[1] = 0
    summary = apply_folder(source, kit.root / "out", bank=bank)
    assert summary.counts == {"protected": 3, "copied": 0, "skipped": 0, "failed": 3}
    assert all("zero everywhere" in problem.reason for problem in summary.problems)
    assert not (kit.root / "out/class1").exists()


# ------------------------------------------------------------------ names
def test_a_folder_named_as_a_picture_will_be_is_no_obstacle(kit: Any) -> None:
    source = kit.folder()
    kit.draw(source / "class0/photo.jpg", 20)
    kit.draw(source / "class0/photo.png/inner.png", 21)
    kit.draw(source / "class1/other.jpg", 22)
    (source / "class1/other.png").mkdir()
    (source / "class1/other.png/caption.txt").write_text("x")
    kit.draw(source / "class1" / f"{'x' * 251}.jpg", 23)
    kit.draw(source / "class1" / f"{'x' * 251}.png", 24)
    summary = protect_folder(source, kit.root / "out", **NOISE)
    assert summary.counts == {"protected": 11, "copied": 1, "skipped": 0, "failed": 0}
    outputs = {row["source"]: row["output"] for row in kit.rows(kit.root / "out")}
    assert outputs["class0/photo.jpg"] == "class0/photo.jpg.png"
    assert outputs["class1/other.jpg"] == "class1/other.jpg.png"
    assert protect_folder(source, kit.root / "out", **NOISE).already_done


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST])
@pytest.mark.parametrize("name", ["class0/1.png", "class0/1.txt"])
def test_a_path_that_the_disk_refuses_fails_alone(
    kit: Any, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    source, output = kit.folder(), kit.root / "out"
    (source / "class0/1.txt").write_text("a caption")
    real = os.link

    def refuse(path: Path, target: Path, **options: Any) -> None:
        if target == output / name:
            raise OSError(number, os.strerror(number))
        real(path, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    summary = protect_folder(source, output, **NOISE)
    assert (summary.counts["failed"], summary.inputs, summary.exit_code) == (1, 7, 1)
    assert summary.problems[0].relative == name
    assert os.strerror(number) in summary.problems[0].reason
    assert not (output / name).exists()


def test_a_folder_in_the_way_of_one_file_fails_alone(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    (output / "class0/1.png").mkdir(parents=True)
    summary = protect_folder(source, output, **NOISE)
    assert summary.counts["failed"] == 1
    assert "a folder class0/1.png is in its way" in summary.problems[0].reason


# ------------------------------------------------------------------ read back
def test_a_file_that_comes_back_with_another_size_fails_alone(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing.encode

    def cropping(picture: Any, *, format: Any) -> bytes:
        if picture.width == 21:
            return real(Picture(picture.pixels[:, :-1]), format=format)
        return real(picture, format=format)

    monkeypatch.setattr(writing, "encode", cropping)
    summary = protect_folder(kit.folder(), kit.root / "out", **NOISE)
    assert (summary.counts["protected"], summary.counts["failed"]) == (4, 2)
    assert all("20 x 24 pixels of 8 bits, not 21 x 24" in problem.reason for problem in summary.problems)
    assert not (kit.root / "out/class0/1.png").exists()


@pytest.mark.parametrize("error", [MemoryError(), ValueError("what ever"), OSError(errno.EIO, "Input/output error")])
def test_whatever_goes_wrong_in_reading_back_fails_that_file_alone(
    kit: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = writing.measure_change

    def measure(before: Any, after: Any) -> Any:
        if before.width == 21:
            raise error
        return real(before, after)

    monkeypatch.setattr(writing, "measure_change", measure)
    summary = protect_folder(kit.folder(), kit.root / "out", **NOISE)
    assert (summary.counts["protected"], summary.counts["failed"]) == (4, 2)
    assert all("cannot be read back from disk" in problem.reason for problem in summary.problems)
    assert not (kit.root / "out/class0/1.png").exists()


# ------------------------------------------------------------------ looks
def test_pictures_without_colour_stay_without(kit: Any) -> None:
    for index in range(2):
        grey = np.random.default_rng(index).integers(0, 256, (40, 30, 1), dtype=np.uint8)
        for name in (f"a/{index}.png", f"b/{index}.png", f"b/{index}.jpg"):
            (kit.root / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat(grey, 3, axis=2)).save(kit.root / "src" / name)
    protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    rows = kit.rows(kit.root / "out")
    assert len(rows) == 6
    for row in rows:
        after = np.asarray(Image.open(kit.root / "out" / row["output"]))
        assert after.shape == (40, 30, 3)
        assert (after == after[..., :1]).all()
        assert 1 <= row["linf_levels"] <= 8


def test_a_change_that_can_be_seen_is_said_to_be(kit: Any) -> None:
    for number in range(4):
        kit.draw(kit.root / f"src/class{number % 2}/{number}.png", number, (160, 160))
    for name, level in (("a", 8.0), ("b", 2.0)):
        method = create_method("noise", budget=Budget.from_levels(level), device="cpu")
        summary = protect_folder(kit.root / "src", kit.root / name, method=method, resolution=16)
        told = any("can be seen" in text for text in summary.warnings)
        run_file = json.loads((kit.root / name / RUN_FILE_NAME).read_text())
        assert told == (run_file["stealth"]["ciede_patches"]["maximum"] >= SEEN)
        assert told == (name == "a")


def test_flip_is_measured_on_a_sample_that_neither_order_nor_workers_decide(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not flip_available():
        pytest.skip("the extra flip is not installed")
    monkeypatch.setattr(run, "FLIP_PICTURES", 3)
    source = kit.folder()
    measured = []
    for workers in (1, 3):
        out = kit.root / f"out{workers}"
        protect_folder(source, out, **NOISE, workers=workers)
        measured.append({row["sha256_in"]: row["flip"] for row in kit.rows(out) if row["flip"] is not None})
    assert measured[0] == measured[1]
    assert sorted(measured[0]) == sorted(row["sha256_in"] for row in kit.rows(kit.root / "out1"))[:3]
    assert "FLIP of 3 pictures" in (kit.root / "out1/bitterant-report.html").read_text()


# ------------------------------------------------------------------ tiny pictures
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("method", ["noise", "emn"])
def test_pictures_of_a_pixel_or_two_can_be_protected(kit: Any, method: str, side: int) -> None:
    for label in range(2):
        for index in range(3):
            kit.draw(kit.root / f"src/class{label}/{index}.png", 10 * label + index, (side, side))
    quick: dict[str, Any] = {"rounds": 2, "surrogate_steps": 2, "attempts": 0} if method == "emn" else {}
    made = create_method(method, device="cpu", **quick)
    plan = protect_folder(kit.root / "src", kit.root / "out", method=made, dry_run=True)
    assert plan.resolution == 64
    summary = protect_folder(kit.root / "src", kit.root / "out", method=made)
    assert summary.counts == {"protected": 6, "copied": 0, "skipped": 0, "failed": 0}
    assert all(0 <= row["linf_levels"] <= 8 for row in kit.rows(kit.root / "out"))


def test_our_own_files_are_those_that_a_scan_passes_over() -> None:
    assert set(OWN_NAMES) == {MANIFEST_NAME, RUN_FILE_NAME, REPORT_NAME}
    assert STATE_PREFIX in OWN_PREFIXES


def test_pictures_that_take_no_noise_are_named(kit: Any) -> None:
    """Within nearly transparent pictures nothing counts, and a report of success would be about nothing."""
    for number in range(3):
        kit.draw(kit.root / f"src/a/{number}.png", number)
    hidden = Image.new("RGBA", (20, 20), (90, 120, 30, 0))
    hidden.putpixel((0, 0), (90, 120, 30, 255))
    hidden.save(kit.root / "src/a/hidden.png")
    summary = protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    (told,) = (text for text in summary.warnings if "little or nothing of the noise" in text)
    assert told.startswith("1 picture could")
    assert "a/hidden.png" in told
