"""Names of methods, the factory, and what may be set by name.

The methods that come with bitterant stand in :mod:`.table`; others are registered with a decorator.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from inspect import signature
from typing import Any, TypeVar

from ...errors import ConfigError, UnknownNameError
from ...plugins import PlugIns, adding_classes, origin_of
from ...records.config import Schedule
from ...surrogates import Precision
from . import METHODS
from .base import DefaultFor, Method
from .recipe import CraftingRecipe, unknown


def check_settable(cls: type[Method], given: Mapping[str, Any]) -> None:
    """Make sure that these can be set by name from outside: no option that has a place of its own, no objects.

    Raises:
        UnknownNameError: the method has no such hyper-parameter.
        ConfigError: it is an option of every method.
    """
    known, takes = cls.recipe_class.settable(), signature(cls).parameters
    plain = {each.name for each in known}
    for name in given:
        if name in _OPTIONS:
            raise ConfigError(f"{name} is no hyper-parameter of {cls.name}: it is an option of its own.")
        if name in takes and name not in plain and cls.__init__ is Method.__init__:
            raise ConfigError(f"The hyper-parameter {name} of {cls.name} is no plain value: set it in Python.")
        if name not in takes and not any(found.kind is found.VAR_KEYWORD for found in takes.values()):
            raise unknown(cls.name, name, known)


_OPTIONS = {"self", "name", *signature(Method.__init__).parameters, *CraftingRecipe.model_fields} - {"hyper_parameters"}

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


def create_method(name: str, *, preset: Schedule | None = None, precision: Precision = "auto", **given: Any) -> Method:
    """A method by name.

    Args:
        name: a name of :func:`method_names`.
        preset: ``fast``, ``balanced`` or ``paper``, of a method that optimises.
        precision: of networks: ``float32``, ``bfloat16``, or ``auto``, see :func:`choose_precision`.
        given: what every method takes (see :class:`Method`), and hyper-parameters of its own.

    Raises:
        UnknownNameError: no such method, surrogate or hyper-parameter.
        ConfigError: a value out of range, or a preset or parameter that the method does not have.
    """
    if preset is not None:
        given["preset"] = preset
    if precision != "auto":
        given["precision"] = precision
    return method_class(name)(**given)
