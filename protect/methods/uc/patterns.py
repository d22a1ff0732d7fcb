"""How the patterns of all clusters are held and moved: as pixels, or as the output of a generator each.

A generator is a picture prior: a network that is trained for one pattern and then thrown away.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ....surrogates import own_randomness


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
        rows = torch.tensor(list(clusters), device=gradient.device)
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
        self._optimisers = [torch.optim.Adam(n.parameters(), lr=lr, weight_decay=weight_decay) for n in self._nets]

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
        """One step of Adam for each generator whose pattern has a gradient."""
        rate = self._lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
        for number in clusters:
            if len(clusters) > 1 and not bool(gradient[number].any()):
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
                    optimiser.state[parameter] = {
                        key: value if key == "step" else value.to(parameter.device) for key, value in kept.items()
                    }
