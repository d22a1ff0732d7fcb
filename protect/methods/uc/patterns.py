"""Patterns of clusters: how they are held, the pull that moves them, and what it achieved.

A pattern is held as pixels, or as the output of a generator: a picture prior, a network that is trained for one
pattern and then thrown away. The pull of a cluster's pictures is towards the next cluster. Patterns are crafted
through random windows of the pictures, as trainers take them, and then survive them.

What was achieved is measured without labels, each figure beside random noise and beside JPEG. The share of pictures
that left their cluster misleads alone: JPEG 10 moved a third of clean pictures and random noise a fifth. So the share
that arrived where it was sent counts, and the drop of a linear probe.
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ....imaging import Budget, ImageSet
from ....surrogates import FrozenSurrogate, add_rows, crop_flip, draw_crops, fused, own_randomness, transfer
from ...clusters import Clusters, FeatureSpace, nearest
from ..written import ResizeOperator, WrittenCopies


def _norm(channels: int) -> nn.Module:
    # The paper's code runs batch norm in training mode on a batch of one, which is instance norm; this one says so.
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False), _norm(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False), _norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class NoiseGenerator(nn.Module):
    """The generator of Unlearnable Clusters, a CycleGAN network fed one fixed noise image.

    7.84 M weights at the paper's width of 64; a sixteenth of that at 16.

    Args:
        width: channels of the first layer.
        blocks: residual blocks.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        w = width
        self.net = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, w, 7, bias=False), _norm(w), nn.ReLU(),
            nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False), _norm(2 * w), nn.ReLU(),
            nn.Conv2d(2 * w, 4 * w, 3, 2, 1, bias=False), _norm(4 * w), nn.ReLU(),
            *(_Residual(4 * w) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, output_padding=1, bias=False), _norm(2 * w), nn.ReLU(),
            nn.ConvTranspose2d(2 * w, w, 3, 2, 1, output_padding=1, bias=False), _norm(w), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(w, 3, 7),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        """A picture ``[N, 3, S, S]`` in (-1, 1) from noise of the same shape; the side is a multiple of 4."""
        return torch.tanh(self.net(z))


