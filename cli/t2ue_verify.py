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
from .verify import tell_misfits, tell_missing_records, tell_verdict

if TYPE_CHECKING:
    from ..attacks import VerificationReport
    from ..attacks.schema import Condition, Retrieval


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
        tell_ranks(output, result)
        tell_verdict(output, result, config.report)
        tell_misfits(output, result)
        tell_missing_records(output, result, protected)
        output.result(result.model_dump(mode="json"))
        raise typer.Exit(result.exit_code())


def tell_ranks(output: Output, result: VerificationReport) -> None:
    """Print one table for each way in which captions and pictures were asked for."""
    from ..attacks.terms import TASK_TITLES

    several = len(result.plan.victim_seeds) > 1
    for condition in result.conditions:
        if condition.retrieval is None:
            continue
        title = TASK_TITLES[condition.retrieval.task]
        output.say(f"{title}, in %" + (", mean ± standard deviation" if several else ""))
        for line in _table(_rows(condition, condition.retrieval)):
            output.say(f"  {line}")
        output.say()


def _rows(condition: Condition, found: Retrieval) -> list[list[str]]:
    from ..attacks.terms import ARM_WORDS

    rows = [["trained on", *(f"Hit@{k}" for k in found.chance), "median rank", f"left of Hit@{found.k}"]]
    for arm, ranking in found.arms.items():
        hits = []
        for k in found.chance:
            deviation = ranking.deviation(k)
            hits.append(f"{100 * ranking.hit(k):.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}"))
        left = ""
        if arm == "protected":
            rho = condition.rho
            left = "not known"
            if condition.status == "ok" and rho is not None:
                left = f"{100 * rho.estimate:.0f} % ({100 * rho.low:.0f} to {100 * rho.high:.0f})"
        rows.append([ARM_WORDS.get(arm, arm), *hits, f"{ranking.median_rank:.0f}", left])
    rows.append(["guessing", *(f"{100 * value:.1f}" for value in found.chance.values()), f"{found.chance_rank}", ""])
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
