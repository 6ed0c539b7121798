"""The objects of a file: names, shapes and roles, with numbered ones counted once, and what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np

from surrogate.data.formats.containers import ArrayFile, Container, Hdf5File
from surrogate.data.formats.patterns import in_natural_order
from surrogate.data.formats.variables import attributes, is_variable, named_axes, scale_path
from surrogate.data.hdf5.storage import dataset_at, object_at
from surrogate.data.mapping import PLACEHOLDER
from surrogate.errors import DataError

__all__ = ["Item", "Survey", "number_name", "survey", "word_before"]

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
TOPOLOGY = re.compile(
    r"topolog|connect|cells?$|faces?|elements?|offset|types?$|owner|partition|index|indices|\bids?$|_ids?$|^ids?_|"
    r"map$|order$|dofs?|level|\bir$|\bjc$|normals?$|status|prop\d*$|neighbou?r",
    re.IGNORECASE,
)
POSITIONS = re.compile(r"^(points?|geometry|coord\w*|pos|positions?|nodes?|vertices|xyz|nodeLocations)$", re.IGNORECASE)
AXES = re.compile(
    r"^(x+|y+|z+|r|theta|phi|t+|time|lat|lon|latitude|longitude)([-_ ]?(coordinates?|coords?|grid|axis))?$"
)
SAMPLE_WORDS = re.compile(
    r"^(run|sim|simulation|sample|case|seed|traj|trajectory|reali[sz]ation|member|ensemble|episode|experiment)s?$", re.I
)
TIME_WORDS = re.compile(r"^(step|timestep|time_?step|time|t|it|iter|iteration|frame|snapshot|snap|cycle)s?$", re.I)
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what stands for bytes of a name that are not UTF-8
SMALL = 1_000_000  # values of a coordinate that are looked at
FEW = 3  # objects that make a pattern
MANY = 8  # groups that make a pattern by what they hold alone
NOTES = 20
MATLAB = 50  # objects of which one has an attribute of MATLAB
LONGEST = 500  # letters of a name; YAML takes keys of 1024 bytes
LOOKED_AT = 256  # datasets of one pattern


@dataclass(frozen=True)
class Item:
    """A dataset, or many of one pattern.

    Arguments:
        path: Path in the file, with a name in braces in place of numbers that count objects.
        shape: Shape; of many that of the first.
        axes: Names of its axes; None where the file does not name them.
        units: Units; None where unknown.
        role: `field`, `number`, `coordinate`, `positions`, `integers`, or the reason why it is neither.
        numbers: Names in braces, and how many objects each counts.
        first: Path of the first dataset.
        scales: Paths of the coordinates of its axes, where the file names them.
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[str, ...] | None = None
    units: str | None = None
    role: str = "field"
    numbers: dict[str, int] = field(default_factory=dict)
    first: str = ""
    scales: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Survey:
    """Datasets of a file, what speaks for MATLAB's order of axes, and lines on all that cannot be read and on links."""

    items: list[Item]
    reversed: bool
    notes: list[str]
    links: list[str] = field(default_factory=list)

    def of(self, *roles: str) -> list[Item]:
        """Select the items of some roles."""
        return [item for item in self.items if item.role in roles]


