"""``verify_retrieval``: a CLIP as victim, trained on captions, judged as every other victim.

It is asked in two ways, for the captions of pictures and for the pictures of captions. Each way is a condition, whose
accuracy is Hit@k: the share of questions answered among the first k. All that follows, gates, statistics, grades and
report, is that of ``bitterant verify``.
"""

from __future__ import annotations

import io
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ...errors import FolderError
from ...imaging import Budget, auto_resolution
from ...imaging.captions import CaptionOptions, CaptionSet
from ...records.config import takes
from ...records.places import lies_in
from ...records.progress import ProgressCallback, silent
from ...records.text import some_counted
from ...surrogates import resolve_device
from ..config import RetrievalConfig, RetrievalKeywords
from ..data import StealthFile, Step
from ..data.folders import CopyCheck, check_copies, pair_copies
from ..data.pairing import scan_pictures
from ..evaluation import (
    FAILURES,
    RULE,
    Measured,
    MeasuredArm,
    about_files,
    about_numbers,
    about_size,
    check_conditions,
    check_data,
    check_sound,
    conclude,
    decisive_failures,
    describe,
    in_order,
    trainer_results,
)
from ..evaluation.grading import Accuracy
from ..facts import Captions, Dataset, Environment, Separability, Spectrum
from ..report import (
    REPORT_FILES,
    choose_sample,
    describe_environment,
    describe_powers,
    describe_tool,
    measure_powers,
    measure_separability,
    plan_digest,
    write_plan,
    write_report,
)
from ..report.files import check_places
from ..schema import CellRecord, Condition, Gate, Plan, PlannedCondition, Ranking, Retrieval, VerificationReport
from ..statistics import ALPHA, bootstrap_accuracies, sufficient_draws
from ..terms import FEWEST_TESTED, Arm, Task
from ..training import Cell
from ..training.victims import victim_seed
from .data import RetrievalData, load_pictures, read_paired_captions, read_test_folder
from .training import ARM_NAMES, KS, ArmScores, ClipRecipe, RetrievalReport, create_clip_victim, retrieval_trial

logger = logging.getLogger(__name__)

PRESET = "captions"
MOST_CHANCE = 0.1
"""The largest k is judged at which guessing is right at most so often."""

FEWEST_UNITS = 2 * FEWEST_TESTED
"""Questions below which nothing is graded: as many as two classes need of test pictures. Of three that all trainings of
an arm answer alike the interval would be a point."""

_SMALLEST_SIDE = 8
_FEW_PICTURES = 300
_PRETRAINED = "clip:"
"""Stands before the names of victims that go on from trained weights."""

_TASKS: dict[Task, str] = {
    "image_to_text": "find captions for pictures",
    "text_to_image": "find pictures for captions",
}
_SOURCE = "Radford et al. 2021 (arXiv 2103.00020)"


