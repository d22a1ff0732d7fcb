"""Quantiles over the files of a folder."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..facts import Spread

__all__ = ["spread_of"]


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Ends, median, outer percentiles and mean; ``None`` where there is no value."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return None
    low, p01, p50, p99, high = np.quantile(known, [0.0, 0.01, 0.5, 0.99, 1.0]).tolist()
    return Spread(min=low, p01=p01, p50=p50, p99=p99, max=high, mean=float(known.mean()))
