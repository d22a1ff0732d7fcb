"""What every method shares: checks, identity of perturbations, projection, progress, resumption.

``fit`` is final. The base does not trust the method: whatever ``_fit`` returns is projected, put on the 8-bit grid
and checked before it becomes a bank.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, Signature, signature
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast, final

import torch
from torch import Tensor

from ..._version import __version__
from ...errors import ConfigError, FitError, LabelError
from ...imaging import Budget, FeatureExtractor, ImageSet
from ...records.config import Granularity, WeightsPolicy
from ...records.secrets import RunKey
from ...surrogates import ChosenPrecision, resolve_device
from ..bank import Bank
from ..cluster_index import ClusterIndex
from ..textures import TextureBank
from .checkpoint import Checkpoint
from .ranks import ranks
from .recipe import MethodRecipe

#: What a method's fit gives: mostly perturbations; textures where they are made when a picture is written.
_B = TypeVar("_B", bound=Bank | TextureBank)

#: What it is told; a sub-class of the recipe of every method.
_R = TypeVar("_R", bound=MethodRecipe)

DefaultFor = Literal["classes", "classes, on a network", "no classes"]
"""Folders that ``auto`` tells apart; on a network: a surrogate, one pattern a class or a paper's settings were asked
for too."""

#: Values that are quantised at once.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FitProgress:
    """Where a fit stands: the stage's name, the share of the fit done in [0, 1], a line for people, figures."""

    stage: str
    fraction: float
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitEstimate:
    """What a fit will cost: wall seconds, and peak bytes of tensors beyond the image set.

    Attributes:
        schedule: for people, how long the surrogate is trained where that is bounded; empty where nothing is to say.
    """

    seconds: float
    peak_bytes: int
    schedule: str = ""


ProgressCallback = Callable[[FitProgress], None]


class FitContext:
    """What a method gets besides data: where to report, where to keep its state.

    Attributes:
        report: JSON-safe figures of the fit.
        surrogate, surrogate_sha256: the network and its weights at the end of the fit.
        clusters: centres and known pictures, where patterns belong to clusters.
        given_away: set by a method that no longer needs the perturbations it returns. Those in half precision then
            become the levels of the bank in their own memory, which saves two bytes a value.
    """

    def __init__(self, progress: ProgressCallback | None, checkpoint: Checkpoint) -> None:
        self._progress = progress
        self.checkpoint = checkpoint
        self.report: dict[str, Any] = {}
        self.surrogate, self.surrogate_sha256 = "", ""
        self.clusters: ClusterIndex | None = None
        self.given_away = False

    def tell(self, stage: str, fraction: float, message: str = "", **metrics: float) -> None:
        """Report progress; never fails without a listener."""
        if self._progress is not None:
            self._progress(FitProgress(stage, min(1.0, max(0.0, fraction)), message, metrics))

    def computed_in(self, network: str, precision: ChosenPrecision) -> None:
        """Note in the report what a network was computed in, and why."""
        self.report.setdefault("precision", {})[network] = precision.to_json()

    def part(self, low: float, high: float) -> FitContext:
        """A context for a fit inside this one: it reports into this stretch of the progress and shares the rest."""

        def inside(step: FitProgress) -> None:
            self.tell(step.stage, low + (high - low) * step.fraction, step.message, **step.metrics)

        part = copy.copy(self)
        part._progress = inside
        return part


