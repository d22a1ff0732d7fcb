"""The shape of the ``report.json`` of ``bitterant t2ue verify``. A change that breaks readers raises the version."""

from __future__ import annotations

from typing import Any, Literal

from ..facts import Environment, PairIssue, Part, Protection, Stealth, Text, Tool
from ..schema import Estimate, Grade

ArmName = Literal["clean", "noise", "protected"]
WayName = Literal["image_to_text", "text_to_image"]
WAYS: tuple[WayName, ...] = ("image_to_text", "text_to_image")
WAY_TITLES: dict[WayName, str] = {"image_to_text": "Captions for pictures", "text_to_image": "Pictures for captions"}
ARM_WORDS: dict[ArmName, str] = {"clean": "the originals", "noise": "random noise", "protected": "the copies"}
"""What a CLIP was trained on, for people."""


class TrainingRecord(Part):
    """One training: an arm, a seed.

    Attributes:
        seed_index: 0, 1, ...; trainings of one index share weights at the start, order, crops and choice of captions.
        loss: mean of the last epoch; ``None`` where it was not finite.
        image_to_text, text_to_image: Hit@k by k: share of queries answered among the first k.
        image_to_text_rank, text_to_image_rank: median ranks, 1 is best.
    """

    arm: ArmName
    seed_index: int
    loss: float | None
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    image_to_text_rank: int
    text_to_image_rank: int


class ArmRecord(Part):
    """One arm in one direction, over the seeds.

    Attributes:
        hits: mean Hit@k by k.
        spread: its standard deviation over the seeds; 0 for one seed.
        rank: mean of the median ranks.
        judged: Hit@k at the k that is judged, with its 95 % interval over seeds and test pictures.
    """

    hits: dict[int, float]
    spread: dict[int, float]
    rank: float
    judged: Estimate


class WayRecord(Part):
    """One direction: captions for pictures, or pictures for captions.

    Attributes:
        queries: how many were asked.
        k: the cut-off that is judged, chosen by the number of test pictures and captions alone.
        chance: what guessing gives, by k.
        chance_rank: median rank of guessing.
        arms: clean, noise and protected.
        needed: Hit@k that the clean arm needs for the direction to say anything.
        learned: whether it has that, and its interval lies above guessing.
        left: share of the clean arm's gain over guessing that the protected arm keeps, in [0, 1]; ``None`` where the
            clean arm did not learn.
        below_noise: whether the protected arm lies clearly (95 %) below the noise arm.
        grade: of ``left``; ``none`` where random noise does as much, ``inconclusive`` where that is not clear, and
            ``not tested`` where the clean arm did not learn.
    """

    way: WayName
    queries: int
    k: int
    chance: dict[int, float]
    chance_rank: int
    arms: dict[ArmName, ArmRecord]
    needed: float
    learned: bool
    left: Estimate | None
    below_noise: bool
    grade: Grade


class PictureRecord(Part):
    """What was trained on and tested on.

    Attributes:
        train_captions, test_captions: different ones.
        caption_sources: number of pictures by where their captions come from, the test folder's included.
        test_source: a folder of their own, or held out from CLEAN.
        resolution: side in px at which the CLIP saw the pictures.
    """

    train_pictures: int
    test_pictures: int
    train_captions: int
    test_captions: int
    caption_sources: dict[str, int]
    test_source: Literal["folder", "split"]
    resolution: int


class Check(Part):
    """A reason not to believe the figures that was looked for.

    Attributes:
        id: ``files``, ``apart``, ``sound``, ``learned``, ``noise`` or ``fitted``.
        decisive: whether a failure makes the whole result invalid.
    """

    id: Literal["files", "apart", "sound", "learned", "noise", "fitted"]
    title: str
    status: Literal["pass", "warn", "fail"]
    decisive: bool
    value: Text
    needed: str


class RetrievalVerdict(Part):
    """What it comes to.

    Attributes:
        valid: whether every decisive check was passed.
        graded: False where the result is invalid, and for one seed, which gives no grade.
        grade: that of the direction that is worse for the protection.
        headline: one or two sentences.
        caveats: what to keep in mind, the gravest first.
    """

    valid: bool
    graded: bool
    grade: Grade
    headline: Text
    caveats: tuple[Text, ...]


class RetrievalVerification(Part):
    """The whole result; ``report.json`` is this object.

    Attributes:
        command: what repeats it.
        recipe: how every arm was trained.
        noise_levels: amplitude of the noise arm in 1/255.
        pictures: ``None`` where files were not as they should be, and nothing was trained.
        stealth: how far the copies are from the originals, decoded at full size.
        protection: what the run file of the copies says; ``None`` without one. Told, not trusted.
        issues: files that do not fit or were left out.
    """

    schema_version: Literal[1] = 1
    kind: Literal["retrieval"] = "retrieval"
    tool: Tool
    created: str
    command: Text
    wall_seconds: float
    environment: Environment
    victim: str
    seed: int
    seeds: int
    recipe: dict[str, Any]
    noise_levels: float
    pictures: PictureRecord | None
    stealth: Stealth
    protection: Protection | None
    issues: tuple[PairIssue, ...]
    trainings: tuple[TrainingRecord, ...]
    ways: tuple[WayRecord, ...]
    checks: tuple[Check, ...]
    verdict: RetrievalVerdict

    def exit_code(self) -> int:
        """5 where a decisive check failed, else 0."""
        return 0 if self.verdict.valid else 5

    def way(self, name: WayName) -> WayRecord:
        """One direction.

        Raises:
            KeyError: nothing was trained.
        """
        for record in self.ways:
            if record.way == name:
                return record
        raise KeyError(name)
