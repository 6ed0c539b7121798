"""Designs of experiments: the parameters of each simulation within their ranges."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.stats import qmc

from surrogate import tables
from surrogate.config import Settings
from surrogate.data.hdf5.array import open_file
from surrogate.data.hdf5.storage import h5_array
from surrogate.errors import ConfigError, DataError, did_you_mean
from surrogate.files import regular

__all__ = ["Sampling", "design", "read_table"]

Array = NDArray[np.float64]


class Sampling(Settings):
    """The method that chooses the parameters.

    Arguments:
        method: `random`: each simulation on its own. `latin_hypercube`: one simulation in each of n equal layers of
            every parameter. `sobol`: a scrambled low-discrepancy sequence, whose first points do not depend on how many
            follow. `table`: given by the user.
        table: The file of a table: CSV with a line of names, or HDF5 with one dataset per parameter. Row i is
            simulation i.
        sha256: The file's checksum; filled in when a data set is made, so that it is made again from the same table.
    """

    method: Literal["random", "latin_hypercube", "sobol", "table"] = "random"
    table: str | None = None
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _complete(self) -> Sampling:
        if (self.method == "table") != (self.table is not None):
            raise ValueError("`table` names a file, and goes with `method: table` only")
        return self


def design(method: str, seed: int, simulations: int, parameters: int) -> Array | None:
    """Return shares in [0, 1) of the way through each range, with shape (simulations, parameters); None where each
    simulation draws its own.

    They follow from the seed and the number of simulations alone, so any simulation can be made again by itself.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    if parameters == 0 or method in ("random", "table"):
        return None
    if method == "latin_hypercube":
        return np.asarray(qmc.LatinHypercube(parameters, seed=rng).random(simulations))
    with warnings.catch_warnings():  # any number of simulations is fine here; balance at powers of two is a bonus
        warnings.filterwarnings("ignore", message="The balance properties", category=UserWarning)
        return np.asarray(qmc.Sobol(parameters, scramble=True, seed=rng).random(simulations))


def read_table(sampling: Sampling, sizes: dict[str, int], rows: int) -> tuple[dict[str, Array], str]:
    """Read the columns of a table, each with shape (n,) or (n, size), and the checksum of its file.

    Arguments:
        sampling: Where the table is.
        sizes: The parameters it must hold and how many numbers each has. In CSV a vector `y` has columns `y_0`, ...
        rows: Number of simulations; further rows are not used.

    Raises:
        ConfigError: The file cannot be read, lacks a parameter or rows, or was changed since its checksum was noted.
    """
    path = Path(str(sampling.table))
    try:
        content = regular(path).read_bytes()
    except DataError as error:
        raise ConfigError(f"cannot read table: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read table {path}: {error.strerror}; give the path of a CSV or HDF5 file") from error
    checksum = hashlib.sha256(content).hexdigest()
    if sampling.sha256 not in (None, checksum):
        raise ConfigError(f"table {path} was changed since the data set was begun; use the old one or --overwrite")
    hdf5 = content.startswith(b"\x89HDF")
    columns = _from_hdf5(path, sizes) if hdf5 else _from_csv(content, path, sizes)
    for name, values in columns.items():
        if values.shape != (len(values), *((sizes[name],) if sizes[name] > 1 else ())) or not len(values):
            raise ConfigError(f"table {path}: {name} has shape {values.shape}, expected {sizes[name]} numbers a row")
        if len(values) < rows:
            raise ConfigError(f"table {path} has {len(values)} rows of {name}, the size has {rows} simulations")
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(bad):
            raise ConfigError(f"table {path}: {name} in row {bad[0]} is not a finite number; correct the table")
    return columns, checksum


def _from_csv(content: bytes, path: Path, sizes: dict[str, int]) -> dict[str, Array]:
    wanted = {name: [name] if size == 1 else [f"{name}_{i}" for i in range(size)] for name, size in sizes.items()}
    try:
        table = tables.read_table(path, content)
        for column in (column for parts in wanted.values() for column in parts):
            _refuse_missing(column, dict.fromkeys(table.columns), path)
        columns = {name: table.numbers(parts, missing=True) for name, parts in wanted.items()}
    except DataError as error:
        raise ConfigError(f"cannot read table {path} as CSV: {error}") from error
    return {name: values[:, 0] if sizes[name] == 1 else values for name, values in columns.items()}


def _from_hdf5(path: Path, sizes: dict[str, int]) -> dict[str, Array]:
    try:
        with open_file(path) as file:
            known = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
            for name in sizes:
                _refuse_missing(name, known, path)
                if known[name].dtype.kind not in "fiu" or not known[name].ndim:
                    raise ConfigError(
                        f"table {path}:{name} holds {known[name].dtype}, expected a column of real numbers"
                    )
            return {name: np.asarray(h5_array(known[name])[...], dtype=np.float64) for name in sizes}
    except DataError as error:
        raise ConfigError(f"cannot read table: {error}") from error


def _refuse_missing(name: str, known: Mapping[str, object], path: Path) -> None:
    if name not in known:
        raise ConfigError(f"table {path} has no column '{name}'; {did_you_mean(name, known)}")
