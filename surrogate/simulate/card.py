"""The card of a data set: what it is, how it was made and how wrong it is, as Markdown with a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from surrogate import __version__
from surrogate.errors import ResourceError
from surrogate.files import replacing
from surrogate.simulate.ensemble import Ensemble
from surrogate.simulate.equation import Evolution, Quantity
from surrogate.simulate.measure import FINER, Errors, measure_errors
from surrogate.simulate.picture import write_picture
from surrogate.simulate.recipe import Range, Recipe, Size

__all__ = ["write_card"]

PICTURE = "picture.png"
SHOWN = 24  # simulations that are run for the picture

MAKING = """\
One seed per simulation: number i of a recipe is the same, bit for bit on the CPU of one machine, whatever the size of
the batch, the shards or the number of workers, and can be made alone. An interrupted run goes on with `--resume` and
ends with the same files. Simulations are independent and there is no fixed split: split by simulation, never by
snapshot, with the `split:` section of a configuration.

```python
from surrogate.simulate.generate import load_recipe, simulate_members

simulate_members(load_recipe("{name}"), "tiny", [{number}])  # one simulation as an xarray.Dataset
```
"""

LICENCE = """\
The recipe is part of `slim-surrogate` (MIT licence). Data made with it are yours to use and share; name the package,
its version ({version}) and the digest in `manifest.json`, from which anyone can make the same data again.
"""


def write_card(recipe: Recipe, size: str, folder: Path) -> Path:
    """Write `README.md` and its picture; every number in it is measured now, on the simulations of one size.

    Arguments:
        recipe: The recipe.
        size: The size to run, best `tiny`.
        folder: Where to write; files of these two names are replaced.

    Returns:
        The path of the README.

    Raises:
        ResourceError: The folder cannot be written.
    """
    ensemble = Ensemble(recipe, size)
    results = ensemble.run(range(min(SHOWN if ensemble.grid.shape else 10**9, ensemble.size.simulations)), batch=16)
    results.check(recipe.max_failed * len(results.numbers))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make folder {folder}: {error.strerror}; choose another one") from error
    write_picture(ensemble.dataset(results), list(ensemble.equation.fields), folder / PICTURE)
    text = "\n".join(_sections(ensemble, size, measure_errors(recipe, size)))
    with replacing(folder / "README.md") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "README.md"


def _sections(ensemble: Ensemble, size: str, errors: Errors) -> Iterable[str]:
    recipe, equation = ensemble.recipe, ensemble.equation
    about = equation.description
    yield f"# {recipe.name}\n"
    if recipe.about:
        yield f"{recipe.about}\n"
    yield f"![Simulations of the {size} size]({PICTURE})\n"
    yield f"```\nsurrogate simulate {recipe.name} --size tiny --output data/{recipe.name}\n```\n"
    yield "## Problem\n"
    yield "\n".join("    " + line for line in about.formula.splitlines()) + "\n"
    yield _problem_table(ensemble)
    yield "## Parameters\n"
    yield _sampling_sentence(recipe)
    yield _parameter_table(recipe, equation.ranges)
    yield "## Discretisation and its measured error\n"
    yield f"{about.scheme} Computed in {_precision(ensemble)}, stored in float32.\n"
    yield _error_table(ensemble, size, errors)
    yield "## Files\n"
    yield (
        f"Shards `{recipe.name}-00000.h5`, ... are NetCDF-4-conforming HDF5: `xarray.open_dataset(path)` gives names, "
        "coordinates and units. Every variable is contiguous, uncompressed and little-endian. `manifest.json` names "
        "every "
        "shard with its size and SHA-256 and the simulations that failed; `recipe.yaml` is the recipe as it was run.\n"
    )
    yield _file_table(ensemble)
    yield "## Sizes\n"
    yield _size_table(ensemble)
    yield "## Making it again\n"
    yield MAKING.format(name=recipe.name, number=ensemble.size.simulations // 2)
    yield "## Licence and citation\n"
    yield LICENCE.format(version=__version__)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _problem_table(ensemble: Ensemble) -> str:
    about, grid = ensemble.equation.description, ensemble.grid
    corners = grid.origin or (0.0,) * len(grid.lengths)
    sides = zip(grid.axes, corners, grid.lengths, strict=True)
    units = "" if ensemble.equation.length_units == "1" else f" {ensemble.equation.length_units}"
    domain = ", ".join(f"{axis} from {low:g} to {low + length:g}{units}" for axis, low, length in sides)
    single = len(ensemble.equation.boundaries) == 1
    rows = [
        ("domain", domain),
        ("boundary", about.boundary if single else f"here {grid.boundary}; {about.boundary}"),
        ("initial field", about.initial),
        ("coefficients", about.constants),
        ("conserved", about.invariants),
        ("source", about.source),
    ]
    return _table(("", ""), [(name, text) for name, text in rows if text])


def _sampling_sentence(recipe: Recipe) -> str:
    sentences = {
        "random": "Drawn independently for each simulation.",
        "latin_hypercube": "A Latin hypercube: one simulation in each layer of every parameter.",
        "sobol": "A scrambled Sobol sequence.",
        "table": f"From the table `{recipe.sampling.table}`, row i for simulation i.",
    }
    return sentences[recipe.sampling.method] + "\n"


def _parameter_table(recipe: Recipe, ranges: Mapping[str, Quantity]) -> str:
    rows = []
    for name, quantity in ranges.items():
        count = f" ({quantity.size} numbers)" if quantity.dim else ""
        rows.append((f"`{name}`", quantity.long_name + count, *_describe(recipe.parameters[name], quantity.units)))
    return _table(("in the recipe", "meaning", "range", "distribution"), rows)


def _describe(bounds: Range, units: str) -> tuple[str, str]:
    if bounds.options:
        return ", ".join(bounds.options), "each as likely"
    low, high = bounds.bounds
    unit = "" if units == "1" else f" {units}"
    if low == high:
        return f"{low:g}{unit}", "fixed"
    return f"{low:g} to {high:g}{unit}", "uniform in the logarithm" if bounds.scale == "log" else "uniform"


def _precision(ensemble: Ensemble) -> str:
    return ensemble.recipe.precision if isinstance(ensemble.equation, Evolution) else "float64"


def _error_table(ensemble: Ensemble, size: str, errors: Errors) -> str:
    none = "not measured: the initial field is white noise, which is another field on another grid"
    rows = []
    if errors.time is not None:
        rows.append((f"the same with steps in time {FINER} times finer", f"{errors.time:.1e}"))
    if ensemble.grid.shape:
        space = none if errors.space is None else f"{errors.space:.1e}"
        rows.append(("the same on a grid of twice the points along every axis", space))
    if not rows:
        return "The data are values of a formula; their error is rounding.\n"
    where = f"on {' x '.join(map(str, ensemble.grid.shape))} points, the `{size}` size"
    head = f"Measured {where}, over all data of the first {errors.members} simulations:\n\n"
    return head + _table(("against", "relative L2 difference"), rows)


def _file_table(ensemble: Ensemble) -> str:
    axes = list(ensemble.equation.outputs(ensemble.grid))
    timed = ["time"] if isinstance(ensemble.equation, Evolution) else []
    rows = [
        (f"`{name}`", ", ".join(["sample", *timed, *axes]), "float32", quantity.units, quantity.long_name)
        for name, quantity in ensemble.equation.fields.items()
    ]
    for name, quantity in ensemble.equation.recorded(ensemble.grid.axes).items():
        dims = f"sample, {quantity.dim}" if quantity.dim else "sample"
        rows.append((f"`{name}`", dims, "float64", quantity.units, quantity.long_name))
    rows.append(("`simulation`", "sample", "int64", "1", "number in the recipe"))
    if timed:
        rows.append(("`time`", "time", "float64", ensemble.equation.time_units, "time"))
    for axis, along in ensemble.equation.outputs(ensemble.grid).items():
        rows.append((f"`{axis}`", axis, "float64", along.units, along.long_name))
    return _table(("variable", "dimensions", "type", "units", "meaning"), rows)


def _size_table(ensemble: Ensemble) -> str:
    rows = []
    for name in ensemble.recipe.sizes:
        size = Ensemble(ensemble.recipe, name).size
        grid = " x ".join(map(str, size.grid)) or "none"
        shards = math.ceil(size.simulations / size.shard)
        data = _bytes(ensemble, name)
        rows.append((f"`{name}`", f"{size.simulations}", grid, _span(ensemble, size), f"{shards}", data))
    return _table(("size", "simulations", "grid", "times", "shards", "data"), rows)


def _span(ensemble: Ensemble, size: Size) -> str:
    """The times of the snapshots."""
    if not isinstance(ensemble.equation, Evolution):
        return "none"
    step = size.final_time / (size.snapshots - 1)
    first = 0.0 if ensemble.equation.from_start else step
    units = "" if ensemble.equation.time_units == "1" else f" {ensemble.equation.time_units}"
    return f"{_times(ensemble, size)}: {first:g}, {first + step:g}, ..., {size.final_time:g}{units}"


def _times(ensemble: Ensemble, size: Size) -> int:
    """Number of snapshots that are stored; 1 for a problem without time."""
    if not isinstance(ensemble.equation, Evolution):
        return 1
    return size.snapshots if ensemble.equation.from_start else size.snapshots - 1


def _bytes(ensemble: Ensemble, name: str) -> str:
    other = Ensemble(ensemble.recipe, name)
    lengths = [len(along.values) for along in other.equation.outputs(other.grid).values()]
    times = _times(other, other.size)
    total = 4.0 * other.size.simulations * times * len(other.equation.fields) * math.prod(lengths)
    for unit in ("B", "kB", "MB", "GB"):
        if total < 1000 or unit == "GB":
            break
        total /= 1000
    return f"{total:.3g} {unit}"
