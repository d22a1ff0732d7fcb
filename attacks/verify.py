"""``verify_folder`` and ``verify_sets``: attack a protection and say what is left of it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, LabelError, SetupError
from ..imaging import ImageSet
from ..records.config import Problems, takes
from ..records.progress import ProgressCallback, silent
from ..surrogates import ChosenPrecision, Recipe, resolve_device
from .config import VerifyConfig, VerifyFolderKeywords, VerifyKeywords
from .data import VerificationData, find_lpips, load_labellings, load_sets
from .data.perceptual import LpipsFound
from .evaluation import (
    FAILURES,
    RULE,
    about_labels,
    analyse,
    check_data,
    check_gates,
    conclude,
    decisive_failures,
    list_caveats,
    trainer_results,
)
from .own_victims import find_victim, portable
from .report import (
    REPORT_FILES,
    choose_sample,
    describe_environment,
    describe_powers,
    describe_tool,
    measure_powers,
    measure_separability,
    mix_points,
    plan_digest,
    write_plan,
    write_report,
)
from .report.files import check_places, curves_csv, predictions_npz
from .report.measures import Powers
from .request import Request, plan_conditions, resolve_request
from .schema import GRADES, Grade, LabellingResult, Plan, VerificationReport
from .statistics import ALPHA, sufficient_draws
from .terms import Labelling
from .training import (
    ArrayStore,
    CellCache,
    CellResult,
    Executor,
    GridResult,
    PrecisionTask,
    SerialExecutor,
    cells_of,
    epochs_of,
    executor_for,
    find_precision,
    run_grid,
    temporary_folder_problem,
    victim_seed,
)
from .training.cells import VALIDATION
from .training.cluster import RayCluster

logger = logging.getLogger(__name__)

EVALS = 10


@dataclass(frozen=True)
class _Context:
    """What does not change the figures."""

    trainers: _Trainers
    executor: str | None
    workers: int | None
    folder: Path | None
    cells: Path | None
    resume: bool
    command: str
    progress: ProgressCallback
    begun: float


@dataclass(frozen=True)
class _Trainers:
    """Where victims are trained.

    Attributes:
        device: as torch calls it there.
        tool_device: where this machine runs the public tool.
        cluster: the machines, where it is not this one.
    """

    device: str
    tool_device: str
    cluster: RayCluster | None = None

    @property
    def device_type(self) -> str:
        """``cuda`` of ``cuda:1``."""
        return self.device.partition(":")[0]


@contextmanager
def _opened(machine: torch.device | RayCluster, config: VerifyConfig) -> Iterator[_Trainers]:
    """The trainers, for as long as the block lasts."""
    if isinstance(machine, torch.device):
        yield _Trainers(str(machine), str(machine))
        return
    tool_device = "cpu" if config.device == "cpu" else str(resolve_device("auto"))
    with machine as cluster:
        yield _Trainers(cluster.device, tool_device, cluster)


@takes(VerifyConfig)
def verify_folder(
    clean: Path | str,
    protected: Path | str,
    *,
    progress: ProgressCallback | None = None,
    **options: Unpack[VerifyFolderKeywords],
) -> VerificationReport:
    """Train victims on a folder, on its protected copy and on random noise, and grade what they still learn.

    All arms share recipe, seeds and number of steps; every adversary is also run on the clean arm; validity gates come
    before any verdict. Where the files alone fail a gate (G5, G6) nothing is trained.

    Args:
        clean: the originals, in class folders.
        protected: their protected copies; paired by the manifest in it, else by relative path.
        test: clean pictures to test on, in the same class folders. Without it, a fifth of each class of ``clean`` is
            held out, and its protected copies take no part in training.
        report: folder for ``plan.json`` (written before the first training), ``report.json``, ``report.html``,
            ``stealth.csv``, ``curves.csv``, ``predictions.npz`` and the folder ``cells``. Without it nothing is
            written.
        preset: ``smoke`` (one seed, no grade), ``quick``, ``standard`` (some hours on a CPU), ``full`` (for a GPU),
            or ``emn`` and ``apbench``, the settings of two papers.
        victims: networks to train instead of the preset's. The first meets every adversary, the others the naive tier.
        adversaries: what the trainer tries instead of the preset's; ``none`` is always among them.
        seeds: trainings a cell is repeated.
        resolution: side in pixels at which victims see the pictures; ``auto`` as in protecting.
        seed: decides the split, the noise arm, the victims' seeds and the bootstrap.
        device: ``auto``, ``cpu``, ``cuda``, ...
        epsilon: the promised bound in (0, 1]; without it, what the run file in ``protected`` says.
        require_tier: with ``require_grade``: the tier that must reach it, else every tested one.
        require_grade: ``weak``, ``moderate`` or ``strong``; ``exit_code()`` is 4 where it is not reached.
        max_minutes: leave out whole conditions that do not fit in, from the last one on; they count as not tested. The
            minutes are the whole call's; where pictures without classes are judged by several labellings, those share
            them. The first condition of each is always tested.
        workers: processes; by default one a CPU. The result does not depend on it.
        executor: who runs the trainings: ``serial``, ``processes``, ``ray`` (a Ray cluster that is started on this
            machine and ends with the run), or ``ray:auto``, ``ray:HOST:PORT``, ``ray:ray://HOST:PORT`` (one that is
            joined and left running; its nodes are sent the pictures). The result does not depend on it. By default
            processes, where there is work for several.
        recipe: train every victim exactly like this.
        epochs: passes over the training pictures, instead of the preset's length: 12 times the preset's scale, more
            for small sets, or the published number.
        precision: what victims are trained in: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where it is faster and
            keeps 95 % of the signs of the gradient. The plan says what was chosen for each.
        lpips: weights for LPIPS, a learned measure of how visible the change is; without it the environment variable
            ``BITTERANT_LPIPS`` is asked, then torch's cache. Nothing is fetched; without weights the figure is absent.
        cells: folder in which finished trainings are kept; by default ``cells`` in the folder of the report. The same
            call goes on with them after it was stopped, and verifications that share a folder share trainings: those on
            the clean pictures are done once for any number of protections. It may be deleted at any time. Whoever has
            it has networks that were trained on the originals.
        resume: use what is in that folder. False trains everything anew, and replaces it.
        progress: told where the run stands.

    Returns:
        The report; ``report.exit_code()`` is 0, 4 or 5 (INVALID).

    Raises:
        ConfigError: an option is wrong.
        FolderError: a folder is missing, empty, or the two do not belong together; or the report's is a file, or lies
            among the pictures.
        LabelError: class folders are missing or do not agree, or there are too few test pictures a class.
        OutputError: the report, or a finished training, cannot be written. That is tried before any training.
        WeightsError: the weights that ``lpips`` names cannot be used.
    """
    begun = time.perf_counter()
    clean, protected = Path(clean), Path(protected)
    problems = Problems()
    config = VerifyConfig.collect(options, problems)
    place = _cells_folder(config)
    with problems.collecting():
        check_places(config.report, place, REPORT_FILES["classification"], (clean, protected, config.test))
    request, machine, lpips = _prepare(config, problems)
    show = progress or silent
    with _opened(machine, config) as trainers:
        labelled = load_labellings(
            clean,
            protected,
            test=config.test,
            resolution=config.resolution,
            seed=config.seed,
            device_type=trainers.device_type,
            epsilon=config.epsilon,
            step=show,
            lpips=lpips,
        )
        command = config.model_copy(update={"resolution": labelled[0].resolution}).command(clean, protected)
        context = _context(config, trainers, place, command, show, begun)
        if labelled[0].pseudo_labelling is None:
            return _verify(labelled[0], request, context, minutes=_share(request, context, 1)).written()
        return _verify_each(labelled, request, context)


@takes(VerifyConfig)
def verify_sets(
    clean: ImageSet,
    protected: ImageSet,
    test: ImageSet,
    *,
    progress: ProgressCallback | None = None,
    **options: Unpack[VerifyKeywords],
) -> VerificationReport:
    """The same as :func:`verify_folder` for sets in memory; ``clean[i]`` and ``protected[i]`` are the same picture.

    Raises:
        ConfigError: an option is wrong, or the sets do not fit together.
        LabelError: labels are missing or differ, or there are too few test pictures a class.
        FolderError: the place of the report is no folder.
        OutputError: the report, or a finished training, cannot be written. That is tried before any training.
        WeightsError: the weights that ``lpips`` names cannot be used.
    """
    begun = time.perf_counter()
    problems = Problems()
    config = VerifyConfig.collect(options, problems)
    place, show = _cells_folder(config), progress or silent
    with problems.collecting():
        check_places(config.report, place, REPORT_FILES["classification"], ())
    request, machine, lpips = _prepare(config, problems)
    data = load_sets(clean, protected, test, epsilon=config.epsilon, lpips=lpips)
    with _opened(machine, config) as trainers:
        context = _context(config, trainers, place, config.call(), show, begun)
        return _verify(data, request, context, minutes=_share(request, context, 1)).written()


def _context(
    config: VerifyConfig,
    trainers: _Trainers,
    cells: Path | None,
    command: str,
    show: ProgressCallback,
    begun: float,
) -> _Context:
    return _Context(
        trainers=trainers,
        executor=config.executor,
        workers=config.workers,
        folder=config.report,
        cells=cells,
        resume=config.resume,
        command=command,
        progress=show,
        begun=begun,
    )


@dataclass(frozen=True)
class _Outcome:
    """A verification that is done, and what its report is made of."""

    report: VerificationReport
    data: VerificationData
    cells: list[CellResult]
    labels: dict[str, NDArray[np.int64]]
    powers: Powers
    folder: Path | None

    def written(self) -> VerificationReport:
        """The report, after it was written where it belongs."""
        if self.folder is not None:
            tables = {
                "curves.csv": curves_csv(self.report.cells),
                "predictions.npz": predictions_npz(self.cells, self.data.test_labels, self.labels),
            }
            write_report(self.folder, self.report, self.data, tables, self.powers)
        return self.report


def _verify_each(labelled: Sequence[VerificationData], request: Request, context: _Context) -> VerificationReport:
    """Verify under every labelling; the report is about the one in which the protection does worst."""
    outcomes = [
        _verify(data, request, context, minutes=_share(request, context, len(labelled) - number))
        for number, data in enumerate(labelled)
    ]
    worst = min(outcomes, key=_rank)
    results = [
        LabellingResult(
            grouping=outcome.data.pseudo_labelling.words if outcome.data.pseudo_labelling is not None else "",
            shown=outcome is worst,
            valid=outcome.report.verdict.valid,
            headline=outcome.report.verdict.headline,
            weakest=outcome.report.verdict.weakest,
            grade=_weakest_grade(outcome.report),
        )
        for outcome in outcomes
    ]
    verdict = worst.report.verdict
    said = (
        f"{verdict.headline} There are no class folders, so pictures were sorted into groups that look alike, in "
        f"{len(results)} ways ({'; '.join(result.grouping for result in results)}); this is the worst of them."
    )
    report = worst.report.model_copy(
        update={
            "labellings": tuple(results),
            "verdict": verdict.model_copy(update={"headline": said}),
            "wall_seconds": round(time.perf_counter() - context.begun, 3),
        }
    )
    return replace(worst, report=report).written()


def _share(request: Request, context: _Context, count: int) -> float | None:
    """Minutes for the next of so many verifications that are left, out of what the first ones left of the limit."""
    if request.max_minutes is None:
        return None
    return max(0.0, request.max_minutes - (time.perf_counter() - context.begun) / 60) / count


def _weakest_grade(report: VerificationReport) -> Grade:
    found: Grade = "not tested"
    for tier in report.verdict.tiers:
        if tier.tier == report.verdict.weakest:
            found = tier.grade
    return found


def _rank(outcome: _Outcome) -> tuple[bool, bool, int, float]:
    """The worst comes first: what shows something, what was required and not reached, the lowest grade, the most that
    is still learned."""
    verdict, grade = outcome.report.verdict, _weakest_grade(outcome.report)
    rank = GRADES.index(grade) if grade in GRADES else -1
    figures = [c.figure.estimate for c in outcome.report.conditions if c.figure is not None and c.status == "ok"]
    met = verdict.required is None or verdict.required.met
    return not verdict.valid, met, rank, -max(figures, default=0.0)


def _cells_folder(config: VerifyConfig) -> Path | None:
    return config.report / "cells" if config.cells is None and config.report is not None else config.cells


def _prepare(config: VerifyConfig, problems: Problems) -> tuple[Request, torch.device | RayCluster, LpipsFound]:
    """What is tried, where, and what measures visibility. A cluster is not connected to yet.

    Raises:
        ConfigError, SetupError: all that is wrong, also what was noted before.
    """
    machine = lpips = None
    with problems.collecting():
        config.check_executor()
        if config.on_ray:
            machine = RayCluster(config.cluster_address, workers=config.workers, device=config.device)
        else:
            machine = resolve_device(config.device)
    with problems.collecting():
        lpips = find_lpips(config.lpips)
    request = resolve_request(config, problems)
    if machine is None or lpips is None:  # a problem was noted whenever one is missing
        raise ConfigError("The request could not be checked.")
    return request, machine, lpips


def _verify(data: VerificationData, request: Request, context: _Context, *, minutes: float | None) -> _Outcome:
    began = time.perf_counter()
    cluster = context.trainers.cluster
    recipes, chosen = _settle(request, data, context)
    with _store_and_executor(data, request, context) as (store, executor):
        labellings, skipped = _stage(request, store)
        plan = _plan(data, request, recipes, chosen, {name: found.detail for name, found in labellings.items()})
        if context.folder is not None:
            write_plan(context.folder, plan)
        cache = None if context.cells is None else CellCache(context.cells, fresh=not context.resume)
        stealth = data.stealth()
        data_gates = check_data(stealth, data.issues, data.protection, len(data.test_labels))
        left_out = {c.id: skipped[c.adversary] for c in plan.conditions if c.adversary in skipped}
        if failures := decisive_failures(data_gates):
            # Hours of training would end in the same verdict.
            reason = f"nothing was trained, since {FAILURES[failures[0].id]} ({failures[0].id})"
            left_out = {condition.id: reason for condition in plan.conditions}
        if minutes is not None:  # getting ready takes of them too
            minutes = max(0.0, minutes - (time.perf_counter() - began) / 60)
        try:
            grid = run_grid(
                plan,
                store,
                recipes,
                request.adversaries,
                executor,
                device=context.trainers.device,
                program=None if cluster is None else cluster.program,
                cache=cache,
                step=context.progress,
                minutes=minutes,
                skipped=left_out,
            )
        finally:
            executor.close()  # what stopped workers left half-written can only be removed when they are gone
            if cache is not None:
                cache.close()
    cells = _in_plan_order(plan, grid)
    sample = choose_sample(data, seed=request.seed)
    powers = measure_powers(sample)
    dataset = data.describe(validation_images=VALIDATION)
    conditions = analyse(plan, grid, request.adversaries, labellings)
    gates = check_gates(
        plan, conditions, cells, data.test_labels, len(data.classes), data_gates, data.protection, request.victims
    )
    caveats = list_caveats(request, data, trained=bool(cells))
    conditions, verdict = conclude(plan, conditions, gates, dataset.issues, caveats, first=about_labels(data))
    labels = {name: found.test for name, found in labellings.items()}
    result = VerificationReport(
        tool=describe_tool(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=context.command,
        wall_seconds=round(time.perf_counter() - context.begun, 3),
        plan=plan,
        plan_hash=plan_digest(plan),
        environment=describe_environment(
            context.trainers.device,
            executor.workers,
            executor=executor.name,
            nodes=() if cluster is None else cluster.nodes,
        ),
        dataset=dataset,
        protection=data.protection,
        stealth=stealth,
        spectrum=describe_powers(powers),
        separability=measure_separability(sample, seed=request.seed),
        cells=tuple(cell.record(labels[cell.cell.adversary]) for cell in cells),
        reused_cells=sum(cell.cell in grid.reused for cell in cells),
        conditions=tuple(conditions),
        mixing=mix_points(conditions),
        trainers=trainer_results(conditions, stealth.budget_levels),
        gates=tuple(gates),
        verdict=verdict,
    )
    logger.info("%s", verdict.headline)
    return _Outcome(result, data, cells, labels, powers, context.folder)


def _bound_to_this_process(request: Request) -> list[str]:
    """Victims and adversaries of the caller's own that other processes could not import."""
    bound = [name for name in request.victims if not portable(find_victim(name))]
    return bound + [name for name, adversary in request.adversaries.items() if not portable(adversary.learner())]