@takes(RetrievalConfig)
def verify_retrieval(
    clean: Path | str,
    protected: Path | str,
    *,
    captions: CaptionOptions | None = None,
    test_captions: CaptionOptions | None = None,
    recipe: ClipRecipe | None = None,
    epsilon: float | None = None,
    progress: ProgressCallback | None = None,
    **options: Unpack[RetrievalKeywords],
) -> VerificationReport:
    """Train a CLIP on captioned pictures as they were, on their copies, and on random noise of the same size.

    All arms share recipe, seeds, order and captions, and all are asked about the same clean pictures that none was
    trained on. Where files are not as they should be the result is invalid and nothing is trained.

    Args:
        clean: the originals, with captions beside them or in class folders.
        protected: their copies; paired by the manifest in it, else by relative path. Captions in it are not read.
        test: clean captioned pictures to test on. Without it a fifth of ``clean`` is held out, and its copies take no
            part in training.
        source, column, coco, class_names: where captions of ``clean`` are, as of the command.
        test_coco: the COCO captions of ``test``; by default those of ``coco``.
        captions: where captions of ``clean`` are, instead of these, see :class:`CaptionOptions`.
        test_captions: where those of ``test`` are; as ``captions`` if left out.
        report: folder for ``plan.json`` (written before the first training), ``report.json``, ``report.html``,
            ``stealth.csv`` and ``ranks.npz``; without it nothing is written.
        victim: see :func:`create_clip_victim`.
        seeds: trainings an arm.
        epochs: passes over the pictures instead of the recipe's.
        recipe: of every training; by default one that fits the number of pictures.
        resolution: side in px at which the CLIP sees the pictures; ``auto`` as in protecting.
        seed: decides the split, the noise arm, the victims' seeds and the bootstrap.
        device: ``auto``, ``cpu``, ``cuda``, ...
        epsilon: the promised bound in (0, 1]; without it, what the run file in ``protected`` says.
        weights, allow_download: of a pretrained victim.
        progress: told where the run stands.

    Returns:
        The report, of the kind ``retrieval``; its ``exit_code()`` is 0, or 5 where it is invalid.

    Raises:
        ConfigError: an option is wrong.
        FolderError: a folder is missing, empty, or the two do not belong together; or there are too few pictures.
        CaptionError: pictures have no caption, or all have the same.
        SetupError: open_clip or weights are missing.
        OutputError: the report cannot be written. That is tried before any training.
    """
    begun = time.perf_counter()
    clean, protected = Path(clean), Path(protected)
    step: Step = progress or silent
    config = RetrievalConfig.of({**options, **_told(captions, test_captions)})
    where = captions or config.caption_options()
    test_where = test_captions or (where if config.test_coco is None else replace(where, coco=config.test_coco))
    test, folder, seed = config.test, config.report, config.seed
    if epsilon is not None:
        Budget(epsilon)
    torch_device = resolve_device(config.device)
    before, after = scan_pictures(clean, "CLEAN"), scan_pictures(protected, "PROTECTED")
    if lies_in(clean, protected) or lies_in(protected, clean):
        raise FolderError(
            f"CLEAN, {clean}, and PROTECTED, {protected}, are one folder or lie one in the other. Give the originals "
            "first, then the copies."
        )
    paired = pair_copies(before, after)
    check_places(folder, None, REPORT_FILES["retrieval"], (clean, protected, test))
    texts = read_paired_captions(paired.clean, paired.pairs, where)
    tests = None if test is None else read_test_folder(test, clean, protected, test_where)
    side = config.resolution
    if side == "auto":
        side = auto_resolution(paired.clean, torch_device.type)
    # What cannot be built is told before files are compared and trained on for hours.
    create_clip_victim(config.victim, resolution=side, seed=0, weights=config.policy)
    copies = check_copies(paired, epsilon=epsilon, step=step)
    data: RetrievalData | None = None
    if not decisive_failures(check_data(copies.stealth, copies.issues, copies.protection, 0)):
        data = load_pictures(paired, copies.pairs, texts, tests, resolution=side, seed=seed, step=step)
    trained = 0 if data is None else len(data.train.keys)
    chosen = recipe or _recipe_for(config.victim, trained)
    chosen = chosen if config.epochs is None else replace(chosen, epochs=config.epochs)
    noise_levels = copies.noise_levels
    plan = plan_retrieval(
        data, config.victim, chosen, seeds=config.seeds, seed=seed, side=side, noise_levels=noise_levels
    )
    if folder is not None:
        write_plan(folder, plan)
    trial: RetrievalReport | None = None
    if data is not None:
        _warn_of_few(trained, config.victim)
        trial = retrieval_trial(
            data.train, data.protected, data.test, victim=config.victim, recipe=chosen, seeds=config.seeds, seed=seed,
            noise_levels=noise_levels, device=torch_device, weights=config.policy,
            progress=lambda name, share: step("verify", share, 1.0, name),
        )  # fmt: skip
    notes = ["class names of its own"] if captions is not None and captions.class_names else []
    notes += [f"epsilon={epsilon:g}"] if epsilon is not None else []
    notes += ["a recipe of its own, see plan.json"] if recipe is not None else []
    command = config.model_copy(update={"resolution": side}).command(clean, protected, notes)
    pictures = _Pictures(copies.files, (clean, protected), noise_levels, copies.budget_levels, data)
    sample = None if data is None else choose_sample(pictures, seed=seed)
    powers = None if sample is None else measure_powers(sample)
    result = judge_trial(
        plan, copies, data, trial, [texts] if tests is None else [texts, tests.captions],
        spectrum=None if powers is None else describe_powers(powers),
        separability=None if sample is None else measure_separability(sample, seed=seed),
        command=command,
        environment=describe_environment(str(torch_device), 1),
        begun=begun,
    )  # fmt: skip
    logger.info("%s", result.verdict.headline)
    if folder is not None:
        step("report", 0, 1, "")
        shown = {relative: found.first for relative, found in texts.captions.items()}
        tables = {} if trial is None or data is None else {"ranks.npz": _ranks(trial, data)}
        write_report(folder, result, pictures, tables, powers, captions=shown)
        step("report", 1, 1, "")
    return result


