"""Cheap changes of the pictures, made once before training: colours, levels, codecs, sizes, linear patterns."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...records.processes import available_cpus
from ...records.threads import ordered_map
from ...surrogates.arithmetic import one_thread
from ..terms import Arm, Pixels
from .base import Adversary, AttackData, one_of, real_number, whole_number

BLOCK = 256
"""Pictures of 32 px that are changed at once; of larger pictures as many as have no more pixels."""
_BLOCK_SIDE = 32


def block_workers() -> int:
    """Threads that change pictures: as many as torch computes with, at most one for each CPU the process may use.

    One where a caller has asked torch for one thread, as processes that share a machine do.
    """
    return max(1, min(available_cpus(), torch.get_num_threads()))


def map_blocks(
    images: Pixels, change: Callable[[Pixels, int], Pixels], *, size: int = BLOCK, workers: int | None = None
) -> Pixels:
    """Change uint8 pictures block by block, several blocks at a time; memory stays small.

    Each block is computed by one thread with one thread of torch, so the result does not depend on how many there are.
    After an error in a block, or Ctrl-C, no block is begun any more; those under way are waited for, and what was
    raised is raised here.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        change: ``(uint8 [B, 3, R, R], position of the first) -> the same shape``; called in any of the threads, without
            gradients, and must not write to what it is given. What is done to a picture may depend on its position, but
            on no other picture.
        size: pictures a block, for pictures of 32 px; larger ones come in smaller blocks, down to one picture.
        workers: threads; :func:`block_workers` where left out.

    Returns:
        uint8 ``[N, 3, R, R]``.
    """
    result = np.empty(images.shape, dtype=np.uint8)
    size = max(1, min(size, size * _BLOCK_SIDE**2 // (images.shape[-1] * images.shape[-2])))
    starts = range(0, len(images), size)
    workers = min(block_workers() if workers is None else workers, len(starts))

    def work(start: int) -> None:
        with torch.no_grad():  # which holds for one thread alone
            result[start : start + size] = change(images[start : start + size], start)

    def work_beside(start: int) -> None:
        torch.set_num_threads(1)  # in some versions each thread has a number of its own
        work(start)

    with one_thread("cpu"):
        if workers <= 1:
            for start in starts:
                work(start)
        else:
            for _ in ordered_map(work_beside, starts, workers=workers):
                pass
    return result


def in_blocks(images: Pixels, change: Callable[[Tensor, int], Tensor], *, size: int = BLOCK) -> Pixels:
    """Apply an operation on tensors to uint8 pictures, as :func:`map_blocks`.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        change: ``(float32 [B, 3, R, R] in [0, 1], position of the first) -> the same shape``; what leaves [0, 1] is
            clipped.
        size: as there.

    Returns:
        uint8 ``[N, 3, R, R]``, rounded to the nearest level.
    """

    def on_tensors(block: Pixels, start: int) -> Pixels:
        changed = change(torch.from_numpy(np.array(block)).float().div_(255.0), start)
        return changed.clamp(0, 1).mul(255.0).round().to(torch.uint8).numpy()

    return map_blocks(images, on_tensors, size=size)


class Grayscale(Adversary):
    """Replaces each picture by its luma (ITU-R 601-2), in three equal channels."""

    prefix = "grayscale"
    tier = "transforms"
    source = "arXiv 2301.13838 (image shortcut squeezing)"
    description = "training and test pictures turned gray"
    doing = "turns them gray first"

    def transform(self, images: Pixels) -> Pixels:
        def change(block: Pixels, _: int) -> Pixels:
            # The fixed-point weights that Pillow uses for RGB -> L, so that users can repeat it with any tool.
            red, green, blue = (block[:, channel].astype(np.uint32) for channel in range(3))
            luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
            return luma.astype(np.uint8)[:, None].repeat(3, axis=1)

        return map_blocks(images, change)


def equalized(images: Pixels) -> Pixels:
    """Each channel of each picture with a flat histogram: a value becomes the share of pixels at most as large.

    The darkest value becomes 0 and the brightest 255. Pillow's ``ImageOps.equalize`` counts in whole pixels a level,
    which saturates a third of the values at 32 px, and does nothing below 16 px.

    Args:
        images: uint8 ``[N, 3, R, R]``.
    """
    channels = images.reshape(-1, images.shape[-2] * images.shape[-1])  # [3 N, R R]
    rows = np.arange(len(channels))[:, None]
    counts = np.zeros((len(channels), 256), dtype=np.int64)
    np.add.at(counts, (rows, channels), 1)
    below = counts.cumsum(axis=1)  # [3 N, 256]: pixels at most as large
    first = below[rows, channels.min(axis=1, keepdims=True)]
    scale = 255.0 / np.maximum(channels.shape[1] - first, 1)
    table = np.rint((below - first).clip(0) * scale).astype(np.uint8)
    flat = first[:, 0] == channels.shape[1]  # one value alone has no rank: it stays
    table[flat] = np.arange(256, dtype=np.uint8)
    return table[rows, channels].reshape(images.shape)


class Equalize(Adversary):
    """Histogram equalisation, channel by channel: only the order of the values of a channel is left.

    What brightens, darkens or tints a whole picture, by any increasing curve, is undone up to rounding.
    """

    prefix = "equalize"
    tier = "transforms"
    source = "arXiv 2605.01718 (DUNE), adaptive defences: histogram equalisation"
    description = "the histogram of every channel made flat"
    doing = "equalises their histograms"

    def transform(self, images: Pixels) -> Pixels:
        return map_blocks(images, lambda block, _: equalized(np.asarray(block)))


WHITENED_MEAN, WHITENED_STD = 0.5, 0.22
"""Mean and standard deviation of every channel after whitening, in [0, 1]; 2.3 standard deviations fit."""
_WHITENING_RIDGE = 0.02
"""Added to the eigenvalues of the correlations: in a gray picture colour noise would otherwise fill the range."""


def whitened(batch: Tensor, *, channels: bool = False) -> Tensor:
    """Each channel of each picture at mean 0.5 and standard deviation 0.22; correlations between channels removed.

    Channels are standardised and then multiplied by the inverse root of their correlations (ZCA-cor: of all
    whitenings the one that stays nearest to the channels). What is added to or multiplied with a channel is
    therefore undone exactly.

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1].
        channels: only standardise, and leave the correlations.
    """
    values = batch.flatten(2).double()  # [B, 3, R R]
    values = values - values.mean(dim=2, keepdim=True)
    spread = values.square().mean(dim=2, keepdim=True).sqrt()
    values = values / spread.clamp(min=1e-6)  # of a channel of one value all is zero
    if not channels:
        correlations = values @ values.mT / values.shape[-1]  # [B, 3, 3]
        sizes, axes = torch.linalg.eigh(correlations)
        values = axes @ ((axes.mT @ values) / (sizes[..., None] + _WHITENING_RIDGE).sqrt())
        spread = values.square().mean(dim=2, keepdim=True).sqrt()
        values = values / spread.clamp(min=1e-6)  # what the ridge took
    return (WHITENED_MEAN + WHITENED_STD * values).reshape(batch.shape).to(batch.dtype)


class Whiten(Adversary):
    """Per-picture colour whitening, back in 8 bits. See :func:`whitened`.

    Args:
        parameter: ``channels`` standardises each channel (per-picture channel normalisation) and leaves the
            correlations between them.

    Raises:
        ConfigError: it is another word.
    """

    prefix = "whiten"
    tier = "transforms"
    source = "arXiv 2605.01718 (DUNE), adaptive defences: colour whitening; ZCA-cor of arXiv 1512.00809"
    description = "the colours of every picture whitened (whiten:channels leaves their correlations)"
    variant = one_of("channels")

    @property
    def phrase(self) -> str:
        return f"a trainer who {'whitens their colours' if self.variant is None else 'normalises their channels'}"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: whitened(batch, channels=self.variant == "channels"))


class BitDepth(Adversary):
    """Keeps the highest bits of every value and sets the others to zero, as posterising does.

    Args:
        parameter: number of bits, 1 to 7; 2 where left out.

    Raises:
        ConfigError: it is no whole number in 1..7.
    """

    prefix = "bit-depth"
    tier = "transforms"
    source = "arXiv 2301.13838 (bit depth reduction), 2 bits; arXiv 2308.03258 (APBench)"
    description = "only the highest bits kept (bit-depth:3 sets how many, 2 if left out)"
    bits = whole_number(default=2, least=1, most=7)
    doing = "keeps {self.bits} bits a colour"

    def transform(self, images: Pixels) -> Pixels:
        return images & np.uint8(256 - (1 << (8 - self.bits)))


RANDOM_QUALITIES = (10, 95)
_QUALITY_SEED = 0x1BE9
"""The n-th picture has the same random quality in every arm, in every run."""


def recoded(picture: Pixels, file_format: str, quality: int) -> Pixels:
    """What Pillow reads back of a picture that it wrote, uint8 ``[3, R, R]``."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(stream, format=file_format, quality=quality)
    with Image.open(stream, formats=(file_format,)) as decoded:
        return np.asarray(decoded).transpose(2, 0, 1)


