"""From data in any layout to training shards, The Well or PDEBench: bounded in memory, restartable, verified."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from surrogate.checks import ConfigError, DataError, ResourceError, did_you_mean
from surrogate.config import Settings, Source, read_yaml, validate
from surrogate.data.fingerprint import fingerprint
from surrogate.data.formats.text import encode_text
from surrogate.data.formats.write_pdebench import choose_family, write_pdebench
from surrogate.data.formats.write_well import by_split, field_statistics, fields_of, write_well
from surrogate.data.layouts import Paths, find_files, open_snapshots
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.store import MANIFEST, Manifest, Shard, check_shard, read_manifest, write_manifest, write_shard
from surrogate.files import claim_output, locked, replacing

__all__ = ["TARGETS", "convert", "progress_bar", "read_layout", "read_size"]

TARGETS = ("shards", "the_well", "pdebench")
PROGRESS = "progress.json"
STATISTICS = "stats.yaml"
MEMORY_BYTES = 512_000_000
FILE_BYTES = 1_000_000_000
COPIES = 4  # of a block: read, decoded, joined, converted
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 2**20, "gib": 2**30}


def convert(
    paths: Paths,
    output: Path,
    to: str,
    *,
    layout: Layout | None = None,
    memory_bytes: int = MEMORY_BYTES,
    file_bytes: int = FILE_BYTES,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write data of any layout again, as training shards or in the layout of The Well or PDEBench.

    Every file is read again and compared before it becomes visible; the manifest, with the SHA-256 of all files,
    comes last. Simulations keep their order. Coordinate `origin` is not stored: the new files are the origin.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        output: Folder of the new files.
        to: `shards`, `the_well` or `pdebench`, whose family follows from the variables.
        layout: Layout of the source; None recognises it.
        memory_bytes: Bound of the values in memory.
        file_bytes: Size of a file, to within a chunk of the source.
        overwrite: Replace what an earlier run wrote to the folder.
        resume: Keep the whole files that an interrupted run left in the folder.
        progress: Called with the bytes done and their total.

    Returns:
        The folder.

    Raises:
        ConfigError: The target is unknown, or the folder is in use for something else.
        DataError: The source cannot be read, or does not fit the target.
        ResourceError: The disk is full, a chunk does not fit into the memory, or another process writes to the folder.
    """
    if to not in TARGETS:
        raise ConfigError(f"cannot convert to '{to}'; {did_you_mean(to, TARGETS)}")
    files = find_files(paths)
    ds = open_snapshots(files, layout).drop_vars("origin")
    folders = _folders(ds, output, to)
    job = _Job(to, memory_bytes // COPIES, _samples_per_file(ds, to, memory_bytes // COPIES, file_bytes))
    job.digest = _digest(files, layout, job)
    _check_chunks(ds, memory_bytes)
    if any(file.resolve().is_relative_to(output.resolve()) for file in files):
        raise ConfigError(f"output {output} holds the source itself; choose another folder")
    claim_output(output, overwrite=overwrite, resume=resume)
    with locked(output):
        job.total = sum(part.nbytes for part in folders.values())
        job.report = progress or _silent
        for folder, part in folders.items():
            _fill(folder, part, job, output.name)
        if to == "the_well":
            _write_statistics(output)
        job.report(job.total, job.total)
    return output


def _silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class _Job:
    """What is written, how much at a time, and how far it has come."""

    to: str
    block_bytes: int
    samples: int
    digest: str = ""
    total: int = 0
    done: int = 0
    report: Callable[[int, int], None] = field(default=_silent)

    def advance(self, count: int) -> None:
        self.done += count
        self.report(min(self.done, self.total), self.total)

    @property
    def suffix(self) -> str:
        return "h5" if self.to == "shards" else "hdf5"

    def write(self, path: Path, ds: xr.Dataset, first: int) -> Shard:
        """One file of the simulations in `ds`, the first of which has the number `first` among all."""
        if self.to == "shards":
            return write_shard(path, _storable(ds), block_bytes=self.block_bytes, reread=True, done=self.advance)
        if self.to == "the_well":
            return write_well(path, ds, block_bytes=self.block_bytes, done=self.advance, name=path.stem)
        if choose_family(ds) == "per seed" and ds.nbytes <= self.block_bytes:
            ds = ds.load()  # seeds are written one after another, while the chunks of the source hold many
        return write_pdebench(path, ds, first=first, block_bytes=self.block_bytes, done=self.advance)


def _folders(ds: xr.Dataset, output: Path, to: str) -> dict[Path, xr.Dataset]:
    """The simulations that belong into each folder; refuses what the target cannot hold before anything is written."""
    if to == "the_well":
        fields_of(ds)
        return {output / "data" / split: part for split, part in by_split(ds).items()}
    if to == "pdebench":
        choose_family(ds)
    return {output: ds}


def _samples_per_file(ds: xr.Dataset, to: str, block_bytes: int, file_bytes: int) -> int:
    """Simulations of a file: whole chunks of the source, as many as the size of a file allows."""
    if to == "pdebench" and choose_family(ds) == "per seed":
        file_bytes = min(file_bytes, block_bytes)
    largest = max(ds.variables.values(), key=lambda variable: ("sample" in variable.dims, variable.nbytes))
    chunk = max(largest.chunks[largest.dims.index("sample")]) if largest.chunks and "sample" in largest.dims else 1
    each = max(1, ds.nbytes // max(1, ds.sizes["sample"]))
    count = max(1, file_bytes // each)
    return count // chunk * chunk if count >= chunk else count


def _check_chunks(ds: xr.Dataset, memory_bytes: int) -> None:
    for name, variable in ds.variables.items():
        size = math.prod(max(sizes) for sizes in variable.chunks) * variable.dtype.itemsize if variable.chunks else 0
        if size * COPIES > memory_bytes:
            raise ResourceError(
                f"'{name}' comes in blocks of {size / 1e6:,.0f} MB (whole chunks, whole snapshots), which does not fit "
                f"into --memory {memory_bytes / 1e6:,.0f}MB; give at least --memory {math.ceil(size * COPIES / 1e6)}MB"
            )


def _digest(files: list[Path], layout: Layout | None, job: _Job) -> str:
    """A name for the source and the way of writing, so that another job is not taken for this one."""
    shown = layout.model_dump(mode="json") if isinstance(layout, Mapping) else layout
    text = json.dumps([fingerprint(files), shown, job.to, job.samples])
    return hashlib.sha256(text.encode()).hexdigest()


def _fill(folder: Path, ds: xr.Dataset, job: _Job, name: str) -> None:
    """Write all files of a folder but the whole ones of an earlier run, then the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.glob(".*.part"):
        part.unlink()
    known = _earlier(folder, job.digest)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "data"
    manifest = Manifest(name=name, digest=job.digest, samples=0, shards=[])
    for index, first in enumerate(range(0, ds.sizes["sample"], job.samples)):
        piece = ds.isel(sample=slice(first, first + job.samples))
        file = f"{name}-{index:05d}.{job.suffix}"
        if file in known and _is_whole(folder, known[file]):
            shard = known[file]
            job.advance(piece.nbytes)
        else:
            shard = job.write(folder / file, piece, first)
        shards = [*manifest.shards, shard]
        manifest = manifest.model_copy(update={"shards": shards, "samples": sum(entry.samples for entry in shards)})
        write_manifest(folder, manifest, PROGRESS)
    write_manifest(folder, manifest)
    (folder / PROGRESS).unlink(missing_ok=True)


def _earlier(folder: Path, digest: str) -> dict[str, Shard]:
    """What an earlier run of the same job noted in the folder."""
    noted = [name for name in (PROGRESS, MANIFEST) if (folder / name).exists()]
    if not noted:
        return {}
    manifest = read_manifest(folder, noted[0])
    if manifest.digest != digest:
        raise ConfigError(
            f"output {folder} was made from other data or with other settings; give --overwrite or another folder"
        )
    return {shard.file: shard for shard in manifest.shards}


def _is_whole(folder: Path, shard: Shard) -> bool:
    try:
        check_shard(folder, shard)
    except DataError:
        return False
    return True


def _storable(ds: xr.Dataset) -> xr.Dataset:
    """The data set as numbers alone: text as bytes, truth values as 0 and 1."""
    ds = encode_text(ds)
    flags = [name for name, variable in ds.variables.items() if variable.dtype.kind == "b"]
    return ds.assign({name: ds[name].astype(np.uint8) for name in flags})


def _write_statistics(output: Path) -> None:
    """`stats.yaml` of the training data, or of all where there are none."""
    ds = open_snapshots(output, "the_well")
    splits = by_split(ds)
    statistics = field_statistics(splits.get("train", ds))
    with replacing(output / STATISTICS) as part:
        part.write_text(yaml.safe_dump(statistics, sort_keys=False), encoding="utf-8")


# --- for the command line ---------------------------------------------------------------------------------------------


class _Data(Settings):
    """The part of a `data:` section that says how files are read."""

    layout: Layout | None = None


class _File(Settings):
    data: _Data


def read_layout(path: Path) -> Layout | None:
    """The layout that a configuration declares; everything else in it is left alone.

    Raises:
        ConfigError: The file cannot be read, or its `data.layout` is none.
    """
    source = read_yaml(path)
    section = source.tree.get("data")
    if not isinstance(section, dict) or "layout" not in section:
        raise ConfigError(f"{path} declares no data.layout; give --layout, or leave --config out")
    tree = {"data": {"layout": section["layout"]}}
    return validate(Source(source.name, tree, source.lines), _File).data.layout


def read_size(text: str) -> int:
    """Bytes of a size such as `512MB`.

    Raises:
        ConfigError: It is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].lower() not in UNITS or not float(match[1]):
        raise ConfigError(f"'{text}' is no size; write a number and a unit, such as 512MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].lower()])


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield None
        return
    with Progress(TextColumn(title), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