def _told(captions: CaptionOptions | None, test_captions: CaptionOptions | None) -> dict[str, Any]:
    """What the command line has words for, of captions that are given as objects."""
    told: dict[str, Any] = {}
    if captions is not None:
        told = {"source": captions.source, "column": captions.column, "coco": captions.coco}
    if test_captions is not None and test_captions.coco != told.get("coco"):
        told["test_coco"] = test_captions.coco
    return told


def plan_retrieval(
    data: RetrievalData | None,
    victim: str,
    recipe: ClipRecipe,
    *,
    seeds: int,
    seed: int,
    side: int,
    noise_levels: float,
) -> Plan:
    """The plan: one victim, without adversary, asked in two ways.

    Args:
        data: what is trained and tested on; ``None`` where nothing is.
        victim: which CLIP.
        recipe: how it is trained.
        seeds, seed: repetitions, and the first of them.
        side: working resolution in px.
        noise_levels: amplitude of the noise arm in 1/255.
    """
    pretrained = victim.startswith(_PRETRAINED)
    trained, tested = (0, 0) if data is None else (len(data.train.keys), len(data.test.keys))
    return Plan(
        rule=RULE,
        preset=PRESET,
        seed=seed,
        victim_seeds=tuple(victim_seed(seed, index) for index in range(seeds)),
        conditions=tuple(
            PlannedCondition(
                id=f"{victim}/{task}",
                tier="prior" if pretrained else "naive",
                trainer="W4" if pretrained else "W1",
                crafting="seen",
                adversary="none",
                victim=victim,
                task=task,
                reads=dict.fromkeys(ARM_NAMES, "none"),
            )
            for task in _TASKS
        ),
        recipes={victim: {**recipe.settings(), "steps": recipe.steps(trained)}},
        epochs={victim: recipe.epochs},
        resolution=side,
        train_images=trained,
        test_images=tested,
        noise_levels=noise_levels,
        alpha=ALPHA,
        draws=sufficient_draws(1, alpha=ALPHA),
        evals=1,
        max_minutes=None,
        required_tier=None,
        required_grade=None,
        data_sha256="" if data is None else data.sha256(),
    )


def measure(plan: Plan, trial: RetrievalReport, answers: NDArray[np.bool_]) -> list[Condition]:
    """Both conditions.

    Args:
        plan: what was planned.
        trial: the trainings, with the ranks of every question.
        answers: bool ``[N, M]``, which of the different captions each test picture has.
    """
    return [_measure(plan, planned, trial, answers) for planned in plan.conditions]


