"""``bitterant t2ue verify`` as a user meets it. What it computes is tested in attacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from bitterant import attacks
from bitterant.attacks.config import RetrievalConfig

Run = Callable[..., Result]
WORDS = ("black", "white", "red", "green", "blue", "gray", "wide", "flat")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve grainy pictures with captions in ``photos``, and copies that differ by up to 8 levels in ``copies``."""
    rng = np.random.default_rng(0)
    for name in ("photos", "copies"):
        (tmp_path / name).mkdir()
    for row in range(12):
        pixels = rng.integers(40, 200, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{row:02d}.png")
        changed = pixels + rng.integers(-8, 9, pixels.shape)
        Image.fromarray(changed.astype(np.uint8)).save(tmp_path / "copies" / f"{row:02d}.png")
        text = f"a {WORDS[row % 8]} and {WORDS[row // 2]} picture"
        (tmp_path / "photos" / f"{row:02d}.txt").write_text(text, encoding="utf-8")
    promise(tmp_path / "copies", 8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def promise(folder: Path, levels: float) -> None:
    run = {"settings": {"epsilon": levels / 255, "method": "t2ue"}}
    (folder / "bitterant-run.json").write_text(json.dumps(run), encoding="utf-8")


def verify(run: Run, *words: object) -> Result:
    return run("t2ue", "verify", "photos", "copies", "--seeds", 1, "--epochs", 1, *words)


class TestARun:
    @pytest.fixture(autouse=True)
    def _needs_clip(self) -> None:
        pytest.importorskip("open_clip", reason="the extra 'clip' is not installed")

    def test_tables_a_verdict_and_a_report_for_people_and_one_object_for_programs(self, run: Run, work: Path) -> None:
        result = verify(run, "--report", "report", "--json")
        assert result.exit_code == 5, "one epoch over ten pictures teaches nothing"
        told = result.stderr
        for part in ("Captions for pictures, in %", "Pictures for captions, in %", "the originals", "random noise"):
            assert part in told
        assert "the copies" in told
        assert "guessing" in told
        assert "Hit@1  Hit@5  Hit@10  median rank  left of Hit@1" in told
        assert "INVALID, this run shows nothing about the protection: the victim did not learn the clean" in told
        assert "Only 2 test pictures" in told
        content = json.loads(result.stdout)
        assert (content["schema_version"], content["kind"]) == (7, "retrieval")
        assert content["verdict"]["valid"] is False
        assert content["dataset"]["train_images"] == 10
        assert {row["arm"] for row in content["cells"]} == {"clean", "noise", "protected"}
        asked = [condition["retrieval"] for condition in content["conditions"]]
        assert [found["task"] for found in asked] == ["image_to_text", "text_to_image"]
        assert set(asked[0]["chance"]) == {"1", "5", "10"}
        assert json.loads((work / "report/report.json").read_text(encoding="utf-8")) == content
        assert content["verdict"]["headline"].replace(" %", "\u00a0%") in (work / "report/report.html").read_text(
            encoding="utf-8"
        )
        assert str(Path("report/report.html")) in told

    def test_copies_over_their_budget_are_listed(self, run: Run, work: Path) -> None:
        promise(work / "copies", 7)
        Image.new("RGB", (8, 8)).save(work / "copies/03.png")
        result = verify(run, "--json")
        assert result.exit_code == 5
        assert "INVALID, this run shows nothing about the protection: protected files" in result.stderr
        assert "11 files: changed by more than was promised" in result.stderr
        assert "00.png" in result.stderr
        assert "and 8 more" in result.stderr
        content = json.loads(result.stdout)
        assert len(content["stealth"]["over_budget"]) == 11
        assert [issue["kind"] for issue in content["dataset"]["issues"]] == ["resized"]
        assert content["cells"] == []

    def test_quiet_is_quiet(self, run: Run, work: Path) -> None:
        result = verify(run, "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (5, "", "")

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            (("--victim", "klip"), "no CLIP victim named 'klip'"),
            (("--victim", "scratch:RN51"), "Did you mean 'RN50'?"),
            (("--weights", "w.safetensors"), "no weights file w.safetensors"),
            (("--source", "coco"), "needs its file"),
            (("--coco", "none.json"), "cannot be read"),
            (("--source", "metadata"), "12 of 12 pictures have no caption"),
            (("--source", "sidecar", "--test", "photos"), "one folder or lie one in the other"),
            (("--resolution", "small"), "resolution is a whole number or 'auto'"),
            (("--report", "copies/report"), "lies in copies"),
            (("--device", "tpu"), "not a device"),
        ],
    )
    def test_wrong_words_are_told(self, run: Run, work: Path, words: tuple[str, ...], part: str) -> None:
        result = verify(run, *words)
        assert result.exit_code == 2
        assert part in " ".join(result.stderr.split())
        assert not (work / "report").exists()

    def test_weights_that_are_not_there(self, run: Run, work: Path) -> None:
        result = verify(run, "--victim", "clip:ViT-B-32/openai")
        assert result.exit_code == 3


class FakeVerdict:
    headline = "Hinders this trainer."
    caveats = ("Only 3 test pictures.",)
    valid, tiers = False, ()


class FakeStealth:
    over_budget = ()


class FakePlan:
    victim_seeds = (1, 2, 3)


class FakeDataset:
    issues = ()


class FakeResult:
    verdict, stealth, plan, dataset = FakeVerdict(), FakeStealth(), FakePlan(), FakeDataset()
    conditions, labellings, protection = (), (), None

    def exit_code(self) -> int:
        return 0

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"mode": mode}


