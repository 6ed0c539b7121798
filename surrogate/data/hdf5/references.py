"""Other files that HDF5 files refer to: sources of virtual datasets, external storage, external links.

Names are resolved as the HDF5 library does, but only files in the folder of the file that names them are opened, unless
the user allows more.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from surrogate.data.hdf5.array import Stamp, open_file, stamp
from surrogate.data.hdf5.faults import HDF5_ERRORS
from surrogate.data.hdf5.preflight import check_in_child
from surrogate.errors import DataError

__all__ = [
    "VirtualSource",
    "check_external",
    "locate",
    "referenced_files",
    "shown_elsewhere",
    "unmapped_values",
    "virtual_sources",
]

UNLIMITED = 2**64 - 1
MOST_CELLS = 20_000_000  # of the grid on which the sources of a virtual dataset are marked
SAME_FILE = "."

Interval = tuple[int, int]


def locate(file: Path, name: str, what: str, *, external: bool = False) -> Path:
    """Resolve the name by which `file` refers to another file, as HDF5 does.

    HDF5 looks in the folder of the file as it was opened, in the working directory, then in the folder of the file that
    a symbolic link leads to; of an absolute name that does not exist it takes the last part.

    Arguments:
        file: The file that holds the reference.
        name: The name in it.
        what: The reference, for messages.
        external: Allow files outside of the folder of `file`.

    Raises:
        DataError: The file is missing, or outside of the folder and not allowed.
    """
    folder, given = file.absolute().parent, Path(name)
    relative = Path(given.name) if given.is_absolute() else given
    candidates = [given] if given.is_absolute() else []
    candidates += [place / relative for place in (folder, Path.cwd(), file.resolve().parent)]
    target = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)  # False for any odd name
    wanted = target or candidates[0]
    within = any(wanted.resolve().is_relative_to(place) for place in (folder.resolve(), file.resolve().parent))
    if file.is_symlink():  # a store of files behind links: the links count, wherever the store is
        within = within or Path(os.path.normpath(wanted)).is_relative_to(folder)
    if not external and not within:
        raise DataError(
            f"{what} leads to {name}, outside of {folder.resolve()}: refused; copy the data into one folder, or set "
            "layout.allow_external: true"
        )
    if target is None:
        raise DataError(f"{what} leads to {name}, which is missing; copy it next to {file.name}")
    return target


def check_external(dataset: h5py.Dataset, where: str, *, external: bool = False) -> list[Path]:
    """Return the files of external storage; refuse missing and truncated ones, which HDF5 would read as zeros.

    Raises:
        DataError: A file is missing, too short, or outside of the folder of the HDF5 file and not allowed.
    """
    needed, files = math.prod(dataset.shape) * dataset.id.get_type().get_size(), []
    for name, offset, size in dataset.external or ():
        file = locate(Path(dataset.file.filename), name, f"{where}: external storage", external=external)
        used = min(needed, size)
        held = file.stat().st_size
        if held < offset + used:
            raise DataError(f"{where}: {file} is truncated: holds {held} of {offset + used} bytes; copy it again")
        needed -= used
        files.append(file)
    return files


@dataclass(frozen=True)
class VirtualSource:
    """A dataset that fills a part of a virtual dataset.

    Arguments:
        file: Name of its file; `.` for the file of the virtual dataset.
        path: Path of the dataset.
        extent: Entries that it has to have along each axis; None where that is not fixed.
        count: Values that it has to have where all of them are taken; None where only some are.
    """

    file: str
    path: str
    extent: tuple[int, ...] | None
    count: int | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return True where a dataset of this shape has all values that are taken from it."""
        if self.count is not None and math.prod(shape) != self.count:
            return False
        return self.extent is None or (
            len(self.extent) == len(shape) and all(a <= b for a, b in zip(self.extent, shape, strict=True))
        )


