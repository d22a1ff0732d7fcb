"""Help that fits a terminal: few options at first, all with one more word, nothing broken or left to be guessed."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from bitterant import plugins
from bitterant.attacks import adversary_names, victim_names
from bitterant.attacks.config import complete_adversary, complete_victim
from bitterant.cli.app import app
from bitterant.protect import method_class, method_names
from bitterant.protect.request.config import METHOD_WORDS, complete_method

COMMANDS = ["protect", "verify", "fit", "apply", "code-book", "demo", "app"]
COMMANDS += ["preview", "inspect", "list", "doctor", "t2ue"]
STEPS = ["captions", "noise", "apply", "inspect", "verify", "train"]


def page(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), *(("t2ue", name) for name in STEPS)])
@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_pages_fit_eighty_columns_and_name_what_to_give(words: tuple[str, ...], option: str) -> None:
    text = page(*words, option)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "<" not in text
    assert " VALUE" not in text
    assert not re.search(r"\bbool\b", text)


@pytest.mark.parametrize("command", ["protect", "verify"])
def test_the_first_page_shows_a_few_options_and_the_second_all(command: str) -> None:
    brief, full = page(command, "--help"), page(command, "--help-all")
    shown = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", brief, re.MULTILINE))
    assert len(shown - {"--help", "--help-all"}) <= 6
    everything = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", full, re.MULTILINE))
    assert len(everything) > 20
    assert shown - {"--help-all"} <= everything
    more = re.search(r"Show (\d+) more options", brief)
    assert more is not None
    assert int(more[1]) == len(everything - shown)


def test_help_of_a_command_is_not_taken_for_that_of_the_group() -> None:
    assert "protect SRC OUT [OPTIONS]" in page("protect", "--help-all")


def test_methods_are_all_named_and_completed() -> None:
    ours = {name for name in method_names() if method_class(name).__module__.startswith("bitterant.protect.")}
    assert set(METHOD_WORDS) == {"auto", *ours}
    text = " ".join(page("protect", "--help").split())
    assert all(name in text for name in METHOD_WORDS)
    assert complete_method("t") == ["texture", "t2ue"]


def test_methods_of_plugins_are_completed_without_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("tinsel", "no_such_module:Tinsel", "bitterant.methods")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == "bitterant.methods" else [])
    assert complete_method("t") == ["texture", "t2ue", "tinsel"]


def test_adversaries_and_victims_are_completed() -> None:
    assert complete_adversary("") == list(adversary_names())
    assert "jpeg" in " ".join(complete_adversary("jp"))
    assert complete_victim("") == list(victim_names())
    assert complete_victim("small-c") == ["small-cnn"]
