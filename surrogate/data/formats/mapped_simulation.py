"""One simulation of a declared layout: its leaves put together along named axes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from surrogate.data.formats.containers import Container, Hdf5File, Values, open_container
from surrogate.data.formats.join import difference
from surrogate.data.formats.lazy import lazy_variable
from surrogate.data.formats.leaves import Entry, Key, Leaf, check_alike, stack, stacked_leaves
from surrogate.data.formats.patterns import Located, as_number, in_natural_order, matching_paths
from surrogate.data.formats.shaping import reshaped, with_one_clock
from surrogate.data.formats.simulations import with_sample
from surrogate.data.formats.table import LABEL
from surrogate.data.formats.variables import FileVariable
from surrogate.data.hdf5.array import stamp
from surrogate.data.mapping import NO_AXIS, MappedVariable, Mapping, is_channel, placeholders
from surrogate.errors import DataError

__all__ = ["FILE", "MappedSimulation"]

ORIGIN = "simulation origin"
GROUP = ":group"  # stands for the declared group among the names that tell simulations apart
FILE = ":file"  # stands for the file where each is one simulation


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def _common(roots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes of files without those in which they differ."""
    kept = dict(roots[0]) if roots else {}
    differ: set[str] = set()
    for root in roots[1:]:
        differ |= {name for name, value in root.items() if not np.array_equal(kept.setdefault(name, value), value)}
    return {name: value for name, value in kept.items() if name not in differ}


