"""Programs whose files are recognised: each writes the declared layout that says what the program means.

Sources: the file formats as documented by Dedalus, DOLFIN and DOLFINx (XDMF and checkpoints), Ansys Fluent CFF, VTKHDF,
openPMD 1.1, FLASH 4, PyClaw and Firedrake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from surrogate.data.formats.containers import Hdf5File, open_container
from surrogate.data.formats.fluent import MESH
from surrogate.data.formats.variables import attributes
from surrogate.data.mapping import NO_AXIS, NONE
from surrogate.data.mesh import CELLS, POSITIONS
from surrogate.data.proposal import KEPT, Entry, Proposal, Question, few_steps, time_split
from surrogate.errors import DataError

__all__ = ["recognised"]

UNITS = ("m", "kg", "s", "A", "K", "mol", "cd")  # of openPMD's unitDimension, in its order
FILES = 20  # of a folder that are looked into
MOST_FUNCTIONS = 100  # of a checkpoint of FEniCS
PARTITION = re.compile(r"partition|_flag$", re.IGNORECASE)


def recognised(path: str, files: Sequence[Path]) -> Proposal | None:
    """Propose the layout of the program that wrote files; None where no program is recognised.

    Raises:
        DataError: The program is recognised, but what its file holds cannot be declared; the message says why.
    """
    apart = len({file.parent for file in files}) > 1
    proposals: list[tuple[Path, Proposal]] = []
    for file in files[:1] if apart else files[:FILES]:
        with open_container(file) as container:
            handle = container.handle if isinstance(container, Hdf5File) else None
            tried = (_tried(program, path, handle, files) for program in PROGRAMS) if handle is not None else ()
            proposal = next((draft for draft in tried if draft is not None), None)
        proposals += [(file, proposal)] if proposal is not None else []
        if proposals and ("files" in proposals[0][1].options or len(files) > FILES):
            return proposals[0][1]
    if not proposals:
        return None
    proposals.sort(key=lambda pair: not pair[1].coordinates)  # fields with known places first
    first = proposals[0][1]
    if (
        len(files) == 1
        or apart
        or (len(proposals) == len(files) and any(p.variables == first.variables for _, p in proposals[1:]))
    ):
        return first  # one file, or every file a simulation
    for file, proposal in proposals:
        own = {name: v for name, v in proposal.variables.items() if proposal is first or name not in first.variables}
        for entry in own.values():
            entry["file"] = file.name
        first.variables |= own
        first.axes |= {name: proposal.axes[name] for name in own}
    for file, proposal in proposals:
        for name, entry in list(proposal.coordinates.items()):
            if first.coordinates.setdefault(name, entry) is entry and "start" not in entry:
                entry["file"] = file.name
    return first


def _tried(
    program: Callable[[Proposal, h5py.File, Sequence[Path]], Proposal | None],
    path: str,
    handle: h5py.File,
    files: Sequence[Path],
) -> Proposal | None:
    """Propose the layout of one program; None where the file has names of it, but not what they stand for."""
    try:
        return program(Proposal(path), handle, files)
    except DataError:
        raise
    except Exception:  # whatever an object of another kind under such a name leads to
        return None


def _finish(proposal: Proposal, program: str, reason: str, steps: int, sizes: dict[str, int]) -> Proposal:
    """State the program, and how a simulation of so many steps is divided, or ask what a sample is."""
    proposal.program = f"{program}: {reason}"
    proposal.few_steps = few_steps(steps)
    if steps >= 3:
        proposal.split = time_split(steps)
        return proposal
    state = f"{max(steps, 1)} state{'s' if steps > 1 else ''}"
    warning = "entries are samples; neighbours are in training and test, so errors are too good"
    answers = {axis: f"its {size} {warning}" for axis, size in sizes.items()}
    answers |= {NONE: f"one simulation of {state}, which cannot be divided: name more files"}
    proposal.questions["sample"] = Question(f"The data are one simulation of {state}. What is a sample?", answers)
    return proposal


def _plain(text: str) -> str:
    name = re.sub(r"\W+", "_", text).strip("_")
    return f"v_{name}" if not name or name[0].isdigit() else name


def _add(proposal: Proposal, name: str, entry: Entry, axes: Sequence[str]) -> None:
    proposal.variables[name], proposal.axes[name] = entry, tuple(axes)


def _step_files(proposal: Proposal, files: Sequence[Path]) -> int:
    """State the pattern of files of one step each; return the number of steps."""
    pieces = [re.split(r"(\d+)", file.name) for file in files]
    if len(files) > 1 and len({len(piece) for piece in pieces}) == 1:
        varying = [i for i, column in enumerate(zip(*pieces, strict=True)) if len(set(column)) > 1]
        if len(varying) == 1:
            at = varying[0]
            proposal.options["files"] = "".join(pieces[0][:at]) + "{time}" + "".join(pieces[0][at + 1 :])
            return len(files)
    return 1


# --- programs ---------------------------------------------------------------------------------------------------------


def _dedalus(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """Dedalus: `tasks` over axes with labels, their values in `scales`."""
    tasks, scales = handle.get("tasks"), handle.get("scales")
    if not isinstance(tasks, h5py.Group) or not isinstance(scales, h5py.Group):
        return None
    sizes: dict[str, int] = {}
    for name, task in tasks.items():
        labels = [dim.label for dim in task.dims]
        if not all(labels) or task.dtype.kind not in "fiu":
            continue
        axes = ["time" if label == "t" else label for label in labels]
        _add(proposal, _plain(name), {"path": f"tasks/{name}", "axes": axes}, axes)
        sizes |= dict(zip(axes, task.shape, strict=True))
        for axis, dim in zip(axes, task.dims, strict=True):
            known = [scale.name.strip("/") for scale in dim.values()]
            known = [scale for scale in known if axis != "time" or scale.endswith("sim_time")] or known[:1]
            if known and axis not in proposal.coordinates:
                proposal.coordinates[axis] = {"path": known[0], "axes": [axis]}
    steps = sizes.pop("time", 1)
    return _finish(proposal, "Dedalus", "groups 'tasks' and 'scales'", steps, sizes) if proposal.variables else None


def _fenics(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """FEniCS and FEniCSx: `VisualisationVector/{step}` or `Function/{name}/{step}` on the points of `Mesh`."""
    parts: list[tuple[str, str, h5py.Group]] = []
    if isinstance(handle.get("VisualisationVector"), h5py.Group):
        parts.append(("u", "VisualisationVector", handle["VisualisationVector"]))
    elif isinstance(handle.get("Function"), h5py.Group):
        parts = [(name, f"Function/{name}", group) for name, group in handle["Function"].items()]
    else:
        return _fenics_checkpoint(proposal, handle)
    steps, points = 1, 1
    for name, path, group in parts:
        first = group[next(iter(group))]
        steps, points = len(group), first.shape[0]
        axes = ["point", NO_AXIS if first.shape[1] == 1 else "channel"]
        _add(
            proposal,
            _plain(name),
            {"path": f"{path}/{{time}}", "axes": axes},
            ["time", *[a for a in axes if a != NO_AXIS]],
        )
    for path in _geometries(handle):
        if handle[path].shape[0] == points:
            _positions(proposal, path, handle[path].shape[1], ["point", "xyz_channel"])
            topology = handle.get(path.removesuffix("geometry") + "topology")
            if isinstance(topology, h5py.Dataset) and topology.ndim == 2 and topology.dtype.kind in "iu":
                proposal.coordinates[CELLS] = {"path": topology.name.strip("/"), "axes": ["element", "corner"]}
            break
    return _finish(proposal, "FEniCS", f"{parts[0][1]}, numbered by step", steps, {"point": points})


def _fenics_checkpoint(proposal: Proposal, handle: h5py.File) -> Proposal | None:
    """HDF5File of FEniCS: `{name}/{name}_{step}/vector`, in the order of the degrees of freedom."""
    steps, points = 0, 1
    named = [name for name in handle if isinstance(name, str)]  # names that are not UTF-8 are bytes
    named = named if len(named) < MOST_FUNCTIONS else []
    own = [name for name in named if isinstance(handle.get(name, getlink=True), h5py.HardLink)]
    for name, group in ((name, handle[name]) for name in own):
        keys = [key for key in group if isinstance(key, str)] if isinstance(group, h5py.Group) else []
        numbered = [key for key in keys if re.fullmatch(rf"{re.escape(name)}_\d+", key)]
        if numbered and {"vector", "cell_dofs"} <= set(group[numbered[0]]):
            steps, points = len(numbered), group[numbered[0]]["vector"].shape[0]
            _add(
                proposal,
                _plain(name),
                {"path": f"{name}/{name}_{{time}}/vector", "axes": ["dof", NO_AXIS]},
                ["time", "dof"],
            )
    reason = "vectors of degrees of freedom, which are in another order than the points of the mesh"
    return _finish(proposal, "FEniCS checkpoint", reason, steps, {"dof": points}) if proposal.variables else None


def _geometries(handle: h5py.File) -> Iterator[str]:
    geometries: list[str] = []
    if isinstance(handle.get("Mesh"), h5py.Group):
        handle["Mesh"].visit(lambda name: geometries.append(f"Mesh/{name}") if str(name).endswith("geometry") else None)
    yield from geometries


def _positions(proposal: Proposal, path: str, dimensions: int, axes: list[Any]) -> None:
    """Add the components of positions as coordinates `x`, `y`, `z`."""
    channel = next(axis for axis in axes if isinstance(axis, str) and axis.endswith("channel"))
    for index, name in enumerate("xyz"[:dimensions]):
        proposal.coordinates[name] = {"path": path, "axes": axes, "select": {channel: index}}


def _fluent(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """Fluent CFF: `results/1/phase-1/cells/SV_T/1`, a value of every cell."""
    group = handle.get("results/1/phase-1/cells") if "results" in handle else None
    if not isinstance(group, h5py.Group):
        return None
    cells = 0
    for name, item in group.items():
        dataset = item.get("1") if isinstance(item, h5py.Group) else None
        if not isinstance(dataset, h5py.Dataset) or PARTITION.search(name) or dataset.dtype.kind != "f":
            continue
        cells = cells or dataset.shape[0]
        axes = ["cell", "channel"][: dataset.ndim]
        if dataset.shape[0] == cells and np.ptp(dataset[()]) > 0:
            _add(proposal, _plain(name.removeprefix("SV_")), {"path": f"{dataset.name.strip('/')}", "axes": axes}, axes)
    case = next((file for file in files if file.name.endswith(".cas.h5")), None)
    if case is not None and len(files) == 2:
        with open_container(case) as container:
            mesh = container.handle.get(MESH) if isinstance(container, Hdf5File) else None
            dimension = int(mesh.attrs["dimension"][0]) if mesh is not None and "dimension" in mesh.attrs else 0
        if dimension:  # the places of the cells are known
            proposal.options["fluent_case"] = case.name
            scalars = [name for name, axes in proposal.axes.items() if axes == ("cell",)]
            proposal.inputs, proposal.targets = list(POSITIONS[:dimension]), scalars[:KEPT] or None
    reason = "values of cells in results/1/phase-1/cells, the mesh in the case file"
    return _finish(proposal, "Ansys Fluent", reason, 1, {"cell": cells}) if proposal.variables else None


def _vtkhdf(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """VTKHDF: point and cell data; steps are folded into one axis, with offsets."""
    root = handle.get("VTKHDF")
    if not isinstance(root, h5py.Group):
        return None
    steps = int(root["Steps"].attrs["NSteps"]) if "Steps" in root else 1
    image = "WholeExtent" in root.attrs
    for kind, axis in (("PointData", "point"), ("CellData", "cell")):
        for name, dataset in root.get(kind, {}).items():
            if dataset.dtype.kind not in "fiu":
                continue
            if image:
                axes: list[Any] = [*["time"] * (dataset.ndim == 4 or (steps > 1)), "z", "y", "x"][: dataset.ndim]
                _add(proposal, _plain(name), {"path": f"VTKHDF/{kind}/{name}", "axes": axes}, axes)
                continue
            per_step = _per_step(root, f"{kind}Offsets/{name}", len(dataset), steps)
            first = {"time": steps, axis: per_step} if steps > 1 else axis
            rest = ["channel"][: dataset.ndim - 1]
            known = [*["time"] * (steps > 1), axis, *rest]
            _add(proposal, _plain(name), {"path": f"VTKHDF/{kind}/{name}", "axes": [first, *rest]}, known)
    if steps > 1 and "Values" in root["Steps"]:
        proposal.coordinates["time"] = {"path": "VTKHDF/Steps/Values", "axes": ["time"]}
    if "Points" in root and not image:
        count = _per_step(root, "PointOffsets", len(root["Points"]), steps)
        first = {"time": steps, "point": count} if steps > 1 else "point"
        _positions(proposal, "VTKHDF/Points", 3, [first, "xyz_channel"])
    sizes = {"point": 0} if any("point" in axes for axes in proposal.axes.values()) else {"cell": 0}
    return _finish(proposal, "VTKHDF", f"group 'VTKHDF' of {steps} steps", steps, sizes) if proposal.variables else None


def _per_step(root: h5py.Group, offsets: str, total: int, steps: int) -> int:
    """Return the entries of a step, the same in every step.

    Raises:
        DataError: Steps differ in size, or share values.
    """
    count = total // steps
    starts = root["Steps"][offsets][()] if steps > 1 and offsets in root["Steps"] else np.arange(steps) * count
    if count * steps != total or not np.array_equal(starts, np.arange(steps) * count):
        raise DataError(
            f"{root.file.filename}: steps of VTKHDF have different numbers of points or share values; write all steps "
            "on one mesh, each in full"
        )
    return count


def _openpmd(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """openPMD: meshes of every iteration, components as datasets, spacing and units in attributes."""
    if "openPMD" not in handle.attrs or not isinstance(handle.get("data"), h5py.Group):
        return None
    iterations = list(handle["data"])
    base = str(attributes(handle).get("meshesPath", "meshes/")).strip("/")
    meshes = handle[f"data/{iterations[0]}"].get(base, {})
    sizes: dict[str, int] = {}
    for name, mesh in meshes.items():
        known = attributes(mesh)
        parts = (
            {"": mesh}
            if isinstance(mesh, h5py.Dataset)
            else {k: v for k, v in mesh.items() if isinstance(v, h5py.Dataset)}
        )
        if not parts:
            continue  # constant components are attributes
        labels = [str(label) for label in np.atleast_1d(known.get("axisLabels", []))]
        labels = ["mode", *labels] if known.get("geometry") == "thetaMode" else labels
        first = next(iter(parts.values()))
        if len(labels) != first.ndim:
            continue
        path = f"data/{{time}}/{base}/{name}" + ("/{channel}" if "" not in parts else "")
        entry: Entry = {"path": path, "axes": labels}
        units = _si_units(known, attributes(first))
        _add(proposal, _plain(name), entry | ({"units": units} if units else {}), ["time", *labels])
        sizes |= {axis: size for axis, size in zip(labels, first.shape, strict=True) if axis != "mode"}
        offsets, spacing = (np.atleast_1d(known.get(key, [])) for key in ("gridGlobalOffset", "gridSpacing"))
        scale = float(known.get("gridUnitSI", 1.0))
        for axis, start, step in zip([a for a in labels if a != "mode"], offsets, spacing, strict=False):
            numbers = {"start": float(start) * scale, "step": float(step) * scale}
            proposal.coordinates[axis] = {**numbers, "axes": [axis], "units": "m"}
    proposal.coordinates["time"] = {"path": "data/{time}", "attribute": "time", "units": "s"}
    return _finish(proposal, "openPMD", "attribute 'openPMD'", len(iterations), sizes) if proposal.variables else None


def _si_units(mesh: dict[str, Any], component: dict[str, Any]) -> str:
    powers = np.atleast_1d(mesh.get("unitDimension", []))
    names = [f"{unit}{'' if power == 1 else f'{power:g}'}" for unit, power in zip(UNITS, powers, strict=False) if power]
    factor = float(component.get("unitSI", mesh.get("unitSI", 1.0)))
    return " ".join([*([f"{factor:g}"] if factor != 1 else []), *names]) if names else ""


def _flash(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """FLASH: variables in `unknown names` over blocks, which are put together where they fill a grid in order."""
    if not {"unknown names", "coordinates", "block size", "real scalars"} <= set(handle):
        return None
    names = [name.decode() for name in np.ravel(handle["unknown names"][()])]
    centres = handle["coordinates"][()]
    counts = [len(np.unique(centres[:, axis].round(9))) for axis in range(centres.shape[1])]
    used = [axis for axis in (2, 1, 0) if axis < centres.shape[1] and counts[axis] > 1]
    order = np.lexsort([centres[:, axis] for axis in (0, 1, 2) if axis < centres.shape[1]])
    if int(np.prod(counts)) != len(centres) or not np.array_equal(order, np.arange(len(centres))):
        raise DataError(
            f"{handle.filename}: {len(centres)} blocks of FLASH are refined or not in the order of a grid; write a "
            "uniform grid, which is what a network of fields needs"
        )
    letters = {0: "x", 1: "y", 2: "z"}
    sizes: dict[str, int] = {}
    for name in names:
        shape = handle[name].shape[1:]  # z, y, x
        inner = [NO_AXIS if size == 1 else axis for size, axis in zip(shape, "zyx", strict=True)]
        blocks: Any = {letters[axis]: counts[axis] for axis in used} or NO_AXIS
        known = [axis for axis in inner if axis != NO_AXIS]
        sizes = {axis: size * counts["xyz".index(axis)] for size, axis in zip(shape, "zyx", strict=True) if size > 1}
        _add(proposal, _plain(name.strip()), {"path": name, "axes": [blocks, *inner]}, ["time", *known])
    for axis, total in sizes.items():
        low, high = (
            handle["bounding box"][:, "xyz".index(axis)].min(),
            handle["bounding box"][:, "xyz".index(axis)].max(),
        )
        step = float(high - low) / total
        proposal.coordinates[axis] = {"start": float(low) + step / 2, "step": step, "axes": [axis]}
    steps = _step_files(proposal, files)
    proposal.coordinates["time"] = {"path": "real scalars", "entry": "time"}
    if steps == 1:
        proposal.axes = {name: axes[1:] for name, axes in proposal.axes.items()}
    return _finish(proposal, "FLASH", "'unknown names', a file for every step", steps, sizes)


def _pyclaw(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """PyClaw: one patch, components first, geometry in attributes, a file for every step."""
    patch = handle.get("patch1")
    if not isinstance(patch, h5py.Group) or "num_eqn" not in patch.attrs or "q" not in patch:
        return None
    if "patch2" in handle:
        raise DataError(f"{handle.filename}: holds several patches of PyClaw; write one grid without refinement")
    known = attributes(patch)
    axes = [str(axis) for axis in np.atleast_1d(known["dimensions"])]
    _add(proposal, "q", {"path": "patch1/q", "axes": ["channel", *axes]}, ["time", *axes])
    sizes = dict(zip(axes, patch["q"].shape[1:], strict=True))
    for axis, size in sizes.items():
        step = (known[f"{axis}.upper"] - known[f"{axis}.lower"]) / size
        proposal.coordinates[axis] = {"start": known[f"{axis}.lower"] + step / 2, "step": step, "axes": [axis]}
    steps = _step_files(proposal, files)
    proposal.coordinates["time"] = {"path": "patch1", "attribute": "t"}
    if steps == 1:
        proposal.axes = {name: a[1:] for name, a in proposal.axes.items()}
    return _finish(proposal, "PyClaw", "group 'patch1' with num_eqn", steps, sizes)


def _firedrake(proposal: Proposal, handle: h5py.File, files: Sequence[Path]) -> Proposal | None:
    """Firedrake checkpoints: vectors of degrees of freedom, a row for every step."""
    if not isinstance(handle.get("topologies"), h5py.Group):
        return None
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "/vecs/" in str(name) and item.ndim == 2 and "timestepping" in item.attrs:
            shapes[f"topologies/{name}"] = item.shape

    handle["topologies"].visititems(note)
    for index, (path, shape) in enumerate(shapes.items()):
        axis = "dof" if index == 0 or shape[1] == next(iter(shapes.values()))[1] else f"dof{index + 1}"
        _add(proposal, _plain(path.rpartition("/")[2]), {"path": path, "axes": ["time", axis]}, ["time", axis])
    steps = next(iter(shapes.values()), (1,))[0]
    reason = "group 'topologies'; vectors are in the order of degrees of freedom, not of points"
    return _finish(proposal, "Firedrake", reason, steps, {"dof": 0}) if shapes else None


PROGRAMS: tuple[Callable[[Proposal, h5py.File, Sequence[Path]], Proposal | None], ...] = (
    _dedalus,
    _fenics,
    _fluent,
    _vtkhdf,
    _openpmd,
    _flash,
    _pyclaw,
    _firedrake,
)