class _Codec(Adversary):
    """Encodes and decodes every picture at the working resolution."""

    tier = "transforms"
    file_format: ClassVar[str]

    @abstractmethod
    def _qualities(self, count: int) -> NDArray[np.int64]:
        """The quality of each picture."""

    def transform(self, images: Pixels) -> Pixels:
        qualities = self._qualities(len(images)).tolist()

        def change(block: Pixels, start: int) -> Pixels:
            rows = zip(block, qualities[start : start + len(block)], strict=True)
            return np.stack([recoded(picture, self.file_format, quality) for picture, quality in rows])

        return map_blocks(images, change)


class Jpeg(_Codec):
    """JPEG compression.

    Args:
        parameter: quality 1..100, 10 where left out, the strength of arXiv 2301.13838; or ``random``: 10 to 95, another
            for every picture.

    Raises:
        ConfigError: the quality is neither ``random`` nor a whole number in 1..100.
    """

    prefix = "jpeg"
    source = "arXiv 2301.13838 (image shortcut squeezing), quality 10"
    description = "compressed as JPEG (jpeg:50 sets the quality, 10 if left out; jpeg:random draws 10 to 95)"
    file_format = "JPEG"
    quality = whole_number(default=10, least=1, most=100)

    def __init__(self, parameter: str | None = None) -> None:
        self.random = parameter == "random"
        super().__init__(None if self.random else parameter)

    @property
    def name(self) -> str:
        return "jpeg:random" if self.random else super().name

    @property
    def phrase(self) -> str:
        quality = "a random quality" if self.random else f"quality {self.quality}"
        return f"a trainer who compresses them to JPEG {quality} first"

    def _qualities(self, count: int) -> NDArray[np.int64]:
        if not self.random:
            return np.full(count, self.quality)
        low, high = RANDOM_QUALITIES
        return np.random.default_rng(_QUALITY_SEED).integers(low, high + 1, count)


