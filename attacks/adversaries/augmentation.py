"""Stronger augmentation while training, the same for every arm: each adversary behind the objective it trains with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates.arithmetic import generator_on, seeded
from .base import Adversary, check_kornia, one_of, real_number
from .learning import Learner, PlainTraining

if TYPE_CHECKING:
    from torchvision.transforms.v2 import TrivialAugmentWide


def boxes(rows: Tensor, columns: Tensor, sides: Tensor, side: int) -> Tensor:
    """Which pixels lie in a square about a centre, bool ``[B, 1, side, side]``; what sticks out is cut off.

    Args:
        rows, columns: centres int64 ``[B]``.
        sides: int64 ``[B]``; a square of side s covers ``centre - s // 2 .. centre - s // 2 + s - 1``.
        side: of the pictures.
    """
    span = torch.arange(side, device=rows.device)

    def inside(centre: Tensor) -> Tensor:
        first = (centre - sides // 2)[:, None]
        return (span >= first) & (span < first + sides[:, None])

    return (inside(rows)[:, :, None] & inside(columns)[:, None, :])[:, None]


def _centres(count: int, side: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    rows, columns = torch.randint(side, (2, count), generator=draw, device=draw.device)
    return rows, columns


@dataclass(frozen=True)
class CutoutObjective:
    """A black square in every picture (arXiv 1708.04552).

    Attributes:
        share: its side relative to the picture's: 16 of 32 px.
    """

    share: float = 0.5

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        side = batch.shape[-1]
        rows, columns = _centres(len(batch), side, generator_on(batch.device, generator))
        sides = torch.full_like(rows, max(1, round(self.share * side)))
        logits = model(batch.masked_fill(boxes(rows, columns, sides, side), 0.0)).float()
        return F.cross_entropy(logits, target), logits


class Cutout(Adversary):
    """A black square at a random place in every picture of every batch.

    Args:
        parameter: its side relative to the picture's, 0.1 to 0.9; a half where left out, as 16 of 32 px.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "cutout"
    tier = "training"
    source = "arXiv 1708.04552; arXiv 2308.03258 (APBench)"
    description = "trained with a black square in every picture (cutout:0.25 sets its side, 0.5 if left out)"
    share = real_number(default=0.5, least=0.1, most=0.9)
    doing = "augments with cutout"

    def learner(self) -> Learner:
        return PlainTraining(CutoutObjective(self.share))


