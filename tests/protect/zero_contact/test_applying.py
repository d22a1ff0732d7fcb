"""From bundle to protected pictures: within the bound on disk, whole or not at all, and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import (
    BundleError,
    ConfigError,
    FolderError,
    Interrupted,
    RequestError,
    SetupError,
)
from bitterant.protect.folder import StopRequest
from bitterant.protect.zero_contact import ApplyPlan, apply_bundle, write_summary


def levels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "bitterant-manifest.jsonl").read_text(encoding="ascii").splitlines()
    return {row["source"]: row for row in map(json.loads, lines)}


class TestBudget:
    @pytest.mark.parametrize("options", [{}, {"z_mode": "codebook"}, {"epsilon": 3.5 / 255}, {"epsilon": 16 / 255}])
    @pytest.mark.parametrize("fit", ["center", "stretch"])
    def test_every_file_on_disk_keeps_it(self, kit: Any, options: dict[str, Any], fit: Any) -> None:
        photos = kit.captioned()
        bundle = kit.make(kit.ask(), **options)
        limit = int(options.get("epsilon", 8 / 255) * 255 + 1e-6)
        out = kit.root / "protected"
        summary = apply_bundle(photos, bundle.path, kit.map, out, fit=fit)
        assert summary.exit_code == summary.over_budget == 0
        assert summary.counts == {"protected": 4, "copied": 4, "skipped": 0, "failed": 0}
        for path in photos.glob("*.png"):
            change = np.abs(levels(out / path.name) - levels(path))
            assert 0 < change.max() <= limit
        for path in photos.glob("*.txt"):
            assert (out / path.name).read_bytes() == path.read_bytes()

    def test_made_to_measure_is_added_as_it_is(self, kit: Any) -> None:
        photos = kit.captioned()
        asked = kit.ask(send_size=True)
        bundle = kit.make(asked)
        apply_bundle(photos, bundle, kit.map, kit.root / "protected")
        for name, picture in asked.map.pictures.items():
            change = levels(kit.root / "protected" / picture.path) - levels(photos / picture.path)
            np.testing.assert_array_equal(change, bundle.levels_of(name))

    def test_a_share_of_the_noise(self, kit: Any) -> None:
        photos = kit.captioned()
        bundle = kit.make(kit.ask())
        apply_bundle(photos, bundle, kit.map, kit.root / "protected", strength=0.5)
        for path in photos.glob("*.png"):
            assert 0 < np.abs(levels(kit.root / "protected" / path.name) - levels(path)).max() <= 4

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
    def test_other_kinds_of_pictures(self, kit: Any, mode: str) -> None:
        path = kit.draw("a.png", (16, 16), mode=mode)
        (kit.photos / "a.txt").write_text("a thing", encoding="utf-8")
        apply_bundle(kit.photos, kit.make(kit.ask()), kit.map, kit.root / "protected")
        after = Image.open(kit.root / "protected" / "a.png")
        before = Image.open(path).convert(after.mode)
        change = np.abs(np.asarray(after, dtype=int) - np.asarray(before, dtype=int))
        assert 0 < change.max() <= 8

    def test_turned_by_the_camera(self, kit: Any) -> None:
        """Sizes in map and noise are those of the upright picture."""
        path = kit.draw("a.jpg", (32, 16))
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(path).save(path, exif=exif, quality=95)
        (kit.photos / "a.txt").write_text("a thing", encoding="utf-8")
        asked = kit.ask(send_size=True)
        (row,) = asked.request.rows
        assert row.size == (16, 32)
        apply_bundle(kit.photos, kit.make(asked), kit.map, kit.root / "protected")
        assert Image.open(kit.root / "protected" / "a.png").size == (16, 32)

    def test_places_and_serial_numbers_go(self, kit: Any) -> None:
        path = kit.draw("a.jpg")
        exif = Image.Exif()
        exif[0x8298] = "by me"
        exif.get_ifd(0x8825)[1] = "N"
        exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
        Image.open(path).save(path, exif=exif)
        (kit.photos / "a.txt").write_text("a thing", encoding="utf-8")
        apply_bundle(kit.photos, kit.make(kit.ask()), kit.map, kit.root / "protected")
        kept = Image.open(kit.root / "protected" / "a.png").getexif()
        assert kept[0x8298] == "by me"
        assert not kept.get_ifd(0x8825)


class TestRefusals:
    """Nothing may be written where the bundle, the map or the options are wrong."""

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: data[:-7],
            lambda data: data[: len(data) // 2],
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            lambda data: b"",
            lambda data: b"\x80\x04K*.",
        ],
    )
    def test_a_spoilt_bundle(self, kit: Any, spoil: Callable[[bytes], bytes]) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        path.write_bytes(spoil(path.read_bytes()))
        self._refused(kit, path, BundleError)

    @pytest.mark.parametrize("metadata", [{"version": "2"}, {"format": "x"}, {"epsilon_levels": "4"}])
    def test_a_bundle_of_another_kind(self, kit: Any, rewrite: Any, metadata: dict[str, str]) -> None:
        kit.captioned()
        self._refused(kit, rewrite(kit.make(kit.ask()).path, metadata=metadata), BundleError)

    def test_nan(self, kit: Any, rewrite: Any) -> None:
        kit.captioned()

        def change(tensors: dict[str, Any]) -> None:
            for tensor in tensors.values():
                tensor[:] = np.nan

        self._refused(kit, rewrite(kit.make(kit.ask()).path, change=change), BundleError)

    def test_somebody_elses_bundle(self, kit: Any) -> None:
        kit.captioned()
        theirs = kit.make(kit.ask())
        kit.request.unlink()
        kit.map.unlink()
        (kit.photos / "IMG_0.txt").write_text("another caption", encoding="utf-8")
        kit.ask()
        self._refused(kit, theirs.path, BundleError, "other prompts")

    def test_more_change_than_was_agreed_to(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask(), epsilon=17 / 255).path
        self._refused(kit, path, BundleError, "16 are accepted")
        apply_bundle(kit.photos, path, kit.map, kit.root / "protected", max_epsilon=17)

    def test_a_damaged_map(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        kit.map.write_bytes(kit.map.read_bytes()[:-9])
        self._refused(kit, path, RequestError, "damaged")

    @pytest.mark.parametrize("options", [{"strength": 0}, {"strength": 1.1}, {"strength": 0.1}, {"fit": "tile"}])
    def test_options(self, kit: Any, options: dict[str, Any]) -> None:
        kit.captioned()
        self._refused(kit, kit.make(kit.ask()).path, ConfigError, **options)

    def test_out_among_the_originals(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        before = tree(kit.root)
        with pytest.raises(ConfigError):
            apply_bundle(kit.photos, path, kit.map, kit.photos / "out")
        assert tree(kit.root) == before

    def test_another_folder(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        kit.photos.rename(kit.root / "mine")
        kit.draw("other.png")
        self._refused(kit, path, BundleError, "None of the 4 pictures")

    def test_an_empty_folder(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        kit.photos.rename(kit.root / "mine")
        kit.photos.mkdir()
        self._refused(kit, path, FolderError)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_place_that_cannot_be_written(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        locked = kit.root / "locked"
        locked.mkdir()
        locked.chmod(0o500)
        with pytest.raises(SetupError):
            apply_bundle(kit.photos, path, kit.map, locked / "protected")

    def test_a_file_where_out_should_be(self, kit: Any) -> None:
        kit.captioned()
        path = kit.make(kit.ask()).path
        (kit.root / "protected").write_text("mine", encoding="utf-8")
        before = tree(kit.root)
        with pytest.raises((ConfigError, SetupError)):
            apply_bundle(kit.photos, path, kit.map, kit.root / "protected")
        assert tree(kit.root) == before

    @staticmethod
    def _refused(kit: Any, bundle: Path, kind: type[Exception], why: str | None = None, **options: Any) -> None:
        before = tree(kit.root)
        with pytest.raises(kind, match=why):
            apply_bundle(kit.photos, bundle, kit.map, kit.root / "protected", **options)
        assert not (kit.root / "protected").exists()
        assert tree(kit.root) == before


class TestPicturesThatChanged:
    def test_they_fail_and_the_others_are_protected(self, kit: Any) -> None:
        photos = kit.captioned()
        path = kit.make(kit.ask()).path
        kit.draw("IMG_0.png", (20, 32), 99)
        (photos / "IMG_1.png").unlink()
        kit.draw("new.png")
        (photos / "IMG_2.png").write_bytes(b"no picture any more")
        plan = apply_bundle(photos, path, kit.map, kit.root / "protected", dry_run=True)
        assert isinstance(plan, ApplyPlan)
        assert not (kit.root / "protected").exists()
        summary = apply_bundle(photos, path, kit.map, kit.root / "protected")
        rows = rows_of(kit.root / "protected")
        status = {name: row["status"] for name, row in rows.items() if name.endswith(".png")}
        assert status == {"IMG_0.png": "failed", "IMG_1.png": "failed", "IMG_2.png": "failed", "IMG_3.png": "protected",
                          "new.png": "skipped"}  # fmt: skip
        assert "changed since" in rows["IMG_0.png"]["reason"]
        assert "no longer there" in rows["IMG_1.png"]["reason"]
        assert "Make a new request" in rows["new.png"]["reason"]
        assert summary.exit_code == plan.exit_code == 1
        assert (plan.protect, plan.skipped, len(plan.failed)) == (1, ("new.png",), 3)
        assert not (kit.root / "protected" / "new.png").exists()


class TestAgain:
    def test_a_finished_run_is_left_alone(self, kit: Any) -> None:
        photos = kit.captioned()
        path = kit.make(kit.ask()).path
        apply_bundle(photos, path, kit.map, kit.root / "protected")
        before = tree(kit.root)
        again = apply_bundle(photos, path, kit.map, kit.root / "protected")
        assert again.already_done
        assert tree(kit.root) == before

    def test_other_noise_does_not_mix_with_what_is_there(self, kit: Any) -> None:
        photos = kit.captioned()
        asked = kit.ask()
        one, other = (kit.make(asked, name, secret=name.encode() * 20).path for name in ("a", "b"))
        apply_bundle(photos, one, kit.map, kit.root / "protected")
        before = tree(kit.root)
        with pytest.raises(ConfigError):
            apply_bundle(photos, other, kit.map, kit.root / "protected")
        assert tree(kit.root) == before

    def test_files_of_others_are_never_replaced(self, kit: Any) -> None:
        photos = kit.captioned()
        path = kit.make(kit.ask()).path
        out = kit.root / "protected"
        out.mkdir()
        (out / "IMG_3.png").write_bytes(b"mine")
        before = tree(kit.root)
        with pytest.raises(ConfigError):
            apply_bundle(photos, path, kit.map, out)
        assert tree(kit.root) == before

    def test_stopped_and_gone_on_with(self, kit: Any) -> None:
        photos = kit.captioned()
        path = kit.make(kit.ask()).path
        apply_bundle(photos, path, kit.map, kit.root / "whole")
        stop = StopRequest()

        def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
            if stage == "write" and done >= 2:
                stop.request()

        out = kit.root / "protected"
        with pytest.raises(Interrupted):
            apply_bundle(photos, path, kit.map, out, workers=1, progress=progress, stop=stop)
        assert not (out / "bitterant-run.json").exists()
        summary = apply_bundle(photos, path, kit.map, out)
        assert summary.resumed_rows >= 2
        one, two = ({name: data for name, data in tree(kit.root / where).items() if "bitterant-" not in name}
                    for where in ("whole", "protected"))  # fmt: skip
        assert one == two

    def test_the_same_pictures_from_one_file_or_several(self, kit: Any) -> None:
        photos = kit.captioned()
        asked = kit.ask()
        one, many = kit.make(asked, "a").path, kit.make(asked, "b", shard_bytes=1).path
        for name, path in (("one", one), ("many", many)):
            apply_bundle(photos, path, kit.map, kit.root / name)
        for path in photos.glob("*.png"):
            assert (kit.root / "one" / path.name).read_bytes() == (kit.root / "many" / path.name).read_bytes()


class TestRecords:
    def test_the_manifest_names_ids_and_the_run_file_no_secret(self, kit: Any) -> None:
        photos = kit.captioned()
        asked = kit.ask()
        path = kit.make(asked).path
        out = kit.root / "protected"
        apply_bundle(photos, path, kit.map, out)
        keys = {row["key"] for row in rows_of(out).values() if row["status"] == "protected"}
        assert keys == {row.id for row in asked.request.rows}
        text = (out / "bitterant-run.json").read_text(encoding="utf-8")
        assert json.loads(text)["settings"]["method"] == "t2ue"
        assert bytes(range(32)).hex() not in text

    def test_the_summary_in_a_file(self, kit: Any) -> None:
        photos = kit.captioned()
        summary = apply_bundle(photos, kit.make(kit.ask()), kit.map, kit.root / "protected")
        path = kit.root / "report.json"
        write_summary(path, summary)
        body = json.loads(path.read_text(encoding="ascii"))
        assert body["counts"]["protected"] == 4
        assert max(body["stealth"]["linf_levels"].values()) <= 8
        with pytest.raises(ConfigError):
            write_summary(path, summary)


def test_no_torch_is_needed(kit: Any) -> None:
    """In a process of its own, where any import of torch fails."""
    photos = kit.captioned()
    path = kit.make(kit.ask()).path
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from bitterant.protect.zero_contact import apply_bundle\n"
        "summary = apply_bundle(*sys.argv[1:5])\n"
        "loaded = {'torch', 'torchvision', 'diffusers', 'timm', 'transformers'} & set(sys.modules) - {'torch'}\n"
        "assert not loaded, loaded\n"
        "print(summary.counts['protected'])\n"
    )
    words = [str(path) for path in (photos, path, kit.map, kit.root / "protected")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "4"
