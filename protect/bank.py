"""The saved product of a fit: perturbations by key, and how to put them on an image.

File format (version 1): one safetensors file. Tensor ``levels`` holds int8 (int16 above 127 levels) ``[M, 3, R, R]`` in
8-bit levels, row ``i`` belonging to ``keys[i]``; everything else is string metadata. Never a pickle.
The bank is also the key that removes the protection: whoever holds it can subtract the perturbation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .._version import __version__
from ..errors import BankError, BudgetExceeded, ConfigError
from ..imaging import Budget, Picture, add_delta, write_atomic
from ..imaging.picture import as_picture, picture_like
from ..records.config import Granularity
from ..records.files import in_stable_order
from ..records.text import parse_json
from .bank_file import StoredLevels, open_bank
from .batches import apply_set, stored
from .cluster_index import ClusterIndex, unassigned
from .textures import TextureBank

#: Bytes of perturbations that are read when a bank is opened; larger ones stay on the disk.
LARGEST_IN_MEMORY: Final = 4_000_000

_FORMAT = "bitterant-bank"
_VERSION = 1
_Image = TypeVar("_Image", Tensor, np.ndarray, Image.Image)
_Images = TypeVar("_Images", Tensor, np.ndarray)


@dataclass(frozen=True)
class Bank:
    """Perturbations by key.

    Attributes:
        method: registry name of the method that made it.
        granularity: ``class`` (keys are class names), ``sample`` (keys are those of the images) or ``cluster``
            (keys are ``cluster-0``, ...; see :class:`ClusterIndex`).
        budget: the bound every entry keeps.
        levels: int16 ``[M, 3, R, R]``, in 8-bit levels. Those of a large file stay on the disk and are read row by row
            (:meth:`levels_for`); to ask for this attribute is to read them all.
        keys: ``M`` distinct strings.
        surrogate: registry name of the surrogate, empty for methods without one.
        surrogate_sha256: digest of its weights at the end of the fit.
        seed: of the fit.
        report: what happened during the fit; JSON-safe; not saved with the bank.
        clusters: centres and known pictures, where patterns belong to clusters.
    """

    method: str
    granularity: Granularity
    budget: Budget
    levels: Tensor = field(repr=False, compare=False)  # what == makes of a tensor is no answer: see __eq__
    keys: tuple[str, ...]
    surrogate: str = ""
    surrogate_sha256: str = ""
    seed: int = 0
    report: dict[str, Any] = field(default_factory=dict, compare=False)
    clusters: ClusterIndex | None = field(default=None, compare=False)
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        stored = self.levels if isinstance(self.levels, StoredLevels) else None
        if stored is not None:
            object.__setattr__(self, "_stored", stored)
            object.__delattr__(self, "levels")  # see __getattr__
        shape = self._shape
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[0] != len(self.keys):
            raise BankError(f"A bank of {len(self.keys)} keys cannot hold perturbations of shape {shape}.")
        if len(set(self.keys)) != len(self.keys):
            raise BankError("A bank's keys must be distinct.")
        if stored is None and (outside := self.budget.violations(self.levels)):
            raise BudgetExceeded(f"{outside} entries of the bank lie outside ±{self.budget.levels:g} levels.")
        if (self.granularity == "cluster") != (self.clusters is not None) or (
            self.clusters is not None and len(self.clusters.centres) != len(self.keys)
        ):
            raise BankError("A bank of clusters needs one centre for each of its patterns.")
        object.__setattr__(self, "_rows", {key: i for i, key in enumerate(self.keys)})

    def __getattr__(self, name: str) -> Tensor:
        if name == "levels" and "_stored" in self.__dict__:
            return torch.stack([self._row(number) for number in range(len(self.keys))])
        raise AttributeError(f"A bank has no {name}.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bank):
            return NotImplemented
        told = [part.name for part in fields(self) if part.compare]
        return self is other or (
            self._shape == other._shape
            and all(getattr(self, name) == getattr(other, name) for name in told)
            and all(bool((self._row(number) == other._row(number)).all()) for number in range(len(self.keys)))
        )

    @property
    def _shape(self) -> tuple[int, ...]:
        stored: StoredLevels | None = self.__dict__.get("_stored")
        return tuple(self.levels.shape) if stored is None else stored.shape

    def _row(self, number: int) -> Tensor:
        """int16 ``[3, R, R]``."""
        stored: StoredLevels | None = self.__dict__.get("_stored")
        if stored is None:
            return self.levels[number]
        row = stored.read(number)
        if outside := self.budget.violations(row):
            raise BankError(
                f"{stored.path} is damaged and cannot be used ({outside} entries for {self.keys[number]} lie outside "
                f"±{self.budget.levels:g} levels). Fit it again."
            )
        return torch.from_numpy(row.astype(np.int16))

    @property
    def resolution(self) -> int:
        """Side R of the perturbations in px."""
        return int(self._shape[-1])

    def key_for(self, image_key: str) -> str | None:
        """The bank's key for an image's key (``class/sha256``), or ``None`` where it has no perturbation for it."""
        if image_key in self._rows:  # first of all: the names of some classes hold a slash
            return image_key
        if self.clusters is not None:
            number = self.clusters.find(image_key)
            return None if number is None else self.keys[number]
        key = image_key.rpartition("/")[0]
        return key if self.granularity == "class" and key in self._rows else None

    def levels_for(self, key: str) -> np.ndarray:
        """The perturbation of a key, float32 ``[R, R, 3]`` in 8-bit levels.

        Args:
            key: a key of the bank, or an image's key (see :meth:`key_for`).

        Raises:
            BankError: the bank has nothing for it.
        """
        row = self.key_for(key)
        if row is None:
            if self.granularity == "class":
                name = key.rpartition("/")[0] if len(key.rpartition("/")[2]) in (0, 64) else key  # without the digest
                raise BankError(
                    f"This bank has no perturbation for the class {name!r}. It knows: {', '.join(self.keys[:10])}"
                    f"{', ...' if len(self.keys) > 10 else ''}."
                )
            if self.clusters is not None:
                raise BankError(unassigned(key))
            raise BankError(
                f"This bank has no perturbation for the image {key!r}: it knows only the {len(self.keys)} images that "
                "it was fitted on, by their class and content. Fit it on this one, too; or take a bank with one "
                "pattern a class, or of textures (method texture), which serve new images of their classes."
            )
        return self._row(self._rows[row]).permute(1, 2, 0).to(torch.float32).numpy()

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """What a folder run adds to a picture: :meth:`levels_for`, whatever the picture."""
        return self.levels_for(key)

    def apply(self, image: _Image, key: str) -> _Image:
        """Protect one image of any size.

        Args:
            image: tensor ``[3, H, W]`` or array ``[H, W, 3]``, uint8 or floating point in [0, 1], or a Pillow image.
                One channel is taken for greys.
            key: a key of the bank, or an image's key: class-wise, its class name is enough.

        Returns:
            The same type and shape: image plus the perturbation resized to it, clipped, on the 8-bit grid. It differs
            from the rounded image by at most the budget.

        Raises:
            BankError: no such key.
            ConfigError: another type or shape, or values outside [0, 1].
        """
        picture = as_picture(image)
        return picture_like(image, add_delta(picture, self.levels_on(picture, key), self.budget))

    def apply_set(
        self,
        images: _Images,
        keys: Sequence[str] | None = None,
        labels: Sequence[int] | Sequence[str] | Tensor | np.ndarray | None = None,
    ) -> _Images:
        """Protect many images of one size: the same as :meth:`apply` on each, bit for bit, and quicker.

        Args:
            images: tensor ``[N, 3, H, W]`` or array ``[N, H, W, 3]``, uint8 or floating point in [0, 1]; such as
                ``data.images`` of an :class:`ImageSet`.
            keys: of each, such as ``data.keys``. Left out, they are made of the pixels (and of ``labels``), as
                :meth:`ImageSet.from_tensors` makes them.
            labels: the class of each by name, where keys do not hold it; a number stands for a class that is named
                like it.

        Returns:
            The same type, shape and device.

        Raises:
            BankError: the bank has nothing for one of them.
            ConfigError: another type or shape, values outside [0, 1], or keys that do not fit.
            LabelError: labels that do not fit.
        """
        return apply_set(images, keys, labels, partial(stored, self))

    def digest(self) -> str:
        """sha256 over what decides about the pictures, so that a bank and its file are the same bank."""
        digest = hashlib.sha256(repr((self.granularity, self.budget, self.keys)).encode("utf-8", "backslashreplace"))
        for number in range(len(self.keys)):
            digest.update(self._row(number).numpy().tobytes())
        if self.clusters is not None:
            digest.update(str(self.clusters.feature_size).encode())
            digest.update(self.clusters.centres.tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, *, overwrite: bool = True, made_for: str = "") -> None:
        """Write the bank whole or not at all, readable by its owner alone. The same bank gives the same bytes.

        ``made_for`` is a digest of what it was made for, kept beside it; see :func:`made_for`."""
        small = self.budget.whole_levels <= 127
        metadata = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "method": self.method,
            "granularity": self.granularity,
            "epsilon": repr(self.budget.epsilon),
            "norm": self.budget.norm,
            "resolution": str(self.resolution),
            "surrogate": self.surrogate,
            "surrogate_sha256": self.surrogate_sha256,
            "seed": str(self.seed),
            "tool_version": __version__,
            "keys": json.dumps(list(self.keys), ensure_ascii=False),
            **({"made_for": made_for} if made_for else {}),
        }
        levels = self.levels.to(torch.int8 if small else torch.int16).contiguous()
        arrays = {} if self.clusters is None else self.clusters.to_arrays()
        tensors = {"levels": levels, **{name: torch.from_numpy(array) for name, array in arrays.items()}}
        write_atomic(Path(path), in_stable_order(save(tensors, metadata)), overwrite=overwrite, private=True)

    @classmethod
    def load(cls, path: str | Path) -> Bank:
        """Read a bank file of perturbations. :func:`load_bank` reads those of textures, too.

        The perturbations of a file of more than :data:`LARGEST_IN_MEMORY` bytes are left on the disk: each is read, and
        compared with the budget, when it is asked for. :meth:`digest` goes through all of them.

        Raises:
            BankError: no such file, damaged, of another kind or format version, or outside its own budget.
        """
        path = Path(path)
        if not path.is_file():
            raise BankError(f"There is no bank file {path}.")
        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise BankError(f"{path} is a safetensors file, but not a bank of bitterant.")
                if metadata.get("version") != str(_VERSION):
                    raise BankError(
                        f"{path} has bank format {metadata.get('version')}; this bitterant reads {_VERSION}. "
                        f"It was written by bitterant {metadata.get('tool_version', '?')}."
                    )
                granularity = metadata["granularity"]
                if granularity not in ("sample", "class", "cluster"):
                    raise BankError(f"{path}: unknown granularity {granularity!r}.")
                keys = parse_json(metadata["keys"])
                if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                    raise ValueError("its keys are no list of texts")
                levels = StoredLevels.find(path)
                if levels.size <= LARGEST_IN_MEMORY:
                    levels = handle.get_tensor("levels").to(torch.int16)
                return cls(
                    method=metadata["method"],
                    granularity=granularity,
                    budget=Budget(float(metadata["epsilon"]), metadata["norm"]),  # type: ignore[arg-type]
                    levels=levels,  # type: ignore[arg-type]
                    keys=tuple(keys),
                    surrogate=metadata["surrogate"],
                    surrogate_sha256=metadata["surrogate_sha256"],
                    seed=int(metadata["seed"]),
                    clusters=_read_clusters(handle) if granularity == "cluster" else None,
                )
        except (
            SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError, ConfigError, BudgetExceeded,
        ) as error:  # fmt: skip
            if isinstance(error, BankError):
                raise
            raise BankError(f"{path} is damaged and cannot be used ({error!s:.200}). Fit it again.") from error


def _read_clusters(handle: Any) -> ClusterIndex:
    return ClusterIndex.from_arrays({name: handle.get_tensor(name).numpy() for name in ClusterIndex.ARRAYS})


def load_bank(path: str | Path) -> Bank | TextureBank:
    """Read a bank file of any kind. :func:`open_bank` does so, too, and needs torch only where the bank does.

    Raises:
        BankError: no such file, damaged, of another format version, or outside its own budget.
    """
    return open_bank(Path(path))
