"""Options are written once: what Python, the command line and type checkers are told is the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from bitterant import attacks, protect
from bitterant.attacks.config import VerifyConfig, VerifyFolderKeywords
from bitterant.errors import ConfigError, UnknownNameError
from bitterant.imaging import MAX_PIXELS
from bitterant.protect import zero_contact
from bitterant.protect.request import ApplyConfig, FitFolderConfig, ProtectConfig
from bitterant.protect.request.config import ApplyKeywords, FitFolderKeywords, ProtectKeywords, parse_parameters
from bitterant.protect.request.text_config import ApplyBundleConfig, ApplyBundleKeywords
from bitterant.records.config import Config, Problems, spellings

ALL = [
    (protect.protect_folder, ProtectConfig, ProtectKeywords),
    (protect.fit_folder, FitFolderConfig, FitFolderKeywords),
    (protect.apply_folder, ApplyConfig, ApplyKeywords),
    (zero_contact.apply_bundle, ApplyBundleConfig, ApplyBundleKeywords),
    (attacks.verify_folder, VerifyConfig, VerifyFolderKeywords),
]


@pytest.mark.parametrize(("function", "model", "keywords"), ALL)
def test_signature_model_and_keywords_agree(function: Any, model: type[Config], keywords: Any) -> None:
    shown = inspect.signature(function).parameters
    assert set(model.model_fields) <= set(shown)
    assert all(shown[name].kind is inspect.Parameter.KEYWORD_ONLY for name in model.model_fields)
    assert set(keywords.__annotations__) | ({"dry_run"} & set(shown)) == set(model.model_fields)


@pytest.mark.parametrize("model", [row[1] for row in ALL])
def test_no_two_options_have_one_name_and_each_has_help(model: type[Config]) -> None:
    names = [word for name, (_, option) in model.options().items() for word in spellings(name, option)]
    assert len(names) == len(set(names))
    assert all(option.help for _, option in model.options().values())


def test_the_largest_picture_is_that_of_decoding() -> None:
    assert ProtectConfig().max_pixels == MAX_PIXELS


def test_everything_wrong_is_noted_and_the_rest_can_be_checked() -> None:
    problems = Problems()
    config = ProtectConfig.collect(
        {"format": "gif", "seed": -1, "workers": True, "epsilon": "much", "epsilonn": 3, "resolution": "64"}, problems
    )
    told = "\n".join(str(error) for error in problems.found)
    for part in ("no format named 'gif'", "seed -1 is outside", "workers is a whole number, not True",
                 "epsilon is a number, not 'much'", "no option named 'epsilonn'. Did you mean 'epsilon'?"):  # fmt: skip
        assert part in told
    assert (config.format, config.seed, config.resolution) == ("lossless", None, 64)


def test_numbers_of_numpy_and_paths_as_text_are_taken() -> None:
    config = ProtectConfig.of({"seed": np.int64(3), "epsilon": np.float32(8 / 255), "bank": "a/b"})
    assert (config.seed, type(config.seed), config.bank) == (3, int, Path("a/b"))
    assert config.bound("emn") == pytest.approx(8 / 255)


def test_the_words_of_the_command_line_ask_for_the_same() -> None:
    given: dict[str, Any] = {
        "method": "uc", "strength": "strong", "resume": False, "dry_run": True, "parameters": {"clusters": 20},
        "key_file": Path("k"), "metadata": "strip",
    }  # fmt: skip
    words = ProtectConfig.of(given).words()
    assert words == [
        "--strength", "strong", "--method", "uc", "--key-file", "k", "--set", "clusters=20", "--no-resume",
        "--metadata", "strip", "--dry-run",
    ]  # fmt: skip
    assert ProtectConfig().words() == []
    assert ProtectConfig.of({"epsilon": 6 / 255}).words() == ["--epsilon", "6"]


def test_only_what_decides_is_recorded() -> None:
    assert set(ProtectConfig().settings()) == {"format", "metadata", "max_pixels"}


def test_a_hyper_parameter_has_one_place() -> None:
    config = ProtectConfig.of({"generator": "g", "parameters": {"batch": 3}})
    assert config.hyper_parameters() == {"generator": "g", "batch": 3}
    with pytest.raises(ConfigError, match="given twice"):
        ProtectConfig.of({"key_file": "a", "parameters": {"key_file": "b"}}).hyper_parameters()


@pytest.mark.parametrize("words", [["clusters"], ["=3"], ["a=1", "a=2"], ["a=1e999"]])
def test_hyper_parameters_in_words_that_cannot_be_meant(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="--set"):
        ProtectConfig.of({"parameters": words})


def test_a_verification_is_repeated_by_its_command() -> None:
    config = VerifyConfig.of(
        {"victims": ["a", "b"], "adversaries": [], "epsilon": 8 / 255, "workers": 3, "report": "r"}
    )
    command = config.command(Path("x y"), Path("z"))
    assert command == (
        "bitterant verify 'x y' z --report r --preset quick --resolution auto --seed 0 --victim a --victim b "
        "--adversary none --epsilon 8"
    )
    assert "called from Python with epsilon=0.001" in VerifyConfig(epsilon=0.001).command(Path("x"), Path("y"))


@pytest.mark.parametrize("name", get_args(ProtectConfig.model_fields["metadata"].annotation))
def test_known_words_pass(name: str) -> None:
    assert ProtectConfig.of({"metadata": name}).settings()["metadata"] == name


def test_a_preset_that_is_none_is_told_with_what_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        VerifyConfig.of({"preset": "quik"})


def test_hyper_parameters_are_written_so_that_they_are_read_again() -> None:
    given = {"windows": False, "clusters": 5, "lr": 1e-4, "objective": "joint", "generator": "5", "rms": None}
    words = ProtectConfig.of({"parameters": given}).words()
    assert words[:4] == ["--set", "windows=false", "--set", "clusters=5"]
    assert parse_parameters(words[1::2]) == given


def test_the_command_of_a_run_tells_no_place_of_the_disk(tmp_path: Path) -> None:
    key = tmp_path / "my keys" / "set one.key"
    config = ProtectConfig.of(
        {"epsilon": 4 / 255, "key_file": key, "workers": 3, "resume": False, "bank": tmp_path / "b", "format": "webp"}
    )
    told = config.command("texture", None)
    assert told == "bitterant protect SRC OUT --epsilon 4 --method texture --key-file 'set one.key' --format webp"
    assert ProtectConfig().command("emn", 32).endswith("--method emn --resolution 32")
    assert "--seed 0" in ProtectConfig(seed=0).command("texture", None), "of which the key is made"
    assert ApplyConfig.of({"class_name": "cats"}).command(tmp_path / "my.bank") == (
        "bitterant apply SRC OUT --class cats --bank my.bank"
    )
    assert ApplyConfig().command(object()).endswith("--bank BANK")