def test_options_go_in(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def fake(clean: Path, protected: Path, **options: Any) -> FakeResult:
        seen.update(options, clean=clean, protected=protected)
        return FakeResult()

    monkeypatch.setattr(attacks, "verify_retrieval", fake)
    names = tmp_path / "names.txt"
    names.write_text("n01440764 tench\n", encoding="utf-8")
    weights = tmp_path / "w.safetensors"
    weights.touch()
    words = ["--test", "t", "--victim", "scratch:RN50", "--seeds", "2", "--epochs", "7", "--source", "coco", "--coco"]
    words += ["a.json", "--test-coco", "b.json", "--caption-column", "words", "--resolution", "32", "--seed", "5"]
    words += ["--device", "cpu", "--weights", str(weights), "--allow-download", "--class-names", str(names)]
    result = run("t2ue", "verify", "a", "b", *words, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"mode": "json"}
    assert "Hinders this trainer." in result.stderr
    assert "Only 3 test pictures." in result.stderr
    assert (seen["clean"], seen["protected"], seen["test"]) == (Path("a"), Path("b"), Path("t"))
    assert (seen["victim"], seen["seeds"], seen["epochs"], seen["resolution"]) == ("scratch:RN50", 2, 7, 32)
    assert (seen["seed"], seen["device"], seen["weights"], seen["allow_download"]) == (5, "cpu", weights, True)
    assert seen["report"] is None
    assert seen["test_coco"] == Path("b.json")
    captions = RetrievalConfig.of({name: seen[name] for name in RetrievalConfig.model_fields}).caption_options()
    assert (captions.source, captions.coco, captions.column) == ("coco", Path("a.json"), "words")
    assert captions.class_names == {"n01440764": "tench"}


def test_stopping_says_that_it_starts_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attacks, "verify_retrieval", stop)
    result = run("t2ue", "verify", "a", "b")
    assert result.exit_code == 130
    assert "starts over" in result.stderr


def test_help_names_it_and_loads_no_torch(run: Run) -> None:
    told = " ".join(run("t2ue", "--help").stdout.split())
    assert "Step 4, by the owner" in told
    script = (
        "from bitterant.cli import main\nassert main(['t2ue', 'verify', '--help']) == 0\nimport sys\n"
        "print(*[name for name in ('torch', 'torchvision', 'scipy', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == ""
