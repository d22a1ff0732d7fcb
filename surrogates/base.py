"""The module every surrogate and victim is: a network with its preprocessing inside."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError

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


class Resize(nn.Module):
    """Images at the side that a network takes; differentiable.

    Args:
        side: in px; ``None`` leaves images as they are.
        enlarge_only: resize only smaller images.
    """

    def __init__(self, side: int | None = None, *, enlarge_only: bool = False) -> None:
        super().__init__()
        self.side, self.enlarge_only = side, enlarge_only

    def forward(self, images: Tensor) -> Tensor:
        now = images.shape[-1]
        if self.side is None or now == self.side or (self.enlarge_only and now > self.side):
            return images
        size = (self.side, self.side)
        return F.interpolate(images, size, mode="bilinear", antialias=now > self.side, align_corners=False)


class Surrogate(nn.Module):
    """A classifier over images in [0, 1].

    Attributes:
        name: registry name, ``small-cnn`` or ``timm:vit_tiny_patch16_224``.
        source: where its weights came from: ``random``, ``embedded``, a tag, or the name of a file.
        num_classes: number of logits K.
        bf16_on_cpu: whether bfloat16 makes it faster on a CPU: dense convolutions gain, depthwise ones lose.
        head_only: whether training changes the last layer alone (the body keeps the weights it came with).
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
        side: int | None = None,
        enlarge_only: bool = False,
        head_only: bool = False,
    ) -> None:
        super().__init__()
        self.resize = Resize(side, enlarge_only=enlarge_only)
        self.normalise = Normalise(mean, std)
        self.net = net
        self.name = name
        self.num_classes = num_classes
        self.source = source
        self.bf16_on_cpu = bf16_on_cpu
        self.head_only = head_only
        if head_only:
            head = {id(p) for p in self.head.parameters()}
            for parameter in self.net.parameters():
                parameter.requires_grad_(id(parameter) in head)

    @property
    def members(self) -> tuple[Surrogate, ...]:
        """The networks it consists of: itself, or those of an ensemble."""
        return (self,)

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, from features to logits.

        Raises:
            ConfigError: the network has none.
        """
        return self.net.get_submodule(self._head_name())  # type: ignore[return-value]

    def _head_name(self) -> str:
        names = [name for name, module in self.net.named_modules() if isinstance(module, nn.Linear)]
        if not names:
            raise ConfigError(f"{self.name} ends in no linear layer, so it has no features to work on.")
        return names[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits float ``[N, K]`` for images float ``[N, 3, R, R]`` in [0, 1]."""
        return self.net(self.normalise(self.resize(images)))

    def trunk(self) -> nn.Module:
        """Images ``[N, 3, R, R]`` in [0, 1] to features ``[N, D]``, what the last layer gets; shares its parameters.

        Raises:
            ConfigError: the network has no last linear layer.
        """
        return nn.Sequential(self.resize, self.normalise, _without(self.net, self._head_name().split(".")))

    def train(self, mode: bool = True) -> Surrogate:
        """Training mode; a body that keeps its weights also keeps its batch statistics."""
        super().train(mode and not self.head_only)
        self.training = mode
        return self

    def fingerprint(self, *, head: bool = True) -> str:
        """sha256 over names and bytes of all parameters and buffers: the same weights give the same digest.

        Args:
            head: with the last layer; without it, two networks that give the same features have the same digest.
        """
        left_out = "" if head else f"net.{self._head_name()}."
        digest = hashlib.sha256(self.name.encode())
        for key, value in sorted(self.state_dict().items()):
            if left_out and key.startswith(left_out):
                continue
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _without(module: nn.Module, path: Sequence[str]) -> nn.Module:
    """The module with one descendant replaced by nothing. Copies only the modules on the way, no parameters."""
    if not path:
        return nn.Identity()
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    inner = module._modules[path[0]]
    assert inner is not None
    copied._modules[path[0]] = _without(inner, path[1:])
    return copied


def class_losses(outputs: Tensor, labels: Tensor, *, reduction: str = "none") -> Tensor:
    """Cross-entropy of each image, ``[N]``; of an ensemble, the mean of its members' losses.

    Args:
        outputs: logits ``[N, K]``, or ``[E, N, K]`` of an ensemble's E members.
        labels: int64 ``[N]``.
        reduction: ``none``, or ``mean`` over the images.
    """
    if outputs.ndim == 2:
        return F.cross_entropy(outputs, labels, reduction=reduction)
    return torch.stack([F.cross_entropy(member, labels, reduction=reduction) for member in outputs]).mean(0)


def class_scores(outputs: Tensor) -> Tensor:
    """Scores ``[N, K]`` whose largest names the predicted class: logits, or an ensemble's mean log-probabilities."""
    return outputs if outputs.ndim == 2 else outputs.log_softmax(-1).mean(0)
