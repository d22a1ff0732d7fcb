"""Two small networks of different families, made to be trained from scratch on two cores.

``small-cnn`` is the five-convolution toy model of the error-minimizing-noise literature (its ToyModel has three) at a
width that a CPU trains in seconds. ``convmixer`` mixes patches (Trockman & Kolter 2022, "Patches are all you need"):
no pooling, no 3x3 stem, large depthwise kernels. Noise that fools the one need not fool the other, which is what a
second victim is for.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ConvMixer", "SmallCNN"]


def _stem_stride(resolution: int) -> int:
    """Stride that brings the working resolution to about 32 px, so that cost does not grow with it."""
    if resolution <= 48:
        return 1
    return 2 if resolution <= 96 else 4


class SmallCNN(nn.Module):
    """Five 3x3 convolutions with batch norm, two poolings, global average, one linear layer.

    About 7.5 MMAC an image at width 16 for any resolution up to 96 px (the stem strides from 49 px on).
    """

    def __init__(self, num_classes: int, *, resolution: int = 32, width: int = 16) -> None:
        super().__init__()
        stride = _stem_stride(resolution)
        kernel = 3 if stride == 1 else 2 * stride - 1

        def block(cin: int, cout: int, *, k: int = 3, s: int = 1, pool: bool = False) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Conv2d(cin, cout, k, s, k // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            return [*layers, nn.MaxPool2d(2)] if pool else layers

        self.features = nn.Sequential(
            *block(3, width, k=kernel, s=stride, pool=True),
            *block(width, 2 * width),
            *block(2 * width, 2 * width, pool=True),
            *block(2 * width, 4 * width),
            *block(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class ConvMixer(nn.Module):
    """Patch embedding, then ``depth`` times (depthwise 5x5 residual, pointwise), global average, linear."""

    def __init__(
        self, num_classes: int, *, resolution: int = 32, width: int = 96, depth: int = 3, patch: int = 4
    ) -> None:
        super().__init__()
        patch = patch * _stem_stride(resolution)

        def mix() -> nn.Sequential:
            return nn.Sequential(
                _Residual(
                    nn.Sequential(nn.Conv2d(width, width, 5, groups=width, padding=2), nn.GELU(), nn.BatchNorm2d(width))
                ),
                nn.Conv2d(width, width, 1),
                nn.GELU(),
                nn.BatchNorm2d(width),
            )

        self.embed = nn.Sequential(nn.Conv2d(3, width, patch, patch), nn.GELU(), nn.BatchNorm2d(width))
        self.mixers = nn.Sequential(*(mix() for _ in range(depth)))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixers(self.embed(x)).mean(dim=(2, 3)))
