"""Names and texts of others never act in a terminal or a page: a table of attacks over the commands that show them."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import Result

from bitterant.cli.boundary import guarded
from bitterant.cli.output import Output, ProgressDisplay
from bitterant.protect import TextureBank
from bitterant.protect.zero_contact.bundle import BundleInfo, TensorPlan, write_bundle

Run = Callable[..., Result]
NOISE = ("--method", "noise", "--resolution", "16", "--device", "cpu")

#: What a name may hold; each holds the letters EVIL, so that it is known to have been shown.
ATTACKS = {
    "screen": "\x1b[2J\x1b[8mEVIL",
    "title": "\x1b]0;EVIL\x07",
    "one byte": "\x9b31mEVIL",
    "line": "EVIL\nerror: all is lost",
    "return": "EVIL\r\rdone",
    "back": "EVIL\x08\x08\x08",
    "direction": "EVIL\u202egnp.\u2066",
    "separator": "EVIL\u2028error: all is lost",
    "page": "EVIL<script>alert(1)</script>\"'&",
    "markup": "EVIL[bold red]x[/bold red][link=file]",
    "no text": "EVIL\udcff\udc9b",
}


def harmless(text: str) -> None:
    acting = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert not acting
    assert not any(line.startswith("error: all is lost") for line in text.split("\n"))


def fill(root: Path, attack: str) -> Path:
    """Two classes, one called like the attack, with pictures, damaged files, others and captions called so, too."""
    rng = np.random.default_rng(0)
    for label in (f"a{attack}", "b"):
        try:
            (root / label.replace("/", "")).mkdir(parents=True)
        except OSError:
            pytest.skip("this disk takes no such name")
        for index in range(3):
            path = root / label.replace("/", "") / f"{attack.replace('/', '')}{index}.png"
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    (root / "b" / f"{attack.replace('/', '')}.jpg").write_bytes(b"no picture")
    (root / "b" / f"{attack.replace('/', '')}.dat").write_bytes(b"")
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": f"b/{attack}0.png", "text": attack}) + "\n{\n")
    return root


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_folder_full_of_it(run: Run, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, out = fill(tmp_path / "src", ATTACKS[kind].replace("/", "")), tmp_path / "out"
    shown = ""
    for words in (
        ("protect", source, out, *NOISE, "--dry-run"),
        ("protect", source, out, *NOISE),
        ("protect", source, out, *NOISE, "--seed", "5"),
        ("fit", source, tmp_path / "x.bank", *NOISE),
        ("apply", source, tmp_path / "applied", "--bank", tmp_path / "x.bank"),
        ("inspect", source, out),
        ("preview", source, "--count", "12", "--output", tmp_path / "preview.html"),
        ("t2ue", "captions", source, "--yes", "--out", tmp_path / "request.jsonl"),
        ("verify", source, out, "--epsilon", "8", "--device", ATTACKS[kind]),
    ):
        result = run(*words)
        harmless(result.stderr + result.stdout)
        shown += result.stderr + result.stdout
    assert shown.count("EVIL") > 5
    if kind == "no text":  # such a class is refused
        return
    for page in (out / "bitterant-report.html", tmp_path / "preview.html"):
        text = page.read_text(encoding="utf-8")
        assert "EVIL" in text
        harmless(text.replace("\n", " "))  # where a line ends means nothing in a page
        assert "<script" not in text
        assert 'EVIL"' not in text


@pytest.mark.parametrize("kind", ATTACKS)
def test_words_and_configurations(run: Run, tmp_path: Path, kind: str) -> None:
    attack = ATTACKS[kind].encode("utf-8", "replace").decode()
    config = tmp_path / "c.toml"
    config.write_text("[protect]\n" + json.dumps(attack, ensure_ascii=True) + " = 1\n")
    for words in (
        ("protect", "src", "out", "--config", config),
        ("protect", "src", "out", f"--{attack}"),
        ("protect", "src", "out", "--method", attack),
        (attack,),
        ("list", attack),
        ("inspect", attack, "b"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        harmless(result.stderr + result.stdout)
        assert "EVIL" in result.stderr


@pytest.mark.parametrize("kind", ATTACKS)
def test_banks_bundles_and_run_files_of_others(
    run: Run, make_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    """Files that came from elsewhere, sound but for what they say; on a page, too, where one is made of them."""
    attack = ATTACKS[kind].encode("utf-8", "replace").decode()
    source, bank, bundle = make_folder({"a": 2, "b": 2}), tmp_path / "x.bank", tmp_path / "x.noise.safetensors"
    TextureBank.of_classes([attack, f"{attack}2"], bytes(16)).save(bank)
    info = BundleInfo(
        stage="native", epsilon_levels=8, native_size=8, generator_id=attack, generator_sha256=attack,
        text_encoder=attack, text_norm=attack, z_mode="class", prompt_mode="fixed", resize="stretch", count=1,
        prompts_sha256=attack,
    )  # fmt: skip
    write_bundle(bundle, info, [TensorPlan("c/x", 8, 8)], [np.ones((3, 8, 8), np.float32)], {"0" * 16: "x"})
    assert run("protect", source, tmp_path / "out", *NOISE).exit_code == 0
    ran = tmp_path / "out" / "bitterant-run.json"
    ran.write_text(json.dumps({**json.loads(ran.read_text()), "warnings": [attack]}))
    listed = tmp_path / "captions.json"
    listed.write_text(json.dumps({"images": [{"id": 1, "file_name": attack}], "annotations": [{"image_id": 1}]}))
    for words, code, says in (
        (("apply", source, tmp_path / "o", "--bank", bank), 2, ""),
        (("apply", source, tmp_path / "o", "--bank", bank, "--class", "c"), 2, ""),
        (("apply", source / "a", tmp_path / "o", "--bank", bank), 2, "EVIL"),
        (("t2ue", "inspect", bundle), 0, "EVIL"),
        (("protect", source, tmp_path / "out", *NOISE), 0, "EVIL"),
        (("t2ue", "captions", source, "--yes", "--coco", listed, "--source", "coco", "--out", tmp_path / "r"), 2, ""),
    ):
        result = run(*words)
        assert result.exit_code == code, result.stderr
        harmless(result.stderr + result.stdout)
        assert says in result.stderr + result.stdout


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("terminal", [False, True])
def test_every_channel(capsys: pytest.CaptureFixture[str], kind: str, terminal: bool) -> None:
    attack, output = ATTACKS[kind], Output()
    output.people = Console(stderr=True, highlight=False, soft_wrap=True, force_terminal=terminal, color_system=None)
    output.say(attack, style="bold")
    output.warn(attack)
    output.error(attack, attack)
    output.facts([("name", attack), (attack, "value")])
    output.answer(["name"], [[attack]])

    def work() -> None:
        logging.getLogger("bitterant.x").warning("%s", attack)
        try:
            raise ValueError(attack)
        except ValueError:
            logging.getLogger("bitterant.x").exception("%s", attack)
        raise RuntimeError(attack)

    with pytest.raises(typer.Exit), guarded(output, debug=True):
        work()
    if not terminal:  # a bar moves the cursor itself
        with ProgressDisplay(output, clock=iter(range(0, 10_000, 100)).__next__) as progress:
            for done in range(3):
                progress("write", done, 3, attack)
    out, err = capsys.readouterr()
    harmless(out + err)
    assert err.count("EVIL") >= 8
    assert "EVIL" in out


def test_a_bar_shows_names_and_does_not_obey_them(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.people = Console(stderr=True, highlight=False, force_terminal=True, width=200, color_system=None)
    with ProgressDisplay(output) as progress:
        progress("write", 1, 3, "EVIL\x1b[8m\u202e[bold]")
        assert progress._bar is not None
        progress._bar.refresh()
    err = capsys.readouterr().err
    assert "EVIL\\x1b[8m\\u202e[bold]" in err
    assert "\x1b[8m" not in err
    assert "\u202e" not in err


def test_a_problem_of_several_has_a_line_each_and_no_more(run: Run, tmp_path: Path) -> None:
    result = run("protect", tmp_path / "EVIL\nerror: all is lost", tmp_path, "--epsilon", "900")
    assert result.exit_code == 2
    harmless(result.stderr)
    count = int(result.stderr.split()[1])
    assert count >= 2
    assert sum(line.startswith("  - ") for line in result.stderr.splitlines()) == count
    assert os.sep in result.stderr