class Webp(_Codec):
    """Lossy WebP, which also filters the edges of its blocks.

    Args:
        parameter: quality 1..100; 30 where left out.

    Raises:
        ConfigError: the quality is not a whole number in 1..100.
    """

    prefix = "webp"
    source = "ours, as JPEG in arXiv 2301.13838"
    description = "compressed as WebP (webp:50 sets the quality, 30 if left out)"
    file_format = "WEBP"
    quality = whole_number(default=30, least=1, most=100)
    doing = "compresses them to WebP quality {self.quality} first"

    def _qualities(self, count: int) -> NDArray[np.int64]:
        return np.full(count, self.quality)


class DownUp(Adversary):
    """Shrinks the pictures (bilinear, antialiased) and enlarges them again.

    Args:
        parameter: the scale, 0.1 to 0.95; a half where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "down-up"
    tier = "transforms"
    source = "ours: half the side and back"
    description = "shrunk and enlarged again (down-up:0.75 sets the scale, 0.5 if left out)"
    scale = real_number(default=0.5, least=0.1, most=0.95)

    @property
    def phrase(self) -> str:
        return f"a trainer who shrinks them to {100 * self.scale:g} % and back"

    def transform(self, images: Pixels) -> Pixels:
        side = images.shape[-1]
        small = min(side - 1, max(1, round(self.scale * side)))

        def change(batch: Tensor, _: int) -> Tensor:
            shrunk = F.interpolate(batch, (small, small), mode="bilinear", antialias=True, align_corners=False)
            return F.interpolate(shrunk, (side, side), mode="bilinear", align_corners=False)

        return in_blocks(images, change)


class CenterCropResize(Adversary):
    """Cuts the middle out and enlarges it to the full side (bilinear), which shifts every pixel off its grid.

    Args:
        parameter: side of the part that is kept, 0.5 to 0.98; 0.875 where left out (224 of 256).

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "crop-resize"
    tier = "transforms"
    source = "ours: the crop usual before ImageNet models, enlarged"
    description = "the middle cut out and enlarged (crop-resize:0.75 sets its side, 0.875 if left out)"
    kept = real_number(default=0.875, least=0.5, most=0.98)

    @property
    def phrase(self) -> str:
        return f"a trainer who crops them to {100 * self.kept:g} % and enlarges that"

    def transform(self, images: Pixels) -> Pixels:
        side = images.shape[-1]
        kept = min(side - 1, max(1, round(self.kept * side)))
        first = (side - kept) // 2

        def change(batch: Tensor, _: int) -> Tensor:
            inner = batch[:, :, first : first + kept, first : first + kept]
            return F.interpolate(inner, (side, side), mode="bilinear", align_corners=False)

        return in_blocks(images, change)