@contextmanager
def _store_and_executor(
    data: VerificationData, request: Request, context: _Context
) -> Iterator[tuple[ArrayStore, Executor]]:
    """A temporary folder for what the trainings read, and who runs them."""
    planned = plan_conditions(request)
    cells = {cell for condition in planned for cell in cells_of(condition, range(request.seeds))}
    workers, name, trainers = context.workers, context.executor, context.trainers
    here = name == "serial" or workers == 1 or trainers.cluster is not None  # Ray sends code of a script by value
    if not here and (bound := _bound_to_this_process(request)):
        logger.warning(
            "%s cannot be sent to other processes: written in the script itself, or inside a function. The trainings "
            "run one after the other in this one. In a module that the script imports it could use all CPUs.",
            ", ".join(bound),
        )
        name = "serial"
    if trainers.cluster is not None:
        executor: Executor = trainers.cluster.executor()
    else:
        executor = executor_for(workers, trainers.device_type, len(cells), name)
    try:
        try:
            folder = tempfile.TemporaryDirectory(prefix="bitterant-verify-", ignore_cleanup_errors=True)
        except OSError as error:
            raise temporary_folder_problem(error) from error
        with folder as place:
            yield (
                ArrayStore(
                    Path(place),
                    data,
                    request.adversaries,
                    seed=request.seed,
                    executor=executor,
                    device=trainers.device,
                    tool_device=trainers.tool_device,
                ),
                executor,
            )
    finally:
        executor.close()


