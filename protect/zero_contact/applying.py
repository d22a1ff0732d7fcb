"""Putting the noise of a bundle on the pictures it was asked for. Nothing is written before all of it was verified.

The pictures in the folder are told apart first: those that noise was asked for, and those that changed, are gone, or
are new. The bundle then is the noise of a run over the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, Unpack, overload

import numpy as np

from ...errors import BundleError, ConfigError
from ...imaging.perturb import Budget
from ...imaging.picture import Picture
from ...records.config import Fit, Problems, takes
from ...records.files import write_atomic
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_file import json_safe, read_run_file
from ...records.run_state import InputRecord
from ..folder.inputs import hash_inputs
from ..folder.report import RunSummary
from ..folder.run import FolderRun
from ..request import check_source, check_write
from ..request.checks import linked_pictures
from ..request.places import place_of_records
from ..request.text_config import ApplyBundleConfig, ApplyBundleKeywords
from .bundle import NoiseBundle
from .request import RequestMap


@dataclass(frozen=True)
class BundleNoise:
    """What :class:`NoiseStore` asks for, by the ids of a request.

    Attributes:
        bundle: verified.
        strength: share of the noise that is used, in (0, 1].
    """

    bundle: NoiseBundle
    strength: float = 1.0

    @property
    def budget(self) -> Budget:
        """The bound after weakening."""
        return Budget(self.bundle.budget.epsilon * self.strength)

    @property
    def surrogate(self) -> str:
        """The generator."""
        return self.bundle.info.generator_id

    @property
    def surrogate_sha256(self) -> str:
        """Of the generator's weights."""
        return self.bundle.info.generator_sha256

    @property
    def report(self) -> dict[str, Any]:
        """What the bundle says about itself."""
        return asdict(self.bundle.info)

    def digest(self) -> str:
        """sha256 over the bundle and how much of it is used."""
        return hashlib.sha256(f"{self.bundle.content_sha256} {self.strength!r}".encode()).hexdigest()

    def key_for(self, image_key: str) -> str | None:
        """The id itself, where the bundle has it."""
        return image_key if image_key in self.bundle.tensor_of else None

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """float32 ``[h, w, 3]`` in levels, whatever the picture."""
        return self.bundle.levels_of(key) * np.float32(self.strength)


_CHANGED: Final = "it is not the file that noise was asked for: it changed since. Make a new request for it"
_MISSING: Final = "noise was asked for it, but it is no longer there"
UNKNOWN: Final = "no noise was asked for it; it was not copied. Make a new request for it"


class InputVerifier:
    """Which inputs are the pictures that noise was asked for, byte for byte."""

    def __init__(self, known: RequestMap, images: Path) -> None:
        self.images = images
        self.by_path = {picture.path: (name, picture) for name, picture in known.pictures.items()}

    def id_of(self, record: InputRecord) -> str | None:
        """The id under which noise was asked for."""
        found = self.by_path.get(record.relative)
        return None if found is None else found[0]

    def __call__(self, records: Sequence[InputRecord]) -> tuple[InputRecord, ...]:
        """The inputs, with those that may not be protected marked, and those that are gone.

        Raises:
            BundleError: none may be protected.
        """
        judged = [self._judge(record) for record in records]
        there = {record.relative for record in records}
        judged += [InputRecord(path, "failed", reason=_MISSING) for path in self.by_path if path not in there]
        if not any(record.kind == "image" for record in judged):
            raise BundleError(
                f"None of the {len(self.by_path)} pictures that noise was asked for is in {self.images} as it was. "
                "Give the folder that the request was made for, or make a new request."
            )
        return tuple(sorted(judged, key=lambda record: os.fsencode(record.relative)))

    def _judge(self, record: InputRecord) -> InputRecord:
        found = self.by_path.get(record.relative)
        if found is None:
            return replace(record, kind="skipped", sha256=None, reason=UNKNOWN) if record.kind == "image" else record
        if record.kind != "image":
            return replace(record, kind="failed", reason=record.reason or _CHANGED)
        changed = record.sha256 is not None and record.sha256 != found[1].sha256
        return replace(record, kind="failed", reason=_CHANGED) if changed else record


@dataclass(frozen=True, kw_only=True)
class ApplyPlan:
    """What :func:`apply_bundle` would do.

    Attributes:
        protect: pictures that would be protected.
        captions: caption files that would be copied.
        failed: pictures that changed or are gone, with the reason.
        skipped: pictures that no noise was asked for.
        epsilon_levels: largest change.
        fit: how noise meets pictures.
    """

    protect: int
    captions: int
    failed: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]
    epsilon_levels: float
    fit: Fit

    @property
    def exit_code(self) -> int:
        """What the run itself would end with as far as is known now."""
        return int(bool(self.failed))

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        failed = [{"source": name, "reason": reason} for name, reason in self.failed]
        return {**asdict(self), "failed": failed, "skipped": list(self.skipped), "exit_code": self.exit_code}


_Bundle: TypeAlias = Path | str | NoiseBundle
_Map: TypeAlias = Path | str | RequestMap


