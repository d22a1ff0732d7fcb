"""One plain training loop for everything that is trained from scratch: victims, self-checks, surrogates.

Data is one uint8 tensor in memory, augmentation is a gather on the batch, there is no loader. The recipe is the same
for every arm of a comparison; only the images differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arithmetic import Precision, choose_precision, fused, now, own_randomness, transfer

Crops = tuple[Tensor, Tensor, Tensor]
"""Row offsets int64 [B], column offsets int64 [B], flips bool [B]."""


def pad_images(images: Tensor, padding: int) -> Tensor:
    """Reflect-pad ``[N, 3, R, R]`` of any dtype by ``padding`` pixels on each side.

    Zero padding, the habit at 32 px, draws a frame that no photo has; reflection keeps the statistics of the image.
    """
    if padding == 0:
        return images
    if not images.is_floating_point():  # reflection is a copy: do it by indexing, which needs no float detour
        side = images.shape[-1]
        index = torch.arange(-padding, side + padding).abs()
        index = transfer(torch.where(index >= side, 2 * (side - 1) - index, index), images.device)
        return images[:, :, index][:, :, :, index]
    return F.pad(images, (padding, padding, padding, padding), mode="reflect")


def draw_crops(count: int, padding: int, flip: bool, generator: torch.Generator) -> Crops:
    """Random crop offsets in ``0..2*padding`` and flips for ``count`` images."""
    rows = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    cols = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return rows, cols, flips


def crop_flip(padded: Tensor, index: Tensor, crops: Crops, side: int) -> Tensor:
    """The crops ``[B, 3, side, side]`` of ``padded[index]``; one gather, any dtype, differentiable in ``padded``."""
    rows, cols, flips = (transfer(part, padded.device) for part in crops)
    span = torch.arange(side, device=padded.device)
    row_index = rows[:, None] + span
    col_span = torch.where(flips[:, None], span.flip(0), span)
    col_index = cols[:, None] + col_span
    channel = torch.arange(padded.shape[1], device=padded.device)
    return padded[index[:, None, None, None], channel[None, :, None, None], row_index[:, None, :, None],
                  col_index[:, None, None, :]]  # fmt: skip


def take_batch(padded: Tensor, index: Tensor, crops: Crops, side: int) -> Tensor:
    """A float batch in [0, 1], channels last, cropped and flipped from padded uint8 images."""
    batch = crop_flip(padded, index, crops, side)
    return batch.contiguous(memory_format=torch.channels_last).float().mul_(1.0 / 255.0)


Objective = Callable[[nn.Module, Tensor, Tensor, torch.Generator, float], tuple[Tensor, Tensor]]
"""What a step minimises: ``(model, batch, labels, generator, progress) -> (loss, logits)``.

