"""Targets of a conversion: folders and files of a layout, each of which any process can write by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from surrogate.data.formats.text import encode_text
from surrogate.data.formats.write_pdebench import choose_family, write_pdebench
from surrogate.data.formats.write_well import by_split, fields_of, write_well
from surrogate.data.store import Shard, write_shard

__all__ = ["TARGETS", "Target", "folders_of", "plain_name", "samples_per_file"]

TARGETS = ("shards", "the_well", "pdebench")


@dataclass(frozen=True)
class Target:
    """A layout to write, and how much to write at a time.

    Arguments:
        to: One of `TARGETS`.
        block_bytes: Values in memory.
        samples: Simulations of a file.
    """

    to: str
    block_bytes: int
    samples: int

    def file_name(self, name: str, index: int) -> str:
        """Name of a file of the data set `name`."""
        return f"{plain_name(name)}-{index:05d}.{'h5' if self.to == 'shards' else 'hdf5'}"

    def write(self, path: Path, ds: xr.Dataset, first: int, done: Callable[[int], None]) -> Shard:
        """Write one file, read it again and compare.

        Arguments:
            path: The file.
            ds: Its simulations.
            first: Number of the first of them among all.
            done: Called with the bytes written since the call before.
        """
        if self.to == "shards":
            ds = encode_text(ds)
            flags = [name for name, variable in ds.variables.items() if variable.dtype.kind == "b"]
            ds = ds.assign({name: ds[name].astype(np.uint8) for name in flags})
            return write_shard(path, ds, block_bytes=self.block_bytes, reread=True, done=done)
        if self.to == "the_well":
            return write_well(path, ds, block_bytes=self.block_bytes, done=done, name=path.stem)
        if choose_family(ds) == "per seed" and ds.nbytes <= self.block_bytes:
            ds = ds.load()  # seeds are written one after another, while the chunks of the source hold many
        return write_pdebench(path, ds, first=first, block_bytes=self.block_bytes, done=done)


def plain_name(name: str) -> str:
    """Turn the name of a folder into one that can begin the names of files."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "data"


def folders_of(ds: xr.Dataset, output: Path, to: str) -> dict[Path, xr.Dataset]:
    """Assign simulations to folders; refuse what the target cannot hold before anything is written."""
    if to == "the_well":
        fields_of(ds)
        return {output / "data" / split: part for split, part in by_split(ds).items()}
    if to == "pdebench":
        choose_family(ds)
    return {output: ds}


def samples_per_file(ds: xr.Dataset, to: str, block_bytes: int, file_bytes: int) -> int:
    """Choose the number of simulations of a file: whole chunks of the source, as many as the size of a file allows."""
    if to == "pdebench" and choose_family(ds) == "per seed":
        file_bytes = min(file_bytes, block_bytes)
    largest = max(ds.variables.values(), key=lambda variable: ("sample" in variable.dims, variable.nbytes))
    chunk = max(largest.chunks[largest.dims.index("sample")]) if largest.chunks and "sample" in largest.dims else 1
    each = max(1, ds.nbytes // max(1, ds.sizes["sample"]))
    count = max(1, file_bytes // each)
    return count // chunk * chunk if count >= chunk else count
