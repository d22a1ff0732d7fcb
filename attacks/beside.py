"""Where the report of a verification lies when nobody says: beside the copies.

The report shows originals and what was added to them. So where the copies are a part of a data set, such as
``public/train``, it lies beside the data set, which is published as a whole.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..records.run_file import beside, data_set_of


def report_beside(protected: Path, cells: Path | None = None) -> tuple[Path | None, Path | None]:
    """The folder of the report, beside PROTECTED or the data set it is a part of, and where trainings are kept.

    An unfinished one goes on. A finished one is left alone: the next gets a number, and shares its trainings.

    Args:
        protected: the folder that is verified.
        cells: where trainings are to be kept, where somebody said so.

    Returns:
        The folder, ``None`` where none can be made; and ``cells``, ``None`` for the report's own.
    """
    # A name, also where PROTECTED is ".."; links are not followed: the report lies beside what was named.
    place = Path(os.path.abspath(protected))  # noqa: PTH100
    if not place.name or not os.access(place.parent, os.W_OK):
        return None, cells
    whole = data_set_of(place)
    if not os.access(whole.parent, os.W_OK):  # a report beside the copies is better than none
        whole = place
    first = beside(place, "report", whole)
    found, number = first, 2
    while os.path.lexists(found) and not _unfinished(found):
        found, number = first.with_name(f"{first.name}-{number}"), number + 1
    if cells is None and found != first and (first / "cells").is_dir():
        cells = first / "cells"
    shown = found if protected.is_absolute() or ".." in protected.parts else Path(os.path.relpath(found))
    return shown, cells


def _unfinished(folder: Path) -> bool:
    """Whether a verification was begun in it and has not written its report, or it is empty."""
    try:
        if not folder.is_dir() or (folder / "report.json").exists():
            return False
        return (folder / "plan.json").exists() or not any(folder.iterdir())
    except OSError:  # another's, that nobody may look into
        return False
