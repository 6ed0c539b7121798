"""Parameters of simulations in a table next to their files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from surrogate.data.formats.patterns import as_number
from surrogate.data.mapping import Mapping
from surrogate.errors import DataError

__all__ = ["LABEL", "add_table"]

LABEL = "simulation label "  # coordinates that a table is looked up by


def add_table(ds: xr.Dataset, layout: Mapping, folder: Path) -> xr.Dataset:
    """Add the columns of the table of a layout as parameters.

    Raises:
        DataError: The table cannot be read, or does not name every simulation once.
    """
    labels = [name for name in ds.coords if str(name).startswith(LABEL)]
    if layout.table is None:
        return ds
    file, key = folder / layout.table.file, layout.table.key
    try:
        table = pd.read_csv(file, dtype={key: str} if key else None, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from error
    if key is None:
        if len(table) != ds.sizes["sample"]:
            raise DataError(f"{file}: has {len(table)} rows for {ds.sizes['sample']} simulations; name a key column")
    else:
        if key not in table or f"{LABEL}{key}" not in ds.coords:
            known = ", ".join(str(name).removeprefix(LABEL) for name in labels)
            raise DataError(f"{file}: layout.table.key '{key}' must be a column and one of {known}")
        wanted = [str(text) for text in ds[f"{LABEL}{key}"].values]
        by_number = all(as_number(text) is not None for text in [*wanted, *table[key]])
        names = [str(as_number(t)) if by_number else t for t in map(str, table[key])]
        wanted = [str(as_number(t)) if by_number else t for t in wanted]
        if len(set(names)) != len(names) or not set(wanted) <= set(names):
            lost = sorted(set(wanted) - set(names))
            problem = f"no row for {key} = {lost[0]}" if lost else f"two rows for one {key}"
            raise DataError(f"{file}: {problem}; every simulation has one row")
        table = table.drop(columns=key).iloc[[names.index(text) for text in wanted]]
    columns = {
        str(n): ("sample", table[n].to_numpy())
        for n in table
        if table[n].dtype.kind in "fiub" and n not in ds.variables
    }
    return ds.drop_vars(labels).assign(columns)
