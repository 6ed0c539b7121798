"""What is in a file, what is wrong with it, and the configuration that trains on it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.data.formats.containers import Hdf5File
from surrogate.data.formats.lazy import BLOCK_BYTES
from surrogate.data.formats.patterns import matching_paths
from surrogate.data.formats.pdebench import known_axes as pdebench_axes
from surrogate.data.formats.pdebench import seeds
from surrogate.data.formats.the_well import known_axes as well_axes
from surrogate.data.formats.variables import attributes, is_variable, named_axes
from surrogate.data.hdf5.array import open_file
from surrogate.data.hdf5.autotune import Choice, choose
from surrogate.data.hdf5.storage import filter_names, h5_array, missing_chunks
from surrogate.data.layouts import Paths, chosen_layout, find_files, open_snapshots
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.suggest import Candidate, propose_axes, suggest_config, suggest_named
from surrogate.data.values import ValueReport, look
from surrogate.errors import DataError

__all__ = ["Description", "ValueReport", "VariableReport", "describe", "render"]

SHOWN = 60  # datasets of a file
TEXT = 200  # letters of an attribute
HOSTILE = 4.0  # read amplification from which another chunk layout is advised


@dataclass(frozen=True)
class VariableReport:
    """A dataset of a file.

    Arguments:
        path: Path in the file.
        shape: Shape.
        dtype: Type in the file.
        axes: Names of its axes; None where neither the file nor a layout names them.
        units: Units; None where unknown.
        chunks: Shape of its chunks; None for contiguous storage.
        compression: Filters in the order of writing; "none" without.
        stored_bytes: Bytes in the file.
        memory_bytes: Bytes of the values.
        unwritten: Chunks that were declared, but never written.
        amplification: Bytes decoded to read one random snapshot, over the bytes wanted.
        reading: How a stream reads it; None where it cannot.
        values: What the values look like; None where they cannot be read.
        problem: Why they cannot be read.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...] | None
    units: str | None
    chunks: tuple[int, ...] | None
    compression: str
    stored_bytes: int
    memory_bytes: int
    unwritten: int
    amplification: float
    reading: Choice | None
    values: ValueReport | None
    problem: str | None


@dataclass(frozen=True)
class Description:
    """Files, the variables of the first one, and a proposal.

    Arguments:
        path: What was asked for.
        files: The files found.
        sizes: Axes of all files together; empty where they cannot be opened as they are.
        layout: The layout that the first file is read in; `unknown` where one has to be declared.
        reason: What tells that.
        memory_bytes: Bytes of all variables of all files; 0 where they cannot be opened as they are.
        variables: Datasets of the first file; of groups that are alike those of the first.
        attributes: Attributes of the first file.
        notes: What deserves attention, a line each.
        suggested_config: The `data:` section that trains on these files.
    """

    path: str
    files: list[str]
    sizes: dict[str, int]
    layout: str
    reason: str
    memory_bytes: int
    variables: list[VariableReport]
    attributes: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    suggested_config: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        plain = asdict(self)
        for entry, report in zip(plain["variables"], self.variables, strict=True):
            if report.values is not None:
                entry["values"]["constant"] = report.values.constant
        plain["attributes"] = {name: _plain(value) for name, value in self.attributes.items()}
        return plain


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def describe(paths: Paths, layout: Layout | None = None) -> Description:
    """Look into files of any layout.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        layout: The name of a layout or a declared mapping to be checked against them; None recognises it.

    Raises:
        DataError: A file cannot be opened, or does not fit the layout.
    """
    files = find_files(paths)
    shown = str(paths) if isinstance(paths, str | Path) else str(files[0])
    mapping = layout if isinstance(layout, Mapping) else None
    with open_file(files[0]) as handle:
        chosen = chosen_layout(handle, layout)
        declared = _declared(handle, mapping)
        datasets = [item for item in _datasets(handle) if not mapping or item.name in declared]
        datasets, alike = _representative(datasets, handle if chosen.name == "pdebench" else None)
        reports = [_report(item, declared.get(item.name) or _prescribed(item, chosen.name)) for item in datasets]
        root, links = attributes(handle), list(_links(handle))
    opened, refusal = _opened(files, layout)
    notes = [note for report in reports for note in _notes(report, _convert_command(shown, chosen.name))]
    notes += links + alike + ([refusal] if refusal else [])
    return Description(
        path=shown,
        files=[str(file) for file in files],
        sizes={str(axis): size for axis, size in opened.sizes.items()} if opened else {},
        layout=chosen.name,
        reason=chosen.reason,
        memory_bytes=sum(variable.nbytes for variable in opened.data_vars.values()) if opened else 0,
        variables=reports,
        attributes=root,
        notes=notes,
        suggested_config=_suggestion(shown, chosen.name, reports, opened),
    )


