"""``bitterant t2ue verify``: does a CLIP that is trained on the copies still learn what the captions say?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..attacks.config import RetrievalConfig
from . import options
from .boundary import guarded, prepare_torch
from .output import Output
from .progress import ProgressDisplay

if TYPE_CHECKING:
    from ..attacks import RetrievalVerification
    from ..attacks.retrieval.records import WayRecord


SHOWN_FILES = 10
SHOWN_CAVEATS = 5
TOLD_AS_CAVEATS = ("missing", "leaked", "near")


@options.takes_options(RetrievalConfig)
def verify(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help="The originals, with their captions.")],
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="The protected copies of the same pictures.")],
    given: options.Given,
    terminal: options.Terminal,
) -> None:
    """Step 4, by the owner: train a CLIP on CLEAN, on PROTECTED and on random noise, and compare what it finds.

    It learns from pictures and captions, then has to find the caption of each test picture and the picture of each
    caption. For class folders there is also 'bitterant verify'. Exit code 5: the result is not valid, since copies are
    not as they should be or the clean CLIP itself learned too little.
    """
    output = terminal.output
    with guarded(output, debug=terminal.debug, stopped="Stopped. Nothing was decided; the same command starts over."):
        config = RetrievalConfig.of(given)
        prepare_torch()
        from dataclasses import replace

        from .. import attacks
        from ..imaging.caption_files import read_class_names
        from ..imaging.captions import CaptionOptions

        captions = CaptionOptions(
            source=config.source,
            column=config.column,
            coco=config.coco,
            class_names={} if config.class_names is None else read_class_names(config.class_names),
        )
        with ProgressDisplay(output) as progress:
            result = attacks.verify_retrieval(
                clean,
                protected,
                test=config.test,
                captions=captions,
                test_captions=None if config.test_coco is None else replace(captions, coco=config.test_coco),
                report=config.report,
                victim=config.victim,
                seeds=config.seeds,
                epochs=config.epochs,
                resolution=config.resolution,
                seed=config.seed,
                device=config.device,
                **config.fetching(),
                progress=progress,
            )
        tell_retrieval(output, result, config.report)
        output.result(result.model_dump(mode="json"))
        raise typer.Exit(result.exit_code())


def tell_retrieval(output: Output, result: RetrievalVerification, report: Path | None) -> None:
    """Print the tables, the verdict, the files that do not fit, what to keep in mind, and where the report lies."""
    from ..attacks.retrieval.records import WAY_TITLES

    for way in result.ways:
        output.say(f"{WAY_TITLES[way.way]}, in %" + (", mean ± standard deviation" if result.seeds > 1 else ""))
        for line in _table(_rows(way, several=result.seeds > 1)):
            output.say(f"  {line}")
        output.say()
    output.say(result.verdict.headline, style="bold")
    over = [(name, "over the budget") for name in result.stealth.over_budget]
    odd = over + [(issue.path, issue.detail) for issue in result.issues if issue.kind not in TOLD_AS_CAVEATS]
    for name, detail in odd[:SHOWN_FILES]:
        output.say(f"  {name}: {detail}")
    if len(odd) > SHOWN_FILES:
        output.say(f"  ... and {len(odd) - SHOWN_FILES} more; all stand in --json and in the report")
    for caveat in result.verdict.caveats[:SHOWN_CAVEATS]:
        output.say(f"  - {caveat}", style="dim")
    if report is not None:
        output.facts([("report", str(report / "report.html")), ("for programs", str(report / "report.json"))])


def _rows(way: WayRecord, *, several: bool) -> list[list[str]]:
    from ..attacks.retrieval.records import ARM_WORDS

    rows = [["trained on", *(f"Hit@{k}" for k in way.chance), "median rank", f"left of Hit@{way.k}"]]
    for name, arm in way.arms.items():
        hits = [
            f"{100 * arm.hits[k]:.1f}" + (f" ± {100 * arm.spread[k]:.1f}" if several else "") for k in way.chance
        ]  # fmt: skip
        left = ""
        if name == "protected":
            left = (
                "not known"
                if way.left is None
                else f"{100 * way.left.estimate:.0f} % ({100 * way.left.low:.0f} to {100 * way.left.high:.0f})"
            )
        rows.append([ARM_WORDS[name], *hits, f"{arm.rank:.0f}", left])
    rows.append(["guessing", *(f"{100 * value:.1f}" for value in way.chance.values()), f"{way.chance_rank}", ""])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
