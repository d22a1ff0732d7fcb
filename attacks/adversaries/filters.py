"""Filters of the pictures, made once before training: local ones, denoisers, displacement, bands of frequencies."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import SetupError
from ..terms import Pixels
from .base import Adversary, real_number, real_range
from .transforms import in_blocks

_KERNEL_REACH = 2.0
"""The kernel reaches so many sigma to each side, at least one pixel."""


class GaussianBlur(Adversary):
    """A blur that blurs.

    The published benchmark uses a 3 x 3 kernel with sigma 0.1, whose weight beside the centre is exp(-50): its column
    is a repeat of the untreated run. Sigma is therefore at least 0.6 here.

    Args:
        parameter: sigma in px at the working resolution, 0.6 to 8; 1 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "blur"
    tier = "transforms"
    source = "arXiv 2308.03258 (APBench), with a sigma that does something"
    description = "Gaussian blur (blur:0.6 sets sigma in pixels, 1 if left out)"
    sigma = real_number(default=1.0, least=0.6, most=8.0)

    @property
    def phrase(self) -> str:
        return f"a trainer who blurs them by {self.sigma:g} {'pixel' if self.sigma == 1 else 'pixels'}"

    def transform(self, images: Pixels) -> Pixels:
        from torchvision.transforms.v2.functional import gaussian_blur

        # Reflection at the border cannot reach further than the picture.
        radius = min(max(1, math.ceil(_KERNEL_REACH * self.sigma)), images.shape[-1] - 1)
        size = 2 * radius + 1
        return in_blocks(images, lambda batch, _: gaussian_blur(batch, [size, size], [self.sigma, self.sigma]))


class Median(Adversary):
    """The median of each 3 x 3 neighbourhood, colour by colour; borders reflected."""

    prefix = "median"
    tier = "transforms"
    source = "arXiv 1704.01155 (feature squeezing), 3 x 3"
    description = "each value replaced by the median of its 3 x 3 neighbourhood"
    doing = "applies a median filter"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: median_of_nine(batch), size=WORKING_BLOCK)


WORKING_BLOCK = 64
"""Pictures of 32 px whose intermediate values stay in the cache of a processor, and are still many a call."""


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The median of three, value by value."""
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def median_of_nine(batch: Tensor) -> Tensor:
    """The median of each 3 x 3 neighbourhood of ``[B, 3, R, R]``, borders reflected.

    The median of nine is that of three: of the largest of the least, of the middle of the middle, and of the least of
    the largest values of the columns. A column is sorted once for all three neighbourhoods that it is a part of.
    """
    side = batch.shape[-1]
    # kornia's median pads with black, which eats the corners of a small picture.
    padded = F.pad(batch, (1, 1, 1, 1), mode="reflect")
    top, middle, bottom = (padded[:, :, y : y + side] for y in range(3))  # [B, 3, R, R + 2]
    least, most = torch.minimum(top, middle), torch.maximum(top, middle)
    ranks = torch.minimum(least, bottom), _middle(top, middle, bottom), torch.maximum(most, bottom)
    least, middle, most = ([rank[..., x : x + side] for x in range(3)] for rank in ranks)
    return _middle(
        torch.maximum(torch.maximum(*least[:2]), least[2]),
        _middle(*middle),
        torch.minimum(torch.minimum(*most[:2]), most[2]),
    )


NLM_PATCH = 1
NLM_SEARCH = 4


def denoise_nlm(batch: Tensor, strength: float, *, patch: int = NLM_PATCH, search: int = NLM_SEARCH) -> Tensor:
    """Weighted mean of the pixels around each, by the likeness of their patches (Buades, Coll, Morel 2005).

    Pictures are the last axis inside, so that what is shifted is still in long runs, and nothing is allocated on the
    way: a third of the time.

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1]; borders are reflected.
        strength: the weight falls to 1/e where patches differ by this much, root mean square over colours and pixels.
        patch: a patch is ``2 patch + 1`` px wide.
        search: and is looked for up to this many px away along each axis.
    """
    side = batch.shape[-1]
    search = min(search, side - 1)
    images = batch.permute(1, 2, 3, 0).contiguous()  # [3, R, R, B]
    padded = F.pad(batch, (search,) * 4, mode="reflect").permute(1, 2, 3, 0).contiguous()
    total, moved = torch.zeros_like(images), torch.empty_like(images)
    weights, weight = torch.zeros_like(images[0]), torch.empty_like(images[0])  # [R, R, B]

    def places_in_patch(framed: Tensor) -> list[Tensor]:
        """The values ``[R, R, ...]`` at each place of the patches of ``[R + 2 patch, R + 2 patch, ...]``."""
        width = range(2 * patch + 1)
        return [framed[y : y + side, x : x + side] for y in width for x in width]

    # Patches at the border are averaged over what of them lies inside.
    framed = images.new_zeros(side + 2 * patch, side + 2 * patch, len(batch))
    inside = framed[patch : patch + side, patch : patch + side]
    inside.fill_(1.0)
    counts = torch.stack(places_in_patch(framed)).sum(0)
    apart = places_in_patch(framed)
    for y in range(2 * search + 1):
        for x in range(2 * search + 1):
            shifted = padded[:, y : y + side, x : x + side]
            torch.sub(shifted, images, out=moved).mul_(moved)
            torch.add(moved[0], moved[1], out=weight).add_(moved[2])
            torch.div(weight, 3.0, out=inside)  # the mean square of the colours
            weight.copy_(apart[0])
            for values in apart[1:]:
                weight.add_(values)
            weight.div_(counts).mul_(-1.0 / strength**2).exp_()
            total.add_(torch.mul(shifted, weight, out=moved))
            weights.add_(weight)
    return total.div_(weights).permute(3, 0, 1, 2)


class NonLocalMeans(Adversary):
    """Non-local means on all three colours together.

    Args:
        parameter: strength in levels of 255, 1 to 100; 12 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "nlm"
    tier = "training"
    source = "Buades, Coll, Morel 2005, A non-local algorithm for image denoising (CVPR)"
    description = "non-local means denoising (nlm:8 sets the strength in levels, 12 if left out)"
    levels = real_number(default=12.0, least=1.0, most=100.0)
    doing = "denoises them by non-local means"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: denoise_nlm(batch, self.levels / 255.0), size=WORKING_BLOCK)


