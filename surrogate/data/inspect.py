"""Describe files: datasets, problems, and a configuration that trains on them."""

from __future__ import annotations

import contextlib
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.data.axis_names import propose_axes
from surrogate.data.file_patterns import name_folders
from surrogate.data.formats.containers import Container, Hdf5File, kind_of_file, open_container
from surrogate.data.formats.detect import UNKNOWN, Detection
from surrogate.data.formats.lazy import BLOCK_BYTES
from surrogate.data.formats.patterns import matching_paths
from surrogate.data.formats.pdebench import known_axes as pdebench_axes
from surrogate.data.formats.pdebench import seeds
from surrogate.data.formats.the_well import known_axes as well_axes
from surrogate.data.formats.variables import attributes, named_axes
from surrogate.data.hdf5.autotune import Choice, choose
from surrogate.data.hdf5.storage import filter_names, h5_array, missing_chunks
from surrogate.data.layouts import Paths, chosen_layout, find_files, open_snapshots
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.presets import recognised
from surrogate.data.proposal import Proposal, problem_of
from surrogate.data.streaming.channels import MASKED
from surrogate.data.suggest import propose, suggest_named
from surrogate.data.survey import Survey, survey
from surrogate.data.values import ValueReport, look
from surrogate.errors import DataError, brief, printable

__all__ = ["Description", "ValueReport", "VariableReport", "describe", "render"]

