"""Several trainings of ``small-cnn`` as one: K networks side by side, their convolutions in K groups.

What ``verify_speed.py`` compares with trainings one by one. Processes import it, so it is a module of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitterant.surrogates import (
    Recipe,
    choose_precision,
    create_surrogate,
    draw_crops,
    epoch_order,
    pad_images,
    take_batch,
    train_classifier,
)

__all__ = ["VICTIM", "Task", "train", "train_stacked"]

VICTIM = "small-cnn"
SIDE = 32


@dataclass(frozen=True)
class Task:
    """One training; with its pictures, so that another process has them."""

    images: Tensor
    labels: Tensor
    recipe: Recipe
    seed: int
    classes: int


def train(task: Task) -> float:
    """Train as a cell of the verifier does; the accuracy on the training pictures."""
    network = create_surrogate(VICTIM, num_classes=task.classes, resolution=SIDE, seed=task.seed)
    return train_classifier(network, task.images, task.labels, task.recipe, seed=task.seed, evals=1).train_accuracy


class Stacked(nn.Module):
    """K small-cnn in one: ``[B, 3 K, R, R]`` to ``[K, B, classes]``."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        count = len(members)
        self.layers = nn.Sequential()
        for parts in zip(*(member.features for member in members), strict=True):  # type: ignore[arg-type]
            first = parts[0]
            if isinstance(first, nn.Conv2d):
                sizes = (count * first.in_channels, count * first.out_channels)
                shape = (first.kernel_size, first.stride, first.padding)
                layer = nn.Conv2d(*sizes, *shape, groups=count, bias=False)  # type: ignore[arg-type]
                layer.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
            elif isinstance(first, nn.BatchNorm2d):
                layer = nn.BatchNorm2d(count * first.num_features)
            else:
                layer = first
            self.layers.append(layer)
        heads: list[nn.Linear] = [member.head for member in members]  # type: ignore[misc]
        self.weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))
        self.count = count

    def forward(self, images: Tensor) -> Tensor:
        features = self.layers(images).mean(dim=(2, 3)).unflatten(1, (self.count, -1)).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], features, self.weight.transpose(1, 2))

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> list[float]:
        """Of each member, in evaluation mode."""
        self.eval()
        hits = torch.zeros(self.count)
        for part, target in zip(images.split(256), labels.split(256), strict=True):
            logits = self(((part.float() / 255 - 0.5) / 0.25).repeat(1, self.count, 1, 1))
            hits += (logits.argmax(2) == target).sum(1)
        return (hits / len(labels)).tolist()


def train_stacked(tasks: Sequence[Task]) -> list[float]:
    """What :func:`train` does, for all tasks at once; one recipe, one set of pictures."""
    recipe, images, labels, count = tasks[0].recipe, tasks[0].images, tasks[0].labels, len(tasks)
    members = [create_surrogate(VICTIM, num_classes=t.classes, resolution=SIDE, seed=t.seed) for t in tasks]
    model = Stacked([member.net for member in members]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bf16 = choose_precision(members[0], torch.device("cpu"), resolution=SIDE).bf16
    generators = [torch.Generator().manual_seed(task.seed) for task in tasks]
    padding = recipe.padding_at(SIDE)
    padded = pad_images(images, padding)
    optimiser = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    queues: list[list[Tensor]] = [[] for _ in tasks]
    rise = max(1, round(recipe.warmup * recipe.steps))
    for step in range(recipe.steps):
        batches, targets = [], []
        for queue, generator in zip(queues, generators, strict=True):
            if not queue:
                queue += epoch_order(len(images), recipe.batch_size, generator)[::-1]
            index = queue.pop()
            batches.append(take_batch(padded, index, draw_crops(len(index), padding, recipe.flip, generator), SIDE))
            targets.append(labels[index])
        fall = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, recipe.steps - rise)))
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * ((step + 1) / rise if step < rise else fall)
        both = ((torch.cat(batches, 1) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(both).float()
        loss = F.cross_entropy(logits.flatten(0, 1), torch.cat(targets), reduction="sum") / len(targets[0])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_each(model, count, recipe.clip_norm)
        optimiser.step()
    return model.accuracy(images, labels)


@torch.no_grad()
def clip_each(model: nn.Module, count: int, most: float) -> None:
    """Clip the gradient of each member by its own norm."""
    gradients = [p.grad.reshape(count, -1) for p in model.parameters() if p.grad is not None]
    norms = torch.stack([g.norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1.0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            rows = scale.repeat_interleave(len(parameter) // count)  # the first axis goes member by member
            parameter.grad.mul_(rows.view(-1, *[1] * (parameter.ndim - 1)))