def _measure(plan: Plan, planned: PlannedCondition, trial: RetrievalReport, answers: NDArray[np.bool_]) -> Condition:
    task = planned.task
    forth = task == "image_to_text"
    chances = trial.chance_image_to_text if forth else trial.chance_text_to_image
    k = max((k for k in KS if chances[k] <= MOST_CHANCE + 1e-9), default=KS[0])
    rows: dict[Arm, list[ArmScores]] = {arm: [row for row in trial.scores if row.arm == arm] for arm in planned.reads}
    ranks: dict[Arm, list[tuple[int, ...]]] = {
        arm: [_ranks_of(row, task) for row in found] for arm, found in rows.items()
    }
    correct = _by_unit(ranks, task, answers, k)
    drawn = bootstrap_accuracies(
        correct, np.zeros(correct.shape[2], dtype=np.int64), draws=plan.draws, seed=plan.seed
    )  # one stratum: pictures told by captions have no classes
    accuracies = {
        ("accuracy", arm): Accuracy(float(hits.mean()), drawn[:, column])
        for column, (arm, hits) in enumerate(zip(rows, correct, strict=True))
    }
    accuracies["accuracy", "better"] = accuracies["accuracy", "protected"]
    arms: dict[Arm, MeasuredArm] = {arm: _arm(found, task, k, own=forth) for arm, found in rows.items()}
    rankings: dict[Arm, Ranking] = {arm: _ranking(found, task) for arm, found in rows.items()}
    item = Measured(
        planned=planned,
        arms=arms,
        chances={"accuracy": chances[k]},
        accuracies=accuracies,  # type: ignore[arg-type]
    )
    retrieval = Retrieval(
        task=task,
        questions=answers.shape[0 if forth else 1],
        k=k,
        chance=chances,
        chance_rank=trial.chance_ranks[0 if forth else 1],
        arms=rankings,
    )
    detail = f"Judged by Hit@{k}, the share of the questions that are answered among the first {k}"
    found = describe(item, plan, readout="final")
    if (units := correct.shape[2]) < FEWEST_UNITS:
        found |= {
            "status": "set aside",
            "reason": f"{units} questions that differ are too few for an interval, and {FEWEST_UNITS} are needed: give "
            "more test pictures, described one by one",
        }
    return Condition.model_validate({**_identity(planned), **found, "detail": detail, "retrieval": retrieval})


def _identity(planned: PlannedCondition) -> dict[str, Any]:
    how = "a trainer who fine-tunes a CLIP" if planned.tier == "prior" else "a naive trainer who trains a CLIP"
    return {
        "id": planned.id,
        "tier": planned.tier,
        "trainer": planned.trainer,
        "crafting": planned.crafting,
        "adversary": planned.adversary,
        "victim": planned.victim,
        "phrase": f"{how} to {_TASKS[planned.task]}",
        "source": _SOURCE,
        "readout": "final",
    }


def _dropped(plan: Plan, failed: Sequence[Gate]) -> list[Condition]:
    names = ", ".join(f"{FAILURES[gate.id]} ({gate.id})" for gate in failed)
    reason = f"nothing was trained, since {names}"
    return [
        Condition.model_validate({**_identity(planned), "status": "dropped", "reason": reason})
        for planned in plan.conditions
    ]


def _hits(row: ArmScores, task: Task) -> dict[int, float]:
    return row.image_to_text if task == "image_to_text" else row.text_to_image


def _ranks_of(row: ArmScores, task: Task) -> tuple[int, ...]:
    return row.image_ranks if task == "image_to_text" else row.text_ranks


def _arm(rows: Sequence[ArmScores], task: Task, k: int, *, own: bool) -> MeasuredArm:
    hits = tuple(_hits(row, task)[k] for row in rows)
    return MeasuredArm(
        accuracies=hits,
        permuted_accuracy=sum(hits) / len(hits),
        train_accuracies=tuple(row.fit for row in rows),
        seconds=sum(row.seconds for row in rows) if own else 0.0,  # both ways are asked of the same trainings
        details={"final": hits, "steps": tuple(r.steps for r in rows), "seconds": tuple(r.seconds for r in rows)},
    )


def _ranking(rows: Sequence[ArmScores], task: Task) -> Ranking:
    medians = (row.image_to_text_rank if task == "image_to_text" else row.text_to_image_rank for row in rows)
    return Ranking(hits={k: tuple(_hits(row, task)[k] for row in rows) for k in KS}, median_ranks=tuple(medians))