def virtual_sources(dataset: h5py.Dataset) -> Iterator[VirtualSource]:
    """Yield the datasets that fill a virtual dataset; names with `%b` stand for one dataset per block.

    An axis of unlimited length has as many blocks as the shape of the virtual dataset holds.
    """
    for target, file, path, source in dataset.virtual_sources():
        unlimited, count, extent = _unlimited_axis(target), None, None
        if source.get_select_type() == h5py.h5s.SEL_ALL:
            count = int(target.get_select_npoints()) if unlimited is None else None
        elif _unlimited_axis(source) is None and source.get_select_npoints() > 0:
            extent = tuple(int(last) + 1 for last in source.get_select_bounds()[1])
        if unlimited is None or not ("%b" in file or "%b" in path):
            yield VirtualSource(file.replace("%%", "%"), path.replace("%%", "%"), extent, count)
            continue
        start, stride, _, _ = (int(values[unlimited]) for values in target.get_regular_hyperslab())
        for block in range(max(0, -(-(dataset.shape[unlimited] - start) // stride))):
            yield VirtualSource(_numbered(file, block), _numbered(path, block), extent, count)


def shown_elsewhere(files: Sequence[Path]) -> dict[Path, Path]:
    """Return which of some HDF5 files another of them shows, by virtual datasets or links, and which one that is.

    A file that holds all names of another itself and links to it, as files of one series may do, does not show it.
    """
    known = {file.resolve(): file for file in files}
    shown: dict[Path, set[Path]] = {}  # by the file that shows them
    for file in files:
        with contextlib.suppress(DataError):
            if not check_in_child(file):
                continue
            own, virtual, linked = _own_and_shown(file, stamp(file))
            for name in (*virtual, *linked):
                with contextlib.suppress(DataError):
                    source = known.get(locate(file, name, "", external=True).resolve(), file)
                    if source != file and (name in virtual or not own >= _own_and_shown(source, stamp(source))[0]):
                        shown.setdefault(file, set()).add(source)
    behind: dict[Path, Path] = {}
    queue = [file for file in shown if not any(file in sources for sources in shown.values())]
    while queue:
        file = queue.pop(0)
        for source in sorted(shown.get(file, set()) - {*behind}):
            behind[source] = file
            queue.append(source)
    return behind


@lru_cache(maxsize=4096)
def _own_and_shown(file: Path, _: Stamp) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    """List the names at the root of a file, the files behind its virtual datasets, and those behind its links."""
    own: set[str] = set()
    virtual: dict[str, None] = {}
    linked: dict[str, None] = {}

    def note(path: bytes, info: h5py.h5o.ObjInfo) -> None:
        if b"/" not in path and path != b".":
            own.add(os.fsdecode(path))
        if info.type == h5py.h5o.TYPE_DATASET:
            with contextlib.suppress(*HDF5_ERRORS):
                item = h5py.h5d.open(handle.id, path)
                if item.get_create_plist().get_layout() == h5py.h5d.VIRTUAL:
                    virtual.update(dict.fromkeys(source.file for source in virtual_sources(h5py.Dataset(item))))

    def note_link(path: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            with contextlib.suppress(*HDF5_ERRORS):
                linked[os.fsdecode(handle.id.links.get_val(path)[0])] = None

    with open_file(file) as handle, contextlib.suppress(*HDF5_ERRORS):
        h5py.h5o.visit(handle.id, note, info=True)
        handle.id.links.visit(note_link, info=True)
    virtual.pop(SAME_FILE, None)
    return frozenset(own), tuple(virtual), tuple(linked)


def _unlimited_axis(space: h5py.h5s.SpaceID) -> int | None:
    """Return the axis along which a selection has no end; None where it has one along all axes."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    _, _, count, block = space.get_regular_hyperslab()
    return next((i for i, pair in enumerate(zip(count, block, strict=True)) if UNLIMITED in map(int, pair)), None)


def _numbered(name: str, block: int) -> str:
    return "%".join(part.replace("%b", str(block)) for part in name.split("%%"))


def unmapped_values(dataset: h5py.Dataset, shapes: Mapping[tuple[str, str], tuple[int, ...]]) -> int:
    """Count the values of a virtual dataset that no source fills; HDF5 reads them as the fill value.

    Arguments:
        dataset: A virtual dataset.
        shapes: Shapes of its sources by file and path.
    """
    shape, total = dataset.shape, math.prod(dataset.shape)
    mapped: list[list[list[Interval]]] = []  # for each box, along each axis
    for target, file, path, source in dataset.virtual_sources():
        along, held = _unlimited_axis(source), shapes.get((file.replace("%%", "%"), path.replace("%%", "%")))
        mapped += _boxes(target, source, shape, held[along] if held and along is not None else None)
    edges = [
        np.unique([0, size, *(edge for box in mapped for interval in box[axis] for edge in interval)])
        for axis, size in enumerate(shape)
    ]
    if math.prod(map(len, edges)) > MOST_CELLS:  # too many to mark: sources that overlap hide gaps
        return max(0, total - sum(math.prod(sum(b - a for a, b in axis) for axis in box) for box in mapped))
    covered = np.zeros([len(edge) - 1 for edge in edges], bool)
    for box in mapped:
        ranges = [
            np.concatenate([np.zeros(0, int), *(np.arange(*np.searchsorted(edge, ends)) for ends in intervals)])
            for edge, intervals in zip(edges, box, strict=True)
        ]
        if all(len(i) == i[-1] - i[0] + 1 if len(i) else False for i in ranges):
            covered[tuple(slice(i[0], i[-1] + 1) for i in ranges)] = True
        else:
            covered[np.ix_(*ranges)] = True
    count = covered.astype(np.float64)
    for edge in reversed(edges):
        count = count @ np.diff(edge)
    return total - int(count)


def _boxes(
    target: h5py.h5s.SpaceID, source: h5py.h5s.SpaceID, shape: tuple[int, ...], length: int | None
) -> list[list[list[Interval]]]:
    """List the boxes of a virtual dataset that a mapping fills, each as intervals along every axis."""
    kind = target.get_select_type()
    if kind == h5py.h5s.SEL_ALL:
        return [[[(0, size)] for size in shape]]
    if kind == h5py.h5s.SEL_NONE:
        return []
    if kind == h5py.h5s.SEL_POINTS:
        return [[[(int(i), int(i) + 1)] for i in point] for point in target.get_select_elem_pointlist()]
    if not target.is_regular_hyperslab():
        corners = target.get_select_hyper_blocklist()
        return [[[(int(a), int(b) + 1)] for a, b in zip(*corner, strict=True)] for corner in corners]
    box, unlimited = [], _unlimited_axis(target)
    for axis, (start, stride, count, block) in enumerate(zip(*target.get_regular_hyperslab(), strict=True)):
        end = shape[axis]
        if axis == unlimited and length is not None:  # the part that the source reaches
            along = _unlimited_axis(source) or 0
            first, step, _, width = (int(values[along]) for values in source.get_regular_hyperslab())
            blocks, rest = divmod(max(0, length - first), step)
            taken = blocks * min(width, step) + min(rest, width) if width != UNLIMITED else max(0, length - first)
            whole, more = divmod(taken, int(block)) if block != UNLIMITED else (0, taken)
            end = min(end, int(start) + whole * int(stride) + more if block != UNLIMITED else int(start) + taken)
        stop = end if count == UNLIMITED else int(start) + int(stride) * int(count)
        joined: list[Interval] = []
        for a in range(int(start), min(stop, end), int(stride)):
            b = min(end, a + int(min(block, UNLIMITED >> 1)))
            if joined and joined[-1][1] >= a:  # they touch
                joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
            else:
                joined.append((a, b))
        box.append(joined)
    return [box]


def referenced_files(files: Sequence[Path]) -> list[Path]:
    """List the further files that the values of HDF5 files come from, at any depth; those not found are left out."""
    known, queue, further = {file.resolve() for file in files}, list(files), []
    while queue:
        file = queue.pop()
        with contextlib.suppress(DataError):
            if not check_in_child(file):
                continue
            for other in _references(file, stamp(file)):
                if other.resolve() not in known:
                    known.add(other.resolve())
                    further.append(other)
                    queue.append(other)
    return further


@lru_cache(maxsize=4096)
def _references(file: Path, _: Stamp) -> tuple[Path, ...]:
    """List the files to which one file refers: links, sources of virtual datasets, external storage."""
    names: dict[str, None] = {}

    def note_object(path: bytes) -> None:
        with contextlib.suppress(*HDF5_ERRORS):
            item = h5py.h5o.open(handle.id, path)
            if not isinstance(item, h5py.h5d.DatasetID):
                return
            properties = item.get_create_plist()
            if properties.get_layout() == h5py.h5d.VIRTUAL:
                names.update(dict.fromkeys(source.file for source in virtual_sources(h5py.Dataset(item))))
            for index in range(properties.get_external_count()):
                names[os.fsdecode(properties.get_external(index)[0])] = None

    def note_link(path: bytes, info: h5py.h5l.LinkInfo) -> None:
        with contextlib.suppress(*HDF5_ERRORS):
            if info.type == h5py.h5l.TYPE_EXTERNAL:
                names[os.fsdecode(handle.id.links.get_val(path)[0])] = None

    with open_file(file) as handle, contextlib.suppress(*HDF5_ERRORS):
        h5py.h5o.visit(handle.id, note_object)
        handle.id.links.visit(note_link, info=True)
    others = []
    for name in itertools.filterfalse(SAME_FILE.__eq__, names):
        with contextlib.suppress(DataError):
            others.append(locate(file, name, "", external=True))
    return tuple(others)
