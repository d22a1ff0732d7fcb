"""``--config``: its values are defaults, the command line wins, and mistakes are all told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from bitterant.cli import options
from bitterant.cli.options import ConfigOption

seen: dict[str, Any] = {}
app = typer.Typer()


@app.callback()
def top() -> None:
    """Two commands, so that each has its own table."""


@app.command()
def bake(
    source: Path,
    kind: Annotated[str, typer.Option("--format")] = "round",
    count: Annotated[int, typer.Option()] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    resume: Annotated[bool, typer.Option("--resume/--no-resume")] = True,
    name: Annotated[list[str] | None, typer.Option()] = None,
    config: ConfigOption = None,
) -> None:
    seen.clear()
    seen.update(kind=kind, count=count, dry_run=dry_run, resume=resume, name=name)


@app.command()
def eat() -> None:
    """Not looked at."""


def run(tmp_path: Path, text: str, *words: str) -> tuple[int, str]:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["bake", "here", "--config", str(path), *words], env={"COLUMNS": "400"})
    return result.exit_code, result.output


def test_the_table_of_the_command_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    text = """
    [bake]
    format = "square"
    count = 3
    dry-run = true
    resume = false
    name = ["a", "b"]
    [eat]
    count = 9
    """
    assert run(tmp_path, text, "--count", "7")[0] == 0
    assert seen == {"kind": "square", "count": 7, "dry_run": True, "resume": False, "name": ["a", "b"]}


def test_all_mistakes_are_told_at_once_with_what_was_meant(tmp_path: Path) -> None:
    code, told = run(tmp_path, '[bake]\ncuont = 3\nformat = "x"\nzebra = 1\n[bake.name]\na = 1\n')
    assert code == 2
    for part in ("'cuont'", "did you mean 'count'", "'zebra'", "'name' holds a table"):
        assert part in told


@pytest.mark.parametrize(
    ("text", "part"),
    [("[eat]\n", "no table [bake]"), ("[bake\n", "not valid TOML"), ('[bake]\ncount = "many"\n', "'--count'")],
)
def test_what_cannot_be_read_is_a_usage_error(tmp_path: Path, text: str, part: str) -> None:
    code, told = run(tmp_path, text)
    assert code == 2
    assert part in told


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bake", "here", "--config", str(tmp_path / "none.toml")], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert "cannot be read" in result.output


@pytest.mark.parametrize(
    ("text", "words", "levels"),
    [
        ("epsilon = 16", [], 16),
        ("epsilon = 16", ["--strength", "subtle"], 4),
        ("epsilon = 16", ["--strength", "subtle", "--epsilon", "6"], 6),
        ('strength = "strong"', [], 16),
        ('strength = "strong"', ["--epsilon", "5"], 5),
        ("", [], 8),
    ],
)
def test_a_strength_that_is_typed_wins_over_an_epsilon_from_the_file(
    tmp_path: Path, text: str, words: list[str], levels: float
) -> None:
    found: list[float] = []
    tool = typer.Typer()

    @tool.callback()
    def top() -> None:
        """Two levels, as the real one."""

    @tool.command()
    def bake(
        ctx: typer.Context,
        strength: options.StrengthOption = None,
        epsilon: options.EpsilonOption = None,
        config: ConfigOption = None,
    ) -> None:
        found.append(options.epsilon_levels(ctx, epsilon, strength))

    (tmp_path / "settings.toml").write_text(f"[bake]\n{text}\n", encoding="utf-8")
    result = CliRunner().invoke(tool, ["bake", "--config", str(tmp_path / "settings.toml"), *words])
    assert result.exit_code == 0, result.output
    assert found == [levels]
