"""Parameters of simulations in a table next to their files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import xarray as xr

from surrogate.data.formats.patterns import as_number
from surrogate.data.mapping import Mapping
from surrogate.errors import DataError
from surrogate.tables import Table, read_table

__all__ = ["LABEL", "add_table"]

WHOLE = re.compile(r"[-+]?\d{1,15}")
LABEL = "simulation label "  # coordinates that a table is looked up by


def add_table(ds: xr.Dataset, layout: Mapping, folder: Path) -> xr.Dataset:
    """Add the columns of numbers of the table of a layout as parameters; columns of text are left out.

    Raises:
        DataError: The table cannot be read, or does not name every simulation once.
    """
    labels = [name for name in ds.coords if str(name).startswith(LABEL)]
    if layout.table is None:
        return ds
    file, key = folder / layout.table.file, layout.table.key
    table = read_table(file)
    rows = list(range(len(table)))
    if key is None:
        if len(table) != ds.sizes["sample"]:
            raise DataError(f"{file}: has {len(table)} rows for {ds.sizes['sample']} simulations; name a key column")
    else:
        if key not in table.columns or f"{LABEL}{key}" not in ds.coords:
            known = ", ".join(str(name).removeprefix(LABEL) for name in labels)
            raise DataError(f"{file}: layout.table.key '{key}' must be a column and one of {known}")
        wanted, held = [str(text) for text in ds[f"{LABEL}{key}"].values], table.text(key)
        by_number = all(as_number(text) is not None for text in [*wanted, *held])
        names = [str(as_number(t)) if by_number else t for t in held]
        wanted = [str(as_number(t)) if by_number else t for t in wanted]
        if len(set(names)) != len(names) or not set(wanted) <= set(names):
            lost = sorted(set(wanted) - set(names))
            problem = f"no row for {key} = {lost[0]}" if lost else f"two rows for one {key}"
            raise DataError(f"{file}: {problem}; every simulation has one row")
        places = {text: row for row, text in enumerate(names)}
        rows = [places[text] for text in wanted]
    columns = {name: _numbers(table, name) for name in table.columns if name != key and name not in ds.variables}
    kept = {name: ("sample", values[rows]) for name, values in columns.items() if values is not None}
    return ds.drop_vars(labels).assign(kept)


def _numbers(table: Table, name: str) -> np.ndarray | None:
    """Return a column as integers or floating-point numbers; None where a cell is neither a number nor empty."""
    cells = table.text(name)
    if all(WHOLE.fullmatch(cell) for cell in cells):
        return np.array(cells, dtype=np.int64)
    try:
        values = table.numbers([name], missing=True)[:, 0]
    except DataError:
        return None
    return None if np.isnan(values).all() else values