SHOWN = 60  # datasets of a file
TEXT = 200  # letters of an attribute
ABSENT = "NaN where a simulation has no such point"
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
        decoded: What is done to stored values: packing and missing values after the CF conventions, absent points.
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
    decoded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """Files, the variables of the first one, and a proposal.

    Arguments:
        path: What was asked for.
        files: The files.
        sizes: Axes of all files together; empty where they cannot be opened as they are.
        layout: The layout that the first file is read in; `unknown` where one has to be declared.
        reason: What tells that.
        memory_bytes: Bytes of all variables of all files; 0 where they cannot be opened as they are.
        variables: Datasets of the first file; of groups that are alike those of the first.
        attributes: Attributes of the first file.
        notes: What deserves attention, a line each.
        suggested_config: The `data:` section that trains on these files.
        proposal: What it is written from; None where there is none.
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
    proposal: Proposal | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        plain = asdict(replace(self, proposal=None))
        del plain["proposal"]
        for entry, report in zip(plain["variables"], self.variables, strict=True):
            if report.values is not None:
                entry["values"]["constant"] = report.values.constant
        plain["attributes"] = {name: _plain(value) for name, value in self.attributes.items()}
        return plain


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)


def describe(paths: Paths, layout: Layout | None = None) -> Description:
    """Describe files of any layout, and propose a configuration for them.

    Arguments:
        paths: A file, a folder, a glob or a list of files.
        layout: The name of a layout or a declared mapping to be checked against them; None recognises it.

    Raises:
        DataError: A file cannot be opened, or does not fit the layout.
    """
    shown = str(paths) if isinstance(paths, str | Path) else str(next(iter(paths)))
    files, studied = _files_of(paths, layout)
    mapping = layout if isinstance(layout, Mapping) else None
    with open_container(files[0]) as container:
        contents = survey(container)
        opened, refusal = None, None
        if isinstance(container, Hdf5File):
            handle = container.handle
            chosen = chosen_layout(handle, layout)
            if chosen.name != UNKNOWN:
                opened, refusal = _opened(studied or paths, files, layout)
            declared = _declared(handle, mapping)
            names, alike = _representative(handle, contents, declared, chosen.name)
            reports = list(_reports(container, names, declared, chosen.name))
        else:
            opened, refusal = _opened(studied or paths, files, layout)
            chosen = Detection("netcdf" if opened else UNKNOWN, f"read as {kind_of_file(files[0])} by its library")
            reports, alike = [], []
        notes = [note for report in reports for note in _notes(report, _convert_command(shown, chosen.name))]
        notes += contents.links + alike + contents.notes
        broken = {report.path for report in reports if report.problem}
        lost = any(item.first in broken for item in contents.of("field"))
        contents = replace(contents, items=[item for item in contents.items if item.first not in broken])
        proposal, problem = _proposal(shown, chosen.name, contents, container, files, opened)
    if problem and lost and not contents.of("field"):
        problem = "no dataset of numbers in it can be read"
    if problem and mapping is None:
        refusal = _opened(studied or paths, files, layout)[1] if chosen.name == UNKNOWN else refusal
        notes += [refusal] if refusal else []
    if problem:
        notes.append(f"no configuration is proposed: {problem}")
    if mapping is not None and refusal:
        notes.append(refusal)
    if proposal is not None and proposal.program:
        chosen = Detection(chosen.name, f"written by {proposal.program}")
    return Description(
        path=shown,
        files=[str(file) for file in files],
        sizes={str(axis): size for axis, size in opened.sizes.items()} if opened else {},
        layout=chosen.name,
        reason=chosen.reason,
        memory_bytes=sum(variable.nbytes for variable in opened.data_vars.values()) if opened else 0,
        variables=reports,
        attributes=dict(container.attrs),
        notes=list(dict.fromkeys(notes)),
        suggested_config=proposal.text() if proposal else "",
        proposal=proposal,
    )


def _files_of(paths: Paths, layout: Layout | None) -> tuple[list[Path], Paths | None]:
    """Find the files, also one level below a folder that holds none itself: a folder for every simulation."""
    try:
        return find_files(paths, layout), None
    except DataError:
        folder = Path(paths).expanduser() if isinstance(paths, str | Path) else None
        if folder is None or not folder.is_dir():
            raise
        below = [file for child in sorted(folder.iterdir()) if child.is_dir() for file in sorted(child.iterdir())]
        files = [file.absolute() for file in below if file.is_file() and kind_of_file(file)]
        if not files:
            raise
        return files, [*files]


def _proposal(
    path: str, layout: str, contents: Survey, container: Container, files: Sequence[Path], opened: xr.Dataset | None
) -> tuple[Proposal | None, str | None]:
    """Propose a `data:` section that opens; None and the reason where there is none."""
    named = opened is not None and layout in ("pdebench", "the_well", "shards", "netcdf", "idx")
    problem: str | None = "it holds no field of numbers"
    candidates: list[Proposal] = []
    try:
        if layout in (UNKNOWN, "netcdf"):
            program = recognised(path, files)
            candidates += [program] if program else []
        divisible = opened is not None and (opened.sizes["sample"] > 1 or opened.sizes.get("time", 1) > 2)
        folders = len({file.parent for file in files})
        apart = opened is not None and len(files) > 1 and (opened.sizes["sample"] == len(files) or folders > 1)
        apart = apart and layout == "netcdf"
        if named and opened is not None and divisible and not apart:
            candidates.append(suggest_named(path, None if layout in ("netcdf", "shards") else layout, opened))
        if not candidates and layout not in ("pdebench", "the_well", "idx"):
            draft = propose(path, contents, container, files)
            candidates += [draft] if draft else []
    except DataError as error:
        return None, str(error)
    for proposal in candidates:
        if len({file.parent for file in files}) > 1 and "files" not in proposal.options and proposal.variables:
            name_folders(proposal, files)
        problem = problem_of(proposal) if proposal.axes else problem
        if problem is None:
            return proposal, None
    return None, problem


def _prescribed(dataset: h5py.Dataset, layout: str) -> tuple[str, ...] | None:
    """Axes of a dataset that follow from the layout of its file."""
    if layout == "pdebench":
        return pdebench_axes(dataset)
    return well_axes(dataset) if layout == "the_well" else None


def _convert_command(path: str, layout: str) -> str:
    """Write the command that rechunks the files."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(path).stem).strip("-") or "data"
    options = "" if layout in ("shards", "netcdf", "pdebench", "the_well") else " --config CONFIG.yaml"
    return f"surrogate convert {shlex.quote(path)} {stem}-shards --to shards{options}"