``batch`` is float ``[B, 3, R, R]`` in [0, 1], cropped and flipped; ``labels`` int64 ``[B]``; ``loss`` a scalar;
``logits`` ``[B, K]`` only count the training accuracy of the curve. The generator lives on the CPU and is its only
randomness: what is drawn for a batch on a GPU is drawn there, by :func:`generator_on`, and nothing of a step is asked
of the device. ``progress`` is the share of the steps done, in [0, 1).
"""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained from scratch.

    The learning rate rises linearly over ``warmup`` of the steps and falls along a half cosine to zero, or, with
    ``halvings``, stays and is halved that often.

    Attributes:
        steps: optimiser steps.
        batch_size: images a step.
        lr: peak learning rate.
        optimiser: ``sgd`` (Nesterov momentum) or ``adamw``.
        momentum: of SGD.
        weight_decay: on all parameters.
        warmup: share of the steps in which the learning rate rises.
        precision: of the arithmetic; the weights stay in float32. See :func:`choose_precision`.
        halvings: instead of the cosine, multiply the learning rate by a half after each of ``halvings + 1`` equal parts
            of the training (APBench: once, after 100 of 200 epochs).
        crop_padding: reflect padding of the random crop in px at 32 px; scales with the resolution.
        flip: mirror left and right at random.
        clip_norm: largest global gradient norm (5.0); infinite for no limit.
    """

    steps: int = 400
    batch_size: int = 64
    lr: float = 0.1
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    crop_padding: int = 4
    flip: bool = True
    clip_norm: float = 5.0
    halvings: int = 0
    precision: Precision = "auto"

    def padding_at(self, resolution: int) -> int:
        """Crop padding in px at this resolution."""
        return min(round(self.crop_padding * resolution / 32), resolution - 1)


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve; accuracies are shares in [0, 1]."""

    step: int
    epoch: float
    train_loss: float
    train_accuracy: float
    test_accuracy: float | None


@dataclass
class TrainingResult:
    """What a training left behind.

    Attributes:
        steps: optimiser steps made.
        train_accuracy: on the un-augmented training images, in evaluation mode, at the end.
        final_loss: mean training loss since the last curve point.
        finite: whether every loss was finite.
        curve: points in time; training figures are running means over augmented batches.
        predictions: int64 ``[n_test]`` at the end, or ``None`` without test images.
        peak_predictions: the same at the step with the best test accuracy.
        peak_step: that step.
        history: int64 ``[E, n_test]``, the predictions at each point of the curve, or ``None`` without test images.
        seconds: wall time.
    """

    steps: int
    train_accuracy: float
    final_loss: float
    finite: bool
    curve: tuple[CurvePoint, ...] = ()
    predictions: Tensor | None = None
    peak_predictions: Tensor | None = None
    peak_step: int = 0
    history: Tensor | None = None
    seconds: float = field(default=0.0, compare=False)


@torch.no_grad()
def predict_logits(model: nn.Module, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Logits float32 ``[N, K]`` of uint8 images in evaluation mode; the model's mode is put back."""
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].to(device)
        batch = batch.contiguous(memory_format=torch.channels_last).float().mul_(1.0 / 255.0)
        parts.append(model(batch).float().cpu())
    model.train(was_training)
    return torch.cat(parts) if parts else torch.empty(0, 0)


