"""Brightness textures whose direction and period say the class: nothing is optimised, few pictures are seen. On
request a tint of blue says it a second time.

Which code goes to which class is decided against what nature gives the classes. Pictures of a class have textures of
their own: ships and aeroplanes much that runs up and down, dogs and frogs little. A network that learned the textures
reads a clean picture by the little of them that nature put there. So each class gets a code that its own pictures have
least of, compared with other classes: what nature says of a clean picture then points to another class. With codes
dealt at random it points nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, InstanceOf, ValidationInfo, field_validator
from scipy.optimize import linear_sum_assignment

from ...errors import ConfigError
from ...imaging import Budget, ImageSet
from ...records.secrets import RunKey, key_of_run
from ..clusters import (
    CLUSTER_SURROGATE,
    FeatureSpace,
    SquareFeatures,
    create_space,
    default_count,
    find_clusters,
    in_content_order,
)
from ..textures import TextureBank, TextureRecipe
from ..textures.bank import DEFAULT_BUDGET
from ..textures.code_book import LEAST_RESOLUTION, MOST_CLASSES, Code, check_resolution, code_book
from ..textures.wave import TINTS, energies, natural_tints, small_brightness
from .base import FitContext, FitEstimate, FitProgress, Method, ProgressCallback
from .recipe import MethodRecipe, no_surrogate
from .registry import register_method

#: What classes have of codes is told this exactly: what differs less is the rounding of some machine.
_DIGITS = 6


def natural_contents(
    small: Sequence[np.ndarray], labels: Sequence[int], book: Sequence[Code], sigma: float
) -> np.ndarray:
    """What the pictures of each class have of each code, in the mean.

    Args:
        small: float ``[h, w]`` each: brightness of a picture, in 8-bit levels.
        labels: class of each, from 0 on; every class occurs.
        book: the codes; of one of two waves the energies are added.
        sigma: width of the window around each wave, in cycles a side.

    Returns:
        float64 ``[K, C]``: mean of log(1 + energy) in squared levels, classes times codes.
    """
    # A thousand codes are made of sixty waves.
    waves = sorted({wave for code in book for wave in code})
    places = [[waves.index(wave) for wave in code] for code in book]
    sums = np.zeros((max(labels) + 1, len(book)))
    for levels, label in zip(small, labels, strict=True):
        found = energies(levels, waves, sigma)
        sums[label] += np.log1p([found[place].sum() for place in places])
    counts = np.bincount(np.asarray(labels), minlength=len(sums))
    return sums / counts[:, None]


def assign_against_nature(found: np.ndarray) -> np.ndarray:
    """The code of each class, such that all classes together have least of their own.

    What a code has in all classes, and a class of all codes, says nothing, and drops out of the sum by itself.

    Args:
        found: ``[K, K]`` as :func:`natural_contents` gives it.

    Returns:
        int64 ``[K]``: the code of class 0, 1, ...
    """
    return linear_sum_assignment(np.round(found, _DIGITS))[1]


def assign_tints(found: np.ndarray, labels: Sequence[int]) -> tuple[int, ...]:
    """The tint of each class, against what nature gives its pictures, as codes are dealt.

    Args:
        found: ``[N, 5]``, what each picture has of each course of a tint
            (:func:`~bitterant.protect.textures.wave.natural_tints`).
        labels: class of each, from 0 on; every class occurs.

    Returns:
        A number below :data:`~bitterant.protect.textures.wave.TINTS` for class 0, 1, ...; where there are more classes
        than tints, none is used more often than it has to be.
    """
    spread = found.std(axis=0)
    levels = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    means = np.stack([levels[np.asarray(labels) == label].mean(axis=0) for label in range(max(labels) + 1)])
    # Tint 2 c is course c, and 2 c + 1 its opposite.
    costs = np.stack([means, -means], axis=2).reshape(len(means), TINTS)
    costs = np.tile(np.round(costs, _DIGITS), (1, -(-len(means) // TINTS)))
    return tuple((linear_sum_assignment(costs)[1] % TINTS).tolist())


#: Pictures of each class that are looked at, and of all classes together: with many, a fit still takes seconds.
SAMPLE_A_CLASS, SAMPLE = 64, 2000


def _own_surrogate(told: Mapping[str, Any]) -> str:
    return CLUSTER_SURROGATE if told["granularity"] == "cluster" else ""


class ClassTextureRecipe(MethodRecipe):
    """Hyper-parameters of textures. The key is made of the seed where there is neither key file nor secret; with
    one, the seed makes another key."""

    budget: InstanceOf[Budget] = DEFAULT_BUDGET
    """How far a pixel may move."""
    surrogate: str = Field(default_factory=_own_surrogate)
    """In whose features clusters are found; none for ``sample``."""
    key_file: str | None = None
    """A file of hexadecimal digits that nobody can guess. Without it and a secret, anybody who guesses the seed can
    compute the textures and take them off."""
    secret: bytes | None = Field(default=None, repr=False)
    """The key itself, 16 bytes or more that nobody can guess, instead of a file."""
    for_resolution: int | None = None
    """Side in px at which a trainer is expected to look at the pictures: periods are then long enough there, as they
    always are on a picture itself."""
    floor: float = Field(default=TextureRecipe.floor, gt=0, le=1)
    """Share of the budget on areas that mask nothing; 1 is the full budget everywhere, as where a period of the wave
    has fewer than ten pixels: on pictures below 30 to 74 px, depending on the class."""
    bend: float = Field(default=TextureRecipe.bend, ge=0, le=10)
    """By how many radians of its phase a wave with soft edges swings to and fro along its crest, on pictures of 64
    px or more; 0 for straight waves, which can be taken out along their direction."""
    colour: float = Field(default=TextureRecipe.colour, ge=0, le=1)
    """Share of the budget of blue with which a tint says the class a second time, against total variation. Pictures
    without colour stay without."""
    clusters: int | None = Field(default=None, ge=2, le=MOST_CLASSES)
    """How many, with ``granularity="cluster"``; by default ten, fewer for small folders."""

    @field_validator("surrogate")
    @classmethod
    def _finds_clusters(cls, surrogate: str, info: ValidationInfo) -> str:
        if info.data.get("granularity") != "cluster":
            raise no_surrogate(surrogate, info)
        return surrogate


@register_method
class Texture(Method[TextureBank, ClassTextureRecipe]):
    """Class-coded textures: waves of brightness whose direction and period are the class, or the cluster of pictures
    that look alike where there are no classes. Instant.

    Every class has a code, one wave or two that cross, and every picture a texture of its class's code that follows
    what the picture itself has of that wave. Small turns of it are drawn from a key and the file's content. A fit deals
    codes to the classes, against what nature gave a sample of their pictures (:func:`assign_against_nature`); its bank
    serves new pictures of these classes.

    Without classes (``granularity="cluster"``) pictures are clustered by the features of a surrogate, as *Unlearnable
    Clusters* does (Zhang et al., CVPR 2023, arXiv 2301.01217), and each cluster has a code. A trainer's labels cut
    across clusters, so the shortcut is worth less to the network than one for the labels themselves.

    Patterns that are easy to tell apart are what networks learn first: Yu et al., *Availability Attacks Create
    Shortcuts* (KDD 2022, arXiv 2111.00898); Sandoval-Segura et al., *Autoregressive Perturbations for Data Poisoning*
    (NeurIPS 2022, arXiv 2206.03693), whose patterns need no surrogate either. These are in brightness alone (without
    ``colour``), so that grayscale takes nothing away, and of long periods, which survive compression and blur.

    ``granularity="sample"``: codes belong to classes; ``cluster``: to clusters of pictures, labels are not used.
    Hyper-parameters are the fields of :class:`ClassTextureRecipe`.

    Raises:
        ConfigError: a value out of range, or a key file that is none.
    """

    name = "texture"
    needs = "labels"
    granularities = ("sample", "cluster")
    without_labels = "cluster"
    default_for = "classes"
    instant = True
    keyed = True

    recipe_class = ClassTextureRecipe

    def _set_up(self) -> None:
        recipe = self.recipe
        if recipe.granularity == "cluster":
            self.needs = "nothing"
        elif recipe.weights.file is not None:
            raise ConfigError("texture uses no network, so weights would do nothing. Leave them out.")
        elif recipe.clusters is not None:
            raise ConfigError("texture forms clusters only with --granularity cluster. Add it, or leave clusters out.")
        check_resolution(recipe.for_resolution)
        self.clusters, self.for_resolution = recipe.clusters, recipe.for_resolution
        self.shape = TextureRecipe(floor=recipe.floor, bend=recipe.bend, colour=recipe.colour)
        key_file = None if recipe.key_file is None else Path(recipe.key_file)
        self._key = key_of_run(key_file, recipe.secret, recipe.seed, purpose=self.name)

    @property
    def needs_pixels(self) -> bool:
        """Clusters are made of all pictures; of classes a sample is enough, and their names are."""
        return self.granularity == "cluster"

    @property
    def least_images(self) -> int:
        """One for each cluster, two where their number is left to us."""
        return self.clusters or (2 if self.granularity == "cluster" else 1)

    def feature_extractor(self, resolution: int) -> SquareFeatures | None:
        """Clusters are found on more detail than small working images hold."""
        return self._space(resolution).feature_extractor(resolution) if self.granularity == "cluster" else None

    @property
    def key(self) -> RunKey:
        """What its noise is drawn from."""
        return self._key

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe; of the key only what tells it from another one."""
        return {
            **super().settings(),
            **self.key.about,
            "recipe": self.shape.to_dict(),
        }

    def sample_a_class(self, classes: int) -> int:
        """Enough to see what the classes have of each code by nature."""
        return max(1, min(SAMPLE_A_CLASS, SAMPLE // classes))

    def fit_classes(
        self, classes: Sequence[str], *, sample: ImageSet | None = None, progress: ProgressCallback | None = None
    ) -> TextureBank:
        """Deal codes to the classes: against what nature gives their pictures where some can be seen, else by the key.

        The same names, pictures and key give the same bank.

        Raises:
            ConfigError: more classes than a code book holds.
            LabelError: fewer than two.
        """
        order, tints = (None, None) if sample is None else self._against_nature(sorted(classes), sample)
        bank = TextureBank.of_classes(
            classes,
            self.key.secret,
            order=order,
            tints=tints,
            budget=self.budget,
            for_resolution=self.for_resolution,
            recipe=self.shape,
            seed=self.seed,
        )
        if progress is not None:
            progress(FitProgress("texture", 1.0, f"{len(bank.classes)} classes got their codes"))
        return replace(bank, report={**bank.report, "key": self.key.kind})

    def _fit(self, dataset: ImageSet, context: FitContext) -> TextureBank:
        if self.granularity == "cluster":
            return self._fit_clusters(dataset, context)
        return self._fit_labels(dataset, context)

    def _fit_labels(self, dataset: ImageSet, context: FitContext) -> TextureBank:
        assert dataset.labels is not None
        present = dataset.labels.unique().tolist()
        # The first of each class in the order of the keys, which is that of the contents.
        each = self.sample_a_class(len(present))
        rows = [(dataset.labels == label).nonzero().flatten()[:each] for label in present]
        return self.fit_classes(
            [dataset.classes[label] for label in present],
            sample=dataset.select(torch.cat(rows).tolist()),
            progress=lambda step: context.tell(step.stage, step.fraction),
        )

    def _fit_clusters(self, dataset: ImageSet, context: FitContext) -> TextureBank:
        """Clusters are dealt with as classes are, whatever labels there may be."""
        context.tell("texture", 0.0, "looking for clusters")
        dataset, space = in_content_order(dataset), self._space(dataset.resolution)
        features, feature_size = space.look(dataset)
        count = min(self.clusters or default_count(len(dataset)), len(dataset))
        found = find_clusters(features, count, seed=self.seed)
        if len(found.centres) < 2:
            raise ConfigError("All pictures look alike to the surrogate, so there is one cluster only. Add pictures.")
        names = tuple(f"cluster-{number:03d}" for number in range(len(found.centres)))
        labelled = replace(dataset, labels=found.assignment, classes=names)
        bank = self._fit_labels(labelled, context)
        about = {"clusters": {"side": feature_size or dataset.resolution, "sizes": found.sizes}}
        return replace(
            bank,
            granularity="cluster",
            clusters=found.index(dataset.keys, feature_size),
            surrogate=self.surrogate or "",
            surrogate_sha256=space.fingerprint,
            resolution=dataset.resolution,
            report={**bank.report, **about, "surrogate": self.surrogate, "surrogate_source": space.source},
        )

    def _space(self, resolution: int) -> FeatureSpace:
        assert self.surrogate is not None
        return create_space(
            self.surrogate, resolution, seed=self.seed, weights=self.weights,
            device=self.device,
        )  # fmt: skip

    def _against_nature(self, names: list[str], sample: ImageSet) -> tuple[list[int] | None, tuple[int, ...] | None]:
        """Code and tint of each class, against what its pictures have by nature; ``None`` where the sample lacks a
        class, and for tints where none are wanted."""
        assert sample.labels is not None
        numbers = {name: number for number, name in enumerate(names)}
        labels = [numbers.get(sample.classes[label], -1) for label in sample.labels.tolist()]
        if set(labels) != set(range(len(names))):
            return None, None
        # As it will be drawn on pictures of this size.
        seen = max(LEAST_RESOLUTION, min(self.for_resolution or sample.resolution, sample.resolution))
        book = code_book(len(names), for_resolution=seen)
        pictures = sample.images.permute(0, 2, 3, 1).cpu().numpy()
        small = [small_brightness(image, self.shape.side) for image in pictures]
        order = assign_against_nature(natural_contents(small, labels, book, self.shape.sigma)).tolist()
        if not self.recipe.colour:
            return order, None
        return order, assign_tints(np.stack([natural_tints(image, self.shape.side) for image in pictures]), labels)

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        # Dealing a thousand codes takes some hundredths of a second; pictures were looked at while they were read.
        if self.granularity != "cluster" or dataset.features is not None:
            return FitEstimate(seconds=1e-3, peak_bytes=1 << 20)
        space, tried = self._space(dataset.resolution), dataset.images[:64]
        begun = time.perf_counter()
        space.of(tried)
        return FitEstimate(seconds=(time.perf_counter() - begun) / len(tried) * total, peak_bytes=1 << 20)
