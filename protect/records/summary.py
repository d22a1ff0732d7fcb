"""What a run hands back: counts, problems, where things lie, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...imaging.loading import FileProblem

__all__ = ["BEFORE_PUBLISHING", "FitSummary", "RunSummary"]

#: What to do with our own files in OUT.
BEFORE_PUBLISHING = (
    "Before you publish the folder, move bitterant-report.html, bitterant-run.json and bitterant-manifest.jsonl out of "
    "it: the report shows some originals and what was added to them, which helps whoever wants to take it off."
)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The outcome of :func:`protect_folder` and :func:`apply_folder`.

    Attributes:
        counts: ``protected``, ``copied``, ``skipped``, ``failed``; their sum is the number of inputs.
        over_budget: pictures whose change on disk is larger than epsilon (only ever with ``format="same"``).
        seconds: wall clock, this part of the run.
        images_per_second: pictures protected in this part of the run over ``seconds``.
        report: ``bitterant-report.html``.
        run_file: ``bitterant-run.json``.
        manifest: ``bitterant-manifest.jsonl``.
        bank: where the bank was kept, or ``None``.
        problems: failed and skipped files with the reason; hidden files are left out.
        warnings: what the user should know.
        already_done: the folder was finished by an earlier run and nothing was done.
        resumed_rows: inputs that an earlier, interrupted part of the run had finished.
        strict: skipped files count as failures.
        unprotected: pictures that OUT lacks: failed, or skipped for whatever reason.
    """

    counts: dict[str, int]
    over_budget: int
    seconds: float
    images_per_second: float
    report: Path
    run_file: Path
    manifest: Path
    bank: Path | None = None
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    already_done: bool = False
    resumed_rows: int = 0
    strict: bool = False
    unprotected: int = 0

    @property
    def inputs(self) -> int:
        """Number of input files of any kind."""
        return sum(self.counts.values())

    @property
    def exit_code(self) -> int:
        """0, or 1 where files failed or most pictures are left without protection (with ``strict``: where any file is
        listed in ``problems``)."""
        return int(self.counts["failed"] > 0 or self.mostly_unprotected or (self.strict and bool(self.problems)))

    @property
    def mostly_unprotected(self) -> bool:
        """Whether more pictures were left out than were protected."""
        return self.unprotected > self.counts["protected"]

    @property
    def headline(self) -> str:
        """The outcome in one or two sentences."""
        counts = self.counts
        parts = [f"{counts['protected']} pictures protected"]
        parts += [f"{counts[name]} {word}" for name, word in _WORDS if counts[name]]
        start = "Nothing to do, the folder is finished: " if self.already_done else ""
        text = f"{start}{', '.join(parts)}; {self.inputs} files in all."
        if self.mostly_unprotected:
            pictures = self.unprotected + self.counts["protected"]
            text += f" Most pictures are NOT protected: {self.unprotected} of {pictures} are not in the output."
        if self.over_budget:
            text += f" {self.over_budget} are over the budget on disk, because they were written as JPEG."
        return text

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            "headline": self.headline,
            "exit_code": self.exit_code,
            "counts": dict(self.counts),
            "inputs": self.inputs,
            "over_budget": self.over_budget,
            "unprotected": self.unprotected,
            "already_done": self.already_done,
            "resumed_rows": self.resumed_rows,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 3),
            "report": str(self.report),
            "run_file": str(self.run_file),
            "manifest": str(self.manifest),
            "bank": None if self.bank is None else str(self.bank),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
            "warnings": list(self.warnings),
            "before_publishing": BEFORE_PUBLISHING,
        }


_WORDS = (("copied", "captions and label maps copied"), ("skipped", "skipped"), ("failed", "failed"))


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """The outcome of :func:`fit_folder`.

    Attributes:
        bank: the bank file. Keep it private: it takes the protection off.
        images: pictures it was fitted on.
        seconds: wall clock.
        problems: pictures that could not be read.
        warnings: what the user should know.
        report: the method's own report: stop rule, what the self-check reached.
        already_done: an earlier call made the bank for the same request, and nothing was done.
    """

    bank: Path
    images: int
    seconds: float
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    already_done: bool = False

    @property
    def exit_code(self) -> int:
        """0, or 1 where pictures could not be read."""
        return int(bool(self.problems))

    @property
    def headline(self) -> str:
        """The outcome in one sentence."""
        unread = f", {len(self.problems)} could not be read" if self.problems else ""
        if self.already_done:
            return f"Nothing to do: the bank {self.bank} was made for these pictures and settings. Keep it private."
        return f"Fitted on {self.images} pictures{unread}; the bank is {self.bank}. Keep it private."

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            "headline": self.headline,
            "exit_code": self.exit_code,
            "bank": str(self.bank),
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
            "warnings": list(self.warnings),
            "report": self.report,
            "already_done": self.already_done,
        }