def _prescribed(dataset: h5py.Dataset, layout: str) -> tuple[str, ...] | None:
    """Axes of a dataset that follow from the layout of its file."""
    if layout == "pdebench":
        return pdebench_axes(dataset)
    return well_axes(dataset) if layout == "the_well" else None


def _suggestion(path: str, layout: str, reports: Sequence[VariableReport], opened: xr.Dataset | None) -> str:
    """The `data:` section: the name of the layout where it has one, else a mapping to be checked."""
    if layout in ("pdebench", "the_well"):
        return suggest_named(path, layout, opened) if opened else ""
    usable = [Candidate(r.path, r.shape, r.axes, r.units) for r in reports if not r.problem]
    return suggest_config(path, usable) if usable else ""


def _convert_command(path: str, layout: str) -> str:
    """What to type to have the files rechunked."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(path).stem).strip("-") or "data"
    options = "" if layout in ("shards", "netcdf", "pdebench", "the_well") else " --config CONFIG.yaml"
    return f"surrogate convert {shlex.quote(path)} {stem}-shards --to shards{options}"


def _representative(datasets: list[h5py.Dataset], seeded: h5py.File | None) -> tuple[list[h5py.Dataset], list[str]]:
    """Datasets to report: of numbered groups those of the first, and never more than a page of them."""
    names = seeds(seeded) if seeded is not None else []
    if len(names) > 1:
        others = {f"/{name}" for name in names[1:]}
        datasets = [item for item in datasets if "/" + item.name.split("/")[1] not in others]
        return datasets, [f"/{names[0]} stands for {len(names)} groups, up to /{names[-1]}"]
    if len(datasets) > SHOWN:
        return datasets[:SHOWN], [f"{len(datasets) - SHOWN} more datasets are not shown"]
    return datasets, []


def _declared(handle: h5py.File, layout: Mapping | None) -> dict[str, tuple[str, ...]]:
    """Axes by the full path of a dataset that a layout declares."""
    found: dict[str, tuple[str, ...]] = {}
    for group in (layout.groups or ("",)) if layout else ():
        for entry in layout.entries.values() if layout else ():
            path = entry.path if entry.path.startswith("/") else f"/{group}/{entry.path}".replace("//", "/")
            for name, _ in matching_paths(Hdf5File(handle), path):
                found[name] = tuple(map(str, entry.axes))
    return found


def _datasets(handle: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    handle.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return [item for item in found if is_variable(item)]


def _links(group: h5py.Group) -> Iterator[str]:
    """A line for every link that is not the object itself."""
    for name in group:
        link = group.get(name, getlink=True)
        path = f"{group.name.rstrip('/')}/{name}"
        if isinstance(link, h5py.ExternalLink):
            yield f"{path}: external link to {link.filename}:{link.path}; read only where it stays in the folder"
        elif isinstance(link, h5py.SoftLink):
            yield f"{path}: link to {link.path}"
        elif isinstance(group[name], h5py.Group):
            yield from _links(group[name])


def _report(dataset: h5py.Dataset, axes: tuple[str, ...] | None) -> VariableReport:
    shape = dataset.shape or ()
    axes = axes or (named_axes(dataset) if dataset.shape is not None else None)
    values, problem, reading = None, None, None
    try:
        array = h5_array(dataset)
        values, reading = look(array), choose(array)
    except DataError as error:
        problem = str(error)
    units = attributes(dataset).get("units")
    return VariableReport(
        path=dataset.name.strip("/"),
        shape=shape,
        dtype=str(dataset.dtype),
        axes=axes,
        units=None if units is None else str(units),
        chunks=dataset.chunks,
        compression=" + ".join(filter_names(dataset)) or "none",
        stored_bytes=dataset.id.get_storage_size(),
        memory_bytes=math.prod(shape) * dataset.dtype.itemsize if dataset.shape is not None else 0,
        unwritten=missing_chunks(dataset)[0],
        amplification=amplification(shape, axes or propose_axes(shape, {}), dataset.chunks),
        reading=reading,
        values=values,
        problem=problem,
    )


def amplification(shape: Sequence[int], axes: Sequence[str], chunks: Sequence[int] | None) -> float:
    """Values decoded over values wanted when one snapshot is read: all of space and channels at one sample and time."""
    if not chunks:
        return 1.0
    decoded, wanted = 1, 1
    for size, axis, chunk in zip(shape, axes, chunks, strict=True):
        one = axis in ("sample", "time")
        decoded *= chunk if one else -(-size // chunk) * chunk
        wanted *= 1 if one else size
    return decoded / wanted


def _opened(files: Sequence[Path], layout: Layout | None) -> tuple[xr.Dataset | None, str | None]:
    """All files together, or why they cannot be opened as they are."""
    try:
        return open_snapshots(list(files), layout), None
    except DataError as error:
        return None, str(error)


def _notes(report: VariableReport, convert: str) -> Iterator[str]:
    name, values = report.path, report.values
    if report.problem:
        yield report.problem
    if report.amplification >= HOSTILE and report.memory_bytes > BLOCK_BYTES:
        yield (
            f"{name}: one random snapshot decodes {report.amplification:.0f} times its size from chunks "
            f"{report.chunks}; training reads whole chunks, other tools do not: rechunk with `{convert}`"
        )
    if values and (values.nan or values.inf):
        yield f"{name}: {values.nan} NaN and {values.inf} infinite of {values.looked_at} values; training refuses them"
    if values and values.constant and values.looked_at > 1:
        yield f"{name}: every value looked at is {values.minimum:g}; it carries no information"
    if values and max(abs(values.minimum or 0), abs(values.maximum or 0)) > np.finfo(np.float32).max:
        yield f"{name}: values up to {values.maximum:g} do not fit float32; rescale it"


def render(description: Description) -> list[str]:
    """The description as lines of text."""
    files = description.files
    lines = [f"{description.path}: {len(files)} file{'s' if len(files) > 1 else ''}"]
    lines.append(f"  layout: {description.layout} ({description.reason})")
    if description.sizes:
        lines.append("  axes: " + ", ".join(f"{axis} {size}" for axis, size in description.sizes.items()))
        lines.append(f"  in memory: {_size(description.memory_bytes)}")
    lines += [f"  {name}: {' '.join(str(value).split())[:TEXT]}" for name, value in description.attributes.items()]
    for report in description.variables:
        lines += _lines(report)
    lines += ["", "notes:", *(f"  {note}" for note in description.notes)] if description.notes else []
    if description.suggested_config:
        lines += ["", "suggested configuration:", *description.suggested_config.splitlines()]
    return lines


def _lines(report: VariableReport) -> Iterator[str]:
    axes = f" ({', '.join(report.axes)})" if report.axes else " (axes not named)" if report.shape else ""
    yield ""
    yield f"{report.path}  {report.dtype} {report.shape}{axes}{f' [{report.units}]' if report.units else ''}"
    storage = f"chunks {report.chunks}" if report.chunks else "contiguous"
    sizes = f"{_size(report.stored_bytes)} stored, {_size(report.memory_bytes)} in memory"
    yield f"  {storage}, compression {report.compression}, {sizes}, read amplification {report.amplification:.3g}"
    if report.reading:
        yield f"  read by {report.reading.way} ({report.reading.reason})"
    if report.unwritten:
        yield f"  {report.unwritten} chunks never written"
    if report.values:
        values = report.values
        scope = "all values" if values.all else f"{values.looked_at} values at start, middle and end"
        span = "no finite value" if values.minimum is None else f"{values.minimum:.6g} to {values.maximum:.6g}"
        yield f"  {scope}: {span}{' (constant)' if values.constant else ''}, {values.nan} NaN, {values.inf} infinite"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
