"""What a training depends on, as a key: equal keys, equal results."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import sys
import types
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..._version import __version__
from ...imaging import sha256_file
from ...surrogates import Recipe, create_surrogate, supports_bf16
from ..adversaries import Adversary
from ..learning.plain import PlainTraining
from .cells import Cell
from .store import ArrayStore, Inputs

__all__ = ["CELL_FORMAT", "CellKeys", "Identity", "describe", "program_facts"]

CELL_FORMAT = 1
"""Version of what is kept of a training, and of what its key is made of."""

_LIBRARIES = ("torchvision", "timm", "kornia", "open_clip_torch", "numpy", "scipy", "scikit-learn")
_PACKAGE = Path(__file__).resolve().parents[2]
# What decides about a training. All other code acts on it through the arrays, which have digests of their own.
_DECIDING = (
    "surrogates/**/*.py", "attacks/learning/**/*.py", "attacks/training/cells.py", "attacks/training/features.py",
    "attacks/training/probes.py", "attacks/training/stopping.py", "attacks/training/threads.py",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
    """All that a result depends on.

    Attributes:
        facts: one JSON object in a canonical form.
    """

    facts: str

    @property
    def key(self) -> str:
        """sha256 of the facts."""
        return hashlib.sha256(self.facts.encode()).hexdigest()


def _identity(facts: Mapping[str, Any]) -> Identity:
    return Identity(json.dumps(facts, sort_keys=True, allow_nan=False))


class CellKeys:
    """Keys of the cells of one verification.

    Names of arms and of adversaries, and the number of a seed, are no part of them: what counts is which arrays are
    read, what learns, how, and from which seed.

    Args:
        store: the arrays.
        recipes: how each victim is trained.
        adversaries: by name.
        evals: points of the learning curve.
        device: where to train; its number is no part of a key, its kind is.
    """

    def __init__(
        self,
        store: ArrayStore,
        recipes: Mapping[str, Recipe],
        adversaries: Mapping[str, Adversary],
        *,
        evals: int,
        device: str,
    ) -> None:
        self._store, self._recipes, self._adversaries = store, recipes, adversaries
        self._evals, self._device = evals, device
        self._networks: dict[str, str] = {}

    def cell(self, cell: Cell) -> Identity | None:
        """What the result of a cell depends on.

        Probes are known by the pictures and by the network that looks at them, so that nobody computes features to
        find out that they are not needed.

        Returns:
            ``None`` where its learner cannot be told from others; such a cell is trained every time.
        """
        adversary = self._adversaries[cell.adversary]
        inputs = self._store.sources(cell.arm, cell.adversary)
        facts: dict[str, Any] = {
            "format": CELL_FORMAT,
            "program": self._program,
            "inputs": self._digests(inputs),
            "classes": inputs.classes,
            "fit": adversary.fit,
            "network": self._network(cell.victim),
            "seed": cell.victim_seed,
            "untrained": cell.arm == "untrained",
        }
        if adversary.fit == "network":
            try:
                learner = describe(adversary.learner() or PlainTraining())
            except TypeError:
                return None
            facts |= {
                "recipe": describe(self._recipes[cell.victim]),
                "learner": learner,
                "evals": self._evals,
                "continues": self.network(cell).key if adversary.continues else None,
            }
        return _identity(facts)

    def network(self, cell: Cell) -> Identity:
        """What the network depends on that plain training leaves of these training pictures.

        Neither the test pictures nor the points of the curve: training looks at them and learns nothing from them.
        """
        inputs = self._store.sources(cell.arm, cell.adversary)
        digests = self._digests(inputs)
        return _identity(
            {
                "format": CELL_FORMAT,
                "program": self._program,
                "inputs": {name: digests[name] for name in ("train_images", "train_labels")},
                "classes": inputs.classes,
                "network": self._network(cell.victim),
                "seed": cell.victim_seed,
                "recipe": describe(self._recipes[cell.victim]),
            }
        )

    @cached_property
    def _program(self) -> dict[str, Any]:
        return program_facts(self._device)

    def _digests(self, inputs: Inputs) -> dict[str, str | None]:
        paths = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
        return {
            name: self._store.digest(path) if isinstance(path, Path) else None
            for name, path in paths.items()
            if name != "classes"
        }

    def _network(self, name: str) -> str:
        """Digest of a network as it is built from one fixed seed: of its weights where it has any, wherever they lie.

        Read anew for every verification, since a file of weights may have changed.
        """
        if name not in self._networks:
            made = create_surrogate(name, num_classes=2, resolution=self._store.resolution, seed=0)
            self._networks[name] = made.fingerprint()
        return self._networks[name]


def program_facts(device: str) -> dict[str, Any]:
    """What trains: versions, the kind of device, its arithmetic, and a digest of our own code."""
    kind = torch.device(device).type
    return {
        "bitterant": __version__,
        "code": _code_digest(_PACKAGE),
        "torch": torch.__version__,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "device": kind,
        "instructions": torch.backends.cpu.get_cpu_capability() if kind == "cpu" else None,
        "bfloat16": supports_bf16(torch.device(device)),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=2)
def _code_digest(package: Path) -> str:
    """Over what the code does: comments and docstrings may change. A result of other code would be another result, and
    nobody remembers to raise a number each time."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _DECIDING for path in package.glob(pattern)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        digest.update(f"{path.relative_to(package).as_posix()} {ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def describe(value: object) -> Any:
    """A value as plain JSON, so that equal values have equal descriptions and others have not.

    Args:
        value: a number, text, sequence, mapping, function, class, or a dataclass of these. Code from outside this
            package is told apart by the source of its module too.

    Raises:
        TypeError: it holds something else, which may have a state that cannot be seen.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)  # exact, and JSON knows no infinity
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, types.FunctionType | type):
        return _origin(value)
    if dataclasses.is_dataclass(value):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": _origin(type(value)), **fields}
    raise TypeError(f"{type(value).__qualname__} cannot be described")


def _origin(item: types.FunctionType | type) -> str:
    name = f"{item.__module__}.{item.__qualname__}"
    if item.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return name
    file = getattr(sys.modules.get(item.__module__), "__file__", None)
    if file is None or not Path(file).is_file():
        raise TypeError(f"the source of {name} is not known")
    return f"{name} {sha256_file(Path(file))}"
