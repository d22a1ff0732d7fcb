"""Names of methods, the factory, and the hyper-parameters that constructors take.

The methods that come with bitterant stand in :mod:`.table`; others are registered with a decorator.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ...errors import ConfigError, UnknownNameError
from ...imaging import Budget
from ...plugins import PlugIns, adding_classes, origin_of
from ...surrogates import Precision, check_precision, resolve_device
from ..bank import Granularity
from .base import DefaultFor, Method
from .table import METHODS

SURROGATE = "small-cnn"
"""On a CPU: a ResNet-18 costs forty times as much there."""


def own_surrogate(device: str) -> str:
    """``resnet18``, the network of the literature, where the work is done on a CUDA device.

    Raises:
        ConfigError, SetupError: no such device.
    """
    return "resnet18" if resolve_device(device).type == "cuda" else SURROGATE


_OF_EVERY_METHOD = {
    "self", "name", "method", "budget", "granularity", "surrogate", "seed", "device", "weights", "allow_download",
    "preset", "precision",
}  # fmt: skip
_PLAIN = (bool, int, float, str, types.NoneType)


def hyper_parameters(constructor: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """Those that can be written as text, by name: the kinds of value that each takes, and words out of ``Literal``.

    Options that every method has (budget, surrogate, seed, ...) are not among them.
    """
    try:
        hints = get_type_hints(constructor)
    except NameError:  # annotations of somebody's own method that exist for type checkers only
        hints = {}
    found = {}
    for name in inspect.signature(constructor).parameters:
        kinds = _kinds(hints.get(name, object))
        if name not in _OF_EVERY_METHOD and all(isinstance(kind, str) or kind in _PLAIN for kind in kinds):
            found[name] = kinds
    return found


def check_hyper_parameters(method: str, constructor: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Make sure that the method has these, and that plain values are of the right kind. Ranges are its own business.

    Raises:
        UnknownNameError: it has no such hyper-parameter.
        ConfigError: a word where a number belongs, or the like.
    """
    if not given:
        return
    known, takes = hyper_parameters(constructor), inspect.signature(constructor).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    for name, value in given.items():
        if name not in takes and not anything:
            raise _unknown(method, name, known)
        if name in known and not any(_fits(value, kind) for kind in known[name]):
            wanted = ", ".join(repr(kind) if isinstance(kind, str) else _NAMES[kind] for kind in known[name])
            raise ConfigError(f"The hyper-parameter {name} of {method} is {wanted}, not {value!r}.")


def check_settable(method: str, constructor: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Make sure that these can be set by name from outside: no option that has a place of its own, no objects.

    Raises:
        UnknownNameError: the method has no such hyper-parameter.
        ConfigError: it is an option of every method.
    """
    known, takes = hyper_parameters(constructor), inspect.signature(constructor).parameters
    for name in given:
        if name in _OF_EVERY_METHOD:
            raise ConfigError(f"{name} is no hyper-parameter of {method}: it is an option of its own.")
        if name in takes and name not in known:
            raise ConfigError(f"The hyper-parameter {name} of {method} is no plain value: set it in Python.")
        if name not in takes:
            raise _unknown(method, name, known)


def _unknown(method: str, name: str, known: Mapping[str, Any]) -> ConfigError:
    if not known:
        return ConfigError(f"The method {method} has no hyper-parameters, so not {name!r} either.")
    return UnknownNameError(f"hyper-parameter of {method}", name, known)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", types.NoneType: "null"}


def _kinds(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    return get_args(hint) if get_origin(hint) is Literal else (hint,)


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, str):
        return value == kind
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_PLUGINS = PlugIns("bitterant.methods", "method")
_METHODS: dict[str, type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register_method(cls: _M) -> _M:
    """Class decorator: make a method known under its ``name``.

    Raises:
        ConfigError: the name is taken by another class.
    """
    known = _METHODS.get(cls.name)
    taken = METHODS[cls.name][1] if cls.name in METHODS else None
    if known is not None and origin_of(known) != origin_of(cls):
        taken = origin_of(known)
    elif known is not None or taken == cls.__qualname__:
        taken = None
    if taken is not None:
        raise ConfigError(
            f"A method named {cls.name!r} is registered already: {taken}. {origin_of(cls)} needs another name."
        )
    _METHODS[cls.name] = cls
    return cls


def method_names() -> tuple[str, ...]:
    """Names of the methods that come with bitterant, then of those that were registered besides and of plug-ins."""
    _PLUGINS.load(_add_plugin)
    return tuple(dict.fromkeys((*METHODS, *_METHODS)))


def method_origin(name: str) -> str | None:
    """Where the method of a plug-in comes from, for people; ``None`` for what is none."""
    return _PLUGINS.origin(name)


_add_plugin = adding_classes(Method, "name", "method", register_method, _METHODS)


def method_class(name: str) -> type[Method]:
    """The class of a name; its module is loaded where it was not yet.

    Raises:
        UnknownNameError: no such method.
        ConfigError: it is a plug-in that cannot be used.
    """
    if name not in _METHODS and name in METHODS:
        importlib.import_module(f".{METHODS[name][0]}", __package__)
    if name not in _METHODS:
        _PLUGINS.load(_add_plugin)
    if name not in _METHODS:
        _PLUGINS.explain(name)
        raise UnknownNameError("method", name, ["auto", *method_names()])
    return _METHODS[name]


def method_classes() -> dict[str, type[Method]]:
    """All methods by name, in the order of :func:`method_names`."""
    return {name: method_class(name) for name in method_names()}


def default_method(*, labelled: bool, on_network: bool = False) -> str:
    """What ``auto`` stands for: what has the lowest worst case over a trainer's cheap steps, and changes less that the
    eye sees (docs/methods/texture.md).

    Args:
        labelled: whether there are classes.
        on_network: whether what else was asked for means noise that is crafted on a network.
    """
    wanted: DefaultFor = "no classes" if not labelled else "classes, on a network" if on_network else "classes"
    return next(name for name, cls in method_classes().items() if cls.default_for == wanted)


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