def _stage(request: Request, store: ArrayStore) -> tuple[dict[str, Labelling], dict[str, str]]:
    """The labels under each adversary, and why some adversaries cannot be applied.

    Raises:
        ConfigError: a probe is to read features of an untrained network.
        LabelError: an adversary that the caller named does not fit the classes.
        SetupError: an adversary that the caller named needs what this machine lacks.
    """
    labellings: dict[str, Labelling] = {}
    skipped: dict[str, str] = {}
    for name, adversary in request.adversaries.items():
        try:
            labellings[name] = store.labelling(name)
            adversary.check_packages()
            detail = adversary.check(store.resolution)
            if detail is not None:
                labellings[name] = replace(labellings[name], detail=detail)
        except (LabelError, SetupError) as error:
            if request.named:
                raise
            skipped[name] = str(error).rstrip(".")
            logger.warning("%s is not tested: %s", name, error)
    return labellings, skipped


def _settle(
    request: Request, data: VerificationData, context: _Context
) -> tuple[dict[str, Recipe], dict[str, ChosenPrecision]]:
    """How each network is trained, its precision resolved, and why that one.

    A network that cannot be built is told here, before hours of training.
    """
    recipes = request.recipes(len(data.labels))
    tasks = [
        PrecisionTask(
            name=name,
            own=find_victim(name) if name in request.victims else None,
            num_classes=len(data.classes),
            resolution=data.resolution,
            device=context.trainers.device,
            asked=recipe.precision,
            needed=name in request.victims,
        )
        for name, recipe in recipes.items()
        if name in request.victims or recipe.precision == "auto"
    ]
    cluster = context.trainers.cluster
    executor = SerialExecutor() if cluster is None else cluster.executor()
    found = dict(executor.run(find_precision, tasks))
    chosen = {task.name: made for position, task in enumerate(tasks) if (made := found[position]) is not None}
    return {
        name: replace(recipe, precision=chosen[name].name) if name in chosen else recipe
        for name, recipe in recipes.items()
    }, chosen


