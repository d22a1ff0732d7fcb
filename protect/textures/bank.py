"""The saved product of ``texture``: which code belongs to which class, and the key that textures are drawn with.

File format (version 1; 2 with tints; 3 with bent waves, with or without tints): one safetensors file. Tensor ``waves``
holds float64 ``[K, 2, 2]``: two waves a class, each as cycles a side and degrees, the second 0 where a class has but
one; ``secret`` holds the bytes of the key; ``tints``, where there are some, int64 ``[K]``: number of the tint of each
class. All else is string metadata. A bank of clusters also holds the arrays of :class:`ClusterIndex`. Never a pickle.
Whoever holds it can compute the textures and take them off again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..._version import __version__
from ...errors import BankError, ConfigError, ImageError, LabelError
from ...imaging.masking import amplitude
from ...imaging.perturb import Budget, add_delta
from ...imaging.picture import Picture, as_picture, picture_like
from ...records.config import strengths_of
from ...records.files import in_stable_order, write_atomic
from ...records.text import parse_json
from ..batches import apply_set, one_by_one
from ..cluster_index import ClusterIndex, unassigned
from .code_book import LEAST_SIDE, MOST_CLASSES, Code, TextureRecipe, Wave, assign_codes, scale_for
from .wave import check_tints, deal_tints, draw_waves, is_soft, row_blocks, texture, tint

DEFAULT_BUDGET: Final = Budget.from_levels(strengths_of("texture")["balanced"])
"""How far a pixel may move where nothing else is asked for."""

if TYPE_CHECKING:
    from torch import Tensor


FORMAT: Final = "bitterant-texture-bank"
#: The second may hold tints, the third bent waves, too. Each bank is written in the first that holds it, which the most
#: programs read.
_VERSIONS: Final = ("1", "2", "3")
_Image = TypeVar("_Image", "Tensor", np.ndarray, Image.Image)
_Images = TypeVar("_Images", "Tensor", np.ndarray)


@dataclass(frozen=True)
class TextureBank:
    """Textures for any picture of some classes: no perturbation is stored, each is made when it is asked for.

    Attributes:
        classes: names, sorted.
        codes: of each class.
        secret: the key that the textures are drawn with.
        budget: the bound every texture keeps.
        recipe: the numbers that shape a texture.
        tints: number of the tint of each class; empty where :attr:`TextureRecipe.colour` is 0.
        seed: of the fit.
        method: registry name of the method.
        granularity: ``sample``: the code is that of the picture's class; ``cluster``: that of the cluster it belongs
            to, whatever its class. Every picture has a texture of its own either way.
        clusters: which those are, in the order of ``classes``; ``None`` where codes belong to classes.
        surrogate: registry name of the network in whose features clusters were found; empty where there are none.
        surrogate_sha256: digest of its weights.
        resolution: side in px of the working images of the fit of clusters; 0 where there are none.
        report: what was done; JSON-safe; not saved with the bank.
    """

    classes: tuple[str, ...]
    codes: tuple[Code, ...]
    secret: bytes = field(repr=False)
    budget: Budget
    recipe: TextureRecipe = field(default_factory=TextureRecipe)
    tints: tuple[int, ...] = ()
    seed: int = 0
    method: str = "texture"
    granularity: Literal["sample", "cluster"] = "sample"
    clusters: ClusterIndex | None = field(default=None, compare=False)
    surrogate: str = ""
    surrogate_sha256: str = ""
    resolution: int = 0
    report: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    _codes: dict[str, Code] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.codes) or not 1 <= len(self.classes) <= MOST_CLASSES:
            raise BankError(f"A bank of {len(self.classes)} classes cannot hold {len(self.codes)} codes.")
        if list(self.classes) != sorted(set(self.classes)):
            raise BankError("A bank's classes must be distinct, and sorted.")
        if not self.secret:
            raise BankError("A bank of textures needs the key that they are drawn with.")
        for code in self.codes:
            if len(code) not in (1, 2) or not all(
                math.isfinite(wave.cycles) and 0.0 < wave.cycles <= 512.0 and 0.0 <= wave.angle <= 90.0 for wave in code
            ):
                raise BankError(f"A code is one or two waves of up to 512 cycles and 90 degrees, not {code}.")
        if len(set(self.codes)) != len(self.codes):
            raise BankError("A bank's codes must be distinct.")
        wrong = check_tints(self.tints, len(self.classes), self.recipe)
        if wrong is not None:
            raise BankError(wrong)
        if (self.granularity == "cluster") != (self.clusters is not None) or (
            self.clusters is not None and (len(self.clusters.centres) != len(self.codes) or self.resolution < 1)
        ):
            raise BankError("A bank of clusters needs one centre for each of its codes.")
        object.__setattr__(self, "_codes", dict(zip(self.classes, self.codes, strict=True)))

    @classmethod
    def of_classes(
        cls,
        names: Sequence[str],
        secret: bytes,
        *,
        budget: Budget | None = None,
        for_resolution: int | None = None,
        recipe: TextureRecipe | None = None,
        seed: int = 0,
        order: Sequence[int] | None = None,
        tints: Sequence[int] | None = None,
    ) -> TextureBank:
        """The bank of some classes, from their names and a key alone.

        Args:
            names: of the classes, at least two, distinct.
            secret: the key, at least 16 bytes that nobody can guess.
            budget: default 12/255.
            for_resolution: see :func:`code_book`.
            recipe: default as published.
            seed: noted in the bank; the key alone decides.
            order: see :func:`assign_codes`.
            tints: number of the tint of each class, classes sorted by name, where the recipe has colour; dealt by the
                key if left out.

        Raises:
            BankError: tints that do not fit.
            ConfigError: a name twice, or more classes than a code book holds.
            LabelError: fewer than two classes.
        """
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"The class {twice!r} is named twice.")
        if len(names) < 2:
            raise LabelError(
                f"A code book needs at least two classes, and there are {len(names)}: there is nothing for a shortcut "
                "to tell apart."
            )
        assigned = assign_codes(names, secret, for_resolution=for_resolution, order=order)
        recipe = recipe or TextureRecipe()
        if tints is None and recipe.colour:
            tints = deal_tints(len(assigned), secret)
        rings = sorted({wave.cycles for code in assigned.values() for wave in code})
        return cls(
            classes=tuple(sorted(assigned)),
            codes=tuple(assigned[name] for name in sorted(assigned)),
            secret=secret,
            budget=budget or DEFAULT_BUDGET,
            recipe=recipe,
            tints=tuple(tints or ()),
            seed=seed,
            # Not which class got which code: this is published with the pictures where nobody takes it out.
            report={
                "texture": {
                    "classes": len(assigned),
                    "rings": [round(ring, 3) for ring in rings],
                    "codes": f"{len(assigned)} {'plaids' if len(next(iter(assigned.values()))) > 1 else 'waves'}",
                    "for_resolution": for_resolution,
                    "dealt": "by the key" if order is None else "against what nature gives the classes",
                    **({"colour": recipe.colour} if recipe.colour else {}),
                }
            },
        )

    # ------------------------------------------------------------------ what a run over a folder asks for
    def key_for(self, image_key: str) -> str | None:
        """What a picture's texture is drawn from: its key (``class/sha256``) itself, or a bare class name; ``None``
        where its class is not in the book. In a bank of clusters its cluster takes the place of its class, and ``None``
        says that it was never assigned to one."""
        if image_key in self._codes:  # first of all: the names of some classes hold a slash
            return image_key
        name, _, content = image_key.rpartition("/")
        number = None if self.clusters is None else self.clusters.find(image_key)
        if number is not None:
            return f"{self.classes[number]}/{content}"
        return image_key if name in self._codes else None

    def code_for(self, key: str) -> Code:
        """The code of a class, or of a picture's key.

        Raises:
            BankError: the class is not in the book.
        """
        name = key if key in self._codes else key.rpartition("/")[0]
        code = self._codes.get(name)
        if code is None:
            raise BankError(
                f"This bank has no texture for the class {name or key!r}. It knows: "
                f"{', '.join(self.classes[:10])}{', ...' if len(self.classes) > 10 else ''}."
            )
        return code

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """The texture for a picture.

        Args:
            picture: any size that holds the waves of its class.
            key: the picture's (``class/sha256``); of a bare class name, the digest of the pixels takes the place of
                that of the file.

        Returns:
            float32 in 8-bit levels: ``[H, W, 1]``, all channels change alike; or ``[H, W, 3]`` where the bank has tints
            and the picture colours.

        Raises:
            BankError: the class is not in the book, or the picture was assigned to no cluster.
            ImageError: the picture is too small.
        """
        if self.clusters is not None:
            found = self.key_for(key)
            if found is None:
                raise BankError(unassigned(key))
            key = found
        code = self.code_for(key)
        short = min(picture.height, picture.width)
        if short < LEAST_SIDE:
            raise ImageError(
                picture.source,
                f"its short side of {short} px is too small for a texture, which needs {LEAST_SIDE} px; enlarge it, or "
                "leave it out",
            )
        content = picture.digest() if key in self._codes else key.rpartition("/")[2]
        waves = draw_waves(code, self.recipe, self.secret, content, scale_for(self.codes, short))
        wave = texture(picture.pixels, waves, self.recipe, white=picture.full_range)
        soft = is_soft(waves, self.recipe, short)
        levels = wave[:, :, None]
        if self.tints and not picture.is_colourless:
            share = np.float32(self.recipe.colour)
            number = self.tints[self.codes.index(code)]
            levels = np.repeat(levels, 3, axis=2)
            blue = levels[:, :, 2]
            blue *= 1 - share
            blue += share * tint(picture.pixels, number, self.recipe, soft=soft, white=picture.full_range)
            np.clip(blue, -1.0, 1.0, out=blue)  # shares of 1 may add up to a little more
        levels *= np.float32(self.budget.levels)
        # Where a period has few pixels there is no place for masking: they are all busy, and whoever looks at such a
        # picture enlarges it.
        if self.recipe.floor < 1.0 and soft:
            for rows in row_blocks(picture.height, picture.width):
                weights = amplitude(picture.pixels, floor=self.recipe.floor, rows=rows, white=picture.full_range)
                levels[rows] *= weights[:, :, None]
        return levels

    def apply(self, image: _Image, key: str) -> _Image:
        """Protect one image of any size.

        Args:
            image: tensor ``[3, H, W]`` or array ``[H, W, 3]``, uint8 or floating point in [0, 1], or a Pillow image.
                One channel is taken for greys.
            key: an image's key (``class/sha256``), or its class name.

        Returns:
            The same type and shape: the image plus its texture, clipped, on the 8-bit grid.

        Raises:
            BankError: no such class.
            ConfigError: another type or shape, or values outside [0, 1].
            ImageError: the image is too small.
        """
        picture = as_picture(image)
        return picture_like(image, add_delta(picture, self.levels_on(picture, key), self.budget))

    def apply_set(
        self,
        images: _Images,
        keys: Sequence[str] | None = None,
        labels: Sequence[int] | Sequence[str] | Tensor | np.ndarray | None = None,
    ) -> _Images:
        """Protect many images of one size, as :meth:`Bank.apply_set` does. Without keys, ``labels`` must tell the class
        of each.

        Raises:
            BankError: a class is not in the book.
            ConfigError: another type or shape, values outside [0, 1], or keys that do not fit.
            ImageError: the images are too small.
            LabelError: labels that do not fit.
        """
        return apply_set(images, keys, labels, partial(one_by_one, self.apply))

    # ------------------------------------------------------------------ file
    def digest(self) -> str:
        """sha256 over what decides about the pictures."""
        parts: tuple[object, ...] = (self.classes, self.codes, self.budget, self.recipe)
        if self.tints:
            parts += (self.recipe.colour, self.tints)
        if self.recipe.bend:
            parts += ("bend", self.recipe.bend)
        digest = hmac.new(self.secret, repr(parts).encode("utf-8", "backslashreplace"), hashlib.sha256)
        if self.clusters is not None:
            digest.update(f"{self.surrogate_sha256} {self.resolution} {self.clusters.feature_size}".encode())
            digest.update(self.clusters.centres.tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, *, overwrite: bool = True, made_for: str = "") -> None:
        """Write the bank whole or not at all, readable by its owner alone. The same bank gives the same bytes.

        ``made_for`` is a digest of what it was made for, kept beside it; see :func:`made_for`."""
        waves = np.zeros((len(self.codes), 2, 2), dtype=np.float64)
        for row, code in enumerate(self.codes):
            waves[row, : len(code)] = code
        metadata = {
            "format": FORMAT,
            "version": _VERSIONS[2 if self.recipe.bend else bool(self.tints)],
            "method": self.method,
            "granularity": self.granularity,
            "epsilon": repr(self.budget.epsilon),
            "norm": self.budget.norm,
            "seed": str(self.seed),
            "tool_version": __version__,
            "recipe": self.recipe.to_json(),
            "classes": json.dumps(list(self.classes), ensure_ascii=False),
            **({"made_for": made_for} if made_for else {}),
        }
        tensors = {"waves": waves, "secret": np.frombuffer(self.secret, dtype=np.uint8)}
        if self.tints:
            tensors["tints"] = np.array(self.tints, dtype=np.int64)
        if self.clusters is not None:
            tensors |= self.clusters.to_arrays()
            metadata |= {
                "surrogate": self.surrogate,
                "surrogate_sha256": self.surrogate_sha256,
                "resolution": str(self.resolution),
            }
        write_atomic(Path(path), in_stable_order(save(tensors, metadata)), overwrite=overwrite, private=True)

    @classmethod
    def load(cls, path: str | Path) -> TextureBank:
        """Read a bank of textures, without torch.

        Raises:
            BankError: no such file, damaged, of another kind or format version.
        """
        path = Path(path)
        if not path.is_file():
            raise BankError(f"There is no bank file {path}.")
        try:
            with safe_open(path, framework="np") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise BankError(f"{path} is a safetensors file, but not a bank of textures.")
                version = metadata.get("version")
                if version not in _VERSIONS:
                    raise BankError(
                        f"{path} has texture bank format {version}; this bitterant reads {', '.join(_VERSIONS)}. "
                        f"It was written by bitterant {metadata.get('tool_version', '?')}."
                    )
                waves, secret = handle.get_tensor("waves"), handle.get_tensor("secret")
                tints = handle.get_tensor("tints") if "tints" in handle.keys() else np.empty(0, np.int64)  # noqa: SIM118
                granularity = metadata["granularity"]
                clusters = None
                if granularity == "cluster":
                    arrays = {name: handle.get_tensor(name) for name in ClusterIndex.ARRAYS}
                    clusters = ClusterIndex.from_arrays(arrays)
            if waves.dtype != np.float64 or waves.ndim != 3 or waves.shape[1:] != (2, 2):
                raise ValueError(f"its waves are {waves.dtype} {waves.shape}")
            if secret.dtype != np.uint8 or secret.ndim != 1:
                raise ValueError(f"its key is {secret.dtype} {secret.shape}")
            if tints.dtype != np.int64 or tints.ndim != 1:
                raise ValueError(f"its tints are {tints.dtype} {tints.shape}")
            classes = parse_json(metadata["classes"])
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise ValueError("its classes are no list of texts")
            if granularity not in ("sample", "cluster"):
                raise ValueError(f"its granularity is {granularity!r}")
            return cls(
                classes=tuple(classes),
                codes=tuple(_code(row) for row in waves.tolist()),
                secret=secret.tobytes(),
                budget=Budget(float(metadata["epsilon"]), metadata["norm"]),  # type: ignore[arg-type]
                recipe=TextureRecipe.from_json(metadata["recipe"]),
                tints=tuple(tints.tolist()),
                seed=int(metadata["seed"]),
                method=metadata["method"],
                granularity=granularity,
                clusters=clusters,
                surrogate=metadata.get("surrogate", ""),
                surrogate_sha256=metadata.get("surrogate_sha256", ""),
                resolution=int(metadata.get("resolution", "0")),
            )
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError, ConfigError) as error:
            if isinstance(error, BankError) and str(path) in str(error):
                raise
            raise BankError(f"{path} is damaged and cannot be used ({error!s:.200}). Make it again.") from error


def _code(row: Sequence[Sequence[float]]) -> Code:
    waves = [Wave(*wave) for wave in row]
    return tuple(waves[:1] if waves[1] == Wave(0.0, 0.0) else waves)