class Patterns(ABC):
    """Patterns ``[p, 3, R, R]`` within epsilon, and a way to move them along a gradient."""

    @abstractmethod
    def delta(self, clusters: Sequence[int] | None = None) -> Tensor:
        """The patterns as they are, ``[p, 3, R, R]`` within epsilon; where ``clusters`` are named, others may be 0."""

    @abstractmethod
    def step(self, gradient: Tensor, clusters: Sequence[int], progress: float) -> None:
        """Descend.

        Args:
            gradient: of the loss with respect to the patterns, ``[p, 3, R, R]``.
            clusters: which patterns may move.
            progress: share of the fit that is done, for the learning rate.
        """

    @abstractmethod
    def pack(self) -> dict[str, Tensor]:
        """The whole state by name, for a checkpoint."""

    @abstractmethod
    def unpack(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`pack` gave."""


class PixelPatterns(Patterns):
    """Every pixel is a parameter, moved by the sign of its gradient with momentum.

    Args:
        count: patterns p.
        side: R in px.
        epsilon: bound.
        step_size: at the beginning; falls along a half cosine to a fifth.
        device: where they live.
        momentum: of the gradient, each pattern's scaled to mean magnitude 1.
    """

    def __init__(
        self, count: int, side: int, epsilon: float, step_size: float, device: torch.device, *, momentum: float = 0.5
    ) -> None:
        self._epsilon, self._step_size, self._momentum = epsilon, step_size, momentum
        self._delta = torch.zeros(count, 3, side, side, device=device)
        self._velocity = torch.zeros_like(self._delta)

    def delta(self, clusters: Sequence[int] | None = None) -> Tensor:
        """The patterns."""
        return self._delta

    def step(self, gradient: Tensor, clusters: Sequence[int], progress: float) -> None:
        """One sign step of the patterns that have a gradient."""
        rows = transfer(torch.tensor(list(clusters)), gradient.device)
        own = gradient[rows]
        scale = own.abs().mean(dim=(1, 2, 3), keepdim=True)
        moving = (scale > 0).float()
        velocity = self._momentum * self._velocity[rows] + own / scale.clamp(min=1e-20)
        self._velocity[rows] = velocity
        rate = self._step_size * (0.6 + 0.4 * math.cos(math.pi * min(1.0, progress)))
        moved = (self._delta[rows] - rate * moving * velocity.sign()).clamp_(-self._epsilon, self._epsilon)
        self._delta[rows] = moved

    def pack(self) -> dict[str, Tensor]:
        """Patterns and momentum."""
        return {"delta": self._delta, "velocity": self._velocity}

    def unpack(self, state: dict[str, Tensor]) -> None:
        """Put back patterns and momentum."""
        self._delta.copy_(state["delta"])
        self._velocity.copy_(state["velocity"])


class GeneratorPatterns(Patterns):
    """The output of one generator a cluster, each fed its own fixed noise image (arXiv 2301.01217).

    Args:
        count: patterns p.
        side: R in px.
        epsilon: bound.
        width: channels of the first layer; the paper's is 64.
        bound: ``clamp`` (the paper's: the gradient dies where it cuts) or ``tanh`` (scaled, never cut).
        lr: of Adam, falling along a half cosine to a hundredth; the paper's is 1e-4.
        weight_decay: of Adam; the paper's is 5e-4.
        seed: of weights and noise images.
        device: where to compute.
    """

    def __init__(
        self,
        count: int,
        side: int,
        epsilon: float,
        *,
        width: int,
        bound: str,
        lr: float,
        weight_decay: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self._side, self._epsilon, self._bound, self._lr = side, epsilon, bound, lr
        full = -(-side // 4) * 4  # two halvings have to come out even
        self._nets: list[NoiseGenerator] = []
        self._noise: list[Tensor] = []
        for number in range(count):
            with own_randomness((seed * 1009 + number) % 2**63):
                self._nets.append(NoiseGenerator(width).to(device))
                self._noise.append(torch.rand(1, 3, full, full).to(device))
        self._optimisers = [
            torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay, fused=fused(net.parameters()))
            for net in self._nets
        ]

    def _out(self, number: int) -> Tensor:
        raw = self._nets[number](self._noise[number])[0, :, : self._side, : self._side]
        return raw.clamp(-self._epsilon, self._epsilon) if self._bound == "clamp" else self._epsilon * raw

    @torch.no_grad()
    def delta(self, clusters: Sequence[int] | None = None) -> Tensor:
        """The patterns; those of other clusters than these are left out, which saves a pass through their networks."""
        wanted = range(len(self._nets)) if clusters is None else clusters
        made = {number: self._out(number) for number in wanted}
        blank = torch.zeros_like(next(iter(made.values())))
        return torch.stack([made.get(number, blank) for number in range(len(self._nets))])

    def step(self, gradient: Tensor, clusters: Sequence[int], progress: float) -> None:
        """One step of Adam for each generator whose pattern has a gradient; a GPU, which would have to be asked, makes
        one for all."""
        rate = self._lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        for number in clusters:
            if gradient.device.type == "cpu" and len(clusters) > 1 and not bool(gradient[number].any()):
                continue
            optimiser = self._optimisers[number]
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
            self._out(number).backward(gradient[number])
            optimiser.step()

    def pack(self) -> dict[str, Tensor]:
        """Weights and the state of Adam by name."""
        state: dict[str, Tensor] = {}
        for number, (net, optimiser) in enumerate(zip(self._nets, self._optimisers, strict=True)):
            for name, parameter in net.named_parameters():
                state[f"{number}.{name}"] = parameter.detach()
                kept = optimiser.state.get(parameter, {})
                state.update({f"{number}.{name}.{key}": torch.as_tensor(value) for key, value in kept.items()})
        return state

    def unpack(self, state: dict[str, Tensor]) -> None:
        """Put back weights and the state of Adam."""
        for number, (net, optimiser) in enumerate(zip(self._nets, self._optimisers, strict=True)):
            for name, parameter in net.named_parameters():
                prefix = f"{number}.{name}"
                with torch.no_grad():
                    parameter.copy_(state[prefix])
                kept = {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(f"{prefix}.")}
                if kept:
                    # Adam counts its steps on the CPU, and in one kernel where its parameters are.
                    counted = parameter.device if optimiser.defaults["fused"] else torch.device("cpu")
                    optimiser.state[parameter] = {
                        key: value.to(counted if key == "step" else parameter.device) for key, value in kept.items()
                    }


def kl_to_centre(features: Tensor, centres: Tensor) -> Tensor:
    """``KL(softmax(centre) || softmax(feature))`` of each row, ``[N]`` (arXiv 2301.01217).

    The centre comes first: it is the distribution to be reached. Temperature 1, as in the code of the paper.

    Args:
        features: float ``[N, D]``.
        centres: float ``[N, D]``, the target centre of each row.
    """
    wanted = centres.log_softmax(1)
    return F.kl_div(features.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)


def image_gradient(
    members: Sequence[FrozenSurrogate],
    images: Tensor,
    centres: Tensor,
    widths: Sequence[int],
    transform: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradient of the summed divergence with respect to the images.

    Args:
        members: frozen feature maps; their losses are averaged.
        images: float ``[B, 3, R, R]`` in [0, 1], perturbed.
        centres: float ``[B, D]``, the members' centres side by side.
        widths: columns a member.
        transform: between image and surrogate.

    Returns:
        Gradient of the shape of ``images``, and the losses ``[B]``.
    """
    leaf = images.detach().requires_grad_(True)
    seen = leaf if transform is None else transform(leaf)
    wanted = centres.split(list(widths), dim=1)
    losses = torch.stack([kl_to_centre(m(seen), c) for m, c in zip(members, wanted, strict=True)]).mean(0)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return gradient, losses.detach()


class RandomResizedCrop:
    """One random window for a batch, resized back, its second half mirrored.

    The window covers between ``least`` and all of the area at an aspect ratio between 3:4 and 4:3, as in the random
    resized crop that is usual in training.

    Args:
        generator: source of the windows.
        least: smallest share of the area.
    """

    def __init__(self, generator: torch.Generator, *, least: float = 0.5) -> None:
        self._generator, self.least = generator, least

    def __call__(self, images: Tensor) -> Tensor:
        """Windows of the same shape ``[B, 3, R, R]``; differentiable."""
        side = images.shape[-1]
        area, ratio, down, right = torch.rand(4, generator=self._generator).tolist()
        share = self.least + (1 - self.least) * area
        stretch = math.exp((2 * ratio - 1) * math.log(4 / 3) / 2)
        height, width = (min(side, max(1, round(side * math.sqrt(share) * f))) for f in (stretch, 1 / stretch))
        top, left = round(down * (side - height)), round(right * (side - width))
        window = images[:, :, top : top + height, left : left + width]
        if (height, width) != (side, side):
            window = F.interpolate(window, (side, side), mode="bilinear", align_corners=False)
        half = len(images) // 2
        return torch.cat([window[:half], window[half:].flip(3)])


def enlarged_crops(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random crop of each picture, mirrored by chance, of the same shape ``[B, 3, R, R]``.

    The paper crops 224 px out of 256: pictures are enlarged by a seventh and cropped back, each at a place of its own.

    Args:
        images: float ``[B, 3, R, R]``.
        generator: source of places and mirrorings.
    """
    side = images.shape[-1]
    margin = max(1, round(side / 14))
    large = F.interpolate(images, (side + 2 * margin, side + 2 * margin), mode="bilinear", align_corners=False)
    crops = draw_crops(len(images), margin, True, generator)
    return crop_flip(large, torch.arange(len(images), device=images.device), crops, side)


def targets(count: int) -> Tensor:
    """Where each cluster is to be pushed: onto the next one, the last onto the first."""
    return (torch.arange(count) + 1) % count


@dataclass(frozen=True)
class FeaturePull:
    """Gradient of the cluster loss on the patterns.

    Attributes:
        dataset: the images, on the device of computation.
        space: the frozen surrogate.
        clusters: where the images lie.
        resize: what files do to a pattern on its way to a trainer.
        windows: craft through random windows of the pictures.
        paper: as the official code: each picture is enlarged, cropped and mirrored on its own, then gets the pattern
            as it is; and the loss is the mean of a batch, not its sum, which Adam's weight decay is weighed against.
    """

    dataset: ImageSet
    space: FeatureSpace
    clusters: Clusters
    resize: ResizeOperator | None
    windows: bool
    paper: bool = False

    def on_patterns(
        self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator, *, batch_size: int = 64
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the summed loss (the paper's: of its mean over the images) with respect to the patterns.

        Args:
            index: positions int64 ``[B]`` of images.
            own: int64 ``[B]``, whose pattern each image carries.
            delta: patterns ``[p, 3, R, R]``.
            generator: of the windows.
            batch_size: images a pass.

        Returns:
            ``[p, 3, R, R]``, and the mean loss ``[]``.
        """
        total = torch.zeros_like(delta)
        seen = delta if self.resize is None else self.resize(delta)
        centres = transfer(self.clusters.centres, delta.device)
        goal = transfer(targets(len(centres)), delta.device)
        loss = torch.zeros((), device=delta.device)
        for part, cluster in zip(index.split(batch_size), own.split(batch_size), strict=True):
            images = self.dataset.images[part].float().mul_(1 / 255)
            if self.paper:
                images = enlarged_crops(images, generator)
            held = None if self.dataset.writable is None else self.dataset.writable.select(part)
            images = images.add_(seen[cluster] if held is None else held(seen[cluster])).clamp_(0.0, 1.0)
            transform = RandomResizedCrop(generator) if self.windows and not self.paper else None
            gradient, losses = image_gradient(
                self.space.members, images, centres[goal[cluster]], self.space.widths, transform
            )
            add_rows(total, cluster, gradient if held is None else held(gradient))
            loss += losses.sum()
        if self.resize is not None:
            total = self.resize.adjoint(total)
        if self.paper:
            total /= len(index)
        return total, loss / max(1, len(index))

    def scaled(self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
        """The same with each row scaled to mean magnitude 1, to be added to another gradient of that scale."""
        total, _ = self.on_patterns(index, own, delta, generator)
        return total / total.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)


MEASURED_VERSIONS = ("clean", "protected", "noise", "jpeg10")
MOST_MEASURED = 1000
"""Images that are measured at most: the cost does not grow with the folder."""


def measure(
    dataset: ImageSet,
    clusters: Clusters,
    space: FeatureSpace,
    delta_of: Callable[[Tensor], Tensor],
    epsilon: float,
    *,
    seed: int,
) -> dict[str, Any]:
    """Measure on an evenly drawn part of the images.

    Args:
        dataset: all images.
        clusters: of all images.
        space: the surrogate's features.
        delta_of: positions ``[B]`` -> their perturbations ``[B, 3, R, R]`` as the bank will hold them.
        epsilon: the budget, of the random noise beside them, too.
        seed: of the draw, the noise and the probe's split.

    Returns:
        JSON-safe: ``images``, ``clusters``, ``sizes``, for each of ``clean``, ``protected``, ``noise`` and ``jpeg10``
        the shares ``moved`` (nearest to another centre than the clean picture) and ``on_target`` (nearest to the centre
        its cluster is sent to) and the accuracy ``probe``, and ``nmi`` where there are labels.
    """
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(dataset), generator=generator)[:MOST_MEASURED].sort().values
    images, own = dataset.images[index.to(dataset.images.device)].cpu(), clusters.assignment[index]
    written = WrittenCopies(dataset.to("cpu"), Budget(epsilon))
    versions: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: images,
        "protected": lambda: written(index, delta_of),
        "noise": lambda: _noisy(images, epsilon, generator),
        "jpeg10": lambda: _compressed(images),
    }
    features = {name: space.of(make()) for name, make in versions.items()}
    goal, at_first = targets(len(clusters.centres))[own], nearest(features["clean"], clusters.centres)
    train = torch.rand(len(index), generator=generator) < 0.6
    labels = own if dataset.labels is None else dataset.labels[index.to(dataset.labels.device)].cpu()
    rows: dict[str, Any] = {}
    for name, found in features.items():
        at = nearest(found, clusters.centres)
        rows[name] = {
            "moved": round(float((at != at_first).float().mean()), 4),
            "on_target": round(float((at == goal).float().mean()), 4),
            "probe": _probe(found[train], labels[train], features["clean"][~train], labels[~train]),
        }
    result = {"images": len(index), "clusters": len(clusters.centres), "sizes": clusters.sizes, **rows}
    result["probe_of"] = "clusters" if dataset.labels is None else "labels"
    if dataset.labels is not None:
        from sklearn.metrics import normalized_mutual_info_score

        result["nmi"] = round(
            float(normalized_mutual_info_score(dataset.labels.cpu().numpy(), clusters.assignment.numpy())), 4
        )
    return result


def _noisy(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int16) * 2 - 1
    return (images.to(torch.int16) + round(epsilon * 255) * signs).clamp_(0, 255).to(torch.uint8)


def _compressed(images: Tensor, quality: int = 10) -> Tensor:
    rows = []
    for row in images.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(row).save(buffer, "JPEG", quality=quality)
        rows.append(np.asarray(Image.open(buffer).convert("RGB")))
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()


def _probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float | None:
    """Accuracy on clean features of a logistic regression fitted to the features of one version."""
    if len(train_labels.unique()) < 2 or len(test) == 0:
        return None
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    centre, scale = train.mean(0), train.std(0).clamp(min=1e-6)
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=200, C=0.1)
        model.fit(((train - centre) / scale).numpy(), train_labels.numpy())
        return round(float(model.score(((test - centre) / scale).numpy(), test_labels.numpy())), 4)
