"""A frozen copy of a surrogate for inner loops: only the gradient of the input is ever computed through it.

Clusters of pictures are found in the features of a frozen network, by k-means whose result does not depend on the
machine.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .base import Surrogate

if TYPE_CHECKING:
    from sklearn.cluster import KMeans, MiniBatchKMeans

_log = logging.getLogger(__name__)


class FrozenSurrogate:
    """Evaluation-mode copy with batch norms folded into convolutions, optionally in bfloat16, channels last.

    Folding pays because one set of weights is used for a whole sweep; measured by
    ``benchmarks/emn_speed.py``. Results come back as float32, so that a vanishing loss does not underflow.

    Args:
        model: what to copy.
        bf16: compute in bfloat16.
        features: give features instead of logits; see :meth:`Surrogate.trunk`.
        exactly: leave norms with an activation of their own (timm's) as they are, so that the last bit does not
            change: for features that are compared with those of other days.
    """

    def __init__(self, model: nn.Module, *, bf16: bool = False, features: bool = False, exactly: bool = False) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        members = model.members if isinstance(model, Surrogate) else ()
        self._members: tuple[FrozenSurrogate, ...] = ()
        if len(members) > 1:
            self._members = tuple(
                FrozenSurrogate(member, bf16=bf16, features=features, exactly=exactly) for member in members
            )
            self._side_by_side = features
            return
        self._resize: nn.Module = nn.Identity()
        if isinstance(model, Surrogate):
            # Resizing asks for the size of its input, which a network that is traced cannot answer.
            self._resize = model.resize
            body = list(model.trunk().children())[1:] if features else [model.normalise, model.net]
            model = nn.Sequential(*body)
        copied = copy.deepcopy(model).eval()
        try:
            copied = fold_batch_norms(copied, plain_only=exactly)
        except Exception as error:  # torch.fx raises many kinds; a network it cannot trace is used as it is
            _log.debug("batch norm not folded: %s", error)
        self.model: nn.Module = copied.to(dtype=self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def to(self, device: torch.device) -> FrozenSurrogate:
        """Moved there, in place."""
        for member in self._members:
            member.to(device)
        if not self._members:
            self.model.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K]`` (or features ``[B, D]``) of images ``[B, 3, R, R]`` in [0, 1]; differentiable.

        Of an ensemble: logits ``[E, B, K]``, or the members' features side by side.
        """
        if self._members:
            parts = [member(images) for member in self._members]
            return torch.cat(parts, dim=1) if self._side_by_side else torch.stack(parts)
        batch = self._resize(images).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.model(batch).float()


class _Tracer(fx.Tracer):
    """Convolutions and batch norms are single steps, also those of timm: it pads in the one and activates in the other,
    both as sub-classes of torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norms(model: nn.Module, *, plain_only: bool = False) -> nn.Module:
    """``model`` with each batch norm that directly follows a convolution multiplied into its weights; changes in place.

    Depthwise convolutions are folded like all others. Of a norm with an activation of its own the activation stays.

    Args:
        model: in evaluation mode.
        plain_only: only ``torch.nn``'s own norms and convolutions.

    Raises:
        Exception: torch.fx cannot trace the network; of many kinds.
    """
    graph = _Tracer().trace(model)
    modules = dict(model.named_modules())
    folded = fx.GraphModule(model, graph)
    used = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = modules.get(str(before.target)), modules.get(str(node.target))
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        if used[str(before.target)] > 1 or used[str(node.target)] > 1:
            continue
        if plain_only and (type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d):
            continue
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # timm's norms drop and activate after the norm: what is left of them.
        after = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
        folded.set_submodule(str(node.target), nn.Sequential(*after) if after else nn.Identity(), strict=False)
    folded.recompile()
    return folded


@torch.no_grad()
def frozen_features(network: FrozenSurrogate, images: Tensor, *, device: torch.device, batch_size: int = 64) -> Tensor:
    """Features float32 ``[N, D]`` on the CPU of uint8 images ``[N, 3, R, R]``, N at least 1.

    Args:
        network: of features, on its device.
        images: on any device.
        device: where the network is.
        batch_size: 1 gives the features that an image has on its own: sums in a batch may run in another order.
    """
    return torch.cat([network(part.to(device).float().mul_(1 / 255)).cpu() for part in images.split(batch_size)])


@contextmanager
def in_one_order() -> Iterator[None]:
    """One thread inside scikit-learn: sums then run in one order, whatever the machine."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def fit_kmeans(
    points: NDArray[np.floating], count: int, *, seed: int, restarts: int = 10, in_batches: bool = False
) -> KMeans | MiniBatchKMeans:
    """K-means of scikit-learn; the same points and seed give the same clusters.

    Args:
        points: ``[N, D]``.
        count: of clusters, at most N. Some stay empty where fewer points are different.
        seed: of the starting centres.
        restarts: starts of which the best is taken.
        in_batches: look at 4096 points at a time, for very many.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    starts = cast(Any, restarts)  # a number, which the annotations of scikit-learn leave out
    with in_one_order(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about fewer different points than clusters, which is said above
        if in_batches:
            return MiniBatchKMeans(count, batch_size=4096, n_init=starts, random_state=seed).fit(points)
        return KMeans(count, n_init=starts, random_state=seed).fit(points)


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one: angles compare features of a ReLU network better than distances."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
