"""Plug-ins: found by their entry points, loaded when a name asks for them; a broken one is told and harms nobody."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitterant.errors import ConfigError
from bitterant.plugins import PlugIns

ROOT = Path(__file__).resolve().parents[1]
GROUP = "bitterant.things"

PACKAGE = '''
from torch import Tensor, nn

from bitterant import Adversary, Method, register_victim
from bitterant.surrogates import Recipe


class Tint(Method):
    """A shade a class."""

    name = "tint"
    needs = "labels"
    granularities = ("class",)

    def _fit(self, dataset, context):
        raise NotImplementedError


class Mirror(Adversary):
    """Looks at the pictures in a mirror."""

    prefix = "mirror"
    tier = "transforms"
    source = "nobody"
    description = "mirrors every picture"

    def transform(self, images):
        return images[:, :, :, ::-1].copy()


@register_victim("one-layer", recipe=Recipe(steps=7), family="linear")
def one_layer(num_classes, resolution):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * resolution**2, num_classes))


def two_layers(num_classes, resolution):
    return nn.Sequential(one_layer(8, resolution), nn.Linear(8, num_classes))


JPEG = type("Jpeg", (Mirror,), {"prefix": "jpeg"})
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a distribution as pip would, without pip: modules, and entry points in its metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def put(name: str, points: dict[str, dict[str, str]], modules: dict[str, str] | None = None) -> Path:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        sections = [
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in these.items()) for group, these in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(sections))
        for module, text in (modules or {}).items():
            (tmp_path / f"{module}.py").write_text(text)
        return tmp_path

    yield put
    for module in set(sys.modules) - before:
        if (
            getattr(sys.modules[module], "__file__", None)
            and Path(sys.modules[module].__file__ or "").parent == tmp_path
        ):
            del sys.modules[module]


def collect(plugins: PlugIns) -> dict[str, Any]:
    found: dict[str, Any] = {}
    plugins.load(found.__setitem__)
    return found


def test_they_are_loaded_once_and_say_where_they_come_from(install: Callable[..., Path]) -> None:
    install("things-of-mine", {GROUP: {"sum": "things_a:add"}}, {"things_a": "def add(): ...\nprint(end='')"})
    plugins = PlugIns(GROUP, "thing")
    assert "things_a" not in sys.modules
    assert [thing.__name__ for thing in collect(plugins).values()] == ["add"]
    assert plugins.origin("sum") == "things_a:add of things-of-mine 1.0"
    assert collect(plugins) == {}
    assert plugins.origin("product") is None
    plugins.explain("sum")
    plugins.explain("product")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError"),
        ("other = 1", "AttributeError"),
    ],
)
def test_a_broken_one_is_one_warning_that_names_it(
    install: Callable[..., Path], caplog: pytest.LogCaptureFixture, text: str, words: str
) -> None:
    points = {GROUP: {"bad": "things_bad:thing", "good": "things_good:thing"}}
    install("things", points, {"things_bad": text, "things_good": "thing = 5"})
    plugins = PlugIns(GROUP, "thing")
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert collect(plugins) == {"good": 5}
        collect(plugins)
    (record,) = caplog.records
    assert "'bad', things_bad:thing of things 1.0" in record.getMessage()
    assert words in record.getMessage()
    with pytest.raises(ConfigError, match="'bad'"):
        plugins.explain("bad")


def test_of_two_with_one_name_neither_is_used_and_both_are_named(
    install: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        install(name, {GROUP: {"same": f"things_{name}:thing"}}, {f"things_{name}": "thing = 5"})
    plugins = PlugIns(GROUP, "thing")
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert collect(plugins) == {}
    assert "things_first:thing of first 1.0" in caplog.text
    assert "things_second:thing of second 1.0" in caplog.text
    with pytest.raises(ConfigError, match="remove one"):
        plugins.explain("same")


def test_what_the_registry_refuses_is_left_out_with_its_reason(
    install: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    install("things", {GROUP: {"odd": "things_c:thing"}}, {"things_c": "thing = 5"})

    def refuse(name: str, thing: Any) -> None:
        raise ConfigError(f"{thing} is no thing.")

    plugins = PlugIns(GROUP, "thing")
    with caplog.at_level(logging.WARNING, "bitterant"):
        plugins.load(refuse)
    assert "'odd', things_c:thing of things 1.0, cannot be used. 5 is no thing." in caplog.text


def bitterant(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(folder), *(path for path in sys.path if path)])
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": paths}, cwd=folder,
    )  # fmt: skip


def objects(text: str) -> list[Any]:
    """JSON objects, one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_commands_list_and_resolve_them(install: Callable[..., Path]) -> None:
    """In one fresh process: what is registered there stays there."""
    place = install(
        "bitter-more",
        {
            "bitterant.methods": {"tint": "bitter_more:Tint", "emn": "bitter_more:Tint", "x": "bitter_more:Mirror"},
            "bitterant.adversaries": {"mirror": "bitter_more:Mirror", "jpeg": "bitter_more:JPEG", "y": "json"},
            "bitterant.victims": {
                "one-layer": "bitter_more:one_layer", "two-layers": "bitter_more:two_layers",
                "small-cnn": "bitter_more:two_layers", "number": "bitter_more:__doc__",
            },
        },
        {"bitter_more": PACKAGE},
    )  # fmt: skip
    script = """
import json, sys
from bitterant.cli import main
from bitterant.protect import create_method
from bitterant.attacks import create_adversary
from bitterant.attacks.training import check_victim, create_victim, victim_family, victim_recipe
create_method("noise"), create_adversary("jpeg:10"), check_victim("small-cnn")
assert "bitter_more" not in sys.modules, "loaded for names of our own"
for kind in ("methods", "adversaries", "victims"):
    assert main(["list", kind, "--json"]) == 0
assert create_method("tint").name == "tint"
assert type(create_adversary("jpeg")).__module__.startswith("bitterant.")
assert create_victim("two-layers", num_classes=3, resolution=8, seed=0).num_classes == 3
print(json.dumps([victim_family("one-layer"), victim_recipe("one-layer", 1000, scale=1.0, epochs=None).batch_size]))
for name in ("x", "emm"):
    try:
        create_method(name)
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""
    done = bitterant(place, script)
    assert done.returncode == 0, done.stderr
    methods, adversaries, victims, victim, broken, unknown = objects(done.stdout)
    about = {row["name"]: row["about"] for row in methods["methods"]}
    assert about["tint"] == "A shade a class. [bitter_more:Tint of bitter-more 1.0]"
    assert "bitter_more" not in about["emn"]
    source = {row["name"]: row["source"] for row in adversaries["adversaries"]}
    assert source["mirror"] == "nobody [bitter_more:Mirror of bitter-more 1.0]"
    assert "bitter_more" not in source["jpeg"]
    families = {row["name"]: row["about"] for row in victims["victims"]}
    assert families["one-layer"] == "family linear [bitter_more:one_layer of bitter-more 1.0]"
    assert families["two-layers"].startswith("family two-layers [")
    assert "bitter_more" not in families["small-cnn"]
    assert victim == ["linear", 64]
    assert broken.startswith("ConfigError: The plug-in 'x'")
    assert unknown.startswith("UnknownNameError")
    assert "Did you mean 'emn'" in unknown
    for name, words in {
        "emn": "Its name is 'tint'", "x": "no sub-class of bitterant.Method", "y": "It registers no adversary 'y'",
        "jpeg": "bitterant.attacks.adversaries", "small-cnn": "bitterant's own", "number": "needs a function",
    }.items():  # fmt: skip
        told = " ".join(done.stderr.split())
        assert told.count(f"The plug-in '{name}'") == 1, name
        assert words in told, name
