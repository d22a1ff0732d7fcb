"""``verify`` hands its options on and leaves with the report's exit code. What it computes is tested in attacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

from bitterant import attacks
from bitterant.attacks.config import VerifyConfig

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]


class FakeVerdict:
    headline = "Hinders a naive trainer."
    valid = False
    caveats = ("Only 3 test pictures.",)


class FakeReport:
    verdict = FakeVerdict()
    dataset = SimpleNamespace(issues=())
    stealth = SimpleNamespace(over_budget=())
    protection = None
    cells = ("a", "b", "c")
    reused_cells = 0
    trainers: tuple[Any, ...] = ()
    labellings: tuple[Any, ...] = ()

    def __init__(self, code: int) -> None:
        self.code = code

    def exit_code(self) -> int:
        return self.code

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"verdict": {"headline": self.verdict.headline}, "mode": mode}


@pytest.mark.parametrize("code", [0, 4, 5])
def test_options_go_in_and_the_exit_code_comes_out(run: Run, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    seen: dict[str, Any] = {}

    def fake(clean: Path, protected: Path, **options: Any) -> FakeReport:
        seen.update(options, clean=clean, protected=protected)
        return FakeReport(code)

    monkeypatch.setattr(attacks, "verify_folder", fake)
    words = ["--victim", "small-cnn", "--victim", "resnet18", "--adversary", "jpeg:50", "--seeds", "2"]
    words += ["--require-tier", "naive", "--require-grade", "strong", "--max-minutes", "1.5", "--resolution", "32"]
    words += ["--lpips", "w.pth", "--cells", "kept", "--no-resume", "--epsilon", "6"]
    result = run("verify", "a", "b", "--test", "t", "--report", "r", "--preset", "smoke", *words, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout) == {"verdict": {"headline": "Hinders a naive trainer."}, "mode": "json"}
    assert "Hinders a naive trainer." in result.stderr
    assert str(Path("r/report.html")) in result.stderr
    assert "No run file of 'bitterant protect' that can be used lies in b and b-records" in result.stderr
    assert (seen["clean"], seen["protected"], seen["test"]) == (Path("a"), Path("b"), Path("t"))
    config = VerifyConfig.of({name: value for name, value in seen.items() if name in VerifyConfig.model_fields})
    assert config.victims == ("small-cnn", "resnet18")
    assert config.adversaries == ("jpeg:50",)
    assert (config.seeds, config.resolution, config.max_minutes, config.preset) == (2, 32, 1.5, "smoke")
    assert (config.require_tier, config.require_grade) == ("naive", "strong")
    assert (config.cells, config.resume) == (Path("kept"), False)
    assert config.lpips == Path("w.pth")
    assert config.epsilon == 6 / 255


def test_what_is_left_out_is_the_presets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fake(*folders: Path, **options: Any) -> FakeReport:
        seen.update(options)
        return FakeReport(0)

    monkeypatch.setattr(attacks, "verify_folder", fake)
    assert run("verify", "a", "b").exit_code == 0
    assert set(seen) == {"report", "cells", "progress"}
    assert (seen["report"], seen["cells"]) == (Path("b-report"), None)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--preset", "quik"), "Did you mean 'quick'?"),
        (("--victim", "resnet-18"), "Did you mean 'resnet18'?"),
        (("--adversary", "jpg"), "Did you mean 'jpeg'?"),
        (("--adversary", "jpeg:200"), "from 1 to 100"),
        (("--max-minutes", "-1"), "positive"),
    ],
)
def test_wrong_words_are_told_with_what_was_meant(
    run: Run, make_folder: MakeFolder, words: tuple[str, ...], part: str
) -> None:
    src = make_folder({"cats": 3, "dogs": 3})
    result = run("verify", src, src, *words)
    assert result.exit_code == 2
    assert part in " ".join(result.stderr.split())


def test_a_missing_folder(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"cats": 3, "dogs": 3})
    assert run("verify", src, src.parent / "none").exit_code == 2


def test_weights_that_are_named_and_missing_stop_the_run(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    src = make_folder({"cats": 3, "dogs": 3})
    shutil.copytree(src, tmp_path / "copy")
    result = run("verify", src, tmp_path / "copy", "--lpips", tmp_path / "none.pth")
    assert result.exit_code == 3
    assert "no weights file" in " ".join(result.stderr.split())


class Row:
    """Anything with attributes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_each_tier_is_told_with_its_interval_also_without_a_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README promises the weakest trainer that gets through, with intervals."""
    figure = Row(estimate=0.27, low=0.11, high=0.43)
    report = FakeReport(0)
    report.verdict = Row(  # type: ignore[assignment]
        headline="Hinders.",
        valid=True,
        caveats=("In doubt: something.",),
        tiers=(
            Row(tier="naive", grade="strong", worst="small-cnn/none", complete=True),
            Row(tier="prior", grade="not tested", worst=None, complete=False),
            Row(tier="mixing", grade="none", worst="small-cnn/mix:0.5", complete=False),
        ),
    )
    report.conditions = (  # type: ignore[attr-defined]
        Row(id="small-cnn/none", figure=figure, metric="rho"),
        Row(id="small-cnn/mix:0.5", figure=figure, metric="mv"),
    )
    monkeypatch.setattr(attacks, "verify_folder", lambda *_, **__: report)
    told = run("verify", "a", "b").stderr
    assert "naive   strong; still learnable 0.27 (0.11 to 0.43) of what clean pictures teach: small-cnn/none" in told
    assert "mixing  none, partly tested; they add 0.27 (0.11 to 0.43) of what clean pictures would add" in told
    assert "In doubt: something." in told
    assert "prior" not in told


def gets(value: float, identity: str, **changes: Any) -> Row:
    figures = {
        "id": identity,
        "moment": "final",
        "accuracy": Row(estimate=value, low=value - 0.02, high=value + 0.02),
        "clean": Row(estimate=0.6),
        "rho": Row(estimate=0.5),
        "mv": None,
    }
    return Row(**figures | changes)


def test_the_worst_case_of_each_class_of_trainers_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = FakeReport(0)
    report.verdict = Row(headline="Hinders.", valid=True, caveats=(), tiers=())  # type: ignore[assignment]
    report.conditions = ()  # type: ignore[attr-defined]
    seen, held = gets(0.35, "small-cnn/jpeg:10", moment="peak"), gets(0.2, "small-cnn/webp:30")
    mixed = gets(0.5, "small-cnn/mix:0.8", rho=None, mv=Row(estimate=-0.25))
    report.trainers = (
        Row(
            trainer="W1",
            tested=("a",),
            untested=("small-cnn/median: no time",),
            seen=seen,
            held_out=held,
            worst=seen,
            at_end=gets(0.31, "small-cnn/none"),
        ),
        Row(trainer="W5", tested=(), untested=(), seen=None, held_out=None, worst=None, at_end=None),
        Row(trainer="mixing", tested=("b",), untested=(), seen=mixed, held_out=None, worst=mixed, at_end=mixed),
    )
    monkeypatch.setattr(attacks, "verify_folder", lambda *_, **__: report)
    told = run("verify", "a", "b").stderr
    assert (
        "W1      seen 35 % (33 to 37) of 60 %, still learnable 0.50: small-cnn/jpeg:10, at its best moment; "
        "held out 20 % (18 to 22) of 60 %, still learnable 0.50: small-cnn/webp:30; at the end at most 31 %: "
        "small-cnn/none; not tested: small-cnn/median\n"
    ) in told
    assert "mixing  seen 50 % (48 to 52) of 60 %, marginal value -0.25: small-cnn/mix:0.8\n" in told
    assert "No trainer was tested of: W5. Adversaries held out from crafting: W1 alone. One protected copy" in told


@pytest.mark.parametrize("levels", ["0", "300", "-8", "0.5", "nan"])
def test_a_budget_out_of_range(run: Run, make_folder: MakeFolder, levels: str) -> None:
    src = make_folder({"cats": 3, "dogs": 3})
    result = run("verify", src, src, "--epsilon", levels)
    assert result.exit_code == 2
    assert "outside 1..255 levels" in " ".join(result.stderr.split())


def test_stopping_says_that_verify_starts_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attacks, "verify_folder", stop)
    result = run("verify", "a", "b", "--no-report")
    assert result.exit_code == 130
    assert "starts over" in result.stderr
    assert "goes on" not in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--report", "r"), f"kept in {Path('r/cells')}; the same command goes on"),
        (("--report", "r", "--cells", "c"), "kept in c; the same command goes on"),
        (("--cells", "c", "--no-resume"), "kept in c; the same command without --no-resume goes on"),
    ],
)
def test_stopping_tells_what_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attacks, "verify_folder", stop)
    result = run("verify", "a", "b", *words)
    assert result.exit_code == 130
    assert told in result.stderr


def test_reused_trainings_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = FakeReport(0)
    monkeypatch.setattr(attacks, "verify_folder", lambda *_, **__: report)
    assert "trainings" not in run("verify", "a", "b", "--report", "r").stderr
    report.reused_cells = 2
    told = run("verify", "a", "b", "--report", "r").stderr
    assert f"2 of 3 trainings were done before and kept in {Path('r/cells')}." in told


def test_a_report_is_kept_beside_the_copies_and_never_written_over(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []

    def fake(*folders: Path, **options: Any) -> FakeReport:
        seen.append(options)
        return FakeReport(0)

    monkeypatch.setattr(attacks, "verify_folder", fake)
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    assert str(Path("out-report/report.html")) in run("verify", "a", "out").stderr
    begun = tmp_path / "out-report"
    begun.mkdir()
    (begun / "plan.json").touch()
    run("verify", "a", "out/")
    (begun / "report.json").touch()
    (begun / "cells").mkdir()
    run("verify", "a", tmp_path / "out")
    (tmp_path / "out-report-2").touch()
    run("verify", "a", "out")
    run("verify", "a", "out", "--no-report")
    warned = run("verify", "a", "out", "--report", begun)
    assert [(tmp_path / s["report"]).name if "report" in s else None for s in seen] == [
        "out-report", "out-report", "out-report-2", "out-report-3", None, "out-report",
    ]  # fmt: skip
    assert [s["cells"] for s in seen[:2]] == [None, None]
    assert [s["cells"] for s in seen[2:4]] == [begun / "cells"] * 2
    assert "will be replaced" in warned.stderr
    assert run("verify", "a", "out", "--report", "r", "--no-report").exit_code == 2


@pytest.mark.parametrize("word", ["half", "float16", "BFLOAT16", ""])
def test_a_precision_that_does_not_exist_is_refused(run: Run, word: str) -> None:
    result = run("verify", "a", "b", "--precision", word)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: There is no precision named {word!r}.")
    assert result.stderr.endswith("Known: auto, bfloat16, float32.\n")
