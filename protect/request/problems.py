"""Collecting what is wrong with a request, so that a user is told everything at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...errors import BitterantError, ConfigError, SetupError, UnknownNameError

__all__ = ["Problems", "check_choice"]


class Problems:
    """Collects what is wrong, to raise it together."""

    def __init__(self) -> None:
        self.found: list[BitterantError] = []

    def add(self, error: BitterantError | None) -> None:
        """Note an error; ``None`` is no error."""
        if error is not None:
            self.found.append(error)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note a configuration or environment error of the block instead of raising it."""
        try:
            yield
        except (ConfigError, SetupError) as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise what was found: one error as it is, several as one ConfigError with a line each.

        Raises:
            ConfigError: something is wrong with what was asked for.
            SetupError: only the machine is to blame.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise self.found[0]
        lines = [f"{len(self.found)} things are wrong:", *(f"  - {error}" for error in self.found)]
        only_setup = all(isinstance(error, SetupError) for error in self.found)
        together = (SetupError if only_setup else ConfigError)("\n".join(lines))
        together.lines = tuple(lines)
        raise together


def check_choice(kind: str, value: str, known: Sequence[str]) -> UnknownNameError | None:
    """An error if ``value`` is none of the known names."""
    return None if value in known else UnknownNameError(kind, value, known)