def _plan(
    data: VerificationData,
    request: Request,
    recipes: dict[str, Recipe],
    chosen: Mapping[str, ChosenPrecision],
    details: Mapping[str, str | None],
) -> Plan:
    conditions = plan_conditions(request, details, images=len(data.labels))
    return Plan(
        rule=RULE,
        preset=request.preset,
        seed=request.seed,
        victim_seeds=tuple(victim_seed(request.seed, index) for index in range(request.seeds)),
        conditions=conditions,
        recipes={name: asdict(recipe) for name, recipe in recipes.items()},
        epochs={name: round(epochs_of(recipe, len(data.labels)), 2) for name, recipe in recipes.items()},
        precision={name: found.to_json() for name, found in chosen.items()},
        resolution=data.resolution,
        train_images=len(data.labels),
        test_images=len(data.test_labels),
        noise_levels=data.noise_levels,
        alpha=ALPHA,
        draws=sufficient_draws(len({condition.tier for condition in conditions}), alpha=ALPHA),
        evals=EVALS,
        max_minutes=request.max_minutes,
        required_tier=request.required_tier,
        required_grade=request.required_grade,
        data_sha256=data.sha256(),
    )


def _in_plan_order(plan: Plan, grid: GridResult) -> list[CellResult]:
    wanted = dict.fromkeys(cell for condition in plan.conditions for cell in cells_of(condition, plan.victim_seeds))
    return [grid.cells[cell] for cell in wanted if cell in grid.cells]
