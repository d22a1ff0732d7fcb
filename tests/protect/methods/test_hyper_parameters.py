"""Hyper-parameters by name: unknown ones and values of the wrong kind are told before anything is fitted."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from bitterant.errors import ConfigError, UnknownNameError
from bitterant.protect import create_method, method_names
from bitterant.protect.methods.registry import (
    check_hyper_parameters,
    check_settable,
    hyper_parameters,
    method_class,
)


class Maker:
    def __init__(
        self, *, seed: int = 0, count: int | None = None, rate: float = 0.1, kind: Literal["a", "b"] = "a",
        flag: bool = False, extra: list[int] | None = None,
    ) -> None: ...  # fmt: skip


def test_names_and_kinds_come_from_the_signature() -> None:
    assert hyper_parameters(Maker.__init__) == {
        "count": (int, type(None)), "rate": (float,), "kind": ("a", "b"), "flag": (bool,)
    }  # fmt: skip


@pytest.mark.parametrize("given", [{}, {"count": 3}, {"count": None}, {"rate": 1}, {"rate": 0.5}, {"kind": "b"},
                                   {"flag": True}, {"extra": [1]}])  # fmt: skip
def test_what_fits_is_taken(given: dict[str, Any]) -> None:
    check_hyper_parameters("maker", Maker.__init__, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": "three"}, "count of maker is a whole number, null, not 'three'"),
        ({"count": 2.5}, "a whole number"),
        ({"count": True}, "a whole number"),
        ({"rate": "fast"}, "rate of maker is a number"),
        ({"rate": True}, "a number"),
        ({"kind": "c"}, "'a', 'b'"),
        ({"flag": 1}, "true or false"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_hyper_parameters("maker", Maker.__init__, given)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="named 'cluster'"):
        create_method("uc", cluster=3)
    with pytest.raises(ConfigError, match="noise has no hyper-parameters"):
        create_method("noise", rounds=3)
    with pytest.raises(ConfigError, match="noise has no preset 'paper'"):
        create_method("noise", preset="paper")


def test_options_of_every_method_and_objects_are_not_set_by_name() -> None:
    for name in ("seed", "self", "device", "preset"):
        with pytest.raises(ConfigError, match=f"{name} is no hyper-parameter"):
            check_settable("uc", method_class("uc").__init__, {name: 1})
    with pytest.raises(ConfigError, match="no plain value"):
        check_settable("beo", method_class("beo").__init__, {"clean_bank": "x"})
    check_settable("beo", method_class("beo").__init__, {"rms": 0.1})


def test_a_constructor_of_somebody_else_is_left_to_check_itself() -> None:
    class Open:
        def __init__(self, *, extra: Unknown = 1, **more: object) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    check_hyper_parameters("open", Open.__init__, {"extra": "x", "whatever": 2})


@pytest.mark.parametrize("name", method_names())
def test_every_default_of_every_method_is_of_its_own_kind(name: str) -> None:
    import inspect

    constructor = method_class(name).__init__
    defaults = {n: p.default for n, p in inspect.signature(constructor).parameters.items() if n != "self"}
    check_hyper_parameters(name, constructor, defaults)