_LINEAR_EPOCHS = 20
LINEAR_STEPS = 1000
_LINEAR_BATCH = 1024
_LINEAR_RATE = 0.1


def linear_weights(images: Pixels, labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Weights of a logistic regression without bias, ``[K, 3 R R]``, by gradient descent from zero.

    As in the authors' code: 20 epochs in batches of 1,024 at a learning rate of 0.1, divided by 10 after a half and
    after three quarters, pixels in [0, 1]. Theirs is 980 steps on CIFAR-10; small sets get as many, or the patterns
    would hardly be found.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        labels: int64 ``[N]``.
        classes: K.
    """
    count = len(images)
    order = np.random.default_rng(0).permutation(count)  # pictures come class by class
    batches = [order[start : start + _LINEAR_BATCH] for start in range(0, count, _LINEAR_BATCH)]
    epochs = max(_LINEAR_EPOCHS, -(-LINEAR_STEPS // len(batches)))
    with one_thread("cpu"), torch.no_grad():
        weights = torch.zeros(classes, int(np.prod(images.shape[1:])))
        held = [
            (
                torch.from_numpy(images[rows].reshape(len(rows), -1).astype(np.float32) / 255.0),
                torch.nn.functional.one_hot(torch.from_numpy(labels[rows]), classes).float(),
            )
            for rows in batches
        ]
        for epoch in range(epochs):
            rate = _LINEAR_RATE * 0.1 ** ((epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))
            for pixels, target in held:
                gap = torch.softmax(pixels @ weights.T, dim=1) - target
                weights -= rate / len(pixels) * (gap.T @ pixels)
    return weights.numpy()


def project_out(images: Pixels, weights: NDArray[np.float32]) -> NDArray[np.int16]:
    """The pictures without their part in the span of the weights.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        weights: ``[K, 3 R R]``.

    Returns:
        int16 ``[N, 3, R, R]``: rounded to levels, but not clipped to 0..255, which would put some of it back.
    """
    basis, triangle = np.linalg.qr(weights.T.astype(np.float64))
    size = np.abs(np.diag(triangle))
    basis = basis[:, size > 1e-6 * max(size.max(), 1e-300)].astype(np.float32)  # the weights of K classes sum to zero
    result = np.empty(images.shape, dtype=np.int16)
    for start in range(0, len(images), _LINEAR_BATCH):
        rows = images[start : start + _LINEAR_BATCH].reshape(-1, basis.shape[0]).astype(np.float32)
        result[start : start + _LINEAR_BATCH] = np.rint(rows - (rows @ basis) @ basis.T).reshape(-1, *images.shape[1:])
    return result


class OrthogonalProjection(Adversary):
    """Fits a linear classifier to the training pictures of the arm, and trains on what is left without its weights.

    The same weights are taken out of the test pictures. The authors' code leaves those as they are, and offers this as
    an option; with 1,000 pictures of CIFAR-10 the former leaves 18 % of accuracy on clean pictures and the latter 49 %,
    as much as without projection: the weights also hold the brightness of a picture, which a network misses.
    """

    prefix = "projection"
    tier = "training"
    source = "arXiv 2305.19254, section 5 (orthogonal projection)"
    tests_by_arm = True
    description = "the weights of a linear classifier projected out of the pictures"
    doing = "projects linear patterns out first"

    def compose(self, arm: Arm, material: AttackData) -> tuple[Pixels, NDArray[np.int64] | None]:
        images, rows = super().compose(arm, material)
        return self._project(images, arm, material), rows

    def compose_test(self, arm: Arm, material: AttackData) -> Pixels:
        return self._project(material.pictures("test"), arm, material)

    def _project(self, images: Pixels, arm: Arm, material: AttackData) -> Pixels:
        from threadpoolctl import threadpool_limits

        trained, _ = super().compose(arm, material)
        with threadpool_limits(1):  # sums in one order, so that the pictures are the same on any machine
            weights = linear_weights(trained, material.labels, len(material.classes))
            return project_out(images, weights)  # pyright: ignore[reportReturnType]  # int16, see Adversary.compose