def _representative(
    handle: h5py.File, contents: Survey, declared: dict[str, tuple[str, ...]], layout: str
) -> tuple[list[str], list[str]]:
    """Choose the datasets to report: of numbered ones the first, and never more than a page of them."""
    names = seeds(handle) if layout == "pdebench" else []
    others = {f"{name}/" for name in names[1:]}
    items = [item for item in contents.items if not item.first.startswith(tuple(others))] if others else contents.items
    alike = [f"/{names[0]} stands for {len(names)} groups, up to /{names[-1]}"] if len(names) > 1 else []
    if declared:
        paths = list(declared)
    else:
        paths = [item.first for item in items if "cannot be read" not in item.role]
        alike += [
            f"{item.path}: {' x '.join(map(str, item.numbers.values()))} datasets of one shape; the first is shown"
            for item in items
            if item.numbers and not names
        ][:SHOWN]
    alike += [f"{len(paths) - SHOWN} more datasets are not shown"] if len(paths) > SHOWN else []
    return paths[:SHOWN], alike


def _reports(
    container: Hdf5File, names: Sequence[str], declared: dict[str, tuple[str, ...]], layout: str
) -> Iterator[VariableReport]:
    """Report datasets; what is a group, or behind a link that is not followed, is left out."""
    for name in names:
        with contextlib.suppress(DataError), container.dataset(name) as dataset:
            yield _report(name, dataset, declared.get(name) or _prescribed(dataset, layout))


def _declared(handle: h5py.File, layout: Mapping | None) -> dict[str, tuple[str, ...]]:
    """Axes by the full path of a dataset that a layout declares."""
    axes_of: dict[str, tuple[str, ...]] = {}
    for group in (layout.groups or ("",)) if layout else ():
        for entry in layout.entries.values() if layout else ():
            path = entry.path if entry.path.startswith("/") else f"/{group}/{entry.path}".replace("//", "/")
            for name, _ in matching_paths(Hdf5File(handle), path):
                axes_of[name] = tuple(layout.axis(str(axis)) for axis in entry.axes) if layout else ()
    return axes_of


def _report(name: str, dataset: h5py.Dataset, axes: tuple[str, ...] | None) -> VariableReport:
    shape = dataset.shape or ()
    axes = axes or (named_axes(dataset) if dataset.shape is not None else None)
    values, problem, reading = None, None, None
    decoded: tuple[str, ...] = ()
    try:
        array = h5_array(dataset)
        decoded = array.decoding.reasons if array.decoding else ()
        values, reading = look(array), choose(array)
    except DataError as error:
        problem = str(error)
    about = attributes(dataset)
    units, decoded = about.get("units"), (*decoded, *([ABSENT] if MASKED in about else []))
    return VariableReport(
        path=name.strip("/"),
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
        decoded=decoded,
    )


def amplification(shape: Sequence[int], axes: Sequence[str], chunks: Sequence[int] | None) -> float:
    """Values decoded over values wanted when one snapshot is read: all of space and channels at one sample and time."""
    if not chunks or 0 in shape:
        return 1.0
    decoded, wanted = 1, 1
    for size, axis, chunk in zip(shape, axes, chunks, strict=True):
        one = axis in ("sample", "time")
        decoded *= chunk if one else -(-size // chunk) * chunk
        wanted *= 1 if one else size
    return decoded / wanted


def _opened(paths: Paths, files: Sequence[Path], layout: Layout | None) -> tuple[xr.Dataset | None, str | None]:
    """Open all files together; return the reason where they cannot be opened as they are."""
    try:
        return open_snapshots(paths if isinstance(layout, Mapping) else list(files), layout), None
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
    nan = values.nan if values and ABSENT not in report.decoded else 0
    if values and (nan or values.inf):
        yield f"{name}: {nan} NaN and {values.inf} infinite of {values.looked_at} values; training refuses them"
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
    lines = [brief(printable(line)) for line in lines]
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
    if report.decoded:
        yield f"  decoded: {'; '.join(report.decoded)}"
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