TV_ITERATIONS = 60
_TV_STEP = 0.25


def denoise_tv(batch: Tensor, weight: float, *, iterations: int = TV_ITERATIONS) -> Tensor:
    """The minimiser u of ``|u - batch|^2 / 2 + weight * TV(u)``, each colour by itself.

    Chambolle's dual projection (2004, section 3.1), for all pictures at once, in place and on one long row of pixels.
    Its step never leaves a picture: what points to the right from a last column, or down from a last row, is zero.

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1].
        weight: of the total variation; larger is smoother.
        iterations: of the projection; its step is 1/4, which converges.
    """
    side = batch.shape[-1]
    given = batch.flatten()  # [B 3 R R]
    result, scale = given.clone(), torch.empty_like(given)
    p, gradient = given.new_zeros(2, len(given)), given.new_zeros(2, len(given))  # down and right
    last_rows, last_columns = gradient[0].view(batch.shape)[:, :, -1], gradient[1].view(batch.shape)[..., -1]
    for _ in range(iterations):
        torch.sub(result[side:], result[:-side], out=gradient[0, :-side])
        torch.sub(result[1:], result[:-1], out=gradient[1, :-1])
        last_rows.zero_()
        last_columns.zero_()
        torch.mul(gradient[0], gradient[0], out=scale)
        scale.add_(torch.mul(gradient[1], gradient[1], out=result)).sqrt_()  # the norm of the gradient
        scale.mul_(_TV_STEP / weight).add_(1.0)
        p.sub_(gradient, alpha=_TV_STEP).div_(scale)
        # Minus the divergence of p, the adjoint of the gradient above.
        torch.add(p[0], p[1], out=result).neg_()
        result[side:].add_(p[0, :-side])
        result[1:].add_(p[1, :-1])
        result.add_(given)
    return result.view(batch.shape)


