"""What runs outside the tests: workflows, hooks, forms. They parse, and agree with what the project says of itself."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml: Any = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
if not GITHUB.is_dir():
    pytest.skip("a source archive holds no workflows", allow_module_level=True)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps() -> Iterator[dict[str, Any]]:
    for job in read(GITHUB / "workflows" / "ci.yml")["jobs"].values():
        yield from job["steps"]


def test_every_file_parses_and_names_no_host() -> None:
    files = [*GITHUB.rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) >= 5
    for path in files:
        assert isinstance(read(path), dict), path
        addresses = re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"github.com"}, path


def test_the_workflow_tests_what_the_package_says_it_runs_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project["classifiers"])
    assert matrix["python"] == [match[1] for match in found if match]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    lowest = next(step for step in jobs["lowest"]["steps"] if "python-version" in step.get("with", {}))
    assert project["requires-python"] == f">={lowest['with']['python-version']}"


def test_steps_use_actions_of_a_version_and_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = [step["run"] for step in steps() if "run" in step]
    assert ".ci/run" in commands
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps() if "uses" in step)
    groups = [group for command in commands for group in re.findall(r"\.\[([\w,]+)\]", command)]
    asked = {extra for group in groups for extra in group.split(",")}
    assert asked
    assert asked <= set(project["optional-dependencies"])


def test_hooks_are_those_of_the_environment() -> None:
    repos = {repo["repo"].rpartition("/")[2]: repo for repo in read(ROOT / ".pre-commit-config.yaml")["repos"]}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", constraints, re.MULTILINE))
    assert repos["ruff-pre-commit"]["rev"] == f"v{pinned['ruff']}"
    assert {hook["id"] for hook in repos["ruff-pre-commit"]["hooks"]} == {"ruff-check", "ruff-format"}


def test_forms_hold_what_a_form_needs() -> None:
    forms = [path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 3
    for path in forms:
        form = read(path)
        assert {"name", "description", "body"} <= set(form), path
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 0, path
        for part in form["body"]:
            assert part["type"] in ("markdown", "input", "textarea", "dropdown", "checkboxes"), path
            wanted = "value" if part["type"] == "markdown" else "label"
            assert part["attributes"][wanted], path
            assert "options" in part["attributes"] or part["type"] not in ("dropdown", "checkboxes"), path


def test_documents_that_forms_and_templates_send_people_to_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in GITHUB.rglob("*") if path.is_file()]
    texts.append((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    named = {name for text in texts for name in re.findall(r"[\w./-]+\.md\b", text)}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for text in texts for name in re.findall(r"`make ([a-z]+)`", text)}
    assert [name for name in sorted(targets) if f"\n{name}:" not in make] == []
