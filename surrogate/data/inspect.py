"""What is in a file, what is wrong with it, and the configuration that trains on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from surrogate.checks import DataError
from surrogate.data.hdf5 import H5Array, open_file
from surrogate.data.layouts import BLOCK_BYTES, Paths, block_shape, find_files, open_snapshots
from surrogate.data.mapping import Mapping
from surrogate.data.storage import filter_names, h5_array, missing_chunks
from surrogate.data.suggest import Candidate, propose_axes, suggest_config
from surrogate.data.variables import attributes, is_variable, mapped_variables, named_axes

__all__ = ["Description", "ValueReport", "VariableReport", "describe", "render"]

ALL_BYTES = 64_000_000  # values of a variable up to this size are all looked at
SAMPLED_BLOCKS = 3
HOSTILE = 4.0  # read amplification from which another chunk layout is advised


@dataclass(frozen=True)
class ValueReport:
    """What the values of a variable look like.

    Arguments:
        looked_at: Number of values that were read.
        all: Whether these are all values; otherwise blocks at the start, in the middle and at the end.
        nan: NaN among them.
        inf: Infinities among them.
        minimum: Smallest finite value; None where there is none.
        maximum: Largest finite value.
    """

    looked_at: int
    all: bool
    nan: int
    inf: int
    minimum: float | None
    maximum: float | None

    @property
    def constant(self) -> bool:
        return self.minimum is not None and self.minimum == self.maximum


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
    values: ValueReport | None
    problem: str | None


@dataclass(frozen=True)
class Description:
    """Files, the variables of the first one, and a proposal.

    Arguments:
        path: What was asked for.
        files: The files found.
        sizes: Axes of all files together; empty where they cannot be opened as they are.
        variables: Datasets of the first file.
        attributes: Attributes of the first file.
        notes: What deserves attention, a line each.
        suggested_config: The `data:` section that trains on these files.
    """

    path: str
    files: list[str]
    sizes: dict[str, int]
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


def describe(paths: Paths, layout: Mapping | None = None) -> Description:
    """Look into files of any layout.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        layout: A declared mapping to be checked against them.

    Raises:
        DataError: A file cannot be opened, or does not fit the layout.
    """
    files = find_files(paths)
    with open_file(files[0]) as handle:
        declared = _declared(handle, layout)
        datasets = [item for item in _datasets(handle) if not layout or item.name in declared]
        reports = [_report(item, declared.get(item.name)) for item in datasets]
        root, links = attributes(handle), list(_links(handle))
    sizes, refusal = _joined(files, layout)
    shown = str(paths) if isinstance(paths, str | Path) else str(files[0])
    usable = [Candidate(r.path, r.shape, r.axes, r.units) for r in reports if not r.problem]
    notes = [note for report in reports for note in _notes(report)] + links
    notes += [refusal] if refusal else []
    config = suggest_config(shown, usable) if usable else ""
    return Description(shown, [str(file) for file in files], sizes, reports, root, notes, config)


def _declared(handle: h5py.File, layout: Mapping | None) -> dict[str, tuple[str, ...]]:
    """Axes by the full path of a dataset that a layout declares."""
    groups = (layout.groups or ("",)) if layout else ()
    found = [variable for group in groups for variable in mapped_variables(handle, layout, group)] if layout else []
    return {v.values.path: v.axes for v in found if isinstance(v.values, H5Array)}


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
    values, problem = None, None
    try:
        values = _look(h5_array(dataset))
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


def _look(array: H5Array) -> ValueReport:
    """Count and bound the values: all of them, or blocks at the start, in the middle and at the end."""
    everything = math.prod(array.shape) * array.dtype.itemsize <= ALL_BYTES or not array.ndim
    blocks = [np.asarray(values, np.float64) for values in _blocks(array, everything)]
    finite = [block[np.isfinite(block)] for block in blocks]
    finite = [block for block in finite if block.size]
    return ValueReport(
        looked_at=sum(block.size for block in blocks),
        all=everything,
        nan=sum(int(np.isnan(block).sum()) for block in blocks),
        inf=sum(int(np.isinf(block).sum()) for block in blocks),
        minimum=min((float(block.min()) for block in finite), default=None),
        maximum=max((float(block.max()) for block in finite), default=None),
    )


def _blocks(array: H5Array, everything: bool) -> Iterator[np.ndarray]:
    if everything:
        yield array[...]
        return
    axes = ("sample", *("time" if array.ndim > 3 else "x",) * (array.ndim > 1), *"x" * (array.ndim - 2))
    block = block_shape(array.shape, axes, array.chunks, array.dtype.itemsize)
    limit = max(1, BLOCK_BYTES * 4 // max(1, math.prod(block) // block[0] * array.dtype.itemsize))
    last = array.shape[0] - 1
    for position in np.unique(np.linspace(0, last, SAMPLED_BLOCKS).astype(int)).tolist():
        yield array[position : position + min(block[0], limit)]


def _joined(files: Sequence[Path], layout: Mapping | None) -> tuple[dict[str, int], str | None]:
    """Axes of all files together, or why they cannot be opened as they are."""
    try:
        return {str(axis): size for axis, size in open_snapshots(list(files), layout).sizes.items()}, None
    except DataError as error:
        return {}, str(error)


def _notes(report: VariableReport) -> Iterator[str]:
    name, values = report.path, report.values
    if report.problem:
        yield report.problem
    if report.amplification >= HOSTILE and report.memory_bytes > ALL_BYTES:
        yield (
            f"{name}: one random snapshot decodes {report.amplification:.0f} times its size from chunks "
            f"{report.chunks}; training reads whole chunks, other tools want chunks of one snapshot"
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
    if description.sizes:
        lines.append("  axes: " + ", ".join(f"{axis} {size}" for axis, size in description.sizes.items()))
    lines += [f"  {name}: {value}" for name, value in description.attributes.items()]
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
