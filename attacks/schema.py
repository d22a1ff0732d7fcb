"""The shape of ``report.json`` and ``plan.json``. A change that breaks readers raises ``SCHEMA_VERSION``."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any, Literal

from pydantic import Field

from .facts import Dataset, Environment, Part, Protection, Separability, Spectrum, Stealth, Text, Tool
from .terms import Arm, Crafting, Fit, Metric, Readout, Task, Tier, TrainerClass

SCHEMA_VERSION = 7
"""7 takes in the verifications with captions, which had a shape of their own."""

RULE_VERSION = "v6"
"""v2 graded balanced accuracy and mixing too; v3 adds the gate G4, equivalence, and wider intervals for small tests; v4
tests each condition of a tier at the full level, leaves moments chosen with the test answers ungraded, calls open only
what no grade is shown for, and lets G1 and G2 fail by one-sided bounds; v5 lets noise cost more where the protected
pictures cost several times as much beyond it (G2); v6 weighs noise by the mean over the classes too, and asks a CLIP at
least ten questions."""

Basis = Literal["accuracy", "balanced accuracy"]
Grade = Literal["strong", "moderate", "weak", "none", "inconclusive", "not graded", "not tested"]
GRADES: tuple[Grade, ...] = ("weak", "moderate", "strong")
"""What can be required, in rising order."""


class Estimate(Part):
    """A point estimate with its two-sided 95 % interval."""

    estimate: float
    low: float
    high: float


class Bounds(Part):
    """Two one-sided bounds, each of 95 %: what may be said to be surely above, or surely below."""

    lower: float
    upper: float


class CurveRow(Part):
    """One point of a learning curve; accuracies in [0, 1]. ``train_loss`` is ``None`` where it was not finite."""

    step: int
    epoch: float
    train_loss: float | None
    train_accuracy: float
    test_accuracy: float | None


class CellRecord(Part):
    """One training: an arm, what the adversary did to the pictures, a victim, a seed.

    Attributes:
        seed_index: 0, 1, ...; trainings of one index share weights at the start, batch order and augmentation.
        train_accuracy: on the training pictures at the end; of a CLIP, how often a caption was told from the others of
            its batch in the last epoch.
        accuracy: on the clean test pictures at the end; ``None`` for a CLIP, whose answers stand in its conditions.
        peak_accuracy: at the best point of the curve, chosen with the test answers; ``None`` for a CLIP.
    """

    arm: Arm
    adversary: str
    victim: str
    seed_index: int
    victim_seed: int
    steps: int
    train_accuracy: float
    final_loss: float | None
    finite: bool
    accuracy: float | None
    peak_accuracy: float | None
    peak_step: int
    seconds: float
    curve: tuple[CurveRow, ...]


class ArmResult(Part):
    """One arm of a condition. Where captions and pictures are ranked, an accuracy is Hit@k at the k that is judged.

    Attributes:
        accuracies: one a seed, as the adversary reads them out (at the end or at the peak).
        accuracy: their mean, with interval.
        balanced: the mean over the classes of the accuracy within each, with interval.
        permuted_accuracy: mean accuracy after the best renaming of the classes, cross-fitted.
        train_accuracies: one a seed, on the training pictures at the end.
        final, peak, validated: accuracies, one a seed, at the end, at the best moment by the test answers, and at that
            of a few clean pictures (``None`` where there is but the end).
        macro_f1: one a seed: the mean over the tested classes of the harmonic mean of precision and recall.
        per_class: accuracy within each class, mean over the seeds; ``None`` for a class without test pictures.
        confusion: test pictures by true class (row) and predicted class (column), summed over the seeds; ``None``
            where there are too many classes to write that down (``predictions.npz`` holds it).
        steps, seconds: of each training, one a seed; zero steps for what is solved and not trained.
    """

    accuracies: tuple[float, ...]
    accuracy: Estimate
    balanced: Estimate
    permuted_accuracy: float
    train_accuracies: tuple[float, ...]
    final: tuple[float, ...] = ()
    peak: tuple[float, ...] = ()
    validated: tuple[float | None, ...] = ()
    macro_f1: tuple[float, ...] = ()
    per_class: tuple[float | None, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    steps: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()


class Reading(Part):
    """What the trainer gets at one moment of the training, and what the same pipeline gives on clean pictures.

    Accuracies are the mean over the classes of the accuracy within each, which is plain accuracy where the classes have
    equally many test pictures: readings of different conditions can be compared.

    Attributes:
        accuracy: with protected pictures, after the best renaming of the classes where that helps the trainer.
        clean: with clean ones, at the same moment.
        rho: residual learnability at this moment, on the accuracy that is worse for the protection; ``None`` for
            conditions that mix.
    """

    accuracy: Estimate
    clean: Estimate
    rho: Estimate | None = None


class Ranking(Part):
    """How one arm ranks the answers.

    Attributes:
        hits: Hit@k by k: the share of the questions answered among the first k; one a seed.
        median_ranks: median rank of the best right answer, 1 is best; one a seed.
    """

    hits: dict[int, tuple[float, ...]]
    median_ranks: tuple[int, ...]

    def hit(self, k: int) -> float:
        """Hit@k, mean over the seeds."""
        return fmean(self.hits[k])

    def deviation(self, k: int) -> float | None:
        """Standard deviation of Hit@k over the seeds; ``None`` for one seed."""
        return stdev(self.hits[k]) if len(self.hits[k]) > 1 else None

    @property
    def median_rank(self) -> float:
        """Mean over the seeds."""
        return fmean(self.median_ranks)


class Retrieval(Part):
    """What a condition is beside its accuracies where captions are ranked for pictures, or pictures for captions.

    Attributes:
        task: which of the two.
        questions: how many were asked: a test picture each, or a different caption each.
        k: the cut-off that is judged, chosen by the number of test pictures and captions alone.
        chance: Hit@k of guessing, by k.
        chance_rank: median rank of guessing.
        arms: how well each arm ranks.
    """

    task: Task
    questions: int
    k: int
    chance: dict[int, float]
    chance_rank: int
    arms: dict[Arm, Ranking]


class Condition(Part):
    """One adversary with one victim, and one task where a victim has several.

    Attributes:
        trainer: what a trainer who does this owns and spends.
        crafting: whether protections were made or tuned with this adversary in view.
        metric: what is graded: ``rho``, residual learnability, or ``mv``, the marginal value of a protected share.
        detail: what exactly was done, where the name does not say it.
        share: protected share of the pictures, for adversaries that mix; ``None`` where it is all of them.
        status: ``ok``; ``set aside`` where a validity gate failed or the metric is undefined; ``dropped`` where it
            could not be run.
        reason: why it is not ``ok``.
        chance: accuracy without looking: the share of the largest class of the test set, under its own labels.
        balanced_chance: the same for balanced accuracy: one over the number of classes tested.
        arms: what was trained on, and how well it did.
        basis: whether the graded figure rests on plain or on class-balanced accuracy: the one that is worse for the
            protection.
        rho: residual learnability, same adversary in numerator and denominator; after the best renaming of classes
            where that helps the trainer.
        rho_upper: one-sided 95 % upper bound of this condition. Where those of all conditions of a tier lie below a
            figure, so do all the true ones (95 %): one claim, an intersection-union test.
        rho_abs: the same share of what clean pictures give without the adversary.
        mv: (mixed - part) / (clean - part), in [-10, 10].
        mv_upper: the same of the marginal value.
        joint_upper: the wider bound of what is graded that holds at once with those of all other tiers: 95 % for all
            planned tiers together (Bonferroni over the tiers).
        nmv: the same with random noise in the place of protection.
        mv_gap: clean - part, the denominator; where its interval reaches 0 the marginal value is undefined.
        harmful: whether the protected share makes the model worse, beyond chance.
        worthless: whether the marginal value is shown to be nothing either way: two one-sided tests, each at 5 %, find
            it within the margin of the rule. ``None`` where there is no marginal value.
        clean_bounds: of the accuracy of the clean arm; G1 rests on them.
        noise_loss: clean minus noise accuracy; plain, or the mean over the classes where noise costs more of that.
        noise_bounds: of it; G2 rests on them.
        beyond_noise: of what protected pictures cost beyond noise of the same size: noise minus protected accuracy, of
            the same kind.
        renamed: whether renaming the classes helped the trainer.
        readings: what the trainer gets, by moment: where the adversary reads its victims out at the end, also at the
            best moment by the test answers, if there was a learning curve.
        retrieval: ranks, for a victim that ranks captions or pictures; ``None`` for one that names classes.
    """

    id: str
    tier: Tier
    trainer: TrainerClass
    crafting: Crafting
    adversary: str
    victim: str
    phrase: Text
    source: str
    readout: Readout
    metric: Metric = "rho"
    detail: Text | None = None
    share: float | None = None
    status: Literal["ok", "set aside", "dropped"]
    reason: Text | None = None
    chance: float | None = None
    balanced_chance: float | None = None
    arms: dict[Arm, ArmResult] = Field(default_factory=dict)
    basis: Basis = "accuracy"
    rho: Estimate | None = None
    rho_upper: float | None = None
    rho_abs: Estimate | None = None
    mv: Estimate | None = None
    mv_upper: float | None = None
    joint_upper: float | None = None
    nmv: Estimate | None = None
    mv_gap: Estimate | None = None
    harmful: bool = False
    worthless: bool | None = None
    clean_bounds: Bounds | None = None
    noise_loss: Estimate | None = None
    noise_bounds: Bounds | None = None
    beyond_noise: Bounds | None = None
    renamed: bool = False
    readings: dict[Readout, Reading] = Field(default_factory=dict)
    retrieval: Retrieval | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> ArmResult | None:
        """The arm of all clean pictures, where it was tested."""
        return self.arms.get("clean")

    @property
    def protected(self) -> ArmResult | None:
        """The arm of all protected pictures, where it was tested."""
        return self.arms.get("protected")

    @property
    def noise(self) -> ArmResult | None:
        """The arm of all noisy pictures, where it was tested."""
        return self.arms.get("noise")

    @property
    def treated(self) -> ArmResult | None:
        """The arm with protected pictures in it, where it was tested."""
        return self.arms.get("protected" if self.metric == "rho" else "mixed")

    @property
    def figure(self) -> Estimate | None:
        """What is graded."""
        return self.rho if self.metric == "rho" else self.mv

    @property
    def upper(self) -> float | None:
        """Its upper bound, which the grade rests on."""
        return self.rho_upper if self.metric == "rho" else self.mv_upper

    @property
    def oracle(self) -> bool:
        """Whether its moment was chosen with the test answers, which no trainer has: it is shown and not graded."""
        return self.readout == "peak"


class MixPoint(Part):
    """One protected share with one victim: what the protected pictures are worth beside clean ones.

    Attributes:
        id: of the condition it belongs to.
        share: of the pictures that are protected.
        clean, part, mixed, noise_mixed: accuracy with all pictures clean, with the clean part alone, with the share
            protected, and with the share noisy; at equal steps.
        mv, nmv: marginal value of the protected share, and of a share of random noise.
    """

    id: str
    victim: str
    share: float
    clean: Estimate
    part: Estimate
    mixed: Estimate
    noise_mixed: Estimate
    mv: Estimate | None
    nmv: Estimate | None


class Gate(Part):
    """A reason not to believe the numbers that was looked for.

    Attributes:
        id: G1 to G8.
        scope: which trainings it is about; ``all`` for the whole run.
        status: ``pass``, ``warn`` or ``fail``.
        decisive: whether a failure makes the whole run INVALID; else it only sets conditions aside.
        spared: it failed, and is a doubt only because the condition gets no grade anyhow; or it is a doubt (G1, G2)
            from which no grade may come. Conditions that rest on the same trainings and would get one are set aside.
    """

    id: str
    scope: str
    title: str
    status: Literal["pass", "warn", "fail"]
    decisive: bool
    spared: bool = False
    value: str
    threshold: str


class TierVerdict(Part):
    """The grade of one tier.

    Attributes:
        grade: what is shown for every condition of the tier at 95 %, for this tier by itself.
        joint_grade: what is shown at 95 % for all planned tiers at once.
        upper: largest upper bound among its conditions: of rho, or of the marginal value (mixing).
        worst: id of the condition with the worst grade, by its upper bound among those.
        complete: whether everything planned for the tier was tested, and on every picture.
    """

    tier: Tier
    title: str
    grade: Grade
    joint_grade: Grade = "not graded"
    upper: float | None = None
    worst: str | None = None
    complete: bool = True
    tested: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()


class WorstCase(Part):
    """The condition of a class of trainers, and the moment, in which the trainer gets most.

    Attributes:
        id: of the condition.
        moment: at the ``final`` step, at the ``peak`` by the test answers, which no trainer has, or at the best step
            for a few clean pictures (``validated``).
        accuracy, clean, rho: its reading at that moment.
        mv: for conditions that mix, the marginal value of the protected share, at the end.
        chance: of the accuracies.
    """

    id: str
    adversary: str
    victim: str
    crafting: Crafting
    moment: Readout
    accuracy: Estimate
    clean: Estimate
    rho: Estimate | None
    mv: Estimate | None = None
    chance: float


class TrainerResult(Part):
    """One class of trainers: what it gets at most. Nothing here is graded.

    Attributes:
        meaning: what a trainer of the class owns and spends.
        worst: where the trainer gets most, over the end and the best moment; ``None`` where nothing of the class was
            tested.
        at_end: the same without best moments that were chosen with the test answers.
        seen, held_out: the worst case among adversaries that were seen in crafting, and among those held out from it.
        tested: ids of the conditions that count.
        untested: what does not count, and why. It was not survived.
    """

    trainer: TrainerClass
    meaning: str
    worst: WorstCase | None
    at_end: WorstCase | None
    seen: WorstCase | None
    held_out: WorstCase | None
    tested: tuple[str, ...]
    untested: tuple[Text, ...]


class Requirement(Part):
    """What the caller demanded. ``tier`` is ``None`` for the weakest tested one."""

    tier: Tier | None
    grade: Grade
    met: bool


class Verdict(Part):
    """What it comes to.

    Attributes:
        rule: version of the rule; its thresholds stand in the plan.
        valid: whether every decisive gate was passed.
        graded: False for a smoke test: one seed gives no grade.
        headline: one sentence that names the weakest tested tier.
    """

    rule: Literal["v6"] = RULE_VERSION
    valid: bool
    graded: bool
    headline: str
    tiers: tuple[TierVerdict, ...]
    weakest: Tier | None
    not_tested: tuple[str, ...]
    caveats: tuple[Text, ...]
    required: Requirement | None = None


class PlannedCondition(Part):
    """A condition as it was planned, in the order in which conditions are kept when time is short.

    Attributes:
        fit: what learns: a network, or a probe on frozen features of ``victim``.
        task: what it is tested by.
        trainer: what a trainer who does this owns and spends.
        crafting: whether protections were made or tuned with this adversary in view.
        reads: its arms, and for each the name of the adversary whose trainings it reads. The arm ``shuffled``, the
            control of G4, is trained once and not a seed.
        detail: what exactly is done, where the name does not say it.
    """

    id: str
    tier: Tier
    trainer: TrainerClass
    crafting: Crafting
    adversary: str
    victim: str
    metric: Metric = "rho"
    fit: Fit = "network"
    task: Task = "classes"
    reads: dict[Arm, str]
    detail: Text | None = None


class GradeBounds(Part):
    """A grade is given where the one-sided 95 % upper bound of every condition is at most this."""

    strong: float
    moderate: float
    weak: float


class Rule(Part):
    """The thresholds of the verdict, as they were when it was planned.

    Attributes:
        learned_share: G1: how much of the way from chance to perfect the clean victim must have come. It fails where
            the upper bound lies below, or the estimate does and the lower bound is not above chance.
        times_guessing: G1, where captions or pictures are ranked: a clean victim has learned enough, too, that is right
            so many times as often as guessing.
        noise_margin: G2: accuracy that random noise of the same size may cost. It fails where the lower bound is more.
        times_noise: G2: noise that costs more is a doubt and no failure where protected pictures surely cost so many
            times as much beyond it.
        fitted_share: G3: least training accuracy of the protected arm over that of the clean arm.
        shuffled_errors: G4: standard errors that the lower bound lies below the accuracy.
        shuffled_margin: G4: how much of the way from chance to perfect a victim may come that was trained with shuffled
            labels, as a lower bound.
        near_share: G5: share of the test pictures that may nearly equal a training picture.
        rho, mv: the grades of residual learnability, and of the marginal value of a protected share.
        widest: where no grade is shown, and the estimate would give one, an interval wider than this that reaches into
            it decides nothing.
        equivalence_margin: a marginal value that is shown to be within this of nothing is worthless.
    """

    version: Literal["v6"] = RULE_VERSION
    learned_share: float
    times_guessing: float
    noise_margin: float
    times_noise: float
    fitted_share: float
    shuffled_margin: float
    shuffled_errors: float
    near_share: float
    rho: GradeBounds
    mv: GradeBounds
    widest: float
    equivalence_margin: float


class Plan(Part):
    """Everything that decides about the result, written down before the first training.

    Attributes:
        rule: the thresholds that decide.
        victim_seeds: seeds of the trainings, shared by all arms.
        recipes: how each victim is trained, the same in every arm.
        epochs: how often each victim sees every training picture.
        precision: what each victim is trained in, the share of the signs of its input gradient that bfloat16 keeps
            (null where that was not measured), and the reason.
        noise_levels: amplitude of the noise arm in 1/255.
        data_sha256: over the pictures and labels that are trained on and tested on.
    """

    schema_version: int = SCHEMA_VERSION
    rule: Rule
    preset: str
    seed: int
    victim_seeds: tuple[int, ...]
    conditions: tuple[PlannedCondition, ...]
    recipes: dict[str, dict[str, Any]]
    epochs: dict[str, float] = Field(default_factory=dict)
    precision: dict[str, dict[str, Any]] = Field(default_factory=dict)
    resolution: int
    train_images: int
    test_images: int
    noise_levels: float
    alpha: float
    draws: int
    evals: int
    max_minutes: float | None
    required_tier: Tier | None
    required_grade: Grade | None
    data_sha256: str


class LabellingResult(Part):
    """What came of one way to sort pictures that came without classes.

    Attributes:
        grouping: how they were sorted.
        shown: whether the report is about this one.
        valid: whether every decisive gate was passed.
        headline: its verdict.
        weakest: its weakest tested tier, and the grade of that.
    """

    grouping: Text
    shown: bool
    valid: bool
    headline: str
    weakest: Tier | None
    grade: Grade


class VerificationReport(Part):
    """The whole result; ``report.json`` is this object.

    Attributes:
        kind: what victims were taught and tested by: the classes of pictures, or their captions.
        created: when, in UTC.
        command: repeats the run.
        plan_hash: sha256 of ``plan.json``, which was written before the first training.
        wall_seconds: of this run alone.
        cells: every training; its seconds are those it took when it was done, also where that was in an earlier run.
        reused_cells: how many of them an earlier run had done.
        spectrum: of the change; ``None`` where nothing changed.
        separability: whether a linear classifier tells the class from it, and copies from originals; ``None`` too.
        mixing: the conditions that mix, by victim and share.
        trainers: the worst case of every class of trainers, also of those of which nothing was tested.
        labellings: where the pictures came without classes, every way in which they were sorted; the report is about
            the one in which the protection does worst.
        protections: number of protected copies that were judged. It is one, made once, so no interval holds what
            another seed of the protection would have changed.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["classification", "retrieval"] = "classification"
    tool: Tool
    created: str
    command: Text
    wall_seconds: float
    plan: Plan
    plan_hash: str
    environment: Environment
    dataset: Dataset
    protection: Protection | None
    stealth: Stealth
    spectrum: Spectrum | None = None
    separability: Separability | None = None
    cells: tuple[CellRecord, ...]
    reused_cells: int = 0
    conditions: tuple[Condition, ...]
    mixing: tuple[MixPoint, ...] = ()
    trainers: tuple[TrainerResult, ...] = ()
    labellings: tuple[LabellingResult, ...] = ()
    protections: Literal[1] = 1
    gates: tuple[Gate, ...]
    verdict: Verdict

    def exit_code(self) -> int:
        """5 where a validity gate failed, 4 where a required grade was not reached, else 0."""
        if not self.verdict.valid:
            return 5
        required = self.verdict.required
        return 4 if required is not None and not required.met else 0

    def condition(self, identity: str) -> Condition:
        """The condition with this id.

        Raises:
            KeyError: there is none.
        """
        for condition in self.conditions:
            if condition.id == identity:
                return condition
        raise KeyError(identity)
