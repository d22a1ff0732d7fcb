"""Names of methods, and the factory. Adding one: a module with a decorated class, imported in ``__init__``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, TypeVar

from ...errors import ConfigError, UnknownNameError
from ...imaging import Budget
from ...surrogates import Precision, check_precision
from ..bank import Granularity
from .base import Method
from .hyper_parameters import check_hyper_parameters

__all__ = ["create_method", "method_class", "method_names", "register_method"]

_METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register_method(cls: _M) -> _M:
    """Class decorator: make a method known under its ``name``.

    Raises:
        ConfigError: the name is taken by another class.
    """
    known = _METHODS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ConfigError(f"A method named {cls.name!r} is registered already ({known.__qualname__}).")
    _METHODS[cls.name] = cls
    return cls


def method_names() -> tuple[str, ...]:
    """Registered names, in order of registration."""
    return tuple(_METHODS)


def method_class(name: str) -> type[Method]:
    """The class of a name.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in _METHODS:
        raise UnknownNameError("method", name, ["auto", *_METHODS])
    return _METHODS[name]


def create_method(
    name: str,
    *,
    budget: Budget | None = None,
    granularity: Granularity | None = None,
    surrogate: str | None = None,
    seed: int = 0,
    device: str = "auto",
    preset: str | None = None,
    precision: Precision = "auto",
    weights: Path | None = None,
    allow_download: bool = False,
    **parameters: Any,
) -> Method:
    """A method by name.

    Args:
        name: a name of :func:`method_names`.
        budget: default 8/255.
        granularity: default the method's first.
        surrogate: default the method's own.
        seed: of everything random in it.
        device: ``auto``, ``cpu``, ``cuda``, ...
        preset: ``paper`` for the paper's hyper-parameters where the method's defaults differ.
        precision: of networks: ``float32``, ``bfloat16``, or ``auto``, see :func:`choose_precision`.
        weights: weights file of the surrogate.
        allow_download: let the surrogate fetch weights.
        parameters: hyper-parameters of the method itself.

    Raises:
        UnknownNameError: no such method or surrogate.
        ConfigError: a value out of range, or a preset or parameter that the method does not have.
    """
    cls = method_class(name)
    if preset is not None:
        takes = inspect.signature(cls).parameters.values()
        if not any(parameter.name == "preset" or parameter.kind is parameter.VAR_KEYWORD for parameter in takes):
            raise ConfigError(f"The method {name} has no preset {preset!r}: it comes in one form only.")
        parameters["preset"] = preset
    if check_precision(precision) != "auto":
        if "precision" not in inspect.signature(cls).parameters:
            raise ConfigError(f"The method {name} computes in one precision only, so {precision!r} would do nothing.")
        parameters["precision"] = precision
    check_hyper_parameters(name, cls.__init__, parameters)
    return cls(
        budget=budget,
        granularity=granularity,
        surrogate=surrogate,
        seed=seed,
        device=device,
        weights=weights,
        allow_download=allow_download,
        **parameters,
    )
