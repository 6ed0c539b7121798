"""The simulations of a declared layout: file by file, pattern by pattern, or many files of one structure at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from surrogate.data.formats.join import Part
from surrogate.data.formats.leaves import Key
from surrogate.data.formats.mapped_simulation import FILE, MappedSimulation
from surrogate.data.formats.patterns import Located, in_natural_order, matching_files
from surrogate.data.mapping import Mapping, placeholders
from surrogate.errors import DataError

__all__ = ["mapped_parts"]


def mapped_parts(
    layout: Mapping,
    files: Callable[[], Sequence[Path]],
    folder: Path,
    labels: Callable[[Sequence[Path]], dict[Path, str]],
) -> Iterator[Part]:
    """Yield the simulations of a declared layout, file by file or pattern by pattern.

    Arguments:
        layout: The layout.
        files: Lists the files of the data, for a layout without patterns of file names.
        folder: Folder that names of files are relative to.
        labels: Names files in messages and identities.

    Raises:
        DataError: A file or dataset is missing, cannot be used, or does not fit its declaration.
    """
    if layout.files is None and not any(placeholders(entry.file) for entry in layout.entries.values()):
        own = [entry for entry in layout.entries.values() if entry.file is None and entry.start is None]
        located_files = list(files()) if own else [folder]
        names = labels(located_files) if own else {folder: folder.name}
        if len(located_files) > 1 and _one_simulation_a_file(layout):
            whole = _series(layout, [Located(file, {}) for file in located_files], [names[f] for f in located_files])
            if whole is not None:
                yield whole
                return
        for file in located_files:
            located = {p: [Located(folder / p, {})] for p in layout.file_patterns()}
            for groups in _together(layout):
                where = f"{names[file]}:{groups[0]}" if len(groups) == 1 and groups[0] else names[file]
                yield Part(where, MappedSimulation(layout, Located(file, {}), located, groups).dataset(where))
        return
    located = {pattern: matching_files(folder, pattern) for pattern in layout.file_patterns()}
    told = {pattern: sorted(_identity(layout, matching[0])) for pattern, matching in located.items()}
    known: dict[tuple[str, Key], list[Located]] = {}  # files by pattern, and by the names that tell simulations apart
    for pattern, matching in located.items():
        for f in matching:
            known.setdefault((pattern, tuple(f.values[name] for name in told[pattern])), []).append(f)
    simulations = _simulations(layout, located)
    single = len(located) == 1 and len(simulations) == len(next(iter(located.values())))
    if single and len(simulations) > 1 and _one_simulation_a_file(layout):
        named = [", ".join(f"{name}={text}" for name, text in values.items()) for values in simulations]
        of_each = [known[p, tuple(v[n] for n in names)][0] for v in simulations for p, names in told.items()]
        whole = _series(layout, of_each, named)
        if whole is not None:
            yield whole
            return
    for values in simulations:
        chosen = {p: known.get((p, tuple(values.get(n, "") for n in names)), []) for p, names in told.items()}
        absent = [pattern for pattern, matching in chosen.items() if not matching]
        if absent:
            shown = ", ".join(f"{name} = {text}" for name, text in values.items())
            raise DataError(f"{folder}: no file {absent[0]} for {shown}; complete the files, or correct layout.files")
        first = next(iter(chosen.values()))[0].file
        where = ", ".join(f"{name}={text}" for name, text in values.items()) or str(first.relative_to(folder))
        for groups in _together(layout):
            name = f"{where}:{groups[0]}" if len(groups) == 1 and groups[0] else where
            yield Part(name, MappedSimulation(layout, Located(first, values), chosen, groups).dataset(name))


def _one_simulation_a_file(layout: Mapping) -> bool:
    """Test whether every file of a layout holds one simulation, and nothing of another."""
    entries = layout.entries.values()
    own = [name for entry in entries for name in (*entry.names, *placeholders(entry.path))]
    shared = [layout.axis(name) for name in own] + [name for name in own if not layout.is_axis(name)]
    in_names = any(layout.is_axis(name) for name in placeholders(layout.files))
    apart = any(entry.file for entry in entries) or layout.table is not None or layout.groups
    return not (apart or in_names or "sample" in shared or any(not layout.is_axis(n) for n in shared))


def _series(layout: Mapping, files: Sequence[Located], names: Sequence[str]) -> Part | None:
    """Put files of one structure together at once, each a simulation; None where they differ, or one is damaged."""
    of_each = [Located(f.file, {**f.values, FILE: str(index)}) for index, f in enumerate(files)]
    try:
        return Part(names[0], MappedSimulation(layout, of_each[0], {}, ("",), of_each, names).dataset(names[0]))
    except DataError:  # one by one they say what it is, or are padded to one size
        return None


def _together(layout: Mapping) -> list[tuple[str, ...]]:
    """List the declared groups that are read together: all where each is one simulation, else one by one."""
    apart: list[tuple[str, ...]] = [(group,) for group in layout.groups or ("",)]
    for entry in layout.entries.values():
        axes = {layout.axis(name) for name in (*entry.names, *placeholders(entry.path))}
        told = [name for name in placeholders(entry.path) if not layout.is_axis(name)]
        if "sample" in axes or told or entry.path.startswith("/"):
            return apart
    return [layout.groups] if len(layout.groups) > 1 else apart


def _identity(layout: Mapping, located: Located) -> dict[str, str]:
    """Select the names in braces of a file that tell simulations apart."""
    return {name: text for name, text in located.values.items() if not layout.is_axis(name)}


def _simulations(layout: Mapping, located: dict[str, list[Located]]) -> list[dict[str, str]]:
    """List the simulations by the names in braces that tell them apart, in natural order."""
    identities = [_identity(layout, f) for files in located.values() for f in files]
    names = max(({*values} for values in identities), key=len, default=set())
    whole = [values for values in identities if {*values} == names]
    ranks = {name: {t: i for i, t in enumerate(in_natural_order(v[name] for v in whole))} for name in sorted(names)}
    distinct = {tuple(sorted(values.items())): values for values in whole}
    return sorted(distinct.values(), key=lambda values: [ranks[name][values[name]] for name in sorted(names)])
