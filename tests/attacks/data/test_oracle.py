"""The public tool as an oracle: it is run with another seed, and where it cannot be the reason is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bitterant.attacks.data.pairing import stated_protection
from bitterant.attacks.facts import Protection
from bitterant.attacks.training import store
from bitterant.attacks.training.store import other_seed, run_tool
from bitterant.cli.app import app
from bitterant.imaging import ImageSet
from bitterant.protect import protect_folder

NOISE = Protection(method="noise", granularity="sample", epsilon=8 / 255, seed=0)


def test_the_tool_is_run_with_another_seed(tmp_path: Path, train_set: ImageSet) -> None:
    """Any program may stand for the tool: what counts is that the command is right and its pictures come back."""
    images, labels = train_set.images[:6].numpy(), np.arange(6) % 4
    made, how = run_tool(images, labels, train_set.classes, NOISE, seed=0, device="cpu")
    assert made is not None
    assert how == "made by the tool itself (noise sample, seed 900000)"
    assert np.abs(made.astype(int) - images).max() == 8
    clean, protected = tmp_path / "clean", tmp_path / "protected"
    for row, label in enumerate(labels):
        place = clean / train_set.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row].transpose(1, 2, 0)).save(place / f"{row}.png")
    subprocess.run(
        [sys.executable, "-m", "bitterant", "protect", str(clean), str(protected), "--method=noise", "--seed=0",
         "--granularity=sample", "--epsilon=8", "--quiet"], check=True,
    )  # fmt: skip
    published = np.stack(
        [
            np.asarray(Image.open(protected / train_set.classes[label] / f"{row}.png")).transpose(2, 0, 1)
            for row, label in enumerate(labels)
        ]
    )
    assert (made != published).mean() > 0.2, "the key of the published pictures is another one"


@pytest.mark.parametrize(
    ("protection", "words"),
    [
        (None, "no run file"),
        (NOISE.model_copy(update={"method": None}), "no run file"),
        (NOISE.model_copy(update={"method": "--bank=x"}), "no method of this tool"),
        (NOISE.model_copy(update={"method": "other"}), "could not be run"),
    ],
)
def test_where_the_tool_cannot_be_run_the_reason_is_told(
    protection: Protection | None, words: str, train_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert "--method=other" in command
        return subprocess.CompletedProcess(command, 2, "", "\nError: There is no method named 'other'.\n")

    monkeypatch.setattr(store.subprocess, "run", refuse)
    made, how = run_tool(
        train_set.images[:4].numpy(), np.arange(4), train_set.classes, protection, seed=0, device="cpu"
    )
    assert made is None
    assert words in how


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("texture", {"parameters": {"colour": 1.0}}, ["--set=colour=1.0"]),
        ("texture", {"for_resolution": 32}, ["--for-resolution=32"]),
        ("noise", {"granularity": "class", "resolution": 32}, ["--granularity=class", "--resolution=SIDE"]),
        pytest.param("t2ue", {"granularity": "class"}, ["--granularity=class"], marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_method_serves_as_its_own_oracle(
    method: str,
    options: dict[str, Any],
    words: list[str],
    tmp_path: Path,
    train_set: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the hyper-parameters of the published copies, and without options that the method has no use for."""
    images, labels = train_set.images[:6].numpy(), np.arange(6) % 2
    clean, protected = tmp_path / "clean", tmp_path / "protected"
    for row, label in enumerate(labels):
        place = clean / train_set.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row].transpose(1, 2, 0)).save(place / f"{row:06d}.png")
    protect_folder(clean, protected, method=method, seed=900_000 - 1, device="cpu", **options)
    stated = stated_protection(json.loads((protected / "bitterant-run.json").read_text()), protected)
    assert stated is not None
    commands: list[list[str]] = []

    def here(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[3:])
        result = CliRunner().invoke(app, command[3:])
        return subprocess.CompletedProcess(command, result.exit_code, "", result.output)

    monkeypatch.setattr(store.subprocess, "run", here)
    made, how = run_tool(images, labels, train_set.classes, stated, seed=0, device="cpu")
    assert made is not None, how
    assert {word.replace("SIDE", str(images.shape[-1])) for word in words} <= set(commands[0])
    assert np.abs(made.astype(int) - images).max() <= round(255 * (stated.epsilon or 0))
    assert (made != images).any()


def test_of_a_command_only_what_shapes_the_noise_is_taken() -> None:
    said = (
        "bitterant protect SRC OUT --method texture --set colour=0.5 --set objective=labels --set key_file=key "
        "--set floor=x.txt --for-resolution 64 --preset paper --bank /etc/passwd --set --quiet --weights w.pt"
    )
    assert store._shaping(said) == [
        "--set=colour=0.5", "--set=objective=labels", "--for-resolution=64", "--preset=paper",
    ]  # fmt: skip
    assert store._shaping("an open 'quote") == []
    assert store._shaping("") == []


def test_the_other_seed_is_another_one() -> None:
    assert other_seed(0, NOISE) == 900_000
    assert other_seed(0, NOISE.model_copy(update={"seed": 900_000})) == 900_001