class MappedSimulation:
    """The files of one simulation, or of several that a file holds.

    Arguments:
        layout: The declared layout.
        file: The file of variables that name none, and the names in braces that this simulation is known by.
        located: Files by the pattern of their names.
        groups: Group that all paths start from; several where each of them is a simulation.
        files: Files each of which is a simulation, with a number under `FILE`.
        names: Names of these simulations.
    """

    def __init__(
        self,
        layout: Mapping,
        file: Located,
        located: dict[str, list[Located]],
        groups: tuple[str, ...],
        files: Sequence[Located] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.layout, self.file, self.located, self.groups = layout, file, located, groups
        self.files, self.names = files, names
        self.roots: list[dict[str, Any]] = []
        self.examples: dict[str, Any] = {}  # datasets described in full, with which those of other files are compared

    def dataset(self, where: str) -> xr.Dataset:
        """Assemble the variables."""
        entries = self.read_entries()
        variables = {e.name: self.variable(e) for e in entries}
        for name, declared in self.layout.entries.items():
            if declared.start is not None:
                variables[name] = self.evenly_spaced(name, declared, variables)
        self.check_lengths(variables)
        fields = {name: v for name, v in variables.items() if name in self.layout.variables}
        ds = xr.Dataset(fields).assign_coords({n: v for n, v in variables.items() if n not in fields})
        ds = self.with_labels(ds.assign_attrs(_common(self.roots)), entries, where)
        origin = [str(name) for name in ds[ORIGIN].values] if ORIGIN in ds.coords else None
        of_samples = self.groups[0] if len(self.groups) == 1 else self.groups
        return with_sample(ds.drop_vars(ORIGIN, errors="ignore"), where, of_samples, origin)

    # reading

    def read_entries(self) -> list[Entry]:
        """Describe all datasets and attributes; every file is opened once."""
        entries, jobs = [], dict[Path, list[tuple[Entry, Located]]]()
        for name, declared in self.layout.entries.items():
            if declared.start is not None:
                continue
            pattern = declared.file or self.layout.files
            keys = [key for key in placeholders(pattern) if self.layout.is_axis(key)] + placeholders(declared.path)
            entry = Entry(name, declared, list(dict.fromkeys([FILE, *keys] if self.files else keys)))
            entries.append(entry)
            for located in self.files or (self.located[pattern] if pattern else [self.file]):
                jobs.setdefault(located.file, []).append((entry, located))
        for file, wanted in jobs.items():
            with open_container(file, external=self.layout.allow_external) as container:
                if self.files and isinstance(container, Hdf5File):
                    container.alike.examples = self.examples
                    container.alike.place = {"file": container.file, "stamp": stamp(container.file)}
                if self.files or not any(self.roots):
                    self.roots.append(dict(container.attrs))
                for entry, located in wanted:
                    self.read_leaves(container, entry, located)
        for entry in entries:
            if not entry.leaves:
                raise DataError(
                    f"{self.file.file}: nothing has the path {entry.declared.path}; correct layout."
                    f"{self.section(entry.name)}.{entry.name}.path"
                )
        return entries

    def section(self, name: str) -> str:
        return "variables" if name in self.layout.variables else "coordinates"

    def read_leaves(self, container: Container, entry: Entry, located: Located) -> None:
        path = entry.declared.path
        is_coordinate = entry.name in self.layout.coordinates and not placeholders(path)
        if path.startswith("/") or (is_coordinate and not container.holds(f"{self.groups[0]}/{path}".strip("/"))):
            self.read_paths(container, entry, located, path, {})
            return
        several = len(self.groups) > 1
        if several and GROUP not in entry.keys:
            entry.keys.insert(0, GROUP)
        for group in self.groups:
            self.read_paths(
                container,
                entry,
                located,
                f"{group}/{path}".rstrip("/") if group else path,
                {GROUP: group} if several else {},
            )

    def read_paths(
        self, container: Container, entry: Entry, located: Located, path: str, known: dict[str, str]
    ) -> None:
        declared = entry.declared
        joined = {*map(self.layout.axis, entry.keys)} & {*map(self.layout.axis, declared.names)}
        for place, values in matching_paths(container, path):
            if values and declared.attribute is None and not container.has_values(place):
                continue  # a group of that name next to the datasets
            texts = located.values | values | known
            leaf = self.leaf(container, place, declared)
            described = not entry.leaves or joined or self.files
            if declared.attribute is None and declared.entry is None and described:
                leaf.attributes = container.attributes(place)
                if (
                    self.files
                    and entry.leaves
                    and not _equal(leaf.attributes, next(iter(entry.leaves.values())).attributes)
                ):
                    raise DataError(f"{container.file}:{place}: has other attributes than the first file")
            leaf.where = f"{container.file}:{place}"
            if leaf.values.ndim != len(declared.axes):
                shown = ", ".join(str(axis) for axis in declared.axes)
                raise DataError(
                    f"{leaf.where}: has {leaf.values.ndim} axes, shape {leaf.values.shape}, but the layout declares "
                    f"{len(declared.axes)}: [{shown}]; correct layout.{self.section(entry.name)}.{entry.name}.axes"
                )
            entry.leaves[tuple(texts[key] for key in entry.keys)] = leaf

    def leaf(self, container: Container, path: str, declared: MappedVariable) -> Leaf:
        if declared.attribute is not None:
            value = np.asarray(container.attribute(path, declared.attribute))
            single = value.size == 1 and not declared.axes
            return Leaf(value.reshape(()) if single else value)
        if declared.entry is not None:
            return Leaf(container.entry(path, declared.entry))
        return Leaf(container.values(path))

    # axes

    def variable(self, entry: Entry) -> xr.Variable:
        """Put the leaves of a variable together, its axes in the order sample, time, channel, space."""
        inside = [key for key in entry.keys if not self.layout.is_axis(key)]  # names that tell simulations apart
        if self.is_shared(entry):
            return self.shared_coordinate(entry)
        own = {self.layout.axis(name) for name in entry.declared.names}
        joined = [key for key in entry.keys if key not in inside and self.layout.axis(key) in own]
        stacked = [key for key in entry.keys if key not in inside and key not in joined]
        by_sample = self.grouped(entry, inside)
        parts = []
        for leaves in by_sample.values():
            parts.append({self.pick(entry, key, [*joined, *stacked]): leaf for key, leaf in leaves.items()})
        labels = [in_natural_order(key[i] for key in parts[0]) for i in range(len(joined) + len(stacked))]
        for name, part in zip(by_sample, parts, strict=True):
            for key in itertools.product(*labels):
                if key not in part:
                    at = ", ".join(
                        f"{k} = {t}" for k, t in zip([*inside, *joined, *stacked], [*name, *key], strict=True)
                    )
                    raise DataError(f"{self.file.file}: '{entry.name}' is missing for {at}; complete the data")
        if inside and "sample" not in own and not joined:
            check_alike(parts, entry.name)
            whole = stack([stacked_leaves(part, labels) for part in parts])
            leaf = next(iter(parts[0].values()))
            return self.finished(entry, leaf, whole, ["sample", *map(self.layout.axis, stacked)])
        pieces = [self.joined(entry, part, labels, joined, stacked) for part in parts]
        if not inside:
            return pieces[0]
        if "sample" in own:
            return xr.Variable.concat(pieces, "sample")
        return xr.Variable.concat([piece.set_dims({"sample": 1, **piece.sizes}) for piece in pieces], "sample")

    def is_shared(self, entry: Entry) -> bool:
        """Test whether an entry is a coordinate that several simulations share."""
        several = GROUP in entry.keys or FILE in entry.keys
        return several and entry.name in self.layout.coordinates and bool(entry.declared.axes)

    def shared_coordinate(self, entry: Entry) -> xr.Variable:
        """Return a coordinate that all groups hold, with the same values."""
        finished = []
        for leaf in entry.leaves.values():
            finished.append(self.finished(entry, leaf, leaf.values, []))
            apart = difference(finished[0], finished[-1])
            if apart:
                raise DataError(f"'{entry.name}' in {leaf.where} {apart}; write one grid, or leave the coordinate out")
        return finished[0]

    def grouped(self, entry: Entry, inside: list[str]) -> dict[Key, dict[Key, Leaf]]:
        """Leaves by the names in braces inside of the file that tell simulations apart, in natural order."""
        places = [entry.keys.index(key) for key in inside]
        groups: dict[Key, dict[Key, Leaf]] = {}
        for key, leaf in entry.leaves.items():
            groups.setdefault(tuple(key[i] for i in places), {})[key] = leaf
        orders = [self.groups if n == GROUP else in_natural_order(k[i] for k in groups) for i, n in enumerate(inside)]
        ranks = [{text: i for i, text in enumerate(order)} for order in orders]
        order = sorted(groups, key=lambda key: [rank[text] for rank, text in zip(ranks, key, strict=True)])
        return {key: groups[key] for key in order}

    def pick(self, entry: Entry, key: Key, names: Sequence[str]) -> Key:
        return tuple(key[entry.keys.index(name)] for name in names)

    def joined(
        self, entry: Entry, part: dict[Key, Leaf], labels: list[list[str]], joined: list[str], stacked: list[str]
    ) -> xr.Variable:
        """Join the parts of one simulation in the order of their names; steps of many objects are stacked."""
        if not joined:
            check_alike([part], entry.name)
            leaf = next(iter(part.values()))
            return self.finished(entry, leaf, stacked_leaves(part, labels), [*map(self.layout.axis, stacked)])
        axis = self.layout.axis(joined[0])
        pieces = []
        for text in labels[0]:
            below = {key[1:]: leaf for key, leaf in part.items() if key[0] == text}
            pieces.append(self.joined(entry, below, labels[1:], joined[1:], stacked))
        return xr.Variable.concat(with_one_clock(pieces) if axis == "time" else pieces, axis)

    def finished(self, entry: Entry, leaf: Leaf, values: Values, leading: list[str]) -> xr.Variable:
        """Name, split, merge, drop and select axes."""
        declared = entry.declared
        known = leaf.attributes | ({"units": declared.units} if declared.units else {})
        plain = all(isinstance(axis, str) and axis != NO_AXIS for axis in declared.axes)
        if plain:
            axes = (*leading, *(self.layout.axis(str(axis)) for axis in declared.axes))
            is_coordinate = entry.name in self.layout.coordinates
            if len(set(axes)) != len(axes):
                raise DataError(
                    f"{leaf.where}: the axes {list(axes)} repeat a name; correct layout."
                    f"{self.section(entry.name)}.{entry.name}"
                )
            variable = lazy_variable(FileVariable(entry.name, values, axes, is_coordinate, known))
        else:
            variable = reshaped(values, declared.axes, leading, self.layout.axis, known, leaf.where)
        for name, chosen in declared.select.items():
            axis = self.layout.axis(name)
            if axis not in variable.dims:
                raise DataError(f"{leaf.where}: no axis '{name}' to select from; its axes are {list(variable.dims)}")
            variable = variable.isel({axis: slice(*chosen) if isinstance(chosen, tuple) else chosen})
        return variable

    def evenly_spaced(self, name: str, declared: MappedVariable, variables: dict[str, xr.Variable]) -> xr.Variable:
        axis = self.layout.axis(declared.names[0])
        size = next((v.sizes[axis] for v in variables.values() if axis in v.dims), None)
        if size is None:
            raise DataError(f"layout.coordinates.{name}: no variable has the axis '{axis}'")
        values = float(declared.start or 0) + float(declared.step or 0) * np.arange(size)
        return xr.Variable((axis,), values, {"units": declared.units} if declared.units else {})

    def check_lengths(self, variables: dict[str, xr.Variable]) -> None:
        seen: dict[str, tuple[int, str]] = {}
        for name, variable in variables.items():
            for axis, size in variable.sizes.items():
                known, other = seen.setdefault(str(axis), (size, name))
                if known != size:
                    raise DataError(
                        f"{self.file.file}: axis '{axis}' has {known} entries in '{other}' but {size} in '{name}'; "
                        "check the order of the declared axes, or give the second axis another name"
                    )

    # names as coordinates

    def with_labels(self, ds: xr.Dataset, entries: Sequence[Entry], where: str) -> xr.Dataset:
        """Add coordinates from names in braces: numbers and components of an axis, parameters of the simulations."""
        labels: dict[str, list[str]] = {}
        simulations: list[dict[str, str]] = []
        counts: list[int] = []
        for entry in entries:
            for place, key in enumerate(entry.keys):
                if self.layout.is_axis(key):
                    labels.setdefault(key, in_natural_order(k[place] for k in entry.leaves))
            inside = [key for key in entry.keys if not self.layout.is_axis(key)]
            if inside and not self.is_shared(entry):
                named = [dict(zip(inside, key, strict=True)) for key in self.grouped(entry, inside)]
                if simulations and named != simulations:
                    raise DataError(
                        f"{self.file.file}: '{entry.name}' has {len(named)} simulations, other variables "
                        f"{len(simulations)}, or others; complete the data, or leave the variable out"
                    )
                simulations = named
                if "sample" in {self.layout.axis(name) for name in entry.declared.names}:
                    counts = [
                        leaves[next(iter(leaves))].values.shape[self.sample_place(entry)]
                        for leaves in self.grouped(entry, inside).values()
                    ]
        for key, texts in labels.items():
            axis = self.layout.axis(key)
            if axis in ds.dims and axis not in ds.variables and len(texts) == ds.sizes[axis]:
                numbers = [as_number(text) for text in texts]
                if is_channel(axis):
                    ds = ds.assign_coords({axis: texts})
                elif None not in numbers:
                    ds = ds.assign_coords({axis: np.array(numbers, np.float64)})
        if simulations:
            counts = counts or [1] * len(simulations)
            names = [", ".join(t if k == GROUP else f"{k}={t}" for k, t in v.items()) for v in simulations]
            repeated = [i for i, count in enumerate(counts) for _ in range(count)]
            several = any(count > 1 for count in counts)
            within = [j for count in counts for j in range(count)]
            origin = [
                f"{where}:{names[i]}" + (f"[{j}]" if several else "") for i, j in zip(repeated, within, strict=True)
            ]
            ds = ds.assign_coords({ORIGIN: ("sample", np.array(self.names if self.files else origin))})
            for key in simulations[0]:
                ds = self.with_parameter(ds, key, [simulations[i][key] for i in repeated])
        for key, text in self.file.values.items():
            texts = [f.values[key] for f in self.files] or [text] * ds.sizes.get("sample", 1)
            ds = self.with_parameter(ds, key, texts)
        if self.layout.table and "sample" in ds.dims:
            return ds.assign_coords({f"{LABEL}file": ("sample", [self.file.file.name] * ds.sizes["sample"])})
        return ds.assign_coords({f"{LABEL}file": self.file.file.name}) if self.layout.table else ds

    def sample_place(self, entry: Entry) -> int:
        return [self.layout.axis(str(axis)) for axis in entry.declared.axes].index("sample")

    def with_parameter(self, ds: xr.Dataset, key: str, texts: list[str]) -> xr.Dataset:
        """Add the text of a name in braces as a parameter of the simulations: a number, or a coordinate of text."""
        dims = ("sample",) if "sample" in ds.dims else ()
        if self.layout.table:
            ds = ds.assign_coords({f"{LABEL}{key}": (dims, texts if dims else texts[0])})
        if self.layout.axis(key) == "sample" or key in ds.variables or key in (GROUP, FILE):
            return ds
        numbers = [as_number(text) for text in texts]
        values = np.array(texts if None in numbers else numbers)
        variable = xr.Variable(dims, values if dims else values[0])
        return ds.assign({key: variable}) if values.dtype.kind == "f" else ds.assign_coords({key: variable})
