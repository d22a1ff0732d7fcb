"""What a reader should keep in mind with this particular run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..adversaries import Adversary
from ..data import VerificationData
from ..request import Request
from ..schema import Gate
from ..training import victim_family

__all__ = ["FEW_TEST_IMAGES", "list_caveats", "note_gates"]

FEW_TEST_IMAGES = 1000
"""Below so many test pictures the sampling error alone is several points (verification.md 3.5)."""


def list_caveats(request: Request, data: VerificationData) -> list[str]:
    """One sentence each, the gravest first."""
    return [*_about_numbers(request, data), *_about_files(data), *_about_trainers(request, data)]


def note_gates(gates: Sequence[Gate]) -> list[str]:
    """A sentence for each gate that was passed with a doubt."""
    return [
        f"In doubt{'' if gate.scope == 'all' else f' with {gate.scope}'}: {gate.title[0].lower()}{gate.title[1:]} "
        f"({gate.id}: {gate.value}; wanted: {gate.threshold})."
        for gate in gates
        if gate.status == "warn"
    ]


def _about_numbers(request: Request, data: VerificationData) -> list[str]:
    notes = []
    count = len(data.test_labels)
    if request.seeds == 1:
        notes.append("One seed only: the spread between trainings is unknown, so there is no grade.")
    if count < FEW_TEST_IMAGES:
        half_width = 100 * 1.96 * (0.25 / count) ** 0.5
        notes.append(
            f"Only {count} test pictures: at 50 % accuracy chance alone moves a figure by {half_width:.1f} points. "
            f"{FEW_TEST_IMAGES} or more are better."
        )
    if data.test_source == "split":
        notes.append("The test pictures were held out from CLEAN; their protected copies took no part in training.")
    tested = set(data.test_labels.tolist())
    absent = [name for label, name in enumerate(data.classes) if label not in tested]
    if absent:
        notes.append(f"Without test picture, so not judged: {', '.join(absent)}.")
    return notes


def _about_files(data: VerificationData) -> list[str]:
    counts = Counter(issue.kind for issue in data.issues)
    texts = {
        "missing": "{} originals have no protected copy and were left out; a trainer who finds them learns from them.",
        "extra": "{} files in PROTECTED have no original and were left out.",
        "leaked": "{} training pictures are in the test folder too and were left out of training.",
        "untestable": "{} test pictures could not be read.",
    }
    notes = [text.format(counts[kind]) for kind, text in texts.items() if counts[kind]]
    if data.budget_levels is None:
        notes.append("No budget was stated for the change, so only its measured size is reported.")
    return notes


def _about_trainers(request: Request, data: VerificationData) -> list[str]:
    adversaries = list(request.adversaries.values())
    notes = [f"The victims saw pictures squashed to {data.resolution} x {data.resolution} pixels."]
    changed = [a.name for a in adversaries if type(a).transform is not Adversary.transform]
    if changed:
        notes.append(
            f"{', '.join(changed)}: applied at that size, once, to the training pictures of every arm and to the test "
            "pictures alike; each result is compared with clean pictures under the same treatment."
        )
    if any(a.readout == "peak" for a in adversaries):
        notes.append("early-stop chooses its moment with the test answers: an upper bound for that trainer.")
    surrogate = data.protection.surrogate if data.protection else None
    if surrogate and all(victim == surrogate for victim in request.victims):
        notes.append(f"Every victim has the architecture of the protector's own model ({surrogate}): the easy case.")
    notes.append("Not looked for: a victim on shuffled labels (G4), near-duplicates of test pictures in training (G5).")
    families = {victim_family(victim) for victim in request.victims}
    if len(families) == 1:
        notes.append("All victims are of one architecture family.")
    return notes
