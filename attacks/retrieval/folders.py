"""``verify_retrieval``: train a CLIP on a folder, on its protected copy and on random noise, and compare."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ...errors import ConfigError, FolderError
from ...imaging import Budget, auto_resolution
from ...imaging.captions import CaptionOptions, CaptionSet
from ...records.places import lies_in
from ...surrogates import resolve_device
from ..data.sets import Step, placebo_levels
from ..report.environment import describe_environment, describe_tool
from ..report.files import check_place
from .data import RetrievalData, check_copies, load_pictures, pair_copies, read_paired_captions, read_test_folder
from .judging import check_apart, check_files_sound, check_trainings, judge, list_caveats, measure_ways
from .page import RESULT_FILES, choose_tiles, render_result, write_result
from .records import PictureRecord, RetrievalVerification, TrainingRecord
from .training import ClipRecipe, RetrievalReport, create_clip_victim, retrieval_trial

logger = logging.getLogger(__name__)

_SMALLEST_SIDE = 8
_FEW_PICTURES = 300


class RetrievalProgress(Protocol):
    """Called from the thread that called, never after it has returned."""

    def __call__(self, stage: str, done: float, total: float, message: str = "", /) -> None:
        """Report progress: files in ``compare`` and ``read``, a fraction of the work in ``verify``."""
        ...


def _silent(stage: str, done: float, total: float, message: str = "", /) -> None:
    """The callback used where the caller gave none."""


def verify_retrieval(
    clean: Path | str,
    protected: Path | str,
    *,
    test: Path | str | None = None,
    captions: CaptionOptions | None = None,
    test_captions: CaptionOptions | None = None,
    report: Path | str | None = None,
    victim: str = "clip-small",
    seeds: int = 3,
    epochs: int | None = None,
    recipe: ClipRecipe | None = None,
    resolution: int | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    epsilon: float | None = None,
    weights: Path | None = None,
    allow_download: bool = False,
    progress: RetrievalProgress | None = None,
) -> RetrievalVerification:
    """Train a CLIP on captioned pictures as they were, on their copies, and on random noise of the same size.

    All arms share recipe, seeds, order and captions, and all are asked for the same clean pictures that none was
    trained on. Where files are not as they should be the result is invalid and nothing is trained.

    Args:
        clean: the originals, with captions beside them or in class folders.
        protected: their copies; paired by the manifest in it, else by relative path. Captions in it are not read.
        test: clean captioned pictures to test on. Without it a fifth of ``clean`` is held out, and its copies take no
            part in training.
        captions: where captions of ``clean`` are, see :class:`CaptionOptions`.
        test_captions: where those of ``test`` are; as ``captions`` if left out.
        report: folder for ``report.json``, ``report.html``, ``stealth.csv`` and ``ranks.npz``; without it nothing is
            written.
        victim: see :func:`create_clip_victim`.
        seeds: trainings an arm.
        epochs: passes over the pictures instead of the recipe's.
        recipe: of every training; by default one that fits the number of pictures.
        resolution: side in px at which the CLIP sees the pictures; ``auto`` as in protecting.
        seed: decides the split, the noise arm, the victims' seeds and the bootstrap.
        device: ``auto``, ``cpu``, ``cuda``, ...
        epsilon: the promised bound in (0, 1]; without it, what the run file in ``protected`` says.
        weights: file with the weights of a pretrained victim.
        allow_download: whether these may be fetched where they are not on this machine.
        progress: told where the run stands.

    Returns:
        The result; its ``exit_code()`` is 0, or 5 where it is invalid.

    Raises:
        ConfigError: an option is wrong.
        FolderError: a folder is missing, empty, or the two do not belong together; or there are too few pictures.
        CaptionError: pictures have no caption, or all have the same.
        SetupError: open_clip or weights are missing.
        OutputError: the report cannot be written.
    """
    begun = time.perf_counter()
    clean, protected = Path(clean), Path(protected)
    test, folder = (None if path is None else Path(path) for path in (test, report))
    step: Step = progress or _silent
    _check_numbers(seeds, seed, epochs, resolution, epsilon)
    torch_device = resolve_device(device)
    paired = pair_copies(clean, protected)
    _check_report_folder(folder, {"CLEAN": clean, "PROTECTED": protected, "the test folder": test})
    options = captions or CaptionOptions()
    texts = read_paired_captions(paired.clean, paired.pairs, options)
    tests = None if test is None else read_test_folder(test, clean, protected, test_captions or options)
    side = auto_resolution(paired.clean, torch_device.type) if resolution == "auto" else resolution
    # What cannot be built is told before files are compared and trained on for hours.
    create_clip_victim(victim, resolution=side, seed=0, weights=weights, allow_download=allow_download)
    copies = check_copies(paired, epsilon=epsilon, step=step)
    noise_levels = placebo_levels([file.distances.linf_levels for file in copies.files], copies.stealth.budget_levels)
    checks, ways = [check_files_sound(copies)], ()
    data: RetrievalData | None = None
    trial: RetrievalReport | None = None
    base = recipe or (ClipRecipe.fine_tuning() if victim.startswith("clip:") else ClipRecipe())
    issues = copies.issues
    sources: list[CaptionSet] = [texts] if tests is None else [texts, tests.captions]
    if not copies.faults:
        data = load_pictures(
            paired.clean, paired.protected, copies.pairs, texts, tests, resolution=side, seed=seed, step=step
        )
        issues = (*issues, *data.issues)
        if recipe is None and not victim.startswith("clip:"):
            base = base.fitted_to(len(data.clean.keys))
        base = base if epochs is None else replace(base, epochs=epochs)
        _warn_of_few(len(data.clean.keys), victim)
        trial = retrieval_trial(
            data.clean, data.protected, data.test, victim=victim, recipe=base, seeds=seeds, seed=seed,
            noise_levels=noise_levels, device=torch_device, weights=weights, allow_download=allow_download,
            progress=lambda name, share: step("verify", share, 1.0, name),
        )  # fmt: skip
        ways = measure_ways(trial, np.asarray(data.test.answers()[1].numpy()), seed=seed)
        checks += [check_apart(issues, len(data.test.keys)), *check_trainings(trial, ways)]
    caveats = list_caveats(
        victim=victim, seeds=seeds, data=data, issues=issues, captions=sources, ways=ways, checks=checks
    )
    words = {"test": test, "report": folder, "coco": options.coco, "weights": weights}
    result = RetrievalVerification(
        tool=describe_tool(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=_command(clean, protected, words, options, victim, seeds, epochs, side, seed, device),
        wall_seconds=time.perf_counter() - begun,
        environment=describe_environment(str(torch_device), 1),
        victim=victim,
        seed=seed,
        seeds=seeds,
        recipe=base.settings(),
        noise_levels=noise_levels,
        pictures=None if data is None else _pictures(data, sources),
        stealth=copies.stealth,
        protection=copies.protection,
        issues=issues,
        trainings=() if trial is None else _trainings(trial),
        ways=ways,
        checks=tuple(checks),
        verdict=judge(victim, seeds, ways, checks, copies, caveats),
    )
    if folder is not None:
        step("report", 0, 1, "")
        first = {relative: found.first for relative, found in texts.captions.items()}
        page = render_result(result, choose_tiles(copies.files, first, clean, protected))
        write_result(folder, result, page, copies.files, trial, data)
        step("report", 1, 1, "")
    return result


def _warn_of_few(pictures: int, victim: str) -> None:
    """Told before the training, which takes minutes."""
    if pictures < _FEW_PICTURES and not victim.startswith("clip:"):
        logger.warning(
            "%d pictures to train on are few for a CLIP that starts from nothing: it may well learn too little for "
            "anything to be said.",
            pictures,
        )


def _check_numbers(
    seeds: int, seed: int, epochs: int | None, resolution: int | Literal["auto"], epsilon: float | None
) -> None:
    if seeds < 1:
        raise ConfigError(f"The number of seeds must be at least 1, not {seeds}.")
    if seed < 0:
        raise ConfigError(f"The seed must be 0 or more, not {seed}.")
    if epochs is not None and epochs < 1:
        raise ConfigError(f"The number of epochs must be at least 1, not {epochs}.")
    if resolution != "auto" and resolution < _SMALLEST_SIDE:
        raise ConfigError(f"The working resolution must be at least {_SMALLEST_SIDE} pixels, not {resolution}.")
    if epsilon is not None:
        Budget(epsilon)


def _check_report_folder(report: Path | None, others: Mapping[str, Path | None]) -> None:
    """A report within an image folder would be taken for a class, or be published with it."""
    if report is None:
        return
    for name, folder in others.items():
        if folder is not None and lies_in(report, folder):
            raise FolderError(f"The report folder {report} lies in {name}, {folder}. Choose a place beside it.")
    check_place("report", report, RESULT_FILES)


def _pictures(data: RetrievalData, captions: Sequence[CaptionSet]) -> PictureRecord:
    sources: Counter[str] = Counter()
    for found in captions:
        sources.update(found.sources)
    return PictureRecord(
        train_pictures=len(data.clean.keys),
        test_pictures=len(data.test.keys),
        train_captions=len(data.clean.answers()[0]),
        test_captions=len(data.test.answers()[0]),
        caption_sources=dict(sources),
        test_source=data.test_source,
        resolution=data.clean.resolution,
    )


def _trainings(trial: RetrievalReport) -> tuple[TrainingRecord, ...]:
    return tuple(
        TrainingRecord(
            arm=row.arm,  # type: ignore[arg-type]
            seed_index=row.seed,
            loss=row.loss if np.isfinite(row.loss) else None,
            image_to_text=row.image_to_text,
            text_to_image=row.text_to_image,
            image_to_text_rank=row.image_to_text_rank,
            text_to_image_rank=row.text_to_image_rank,
        )
        for row in trial.scores
    )


def _command(
    clean: Path, protected: Path, paths: Mapping[str, Path | None], options: CaptionOptions, victim: str, seeds: int,
    epochs: int | None, side: int, seed: int, device: str,
) -> str:  # fmt: skip
    """The command line that repeats a run, with the resolution as it was resolved."""
    words: list[Any] = ["bitterant", "t2ue", "verify", os.fspath(clean), os.fspath(protected)]
    for name, path in paths.items():
        words += [] if path is None else [f"--{name}", os.fspath(path)]
    words += ["--victim", victim, "--seeds", seeds, "--resolution", side, "--seed", seed]
    words += [] if epochs is None else ["--epochs", epochs]
    words += [] if options.source == "auto" else ["--source", options.source]
    words += [] if options.column is None else ["--caption-column", options.column]
    words += [] if device == "auto" else ["--device", device]
    return shlex.join(str(word) for word in words)
