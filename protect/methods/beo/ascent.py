"""The ascent: copies of the images, references for the posterior, and sweeps of projected steps.

A sweep moves every perturbation once, up the gradient of the summed Bayes error of its image against the references
(:class:`References`: all images, or a bank of a fixed size with the same class shares), and projects it on the budget
and, where wanted, on an L2 ball. Gradients are taken at the clamped image itself, not through the clamp, whose gradient
vanishes at black and white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....errors import FitError
from ....imaging import Budget, ImageSet
from ....imaging.image_set import Writable
from ....surrogates import FrozenSurrogate, transfer
from ..pgd import RandomCropFlip
from ..written import ResizeOperator
from .posterior import Kind, Scale, Scaling, all_pairs, bayes_errors, kernel_posterior

_EACH = (1, 2, 3)


def into_ball(delta: Tensor, rms: float | None) -> Tensor:
    """The nearest perturbations whose root mean square is at most ``rms``: an L2 ball of radius ``rms * sqrt(3 R^2)``.

    Args:
        delta: float ``[B, 3, R, R]`` in units of the full range.
        rms: in the same units; ``None`` for no such bound.
    """
    if rms is None:
        return delta
    size = delta.square().mean(_EACH, keepdim=True).sqrt()
    return delta * (rms / size.clamp(min=1e-20)).clamp(max=1.0)


def round_into_ball(delta: Tensor, budget: Budget, rms: float | None) -> Tensor:
    """Whole levels inside the budget and the ball: what rounding lifts out of the ball is shrunk before it is rounded.

    Args:
        delta: float ``[B, 3, R, R]`` in units of the full range.
        budget: the bound of every entry.
        rms: see :func:`into_ball`.

    Returns:
        int16 of the same shape.
    """
    levels = budget.quantise(delta)
    if rms is None:
        return levels
    scale = torch.ones(len(delta), 1, 1, 1, device=delta.device)
    while (outside := levels.float().square().mean(_EACH) > (rms * 255) ** 2).any():
        scale[outside] *= 0.98
        levels = budget.quantise(delta * scale)
    return levels


@dataclass(frozen=True)
class Copies:
    """Our images first, then known clean ones of other sources, which nothing is done to.

    Attributes:
        points: all of them, with labels, on the device of computation.
        own: how many are ours.
        delta: half or single precision ``[own, 3, R, R]`` in units of the full range; changed in place.
        resize: what the files do to a perturbation on its way to a trainer.
    """

    points: ImageSet
    own: int
    delta: Tensor
    resize: ResizeOperator | None

    @classmethod
    def start(
        cls, points: ImageSet, own: int, resize: ResizeOperator | None, *, kind: torch.dtype = torch.float16
    ) -> Copies:
        """Copies without any perturbation yet."""
        shape = (own, *points.images.shape[1:])
        return cls(points, own, torch.zeros(shape, dtype=kind, device=points.images.device), resize)

    @property
    def labels(self) -> Tensor:
        """int64 ``[N]`` of all points."""
        assert self.points.labels is not None
        return self.points.labels

    def plain(self, index: Tensor) -> Tensor:
        """Float images ``[B, 3, R, R]`` in [0, 1] at these positions, without perturbation."""
        return self.points.images[index].float().mul_(1 / 255)

    def delta_of(self, index: Tensor) -> Tensor:
        """Perturbations float ``[B, 3, R, R]`` at these positions as a trainer sees them; zero for those not ours."""
        if len(self.points) == self.own:
            delta = self.delta[index].float()
        else:
            mine = (index < self.own).view(-1, 1, 1, 1)
            delta = self.delta[index.clamp(max=self.own - 1)].float() * mine
        return self.written(index, delta if self.resize is None else self.resize(delta))

    def written(self, index: Tensor, delta: Tensor) -> Tensor:
        """What the files at these positions hold of perturbations, or of a gradient with respect to them."""
        return delta if self.points.writable is None else self.points.writable.select(index)(delta)

    def seen(self, index: Tensor) -> Tensor:
        """Perturbed float images ``[B, 3, R, R]`` in [0, 1]."""
        return self.plain(index).add_(self.delta_of(index)).clamp_(0.0, 1.0)


def join(ours: ImageSet, clean: ImageSet | None) -> ImageSet:
    """Our images, then those of ``clean`` that are not among them, sorted by key. Class names must be known."""
    if clean is None or clean.labels is None:
        return ours
    first: dict[str, int] = {}
    known = set(ours.keys)
    for position, key in enumerate(clean.keys):
        if key not in known:  # the same image in both forms would be its own neighbour
            first.setdefault(key, position)
    keys = sorted(first)
    rest = clean.select([first[key] for key in keys]).to(ours.images.device)
    place = torch.tensor([ours.classes.index(name) for name in clean.classes], device=ours.images.device)
    assert ours.labels is not None
    assert rest.labels is not None
    return replace(
        ours,
        images=torch.cat([ours.images, rest.images]),
        labels=torch.cat([ours.labels, place[rest.labels]]),
        keys=(*ours.keys, *keys),
        writable=_writable(ours, rest),
        origins=None,
    )


def _writable(*sets: ImageSet) -> Writable | None:
    """Of sets one after the other."""
    if all(found.writable is None for found in sets):
        return None
    device = sets[0].images.device
    masked = any(found.writable is not None and found.writable.opaque is not None for found in sets)
    greys, masks = [], []
    for found in sets:
        count, own = len(found), found.writable
        greys.append(torch.zeros(count, dtype=torch.bool, device=device) if own is None else own.grey)
        opaque = None if own is None else own.opaque
        whole = (count, *found.images.shape[2:])
        masks.append(torch.full(whole, 255, dtype=torch.uint8, device=device) if opaque is None else opaque)
    return Writable(torch.cat(greys), torch.cat(masks) if masked else None)


EXACT_LIMIT = 4000
"""Up to so many images, every one is compared with every other, and both get gradient."""

BANK_SIZE = 4096
"""Beyond, references are at most so many (or two a class): cost is linear in the images, memory does not grow."""

BATCH = 128
"""Images a pass through the surrogate: larger ones are slower on a CPU."""


@dataclass(frozen=True)
class References:
    """Features of reference images under one network, scaled, without a graph.

    Attributes:
        index: positions int64 ``[M]`` in the points; they are the identities by which a query leaves itself out.
        features: scaled float ``[M, D]``.
        labels: int64 ``[M]``.
        log_weights: ``[M]``, see :func:`balanced`; ``None`` where all images are references.
        scaling: what brought the features to size, and brings queries to the same.
    """

    index: Tensor
    features: Tensor
    labels: Tensor
    log_weights: Tensor | None
    scaling: Scaling

    @classmethod
    def read(
        cls, frozen: FrozenSurrogate, copies: Copies, index: Tensor, log_weights: Tensor | None, scale: Scale
    ) -> References:
        """Those at ``index``, as their copies look now.

        Raises:
            FitError: features are not numbers.
        """
        features = _features(frozen, copies, index)
        scaling = Scaling.of(scale, features)
        return cls(index, scaling(features), copies.labels[index], log_weights, scaling)

    def uncertainty(self, num_classes: int, sigma: float) -> float:
        """Mean leave-one-out error of the references themselves, of kind ``true``, in [0, 1].

        It is read where the surrogate was trained, so it says how well that one fits, and nothing about protection. Not
        of kind ``max``: features that ignore the labels spread out until each image has one near neighbour, whose
        label is then certain, and wrong.
        """
        errors, _ = all_pairs(
            self.features, self.labels, num_classes, sigma=sigma, kind="true", log_weights=self.log_weights,
            gradient=False,
        )  # fmt: skip
        if self.log_weights is None:
            return float(errors.mean())
        return float((errors * self.log_weights.softmax(0)).sum())


def balanced(
    labels: Tensor, num_classes: int, generator: torch.Generator, *, size: int = BANK_SIZE
) -> tuple[Tensor, Tensor | None]:
    """Draw references: all images up to :data:`EXACT_LIMIT`, otherwise equally many of each class.

    Equal numbers would change the class priors, on which the posterior depends. Each reference therefore counts for
    the images of its class that it stands for.

    Args:
        labels: int64 ``[N]``.
        num_classes: K.
        generator: source of the draw.
        size: at most so many, but two of every class.

    Returns:
        Positions int64 ``[M]`` in rising order, and their log weights ``[M]``, ``None`` where all images are taken.
    """
    if len(labels) <= EXACT_LIMIT:
        return torch.arange(len(labels), device=labels.device), None
    found = labels.cpu()
    counts = torch.bincount(found, minlength=num_classes)
    share = _fair_share(counts, size)
    chosen, weights = [], []
    for label in counts.nonzero().flatten().tolist():
        own = (found == label).nonzero().flatten()
        taken = own[torch.randperm(len(own), generator=generator)[:share]]
        chosen.append(taken)
        weights.append(torch.full((len(taken),), len(own) / len(taken)).log())
    index, order = torch.cat(chosen).sort()
    return index.to(labels.device), torch.cat(weights)[order].to(labels.device)


def _fair_share(counts: Tensor, size: int) -> int:
    """The largest number a class such that all classes together, each giving what it has, give at most ``size``."""
    low, high = 2, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(counts.clamp(max=middle).sum()) <= size else (low, middle - 1)
    return low


@torch.no_grad()
def _features(frozen: FrozenSurrogate, copies: Copies, index: Tensor) -> Tensor:
    """Features float ``[M, D]`` of the perturbed images at ``index``.

    Raises:
        FitError: features are not numbers.
    """
    features = torch.cat([frozen(copies.seen(part)) for part in index.split(BATCH)])
    check_finite(features)
    return features


def check_finite(*values: Tensor) -> None:
    """Make sure that what a surrogate gives are numbers.

    Raises:
        FitError: some are not.
    """
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise FitError(
            "The surrogate gives features that are not numbers: its training diverged, or its weights are damaged. "
            "Nothing was saved. Use another surrogate (--surrogate small-cnn or resnet18), other weights, or another "
            "--seed."
        )


def worst_uncertainty(
    members: Sequence[FrozenSurrogate],
    copies: Copies,
    num_classes: int,
    generator: torch.Generator,
    *,
    sigma: float,
    scale: Scale,
) -> float:
    """How badly the worst of the networks tells the classes of the copies apart; see :meth:`References.uncertainty`.

    Raises:
        FitError: features are not numbers.
    """
    index, log_weights = balanced(copies.labels, num_classes, generator)
    return max(
        References.read(member, copies, index, log_weights, scale).uncertainty(num_classes, sigma) for member in members
    )


Part = tuple[Tensor, Tensor, Tensor]
"""Positions int64 [B] of some of our images, the gradient [B, 3, R, R] with respect to what a trainer sees of them,
and their errors [B]."""

_BETAS, _TINY = (0.9, 0.999), 1e-8


class Stepper:
    """Moves perturbations up a gradient and projects them on the budget, in place.

    Args:
        copies: whose ``delta`` is moved.
        budget: the bound. Where files carry the perturbation as it is, the image also stays in [0, 1].
        size: length of a step in units of the full range: of the sign, or Adam's learning rate.
        adam: Adam instead of the sign.
        decay: of Adam, decoupled, and of the values of the perturbed images, as in the public code: each step takes
            ``size * decay`` of them away (a four-hundredth of a level from white).
        rms: a second bound, on each perturbation's root mean square; see :func:`into_ball`.
    """

    def __init__(
        self,
        copies: Copies,
        budget: Budget,
        *,
        size: float,
        adam: bool,
        decay: float = 0.0,
        rms: float | None = None,
    ) -> None:
        self._copies, self._budget, self._size, self._decay, self._rms = copies, budget, size, decay, rms
        self.count = 0
        self.moments: dict[str, Tensor] = {}
        if adam:
            zero = torch.zeros(copies.delta.shape, dtype=torch.float32, device=copies.delta.device)
            self.moments = {"first": zero, "second": zero.clone()}

    def __call__(self, rows: Tensor, gradient: Tensor) -> None:
        """Step at the positions ``rows [B]``, each once a sweep, along ``gradient [B, 3, R, R]``."""
        copies = self._copies
        moved = copies.delta[rows].float()
        if self._decay:
            moved.sub_(copies.plain(rows).add_(moved), alpha=self._size * self._decay)
        moved.add_(self._direction(rows, gradient), alpha=self._size)
        bounded = self._budget.project(moved, copies.plain(rows) if copies.resize is None else None)
        if copies.points.writable is not None:
            bounded = copies.points.writable.select(rows).grey_in_greys(bounded)
        # The cube and the ball share their centre: what is shrunk into the ball stays in the cube.
        copies.delta[rows] = into_ball(bounded, self._rms).to(copies.delta.dtype)

    def _direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        if not self.moments:
            return gradient.sign()
        first = self.moments["first"][rows].lerp_(gradient, 1 - _BETAS[0])
        second = self.moments["second"][rows].lerp_(gradient.square(), 1 - _BETAS[1])
        self.moments["first"][rows], self.moments["second"][rows] = first, second
        mean, spread = first / (1 - _BETAS[0] ** self.count), second / (1 - _BETAS[1] ** self.count)
        return mean / spread.sqrt_().add_(_TINY)


class Ascent:
    """Sweeps with surrogates that stay as they are.

    Up to ``most`` images, all are compared with all and get gradient on both sides, in blocks of rows. Beyond, the
    errors of each batch are read from a bank of references that was drawn once for the whole round, without gradient.

    Args:
        copies: images and perturbations.
        members: the frozen networks, giving features; their summed errors are averaged.
        stepper: what moves the perturbations.
        sigma, kind, scale: of the estimator.
        padding: of the random crops, in px; 0 for neither crops nor flips.
        most: images that are compared all with all; ``None`` for any number.
        generator: source of the bank, the order and the crops.
    """

    def __init__(
        self,
        copies: Copies,
        members: Sequence[FrozenSurrogate],
        stepper: Stepper,
        *,
        sigma: float,
        kind: Kind,
        scale: Scale,
        padding: int,
        most: int | None = EXACT_LIMIT,
        generator: torch.Generator,
    ) -> None:
        self._copies, self._members, self._stepper = copies, members, stepper
        self._sigma = sigma
        self._kind: Kind = kind
        self._scale: Scale = scale
        self._padding, self._generator = padding, generator
        self._classes = len(copies.points.classes)
        self._banks: list[References] = []
        if most is not None and len(copies.points) > most:
            index, weights = balanced(copies.labels, self._classes, generator)
            self._banks = [References.read(member, copies, index, weights, scale) for member in members]

    def step(self) -> Iterator[tuple[int, Tensor]]:
        """One step of every image. Yields after each batch how many images have moved, and their errors before."""
        self._stepper.count += 1
        moved = 0
        for rows, gradient, errors in self._from_bank() if self._banks else self._from_all():
            resize, gradient = self._copies.resize, self._copies.written(rows, gradient)
            self._stepper(rows, gradient if resize is None else resize.adjoint(gradient))
            moved += len(rows)
            yield moved, errors

    def _from_bank(self) -> Iterator[Part]:
        copies, crop = self._copies, self._crop(self._seed())
        for rows in self._order(copies.own):
            leaf = copies.seen(rows).requires_grad_(True)
            cropped = crop(leaf)
            errors = []
            for member, bank in zip(self._members, self._banks, strict=True):
                posterior = kernel_posterior(
                    bank.scaling(member(cropped)), bank.features, bank.labels, self._classes, sigma=self._sigma,
                    query_ids=rows, reference_ids=bank.index, log_weights=bank.log_weights,
                )  # fmt: skip
                errors.append(bayes_errors(posterior, self._kind, copies.labels[rows]))
            mean = torch.stack(errors).mean(0)
            (gradient,) = torch.autograd.grad(mean.sum(), leaf)
            yield rows, gradient, mean.detach()

    def _from_all(self) -> Iterator[Part]:
        """Two passes: features of everything and the gradient on them, then that gradient through the network. The
        crops of the second pass are those of the first."""
        copies, seed = self._copies, self._seed()
        drawn = torch.randperm(len(copies.points), generator=self._generator)
        order = transfer(drawn, copies.delta.device)
        parts = order.split(BATCH)
        features = self._features(parts, seed)
        if order.device.type == "cpu":  # else the errors tell, at the end of the round
            check_finite(*features)
        errors, gradients = [], []
        for own in features:
            own_errors, gradient = all_pairs(
                own, copies.labels[order], self._classes, sigma=self._sigma, kind=self._kind,
                scaling=Scaling.of(self._scale, own),
            )  # fmt: skip
            errors.append(own_errors)
            gradients.append(gradient.split(BATCH))
        mean_errors, crop = torch.stack(errors).mean(0).split(BATCH), self._crop(seed)
        for number, rows in enumerate(parts):
            leaf = copies.seen(rows).requires_grad_(True)
            cropped = crop(leaf)
            outputs = [member(cropped) for member in self._members]
            weights = [gradient[number] / len(self._members) for gradient in gradients]
            (gradient,) = torch.autograd.grad(outputs, leaf, weights)
            known = drawn[number * BATCH : (number + 1) * BATCH]
            mine = transfer((known < copies.own).nonzero().flatten(), rows.device)  # clean images stay as they are
            yield rows[mine], gradient[mine], mean_errors[number][mine]

    @torch.no_grad()
    def _features(self, parts: Sequence[Tensor], seed: int) -> list[Tensor]:
        crop, found = self._crop(seed), [[] for _ in self._members]
        for rows in parts:
            cropped = crop(self._copies.seen(rows))
            for features, member in zip(found, self._members, strict=True):
                features.append(member(cropped))
        return [torch.cat(features) for features in found]

    def _order(self, count: int) -> Sequence[Tensor]:
        order = torch.randperm(count, generator=self._generator)
        return transfer(order, self._copies.delta.device).split(BATCH)

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self._generator))

    def _crop(self, seed: int) -> Callable[[Tensor], Tensor]:
        if not self._padding:
            return lambda images: images
        return RandomCropFlip(self._padding, torch.Generator().manual_seed(seed))
