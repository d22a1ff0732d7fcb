"""What the report shows of pictures: separability and spectrum of the change, the mix curve, and a few to look at.

Separability is what a linear classifier sees: the class in the change alone, which is why such protection works at all
(arXiv 2111.00898) and why projection undoes it (arXiv 2305.19254); and which of two pictures is the copy, which is how
easily a trainer finds out that pictures are protected. The spectrum says which spatial frequencies the change lives at:
coarse patterns survive scaling, fine ones go with the first JPEG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...imaging import decode, difference_tile, png_data_uri, thumbnail
from ..data import StealthFile, noise_arm
from ..data.checking import chosen_names
from ..facts import Separability, Spectrum
from ..schema import Condition, MixPoint
from ..terms import Pixels

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeClassifier

MOST_PICTURES = 1000
"""So many training pictures at most, chosen by a hash of their names."""

_MOST_VALUES = 50_000_000
"""Of larger pictures fewer are looked at for separability, so that the memory for it stays below a gigabyte."""

# Ridge, as a share of the mean square of all values together: pictures are as many as pixels or fewer.
_CLASS_RIDGE = 0.1
_COPY_RIDGE = 0.001

_CHUNK = 64
"""Pictures that are transformed at a time."""

LOW_FREQUENCY = 0.25
"""In cycles a pixel: what lies below it, halving the picture would keep."""

Changes = NDArray[np.float32]
Power = NDArray[np.float64]


class Pictures(Protocol):
    """The pictures that a report is about."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Identity of each training picture."""
        ...

    @property
    def clean(self) -> NDArray[np.uint8]:
        """Training pictures at the working resolution, uint8 ``[N, 3, R, R]``."""
        ...

    @property
    def protected(self) -> NDArray[np.uint8]:
        """The same as published."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """Their classes, int64 ``[N]``; all 0 where there are none."""
        ...

    @property
    def noise_levels(self) -> float:
        """Amplitude of the control noise in 1/255."""
        ...

    @property
    def budget_levels(self) -> float | None:
        """The bound that was promised, in 1/255, if it is known."""
        ...

    @property
    def files(self) -> Sequence[StealthFile]:
        """How far each copy is from its original, at full size."""
        ...

    @property
    def roots(self) -> tuple[Path, Path] | None:
        """The folders CLEAN and PROTECTED; ``None`` for sets in memory."""
        ...


@dataclass(frozen=True)
class Sample:
    """Training pictures at the working resolution, the same ones in every array.

    Attributes:
        clean, protected, noisy: uint8 ``[N, 3, R, R]``; noisy ones are those of the control.
        labels: int64 ``[N]``.
    """

    clean: NDArray[np.uint8]
    protected: NDArray[np.uint8]
    noisy: NDArray[np.uint8]
    labels: NDArray[np.int64]


def choose_sample(data: Pictures, *, seed: int) -> Sample:
    """Take them.

    Args:
        data: the pictures.
        seed: of the control noise.
    """
    chosen = chosen_names(data.keys, MOST_PICTURES)
    rows = np.array([row for row, key in enumerate(data.keys) if key in chosen], dtype=np.int64)[:MOST_PICTURES]
    clean = data.clean[rows]
    noisy = noise_arm(clean, [data.keys[row] for row in rows], data.noise_levels, seed=seed)
    return Sample(clean, data.protected[rows], noisy, data.labels[rows])


def measure_separability(sample: Sample, *, seed: int) -> Separability | None:
    """Both questions, for the protected pictures and for the control; ``None`` where nothing was changed."""
    most = max(1, _MOST_VALUES * len(sample.labels) // max(1, sample.clean.size))
    rows = np.sort(np.random.default_rng(seed).permutation(len(sample.labels))[:most])
    clean, protected, noisy = (version[rows] for version in (sample.clean, sample.protected, sample.noisy))
    labels = sample.labels[rows]
    change, control = _change(clean, protected), _change(clean, noisy)
    if not change.any():
        return None
    return Separability(
        pictures=len(labels),
        class_from_change=class_from_change(change, labels, seed=seed),
        class_from_noise=class_from_change(control, labels, seed=seed) if control.any() else None,
        chance=1 / max(1, len(np.unique(labels[_repeated(labels)]))),
        copy_auc=copy_from_original(clean, protected, seed=seed),
        noise_auc=copy_from_original(clean, noisy, seed=seed) if control.any() else None,
    )


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Changes:
    return (after.astype(np.float32) - before).reshape(len(before), -1)


def class_from_change(change: Changes, labels: NDArray[np.int64], *, seed: int) -> float | None:
    """How often the class is told from the change, by classifiers that were fitted to the other half of the pictures.

    Args:
        change: after minus before, ``[N, D]``.
        labels: ``[N]``.
        seed: of the halves.

    Returns:
        The mean over the classes of the accuracy within each; ``None`` where fewer than two classes have two pictures.
    """
    kept = _repeated(labels)
    if len(np.unique(labels[kept])) < 2:
        return None
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    values, labels = change[kept], labels[kept]
    values = values / max(float(np.sqrt(np.mean(np.square(values)))), 1e-6)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed % 2**32)
    told = cross_val_predict(_ridge(_CLASS_RIDGE, values.shape[1]), values, labels, cv=halves)
    return float(np.mean([(told[labels == label] == label).mean() for label in np.unique(labels)]))


def _repeated(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures are not the only one of their class: each half needs one."""
    return np.bincount(labels)[labels] >= 2


