"""The module every surrogate and victim is: a network with its preprocessing inside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Normalise", "Surrogate"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """``(x - mean) / std`` a channel, so that everything outside the model lives in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Surrogate(nn.Module):
    """A classifier over images in [0, 1].

    Attributes:
        name: registry name, ``small-cnn`` or ``timm:vit_tiny_patch16_224``.
        source: where its weights came from: ``random``, ``embedded`` or the path of a file.
        num_classes: number of logits K.
        bf16_on_cpu: whether bfloat16 makes it faster on a CPU: dense convolutions gain, depthwise ones lose.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        num_classes: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        source: str = "random",
        bf16_on_cpu: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.net = net
        self.name = name
        self.num_classes = num_classes
        self.source = source
        self.bf16_on_cpu = bf16_on_cpu

    def forward(self, images: Tensor) -> Tensor:
        """Logits float ``[N, K]`` for images float ``[N, 3, R, R]`` in [0, 1]."""
        return self.net(self.normalise(images))

    def fingerprint(self) -> str:
        """sha256 over names and bytes of all parameters and buffers: the same weights give the same digest."""
        digest = hashlib.sha256(self.name.encode())
        for key, value in sorted(self.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
