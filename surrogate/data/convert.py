"""From data in any layout to training shards, The Well or PDEBench: bounded in memory, restartable, verified."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import dask
import xarray as xr
import yaml

from surrogate.config import Settings, Source, read_yaml, validate
from surrogate.data.fingerprint import fingerprint
from surrogate.data.formats.target import TARGETS, Target, folders_of, plain_name, samples_per_file
from surrogate.data.formats.write_well import FieldMeans, field_means, field_statistics
from surrogate.data.layouts import Paths, files_behind, find_files, open_snapshots
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.store import MANIFEST, Manifest, Shard, is_whole, read_manifest, write_manifest
from surrogate.errors import ConfigError, ResourceError, did_you_mean
from surrogate.files import claim_output, locked, replacing
from surrogate.runtime.futures import as_finished

__all__ = ["TARGETS", "convert", "read_layout", "read_size"]

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
    executor: Executor | None = None,
) -> Path:
    """Write data of any layout again, as training shards or in the layout of The Well or PDEBench.

    Every file is read again and compared before it becomes visible; the manifest, with the SHA-256 of all files,
    comes last. Simulations keep their order. Coordinate `origin` is not stored: the new files are the origin.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        output: Folder of the new files.
        to: `shards`, `the_well` or `pdebench`, whose family follows from the variables.
        layout: Layout of the source; None recognises it.
        memory_bytes: Bound of the values in memory; of every worker, with an executor.
        file_bytes: Size of a file, to within a chunk of the source.
        overwrite: Replace what an earlier run wrote to the folder.
        resume: Keep the whole files that an interrupted run left in the folder.
        progress: Called with the bytes done and their total; with an executor after every file.
        executor: Writes files at the same time, for instance on a dask cluster; the files are the same.

    Returns:
        The folder.

    Raises:
        ConfigError: The target is unknown, or the folder is in use for something else.
        DataError: The source cannot be read, or does not fit the target.
        ResourceError: The disk is full, a chunk does not fit into the memory, or another process writes to the folder.
    """
    if to not in TARGETS:
        raise ConfigError(f"cannot convert to '{to}'; {did_you_mean(to, TARGETS)}")
    source = _Source(find_files(paths, layout), layout)
    ds = source.open()
    folders = folders_of(ds, output, to)
    block_bytes = memory_bytes // COPIES
    target = Target(to, block_bytes, samples_per_file(ds, to, block_bytes, file_bytes))
    for name, variable in ds.variables.items():
        size = math.prod(max(sizes) for sizes in variable.chunks) * variable.dtype.itemsize if variable.chunks else 0
        if size * COPIES > memory_bytes:
            raise ResourceError(
                f"'{name}' is read in blocks of {size / 1e6:,.0f} MB (whole chunks, whole snapshots), which do not fit "
                f"into --memory {memory_bytes / 1e6:,.0f}MB; give at least --memory {math.ceil(size * COPIES / 1e6)}MB"
            )
    if any(file.resolve().is_relative_to(output.resolve()) for file in source.files):
        raise ConfigError(f"output {output} holds the source itself; choose another folder")
    claim_output(output, overwrite=overwrite, resume=resume, reads=files_behind(paths, layout))
    with locked(output):
        run = _Run(source, target, output, sum(part.nbytes for part in folders.values()), progress or _silent, executor)
        for folder, part in folders.items():
            run.fill(folder, part)
        if to == "the_well":
            run.write_statistics(folders)
        run.progress(run.total, run.total)
    return output


def _silent(*_: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class _Source:
    """The source of a conversion; any process can open it."""

    files: list[Path]
    layout: Layout | None

    def open(self) -> xr.Dataset:
        return open_snapshots(self.files, self.layout).drop_vars("origin")

    def digest(self, target: Target) -> str:
        """Hash source and settings, so that another conversion is not mistaken for this one."""
        shown = self.layout.model_dump(mode="json") if isinstance(self.layout, Mapping) else self.layout
        text = json.dumps([fingerprint(self.files), shown, target.to, target.samples])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Task:
    """One file to write."""

    source: _Source
    target: Target
    output: Path
    folder: Path
    file: str
    first: int

    def anywhere(self) -> _Task:
        """Make paths absolute, for a process with another working directory."""
        source = _Source([file.absolute() for file in self.source.files], self.source.layout)
        return replace(self, source=source, output=self.output.absolute(), folder=self.folder.absolute())

    def write_elsewhere(self) -> Shard:
        """Write it in another process, which opens the source for itself."""
        with dask.config.set(scheduler="threads"):  # a worker would send its reading to its scheduler
            return self.write(folders_of(self.source.open(), self.output, self.target.to)[self.folder], _silent)

    def write(self, part: xr.Dataset, done: Callable[[int], None]) -> Shard:
        """Write it from the data of its folder."""
        piece = part.isel(sample=slice(self.first, self.first + self.target.samples))
        return self.target.write(self.folder / self.file, piece, self.first, done)


def _means_of(path: Path) -> FieldMeans:
    with dask.config.set(scheduler="threads"):
        return field_means(open_snapshots([path], "the_well"))


@dataclass
class _Run:
    """One conversion: source, target, and the bytes written so far."""

    source: _Source
    target: Target
    output: Path
    total: int
    progress: Callable[[int, int], None]
    executor: Executor | None
    done: int = 0

    def advance(self, count: int) -> None:
        self.done += count
        self.progress(min(self.done, self.total), self.total)

    def fill(self, folder: Path, part: xr.Dataset) -> None:
        """Write all files of a folder but the whole ones of an earlier run, then the manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.part"):
            left.unlink()
        digest = self.source.digest(self.target)
        noted = [name for name in (PROGRESS, MANIFEST) if (folder / name).exists()]
        earlier = read_manifest(folder, noted[0]) if noted else None
        if earlier is not None and earlier.digest != digest:
            raise ConfigError(
                f"output {folder} was made from other data or with other settings; give --overwrite or another folder"
            )
        known = {shard.file: shard for shard in earlier.shards} if earlier is not None else {}
        whole, tasks = dict[str, Shard](), list[_Task]()
        for index, first in enumerate(range(0, part.sizes["sample"], self.target.samples)):
            file = self.target.file_name(self.output.name, index)
            if file in known and is_whole(folder, known[file]):
                whole[file] = known[file]
                self.advance(self._bytes_of(part, first))
            else:
                tasks.append(_Task(self.source, self.target, self.output, folder, file, first))
        manifest = Manifest(name=plain_name(self.output.name), digest=digest, samples=0, shards=[])
        for file, shard in self._written(tasks, part):
            whole[file] = shard
            manifest = _with_shards(manifest, whole)
            write_manifest(folder, manifest, PROGRESS)
        write_manifest(folder, _with_shards(manifest, whole))
        (folder / PROGRESS).unlink(missing_ok=True)

    def _bytes_of(self, part: xr.Dataset, first: int) -> int:
        return int(part.isel(sample=slice(first, first + self.target.samples)).nbytes)

    def _written(self, tasks: Sequence[_Task], part: xr.Dataset) -> Iterator[tuple[str, Shard]]:
        """Yield names and shards of files as they are written, here or on workers."""
        if self.executor is None:
            for task in tasks:
                yield task.file, task.write(part, self.advance)
            return
        for task, shard in as_finished(self.executor, _Task.write_elsewhere, [task.anywhere() for task in tasks]):
            yield task.file, shard
            self.advance(self._bytes_of(part, task.first))

    def write_statistics(self, folders: Iterable[Path]) -> None:
        """Write `stats.yaml` of the training data, or of all where there are none; file by file."""
        train = [folder for folder in folders if folder.name == "train"]
        files = [file for folder in train or folders for file in sorted(folder.absolute().glob("*.hdf5"))]
        spread = self.executor.map if self.executor is not None else map
        statistics = field_statistics(reduce(FieldMeans.__add__, spread(_means_of, files)))
        with replacing(self.output / STATISTICS) as part:
            part.write_text(yaml.safe_dump(statistics, sort_keys=False), encoding="utf-8")


