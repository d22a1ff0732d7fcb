"""From request to bundle: the same noise whatever the order, the batches and the number of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import BudgetExceeded, ConfigError, Interrupted, RequestError, WeightsError
from bitterant.imaging import Budget, Picture, add_delta
from bitterant.imaging.perturb import place_delta, shrink_delta
from bitterant.protect.folder import StopRequest
from bitterant.protect.zero_contact import NoiseBundle, NoiseRequest, export_npz, export_png, generate_bundle

SERVER = b"the server's own secret"


class TestSameNoise:
    @pytest.mark.parametrize("z_mode", ["class", "codebook", "sample"])
    @pytest.mark.parametrize("prompt_mode", ["fixed", "cycle"])
    def test_batches_and_shards_change_nothing(self, kit: Any, z_mode: str, prompt_mode: str) -> None:
        kit.classes()
        asked = kit.ask()
        modes = {"z_mode": z_mode, "prompt_mode": prompt_mode, "codebook": 2}
        one = kit.make(asked, "one", batch_size=1, **modes)
        many = kit.make(asked, "many", batch_size=64, shard_bytes=400, **modes)
        assert len(one.files) == 1
        assert len(many.files) > 1
        assert one.tensor_of == many.tensor_of
        for name in one.tensor_of:
            np.testing.assert_array_equal(one.levels_of(name), many.levels_of(name))
        for bundle in (one, many):
            bundle.verify(asked.request)
            bundle.verify(asked.map)

    def test_a_row_alone_gets_what_it_gets_among_others(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        whole = kit.make(asked)
        row = asked.request.rows[2]
        alone = generate_bundle(
            NoiseRequest((row,)), kit.source, kit.root / "a.noise.safetensors", secret=SERVER, batch_size=3
        )
        np.testing.assert_array_equal(alone.levels_of(row.id), whole.levels_of(row.id))

    def test_the_same_bytes_twice_and_other_bytes_with_another_secret(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        one, two, other = (
            kit.make(asked, name, secret=secret).path.read_bytes()
            for name, secret in (("a", SERVER), ("b", SERVER), ("c", b"another secret of a server"))
        )
        assert one == two != other
        assert b"created" not in one
        assert kit.make(asked, "dated", created="2026-01-01").info.created == "2026-01-01"

    def test_seeds_of_the_owner_count(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask(send_seed=True)
        one, two = (kit.make(asked, name, secret=secret) for name, secret in (("a", SERVER), ("b", b"other" * 5)))
        for name in one.tensor_of:
            np.testing.assert_array_equal(one.levels_of(name), two.levels_of(name))
        with pytest.raises(RequestError, match="only --z-mode sample"):
            kit.make(asked, "c", z_mode="codebook")


class TestModes:
    def test_one_tensor_a_class(self, kit: Any) -> None:
        kit.classes()
        bundle = kit.make(kit.ask(), z_mode="class")
        assert set(bundle.shapes) == {"c/0", "c/1"}
        assert sum(kit.source.calls) == 2
        assert bundle.info.count == 6

    def test_a_codebook_bounds_the_patterns(self, kit: Any) -> None:
        kit.classes(each=12)
        bundle = kit.make(kit.ask(), z_mode="codebook", codebook=3)
        assert 2 < len(bundle.shapes) <= 6
        assert sum(kit.source.calls) == len(bundle.shapes)

    def test_samples_differ_with_one_prompt(self, kit: Any) -> None:
        kit.classes()
        bundle = kit.make(kit.ask())
        assert len(bundle.shapes) == 6
        assert len({bundle.levels_of(name).tobytes() for name in bundle.tensor_of}) == 6

    def test_cycling_says_the_class_in_other_words(self, kit: Any) -> None:
        kit.classes(each=8)
        seen: list[str] = []
        generate = kit.source.generate
        kit.source.generate = lambda prompts, seeds: (seen.extend(prompts), generate(prompts, seeds))[1]
        kit.make(kit.ask(), prompt_mode="cycle")
        assert len(set(seen)) > 6
        assert all("grey cats" in prompt or "dogs" in prompt for prompt in seen)

    def test_what_a_request_lacks(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        with pytest.raises(RequestError, match="a class for every picture"):
            kit.make(asked, z_mode="class")
        with pytest.raises(RequestError, match="class names"):
            kit.make(asked, prompt_mode="cycle")

    def test_one_prompt_a_class(self, kit: Any) -> None:
        rows = (
            b'{"id": "0000000000000001", "prompt": "a", "class_id": 0}\n'
            b'{"id": "0000000000000002", "prompt": "b", "class_id": 0}'
        )
        with pytest.raises(RequestError, match="class 0 has 2"):
            generate_bundle(
                NoiseRequest.from_bytes(rows),
                kit.source,
                kit.root / "x.noise.safetensors",
                secret=SERVER,
                z_mode="class",
            )


class TestBound:
    @pytest.mark.parametrize("levels", [1, 7.3, 8, 16, 100])
    def test_no_value_leaves_it(self, kit: Any, levels: float) -> None:
        kit.captioned()
        kit.source.generate = lambda prompts, seeds: np.ones((len(prompts), 3, 8, 8), np.float32)
        bundle = kit.make(kit.ask(), epsilon=levels / 255)
        bundle.verify(max_epsilon=levels)
        values = [bundle.levels_of(name) for name in bundle.tensor_of]
        assert levels - 0.1 < max(value.max() for value in values) <= levels

    def test_made_to_measure(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask(send_size=True)
        bundle = kit.make(asked, epsilon=7.6 / 255)
        assert bundle.info.stage == "final"
        for name, picture in asked.map.pictures.items():
            levels = bundle.levels_of(name)
            assert levels.shape == (picture.height, picture.width, 3)
            assert np.abs(levels).max() <= 7
            assert (levels == np.rint(levels)).all()
        bundle.verify(asked.map)

    @pytest.mark.parametrize(
        ("made", "kind"),
        [
            (np.full((1, 3, 8, 8), np.nan, np.float32), WeightsError),
            (np.zeros((1, 3, 4, 4), np.float32), WeightsError),
            (np.full((1, 3, 8, 8), 1.1, np.float32), BudgetExceeded),
        ],
    )
    def test_a_broken_generator_leaves_no_file(self, kit: Any, made: np.ndarray, kind: type[Exception]) -> None:
        kit.captioned()
        asked = kit.ask()
        before = sorted(kit.root.rglob("*"))
        kit.source.generate = lambda prompts, seeds: made
        with pytest.raises(kind):
            kit.make(asked, batch_size=1)
        assert sorted(kit.root.rglob("*")) == before

    @pytest.mark.parametrize(
        "options",
        [
            {"epsilon": 0.5 / 255},
            {"epsilon": 128 / 255},
            {"secret": b"short"},
            {"batch_size": 0},
            {"z_mode": "x"},
            {"codebook": 0, "z_mode": "codebook"},
            {"fit": "x"},
        ],
    )
    def test_options_that_cannot_be(self, kit: Any, options: dict[str, Any]) -> None:
        kit.captioned()
        with pytest.raises(ConfigError):
            kit.make(kit.ask(), **options)


class TestFiles:
    def test_nothing_is_overwritten_or_left_half_written(self, kit: Any) -> None:
        kit.captioned()
        asked = kit.ask()
        second = kit.root / "out-00002-of-00004.noise.safetensors"
        second.write_text("mine", encoding="utf-8")
        before = sorted(kit.root.rglob("*"))
        with pytest.raises(ConfigError, match="00002"):
            kit.make(asked, shard_bytes=1)
        assert sorted(kit.root.rglob("*")) == before
        second.unlink()
        stop = StopRequest()

        def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
            if done >= 2:
                stop.request()

        before = sorted(kit.root.rglob("*"))
        with pytest.raises(Interrupted):
            kit.make(asked, shard_bytes=1, batch_size=1, progress=progress, stop=stop)
        assert sorted(kit.root.rglob("*")) == before

    def test_the_name_says_what_it_is(self, kit: Any) -> None:
        kit.captioned()
        with pytest.raises(ConfigError, match=r"NAME\.noise\.safetensors"):
            generate_bundle(kit.ask().request, kit.source, kit.root / "x.safetensors", secret=SERVER)

    def test_exports(self, kit: Any) -> None:
        kit.classes()
        bundle = kit.make(kit.ask(), z_mode="class")
        export_npz(bundle, kit.root / "n.npz")
        with np.load(kit.root / "n.npz", allow_pickle=False) as arrays:
            assert set(arrays) == {"metadata", "c/0", "c/1"}
            assert arrays["c/0"].dtype == np.float16
            name = next(name for name, tensor in bundle.tensor_of.items() if tensor == "c/0")
            np.testing.assert_array_equal(arrays["c/0"].transpose(1, 2, 0), bundle.levels_of(name))
        files = export_png(bundle, kit.root / "pngs")
        assert [path.name for path in files] == ["0.png", "1.png"]
        pixels = np.asarray(Image.open(files[0])).astype(int) - 128
        np.testing.assert_array_equal(pixels, np.rint(bundle.levels_of(name)))
        for write in (lambda: export_npz(bundle, kit.root / "n.npz"), lambda: export_png(bundle, kit.root / "pngs")):
            with pytest.raises(ConfigError):
                write()


class TestFitting:
    def test_center_puts_the_pattern_on_the_middle_and_mirrors_it(self) -> None:
        delta = np.random.default_rng(0).uniform(-8, 8, (6, 6, 3)).astype(np.float32)
        placed = place_delta(delta, 6, 12, "center")
        np.testing.assert_array_equal(placed[:, 3:9], delta)
        np.testing.assert_array_equal(placed[:, :3], delta[:, 2::-1])
        np.testing.assert_array_equal(placed[:, 9:], delta[:, :2:-1])

    @pytest.mark.parametrize("fit", ["center", "stretch"])
    @pytest.mark.parametrize("size", [(1, 40), (40, 1), (7, 8), (16, 16), (3, 3), (100, 9)])
    def test_any_size_stays_in_the_bound_and_is_what_add_delta_adds(self, fit: Any, size: tuple[int, int]) -> None:
        delta = np.random.default_rng(1).uniform(-8, 8, (8, 8, 3)).astype(np.float32)
        small = shrink_delta(delta, *size, fit)
        assert max(small.shape[:2]) <= 8
        assert np.abs(small).max() <= np.abs(delta).max() + 1e-6
        placed = place_delta(small, *size, fit)
        assert placed.shape == (*size, 3)
        base = np.array([120, 120, 121], np.uint8)  # greys would get the mean of the channels
        picture = Picture(np.broadcast_to(base, (*size, 3)).copy())
        after = add_delta(picture, small, Budget.from_levels(8), fit=fit).pixels.astype(int) - base
        np.testing.assert_array_equal(after, np.rint(placed))

    def test_shrinking_keeps_the_strength(self) -> None:
        delta = (np.indices((64, 64)).sum(0) // 16 % 2 * 16 - 8)[..., None].repeat(3, 2).astype(np.float32)
        assert np.abs(shrink_delta(delta, 9, 9, "stretch")).max() == pytest.approx(8)


def test_opening_a_bundle_reads_no_tensor(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.captioned()
    path: Path = kit.make(kit.ask()).path
    reads: list[str] = []
    monkeypatch.setattr(NoiseBundle, "_checked", lambda self, name: reads.append(name))
    NoiseBundle.load(path)
    assert not reads
