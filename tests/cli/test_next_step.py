"""Every command that a run suggests can be typed as it stands, and starts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from bitterant.attacks.terms import fewest_for_groups
from bitterant.cli.output import free_name, quoted

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]


class Started(BaseException):
    """A verification has got as far as training."""


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise Started

    monkeypatch.setattr("bitterant.attacks.verify.run_grid", start)


def _suggested(result: Result) -> list[str]:
    found = re.findall(r"^Next: (bitterant .*)$", result.stderr, re.MULTILINE)
    assert len(found) == 1, result.stderr
    return shlex.split(found[0])[1:]


@pytest.mark.parametrize(
    ("classes", "method", "next_one"),
    [
        ({"cats": 25, "dogs": 25}, "texture", "verify"),
        ({"cats": 25, "dogs": 25}, "noise", "verify"),
        ({"cats": 6, "dogs": 3}, "noise", "inspect"),
        ({"cats": 3}, "noise", "inspect"),
        ({"": fewest_for_groups()}, "noise", "verify"),
        ({"": fewest_for_groups() - 1}, "noise", "inspect"),
        ({"": 2}, "noise", "inspect"),
    ],
)
def test_what_protect_suggests_starts(
    run: Run, make_folder: MakeFolder, classes: dict[str, int], method: str, next_one: str
) -> None:
    source = make_folder(classes, name="my pictures; all")
    words = _suggested(run("protect", source, source.parent / "out put", "--method", method))
    assert words[0] == next_one
    if next_one == "verify":
        with pytest.raises(Started):
            run(*words)
    else:
        assert run(*words).exit_code == 0


@pytest.mark.parametrize("command", ["protect", "apply"])
def test_a_share_is_joined_before_it_is_looked_at(run: Run, make_folder: MakeFolder, command: str) -> None:
    source = make_folder({"cats": 3, "dogs": 3})
    given = ["--method", "noise"]
    if command == "apply":
        assert run("fit", source, source.parent / "bank", *given, "--granularity", "class").exit_code == 0
        given = ["--bank", str(source.parent / "bank")]
    result = run(command, source, source.parent / "out 1", *given, "--shard", "1/2")
    assert "\nNext: " not in result.stderr, "no verification of a part against the whole"
    told = re.findall(r"^Next, when all shares are there: (.*) OTHERS\.\.\. DEST$", result.stderr, re.MULTILINE)
    assert [shlex.split(line) for line in told] == [["bitterant", "merge", str(source.parent / "out 1")]]


def test_paths_are_told_from_options_and_names_that_are_taken_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shlex.split(quoted("-a b")) == ["./-a b"]
    assert free_name("out", ".bin") == "out.bin"
    Path("out.bin").touch()
    assert free_name("out", ".bin") == "out-2.bin"


@pytest.mark.parametrize("granularity", ["class", "sample"])
def test_what_fit_and_apply_suggest_starts(run: Run, make_folder: MakeFolder, tmp_path: Path, granularity: str) -> None:
    source = make_folder({"cats": 3, "dogs": 3}, name="my pictures")
    (tmp_path / "my pictures-protected").mkdir()  # a name that is taken
    words = _suggested(run("fit", source, tmp_path / "a bank", "--method", "noise", "--granularity", granularity))
    assert words[0] == "apply"
    applied = run(*words)
    assert applied.exit_code == 0
    assert not any((tmp_path / "my pictures-protected").iterdir())
    assert run(*_suggested(applied)).exit_code == 0


def test_what_is_suggested_instead_of_a_verification_comes_with_the_reason(run: Run, make_folder: MakeFolder) -> None:
    for classes, needed in (({"cats": 3, "dogs": 3}, "25 pictures of each class"), ({"": 3}, "60 pictures")):
        source = make_folder(classes, name=f"src{len(classes)}")
        told = run("protect", source, source.with_name(f"{source.name}-out"), "--method", "noise").stderr
        assert "too few pictures for 'bitterant verify', which takes" in told
        assert needed in told
        assert told.index("too few pictures") < told.index("Next: bitterant inspect")


def test_what_a_refusal_of_verify_names_is_not_refused_again(run: Run, make_folder: MakeFolder) -> None:
    """From a few pictures without classes, by either way that the message names, to a start."""
    flat = make_folder({"": 6}, name="flat")
    protect_noise = ("--method", "noise", "--quiet")
    assert run("protect", flat, flat.parent / "flat-out", *protect_noise).exit_code == 0
    refused = run("verify", flat, flat.parent / "flat-out", "--no-report")
    assert refused.exit_code == 2
    told = " ".join(refused.stderr.split())
    found = re.search(r"with (\d+) pictures each; or with fewer, and (\d+) others of each class", told)
    assert found is not None, told
    many, others = int(found[1]), int(found[2])
    test = make_folder({"a": others, "b": others}, name="test", seed=7)
    for name, count, words in (("many", many, ()), ("few", 3, ("--test", test))):
        source = make_folder({"a": count, "b": count}, name=name)
        assert run("protect", source, source.parent / f"{name}-out", *protect_noise).exit_code == 0
        with pytest.raises(Started):
            run("verify", source, source.parent / f"{name}-out", "--no-report", *words)


def test_a_test_folder_that_is_too_small_is_not_to_be_left_out_where_that_is_refused_too(
    run: Run, make_folder: MakeFolder
) -> None:
    test = make_folder({"a": 1, "b": 1}, name="test", seed=7)
    for count in (3, 25):
        source = make_folder({"a": count, "b": count}, name=f"src{count}")
        assert run("protect", source, source.parent / f"{count}-out", "--method", "noise").exit_code == 0
        told = run("verify", source, source.parent / f"{count}-out", "--no-report", "--test", test).stderr
        assert "Put more pictures into it, 5 of each class" in " ".join(told.split())
        assert ("leave --test out" in told) == (count == 25)


def test_one_broken_file_does_not_hide_what_comes_next(run: Run, make_folder: MakeFolder) -> None:
    source = make_folder({"cats": 25, "dogs": 26}, name="some")
    broken = next((source / "dogs").iterdir())
    broken.write_bytes(broken.read_bytes()[:60])
    for number in range(4):
        (source / "cats" / f"{number}.xmp").write_text("<x/>")
    out = source.parent / "out"
    result = run("protect", source, out, "--method", "noise")
    assert result.exit_code == 1
    told = result.stderr
    assert told.index(f"dogs/{broken.name}") < told.index("4 files (cats/0.xmp, cats/1.xmp, cats/2.xmp, ...)")
    words = _suggested(result)
    assert words[0] == "verify"
    with pytest.raises(Started):
        run(*words)
    assert _suggested(run("protect", source, out, "--method", "noise")) == words, "also of a folder that is finished"
