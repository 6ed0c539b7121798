"""Strict reading of CSV tables with a header: every row fits the header, or one line says which does not."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surrogate.errors import DataError, did_you_mean

__all__ = ["Table", "read_table"]

NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
MISSING = ("", "nan", "na")
LARGEST = float(np.finfo(np.float32).max)
SHOWN = 60  # letters of a cell in a message


@dataclass(frozen=True)
class Table:
    """The cells of a table as text.

    Arguments:
        path: The file.
        columns: Names of the columns.
        lines: Number of the line in the file, by row.
        cells: Cells by row, as many as there are columns.
    """

    path: Path
    columns: list[str]
    lines: list[int]
    cells: list[list[str]]

    def __len__(self) -> int:
        return len(self.cells)

    def text(self, name: str) -> list[str]:
        """Return the cells of a column."""
        column = self.columns.index(name)
        return [cells[column] for cells in self.cells]

    def numbers(self, names: Sequence[str], *, missing: bool = False) -> np.ndarray:
        """Return columns as numbers, with shape (rows, columns) in float64.

        Arguments:
            names: Names of the columns.
            missing: Cells may be empty, `nan` or `NA`; they become NaN.

        Raises:
            DataError: There is no such column, or a cell is no finite number in the range of float32.
        """
        for name in names:
            if name not in self.columns:
                hint = "; separate the columns by commas" if re.search(r"[;\t]", "".join(self.columns)) else ""
                raise DataError(f"{self.path}: no column '{name}'; {did_you_mean(name, self.columns)}{hint}")
        values = np.full((len(self), len(names)), np.nan)
        for position, column in enumerate(map(self.columns.index, names)):
            for row, (line, cells) in enumerate(zip(self.lines, self.cells, strict=True)):
                text = cells[column]
                if missing and text.lower() in MISSING:
                    continue
                if not NUMBER.fullmatch(text) or abs(float(text)) > LARGEST:
                    shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
                    raise DataError(
                        f"{self.path}: column '{names[position]}', line {line}: {shown!r} is no finite number"
                        + (" in the range of float32" if NUMBER.fullmatch(text) else "")
                    )
                values[row, position] = float(text)
        return values


def read_table(path: Path, content: bytes | None = None) -> Table:
    """Read a table of comma-separated values whose first line names the columns.

    Blank lines are skipped; numbers of lines in messages count them.

    Arguments:
        path: The file.
        content: Its bytes, where they have been read already.

    Raises:
        DataError: It cannot be read, a column has no name or that of another one, or a row has another number of cells
            than there are columns; the message names the line.
    """
    if content is None:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is not a regular file; give a file of comma-separated values")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read table {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8 text; save the table as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns: list[str] = []
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) and len(cells) < 2:
                continue
            if not columns:
                columns = cells
                _check_header(path, columns, reader.line_num)
            elif len(cells) != len(columns):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(cells)} values, but the header names {len(columns)} "
                    "columns; correct the line or the header"
                )
            else:
                lines.append(reader.line_num)
                rows.append(cells)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: no table of comma-separated values: {error}") from error
    if not columns:
        raise DataError(f"{path}: no table of comma-separated values: the file is empty")
    if not rows:
        raise DataError(f"{path}: the table has no row; give one row below the header for each sample")
    return Table(path, columns, lines, rows)


def _check_header(path: Path, columns: Sequence[str], line: int) -> None:
    """Refuse columns without a name, with the same name, or named by numbers."""
    if "" in columns:
        raise DataError(f"{path}: line {line}: column {columns.index('') + 1} has no name; name it or remove it")
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        first = columns.index(name)
        second = columns.index(name, first + 1)
        raise DataError(f"{path}: columns {first + 1} and {second + 1} are both named '{name}'; remove one")
    if all(map(NUMBER.fullmatch, columns)):
        raise DataError(f"{path}: line {line} holds numbers; the first line must name the columns")