def epoch_order(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Index batches of one shuffled epoch. A last batch under half size is dropped: batch norm needs company."""
    order = torch.randperm(count, generator=generator)
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < batch_size // 2:
        batches.pop()
    return batches


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused(parameters))
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov,
        fused=fused(parameters),
    )  # fmt: skip


def _lr_factor(step: int, recipe: Recipe) -> float:
    rise = max(1, round(recipe.warmup * recipe.steps))
    if step < rise:
        return (step + 1) / rise
    if recipe.halvings:
        return 0.5 ** (step * (recipe.halvings + 1) // recipe.steps)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, recipe.steps - rise)))


def _epochs(
    count: int, recipe: Recipe, padding: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Crops]]:
    """Positions and crops of one batch after the other, for ever.

    Drawn on the CPU, so that every device trains on the same ones, and moved an epoch at a time.
    """
    while True:
        batches = epoch_order(count, recipe.batch_size, generator)
        drawn = [draw_crops(len(batch), padding, recipe.flip, generator) for batch in batches]
        sizes = [len(batch) for batch in batches]
        index, rows, cols, flips = (
            transfer(torch.cat(parts), device).split(sizes) for parts in (batches, *zip(*drawn, strict=True))
        )
        yield from zip(index, zip(rows, cols, flips, strict=True), strict=True)


def train_classifier(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    test_images: Tensor | None = None,
    test_labels: Tensor | None = None,
    evals: int = 10,
    device: str | torch.device = "cpu",
    objective: Objective | None = None,
    after_step: Callable[[], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> TrainingResult:
    """Train ``model`` in place and say what happened.

    Args:
        model: maps float ``[B, 3, R, R]`` in [0, 1] to logits ``[B, K]``.
        images: uint8 ``[N, 3, R, R]``, or another integer type where values may leave 0..255.
        labels: int64 ``[N]``.
        recipe: how; equal in every arm.
        seed: of the batch order, the augmentation and dropout (the model brings its own initial weights). The global
            generators are left as they were.
        test_images: uint8 ``[M, 3, R, R]``, looked at ``evals`` times along the way; never trained on.
        test_labels: int64 ``[M]``.
        evals: number of points of the learning curve.
        device: where to train.
        objective: what to minimise instead of the cross-entropy of the batch.
        after_step: called after each step of the optimiser, before anybody looks at the model; may change its weights.
        progress: called with the share done, a hundred times or more where there are as many steps.

    Returns:
        The result; a non-finite loss ends the training early with ``finite=False``.
    """
    device = torch.device(device)
    begun = now(device)
    bf16 = recipe.precision == "bfloat16"
    if recipe.precision == "auto":  # who settled it for many trainings at once has measured, and told what there is
        bf16 = choose_precision(model, device, resolution=images.shape[-1]).bf16
    generator = torch.Generator().manual_seed(seed)
    # A stream of its own: batches and crops stay those of the plain training whatever the objective draws.
    drawn = torch.Generator().manual_seed((seed + 0x5EED) % 2**63)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    side, padding = images.shape[-1], recipe.padding_at(images.shape[-1])
    padded = pad_images(images.to(device), padding)
    labels = labels.to(device)
    test_images = None if test_images is None else test_images.to(device)  # once, not at each look
    optimiser = _optimiser(model, recipe)
    marks = {math.ceil(recipe.steps * (i + 1) / max(1, evals)) for i in range(max(1, evals))}

    curve: list[CurvePoint] = []
    predictions = peak_predictions = None
    peak_accuracy, peak_step, step = -1.0, 0, 0
    loss_sum = torch.zeros((), device=device)
    hits = torch.zeros((), device=device)
    seen, finite = 0, True
    mean_loss = float("nan")
    beat = max(1, recipe.steps // 100)
    batches = _epochs(len(images), recipe, padding, generator, device)
    history: list[Tensor] = []
    # Dropout and drop path draw from the global generators: without this a training would depend on what the same
    # process had trained before it.
    with own_randomness(seed, device):
        while step < recipe.steps and finite:
            index, crops = next(batches)
            batch, target = take_batch(padded, index, crops, side), labels[index]
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _lr_factor(step, recipe)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                if objective is None:
                    logits = model(batch).float()
                    loss = F.cross_entropy(logits, target)
                else:
                    loss, logits = objective(model, batch, target, drawn, step / recipe.steps)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimiser.step()
            if after_step is not None:
                after_step()
            step += 1
            loss_sum += loss.detach() * len(index)
            hits += (logits.detach().argmax(1) == target).sum()
            seen += len(index)
            if step in marks:
                mean_loss = float(loss_sum) / seen
                finite = math.isfinite(mean_loss)
                accuracy = None
                if test_images is not None and test_labels is not None:
                    predictions = predict_logits(model, test_images).argmax(1)
                    accuracy = float((predictions == test_labels.cpu()).float().mean())
                    history.append(predictions)
                    if accuracy > peak_accuracy:
                        peak_accuracy, peak_step, peak_predictions = accuracy, step, predictions
                epoch = step * recipe.batch_size / max(1, len(images))
                curve.append(CurvePoint(step, epoch, mean_loss, float(hits) / seen, accuracy))
                loss_sum.zero_()
                hits.zero_()
                seen = 0
            if progress is not None and (step % beat == 0 or step == recipe.steps):
                progress(step / recipe.steps)
    fitted = predict_logits(model, images).argmax(1) == labels.cpu()
    return TrainingResult(
        steps=step,
        train_accuracy=float(fitted.float().mean()),
        final_loss=mean_loss,
        finite=finite,
        curve=tuple(curve),
        predictions=predictions,
        peak_predictions=peak_predictions,
        peak_step=peak_step,
        history=torch.stack(history) if history else None,
        seconds=now(device) - begun,
    )