class TotalVariation(Adversary):
    """Total-variation denoising (Rudin, Osher, Fatemi 1992).

    Args:
        parameter: weight of the total variation, 0.005 to 1; 0.1 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "tv"
    tier = "training"
    source = "arXiv 1711.00117 (total variation against perturbations); Chambolle 2004"
    description = "total-variation denoising (tv:0.05 sets the weight, 0.1 if left out)"
    weight = real_number(default=0.1, least=0.005, most=1.0)
    doing = "denoises them by total variation"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: denoise_tv(batch, self.weight), size=WORKING_BLOCK)


_COIN_SEED = 0xC01


def offsets(number: int, side: int, reach: float) -> NDArray[np.float32]:
    """Where the pixels of the ``number``-th picture come from, float32 ``[2, side, side]``: (down, right) in px.

    Uniform in ``[-reach, reach]``, each pixel for itself. They depend on the number alone: the same in every arm.
    """
    drawn = np.random.default_rng([_COIN_SEED, number]).uniform(-reach, reach, (2, side, side))
    return drawn.astype(np.float32)


class Coin(Adversary):
    """Random displacement of every pixel with bilinear interpolation (COIN).

    As in the paper every pixel has a displacement of its own and the three colours move together. The authors' code
    draws anew whenever a picture is trained on, leaves the test pictures as they are, and lets what leaves a picture
    come in on the other side. Here it is done once, with training and test pictures, as all transforms are, and what
    lies outside is taken from the border.

    Args:
        parameter: the largest displacement along each axis in px at the working resolution, 0.25 to 8; 2 where left
            out, as in the paper.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "coin"
    tier = "transforms"
    source = "arXiv 2311.18403 (COIN), alpha = 2"
    description = "each pixel interpolated at a random place nearby (coin:1 sets how far in pixels, 2 if left out)"
    reach = real_number(default=2.0, least=0.25, most=8.0)
    doing = "displaces every pixel by up to {self.reach:g} px"

    def transform(self, images: Pixels) -> Pixels:
        side = images.shape[-1]
        span = torch.arange(side, dtype=torch.float32)

        def change(batch: Tensor, start: int) -> Tensor:
            moved = np.stack([offsets(start + row, side, self.reach) for row in range(len(batch))])
            down, right = torch.from_numpy(moved).unbind(1)
            places = torch.stack([span + right, span[:, None] + down], dim=-1)  # [B, R, R, 2], x before y
            grid = places * (2 / max(1, side - 1)) - 1
            return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=True)

        return in_blocks(images, change)


