"""The recipe of CONTRIBUTING.md, "Add a method in five steps", followed to the letter with a dummy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bitterant.errors import ConfigError, FitError
from bitterant.imaging import ImageSet
from bitterant.protect import Method, create_method, method_names, protect_folder, read_manifest, register_method
from bitterant.protect.methods import registry
from bitterant.protect.methods.base import FitContext


class Tint(Method):
    """A shade a class, far beyond any budget: the base class must bring it back inside."""

    name = "tint"
    needs = "labels"
    granularities = ("class",)

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        shades = torch.linspace(-9.0, 9.0, len(dataset.classes)).view(-1, 1, 1, 1)
        return shades.expand(-1, 3, dataset.resolution, dataset.resolution)


@pytest.fixture
def tint() -> Iterator[type[Method]]:
    register_method(Tint)
    yield Tint
    del registry._METHODS["tint"]


def test_a_registered_method_works_in_a_folder_run_and_cannot_break_the_budget(
    tint: type[Method], tmp_path: Path
) -> None:
    assert "tint" in method_names()
    for name in ("a", "b"):
        (tmp_path / "src" / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.full((20, 24, 3), 100 + i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "src" / name / f"{i}.png")
    run = protect_folder(tmp_path / "src", tmp_path / "out", method="tint", device="cpu", resolution=16)
    assert run.exit_code == 0
    assert run.over_budget == 0
    assert [row.linf_levels for row in read_manifest(tmp_path / "out" / "bitterant-manifest.jsonl").rows] == [8.0] * 4
    with Image.open(tmp_path / "out" / "b" / "1.png") as picture:
        assert np.array_equal(np.asarray(picture), np.full((20, 24, 3), 109, dtype=np.uint8))


def test_a_name_is_taken_once(tint: type[Method]) -> None:
    class Other(Tint):
        """Another class of the same name."""

    register_method(Tint)  # the same class again is fine
    with pytest.raises(ConfigError, match="registered already"):
        register_method(Other)


def test_a_name_that_comes_with_bitterant_is_taken_before_its_module_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry._METHODS, "emn", raising=False)

    class Impostor(Tint):
        name = "emn"

    with pytest.raises(ConfigError, match="'emn' is registered already: ErrorMinimizing"):
        register_method(Impostor)


def test_a_row_of_the_table_is_all_that_the_package_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tint, "default_for", "classes")
    monkeypatch.setitem(registry.METHODS, "tint", ("noise", "Tint"))  # its module is loaded when it is asked for
    monkeypatch.setitem(registry._METHODS, "tint", Tint)
    monkeypatch.setattr(registry.method_class("texture"), "default_for", None)
    assert "tint" in method_names()
    assert registry.default_method(labelled=True) == "tint"
    assert registry.default_method(labelled=True, on_network=True) == "emn"
    assert registry.default_method(labelled=False) == "uc"


@pytest.mark.parametrize(("name", "row"), registry.METHODS.items())
def test_the_rows_are_those_of_the_classes(name: str, row: tuple[str, str]) -> None:
    cls = registry.method_class(name)
    assert (cls.name, cls.__name__) == (name, row[1])
    assert cls.__module__.startswith(f"bitterant.protect.methods.{row[0]}")


def test_a_method_that_returns_nonsense_is_found_out(tint: type[Method], monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageSet.from_tensors(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
    monkeypatch.setattr(Tint, "_fit", lambda self, dataset, context: torch.full((2, 3, 8, 8), float("nan")))
    with pytest.raises(FitError, match=r"not finite.*--seed"):
        create_method("tint", device="cpu").fit(data)
    monkeypatch.setattr(Tint, "_fit", lambda self, dataset, context: torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="tint returned"):
        create_method("tint", device="cpu").fit(data)
