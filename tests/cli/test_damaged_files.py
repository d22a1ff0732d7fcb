"""Files that were tampered with: the command says which one, exits with 2, and never with a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
NOISE = ("--method", "noise", "--resolution", "16", "--device", "cpu")

DEEP = "[" * 5000 + "]" * 5000
TEXTS = {
    "deep": DEEP,
    "deep and open": "[" * 100_000,
    "a list": "[1, 2]",
    "a number": "9" * 5000,
    "infinity": '{"a": Infinity}',
    "cut": "{",
    "nothing": "",
    "bytes": "\udcff\udcfe",
}


@pytest.fixture
def source(make_folder: MakeFolder) -> Path:
    return make_folder({"a": 3, "b": 3})


def told(result: Result, path: Path) -> None:
    assert result.exit_code == 2, result.stderr
    assert path.name in result.stderr
    assert "Traceback" not in result.stderr
    assert "fault in bitterant" not in result.stderr
    assert len(result.stderr) < 2000


def damage(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("kind", TEXTS)
def test_a_run_file(run: Run, source: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / "bitterant-run.json"
    damage(path, TEXTS[kind])
    told(run("protect", source, path.parent, *NOISE), path)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_state_of_a_run(run: Run, source: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / ".bitterant-state.json"
    damage(path, TEXTS[kind])
    told(run("protect", source, path.parent, *NOISE), path)


ROW = {"source": "a/000.png", "output": "a/000.png", "sha256_in": "0", "sha256_out": "0", "status": "protected"}


@pytest.mark.parametrize(
    "line",
    [*(text for kind, text in TEXTS.items() if kind != "nothing"), json.dumps({**ROW, "output": "../../x"}),
     json.dumps({**ROW, "output": "/etc/passwd"}), json.dumps({**ROW, "output": ["x"]}),
     json.dumps({**ROW, "linf_levels": "much"}), json.dumps({**ROW, "seconds": DEEP}),
     json.dumps({**ROW, "width": True})],
    ids=range(13),
)  # fmt: skip
def test_a_manifest(run: Run, source: Path, tmp_path: Path, line: str) -> None:
    out = tmp_path / "out"
    assert run("protect", source, out, *NOISE).exit_code == 0
    path = out / "bitterant-manifest.jsonl"
    lines = path.read_bytes().splitlines()
    lines[2] = line.encode("utf-8", "surrogateescape")
    path.write_bytes(b"\n".join(lines) + b"\n")
    told(run("protect", source, out, *NOISE), path)
    told(run("inspect", source, out), path)


@pytest.mark.parametrize(
    "text",
    ["[protect]\nx=" + DEEP, "[protect]\nseed=" + "9" * 5000, "[protect]\nepsilon=nan", "[protect]\nx={a=1}", "[",
     "\udcff", "x=1"],
    ids=range(7),
)  # fmt: skip
def test_a_configuration(run: Run, source: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    damage(path, text)
    told(run("protect", source, tmp_path / "out", *NOISE, "--config", path), path)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_request_its_map_and_an_index_of_a_bundle(run: Run, source: Path, tmp_path: Path, kind: str) -> None:
    request = tmp_path / "request.jsonl"
    assert run("t2ue", "captions", source, "--yes", "--out", request).exit_code == 0
    index = tmp_path / "x.noise.index.json"
    damage(index, TEXTS[kind])
    words = ("t2ue", "apply", source, index, "-o", tmp_path / "out", "--map", tmp_path / "request.map.json")
    told(run(*words), index)
    damage(tmp_path / "request.map.json", TEXTS[kind])
    told(run(*words), tmp_path / "request.map.json")
    damage(request, TEXTS[kind])
    told(run("t2ue", "noise", request, "-o", tmp_path / "y.noise.safetensors"), request)


@pytest.mark.parametrize("kind", ["deep", "a number", "cut", "bytes"])
def test_tables_of_captions(run: Run, source: Path, tmp_path: Path, kind: str) -> None:
    damage(tmp_path / "coco.json", TEXTS[kind])
    words = ("t2ue", "captions", source, "--yes", "--out", tmp_path / "request.jsonl")
    told(run(*words, "--coco", tmp_path / "coco.json", "--source", "coco"), tmp_path / "coco.json")
    damage(tmp_path / "names.json", TEXTS[kind])
    told(run(*words, "--class-names", tmp_path / "names.json"), tmp_path / "names.json")
    damage(source / "metadata.jsonl", TEXTS[kind])
    told(run(*words, "--source", "metadata"), source / "metadata.jsonl")


@pytest.mark.parametrize("field", ["keys", "epsilon", "seed"])
@pytest.mark.parametrize("kind", ["deep", "a number", "nothing"])
def test_a_bank(run: Run, source: Path, tmp_path: Path, field: str, kind: str) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "x.bank"
    assert run("fit", source, path, *NOISE).exit_code == 0
    with safe_open(path, "pt") as handle:
        metadata, tensors = handle.metadata(), {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    save_file(tensors, path, {**metadata, field: TEXTS[kind]})
    told(run("apply", source, tmp_path / "out", "--bank", path), path)