class Method(ABC, Generic[_B, _R]):
    """A way to make data unlearnable. Hyper-parameters are keyword-only; data comes with :meth:`fit`.

    Args:
        budget: default 8/255, with textures 12/255, unless a preset says otherwise.
        granularity: one of those that the method offers, by default the first.
        surrogate: registry name; by default the method's own.
        seed: of everything random, in 0..2**31-1.
        device: where to compute: ``auto``, ``cpu``, ``cuda``, ...
        weights: a file of weights of the surrogate.
        allow_download: let networks fetch their weights.
        hyper_parameters: fields of :attr:`recipe_class`; ``None`` leaves one to the preset, or to us.

    Raises:
        ConfigError: a value out of range.
        UnknownNameError: no such hyper-parameter, or no such word.
        SetupError: no such device.

    Class attributes:
        name: registry name.
        needs: ``labels``, ``captions`` (or labels, whose names then serve), or ``nothing``; an object may need less
            than its class says, with another granularity.
        granularities: those it offers, the default first.
        without_labels: that which it takes on a folder without classes by itself; ``None``: the default.
        recipe_class: the model whose fields are the hyper-parameters.
        default_for: the folders for which ``auto`` stands for it, or ``None``.
        instant: whether nothing is optimised, so that a fit takes no time to speak of.
        protects: False for a placebo.
        keyed: whether its noise is drawn from a key. It then takes the hyper-parameters ``key_file`` and ``secret``,
            and has a ``key`` (:func:`~bitterant.records.secrets.key_of_run`).
    """

    name: ClassVar[str]
    needs: Literal["labels", "captions", "nothing"]
    granularities: ClassVar[tuple[Granularity, ...]]
    without_labels: ClassVar[Granularity | None] = None
    default_for: ClassVar[DefaultFor | None] = None
    instant: ClassVar[bool] = False
    protects: ClassVar[bool] = True
    keyed: ClassVar[bool] = False

    recipe_class: ClassVar[type[MethodRecipe]] = MethodRecipe

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        shown = list(signature(cls.__init__).parameters.values())[1:]
        if cls.__init__ is Method.__init__:  # not somebody's own: it takes what the recipe has
            fields = cls.recipe_class.hyper_parameters().items()
            own = [
                Parameter(name, Parameter.KEYWORD_ONLY, default=None if field.default_factory else field.default)
                for name, field in fields
            ]
            shown = [*shown[:-1], *own]
        cls.__signature__ = Signature(shown)  # type: ignore[attr-defined]

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        granularity: Granularity | None = None,
        surrogate: str | None = None,
        seed: int = 0,
        device: str | torch.device = "auto",
        weights: Path | None = None,
        allow_download: bool = False,
        **hyper_parameters: Any,
    ) -> None:
        chosen = granularity or self.granularities[0]
        if chosen not in self.granularities:
            raise ConfigError(f"{self.name} works per {' or per '.join(self.granularities)}, not per {chosen}.")
        shared = {"budget": budget, "granularity": chosen, "surrogate": surrogate, "seed": seed}
        where = {"device": resolve_device(device), "weights": WeightsPolicy.of(weights, allow_download)}
        self.recipe = cast("_R", self.recipe_class.made({"method": self.name, **shared, **where, **hyper_parameters}))
        self._set_up()

    @property
    def budget(self) -> Budget:
        """How far a pixel may move."""
        return self.recipe.budget

    @property
    def granularity(self) -> Granularity:
        """Whose patterns there are."""
        return self.recipe.granularity

    @property
    def surrogate(self) -> str | None:
        """Registry name of the model that noise is made on, or ``None``."""
        return self.recipe.surrogate or None

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.recipe.seed

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.recipe.device

    @property
    def weights(self) -> WeightsPolicy:
        """Where the weights of the surrogate come from."""
        return self.recipe.weights

    @property
    def key(self) -> RunKey | None:
        """What its noise is drawn from, where it is :attr:`keyed`."""
        return None

    @property
    def networks(self) -> tuple[str, ...]:
        """Registry names of all networks it uses; the weights given are those of the first."""
        return () if self.surrogate is None else (self.surrogate,)

    @property
    def on_several_processes(self) -> bool:
        """Whether other processes can take part in a fit, see :mod:`.ranks`."""
        return False

    @property
    def least_images(self) -> int:
        """Pictures that the method needs at least."""
        return 1

    @property
    def least_images_a_class(self) -> int:
        """Pictures of every class that the method needs at least, where it needs labels."""
        return 1

    @property
    def needs_pixels(self) -> bool:
        """Whether a fit looks at all pictures. Where it does not, a run over a folder reads at most a sample before it
        writes, and asks :meth:`fit_classes` instead of :meth:`fit`."""
        return True

    def feature_extractor(self, resolution: int) -> FeatureExtractor | None:
        """What looks at each picture while it is read, where the method wants more detail than the working
        resolution keeps.

        Args:
            resolution: the working resolution, in px.

        Raises:
            SetupError: its weights are not on this machine.
            WeightsError: they do not fit.
        """
        return None

    # ------------------------------------------------------------------ for users
    @final
    def fit(
        self,
        dataset: ImageSet,
        *,
        progress: ProgressCallback | None = None,
        checkpoint: Path | str | None = None,
    ) -> _B:
        """Craft the perturbations of a data set.

        Args:
            dataset: images uint8 ``[N, 3, R, R]``, with labels where the method needs them. Their order does not
                matter: work is done in the order of the keys.
            progress: called often, with what is going on.
            checkpoint: a file in which state is kept while fitting; a fit that was killed goes on from it and ends
                with the same bank. It is removed at the end by the caller.

        Returns:
            A bank with one perturbation a class that has images, or one a distinct key; or one of textures.

        Raises:
            LabelError: labels are needed and absent, or fewer than two classes have images.
            ConfigError: no images, or different ones with one key.
            OutputError: there is a file at ``checkpoint`` that is none.
            FitError: the perturbations are not finite numbers.
        """
        self._check(dataset)
        self.check_processes()
        ordered = _in_key_order(dataset)
        kept = None if checkpoint is None else Path(checkpoint)
        context = FitContext(progress, Checkpoint(kept, self._identity(ordered)))
        context.checkpoint.check()  # before any work: what is there may not be ours
        made = self._fit(ordered, context)
        if isinstance(made, TextureBank):  # there is nothing to project: each texture is as strong as its budget says
            if made.budget != self.budget:
                raise RuntimeError(f"{self.name} returned textures of {made.budget} where {self.budget} was due.")
            return cast("_B", made)
        return cast("_B", self._as_bank(made, ordered, context))

    def sample_a_class(self, classes: int) -> int:
        """How many pictures of each of so many classes a run over a folder shows to :meth:`fit_classes`."""
        return 0

    def fit_classes(
        self, classes: Sequence[str], *, sample: ImageSet | None = None, progress: ProgressCallback | None = None
    ) -> _B:
        """Fit from the names of the classes, and some pictures where there are any; only methods that need no more can.

        Args:
            classes: their names.
            sample: pictures of every class, or ``None``.
            progress: called with what is going on.

        Raises:
            ConfigError: the method is none of them.
        """
        raise ConfigError(f"{self.name} is fitted to pictures, not to names of classes.")

    def _as_bank(self, delta: Tensor, ordered: ImageSet, context: FitContext) -> Bank:
        rows = self._rows(ordered, context)
        expected = (len(rows), 3, ordered.resolution, ordered.resolution)
        if tuple(delta.shape) != expected:
            raise RuntimeError(f"{self.name} returned {tuple(delta.shape)} where {expected} was due.")
        levels, keys = self._quantised(delta.detach(), in_place=context.given_away), tuple(rows)
        del delta
        if self.granularity == "class":
            # A class without images was fitted to nothing: the bank must not claim to protect pictures of it.
            assert ordered.labels is not None
            kept: list[int] = torch.bincount(ordered.labels, minlength=len(rows)).nonzero().flatten().tolist()
            if len(kept) < len(rows):
                levels, keys = levels[kept], tuple(rows[row] for row in kept)
        return Bank(
            method=self.name,
            granularity=self.granularity,
            budget=self.budget,
            levels=levels,
            keys=keys,
            surrogate=self.surrogate or context.surrogate,
            surrogate_sha256=context.surrogate_sha256,
            seed=self.seed,
            report=context.report,
            clusters=context.clusters,
        )

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        return self.recipe.settings()

    def _rows(self, dataset: ImageSet, context: FitContext) -> Sequence[str]:
        """The bank's keys, one a row."""
        if self.granularity == "cluster":
            count = 0 if context.clusters is None else len(context.clusters.centres)
            return [f"cluster-{number}" for number in range(count)]
        return dataset.classes if self.granularity == "class" else dataset.keys

    def estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        """The cost of fitting ``total`` images like those of ``dataset``, measured on a first batch."""
        self._check(dataset)
        return self._estimate(_in_key_order(dataset), total)

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.settings().items() if k not in ("method", "norm", "device", "weights")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    # ------------------------------------------------------------------ for authors of methods
    def _set_up(self) -> None:
        """What is made of the recipe once, when it is known."""

    @abstractmethod
    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor | TextureBank:
        """Float ``[M, 3, R, R]`` in units of the full range: a row a class, or a row an image of ``dataset``. Or a bank
        of textures within the budget."""

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return FitEstimate(seconds=0.0, peak_bytes=0)

    # ------------------------------------------------------------------ inside
    def _quantised(self, delta: Tensor, *, in_place: bool = False) -> Tensor:
        """Projected and put on the 8-bit grid, int16 on the CPU; in blocks of rows, so that no second float copy of
        everything is made. ``in_place``: in the memory of ``delta`` where that has room for them."""
        if in_place and delta.dtype == torch.float16 and delta.device.type == "cpu" and delta.is_contiguous():
            levels = delta.view(torch.int16)  # as large: each block is read before it is written
        else:
            levels = torch.empty(delta.shape, dtype=torch.int16)
        step = max(1, _BLOCK // max(1, delta[:1].numel()))
        for rows in (slice(start, start + step) for start in range(0, len(delta), step)):
            part = delta[rows].float().cpu()
            if not bool(part.isfinite().all()):
                raise FitError(
                    f"The fit of {self.name} broke down: it gave numbers that are not finite, and a perturbation made "
                    "of them would protect nothing. Nothing was saved. Try another --seed, or --device cpu; if it "
                    "happens again, please report it as a bug."
                )
            levels[rows] = self.budget.quantise(self.budget.project(part))
        return levels

    @final
    def check_processes(self) -> None:
        """Make sure that as many processes as there are can take part in a fit.

        Raises:
            ConfigError: it works in one process, and there are more; or a GPU was named that only one of them can have.
        """
        count = ranks().size
        if count == 1:
            return
        if not self.on_several_processes:
            raise ConfigError(
                f"{self.name}, as it is set up here, is crafted by one process, and {count} were started. Start it "
                "without torchrun or srun, or choose --method emn."
            )
        if self.device.index:
            raise ConfigError(
                f"{count} processes were started, and each takes the GPU of its own number. Leave out "
                f"--device {self.device}, or say --device cuda."
            )

    def _check(self, dataset: ImageSet) -> None:
        if not isinstance(dataset, ImageSet):
            raise ConfigError(
                f"A method is fitted to an ImageSet, not to {type(dataset).__name__}: make one with "
                "ImageSet.from_tensors(images, labels), from_dataset or from_folder."
            )
        if len(dataset) == 0:
            raise ConfigError("There are no images to fit on.")
        if self.needs == "labels":
            if dataset.labels is None:
                raise LabelError(f"{self.name} needs labels: put the pictures in one folder per class.")
            present = int((torch.bincount(dataset.labels, minlength=1) > 0).sum())
            if present < 2:
                raise LabelError(
                    f"{self.name} needs at least two classes, and the images are all of one: there is nothing for a "
                    "shortcut to tell apart. Add a folder of other pictures as a second class."
                )
        if self.needs == "captions" and dataset.captions is None and dataset.labels is None:
            raise LabelError(f"{self.name} needs captions, or folders whose names say what the pictures show.")
        if self.granularity == "class" and dataset.labels is None:
            raise LabelError(f"{self.name} per class needs labels; give them, or work per sample.")

    def _identity(self, dataset: ImageSet) -> str:
        looked = None if dataset.features is None else (dataset.features.side, dataset.features.fingerprint)
        parts = json.dumps(
            [
                __version__, self.settings(), dataset.classes, dataset.keys, dataset.native_size, looked,
                dataset.captions,
            ],
            sort_keys=True,
        )  # fmt: skip
        digest = hashlib.sha256(parts.encode())
        digest.update(dataset.images.cpu().contiguous().view(-1).numpy().data)
        return digest.hexdigest()


def _in_key_order(dataset: ImageSet) -> ImageSet:
    """One image a key, sorted by key: the order of files, and their copies, cannot change the result.

    Raises:
        ConfigError: different images have one key.
    """
    if all(before < after for before, after in pairwise(dataset.keys)):
        return dataset  # as it is: a copy would take as much memory as the set
    first: dict[str, int] = {}
    for position, key in enumerate(dataset.keys):
        known = first.setdefault(key, position)
        if known != position and not torch.equal(dataset.images[known], dataset.images[position]):
            raise ConfigError(
                f"Two different images have the key {key!r}, and only one of them would be looked at: a perturbation "
                "belongs to a key. Give each image a key of its own, or none: they are then made of the content."
            )
    return dataset.select([first[key] for key in sorted(first)])
