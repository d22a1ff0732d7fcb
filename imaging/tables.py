"""The tables of Hugging Face's ``imagefolder``: rows about pictures, which they name in columns of their own."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import CaptionError, SetupError
from ..records.text import csv_line, parse_json

TABLE_NAMES: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")

#: Told the row (the line of a text file) and a file name in it; answers the name that is to stand there.
Visit = Callable[[int, str], str]


def is_name_column(column: str) -> bool:
    """Whether a column names files: ``file_name``, ``file_names``, or one that ends in ``_file_name(s)``."""
    return column in ("file_name", "file_names") or column.endswith(("_file_name", "_file_names"))


def visit_names(name: str, data: bytes, visit: Visit) -> bytes:
    """Show every file name in a table to ``visit`` and put its answers in their places.

    Args:
        name: what the table is called, which says its format.
        data: its bytes.
        visit: see above. Names in lists are visited one by one.

    Returns:
        The table with the answers; ``data`` itself where no name changed, or where it is no table.

    Raises:
        CaptionError: it cannot be understood; nothing was changed.
        SetupError: it is a Parquet table and pyarrow is not installed.
    """
    kind = name.lower()
    try:
        if kind == "metadata.jsonl":
            return _visit_jsonl(data, visit)
        if kind == "metadata.csv":
            return _visit_csv(data, visit)
        if kind == "metadata.parquet":
            return _visit_parquet(data, visit)
    except RecursionError as error:
        raise CaptionError("a line of it is nested too deeply") from error
    except (ValueError, csv.Error) as error:
        raise CaptionError(str(error)) from error
    return data


def _answer(row: int, value: object, visit: Visit) -> object:
    """A cell with its names replaced; the same object where none changed."""
    if isinstance(value, str):
        new = visit(row, value)
        return value if new == value else new
    if isinstance(value, list):
        items = [_answer(row, item, visit) for item in value]
        return value if items == value else items
    return value


def _visit_entry(row: int, entry: Mapping[str, Any], visit: Visit) -> dict[str, Any] | None:
    """The entry with the answers; ``None`` where none changed."""
    new = {key: _answer(row, value, visit) if is_name_column(key) else value for key, value in entry.items()}
    return None if new == entry else new


def _visit_jsonl(data: bytes, visit: Visit) -> bytes:
    lines, changed = data.split(b"\n"), False
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            entry = parse_json(line, finite=False)
        except ValueError as error:
            raise CaptionError(f"line {index + 1}: {error}") from error
        new = _visit_entry(index + 1, entry, visit) if isinstance(entry, dict) else None
        if new is not None:
            lines[index] = json.dumps(new, ensure_ascii=False).encode("utf-8")
            changed = True
    return b"\n".join(lines) if changed else data


def _visit_csv(data: bytes, visit: Visit) -> bytes:
    text = data.decode("utf-8-sig")
    delimiter = csv_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    columns: list[int] = []
    changed = False
    for row in reader:
        if not rows:
            columns = [index for index, column in enumerate(row) if is_name_column(column.strip())]
        else:
            for column in columns:
                if column < len(row):
                    new = _visit_cell(reader.line_num, row[column], visit)
                    changed |= new != row[column]
                    row[column] = new
        rows.append(row)
    if not changed:
        return data
    end = "\r\n" if "\r\n" in text else "\n"
    lines = "".join(csv_line(row, delimiter) + end for row in rows)
    return (b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b"") + lines.encode("utf-8")


def csv_delimiter(text: str) -> str:
    """What divides the columns: spreadsheets write semicolons or tabs where the comma is the decimal sign."""
    head = re.split("[\r\n]", text, maxsplit=1)[0]  # either ends a row
    found = (sign for sign in ",;\t" if any(is_name_column(cell.strip(' "')) for cell in head.split(sign)))
    return next(found, ",")


def _visit_cell(row: int, cell: str, visit: Visit) -> str:
    """A cell of text: a name, or a list of names as JSON, which is how a list stands in a CSV file."""
    if cell.startswith("["):
        try:
            names = parse_json(cell)
        except ValueError:
            return visit(row, cell)
        new = _answer(row, names, visit)
        return cell if new is names else json.dumps(new, ensure_ascii=False)
    return visit(row, cell) if cell else cell


def _visit_parquet(data: bytes, visit: Visit) -> bytes:
    table = read_parquet(data)
    pyarrow, parquet = import_pyarrow()
    changed = False
    for index, column in enumerate(table.column_names):
        if not is_name_column(column):
            continue
        values = table.column(index).to_pylist()
        new = [_answer(row, value, visit) for row, value in enumerate(values, start=1)]
        if new != values:
            field = table.schema.field(index)
            table = table.set_column(index, field, pyarrow.array(new, type=field.type))
            changed = True
    if not changed:
        return data
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def read_parquet(data: bytes) -> Any:
    """A Parquet table, as pyarrow's ``Table``.

    Raises:
        CaptionError: it is damaged.
        SetupError: pyarrow is not installed.
    """
    pyarrow, parquet = import_pyarrow()
    try:
        return parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise CaptionError(f"it is no Parquet table that can be read: {str(error).splitlines()[0]}") from error


def import_pyarrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``, of which only those need have them who have tables.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise SetupError(
            "Parquet tables are read by pyarrow, which is not installed: pip install 'bitterant[parquet]'"
        ) from error
