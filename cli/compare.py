"""``bitterant compare REPORT REPORT...``: several verifications side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from . import options
from .boundary import guarded, prepare_torch
from .output import shown

if TYPE_CHECKING:
    from ..attacks.report.compare import Comparison


@options.takes_options()
def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT...", help="Folders of verify --report, or their report.json."),
    ],
    terminal: options.Terminal,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page. Never overwritten.")
    ] = None,
) -> None:
    """Put verifications of several protections side by side: grades, accuracies, worst cases, visibility.

    They must have the same test pictures, classes and verdict rule. Where seeds or victims differ you are warned.
    """
    out = terminal.output
    with guarded(out, debug=terminal.debug):
        prepare_torch()
        from ..attacks.report.compare import compare_reports, render_comparison
        from ..records.files import check_free, write_atomic

        if output is not None:
            check_free(output)
        found = compare_reports(reports)
        for warning in found.warnings:
            out.warn(warning)
        columns, rows = _table(found)
        out.answer(columns, rows)
        if output is not None:
            write_atomic(output, render_comparison(found).encode(), overwrite=False)
            out.facts([("page", str(output))])
        out.result(_plain(asdict(found)))


def _table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """One line for each row of each section."""
    columns = ["", *(shown(column.name) for column in found.columns)]
    rows = [["method", *(column.method for column in found.columns)]]
    for section in found.sections:
        rows += [[row.name, *(cell.words for cell in row.cells)] for row in section.rows]
    return columns, rows


def _plain(value: Any) -> Any:
    """Figures as JSON has them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
