"""The request: nothing but ids and text leaves, and what comes from strangers is read strictly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bitterant.errors import CaptionError, ConfigError, FolderError, Interrupted, RequestError
from bitterant.imaging.captions import CaptionOptions
from bitterant.protect.folder import StopRequest
from bitterant.protect.zero_contact import (
    MappedPicture,
    NoiseRequest,
    RequestLimits,
    RequestMap,
    RequestRow,
    ask_for_folder,
    check_private_places,
    write_asked,
)
from bitterant.protect.zero_contact.build_request import anonymise

GOOD = {"id": "0123456789abcdef", "prompt": "a cat"}
SECRET = bytes(range(32))


def line(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


class TestWhatLeaves:
    def test_ids_and_text_and_nothing_else(self, kit: Any) -> None:
        photos = kit.captioned()
        exif = Image.Exif()
        exif[0x010F] = "CameraMaker"
        Image.open(photos / "IMG_0.png").save(photos / "IMG_0.png", exif=exif)
        asked = kit.ask()
        text = kit.request.read_text(encoding="utf-8")
        rows = [json.loads(row) for row in text.splitlines()]
        assert all(set(row) == {"id", "prompt"} for row in rows)
        assert all(re.fullmatch(r"[0-9a-f]{16}", row["id"]) for row in rows)
        assert {row["prompt"] for row in rows} == {f"picture number {letter}" for letter in "abcd"}
        for picture in asked.map.pictures.values():
            for secret in (picture.path, Path(picture.path).stem, ".png", picture.sha256, "CameraMaker", str(kit.root)):
                assert secret not in text
            assert f"{picture.width}" not in re.sub(r'"id": "[0-9a-f]+"', "", text)
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)

    def test_the_map_stays_and_knows_all(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        known = RequestMap.read(kit.map)
        assert known == asked.map
        assert {picture.path for picture in known.pictures.values()} == {f"IMG_{i}.png" for i in range(4)}
        assert {(p.width, p.height) for p in known.pictures.values()} == {(20, 32), (32, 20), (8, 8), (5, 40)}
        assert {picture.caption_source for picture in known.pictures.values()} == {"sidecar"}
        assert known.prompts_sha256 == NoiseRequest.read(kit.request).prompts_sha256

    def test_classes_send_their_number_sizes_and_seeds_only_on_demand(self, kit: Any) -> None:
        kit.classes()
        plain = ask_for_folder(kit.photos, secret=SECRET).request
        assert {row.class_id for row in plain.rows} == {0, 1}
        assert all(row.size is None and row.z_seed is None for row in plain.rows)
        full = ask_for_folder(kit.photos, secret=SECRET, send_size=True, send_seed=True).request
        assert {row.size for row in full.rows} == {(24, 16)}
        assert len({row.z_seed for row in full.rows}) == 6
        assert NoiseRequest.from_bytes(full.to_bytes()) == full

    def test_another_secret_gives_other_ids(self, kit: Any) -> None:
        kit.captioned()
        one, same, other = (ask_for_folder(kit.photos, secret=s).request for s in (SECRET, SECRET, b"x" * 32))
        assert one == same
        assert not {row.id for row in one.rows} & {row.id for row in other.rows}

    def test_unreadable_pictures_are_left_out_and_counted(self, kit: Any) -> None:
        kit.classes()
        (kit.photos / "dogs/0.png").write_bytes(b"no picture")
        asked = kit.ask()
        assert asked.exit_code == asked.left_out == 1
        assert len(asked.request.rows) == 5
        assert [problem.relative for problem in asked.problems] == ["dogs/0.png"]

    def test_none_can_be_read(self, kit: Any) -> None:
        kit.photos.mkdir()
        (kit.photos / "a.png").write_bytes(b"no picture")
        with pytest.raises(FolderError, match="None of the pictures"):
            ask_for_folder(kit.photos, secret=SECRET, captions=CaptionOptions(fallback="x"))

    def test_a_stop_writes_nothing(self, kit: Any) -> None:
        kit.captioned()
        stop = StopRequest()
        stop.request()
        with pytest.raises(Interrupted, match="Nothing was written"):
            ask_for_folder(kit.photos, secret=SECRET, stop=stop)

    def test_long_captions_are_cut_with_a_word(self, kit: Any) -> None:
        kit.draw("a.png")
        (kit.photos / "a.txt").write_text("long " * 400, encoding="utf-8")
        asked = kit.ask()
        assert len(asked.request.rows[0].prompt) <= RequestLimits().prompt
        assert any("cut" in text for text in asked.warnings)
        assert NoiseRequest.read(kit.request) == asked.request


class TestPlainWords:
    @pytest.mark.parametrize(
        ("caption", "left"),
        [
            ("Anna rides a bike in Paris", "rides a bike in"),
            ("A dog at 12 Main Street, Springfield.", "A dog at."),
            ("Two cats. The cats sleep.", "Two cats. The cats sleep."),
            ("mail me@example.com or see https://x.org/y @handle", "mail or see"),
            ("Maria's cat on 2024-05-01", "cat on"),
            ("IMG_1234", ""),
            ("a red fox", "a red fox"),
        ],
    )
    def test_examples(self, caption: str, left: str) -> None:
        assert anonymise(caption) == left

    def test_denied_words_and_class_names(self) -> None:
        assert anonymise("the Zorblax barks", deny=["zorblax"]) == "the barks"
        assert anonymise("a photo of a Golden Retriever.", keep_capitals=True) == "a photo of a Golden Retriever."

    def test_captions_of_which_nothing_is_left_are_an_error(self, kit: Any) -> None:
        kit.draw("a.png")
        (kit.photos / "a.txt").write_text("Anna 1999", encoding="utf-8")
        with pytest.raises(CaptionError, match=r"nothing is left of 1 caption: a\.png"):
            ask_for_folder(kit.photos, secret=SECRET, generic=True)

    @given(st.text())
    def test_digits_and_addresses_never_stay(self, caption: str) -> None:
        left = anonymise(f"{caption} +49 170 1234567 me@example.com")
        assert "1234567" not in left
        assert "example" not in left


class TestReading:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "empty"),
            (b"\n\n", "empty"),
            (b"{", "line 1: it is no JSON"),
            (b"[]", "line 1: it is no JSON object"),
            (b"\xff", "line 1: it is not UTF-8"),
            (line() + b"\n" + line(), "line 2: the id 0123456789abcdef was there before"),
            (line(id="../../etc"), "line 1: id is not"),
            (line(id="0123456789ABCDEF"), "id is not"),
            (line(id=7), "id is not"),
            (line(prompt=""), "prompt is missing or empty"),
            (line(prompt=["a"]), "prompt is missing"),
            (line(prompt="a\u0000b"), "control characters"),
            (line(prompt="\ud800"), "control characters"),
            (line(prompt="x" * 1001), "1001 characters"),
            (line(path="a.png"), "unknown field 'path'"),
            (line(class_id=-1), "class_id"),
            (line(class_id=True), "class_id"),
            (line(class_id=1.0), "class_id"),
            (line(z_seed=2**63), "z_seed"),
            (line(w=10), "w and h belong together"),
            (line(w=0, h=1), "w is not"),
            (line(w=2**20, h=2**20), "larger than is taken"),
            (b'{"id": "0123456789abcdef", "prompt": "a", "prompt": "b"}', "there twice"),
            (b"[" * 100_000, "line 1"),
        ],
    )
    def test_what_is_refused_and_where(self, data: bytes, why: str) -> None:
        with pytest.raises(RequestError, match=re.escape(why)):
            NoiseRequest.from_bytes(data)

    def test_limits(self, tmp_path: Path) -> None:
        data = b"\n".join(line(id=f"{i:016x}") for i in range(5))
        assert len(NoiseRequest.from_bytes(data, limits=RequestLimits(lines=5)).rows) == 5
        with pytest.raises(RequestError, match="more than 4 lines"):
            NoiseRequest.from_bytes(data, limits=RequestLimits(lines=4))
        (tmp_path / "r.jsonl").write_bytes(data)
        with pytest.raises(RequestError, match=r"r\.jsonl is larger"):
            NoiseRequest.read(tmp_path / "r.jsonl", limits=RequestLimits(bytes=len(data) - 1))
        with pytest.raises(RequestError, match="There is no request"):
            NoiseRequest.read(tmp_path / "none.jsonl")

    def test_windows_lines_are_read(self) -> None:
        assert NoiseRequest.from_bytes(line() + b"\r\n\r\n").rows[0].prompt == "a cat"

    rows = st.builds(
        RequestRow,
        st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60).filter(
            lambda t: bool(t.strip())
        ),
        st.none() | st.integers(0, 1000),
        st.none() | st.integers(0, 2**63 - 1),
        st.none() | st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    )

    @given(st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: row.id))
    def test_round_trip_in_any_order(self, rows: list[RequestRow]) -> None:
        request = NoiseRequest(tuple(rows))
        assert NoiseRequest.from_bytes(request.to_bytes()) == request == NoiseRequest(tuple(reversed(rows)))
        assert request.prompts_sha256 == NoiseRequest(tuple(reversed(rows))).prompts_sha256


class TestMap:
    @given(st.text(st.characters(exclude_categories=()), min_size=1).filter(lambda text: "\x00" not in text))
    def test_any_name_of_a_file_comes_back(self, name: str) -> None:
        known = RequestMap({"0" * 16: MappedPicture(name, "a" * 64, 3, 4, "class")}, "b" * 64)
        data = json.loads(known.to_bytes())
        assert data["pictures"]["0" * 16]["path"] == name

    def test_damage_is_told(self, kit: Any) -> None:
        kit.captioned()
        kit.ask()
        good = json.loads(kit.map.read_bytes())
        (name, picture), *_ = good["pictures"].items()
        broken = [
            (b"{", "no JSON"),
            (b"[]", "not the map"),
            (json.dumps({**good, "format": "x"}).encode(), "not the map"),
            (json.dumps({**good, "version": 2}).encode(), "map format 2"),
            (json.dumps({**good, "pictures": {}}).encode(), "damaged"),
            (json.dumps({**good, "pictures": {"short": picture}}).encode(), "damaged"),
            (json.dumps({**good, "pictures": {name: {**picture, "width": 0}}}).encode(), "damaged"),
            (json.dumps({**good, "pictures": {name: {**picture, "more": 0}}}).encode(), "damaged"),
            (json.dumps({**good, "prompts_sha256": "x"}).encode(), "damaged"),
        ]
        for data, why in broken:
            kit.map.write_bytes(data)
            with pytest.raises(RequestError, match=why):
                RequestMap.read(kit.map)
        kit.map.unlink()
        with pytest.raises(RequestError, match="There is no map"):
            RequestMap.read(kit.map)


class TestFiles:
    def test_both_or_none(self, kit: Any) -> None:
        kit.captioned()
        asked = ask_for_folder(kit.photos, secret=SECRET)
        kit.request.write_text("mine", encoding="utf-8")
        with pytest.raises(ConfigError):
            write_asked(asked, kit.request, kit.map)
        assert kit.request.read_text(encoding="utf-8") == "mine"
        assert not kit.map.exists()

    def test_places(self, kit: Any) -> None:
        kit.captioned()
        with pytest.raises(FolderError, match="inside"):
            check_private_places(kit.photos, kit.photos / "r.jsonl")
        kit.request.touch()
        with pytest.raises(ConfigError, match="left alone"):
            check_private_places(kit.photos, kit.request)
