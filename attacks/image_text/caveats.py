"""What a reader should keep in mind with this particular result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...imaging.captions import CaptionSet
from ..schema import PairIssue
from .copies import name_some
from .loading import RetrievalData
from .records import Check, WayRecord

__all__ = ["FEW_TEST_PICTURES", "list_caveats"]

FEW_TEST_PICTURES = 1000
"""Below so many the sampling error alone is several points; the paper tests on 1,000 and more."""

_ISSUES = {
    "missing": "{} originals have no copy and were left out; a trainer who finds them learns from them ({}).",
    "leaked": "{} pictures are tested and were left out of training ({}).",
    "untestable": "{} test pictures could not be read ({}).",
    "unreadable": "{} pictures could not be read ({}).",
}
_WAYS = {"image_to_text": "captions for pictures", "text_to_image": "pictures for captions"}


def list_caveats(
    *,
    victim: str,
    seeds: int,
    data: RetrievalData | None,
    issues: Sequence[PairIssue],
    captions: Sequence[CaptionSet],
    ways: Sequence[WayRecord],
    checks: Sequence[Check],
) -> list[str]:
    """One sentence or two each, the gravest first."""
    notes = [
        f"In doubt: {check.title[0].lower()}{check.title[1:]} ({check.value}; wanted: {check.needed})."
        for check in checks
        if check.status == "warn" and check.id != "learned"  # told below, by direction
    ]
    if data is not None:
        notes += _about_power(seeds, data, ways)
    notes += _about_files(issues)
    notes += [text for found in captions for text in found.warnings]
    faults = [f"{problem.relative}: {problem.reason}" for found in captions for problem in found.problems]
    if faults:
        notes.append(f"{len(faults)} captions could not be used ({name_some(faults)}).")
    if data is not None:
        notes += _about_trainer(victim, data.clean.resolution)
    return notes


def _about_power(seeds: int, data: RetrievalData, ways: Sequence[WayRecord]) -> list[str]:
    notes = []
    tested = len(data.test.keys)
    if seeds == 1:
        notes.append("One seed only: the spread between trainings is unknown, so there is no grade.")
    if tested < FEW_TEST_PICTURES:
        moved = 100 * 1.96 * (0.25 / tested) ** 0.5
        notes.append(
            f"Only {tested} test pictures: at a Hit of 50 % chance alone moves a figure by {moved:.0f} points. "
            f"{FEW_TEST_PICTURES} or more are better."
        )
    low = sorted({way.k for way in ways if way.k < 10})
    if low:
        notes.append(
            f"With so few to choose from, Hit@{' and Hit@'.join(map(str, low))} is judged: a larger one would often be "
            "right by guessing."
        )
    weak = [_WAYS[way.way] for way in ways if not way.learned]
    if weak and len(weak) < len(ways):
        notes.append(f"Not judged, since the CLIP trained on the originals did not learn to find {weak[0]}.")
    counts = Counter(text for several in data.test.captions for text in set(several))
    if max(counts.values()) > 1:
        notes.append(
            f"{len(data.test.keys)} test pictures share {len(counts)} captions: any picture that has a caption counts "
            "as the right one."
        )
    if data.test_source == "split":
        notes.append("The test pictures were held out from CLEAN; neither they nor their copies were trained on.")
    return notes


def _about_files(issues: Sequence[PairIssue]) -> list[str]:
    notes = []
    for kind, text in _ISSUES.items():
        names = [issue.path for issue in issues if issue.kind == kind]
        if names:
            notes.append(text.format(len(names), name_some(names)))
    return notes


def _about_trainer(victim: str, resolution: int) -> list[str]:
    notes = [f"The CLIP saw pictures squashed to {resolution} x {resolution} pixels."]
    if victim.startswith("clip:"):
        notes.append("One trainer was tried, who goes on from trained weights and does not process the pictures.")
    else:
        notes.append(
            "One trainer was tried, who starts from random weights and does not process the pictures. Fine-tuning a "
            "pretrained CLIP is hindered far less (--victim clip:ARCH/TAG), and JPEG may undo the protection."
        )
    return notes
