"""The conditions that mix protected with clean pictures, as points of a curve."""

from __future__ import annotations

from collections.abc import Sequence

from ..schema import Condition, MixPoint

__all__ = ["mix_points"]


def mix_points(conditions: Sequence[Condition]) -> tuple[MixPoint, ...]:
    """One point for each victim and protected share that was trained, in that order."""
    points = [
        MixPoint(
            id=condition.id,
            victim=condition.victim,
            share=condition.share,
            clean=condition.arms["clean"].accuracy,
            part=condition.arms["part"].accuracy,
            mixed=condition.arms["mixed"].accuracy,
            noise_mixed=condition.arms["noise-mixed"].accuracy,
            mv=condition.mv,
            nmv=condition.nmv,
        )
        for condition in conditions
        if condition.share is not None and {"clean", "part", "mixed", "noise-mixed"} <= set(condition.arms)
    ]
    victims = list(dict.fromkeys(point.victim for point in points))
    return tuple(sorted(points, key=lambda point: (victims.index(point.victim), point.share)))
