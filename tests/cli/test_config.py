"""``--config``: its values are defaults, the command line wins, and mistakes are all told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BeforeValidator
from typer.testing import CliRunner

from bitterant.cli.options import Given, Terminal, takes_options
from bitterant.errors import ConfigError
from bitterant.records.config import BudgetConfig, Config, Option, at_least, one_or_more

seen: dict[str, Any] = {}
app = typer.Typer()


class Baking(Config):
    format: Annotated[Literal["round", "square"], Option(help="", called="shape")] = "round"
    count: Annotated[int, at_least("count", 1), Option(help="")] = 1
    weight: Annotated[float, Option(help="")] = 1.0
    dry_run: Annotated[bool, Option(help="")] = False
    resume: Annotated[bool, Option(help="", names=("--resume/--no-resume",))] = True
    name: Annotated[tuple[str, ...], BeforeValidator(one_or_more), Option(help="")] = ()


@app.callback()
def top() -> None:
    """Two commands, so that each has its own table."""


@app.command()
@takes_options(Baking, from_file=True)
def bake(source: Path, given: Given, terminal: Terminal) -> None:
    seen.clear()
    seen.update(Baking.of(given).model_dump(), json=terminal.output.as_json)


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
    assert seen == {
        "format": "square", "count": 7, "weight": 1.0, "dry_run": True, "resume": False, "name": ("a", "b"),
        "json": False,
    }  # fmt: skip


def test_one_word_is_a_list_of_one_and_a_command_may_talk_as_the_file_says(tmp_path: Path) -> None:
    assert run(tmp_path, '[bake]\nname = "abc"\njson = true\n')[0] == 0
    assert (seen["name"], seen["json"]) == (("abc",), True)


def test_all_mistakes_are_told_at_once_with_what_was_meant(tmp_path: Path) -> None:
    text = """
    [bake]
    cuont = 3
    dry-rnu = true
    count = 0
    format = "x"
    weight = "much"
    dry-run = "perhaps"
    zebra = 1
    quiet = 7
    [bake.name]
    a = 1
    """
    code, told = run(tmp_path, text)
    assert code == 2
    told = " ".join(told.replace("│", " ").split())
    for part in (
        "'cuont'", "did you mean 'count'?", "of bake (did you mean 'dry-run'?);",
        "'zebra'", "'name' holds a table", "count must be at least 1, not 0",
        "no shape named 'x'", "weight is a number, not 'much'", "dry_run is true or false, not 'perhaps'",
        "quiet is true or false, not 7",
    ):  # fmt: skip
        assert part in told


@pytest.mark.parametrize("value", ["1.5", "true", "[1]", '"1.5"'])
def test_a_whole_number_is_one(tmp_path: Path, value: str) -> None:
    code, told = run(tmp_path, f"[bake]\ncount = {value}\n")
    assert code == 2
    assert "count is a whole number" in told


def test_what_is_typed_is_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(app, ["bake", "here", "--count", "0", "--format", "sqare"], catch_exceptions=False)
    assert "2 things are wrong" in str(caught.value)
    assert "Did you mean 'square'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[eat]\n", "no table [bake]"),
        ("[bake\n", "not valid TOML"),
        ('[bake]\ncount = "many"\n', "count is a whole number"),
    ],
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
        ("epsilon = 16", [], (16, 16)),
        ("epsilon = 16", ["--strength", "subtle"], (4, 8)),
        ("epsilon = 16", ["--strength", "subtle", "--epsilon", "6"], (6, 6)),
        ('strength = "strong"', [], (16, 16)),
        ('strength = "strong"', ["--epsilon", "5"], (5, 5)),
        ("", [], (8, 12)),
    ],
)
def test_a_strength_that_is_typed_wins_over_an_epsilon_from_the_file(
    tmp_path: Path, text: str, words: list[str], levels: tuple[int, int]
) -> None:
    found: list[float] = []
    tool = typer.Typer()

    @tool.callback()
    def top() -> None:
        """Two levels, as the real one."""

    @tool.command()
    @takes_options(BudgetConfig, from_file=True)
    def bake(given: Given, terminal: Terminal) -> None:
        config = BudgetConfig.of(given)
        found.extend(255 * config.bound(method) for method in ("emn", "texture"))

    (tmp_path / "settings.toml").write_text(f"[bake]\n{text}\n", encoding="utf-8")
    result = CliRunner().invoke(tool, ["bake", "--config", str(tmp_path / "settings.toml"), *words])
    assert result.exit_code == 0, result.output
    assert found == pytest.approx(levels)