def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II ``[side, side]``: row k holds the k-th cosine, and the transpose is the inverse."""
    points = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (points[None, :] + 0.5) * points[:, None]) * math.sqrt(2.0 / side)
    matrix[0] /= math.sqrt(2.0)
    return matrix.float()


def low_pass(batch: Tensor, kept: int) -> Tensor:
    """Pictures ``[B, 3, R, R]`` with only the ``kept`` lowest frequencies of the DCT along each axis."""
    rows = dct_matrix(batch.shape[-1])[:kept]
    projector = rows.T @ rows
    return projector @ batch @ projector


SHARPENING = (0.5, 1.5)
_SHARPEN_SEED = 0x45B


class SharpenLowPass(Adversary):
    """Sharpens each picture with a 3 x 3 kernel of random strength, then drops the highest frequencies of its DCT.

    After "random sharpening kernels and frequency filtering" (arXiv 2411.01742), which recovers pictures protected by a
    class-wise blur. The n-th picture has the same strength, 0.5 to 1.5, in every arm.

    Args:
        parameter: share of the frequencies kept along each axis, 0.1 to 1; a half where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "sharpen-lowpass"
    tier = "transforms"
    source = "after arXiv 2411.01742 (random sharpening kernels, frequency filtering)"
    description = "sharpened at random, high frequencies dropped (sharpen-lowpass:0.6 sets the share kept, 0.5)"
    share = real_number(default=0.5, least=0.1, most=1.0)
    doing = "sharpens them and drops high frequencies"

    def transform(self, images: Pixels) -> Pixels:
        strengths = torch.from_numpy(
            np.random.default_rng(_SHARPEN_SEED).uniform(*SHARPENING, len(images)).astype(np.float32)
        )
        kept = max(1, round(self.share * images.shape[-1]))

        def change(batch: Tensor, start: int) -> Tensor:
            mean = F.avg_pool2d(F.pad(batch, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
            strength = strengths[start : start + len(batch), None, None, None]
            return low_pass((batch + strength * (batch - mean)).clamp(0, 1), kept)

        return in_blocks(images, change)


MIN_CYCLES, MAX_CYCLES = 0.5, 512.0
"""A DCT has steps of half a cycle; no picture we work on has more than 512 cycles to a side."""


def frequencies(side: int) -> Tensor:
    """Frequencies of the coefficients along an axis of a DCT, float32 ``[side]``, in cycles per picture.

    The k-th cosine makes k / 2 cycles from one edge of the picture to the other.
    """
    return torch.arange(side, dtype=torch.float32) / 2


_HALF_A_CYCLE = 0.5


class _Spectral(Adversary):
    """Keeps some coefficients of the DCT of each colour, and drops the others.

    A DCT sees the picture continued by its mirror image: unlike in an FFT the left edge does not meet the right one,
    so that nothing rings along the borders. Brightness (0 cycles) always stays. All three colours are treated alike,
    and with them luminance and chroma.
    """

    tier = "transforms"

    @abstractmethod
    def _kept(self, down: Tensor, across: Tensor) -> Tensor:
        """Which coefficients stay, bool, by their frequencies over the height and the width, in cycles per picture."""

    def _mask(self, side: int) -> Tensor:
        cycles = frequencies(side)
        return self._kept(cycles[:, None], cycles[None, :])

    def check(self, resolution: int) -> str | None:
        if bool(self._mask(resolution).all()):
            # A preset goes on without it: no ConfigError, which would end the verification.
            raise SetupError(f"{self.name} changes nothing: pictures of {resolution} px have no such frequencies.")
        return None

    def transform(self, images: Pixels) -> Pixels:
        side = images.shape[-1]
        cosines, kept = dct_matrix(side), self._mask(side).float()
        return in_blocks(images, lambda batch, _: cosines.T @ ((cosines @ batch @ cosines.T) * kept) @ cosines)


class LowPass(_Spectral):
    """Keeps the frequencies up to a radius.

    Args:
        parameter: the radius in cycles per picture, 0.5 to 512; 8 where left out, which is half of what 32 px can hold
            along an axis. It does not depend on the working resolution: 8 cycles are a wave of 4 px at 32 px, and of
            28 px at 224 px.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "lowpass"
    source = "arXiv 2606.26719 (FUSE: protections fail after a low-pass); the radial DCT filter is ours"
    description = "only low frequencies kept (lowpass:5 sets the limit in cycles per picture, 8 if left out)"
    radius = real_number(default=8.0, least=MIN_CYCLES, most=MAX_CYCLES)
    doing = "keeps only waves of up to {self.radius:g} cycles per picture"

    def _kept(self, down: Tensor, across: Tensor) -> Tensor:
        return torch.hypot(down, across) <= self.radius


class BandStop(_Spectral):
    """Drops the frequencies between two radii, both included.

    The adaptive adversary of textures: who knows the method knows the band it writes in, and needs no key to empty it.

    Args:
        parameter: the radii in cycles per picture, ``A-B`` with 0.5 <= A < B <= 512; ``2-8`` where left out, in
            which the textures of up to ten classes lie.

    Raises:
        ConfigError: it is no such pair.
    """

    prefix = "bandstop"
    source = "ours: adaptive, knows the band of a method and not its key"
    description = "a band of frequencies removed (bandstop:4-9 sets it in cycles per picture, 2-8 if left out)"
    band = real_range(default=(2.0, 8.0), least=MIN_CYCLES, most=MAX_CYCLES)
    doing = "removes waves of {self.band[0]:g} to {self.band[1]:g} cycles per picture"

    def _kept(self, down: Tensor, across: Tensor) -> Tensor:
        radius = torch.hypot(down, across)
        return (radius < self.band[0]) | (radius > self.band[1])


class Destripe(_Spectral):
    """Drops what runs in one direction as straight stripes do, and in the direction across it.

    The adaptive adversary of waves of few directions. Without a tilt it takes the mean of every row and every column
    out of each picture, but for the picture's own mean: an old way to rid scans and satellite pictures of stripes.

    Args:
        parameter: the direction, in degrees from level or upright, 0 to 45, to both sides; 0 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "destripe"
    source = "ours: adaptive, knows the directions of a method and not its key"
    description = (
        "level and upright stripes removed (destripe:15 sets by how many degrees they are tilted, 0 if left out)"
    )
    degrees = real_number(default=0.0, least=0.0, most=45.0)

    @property
    def phrase(self) -> str:
        tilted = f", tilted by {self.degrees:g} degrees" if self.degrees else ""
        return f"a trainer who removes level and upright stripes{tilted}"

    def _kept(self, down: Tensor, across: Tensor) -> Tensor:
        sine, cosine = math.sin(math.radians(self.degrees)), math.cos(math.radians(self.degrees))
        # Stripes over the whole picture fill half a cycle to either side of a line through the origin. A DCT folds the
        # two signs of a tilt onto one.
        beside = torch.minimum((across * sine - down * cosine).abs(), (across * cosine - down * sine).abs())
        return (beside >= _HALF_A_CYCLE) | (torch.hypot(down, across) == 0)
