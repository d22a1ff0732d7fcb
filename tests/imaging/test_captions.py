"""Captions: five places in a fixed order, honest about what they could not use."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitterant.errors import CaptionError, ImageError, UnknownNameError
from bitterant.imaging import scan_folder
from bitterant.imaging.captions import (
    CLASS_TEMPLATES,
    CaptionOptions,
    CaptionSet,
    check_template,
    class_words,
    fill_template,
    normalise_caption,
    read_captions,
    read_class_names,
)


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(name), 9, 9)).save(path)
    return root


def captions(root: Path, **options: Any) -> CaptionSet:
    return read_captions(scan_folder(root), CaptionOptions(**options))


def firsts(found: CaptionSet) -> dict[str, tuple[str, str]]:
    return {name: (caption.first, caption.source) for name, caption in found.captions.items()}


NAMES = '{"images": [{"id": 1, "file_name": 3}], "annotations": [{"image_id": 1, "caption": "x"}]}'


def coco_file(path: Path, pairs: list[tuple[str, str]]) -> Path:
    names = list(dict.fromkeys(name for name, _ in pairs))
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    notes = [{"image_id": names.index(name), "caption": text} for name, text in pairs]
    path.write_text(json.dumps({"images": images, "annotations": notes}), encoding="utf-8")
    return path


class TestPrecedence:
    def test_each_picture_takes_the_first_place_that_has_one(self, tmp_path: Path) -> None:
        root = put(tmp_path / "src", "pets/a.png", "pets/b.png", "pets/c.png", "pets/d.png")
        (root / "pets/a.txt").write_text("from the text file\nand another\n", encoding="utf-8")
        rows = [{"file_name": f"pets/{name}.png", "text": f"table {name}"} for name in "ab"]
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        coco = coco_file(tmp_path / "captions_x.json", [(f"{name}.png", f"coco {name}") for name in "abc"])
        found = captions(root, coco=coco)
        assert firsts(found) == {
            "pets/a.png": ("from the text file", "sidecar"),
            "pets/b.png": ("table b", "metadata"),
            "pets/c.png": ("coco c", "coco"),
            "pets/d.png": ("a photo of a pets.", "class"),
        }
        assert found.captions["pets/a.png"].captions == ("from the text file", "and another")
        assert found.sources == {"sidecar": 1, "metadata": 1, "coco": 1, "class": 1}

    def test_a_source_alone_looks_nowhere_else(self, tmp_path: Path) -> None:
        root = put(tmp_path, "pets/a.png")
        (root / "pets/a.txt").write_text("text", encoding="utf-8")
        assert firsts(captions(root, source="class"))["pets/a.png"][1] == "class"
        with pytest.raises(CaptionError, match=r"1 of 1 picture has no caption: pets/a\.png"):
            captions(root, source="metadata")

    def test_captioner_then_fallback(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png", "b.png", "c.png")

        def describe(path: Path) -> str:
            if path.name == "b.png":
                raise ImageError(path.name, "too dark")
            return f"  a {path.stem}  " if path.name == "a.png" else ""

        found = captions(root, captioner=describe, fallback="a photo")
        assert firsts(found) == {
            "a.png": ("a a", "captioner"),
            "b.png": ("a photo", "fallback"),
            "c.png": ("a photo", "fallback"),
        }
        assert {(p.relative, p.reason) for p in found.problems} == {
            ("b.png", "too dark"),
            ("c.png", "the captioner had nothing to say"),
        }

    def test_without_any_the_files_are_listed(self, tmp_path: Path) -> None:
        root = put(tmp_path, *(f"{i:02d}.png" for i in range(14)))
        with pytest.raises(CaptionError, match=r"14 of 14 .* 00\.png, .* and 4 more.*--fallback-caption"):
            captions(root)

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"source": "clss"}, UnknownNameError),
            ({"source": "coco"}, CaptionError),
            ({"source": "captioner"}, CaptionError),
            ({"template": "a photo"}, CaptionError),
            ({"fallback": " \n"}, CaptionError),
        ],
    )
    def test_what_cannot_be_meant(self, tmp_path: Path, options: dict[str, Any], kind: type[Exception]) -> None:
        with pytest.raises(kind):
            captions(put(tmp_path, "x/a.png"), **options)


class TestSidecars:
    def test_both_endings_a_mark_at_the_beginning_and_windows_lines(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png", "b.jpg")
        (root / "a.caption").write_bytes("\ufeffeins\r\n\r\n zwei \r\neins".encode())
        (root / "b.txt").write_bytes("caf\u0065\u0301  noir".encode())
        found = captions(root)
        assert found.captions["a.png"].captions == ("eins", "zwei")
        assert found.captions["b.jpg"].first == "café noir"

    @pytest.mark.parametrize("data", [b"", b" \n\t", b"\xff\xfe\x00", b"x" * (2**20 + 1)])
    def test_one_that_cannot_be_used_is_told_and_passed_over(self, tmp_path: Path, data: bytes) -> None:
        root = put(tmp_path, "pets/a.png")
        (root / "pets/a.txt").write_bytes(data)
        found = captions(root)
        assert found.captions["pets/a.png"].source == "class"
        assert [problem.relative for problem in found.problems] == ["pets/a.txt"]


class TestTables:
    def test_the_nearest_table_and_its_column(self, tmp_path: Path) -> None:
        root = put(tmp_path, "in/a.png", "in/b.png")
        (root / "metadata.csv").write_text('file_name,caption\nin/a.png,outer\nin/b.png,"outer, b"\n', encoding="utf-8")
        row = {"file_name": "a.png", "captions": ["one", "two", "one"], "other": "override"}
        (root / "in/metadata.jsonl").write_text(json.dumps(row), encoding="utf-8")
        found = captions(root)
        assert found.captions["in/a.png"].captions == ("one", "two")
        assert found.captions["in/b.png"].captions == ("outer, b",)
        chosen = captions(root, column="other")
        assert firsts(chosen)["in/a.png"] == ("override", "metadata")
        assert firsts(chosen)["in/b.png"][1] == "class"
        assert any("no caption (other)" in problem.reason for problem in chosen.problems)

    def test_bad_lines_are_told_by_number_and_the_others_used(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png", "b.png")
        lines = [
            "{broken",
            "[1]",
            json.dumps({"file_name": "a.png", "text": "good"}),
            json.dumps({"text": "nameless"}),
            json.dumps({"image_file_name": "a.png", "text": "variant"}),
            json.dumps({"file_name": "b.png", "text": 7}),
            json.dumps({"file_name": "gone.png", "text": "of another picture"}),
        ]
        (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
        found = captions(root, fallback="x")
        assert firsts(found) == {"a.png": ("good", "metadata"), "b.png": ("x", "fallback")}
        assert [problem.reason.split(":")[0] for problem in found.problems] == [f"line {n}" for n in (1, 2, 4, 6)]
        assert found.captions["a.png"].captions == ("good", "variant")

    def test_names_that_climb_out_match_nothing(self, tmp_path: Path) -> None:
        root = put(tmp_path / "src", "a.png")
        rows = [{"file_name": name, "text": "x"} for name in ("../a.png", "/etc/passwd", "./sub/../a.png")]
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert captions(root).captions["a.png"].captions == ("x",)

    def test_a_parquet_table_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        root = put(tmp_path, "c/a.png")
        (root / "metadata.parquet").write_bytes(b"PAR1")
        (problem,) = captions(root).problems
        assert problem.relative == "metadata.parquet"
        assert "Parquet" in problem.reason

    def test_parquet_is_read_like_the_others(self, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        arrow = pytest.importorskip("pyarrow")
        root = put(tmp_path, "a.png")
        parquet.write_table(arrow.table({"file_name": ["a.png"], "text": ["a hat"]}), root / "metadata.parquet")
        assert firsts(captions(root)) == {"a.png": ("a hat", "metadata")}

    @pytest.mark.parametrize("sign", [",", ";", "\t"])
    def test_columns_may_be_divided_by_other_signs(self, tmp_path: Path, sign: str) -> None:
        root = put(tmp_path, "a.png")
        (root / "metadata.csv").write_text(f'"file_name"{sign}text{sign}"a,b;c"\na.png{sign}a hat{sign}x\n')
        assert firsts(captions(root)) == {"a.png": ("a hat", "metadata")}

    def test_pictures_beside_the_class_folders_have_no_class_to_be_called_by(self, tmp_path: Path) -> None:
        root = put(tmp_path, "cat/a.png", "dog/b.png", "c.png")
        with pytest.raises(CaptionError, match=r"1 of 3 pictures has no caption: c\.png\. Put"):
            captions(root)

    def test_several_pictures_of_a_row_share_its_caption(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png", "b.png")
        (root / "metadata.jsonl").write_text('{"file_names": ["a.png", "b.png"], "text": "a pair"}', encoding="utf-8")
        assert firsts(captions(root)) == dict.fromkeys(["a.png", "b.png"], ("a pair", "metadata"))

    @pytest.mark.parametrize("text", ["0 0.5 0.5 0.2 0.3\n", "3 .1 .2 .3 .4\n1 1e-3 0 1 1\n", "0 .1 .2 .3 .4 .5 .6"])
    def test_boxes_are_no_captions(self, tmp_path: Path, text: str) -> None:
        root = put(tmp_path, "cat/a.png")
        (root / "cat/a.txt").write_text(text, encoding="utf-8")
        found = captions(root)
        assert found.sources == {"class": 1}
        assert "YOLO" in found.warnings[0]
        (root / "cat/a.txt").write_text("12 monkeys\n", encoding="utf-8")
        assert firsts(captions(root)) == {"cat/a.png": ("12 monkeys", "sidecar")}

    def test_composed_and_decomposed_names_are_one(self, tmp_path: Path) -> None:
        root = put(tmp_path, unicodedata.normalize("NFD", "é.png"))
        row = {"file_name": unicodedata.normalize("NFC", "é.png"), "text": "x"}
        (root / "metadata.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
        assert captions(root).sources == {"metadata": 1}


class TestCoco:
    def test_names_in_several_folders_are_not_guessed(self, tmp_path: Path) -> None:
        root = put(tmp_path / "src", "one/a.png", "two/a.png", "two/b.png")
        coco = coco_file(tmp_path / "c.json", [("a.png", "which"), ("b.png", "b1"), ("b.png", "b2")])
        found = captions(root, coco=coco)
        assert firsts(found)["one/a.png"][1] == "class"
        assert found.captions["two/b.png"].captions == ("b1", "b2")
        assert "several" in found.problems[0].reason

    @pytest.mark.parametrize("text", ["[]", "{", '{"images": []}', '{"images": [3], "annotations": []}', NAMES])
    def test_another_file_is_refused_by_name(self, tmp_path: Path, text: str) -> None:
        root = put(tmp_path / "src", "a.png")
        (tmp_path / "c.json").write_text(text, encoding="utf-8")
        with pytest.raises(CaptionError, match=r"c\.json is not a COCO captions file"):
            captions(root, coco=tmp_path / "c.json")


class TestClassNames:
    def test_templates_and_underscores(self, tmp_path: Path) -> None:
        root = put(tmp_path, "golden_retriever/a.png")
        found = captions(root, template="the {} I know")
        assert found.captions["golden_retriever/a.png"].first == "the golden retriever I know"

    @pytest.mark.parametrize("folder", ["n01440764", "007", "3"])
    def test_ids_need_names(self, tmp_path: Path, folder: str) -> None:
        root = put(tmp_path, f"{folder}/a.png")
        with pytest.raises(CaptionError, match="--class-names"):
            captions(root)
        assert captions(root, class_names={folder: "tench"}).captions[f"{folder}/a.png"].first == "a photo of a tench."

    def test_files_of_names(self, tmp_path: Path) -> None:
        lines, table, row = tmp_path / "n.txt", tmp_path / "t.json", tmp_path / "l.json"
        lines.write_text("n01440764 tench, Tinca tinca\n\n3\tblack_bear\n", encoding="utf-8")
        table.write_text('{"n01440764": "tench"}', encoding="utf-8")
        row.write_text('["zero", "one"]', encoding="utf-8")
        assert read_class_names(lines) == {"n01440764": "tench", "3": "black bear"}
        assert read_class_names(table) == {"n01440764": "tench"}
        assert read_class_names(row) == {"0": "zero", "1": "one"}

    @pytest.mark.parametrize(
        ("name", "text"), [("a.txt", "alone"), ("a.json", "{"), ("a.json", '{"a": 1}'), ("a.json", "3")]
    )
    def test_other_files_are_refused(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(CaptionError, match=name):
            read_class_names(tmp_path / name)

    def test_a_name_with_braces_is_text(self) -> None:
        assert fill_template("a photo of a {}.", "{0.__class__}") == "a photo of a {0.__class__}."

    def test_eighteen_templates_the_plain_one_first(self) -> None:
        assert len(set(CLASS_TEMPLATES)) == 18
        assert CLASS_TEMPLATES[0] == "a photo of a {}."
        assert all(check_template(template) == template for template in CLASS_TEMPLATES)


class TestWarnings:
    def test_most_pictures_with_one_caption(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png", "b.png", "c.png")
        for name, text in zip("abc", ("same", "same", "other"), strict=True):
            (root / f"{name}.txt").write_text(text, encoding="utf-8")
        (warning,) = captions(root).warnings
        assert "2 of 3" in warning
        assert "'same'" in warning

    def test_labels_excuse_it(self, tmp_path: Path) -> None:
        assert not captions(put(tmp_path, "cats/a.png", "cats/b.png")).warnings

    def test_longer_than_a_text_tower_reads(self, tmp_path: Path) -> None:
        root = put(tmp_path, "a.png")
        (root / "a.txt").write_text("word " * 90, encoding="utf-8")
        (warning,) = captions(root).warnings
        assert "1 caption is longer" in warning


@given(st.text())
def test_normal_captions_are_one_line_and_stay_as_they_are(text: str) -> None:
    once = normalise_caption(text)
    assert normalise_caption(once) == once
    assert once == unicodedata.normalize("NFC", once)
    assert once == once.strip()
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in once)
    once.encode("utf-8")


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text))
def test_words_of_any_folder_are_none_or_a_normal_text(folder: str) -> None:
    words = class_words(folder, {})
    assert words is None or (words and words == normalise_caption(words))
