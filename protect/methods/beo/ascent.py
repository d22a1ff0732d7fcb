"""One sweep over all images: the gradient of the summed Bayes error, and a projected step along it.

Gradients are taken at the clamped image itself, not through the clamp, whose gradient vanishes at black and white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ....imaging import Budget
from ....surrogates import FrozenSurrogate
from ..emn.sweep import Shift
from .ball import into_ball
from .copies import Copies
from .posterior import Kind, Scale, Scaling, all_pairs, bayes_errors, kernel_posterior
from .references import BATCH, EXACT_LIMIT, References, balanced, check_finite

__all__ = ["Ascent", "Part", "Stepper"]

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
        bounded = self._budget.project(moved, copies.plain(rows) if copies.trip is None else None)
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

    def sweep(self) -> Iterator[tuple[int, Tensor]]:
        """One step of every image. Yields after each batch how many images have moved, and their errors before."""
        self._stepper.count += 1
        moved = 0
        for rows, gradient, errors in self._from_bank() if self._banks else self._from_all():
            trip, gradient = self._copies.trip, self._copies.written(rows, gradient)
            self._stepper(rows, gradient if trip is None else trip.adjoint(gradient))
            moved += len(rows)
            yield moved, errors

    def _from_bank(self) -> Iterator[Part]:
        copies, shift = self._copies, self._shift(self._seed())
        for rows in self._order(copies.own):
            leaf = copies.seen(rows).requires_grad_(True)
            shifted = shift(leaf)
            errors = []
            for member, bank in zip(self._members, self._banks, strict=True):
                posterior = kernel_posterior(
                    bank.scaling(member(shifted)), bank.features, bank.labels, self._classes, sigma=self._sigma,
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
        parts = self._order(len(copies.points))
        order = torch.cat(parts)
        features = self._features(parts, seed)
        check_finite(*features)
        errors, gradients = [], []
        for own in features:
            own_errors, gradient = all_pairs(
                own, copies.labels[order], self._classes, sigma=self._sigma, kind=self._kind,
                scaling=Scaling.of(self._scale, own),
            )  # fmt: skip
            errors.append(own_errors)
            gradients.append(gradient.split(BATCH))
        mean_errors, shift = torch.stack(errors).mean(0).split(BATCH), self._shift(seed)
        for number, rows in enumerate(parts):
            leaf = copies.seen(rows).requires_grad_(True)
            shifted = shift(leaf)
            outputs = [member(shifted) for member in self._members]
            weights = [gradient[number] / len(self._members) for gradient in gradients]
            (gradient,) = torch.autograd.grad(outputs, leaf, weights)
            mine = rows < copies.own  # known clean images stay as they are
            yield rows[mine], gradient[mine], mean_errors[number][mine]

    @torch.no_grad()
    def _features(self, parts: Sequence[Tensor], seed: int) -> list[Tensor]:
        shift, found = self._shift(seed), [[] for _ in self._members]
        for rows in parts:
            shifted = shift(self._copies.seen(rows))
            for features, member in zip(found, self._members, strict=True):
                features.append(member(shifted))
        return [torch.cat(features) for features in found]

    def _order(self, count: int) -> list[Tensor]:
        order = torch.randperm(count, generator=self._generator)
        return list(order.to(self._copies.delta.device).split(BATCH))

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self._generator))

    def _shift(self, seed: int) -> Callable[[Tensor], Tensor]:
        if not self._padding:
            return lambda images: images
        return Shift(self._padding, torch.Generator().manual_seed(seed))
