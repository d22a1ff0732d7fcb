"""A bundle comes from elsewhere: whatever is wrong with it is refused, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitterant.errors import BundleError
from bitterant.protect.zero_contact import NoiseBundle

Rewrite = Callable[..., Path]


def replace_first(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any]], None]:
    """Change one tensor of a bundle."""

    def apply(tensors: dict[str, Any]) -> None:
        name = min(tensors)
        tensors[name] = change(tensors[name])

    return apply


def poke(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(tensor: np.ndarray) -> np.ndarray:
        tensor = tensor.copy()
        tensor[0, 0, 0] = value
        return tensor

    return change


class TestRoundTrip:
    def test_nothing_of_the_request_but_ids_and_a_digest_is_in_it(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        path = kit.make(asked).path
        data = path.read_bytes()
        assert b"picture number" not in data
        assert b"IMG_" not in data
        bundle = NoiseBundle.load(path)
        assert bundle.info.prompts_sha256 == asked.request.prompts_sha256
        assert set(bundle.tensor_of) == {row.id for row in asked.request.rows}
        bundle.verify(asked.map, max_epsilon=8)

    def test_safetensors_itself_reads_what_was_written(self, kit: Any) -> None:
        from safetensors.numpy import load_file

        kit.captioned()
        bundle = kit.make(kit.ask())
        tensors = load_file(bundle.path)
        for name, tensor in bundle.tensor_of.items():
            assert tensors[tensor].dtype == np.float16
            np.testing.assert_array_equal(tensors[tensor].transpose(1, 2, 0), bundle.levels_of(name))

    def test_several_files_and_their_index(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        bundle = kit.make(asked, shard_bytes=1)
        assert bundle.path.name == "out.noise.index.json"
        assert len(bundle.files) == 4
        NoiseBundle.load(bundle.path).verify(asked.map)
        with pytest.raises(BundleError, match=r"one of 4 parts\. Give the file that ends in \.noise\.index\.json"):
            NoiseBundle.load(bundle.files[0])


class TestRefusedOnOpening:
    @pytest.mark.parametrize(
        ("metadata", "why"),
        [
            ({"format": "bitterant-bank"}, "no noise bundle"),
            ({"format": None}, "no noise bundle"),
            ({"version": "2"}, "bundle format 2; this bitterant reads 1"),
            ({"version": None}, "bundle format ?"),
            ({"units": "unit"}, "1/255 levels"),
            ({"scale": "8"}, "1/255 levels"),
            ({"stage": None}, "lacks 'stage'"),
            ({"stage": "x"}, "damaged"),
            ({"epsilon_levels": "nan"}, "damaged"),
            ({"epsilon_levels": "0"}, "damaged"),
            ({"epsilon_levels": "1e9"}, "damaged"),
            ({"epsilon_levels": "many"}, "damaged"),
            ({"native_size": "16"}, "cannot hold"),
            ({"count": "5"}, "4 pictures, not 5"),
            ({"count": "0"}, "damaged"),
            ({"resize": "tile"}, "damaged"),
            ({"stage": "final"}, "cannot hold"),
            ({"shards": "2"}, "one of 2 parts"),
            ({"map": "{"}, "map from ids"),
            ({"map": '{"../x": "0"}'}, "map from ids"),
            ({"map": '{"0123456789abcdef": "none"}'}, "c/none"),
        ],
    )
    def test_heads(self, kit: Any, rewrite: Rewrite, metadata: dict[str, str | None], why: str) -> None:
        kit.captioned()
        path = rewrite(kit.make(kit.ask()).path, metadata=metadata)
        with pytest.raises(BundleError, match=why.replace("?", r"\?")):
            NoiseBundle.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensors: tensors.update({"../../etc": np.zeros((3, 8, 8), np.float16)}),
            lambda tensors: tensors.update({"d/" + "0" * 16: np.zeros((3, 8, 8), np.float32)}),
            lambda tensors: tensors.update({"d/" + "0" * 16: np.zeros((1, 8, 8), np.float16)}),
            lambda tensors: tensors.update({"d/" + "0" * 16: np.zeros((3, 8), np.float16)}),
            lambda tensors: tensors.update({"d/" + "0" * 16: np.zeros((3, 8, 8), np.float16)}),
            lambda tensors: tensors.update({"c/nobody": np.zeros((3, 8, 8), np.float16)}),
            lambda tensors: tensors.pop(min(tensors)),
        ],
    )
    def test_tensors(self, kit: Any, rewrite: Rewrite, change: Callable[[dict[str, Any]], None]) -> None:
        kit.captioned()
        path = rewrite(kit.make(kit.ask()).path, change=change)
        with pytest.raises(BundleError):
            NoiseBundle.load(path)

    def test_no_file_and_no_safetensors(self, kit: Any, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="There is no noise bundle"):
            NoiseBundle.load(tmp_path / "none.noise.safetensors")
        with pytest.raises(BundleError, match="There is no file"):
            NoiseBundle.load(tmp_path / "none.noise.index.json")
        (tmp_path / "x.noise.safetensors").write_bytes(b"\x80\x04K*.")  # a pickle
        with pytest.raises(BundleError, match="no safetensors file"):
            NoiseBundle.load(tmp_path / "x.noise.safetensors")

    @pytest.mark.parametrize(
        "body",
        [b"{", b"[]", b"3", b'{"format": "unlearnable-noise", "version": 9}',
         b'{"format": "unlearnable-noise", "version": 1, "files": {}}',
         b'{"format": "unlearnable-noise", "version": 1, "files": {"../a.noise.safetensors": ""}}'],
    )  # fmt: skip
    def test_indices(self, tmp_path: Path, body: bytes) -> None:
        (tmp_path / "x.noise.index.json").write_bytes(body)
        with pytest.raises(BundleError):
            NoiseBundle.load(tmp_path / "x.noise.index.json")

    def test_a_part_of_another_bundle(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        one, other = (kit.make(asked, name, shard_bytes=1, secret=name.encode() * 20) for name in ("a", "b"))
        one.files[1].write_bytes(other.files[1].read_bytes())
        with pytest.raises(BundleError, match="not the part"):
            NoiseBundle.load(one.path)


class TestRefusedOnReading:
    @pytest.mark.parametrize(
        ("value", "why"), [(np.nan, "no numbers"), (np.inf, "no numbers"), (8.01, "over its 8"), (-9.0, "over its 8")]
    )
    def test_values(self, kit: Any, rewrite: Rewrite, value: float, why: str) -> None:
        """Also where whoever changed the value has mended the digest."""
        kit.captioned()
        asked = kit.ask()
        bundle = kit.make(asked)
        path = rewrite(bundle.path, change=replace_first(poke(value)))
        changed = NoiseBundle.load(path)
        with pytest.raises(BundleError, match="changed after it was written"):
            changed.verify(asked.map)
        mended = _mend(path)
        with pytest.raises(BundleError, match=why):
            mended.verify(asked.map)
        with pytest.raises(BundleError, match=why):
            mended.levels_of(min(mended.tensor_of))

    def test_a_weaker_limit_than_the_bundle(self, kit: Any) -> None:
        kit.captioned()
        bundle = kit.make(kit.ask(), epsilon=16 / 255)
        bundle.verify(max_epsilon=16)
        with pytest.raises(BundleError, match="16 of 255 levels; 8 are accepted"):
            bundle.verify(max_epsilon=8)

    def test_for_another_folder_or_other_prompts(self, kit: Any) -> None:
        photos = kit.captioned()
        bundle = kit.make(kit.ask())
        kit.request.unlink()
        kit.map.unlink()
        (photos / "IMG_0.txt").write_text("something else", encoding="utf-8")
        with pytest.raises(BundleError, match="other prompts"):
            bundle.verify(kit.ask().map)
        kit.draw("IMG_9.png")
        (photos / "IMG_9.txt").write_text("one more", encoding="utf-8")
        kit.request.unlink()
        kit.map.unlink()
        with pytest.raises(BundleError, match="1 missing"):
            bundle.verify(kit.ask().request)

    def test_sizes_made_to_measure_for_other_pictures(self, kit: Any, rewrite: Rewrite) -> None:
        kit.captioned()
        asked = kit.ask(send_size=True)
        path = rewrite(kit.make(asked).path, change=replace_first(lambda tensor: tensor[:, :-1]))
        with pytest.raises(BundleError, match="its picture"):
            _mend(path).verify(asked.map)


class TestAnyDamage:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    @given(st.data())
    def test_no_changed_bit_goes_unseen(self, kit: Any, data: st.DataObject) -> None:
        path, known = _made(kit)
        good = path.read_bytes()
        place = data.draw(st.integers(0, len(good) - 1))
        flipped = bytearray(good)
        flipped[place] ^= 1 << data.draw(st.integers(0, 7))
        bad = path.with_name("bad.noise.safetensors")
        bad.write_bytes(bytes(flipped))
        with pytest.raises(BundleError):
            NoiseBundle.load(bad).verify(known)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    @given(st.data())
    def test_no_cut_or_added_end_goes_unseen(self, kit: Any, data: st.DataObject) -> None:
        path, known = _made(kit)
        good = path.read_bytes()
        cut = data.draw(st.integers(0, len(good) - 1))
        bad = path.with_name("bad.noise.safetensors")
        bad.write_bytes(good[:cut] if data.draw(st.booleans()) else good + good[:cut] + b"\0")
        with pytest.raises(BundleError):
            NoiseBundle.load(bad).verify(known)


def _made(kit: Any) -> tuple[Path, Any]:
    """A bundle and its map, made at the first example only."""
    path = kit.root / "out.noise.safetensors"
    if not path.exists():
        kit.captioned()
        kit.known = kit.ask()
        kit.make(kit.known)
    return path, kit.known.map


def _mend(path: Path) -> NoiseBundle:
    """The bundle with the digest that belongs to its content, as a forger would write it."""
    from bitterant.protect.zero_contact.bundle import _digest_of

    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    written = json.loads(data[8 : 8 + length])["__metadata__"]["content_sha256"]
    path.write_bytes(data.replace(written.encode(), _digest_of(path, written).encode(), 1))
    return NoiseBundle.load(path)
