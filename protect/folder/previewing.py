"""What a protection will look like on some pictures, before a run: in seconds, and without writing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FolderError, ImageError, UnknownNameError
from ...imaging.codec import decode
from ...imaging.loading import FileProblem, auto_resolution, entry_key, load_image_set
from ...imaging.perturb import Budget, add_delta
from ...imaging.picture import Picture
from ...imaging.scan import Entry, FolderScan, scan_source
from ...records.config import MAX_PIXELS, STRENGTHS, Problems, Strength, strengths_of
from ...records.places import sha256_file
from ..request import FitConfig, check_fit
from ..request.checks import choose_method

#: What a picture gets at the budget of a name, in 8-bit levels.
_Noise = Callable[[Picture, str], np.ndarray]

_REAL = (
    "The pattern is that of the method which a run takes, {method}. The run looks at more of the pictures before it "
    "decides which class gets which pattern, so it may be another of the same kind."
)
_STAND_IN = (
    "The pattern here is random noise of the same strength, because the real pattern of the method {method} needs a "
    "run over the whole folder. The real one has stripes and patches and is seen more easily on plain areas than this "
    "noise."
)


@dataclass(frozen=True)
class PreviewedPicture:
    """One picture as it is, and as it would be.

    Attributes:
        relative: its path below the folder.
        before: unchanged.
        after: by the word for the strength.
    """

    relative: str
    before: Picture
    after: Mapping[str, Picture]


class Preview:
    """Pictures of a folder with noise on them. Nothing is written.

    Where a run's method makes its patterns from the names of the classes, the noise is that method's; otherwise it is
    random noise of the same budget, and :attr:`about` says so.

    Args:
        source: folder of pictures, or one picture. Links are followed: nothing is written to where they lead.
        strengths: words of ``--strength``; all three if left out.
        method: as in :func:`protect_folder`.
        seed: the same seed gives the same noise.
        device: decides the working resolution alone.
        max_pixels: refuse larger pictures before decoding them.

    Attributes:
        method: the name of the method that a run would take.
        budgets: how far pixels may move with it, by those words.
        real: whether the noise is of that method.
        problems: pictures that were tried and cannot be shown, so far.

    Raises:
        FolderError: there is no picture.
        UnknownNameError: there is no such method or strength.
    """

    def __init__(
        self,
        source: Path | str,
        strengths: Sequence[Strength] = tuple(STRENGTHS),
        *,
        method: str = "auto",
        seed: int = 0,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._scan = scan_source(Path(source), follow_links=True)
        if not self._scan.entries:
            raise FolderError(
                f"There is no picture in {source}. Put pictures there (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, ...)."
            )
        self._seed, self._device, self._max_pixels = seed, device, max_pixels
        self.method = choose_method(method, self._scan)
        levels = strengths_of(self.method)
        if unknown := [str(word) for word in strengths if word not in levels]:
            raise UnknownNameError("strength", unknown[0], list(levels))
        self.budgets: dict[str, Budget] = {word: Budget.from_levels(levels[word]) for word in strengths}
        self.problems: list[FileProblem] = []
        self._banks = self._banks_of_names()

    @property
    def real(self) -> bool:
        """Whether the noise is that of the method itself."""
        return bool(self._banks)

    @property
    def about(self) -> str:
        """What the noise is, for people."""
        return (_REAL if self.real else _STAND_IN).format(method=self.method)

    @property
    def root(self) -> Path:
        """The folder."""
        return self._scan.root

    def spread(self, count: int) -> list[str]:
        """Paths below the folder of ``count`` pictures evenly spread over it; fewer where there are fewer."""
        entries = self._scan.entries
        count = min(count, len(entries))
        return [entries[(2 * i + 1) * len(entries) // (2 * count)].relative for i in range(count)]

    def pictures(self, names: Sequence[str]) -> Iterator[PreviewedPicture]:
        """Pictures at each budget, one after the other; those that cannot be shown are noted in :attr:`problems`.

        Args:
            names: paths below the folder, as :meth:`spread` gives them.

        Raises:
            FolderError: none of them can be read, or one is not in the folder.
        """
        known = {entry.relative: entry for entry in self._scan.entries}
        if strange := [name for name in names if name not in known]:
            raise FolderError(f"There is no picture {strange[0]} in {self.root}.")
        shown = 0
        for entry, noise in self._noise([known[name] for name in names]):
            try:
                before = decode(entry.path, max_pixels=self._max_pixels, name=entry.relative)
                after = {name: add_delta(before, noise(before, name), self.budgets[name]) for name in self.budgets}
            except ImageError as error:
                self.problems.append(FileProblem(entry.relative, error.reason))
                continue
            shown += 1
            yield PreviewedPicture(entry.relative, before, after)
        if not shown:
            reason = self.problems[-1].reason if self.problems else ""
            raise FolderError(f"None of the pictures tried in {self.root} can be read. {reason}")

    def _banks_of_names(self) -> dict[str, Any]:
        """Banks that a run's method makes of the names of the classes alone; none where it does not, or cannot."""
        banks = {}
        for name, budget in self.budgets.items():
            options = FitConfig(method=self.method, epsilon=budget.epsilon, seed=self._seed, device=self._device)
            # What is wrong with the folder is told by the run; how noise looks on it can be shown all the same.
            request = check_fit(self._scan, options, Problems()) if self._scan.labelled else None
            if request is None or request.method.needs_pixels:
                return {}
            banks[name] = request.method.fit_classes(self._scan.classes)
        return banks

    def _noise(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, _Noise]]:
        """Each entry that can be read, and what gives its noise in 8-bit levels for a picture and a budget's name."""
        if not self._banks:
            yield from self._random(entries)
            return
        for entry in entries:
            try:
                key = entry_key(entry, sha256_file(entry.path))
            except OSError as error:
                self.problems.append(FileProblem(entry.relative, f"cannot be opened: {error.strerror or error}"))
                continue

            def noise(picture: Picture, name: str, key: str = key) -> np.ndarray:
                return self._banks[name].levels_on(picture, key)

            yield entry, noise

    def _random(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, _Noise]]:
        from ...surrogates import resolve_device
        from ..methods import create_method

        resolution = auto_resolution(self._scan, resolve_device(self._device).type)
        some: FolderScan = replace(self._scan, entries=tuple(entries))
        data, readable, problems = load_image_set(some, resolution, with_labels=False, max_pixels=self._max_pixels)
        self.problems += problems
        if not readable:
            return
        banks = {
            name: create_method("noise", budget=budget, granularity="sample", seed=self._seed).fit(data)
            for name, budget in self.budgets.items()
        }
        for entry, key in zip(readable, data.keys, strict=True):

            def noise(picture: Picture, name: str, key: str = key) -> np.ndarray:
                return banks[name].levels_for(key)

            yield entry, noise
