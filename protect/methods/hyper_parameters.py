"""The hyper-parameters that a method's constructor takes: names and kinds, read from its signature."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ...errors import ConfigError, UnknownNameError

__all__ = ["check_hyper_parameters", "check_settable", "hyper_parameters"]

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
