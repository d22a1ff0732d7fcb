"""Superclasses: the same pictures, sorted into fewer and larger classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....errors import ConfigError, LabelError
from ....imaging.places import read_regular
from ....imaging.structured import parse_toml, read_json
from ..base import Adversary, Labelling, Material

__all__ = ["Superclass", "grouped"]


class Superclass(Adversary):
    """Trains for the superclasses of a map, which names one for every class.

    Args:
        parameter: a JSON object or TOML table, class name to superclass name.

    Raises:
        ConfigError: there is no such file, or it is no map of names to names.
    """

    prefix = "superclass"
    tier = "relabel"
    source = "arXiv 2301.01217 (other labels than the protector's)"
    description = "classes merged by a map (superclass:FILE, JSON or TOML: class = superclass)"

    def __init__(self, parameter: str | None = None) -> None:
        if not parameter:
            raise ConfigError("superclass needs a file that maps classes to superclasses: superclass:FILE.json.")
        self.path = Path(parameter)
        self.superclass_of = _read(self.path)

    @property
    def name(self) -> str:
        return f"superclass:{self.path.as_posix()}"

    @property
    def phrase(self) -> str:
        return "a trainer who merges the classes into larger ones"

    def relabel(self, material: Material) -> Labelling:
        unmapped = [name for name in material.classes if name not in self.superclass_of]
        if unmapped:
            raise LabelError(f"{self.path} has no superclass for {', '.join(unmapped)}. Add a line for each.")
        names = sorted({self.superclass_of[name] for name in material.classes})
        if len(names) < 2:
            raise LabelError(f"{self.path} puts every class into {names[0]!r}. At least two superclasses are needed.")
        table = np.array([names.index(self.superclass_of[name]) for name in material.classes])
        return grouped(material, table, names)


def grouped(material: Material, table: np.ndarray, names: list[str]) -> Labelling:
    """The labelling by a table class -> group."""
    members = [[c for c, group in zip(material.classes, table, strict=True) if group == g] for g in range(len(names))]
    detail = "; ".join(f"{name}: {', '.join(inside)}" for name, inside in zip(names, members, strict=True))
    return Labelling(table[material.labels], table[material.test_labels], len(names), detail)


def _read(path: Path) -> dict[str, str]:
    try:
        content = parse_toml(read_regular(path)) if path.suffix.lower() == ".toml" else read_json(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(value, str | int) for value in content.values()):
        raise ConfigError(f'{path} must map class names to superclass names, such as {{"cat": "animal"}}.')
    return {name: str(value) for name, value in content.items()}
