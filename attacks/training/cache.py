"""Trainings that are done, one file each, under a key of all that their result depends on: equal keys, equal results.

Read in order: what a training depends on (:class:`CellKeys`), how a value is described in a key (:func:`describe`), and
the folder of results (:class:`CellCache`)."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import io
import json
import logging
import secrets
import sys
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..._version import __version__
from ...errors import OutputError
from ...imaging import sweep_temporaries_of, write_atomic
from ...records.places import sha256_file
from ...surrogates import CurvePoint, Recipe, create_surrogate, supports_bf16
from ..adversaries import Adversary
from ..adversaries.learning import PlainTraining
from ..own_victims import find_victim
from .cells import Cell, CellResult
from .store import ArrayStore, Inputs

logger = logging.getLogger(__name__)


CELL_FORMAT = 1
"""Version of what is kept of a training, and of what its key is made of."""
_LIBRARIES = ("torchvision", "timm", "kornia", "open_clip_torch", "numpy", "scipy", "scikit-learn")
_PACKAGE = Path(__file__).resolve().parents[2]
# What decides about a training. All other code acts on it through the arrays, which have digests of their own.
_DECIDING = ("surrogates/*.py", "attacks/own_victims.py", "attacks/adversaries/*.py", "attacks/training/cells.py")


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
        program: what trains, where that is not this process; see :func:`program_facts`.
    """

    def __init__(
        self,
        store: ArrayStore,
        recipes: Mapping[str, Recipe],
        adversaries: Mapping[str, Adversary],
        *,
        evals: int,
        device: str,
        program: Mapping[str, Any] | None = None,
    ) -> None:
        self._store, self._recipes, self._adversaries = store, recipes, adversaries
        self._evals, self._device, self._elsewhere = evals, device, program
        self._networks: dict[str, str] = {}
        self._unknown: set[str] = set()

    def cell(self, cell: Cell) -> Identity | None:
        """What the result of a cell depends on.

        Probes are known by the pictures and by the network that looks at them, so that nobody computes features to
        find out that they are not needed.

        Returns:
            ``None`` where its learner, or a victim that is none of ours, cannot be told from others; such a cell is
            trained every time.
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
        if cell.victim in self._unknown:
            return None
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
        return program_facts(self._device) if self._elsewhere is None else dict(self._elsewhere)

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
            own = find_victim(name)
            if own is None:
                made = create_surrogate(name, num_classes=2, resolution=self._store.resolution, seed=0)
                self._networks[name] = made.fingerprint()
            else:  # weights say what a network is made of, and only its source what it does with them
                made = own.make(2, self._store.resolution, 0)
                try:
                    # Who builds it may have its parts from elsewhere.
                    parts = {type(part) for part in made.modules()}
                    written = sorted(_origin(part) for part in parts if part.__module__.partition(".")[0] != "torch")
                    source = json.dumps([describe(own), repr(made), written], sort_keys=True)
                except TypeError:  # nobody can tell whether it is the one of another run
                    self._unknown.add(name)
                    source = secrets.token_hex()
                self._networks[name] = f"{made.fingerprint()} {source}"
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
        if getattr(value, "__closure__", None):
            raise TypeError(f"{value.__qualname__} was made inside another function, and may hold anything")
        return _origin(value)
    if dataclasses.is_dataclass(value):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": _origin(type(value)), **fields}
    raise TypeError(f"{type(value).__qualname__} cannot be described")


def _origin(item: types.FunctionType | type) -> str:
    name = f"{item.__module__}.{item.__qualname__}"
    if item.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return name
    source = _source(item.__module__)
    if source is None:
        raise TypeError(f"the source of {name} is not known")
    # What a class does may stand in those that it derives from.
    bases = dict.fromkeys(base.__module__ for base in item.__mro__[1:]) if isinstance(item, type) else {}
    ours = __name__.partition(".")[0]
    further = (_source(base) for base in bases if base.partition(".")[0] != ours and base != item.__module__)
    return " ".join([name, source, *(found for found in further if found is not None)])


def _source(module: str) -> str | None:
    """sha256 of the file of a module; ``None`` where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None or not Path(file).is_file() else sha256_file(Path(file))


_FORMAT = "bitterant-cell"
# https://bford.info/cachedir: programs that make backups know it, and leave out what can be made again.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Trainings of 'bitterant verify'. May be deleted at any time.\n"


