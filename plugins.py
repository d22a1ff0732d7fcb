"""Methods, adversaries and victims that other packages bring: entry points, loaded when a name asks for them.

A package declares them in its ``pyproject.toml``, each under the name that it has here::

    [project.entry-points."bitterant.methods"]
    my-method = "my_package.my_module:MyMethod"

Loading one runs its code. Nothing is loaded for a name of our own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from inspect import ismodule
from typing import Any

from .errors import BitterantError, ConfigError

logger = logging.getLogger(__name__)


class PlugIns:
    """The plug-ins of one kind, in the whole process.

    One that cannot be loaded, or whose name is taken, is left out with one warning; asked for by its name, it says why.

    Args:
        group: name of the entry points, such as ``bitterant.methods``.
        kind: what they are, for people.
    """

    def __init__(self, group: str, kind: str) -> None:
        self._group, self._kind = group, kind
        self._loaded = False
        self._origins: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def load(self, add: Callable[[str, Any], None]) -> None:
        """Load them all, the first time that this is called.

        Args:
            add: registers what was loaded under its name; raises a :class:`ConfigError` where that name is taken, or it
                is none of the kind.
        """
        if self._loaded:
            return
        self._loaded = True  # before any code of theirs runs, which may ask for names itself
        for name, entries in sorted(self._found().items()):
            if len(entries) > 1:
                both = " and ".join(_told(entry) for entry in entries)
                self._refuse(name, f"Two plug-ins are called {name!r}: {both}. Neither is used: remove one of them.")
                continue
            try:
                add(name, entries[0].load())
            except (Exception, SystemExit) as error:  # whatever code of others raises
                why = str(error) if isinstance(error, BitterantError) else f"{type(error).__name__}: {error}"
                self._refuse(name, f"The plug-in {name!r}, {_told(entries[0])}, cannot be used. {why}")
            else:
                self._origins[name] = _told(entries[0])

    def explain(self, name: str) -> None:
        """Say why a plug-in of this name is not there, where there is one.

        Raises:
            ConfigError: it cannot be loaded, or its name is taken.
        """
        if name in self._refused:
            raise ConfigError(self._refused[name])

    def origin(self, name: str) -> str | None:
        """Where a loaded plug-in comes from, for people; ``None`` for what is none."""
        return self._origins.get(name)

    def _found(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in _entries(self._group):
            others = found.setdefault(entry.name, [])
            if all(entry.value != other.value for other in others):  # one package may be found twice
                others.append(entry)
        return found

    def _refuse(self, name: str, why: str) -> None:
        self._refused[name] = why
        logger.warning("%s", why)


def entry_names(group: str) -> list[str]:
    """Names of the plug-ins of a group, such as ``bitterant.methods``, without loading one."""
    return sorted({entry.name for entry in _entries(group)})


def _entries(group: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=group)
    except Exception as error:  # the metadata of any package may be damaged
        logger.warning("Plug-ins cannot be looked for: %s: %s", type(error).__name__, error)
        return ()


def adding_classes(
    base: type, named: str, kind: str, register: Callable[[Any], Any], registered: Mapping[str, Any]
) -> Callable[[str, Any], None]:
    """What :meth:`PlugIns.load` needs where a plug-in is a class, or a module that has registered one.

    Args:
        base: the class that it has to derive from.
        named: the attribute of such a class that holds its name.
        kind: what it is, for people.
        register: makes a class known.
        registered: what is known already, by name.
    """

    def add(name: str, thing: Any) -> None:
        if isinstance(thing, type) and issubclass(thing, base):
            own = getattr(thing, named)
            if own != name:
                raise ConfigError(f"Its {named} is {own!r}; its entry point must be named like it.")
            register(thing)
        elif not ismodule(thing):
            raise ConfigError(f"{origin_of(thing)} is no sub-class of bitterant.{base.__name__}.")
        elif name not in registered:
            raise ConfigError(f"It registers no {kind} {name!r}.")

    return add


def origin_of(thing: Any) -> str:
    """Where code is written: ``module.name``."""
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _told(entry: EntryPoint) -> str:
    made_by = entry.dist
    return f"{entry.value} of {made_by.name} {made_by.version}" if made_by is not None else entry.value