def copy_from_original(before: NDArray[np.uint8], after: NDArray[np.uint8], *, seed: int) -> float | None:
    """How well copies are told from originals: the area under the ROC curve, mean of two halves.

    Both versions of a picture are in one half, and each half is judged by a classifier fitted to the other.

    Returns:
        0.5 is guessing, 1 is always; ``None`` with fewer than four pictures.
    """
    if len(before) < 4:
        return None
    from sklearn.metrics import roc_auc_score

    half = np.random.default_rng(seed).permutation(len(before)) % 2
    values = np.concatenate([before, after]).reshape(2 * len(before), -1).astype(np.float32) / 127.5 - 1
    copies, half = np.repeat([0, 1], len(before)), np.tile(half, 2)
    areas = []
    for judged in (0, 1):
        fitted = _ridge(_COPY_RIDGE, values.shape[1]).fit(values[half != judged], copies[half != judged])
        areas.append(roc_auc_score(copies[half == judged], fitted.decision_function(values[half == judged])))
    return float(np.mean(areas))


def _ridge(strength: float, width: int) -> RidgeClassifier:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=strength * width, class_weight="balanced")


def mean_power(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Power:
    """Power spectrum of the change, mean over pictures and channels.

    Args:
        before: uint8 ``[N, C, H, W]``.
        after: the same shape.

    Returns:
        float64 ``[H, W]`` in squared levels (1/255), frequency zero at ``[H // 2, W // 2]``. Divided by the number of
        pixels, so that independent noise of variance v has the power v at every frequency.
    """
    height, width = before.shape[-2:]
    total = np.zeros((height, width))
    for start in range(0, len(before), _CHUNK):
        rows = slice(start, start + _CHUNK)
        delta = after[rows].astype(np.float64) - before[rows]
        total += np.square(np.abs(np.fft.fft2(delta))).sum(axis=(0, 1))
    count = max(1, before.shape[0] * before.shape[1])
    return np.fft.fftshift(total) / (count * height * width)


def _frequencies(height: int, width: int) -> tuple[Power, Power]:
    """Vertical and horizontal frequency of every entry, in cycles a pixel, zero in the middle."""
    vertical, horizontal = (np.fft.fftshift(np.fft.fftfreq(side)).astype(np.float64) for side in (height, width))
    rows, columns = np.meshgrid(vertical, horizontal, indexing="ij")
    return rows, columns


def ring_means(power: Power) -> tuple[Power, Power]:
    """Mean power in rings around frequency zero.

    Returns:
        The middle frequency of each ring in cycles a pixel, up to 0.5, and the mean power in it. Corners beyond 0.5
        belong to the last ring.
    """
    rings = max(1, min(power.shape) // 2)
    distance = np.hypot(*_frequencies(*power.shape))
    index = np.minimum((distance * 2 * rings).astype(np.int64), rings - 1).ravel()
    counts = np.bincount(index, minlength=rings)
    sums = np.bincount(index, weights=power.ravel(), minlength=rings)
    return (np.arange(rings) + 0.5) / (2 * rings), sums / np.maximum(counts, 1)


def describe_power(power: Power, noise: Power | None, pictures: int) -> Spectrum | None:
    """The facts for the report; ``None`` where there is no power at all."""
    if not power.any():
        return None
    frequencies, rings = ring_means(power)
    rows, columns = _frequencies(*power.shape)
    without_mean = np.where((rows == 0) & (columns == 0), -1.0, power)
    place = np.unravel_index(int(without_mean.argmax()), power.shape)
    low = np.hypot(rows, columns) < LOW_FREQUENCY
    return Spectrum(
        resolution=power.shape[1],
        pictures=pictures,
        frequencies=tuple(frequencies.tolist()),
        protected=_logarithms(rings),
        noise=None if noise is None or not noise.any() else _logarithms(ring_means(noise)[1]),
        peak=(abs(float(columns[place])), abs(float(rows[place]))),
        low_share=float(power[low].sum() / power.sum()),
    )


def _logarithms(power: Power) -> tuple[float, ...]:
    """Rings without any power are told as a millionth of the mean: a report holds no infinity."""
    return tuple(np.log10(np.maximum(power, 1e-6 * power.mean())).round(4).tolist())


@dataclass(frozen=True)
class Powers:
    """Mean power of the change and of the control noise, each ``[R, R]``; see :func:`mean_power`."""

    protected: Power
    noise: Power
    pictures: int


def measure_powers(sample: Sample) -> Powers:
    """Of training pictures at the working resolution."""
    return Powers(
        mean_power(sample.clean, sample.protected), mean_power(sample.clean, sample.noisy), len(sample.labels)
    )


def describe_powers(powers: Powers) -> Spectrum | None:
    """Spectrum of the change that the victims saw; ``None`` where nothing changed."""
    return describe_power(powers.protected, powers.noise, powers.pictures)


def mix_points(conditions: Sequence[Condition]) -> tuple[MixPoint, ...]:
    """One point for each victim and protected share that was trained, in that order."""
    points = [
        MixPoint(
            id=condition.id,
            victim=condition.victim,
            share=condition.share,
            clean=condition.arms["clean"].accuracy,
            part=condition.arms["part"].accuracy,
            mixed=condition.arms["mixed"].accuracy,
            noise_mixed=condition.arms["noise-mixed"].accuracy,
            mv=condition.mv,
            nmv=condition.nmv,
        )
        for condition in conditions
        if condition.share is not None and {"clean", "part", "mixed", "noise-mixed"} <= set(condition.arms)
    ]
    victims = list(dict.fromkeys(point.victim for point in points))
    return tuple(sorted(points, key=lambda point: (victims.index(point.victim), point.share)))


GAIN = 10
"""How many times the difference is enlarged."""

_SIDE = 320
_WHOLE_SIDE = 112
_PIXELATED_BELOW = 160
_LONGEST_NAME = 44


@dataclass(frozen=True)
class Tile:
    """One picture in four versions, as data URIs.

    Attributes:
        title: which of all it is.
        name: of the picture, shortened in its middle where it is long.
        caption: what it is told by; nothing where by its class.
        file: how far the copy is from the original.
        clean, protected, noise, difference: the middle of the picture at its own size, or all of a small one.
        whole: the whole picture, small, where the others show a part of it.
        side: of that part, in pixels.
        pixelated: small pictures are enlarged without smoothing.
    """

    title: str
    name: str
    caption: str
    file: StealthFile
    clean: str
    protected: str
    noise: str
    difference: str
    whole: str | None
    side: tuple[int, int]
    pixelated: bool


def choose_tiles(data: Pictures, *, seed: int, captions: Mapping[str, str] | None = None) -> list[Tile]:
    """The pictures on which the change shows least, in the middle and most.

    By LPIPS where it was measured on all files, else by SSIM, else by PSNR.

    Args:
        data: the pictures.
        seed: of the control noise.
        captions: of the originals, by path; none where pictures are told by classes.
    """
    files = [file.distances for file in data.files]
    if all(found.lpips is not None for found in files):
        visible = {f.source: f.distances.lpips or 0.0 for f in data.files}
    elif all(found.ssim is not None for found in files):
        visible = {f.source: -(f.distances.ssim or 0.0) for f in data.files}
    else:
        visible = {f.source: -_decibels(f.distances.psnr) for f in data.files}
    ranked = sorted(data.files, key=lambda file: (visible[file.source], file.source))
    if not ranked:
        return []
    titles = {0: "shows least", len(ranked) // 2: "in the middle", len(ranked) - 1: "shows most"}
    rows = {key: row for row, key in enumerate(data.keys)}
    texts = captions or {}
    tiles = [_tile(title, ranked[rank], data, rows, seed, texts) for rank, title in sorted(titles.items())]
    return [tile for tile in tiles if tile is not None]


def _decibels(psnr: float | None) -> float:
    return float("inf") if psnr is None else psnr


def _tile(
    title: str, file: StealthFile, data: Pictures, rows: Mapping[str, int], seed: int, captions: Mapping[str, str]
) -> Tile | None:
    found = _pixels(file, data, rows)
    if found is None:
        return None
    before, after = found
    large = max(before.shape[:2]) > _SIDE
    clean, protected = _middle(before), _middle(after)
    noise = noise_arm(clean.transpose(2, 0, 1)[None], [file.source], data.noise_levels, seed=seed)[0]
    return Tile(
        title=title,
        name=_short(file.source),
        caption=captions.get(file.source, ""),
        file=file,
        clean=png_data_uri(clean),
        protected=png_data_uri(protected),
        noise=png_data_uri(noise.transpose(1, 2, 0)),
        difference=png_data_uri(difference_tile(clean, protected, GAIN)),
        whole=png_data_uri(thumbnail(before, _WHOLE_SIDE)) if large else None,
        side=(clean.shape[1], clean.shape[0]),
        pixelated=max(before.shape[:2]) < _PIXELATED_BELOW,
    )


def _short(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _middle(pixels: Pixels) -> Pixels:
    """Scaled down, much of the change would vanish."""
    top, left = (max(0, (size - _SIDE) // 2) for size in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])


def _pixels(file: StealthFile, data: Pictures, rows: Mapping[str, int]) -> tuple[Pixels, Pixels] | None:
    if data.roots is not None:
        clean, protected = data.roots
        try:
            return decode(clean / file.source).rgb8(), decode(protected / file.output).rgb8()
        except (ImageError, OSError):  # removed since it was checked; the page can do without
            return None
    row = rows[file.source]
    return data.clean[row].transpose(1, 2, 0), data.protected[row].transpose(1, 2, 0)