class CellCache:
    """A folder of finished cells. Any number of verifications may share one, also at the same time.

    A file appears whole or not at all. What cannot be read, or is not what its name says, is told and trained again;
    what cannot be kept is told once. Neither stops a run.

    Args:
        folder: made if it is not there.
        fresh: do not read what is there; it is replaced.

    Raises:
        OutputError: nothing can be written there.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder, self._fresh = folder, fresh
        self._told = False
        self._networks: set[Path] = set()
        write_atomic(folder / "CACHEDIR.TAG", _TAG, overwrite=_is_tag)

    def read(self, identity: Identity, cell: Cell, tests: int) -> CellResult | None:
        """The kept result of a cell.

        Args:
            identity: what it depends on.
            cell: whose result it shall be; the file does not know how others call it.
            tests: number of test pictures.

        Returns:
            ``None`` where there is none, or none that can be used.
        """
        path = self._path(identity)
        if self._fresh:
            return None
        if not path.exists():
            sweep_temporaries_of(path)
            return None
        try:
            return _read(path, identity.key, cell, tests)
        except Exception as error:  # a file may hold anything, and its training can be done again
            logger.warning(
                "%s is not used: %s. Its training is done again.", path, f"{error}".rstrip(".") or type(error).__name__
            )
            return None

    def write(self, identity: Identity, result: CellResult) -> None:
        """Keep the result of a cell."""
        try:
            write_atomic(self._path(identity), _bytes(identity, result), overwrite=True, private=True)
        except OutputError as error:
            if not self._told:
                logger.warning("Finished trainings cannot be kept, so a stopped run would do them again: %s", error)
            self._told = True

    def network(self, identity: Identity) -> Path:
        """File for the trained network of this identity; who goes on from it reads it, or trains it anew."""
        path = self.folder / f"{identity.key}.safetensors"
        if path not in self._networks:
            self._networks.add(path)
            if self._fresh:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return path

    def close(self) -> None:
        """Remove what workers that were stopped left half-written. Only call it when they are gone."""
        for path in self._networks:
            sweep_temporaries_of(path)

    def _path(self, identity: Identity) -> Path:
        return self.folder / f"{identity.key}.npz"


def _is_tag(path: Path) -> bool:
    """Whether a folder is marked already, by whatever program."""
    return path.read_bytes()[:43] == _TAG[:43]


def _bytes(identity: Identity, result: CellResult) -> bytes:
    about = {
        "format": _FORMAT,
        "version": CELL_FORMAT,
        "key": identity.key,
        "identity": json.loads(identity.facts),
        "steps": result.steps,
        "peak_step": result.peak_step,
        "finite": result.finite,
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "about": np.array(json.dumps(about)),
        # Numbers as arrays: JSON has no words for those that are not finite.
        "numbers": np.array([result.train_accuracy, result.final_loss, result.seconds], dtype=np.float64),
        "curve": _table(result.curve),
        "predictions": result.predictions,
        "peak_predictions": result.peak_predictions,
    }
    if result.validated_predictions is not None:
        arrays["validated_predictions"] = result.validated_predictions
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _table(curve: Sequence[CurvePoint]) -> NDArray[np.float64]:
    rows = [
        (p.step, p.epoch, p.train_loss, p.train_accuracy, np.nan if p.test_accuracy is None else p.test_accuracy)
        for p in curve
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _read(path: Path, key: str, cell: Cell, tests: int) -> CellResult:
    """The result in a file.

    Raises:
        Exception: whatever reading a file can raise that is damaged; ValueError where it is not the one looked for.
    """
    with np.load(path, allow_pickle=False) as saved:
        about = json.loads(str(saved["about"]))
        if (about["format"], about["version"], about["key"]) != (_FORMAT, CELL_FORMAT, key):
            raise ValueError("it holds another training than its name says")
        names = ("predictions", "peak_predictions", "validated_predictions")
        told = {name: saved[name] for name in names if name in saved}
        train_accuracy, final_loss, seconds = saved["numbers"].tolist()
        rows = saved["curve"].tolist()
    for predictions in told.values():
        if predictions.shape != (tests,) or predictions.dtype != np.int64:
            raise ValueError(f"it does not hold predictions for {tests} test pictures")
    return CellResult(
        cell=cell,
        steps=int(about["steps"]),
        train_accuracy=train_accuracy,
        final_loss=final_loss,
        finite=bool(about["finite"]),
        predictions=told["predictions"],
        peak_predictions=told["peak_predictions"],
        peak_step=int(about["peak_step"]),
        curve=tuple(
            CurvePoint(int(step), epoch, loss, trained, None if tested != tested else tested)
            for step, epoch, loss, trained, tested in rows
        ),
        seconds=seconds,
        validated_predictions=told.get("validated_predictions"),
    )