def survey(container: Container) -> Survey:
    """List the datasets of a file; every object counts once, whatever links lead to it.

    Of thousands whose names differ in numbers alone, some hundreds are opened, evenly spread, and those between are
    taken to be alike; all of them are compared when the data are opened.
    """
    if isinstance(container, ArrayFile):
        items = [_array_item(name, variable) for name, variable in container.arrays.items()]
        return Survey(items, False, [f"{item.path}: {item.role}" for item in items if " " in item.role])
    if not isinstance(container, Hdf5File):
        return Survey([], False, [])
    handle, datasets, notes = container.handle, list[Item](), list[str]()
    links = _links(handle)
    leaving = [name for name, kind in links if kind == h5py.h5l.TYPE_EXTERNAL and not NOT_UTF8.search(name)]
    linked = _linked_datasets(container, leaving)
    names, groups, unnamed = _members(handle)
    notes += [f"{name}: its name is not UTF-8; it is left out" for name in unnamed]
    notes += [
        f"{name}: a layout takes the braces in its name for a pattern; it is left out"
        for name in names
        if PLACEHOLDER.search(name)
    ]
    notes += [
        f"{name[:60]}...: its name has {len(name)} letters, more than a configuration takes; it is left out"
        for name in [*names, *linked]
        if len(name) > LONGEST
    ]
    names = [name for name in names if not PLACEHOLDER.search(name) and len(name) <= LONGEST]
    linked = {name: None for name in linked if len(name) <= LONGEST}
    for name in ["/", *groups[:LOOKED_AT]]:
        notes += _attribute_notes(name, handle[name])
    numbered: dict[str, list[str]] = {}  # by the name without numbers
    for name in [*names, *linked]:
        numbered.setdefault(NUMBER.sub("\0", name), []).append(name)
    for members in numbered.values():
        every = max(1, len(members) // LOOKED_AT)
        item: Item | None = None
        for index, name in enumerate(members):
            if index % every:
                datasets += [replace(item, path=name, first=name)] if item else []
                continue
            try:
                if name in linked:
                    with dataset_at(handle, name, external=container.external) as dataset:
                        item = _item(name, dataset) if is_variable(dataset) else None
                else:
                    dataset = handle[name]
                    item = _item(name, dataset) if is_variable(dataset) else None
                    notes += _attribute_notes(name, dataset)
            except Exception as error:  # any object may be unreadable; the rest of the file is not
                item = None
                notes.append(f"{name}: cannot be read ({' '.join(str(error).split())[:100]}); it is left out")
            datasets += [item] if item else []
    notes += [f"{item.path}: {item.role}; it is left out" for item in datasets if " " in item.role]
    more = [f"{len(notes) - NOTES} more objects are left out"] if len(notes) > NOTES else []
    at_root = [name for name in (*names, *groups) if "/" not in name][:MATLAB]
    matlab = any("MATLAB_class" in handle[name].attrs for name in at_root)
    return Survey(_gathered(datasets), matlab, [*notes[:NOTES], *more], list(_link_notes(handle, links)))


def _members(group: h5py.Group) -> tuple[list[str], list[str], list[str]]:
    """List the paths of all datasets and groups below a group, each once, and of objects whose name is not UTF-8."""
    datasets: list[str] = []
    groups: list[str] = []
    unnamed: list[str] = []
    kinds = {h5py.h5o.TYPE_DATASET: datasets, h5py.h5o.TYPE_GROUP: groups}

    def note(name: bytes, info: h5py.h5o.ObjInfo) -> None:
        if name != b".":
            try:
                kinds.get(info.type, []).append(name.decode())
            except UnicodeDecodeError:
                unnamed.append(name.decode(errors="replace"))

    h5py.h5o.visit(group.id, note, info=True)
    return datasets, groups, unnamed


def _links(handle: h5py.File) -> list[tuple[str, int]]:
    """List the paths and kinds of all links that are not the object itself."""
    links: list[tuple[str, int]] = []

    def note(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type != h5py.h5l.TYPE_HARD:
            links.append((name.decode("utf-8", "surrogateescape"), info.type))

    handle.id.links.visit(note, info=True)
    return links


def _linked_datasets(container: Hdf5File, links: Sequence[str]) -> dict[str, None]:
    """List the datasets to which external links lead; links whose names differ in numbers lead to the same."""
    below: dict[str, list[str]] = {}  # a link, and the datasets in the group that it leads to
    handle = container.handle
    seen: set[tuple[str, int]] = set()
    names: dict[str, None] = {}
    for link in links:
        pattern = NUMBER.sub("\0", link)
        if pattern not in below:
            try:
                with object_at(handle, link, external=container.external) as item:
                    place = item.file.filename, h5py.h5o.get_info(item.id).addr
                    again = place in seen or place[0] == handle.filename
                    below[pattern] = [] if again else _members(item)[0] if isinstance(item, h5py.Group) else [""]
                    seen.add(place)
            except DataError:
                below[pattern] = [""]  # refused when it is opened
        names |= dict.fromkeys(f"{link}/{member}".rstrip("/") for member in below[pattern])
    return names


def _attribute_notes(name: str, item: h5py.HLObject) -> Iterator[str]:
    unread: list[str] = []
    attributes(item, unread)
    yield from (f"{name}: its attribute {attribute} cannot be read; it is left out" for attribute in unread)


def _item(name: str, dataset: h5py.Dataset) -> Item:
    shape = dataset.shape
    if shape is None:
        return Item(name, (), role="an empty (null) dataset")
    known = attributes(dataset)
    units, axes, scales = known.get("units"), None, tuple[str, ...]()
    kind = str(known.get("MATLAB_class", ""))
    dtype = dataset.dtype
    role = _role(name, dtype, shape, kind)
    if " " not in role:
        axes = named_axes(dataset)
        scales = tuple(scale_path(dimension).strip("/") for dimension in dataset.dims) if dataset.ndim else ()
        if role == "field" and _is_axis(name, shape) and dataset.size <= SMALL and _monotonic(dataset[()]):
            role = "coordinate"
        if dataset.is_scale and dataset.ndim == 1:
            role = "coordinate"
    return Item(name, shape, axes, None if units is None else str(units), role, first=name, scales=scales)


def _array_item(name: str, variable: Any) -> Item:
    named = not any(str(dim).startswith("dim_") for dim in variable.dims)
    role = _role(name, variable.dtype, variable.shape, "")
    if role == "field" and _is_axis(name, variable.shape) and variable.size <= SMALL and _monotonic(variable.values):
        role = "coordinate"
    axes = tuple(map(str, variable.dims)) if named else None
    units = variable.attrs.get("units")
    return Item(name, variable.shape, axes, None if units is None else str(units), role, first=name)


def _role(path: str, dtype: np.dtype, shape: Sequence[int], matlab: str) -> str:
    """Name the role of a dataset by its type, shape and name."""
    name, size = path.rpartition("/")[2], int(np.prod(shape, dtype=np.int64))
    if matlab in ("char", "string"):
        return "text, no numbers"
    if matlab in ("cell", "struct", "function_handle", "canonical empty", "FileWrapper__") or path.startswith("#refs#"):
        return "a cell, structure or object of MATLAB"
    if dtype.kind in "SU" or h5py.check_string_dtype(dtype) is not None:
        return "text, no numbers"
    if dtype.kind == "O":
        return "references or ragged rows, no array of numbers"
    if dtype.kind == "c" or set(dtype.names or ()) == {"real", "imag"}:
        return "complex numbers: declare two variables, with entry: real and entry: imag"
    if dtype.kind not in "fiub":
        return "a compound or opaque type; name one of its fields with `entry`"
    if size == 0:
        return f"empty (shape {tuple(shape)})"
    if size == 1:
        return "number"
    whole = dtype.kind in "iu"
    if (
        whole
        and (dtype.itemsize > 1 or TOPOLOGY.search(name))
        and TOPOLOGY.search(path.replace("/", " ") if len(shape) == 1 else name)
    ):
        return "integers"
    narrow = len(shape) == 2 and min(shape) in (2, 3) and max(shape) > 3
    if not whole and POSITIONS.match(name) and narrow:
        return "positions"
    return "field"


def _is_axis(path: str, shape: Sequence[int]) -> bool:
    long = [size for size in shape if size > 1]
    return len(long) == 1 and AXES.match(path.rpartition("/")[2]) is not None


def _monotonic(values: Any) -> bool:
    steps = np.diff(np.asarray(values, np.float64).ravel())
    return bool((steps > 0).all() or (steps < 0).all())


# --- numbered objects -------------------------------------------------------------------------------------------------


def word_before(text: str) -> str:
    """Return the word right before a number at the end of a text: `run` of `data/run_`."""
    match = re.search(r"([A-Za-z][A-Za-z_]*?)[-_. ]*$", text.rpartition("/")[2])
    return match[1] if match else ""


def number_name(before: str, taken: Iterable[str]) -> str:
    """Name what a number counts by the word before it: `sample`, `time`, or a name without a meaning."""
    word = word_before(before)
    name = "sample" if SAMPLE_WORDS.match(word) else "time" if TIME_WORDS.match(word) else ""
    names = [name] if name else []
    return next(n for n in [*names, "number", "number2", "number3", "number4"] if n not in taken)


def _gathered(items: Sequence[Item]) -> list[Item]:
    """Put datasets together that differ in numbers of their path alone."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        key = (NUMBER.sub("\0", item.path), item.shape, item.role, item.axes)
        groups.setdefault(key, []).append(item)
    gathered: list[Item] = []
    for members in groups.values():
        gathered += [_pattern(members)] if len(members) >= FEW else members
    gathered = _by_word(gathered)
    order = {item.first: index for index, item in enumerate(items)}
    return sorted(gathered, key=lambda item: order[item.first])


def _by_word(items: Sequence[Item]) -> list[Item]:
    """Put datasets of groups together that differ in the words of their names: `case_a`, `case_b`, or many of any name.

    Each of the groups has to hold datasets of the same names and shapes.
    """
    members: dict[str, dict[str, Item]] = {}  # of a group at the root
    for item in items:
        group, _, below = item.path.partition("/")
        if below:
            members.setdefault(group, {})[below] = item
    alike: dict[Any, list[str]] = {}
    for group, held in members.items():
        kind = frozenset((below, item.shape, item.role, item.axes) for below, item in held.items())
        alike.setdefault(kind, []).append(group)
    gathered = list(items)
    for groups in alike.values():
        starts = [groups[0][: end.end()] for end in re.finditer(r"[^A-Za-z0-9]", groups[0])]
        before = max((s for s in starts if all(group.startswith(s) for group in groups)), key=len, default="")
        if len(groups) < (FEW if SAMPLE_WORDS.match(word_before(before)) else MANY) or "{" in groups[0]:
            continue
        name = number_name(before, {key for item in members[groups[0]].values() for key in item.numbers})
        for below, item in members[groups[0]].items():
            same = {members[group][below].first for group in groups}
            path, numbers = f"{before}{{{name}}}/{below}", {name: len(groups), **item.numbers}
            gathered = [entry for entry in gathered if entry.first not in same]
            gathered.append(replace(item, path=path, numbers=numbers))
    return gathered


def _pattern(members: Sequence[Item]) -> Item:
    """One item for many; numbers that vary become names in braces, equal ones at several places the same name."""
    texts = NUMBER.split(members[0].path)
    columns = list(zip(*(NUMBER.findall(member.path) for member in members), strict=True))
    names: dict[tuple[str, ...], str] = {}
    path = texts[0]
    for column, text in zip(columns, texts[1:], strict=True):
        if len(set(column)) == 1:
            path += column[0]
        else:
            names.setdefault(column, number_name(path, names.values()))
            path += f"{{{names[column]}}}"
        path += text
    counts = {name: len(set(column)) for column, name in names.items()}
    first = (
        min(members, key=lambda m: in_natural_order(x.path for x in members).index(m.path))
        if len(members) < 100
        else members[0]
    )
    return replace(first, path=path, numbers=counts)


def _link_notes(handle: h5py.File, links: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield a line for every link that is not the object itself."""
    for name, kind in links[:NOTES]:
        key = name.encode("utf-8", "surrogateescape")
        text = key.decode("utf-8", "replace")
        if kind == h5py.h5l.TYPE_EXTERNAL:
            file, path = (part.decode("utf-8", "replace") for part in handle.id.links.get_val(key))
            yield f"/{text}: external link to {file}:{path}; read only where it stays in the folder"
        elif kind == h5py.h5l.TYPE_SOFT:
            yield f"/{text}: link to {handle.id.links.get_val(key).decode('utf-8', 'replace')}"
        else:
            yield f"/{text}: a link of a kind that only its program can follow; it is left out"
    if len(links) > NOTES:
        yield f"{len(links) - NOTES} more links are not shown"
