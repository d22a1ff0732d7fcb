"""The bound every perturbation keeps: how far a pixel may move, and the exact 8-bit rounding that respects it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


# Room for rounding: of 8 / 255 * 255 in float64, and of a float32 perturbation in levels. Far below one level.
EXACT_SLACK = 1e-6
FLOAT32_SLACK = 1e-4

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Budget:
    """The largest change of any one channel of any one pixel.

    Args:
        epsilon: bound as a fraction of the full range, in (0, 1]; ``8 / 255`` is eight 8-bit levels.
        norm: only ``"linf"``, the bound on the largest change.

    Raises:
        ConfigError: epsilon is not a number in (0, 1], or the norm is unknown.
    """

    epsilon: float
    norm: Literal["linf"] = "linf"

    def __post_init__(self) -> None:
        if self.norm != "linf":
            raise ConfigError(f"There is no norm named {self.norm!r}. Known: linf (the largest change of any pixel).")
        try:
            epsilon = float(self.epsilon)
        except (TypeError, ValueError):
            raise ConfigError(f"epsilon must be a number, not {self.epsilon!r}.") from None
        if not math.isfinite(epsilon) or not 0.0 < epsilon <= 1.0:
            hint = f" For {epsilon:g} levels use Budget.from_levels({epsilon:g})." if 1.0 < epsilon <= 255.0 else ""
            raise ConfigError(f"epsilon {epsilon:g} is outside (0, 1]: it is a fraction of the full range.{hint}")
        object.__setattr__(self, "epsilon", epsilon)

    @classmethod
    def from_levels(cls, levels: float) -> Budget:
        """The budget of this many 8-bit levels, as on the command line: ``--epsilon 8``.

        Raises:
            ConfigError: ``levels`` is outside 1..255. Below one level nothing survives in an 8-bit file.
        """
        try:
            value = float(levels)
        except (TypeError, ValueError):
            raise ConfigError(f"epsilon must be a number of levels, not {levels!r}.") from None
        if not 1.0 <= value <= 255.0:
            raise ConfigError(f"epsilon {value:g} is outside 1..255 levels. Usual values lie between 4 and 16.")
        return cls(value / 255.0)

    @property
    def levels(self) -> float:
        """The bound in 8-bit levels: epsilon * 255."""
        return self.epsilon * 255.0

    @property
    def whole_levels(self) -> int:
        """The largest whole number of 8-bit levels inside the bound."""
        return math.floor(self.levels + EXACT_SLACK)

    def project(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The nearest perturbation inside the budget.

        Args:
            delta: float, any shape, in units of the full range (1.0 = black to white).
            images: float in [0, 1], broadcastable to ``delta``. If given, ``images + delta`` also stays in [0, 1].

        Returns:
            A new tensor of the shape of ``delta``. NaN stays NaN, so that :meth:`violations` sees it.
        """
        bounded = delta.clamp(-self.epsilon, self.epsilon)
        if images is None:
            return bounded
        # Bounds on delta itself, not clamp(images + delta) - images: that difference can leave the budget by an ulp.
        return bounded.minimum(1.0 - images).maximum(-images)

    def quantise(self, delta: Tensor) -> Tensor:
        """Round a perturbation to whole 8-bit levels inside the budget.

        Args:
            delta: float, any shape, in units of the full range.

        Returns:
            int16 of the same shape, in levels, every entry within ``±whole_levels``.
        """
        import torch

        limit = float(self.whole_levels)
        return (delta * 255.0).round().clamp(-limit, limit).to(torch.int16)

    def violations(self, levels: Tensor | np.ndarray) -> int:
        """How many entries (in 8-bit levels, signed) lie outside the budget. NaN counts as outside."""
        limit = self.levels + FLOAT32_SLACK
        flat = levels.reshape(-1)
        inside = 0
        for start in range(0, len(flat), _BLOCK):  # in blocks: comparing whole numbers makes float copies of them
            part = flat[start : start + _BLOCK]
            # Two comparisons instead of abs(): abs(-128) of an int8 is -128.
            inside += int(((part <= limit) & (part >= -limit)).sum())
        return math.prod(levels.shape) - inside
