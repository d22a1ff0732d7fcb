"""Holding pictures out for the test, fixed by a seed and by what the pictures are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from ..enough import TEST_SHARE

__all__ = ["stratified_split"]


def stratified_split(
    keys: Sequence[str], labels: Sequence[int], *, seed: int, share: float = TEST_SHARE
) -> tuple[list[int], list[int]]:
    """Split positions into training and test, class by class.

    Pictures are ordered by a hash of the seed and their key, so the split depends on neither names nor order. Pictures
    with the same key (identical files) stay on one side. At least one picture of a class is tested and one is trained
    on; a class of a single picture is trained on only.

    Args:
        keys: identity of each picture.
        labels: class of each picture.
        seed: of the split.
        share: part of each class to test on.

    Returns:
        Positions for training and for the test, each ascending.
    """
    groups: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (key, label) in enumerate(zip(keys, labels, strict=True)):
        groups[label][key].append(position)
    train: list[int] = []
    test: list[int] = []
    for label in sorted(groups):
        members = groups[label]
        total = sum(len(positions) for positions in members.values())
        wanted = max(1, round(total * share))
        ordered = sorted(members, key=lambda key: _draw(seed, key))
        taken = 0
        for number, key in enumerate(ordered):
            if taken < wanted and number < len(ordered) - 1:
                test += members[key]
                taken += len(members[key])
            else:
                train += members[key]
    return sorted(train), sorted(test)


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"bitterant split {seed} {key}".encode("utf-8", "surrogateescape")).digest()