@overload
def apply_bundle(
    images: Path | str,
    bundle: _Bundle,
    map: _Map,
    out: Path | str,
    *,
    dry_run: Literal[False] = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ApplyBundleKeywords],
) -> RunSummary: ...
@overload
def apply_bundle(
    images: Path | str,
    bundle: _Bundle,
    map: _Map,
    out: Path | str,
    *,
    dry_run: bool,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ApplyBundleKeywords],
) -> RunSummary | ApplyPlan: ...
@takes(ApplyBundleConfig)
def apply_bundle(
    images: Path | str,
    bundle: _Bundle,
    map: _Map,
    out: Path | str,
    *,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ApplyBundleKeywords],
) -> RunSummary | ApplyPlan:
    """Protect a folder with noise that was made from its captions. Needs no torch.

    The bundle is verified as a whole first: format, bound, ids, prompts, digest. Pictures that changed since the
    request or are gone become ``failed`` rows of the manifest, pictures that are new are skipped. What is written, and
    how a stopped run goes on, is as in :func:`apply_folder`.

    Args:
        images: the folder that the request was made for.
        bundle: a bundle or its file.
        map: the private map of the request, or its file.
        out: OUT; new, empty, or begun by an earlier call. It may not be, contain or lie in ``images``.
        dry_run: verify, write nothing, and say what would be done.
        fit: ``center`` or ``stretch``; what the bundle was made for if left out. See :func:`add_delta`.
        strength: share of the noise that is used, in (0, 1].
        max_epsilon: refuse a bundle that changes pixels by more than so many of 255 levels.
        format: see :func:`protect_folder`.
        metadata: as there, but places, serial numbers and thumbnails go unless ``keep`` is asked for.
        mark: see :func:`protect_folder`.
        records: see :func:`protect_folder`.
        resume: see :func:`protect_folder`.
        strict: see :func:`protect_folder`.
        follow_links: see :func:`protect_folder`.
        workers: see :func:`protect_folder`.
        max_pixels: see :func:`protect_folder`.
        max_seconds_per_file: see :func:`protect_folder`.
        progress: told about every step.
        stop: a flag to stop at the next file.

    Raises:
        BundleError: the bundle cannot be believed, or no picture is as it was. Nothing was written.
        RequestError: the map cannot be used.
        ConfigError: as :func:`apply_folder`.
        ResumeError: as :func:`apply_folder`.
        SetupError: OUT cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    images, out = Path(images), Path(out)
    tell, stop = progress or silent, stop or StopRequest()
    problems = Problems()
    config = ApplyBundleConfig.collect({**options, "dry_run": dry_run}, problems)
    scan = check_source(images, problems, follow_links=config.follow_links)
    known = loaded = None
    with problems.collecting():
        known = map if isinstance(map, RequestMap) else RequestMap.read(Path(map))
    with problems.collecting():
        loaded = bundle if isinstance(bundle, NoiseBundle) else NoiseBundle.load(bundle)
    if known is not None and loaded is not None and not problems.found:
        with problems.collecting():
            loaded.verify(known, max_epsilon=config.max_epsilon, progress=tell)
            if loaded.info.epsilon_levels * config.strength < 1:
                raise ConfigError("Less than one of 255 levels would be left of the noise: nothing. Raise --strength.")
    records = place_of_records(out, config.records, resume=config.resume)
    place = check_write(images, records, problems, create=not config.dry_run, linked=linked_pictures(scan, config))
    problems.raise_all()
    if scan is None or known is None or loaded is None:  # a problem was noted whenever one is missing
        raise ConfigError("The request could not be checked.")
    noise, fit = BundleNoise(loaded, config.strength), config.fit or loaded.info.resize
    verify_inputs = InputVerifier(known, images)
    if config.dry_run:
        limit = config.max_seconds_per_file
        records = verify_inputs(hash_inputs(scan, workers=config.threads, stop=stop, progress=tell, limit=limit))
        return _plan(records, noise, fit)
    run = FolderRun(
        command="apply",
        scan=scan,
        output=out,
        options=config,
        settings={**_settings(noise, fit), **config.settings()},
        seed=0,  # those that count are secret, and the bundle's maker has them
        warnings=[*scan.notes, *config.warnings()],
        progress=tell,
        stop=stop,
        started=started,
        fit=fit,
        key_of=verify_inputs.id_of,
        vet=verify_inputs,
    )
    with place.holding():
        return run.apply(noise, resume=config.resume)


def _settings(noise: BundleNoise, fit: Fit) -> dict[str, Any]:
    info = noise.bundle.info
    return {
        "method": info.method,
        "granularity": "sample" if info.z_mode == "sample" else "class",
        "epsilon": noise.budget.epsilon,
        "norm": noise.budget.norm,
        "resolution": info.native_size,
        "seed": 0,
        "stage": info.stage,
        "fit": fit,
        "strength": noise.strength,
        "generator_sha256": info.generator_sha256,
        "bundle_sha256": noise.bundle.content_sha256,
    }


def _plan(records: Sequence[InputRecord], noise: BundleNoise, fit: Fit) -> ApplyPlan:
    return ApplyPlan(
        protect=sum(record.kind == "image" for record in records),
        captions=sum(record.kind == "caption" for record in records),
        failed=tuple((record.relative, record.reason or "") for record in records if record.kind == "failed"),
        skipped=tuple(record.relative for record in records if record.reason == UNKNOWN),
        epsilon_levels=noise.budget.levels,
        fit=fit,
    )


def write_summary(path: Path, summary: RunSummary) -> None:
    """Keep what a run did in a JSON file of its own: the summary and, from the run file, how visible the change is.

    Raises:
        ConfigError: the file exists.
        OutputError: it cannot be written.
    """
    run_file = read_run_file(summary.run_file)
    stealth = {} if run_file is None else run_file.stealth.model_dump()
    body = json_safe({**summary.to_json(), "stealth": stealth})
    write_atomic(path, json.dumps(body, indent=2).encode("ascii") + b"\n", overwrite=False)