def _by_unit(
    ranks: Mapping[Arm, Sequence[Sequence[int]]], task: Task, answers: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """Hits ``[arm, seed, unit]``, such that the mean over the units is Hit@k.

    A unit is what is drawn anew as a whole: a picture; for captions all that belong to pictures described in one of the
    same words, mostly those of one picture, which are right or wrong together.
    """
    hits = (np.array(list(ranks.values()), dtype=np.int64) < k).astype(np.float64)
    if task == "image_to_text":
        return hits
    from scipy.sparse import coo_array  # a second to load
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.nonzero(answers)
    count, total = answers.shape
    graph = coo_array((np.ones(len(rows)), (rows, columns + count)), shape=(count + total, count + total))
    units, label = connected_components(graph, directed=False)
    if units < 2:  # one chain through all pictures: nothing to draw from but the captions themselves
        return hits
    sums = np.zeros((*hits.shape[:2], units))
    for unit in range(units):
        sums[..., unit] = hits[..., label[count:] == unit].sum(axis=-1)
    return sums * units / total


def judge_trial(
    plan: Plan,
    copies: CopyCheck,
    data: RetrievalData | None,
    trial: RetrievalReport | None,
    captions: Sequence[CaptionSet],
    *,
    spectrum: Spectrum | None,
    separability: Separability | None,
    command: str,
    environment: Environment,
    begun: float,
) -> VerificationReport:
    """The report.

    Args:
        plan: what was planned.
        copies: how the copies are.
        data: what was trained and tested on; ``None`` where nothing was.
        trial: the trainings; ``None`` where there were none.
        captions: of the originals, and of the test folder.
        spectrum, separability: of the change, as the victims saw it.
        command: what repeats the run.
        environment: where it ran.
        begun: when, by ``time.perf_counter``.
    """
    tested = 0 if data is None else len(data.test.keys)
    issues = copies.issues if data is None else (*copies.issues, *data.issues)
    gates = check_data(copies.stealth, issues, copies.protection, tested)
    if trial is None or data is None:
        conditions = _dropped(plan, decisive_failures(gates))
    else:
        conditions = measure(plan, trial, data.test.answers()[1].numpy())
        gates += check_trial(plan, trial, conditions)
    caveats = [
        *about_numbers(len(plan.victim_seeds), tested, held_out=data is not None and data.test_source == "split"),
        *about_files(issues),
        *_about_captions(captions, data, conditions),
        *([] if data is None else [*about_size(plan.resolution), _about_trainer(plan.conditions[0].victim)]),
    ]
    conditions, verdict = conclude(plan, conditions, in_order(gates), issues, caveats)
    return VerificationReport(
        kind="retrieval",
        tool=describe_tool(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        wall_seconds=round(time.perf_counter() - begun, 3),
        plan=plan,
        plan_hash=plan_digest(plan),
        environment=environment,
        dataset=Dataset(
            classes=(),
            train_images=plan.train_images,
            test_images=plan.test_images,
            train_counts=(),
            test_counts=(),
            test_source="split" if data is None else data.test_source,
            split_seed=plan.seed if data is not None and data.test_source == "split" else None,
            resolution=plan.resolution,
            chance=None,
            test_sha256=data.test_sha256() if data is not None and data.test_source == "folder" else None,
            folders=copies.folders,
            captions=None if data is None else _describe_captions(data, captions),
            issues=issues,
        ),
        protection=copies.protection,
        stealth=copies.stealth,
        spectrum=spectrum,
        separability=separability,
        cells=() if trial is None else tuple(_record(plan, row) for row in trial.scores),
        conditions=tuple(conditions),
        trainers=trainer_results(conditions, copies.stealth.budget_levels),
        gates=tuple(in_order(gates)),
        verdict=verdict,
    )


def check_trial(plan: Plan, trial: RetrievalReport, conditions: Sequence[Condition]) -> list[Gate]:
    """G1, G2, G3 and G7."""
    steps = {_cell(plan, row): row.steps for row in trial.scores}
    broken = sum(not np.isfinite(row.loss) for row in trial.scores)
    return [*check_conditions(plan, conditions), check_sound(plan, steps, broken)]


def _cell(plan: Plan, row: ArmScores) -> Cell:
    return Cell(row.arm, "none", plan.conditions[0].victim, row.seed, plan.victim_seeds[row.seed])


def _record(plan: Plan, row: ArmScores) -> CellRecord:
    finite = bool(np.isfinite(row.loss))
    return CellRecord(
        arm=row.arm,
        adversary="none",
        victim=plan.conditions[0].victim,
        seed_index=row.seed,
        victim_seed=plan.victim_seeds[row.seed],
        steps=row.steps,
        train_accuracy=row.fit,
        final_loss=row.loss if finite else None,
        finite=finite,
        accuracy=None,
        peak_accuracy=None,
        peak_step=row.steps,
        seconds=row.seconds,
        curve=(),
    )


def _describe_captions(data: RetrievalData, captions: Sequence[CaptionSet]) -> Captions:
    sources: Counter[str] = Counter()
    for found in captions:
        sources.update(found.sources)
    return Captions(train=len(data.train.answers()[0]), test=len(data.test.answers()[0]), sources=dict(sources))


def _about_captions(
    captions: Sequence[CaptionSet], data: RetrievalData | None, conditions: Sequence[Condition]
) -> list[str]:
    """What is to be kept in mind with these texts, and with so few of them."""
    notes = [text for found in captions for text in found.warnings]
    faults = [f"{problem.relative}: {problem.reason}" for found in captions for problem in found.problems]
    if faults:
        notes.append(f"{len(faults)} captions could not be used ({some_counted(faults)}).")
    if data is None:
        return notes
    counts = Counter(text for several in data.test.captions for text in set(several))
    if max(counts.values()) > 1:
        notes.append(
            f"{len(data.test.keys)} test pictures share {len(counts)} captions: any picture that has a caption counts "
            "as the right one."
        )
    low = sorted({c.retrieval.k for c in conditions if c.retrieval is not None and c.retrieval.k < KS[-1]})
    if low:
        notes.append(
            f"With so few to choose from, Hit@{' and Hit@'.join(map(str, low))} is judged: a larger one would often be "
            "right by guessing."
        )
    return notes


def _about_trainer(victim: str) -> str:
    if victim.startswith(_PRETRAINED):
        return "One trainer was tried, who goes on from trained weights and does not process the pictures."
    return (
        "One trainer was tried, who starts from random weights and does not process the pictures. Fine-tuning a "
        "pretrained CLIP is hindered far less (--victim clip:ARCH/TAG), and JPEG may undo the protection."
    )


@dataclass(frozen=True)
class _Pictures:
    """The pictures as the report looks at them."""

    files: tuple[StealthFile, ...]
    roots: tuple[Path, Path] | None
    noise_levels: float
    budget_levels: float | None
    data: RetrievalData | None

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.data is None else self.data.train.keys

    @property
    def clean(self) -> NDArray[np.uint8]:
        return _NOTHING if self.data is None else self.data.train.images.numpy()

    @property
    def protected(self) -> NDArray[np.uint8]:
        return _NOTHING if self.data is None else self.data.protected.numpy()

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.zeros(len(self.keys), dtype=np.int64)


_NOTHING: NDArray[np.uint8] = np.zeros((0, 3, _SMALLEST_SIDE, _SMALLEST_SIDE), dtype=np.uint8)


def _ranks(trial: RetrievalReport, data: RetrievalData) -> bytes:
    """0-based ranks of every question of every training, and which captions were right for which picture."""
    arrays: dict[str, np.ndarray] = {"answers": data.test.answers()[1].numpy()}
    for row in trial.scores:
        for task in _TASKS:
            arrays[f"{row.arm}|{row.seed}|{task}"] = np.array(_ranks_of(row, task), dtype=np.uint32)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _recipe_for(victim: str, pictures: int) -> ClipRecipe:
    return ClipRecipe.fine_tuning() if victim.startswith(_PRETRAINED) else ClipRecipe().fitted_to(max(1, pictures))


def _warn_of_few(pictures: int, victim: str) -> None:
    """Told before the training, which takes minutes."""
    if pictures < _FEW_PICTURES and not victim.startswith(_PRETRAINED):
        logger.warning(
            "%d pictures to train on are few for a CLIP that starts from nothing: it may well learn too little for "
            "anything to be said.",
            pictures,
        )
