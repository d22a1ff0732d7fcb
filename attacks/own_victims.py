"""Victims that are not ours: networks of plug-ins and of scripts, by name. Without torch until one is built."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import ismodule
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..errors import ConfigError
from ..plugins import PlugIns, origin_of

if TYPE_CHECKING:
    from torch import nn

    from ..surrogates import Recipe, Surrogate


Builder: TypeAlias = "Callable[[int, int], nn.Module]"
"""``(num_classes, resolution)`` to a network with random weights, from normalised images ``[N, 3, R, R]`` to logits."""

_B = TypeVar("_B", bound=Callable[..., Any])
_NOT_IN_NAMES = ":/@+ "


@dataclass(frozen=True)
class Victim:
    """A network that a trainer would train, and how.

    Attributes:
        name: what ``--victim`` calls it.
        build: see :data:`Builder`. Its randomness is torch's global one, which is seeded for each training.
        recipe: how it is trained; ``steps`` are those at 1,000 pictures. ``None`` for the one of most networks.
        family: architecture family, to tell it from the protector's surrogate; its name where left out.
        mean: of the normalisation, one value a channel: the network gets ``(image - mean) / std``.
        std: the same.
    """

    name: str
    build: Builder
    recipe: Recipe | None = None
    family: str = ""
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if not self.name or any(letter in self.name for letter in _NOT_IN_NAMES):
            raise ConfigError(f"A victim cannot be named {self.name!r}: leave out spaces and any of : / @ +.")
        if not callable(self.build):
            raise ConfigError(f"The victim {self.name} needs a function (num_classes, resolution) -> network.")

    def make(self, num_classes: int, resolution: int, seed: int) -> Surrogate:
        """The network with random weights, and its normalisation inside.

        Raises:
            ConfigError: what was built is no network, or cannot take such pictures.
        """
        import torch

        from ..surrogates import Surrogate, own_randomness

        with own_randomness(seed):
            try:
                network = self.build(num_classes, resolution)
            except (TypeError, ValueError, RuntimeError, AssertionError) as error:
                raise ConfigError(
                    f"The victim {self.name} cannot be built for {num_classes} classes at {resolution} px: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if not isinstance(network, torch.nn.Module):
            raise ConfigError(f"The victim {self.name} was built as {type(network).__name__}, not a torch.nn.Module.")
        return Surrogate(network, name=self.name, num_classes=num_classes, mean=self.mean, std=self.std)


_VICTIMS: dict[str, Victim] = {}
_PLUGINS = PlugIns("bitterant.victims", "victim")


def register_victim(
    name: str,
    build: Builder | None = None,
    *,
    recipe: Recipe | None = None,
    family: str = "",
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
) -> Callable[[_B], _B]:
    """Make a network known as a victim: ``register_victim("my-net", build)``, or as a decorator of ``build``.

    Trainings in other processes need ``build`` to be importable: where it is written in the script that runs, they are
    done in this process instead.

    Args:
        name: what ``--victim`` is to call it.
        build: ``(num_classes, resolution) -> torch.nn.Module`` with random weights, see :class:`Victim`.
        recipe: how it is trained, see :class:`bitterant.surrogates.Recipe`.
        family: architecture family; its name where left out.
        mean: of the normalisation that it gets.
        std: the same.

    Returns:
        A decorator; not needed where ``build`` was given.

    Raises:
        ConfigError: the name is taken, or cannot be one.
    """

    def add(builder: _B) -> _B:
        _add(Victim(name, builder, recipe, family, tuple(mean), tuple(std)))
        return builder

    if build is not None:
        _add(Victim(name, build, recipe, family, tuple(mean), tuple(std)))
    return add


def own_victims() -> tuple[str, ...]:
    """Names of all that were registered, in that order, and of plug-ins."""
    _PLUGINS.load(_add_plugin)
    return tuple(_VICTIMS)


def find_victim(name: str) -> Victim | None:
    """The victim of a name; ``None`` where nobody registered one.

    Raises:
        ConfigError: a plug-in has this name and cannot be used.
    """
    if name not in _VICTIMS and not _is_ours(name):
        _PLUGINS.load(_add_plugin)
        if name not in _VICTIMS:
            _PLUGINS.explain(name)
    return _VICTIMS.get(name)


def victim_origin(name: str) -> str | None:
    """Where the victim of a plug-in comes from, for people."""
    return _PLUGINS.origin(name)


def portable(thing: object) -> bool:
    """Whether another process can be given this: it is not written in the script that runs, nor inside a function."""
    try:
        return b"__main__" not in pickle.dumps(thing)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


def _is_ours(name: str) -> bool:
    from ..surrogates import surrogate_names

    return name.startswith("timm:") or name in surrogate_names()


def _add(victim: Victim) -> None:
    known = _VICTIMS.get(victim.name)
    if _is_ours(victim.name):
        raise ConfigError(
            f"A victim named {victim.name!r} is there already: bitterant's own. {origin_of(victim.build)} needs "
            "another name."
        )
    if known is not None and origin_of(known.build) != origin_of(victim.build):
        raise ConfigError(
            f"A victim named {victim.name!r} is there already: {origin_of(known.build)}. {origin_of(victim.build)} "
            "needs another name."
        )
    _VICTIMS[victim.name] = victim


def _add_plugin(name: str, thing: Any) -> None:
    if ismodule(thing):  # it has registered what it brings
        if name not in _VICTIMS:
            raise ConfigError(f"It registers no victim {name!r}.")
    elif isinstance(thing, Victim):
        if thing.name != name:
            raise ConfigError(f"It is named {thing.name!r}; its entry point must be, too.")
        _add(thing)
    elif name not in _VICTIMS or _VICTIMS[name].build is not thing:  # where no decorator has registered it
        _add(Victim(name, thing))