def _with_shards(manifest: Manifest, whole: dict[str, Shard]) -> Manifest:
    """Return the manifest with these files, in the order of their names."""
    shards = [whole[file] for file in sorted(whole)]
    return manifest.model_copy(update={"shards": shards, "samples": sum(shard.samples for shard in shards)})


# --- for the command line ---------------------------------------------------------------------------------------------


class _Data(Settings):
    """The part of a `data:` section that says how files are read."""

    layout: Layout | None = None


class _File(Settings):
    data: _Data


def read_layout(path: Path) -> Layout | None:
    """Read the layout that a configuration declares; everything else in it is ignored.

    Raises:
        ConfigError: The file cannot be read, or its `data.layout` is not a layout.
    """
    source = read_yaml(path)
    section = source.tree.get("data")
    if not isinstance(section, dict) or "layout" not in section:
        raise ConfigError(f"{path} declares no data.layout; give --layout, or leave --config out")
    tree = {"data": {"layout": section["layout"]}}
    return validate(Source(source.name, tree, source.lines), _File).data.layout


def read_size(text: str) -> int:
    """Parse a size such as `512MB`, in bytes.

    Raises:
        ConfigError: The text is not a size.

    Example:
        >>> read_size("1.5 GB")
        1500000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].lower() not in UNITS or not float(match[1]):
        raise ConfigError(f"'{text}' is no size; write a number and a unit, such as 512MB or 2GB")
    return int(float(match[1]) * UNITS[match[2].lower()])