def _mixed_loss(logits: Tensor, target: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy with two labels a picture; ``weight`` float ``[B]`` is that of the first."""
    losses = F.cross_entropy(logits, target, reduction="none"), F.cross_entropy(logits, other, reduction="none")
    return (weight * losses[0] + (1 - weight) * losses[1]).mean()


@dataclass(frozen=True)
class MixupObjective:
    """Each picture blended with another one, labels in the same proportion (arXiv 1710.09412).

    The proportion is uniform in [0, 1], Beta(1, 1), and drawn for every picture.
    """

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        draw = generator_on(batch.device, generator)
        weight = torch.rand(len(batch), generator=draw, device=draw.device)
        order = torch.randperm(len(batch), generator=draw, device=draw.device)
        blended = torch.lerp(batch[order], batch, weight[:, None, None, None])
        logits = model(blended.contiguous(memory_format=torch.channels_last)).float()
        return _mixed_loss(logits, target, target[order], weight), logits


class Mixup(Adversary):
    """Every picture blended with another one of the batch, labels alike."""

    prefix = "mixup"
    tier = "training"
    source = "arXiv 1710.09412; arXiv 2308.03258 (APBench)"
    description = "trained on blends of two pictures"
    doing = "augments with mixup"

    def learner(self) -> Learner:
        return PlainTraining(MixupObjective())


@dataclass(frozen=True)
class CutMixObjective:
    """A square of another picture in each, labels in proportion to the area (arXiv 1905.04899), which is uniform."""

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        side, draw = batch.shape[-1], generator_on(batch.device, generator)
        kept = torch.rand(len(batch), generator=draw, device=draw.device)
        sides = ((1 - kept).sqrt() * side).long()
        rows, columns = _centres(len(batch), side, draw)
        order = torch.randperm(len(batch), generator=draw, device=draw.device)
        box = boxes(rows, columns, sides, side)
        weight = 1 - box.float().mean(dim=(1, 2, 3))  # what is left after cutting off, not what was drawn
        pasted = torch.where(box, batch[order], batch).contiguous(memory_format=torch.channels_last)
        logits = model(pasted).float()
        return _mixed_loss(logits, target, target[order], weight), logits


class CutMix(Adversary):
    """A square of another picture of the batch in every picture, labels by area."""

    prefix = "cutmix"
    tier = "training"
    source = "arXiv 1905.04899; arXiv 2308.03258 (APBench)"
    description = "trained with a square of another picture in each"
    doing = "augments with CutMix"

    def learner(self) -> Learner:
        return PlainTraining(CutMixObjective())


def _sampled(batch: Tensor, across: list[Tensor], down: list[Tensor]) -> Tensor:
    """Pictures ``[B, 3, R, R]``, each through an affine map (two rows of three ``[B]``); bilinear, mirrored outside."""
    maps = torch.stack([torch.stack(across, 1), torch.stack(down, 1)], 1)
    grid = F.affine_grid(maps, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def rotated(batch: Tensor, degrees: Tensor) -> Tensor:
    """Pictures ``[B, 3, R, R]`` turned counter-clockwise about their middle, bilinear; corners reflect the inside.

    Args:
        degrees: one angle a picture, float ``[B]``.
    """
    angles = degrees * (math.pi / 180)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return _sampled(batch, [cosine, -sine, zero], [sine, cosine, zero])


@dataclass(frozen=True)
class RotateObjective:
    """Each picture turned by an angle of its own, drawn anew in every step, after flip and crop.

    Attributes:
        degrees: the largest angle, to either side; angles are uniform.
    """

    degrees: float = 30.0

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        draw = generator_on(batch.device, generator)
        angles = self.degrees * (2 * torch.rand(len(batch), generator=draw, device=draw.device) - 1)
        logits = model(rotated(batch, angles).contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, target), logits


class Rotate(Adversary):
    """A random rotation about the middle in every picture of every batch; corners are filled by reflection.

    Args:
        parameter: the largest angle in degrees, 1 to 180, to either side; 30 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "rotate"
    tier = "training"
    source = "ours: rotation as augmentation; UEraser (arXiv 2303.15127) has it among others"
    description = "trained on pictures rotated at random (rotate:15 sets the largest angle in degrees, 30 if left out)"
    degrees = real_number(default=30.0, least=1.0, most=180.0)
    doing = "rotates them by up to {self.degrees:g} degrees"

    def learner(self) -> Learner:
        return PlainTraining(RotateObjective(self.degrees))


def resized_crops(batch: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """A rectangle out of each picture ``[B, 3, R, R]``, enlarged to the whole of it, bilinear.

    As torchvision's RandomResizedCrop draws it: its area uniform between ``least`` and 1 of the picture's, the
    logarithm of its width over its height uniform between 3 to 4 and 4 to 3, at a place where it fits. A side that
    would be longer than the picture's is that of the picture, and the area smaller, but not below 0.75; torchvision
    draws anew.
    """
    draw = generator_on(batch.device, generator)
    draws = torch.rand(4, len(batch), generator=draw, device=draw.device)
    area = least + (1 - least) * draws[0]
    ratio = ((2 * draws[1] - 1) * math.log(4 / 3)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    zero = torch.zeros_like(width)
    aside, below = (2 * draws[2] - 1) * (1 - width), (2 * draws[3] - 1) * (1 - height)  # of the middle
    return _sampled(batch, [width, zero, aside], [zero, height, below])


@dataclass(frozen=True)
class ResizedCropObjective:
    """Another rectangle of each picture in every step, enlarged to its size, after flip and crop.

    Attributes:
        least: its smallest area, as a share of the picture's.
    """

    least: float = 0.25

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        crops = resized_crops(batch, self.least, generator)
        logits = model(crops.contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, target), logits


class ResizedCrop(Adversary):
    """A random rectangle of every picture, enlarged: what training on photographs does by habit.

    Args:
        parameter: the smallest area as a share of the picture's, 0.05 to 0.75; 0.25 where left out. Recipes for
            ImageNet start at 0.08, which at 32 px leaves nine pixels a side.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "resized-crop"
    tier = "training"
    source = "arXiv 1409.4842, section 6; torchvision's RandomResizedCrop"
    description = (
        "trained on random parts of the pictures, enlarged (resized-crop:0.08 sets the least area, 0.25 if left out)"
    )
    least = real_number(default=0.25, least=0.05, most=0.75)

    @property
    def phrase(self) -> str:
        return f"a trainer who enlarges random parts of them, down to {100 * self.least:.0f} % of the area"

    def learner(self) -> Learner:
        return PlainTraining(ResizedCropObjective(self.least))


TRIVIAL_AUGMENT_GROUP = 8


@lru_cache(maxsize=2)
def _trivial_augment_wide(host: bool) -> TrivialAugmentWide:
    """Torchvision's on the host. On a device its warps and its sharpening copy a few numbers there in every call, which
    makes the device wait: there they are done here, with the numbers in the kernels' arguments."""
    from torchvision.transforms.v2 import TrivialAugmentWide

    if host:
        return TrivialAugmentWide()

    class OnDevice(TrivialAugmentWide):
        def _apply_image_or_video_transform(
            self, image: Any, transform_id: str, magnitude: float, interpolation: Any, fill: Any
        ) -> Any:
            if transform_id in _WARPS:
                return warped(image, *_WARPS[transform_id](magnitude))
            if transform_id == "Sharpness":
                return sharpened(image, 1.0 + magnitude)
            return super()._apply_image_or_video_transform(image, transform_id, magnitude, interpolation, fill)

    return OnDevice()


Row = tuple[float, float, float]
"""Of an affine map: factors of x and of y in px from the middle of the picture, and a shift in px."""


def _turn(degrees: float) -> tuple[Row, Row, bool]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cosine, -sine, 0.0), (sine, cosine, 0.0), True


_WARPS: dict[str, Callable[[float], tuple[Row, Row, bool]]] = {
    "ShearX": lambda slope: ((1.0, slope, 0.0), (0.0, 1.0, 0.0), False),
    "ShearY": lambda slope: ((1.0, 0.0, 0.0), (slope, 1.0, 0.0), False),
    "TranslateX": lambda pixels: ((1.0, 0.0, -float(int(pixels))), (0.0, 1.0, 0.0), True),
    "TranslateY": lambda pixels: ((1.0, 0.0, 0.0), (0.0, 1.0, -float(int(pixels))), True),
    "Rotate": _turn,
}
"""Where each place of the result is looked up, and whether places count from the middle or from the upper left corner,
which torchvision's shears leave where it is."""


def warped(levels: Tensor, across: Row, down: Row, centred: bool = True) -> Tensor:
    """Pictures uint8 ``[B, 3, R, R]`` through one affine map, nearest pixels, black outside, as torchvision has it."""
    side = levels.shape[-1]
    middle = (side - 1) / 2
    places = torch.arange(side, device=levels.device) - middle
    offset = 0.0 if centred else side / 2  # of the fixed point
    x, y = (places + offset)[None, :], (places + offset)[:, None]
    found = [row[0] * x + row[1] * y + (row[2] - offset) for row in (across, down)]
    grid = torch.stack(torch.broadcast_tensors(*found), dim=-1) / (side / 2)
    result = F.grid_sample(
        levels.float(), grid.expand(len(levels), -1, -1, -1), mode="nearest", padding_mode="zeros", align_corners=False
    )
    return result.round_().to(torch.uint8)


def sharpened(levels: Tensor, factor: float) -> Tensor:
    """Pictures uint8 ``[B, 3, R, R]`` blended with, or away from, their 3 x 3 means, in which the middle counts five
    times; the border stays. As torchvision has it."""
    if levels.shape[-1] <= 2:
        return levels
    result = levels.float()
    inside = result[..., 1:-1, 1:-1]
    blurred = (F.avg_pool2d(result, 3, stride=1) * (9 / 13) + inside * (4 / 13)).round_()
    inside.add_(blurred.sub_(inside), alpha=1.0 - factor)
    return result.clamp_(0, 255).to(torch.uint8)


@torch.no_grad()
def trivial_augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One random operation of random strength on every eight pictures (torchvision's TrivialAugmentWide).

    The paper draws for every picture; a group is as good over a training, and eight times as fast.
    """
    levels = batch.mul(255.0).round().clamp(0, 255).to(torch.uint8)
    with seeded(generator, batch.device):
        change = _trivial_augment_wide(batch.device.type == "cpu")
        levels = torch.cat([change(group) for group in levels.split(TRIVIAL_AUGMENT_GROUP)])
    return levels.float().mul_(1.0 / 255.0).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrivialAugmentObjective:
    """TrivialAugment (arXiv 2103.10158) after flip and crop."""

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        logits = model(trivial_augment(batch, generator)).float()
        return F.cross_entropy(logits, target), logits


class TrivialAugment(Adversary):
    """A random operation (colour, contrast, shear, ...) of random strength."""

    prefix = "trivial-augment"
    tier = "training"
    source = "arXiv 2103.10158"
    description = "trained with one random operation of random strength on each picture"
    doing = "augments with TrivialAugment"

    def learner(self) -> Learner:
        return PlainTraining(TrivialAugmentObjective())


UERASER_JPEG_QUALITY = 10.0


@lru_cache(maxsize=1)
def _ueraser_colours() -> nn.Module:
    """The settings of the authors' code (lafeat/ueraser).

    kornia draws on the CPU, and copies without waiting. Told to draw on a GPU it copies its kernels there in each step,
    and waits.
    """
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomPlasmaBrightness(roughness=(0.3, 0.7), intensity=(0.5, 1.0), same_on_batch=False, p=0.5, keepdim=True),
        K.RandomPlasmaContrast(roughness=(0.3, 0.7), p=0.5),
        K.RandomChannelShuffle(same_on_batch=False, p=0.5, keepdim=True),
    )


@torch.no_grad()
def strong_augment(batch: Tensor, generator: torch.Generator, *, jpeg: bool = False) -> Tensor:
    """Plasma brightness and contrast, channels shuffled, TrivialAugment, and if asked for JPEG 10; in [0, 1]."""
    with seeded(generator, batch.device):
        changed = _ueraser_colours()(batch).clamp(0, 1)
    changed = trivial_augment(changed, generator)
    if jpeg:
        from kornia.enhance import jpeg_codec_differentiable

        # kornia codes whole blocks of 16 pixels.
        side = changed.shape[-1]
        padded = F.pad(changed, (0, -side % 16, 0, -side % 16), mode="replicate")
        quality = torch.full((len(batch),), UERASER_JPEG_QUALITY)  # on the host, where kornia reads it
        changed = jpeg_codec_differentiable(padded, quality)[:, :, :side, :side].clamp(0, 1)
    return changed.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class UEraserObjective:
    """Of several augmented versions of a picture, the one with the largest loss; later in the training, just one.

    The published code computes the gradient of all versions and uses that of the worst. Here the worst is found
    without gradient and trained on, which costs half.

    Attributes:
        versions: K; the paper's is 5.
        worst_until: share of the training in which the worst is looked for; the paper's UEraser is a quarter (50 of 200
            epochs), its UEraser-max 1.
        jpeg: whether each version is compressed as well.
    """

    versions: int = 5
    worst_until: float = 0.25
    jpeg: bool = False

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        if progress >= self.worst_until:
            logits = model(strong_augment(batch, generator, jpeg=self.jpeg)).float()
            return F.cross_entropy(logits, target), logits
        worst = batch
        most = torch.full((len(batch),), -torch.inf, device=batch.device)
        with torch.no_grad():
            for _ in range(self.versions):
                changed = strong_augment(batch, generator, jpeg=self.jpeg)
                losses = F.cross_entropy(model(changed).float(), target, reduction="none")
                worse = losses > most
                worst = torch.where(worse[:, None, None, None], changed, worst)
                most = torch.where(worse, losses, most)
        logits = model(worst.contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, target), logits


class UEraser(Adversary):
    """Trains on the worst of five strongly augmented versions for a quarter of the time, then on one of them.

    ``ueraser:max`` looks for the worst to the end. That is the strongest row of the published benchmark, but small
    victims on 1,000 pictures learn little under it in our short trainings (17 % on clean CIFAR-10), and what does not
    learn the clean pictures proves nothing.

    The published benchmark picks a variant with JPEG for two methods, which tells the trainer the method; and in its
    code the compressed pictures are then not used. Here the variant is part of the name.

    Args:
        parameter: ``max``, see above; ``jpeg`` compresses each version to quality 10 as well; ``max-jpeg`` does both.

    Raises:
        ConfigError: it is another word.
    """

    prefix = "ueraser"
    tier = "training"
    source = "arXiv 2303.15127, K = 5"
    description = "trained on the worst of five strong augmentations (ueraser:max to the end, ueraser:jpeg)"
    cost = 3.0
    variant = one_of("max", "jpeg", "max-jpeg")

    @property
    def phrase(self) -> str:
        return f"a trainer who uses UEraser{'' if self.variant is None else f' ({self.variant})'}"

    def check_packages(self) -> None:
        """Make sure that kornia, which it augments with, is installed."""
        check_kornia(self.name)

    def learner(self) -> Learner:
        words = (self.variant or "").split("-")
        return PlainTraining(UEraserObjective(worst_until=1.0 if "max" in words else 0.25, jpeg="jpeg" in words))
