"""Write and verify shards, and the manifest that lists them; a shard is complete or absent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import h5py
import numpy as np
import xarray as xr
from pydantic import AfterValidator, Field, ValidationError

from surrogate.config import Settings
from surrogate.data.hdf5.netcdf import NO_COORDINATE
from surrogate.data.hdf5.writer import BLOCK_BYTES, Room, filling, reserve, set_attributes, write_file
from surrogate.errors import DataError
from surrogate.files import regular, replacing, sha256

__all__ = [
    "MANIFEST",
    "MANIFEST_BYTES",
    "Failure",
    "Manifest",
    "Shard",
    "check_shard",
    "filling_shard",
    "is_whole",
    "read_manifest",
    "verify",
    "write_manifest",
    "write_shard",
]

MANIFEST = "manifest.json"
MANIFEST_BYTES = 64 * 2**20


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"'{name}' is not a plain file name")
    return name


class Shard(Settings):
    """Entry of a manifest: one file of a data set."""

    file: Annotated[str, AfterValidator(_plain_name)]
    samples: int = Field(gt=0)
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Failure(Settings):
    """Entry of a manifest: a simulation that became unstable and is not in the data."""

    simulation: int = Field(ge=0)
    parameters: dict[str, float]


class Manifest(Settings):
    """Contents of a data set; `digest` identifies the settings that made it."""

    version: Literal[1] = 1
    name: str
    digest: str
    samples: int = Field(ge=0)
    shards: list[Shard]
    failed: list[Failure] = Field(default_factory=list)


# --- shards ----------------------------------------------------------------------------------------------------------


def write_shard(
    path: Path,
    dataset: xr.Dataset,
    *,
    block_bytes: int = BLOCK_BYTES,
    reread: bool = False,
    done: Callable[[int], None] | None = None,
) -> Shard:
    """Write a data set as one NetCDF-4-conforming HDF5 file, or leave the previous file unchanged.

    Every variable is contiguous, uncompressed and little-endian, so a memory map reads it at `Dataset.id.get_offset()`.
    Lazy variables are computed a block at a time.

    Arguments:
        path: The file; an older version stays until the new one is complete.
        dataset: Numeric variables over named dimensions, the first dimension of a field being `sample`.
        block_bytes: Bound of the values in memory at a time.
        reread: Read the shard again and compare the SHA-256 of its values before it becomes visible.
        done: Called with the bytes of every block that was written.

    Returns:
        The entry of the shard in a manifest.

    Raises:
        DataError: There is no sample, or a variable does not hold numbers.
        ResourceError: The disk is full, read-only or out of quota.
    """
    samples = dataset.sizes.get("sample", 0)
    if not samples or not all(dataset.sizes.values()):
        raise DataError(f"nothing to write to {path}: the data set has the sizes {dict(dataset.sizes)}")
    written = write_file(path, partial(_declare, dataset, path), block_bytes=block_bytes, reread=reread, done=done)
    return Shard(file=path.name, samples=samples, bytes=written.bytes, sha256=written.sha256)


@contextmanager
def filling_shard(path: Path, template: xr.Dataset, later: Collection[str]) -> Iterator[Room]:
    """Open a file such as `write_shard` makes, in which the caller fills some variables, in any order.

    Arguments:
        path: The file; it becomes visible, or replaces an older version, when the block ends without an error.
        template: Variables as for `write_shard`; of those in `later` only type, axes and attributes matter.
        later: Names of the variables that the caller fills.

    Raises:
        ResourceError: The disk is full, read-only or out of quota.
    """
    with filling(path, partial(_declare, template, path)) as room:
        for name, variable in room.values.items():
            if name not in later:
                room.put(name, 0, variable.values)
        yield room


def _declare(dataset: xr.Dataset, path: Path, file: h5py.File) -> dict[str, xr.Variable]:
    """Create dimensions, variables and attributes of a shard; return the values to fill in."""
    set_attributes(file, dataset.attrs)
    for index, (dim, length) in enumerate(dataset.sizes.items()):
        if dim in dataset.variables:
            scale, label = _create(file, str(dim), dataset[dim].variable, path), str(dim)
        else:  # the NetCDF-4 form of a dimension without a coordinate: a scale that holds no data
            scale, label = file.create_dataset(str(dim), (length,), ">f4"), NO_COORDINATE % length
        scale.make_scale(label)
        scale.attrs["_Netcdf4Dimid"] = np.int32(index)
    for name in map(str, dataset.variables):
        if name in dataset.sizes:
            continue
        variable = dataset[name].variable
        target = _create(file, name, variable, path)
        for axis, dim in enumerate(variable.dims):
            target.dims[axis].attach_scale(file[str(dim)])
        auxiliary = [
            str(c) for c in dataset.coords if c not in dataset.sizes and {*dataset[c].dims} <= {*variable.dims}
        ]
        if name in dataset.data_vars and auxiliary:
            set_attributes(target, {"coordinates": " ".join(auxiliary)})
    return {str(name): variable for name, variable in dataset.variables.items()}


def _create(file: h5py.File, name: str, variable: xr.Variable, path: Path) -> h5py.Dataset:
    """Create a contiguous variable whose space in the file is reserved and not filled."""
    if variable.dtype.kind not in "fiu":
        raise DataError(f"cannot write {path}:{name}: it holds {variable.dtype}, only real numbers can be stored")
    if "/" in name:
        raise DataError(f"cannot write {path}:{name}: a name with a slash would be a group; rename the variable")
    target = reserve(file, name, variable.shape, variable.dtype)
    set_attributes(target, variable.attrs)
    return target


# --- manifest --------------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, manifest: Manifest, file: str = MANIFEST) -> None:
    """Write the manifest of a folder, after all of its shards."""
    with replacing(folder / file) as part:
        part.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path, file: str = MANIFEST) -> Manifest:
    """Read and check the manifest of a folder; its shards are not opened.

    Raises:
        DataError: There is no manifest, or the file is not a manifest.
    """
    path = folder / file
    try:
        if regular(path).stat().st_size > MANIFEST_BYTES:
            raise DataError(f"{path} is larger than {MANIFEST_BYTES} bytes: not a manifest")
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {file}: not a data set, or one not finished; resume the simulation"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path}: {where}: {first['msg']}; make the data set again") from error


def verify(folder: Path) -> Manifest:
    """Check every shard of a data set against its manifest.

    Raises:
        DataError: A shard is missing, or was changed after it was written.
    """
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        check_shard(folder, shard)
    return manifest


def check_shard(folder: Path, shard: Shard) -> None:
    """Check one shard against its entry in a manifest.

    Raises:
        DataError: It is missing, or was changed after it was written.
    """
    path = folder / shard.file
    try:
        size = path.stat().st_size
        digest = sha256(path) if size == shard.bytes else None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; the manifest names it, make it again") from error
    if digest is None:
        raise DataError(f"{path} has {size} bytes, its manifest says {shard.bytes}; copy or make it again")
    if digest != shard.sha256:
        raise DataError(f"{path} was changed after it was written (SHA-256 differs); copy or make it again")


def is_whole(folder: Path, shard: Shard) -> bool:
    """Return True if a shard of an earlier run is complete and unchanged."""
    try:
        check_shard(folder, shard)
    except DataError:
        return False
    return True
