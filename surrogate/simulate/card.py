"""The card of a data set in Markdown: problem, discretisation, measured errors, files and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from surrogate import __version__
from surrogate.errors import ConfigError, ResourceError
from surrogate.files import replacing
from surrogate.simulate.ensemble import Ensemble
from surrogate.simulate.equation import Evolution
from surrogate.simulate.measure import FINER, Errors, measure_errors
from surrogate.simulate.picture import write_picture
from surrogate.simulate.recipe import Recipe
from surrogate.simulate.registry import CATALOGUE

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

OWN = (
    "The equation `{equation}` is not part of `slim-surrogate`, version {version}, which simulated it: register it, or "
    "install the package that does.\n"
)

SAMPLED = {
    "random": "Drawn independently for each simulation.",
    "latin_hypercube": "A Latin hypercube: one simulation in each layer of every parameter.",
    "sobol": "A scrambled Sobol sequence.",
}

FILES = (
    "Shards `{name}-00000.h5`, ... are NetCDF-4-conforming HDF5: `xarray.open_dataset(path)` gives names, "
    "coordinates and units. Every variable is contiguous, uncompressed and little-endian. `manifest.json` names every "
    "shard with its size and SHA-256 and the simulations that failed; `recipe.yaml` is the recipe as it was run.\n"
)


def write_card(recipe: Recipe, size: str, folder: Path) -> Path:
    """Write `README.md` and its picture; every number in it is measured now, on the simulations of one size.

    Arguments:
        recipe: The recipe.
        size: The size to run, preferably `tiny`.
        folder: Where to write; an earlier card of the recipe is replaced.

    Returns:
        The path of the README.

    Raises:
        ConfigError: The folder holds files of these names that are no card of the recipe.
        ResourceError: The folder cannot be written.
    """
    readme, picture = folder / "README.md", folder / PICTURE
    ours = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(f"# {recipe.name}\n")
    if not ours and (readme.exists() or picture.exists()):
        raise ConfigError(f"{folder} has a {readme.name} or {PICTURE} that is no card of {recipe.name}; choose another")
    ensemble = Ensemble(recipe, size)
    results = ensemble.run(range(min(SHOWN if ensemble.grid.shape else 10**9, ensemble.size.simulations)), batch=16)
    results.check(recipe.max_failed * len(results.numbers))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make folder {folder}: {error.strerror}; choose another one") from error
    write_picture(ensemble.dataset(results), list(ensemble.equation.fields), picture)
    text = "\n".join(_Card(ensemble, size, measure_errors(recipe, size), results.geometry).sections())
    with replacing(readme) as part:
        part.write_text(text, encoding="utf-8")
    return readme


@dataclass(frozen=True)
class _Card:
    """The text of a card.

    Arguments:
        ensemble: The simulations that were run for it.
        size: The name of their size.
        errors: Their measured errors.
        mesh: Places, volumes and cells of meshes that differ; none on a grid.
    """

    ensemble: Ensemble
    size: str
    errors: Errors
    mesh: Mapping[str, xr.Variable]

    def sections(self) -> Iterable[str]:
        """Yield the sections in order."""
        recipe, equation = self.ensemble.recipe, self.ensemble.equation
        about = equation.description
        yield f"# {recipe.name}\n"
        if recipe.about:
            yield f"{recipe.about}\n"
        yield f"![Simulations of the {self.size} size]({PICTURE})\n"
        ours = equation.name in CATALOGUE
        if ours:
            yield f"```\nsurrogate simulate {recipe.name} --size tiny --output data/{recipe.name}\n```\n"
        yield "## Problem\n"
        yield "\n".join("    " + line for line in about.formula.splitlines()) + "\n"
        yield self.problem()
        yield "## Parameters\n"
        sampled = f"From the table `{recipe.sampling.table}`, row i for simulation i."
        yield SAMPLED.get(recipe.sampling.method, sampled) + "\n"
        yield self.parameters()
        yield "## Discretisation and its measured error\n"
        precision = recipe.precision if isinstance(equation, Evolution) else "float64"
        yield f"{about.scheme} Computed in {precision}, stored in float32.\n"
        yield self.measured()
        yield "## Files\n"
        yield FILES.format(name=recipe.name)
        yield self.variables()
        yield "## Sizes\n"
        yield self.sizes()
        yield "## Making it again\n"
        name, number = recipe.name if ours else "recipe.yaml", self.ensemble.size.simulations // 2
        yield MAKING.format(name=name, number=number)
        if not ours:
            yield OWN.format(equation=equation.name, version=__version__)
        licence = LICENCE.format(version=__version__) if ours else about.licence
        if licence:
            yield "## Licence and citation\n"
            yield f"{licence.rstrip()}\n"

    def problem(self) -> str:
        """Tabulate the domain and what the equation says about itself."""
        equation, grid = self.ensemble.equation, self.ensemble.grid
        about = equation.description
        sides = zip(grid.axes, grid.origin or (0.0,) * len(grid.lengths), grid.lengths, strict=True)
        unit = _unit(equation.length_units)
        single = len(equation.boundaries) == 1
        rows = [
            ("domain", ", ".join(f"{axis} from {low:g} to {low + length:g}{unit}" for axis, low, length in sides)),
            ("boundary", about.boundary if single else f"here {grid.boundary}; {about.boundary}"),
            ("initial field", about.initial),
            ("coefficients", about.constants),
            ("conserved", about.invariants),
            ("source", about.source),
        ]
        return _table(("", ""), [(name, text) for name, text in rows if text])

    def parameters(self) -> str:
        """Tabulate the ranges of the recipe."""
        rows = []
        for name, quantity in self.ensemble.equation.ranges.items():
            count = f" ({quantity.size} numbers)" if quantity.dim else ""
            bounds, unit = self.ensemble.recipe.parameters[name], _unit(quantity.units)
            low, high = bounds.bounds
            span, law = f"{low:g} to {high:g}{unit}", "uniform in the logarithm" if bounds.scale == "log" else "uniform"
            if bounds.options:
                span, law = ", ".join(bounds.options), "each as likely"
            elif low == high:
                span, law = f"{low:g}{unit}", "fixed"
            rows.append((f"`{name}`", quantity.long_name + count, span, law))
        return _table(("in the recipe", "meaning", "range", "distribution"), rows)

    def measured(self) -> str:
        """Tabulate the measured errors."""
        none = "not measured: the initial field is white noise, which is another field on another grid"
        errors, shape, rows = self.errors, self.ensemble.grid.shape, []
        if errors.time is not None:
            rows.append((f"the same with steps in time {FINER} times finer", f"{errors.time:.1e}"))
        if shape:
            space = none if errors.space is None else f"{errors.space:.1e}"
            meshes = "the same on meshes twice as fine"
            rows.append((meshes if self.mesh else "the same on a grid of twice the points along every axis", space))
        if not rows:
            return "The data are values of a formula; their error is rounding.\n"
        cells = "intervals" if self.mesh else "points"
        where = f"on {' x '.join(map(str, shape))} {cells}, the `{self.size}` size"
        head = f"Measured {where}, over all data of the first {errors.members} simulations:\n\n"
        return head + _table(("against", "relative L2 difference"), rows)

    def variables(self) -> str:
        """Tabulate the variables of a file."""
        ensemble = self.ensemble
        equation, axes = ensemble.equation, ensemble.equation.outputs(ensemble.grid)
        timed = ["time"] if isinstance(equation, Evolution) else []
        rows = [
            (f"`{name}`", ", ".join(["sample", *timed, *axes]), "float32", quantity.units, quantity.long_name)
            for name, quantity in equation.fields.items()
        ]
        for name, quantity in equation.recorded(ensemble.grid.axes).items():
            dims = f"sample, {quantity.dim}" if quantity.dim else "sample"
            rows.append((f"`{name}`", dims, "float64", quantity.units, quantity.long_name))
        rows.append(("`simulation`", "sample", "int64", "1", "number in the recipe"))
        if timed:
            rows.append(("`time`", "time", "float64", equation.time_units, "time"))
        for axis, along in {} if self.mesh else axes.items():
            rows.append((f"`{axis}`", axis, "float64", along.units, along.long_name))
        for name, own in self.mesh.items():
            rows.append(
                (f"`{name}`", ", ".join(map(str, own.dims)), str(own.dtype), own.attrs["units"], own.attrs["long_name"])
            )
        return _table(("variable", "dimensions", "type", "units", "meaning"), rows)

    def sizes(self) -> str:
        """Tabulate the sizes of the recipe and how much data each makes."""
        rows = []
        for name in self.ensemble.recipe.sizes:
            other = Ensemble(self.ensemble.recipe, name)
            size, equation, times, span = other.size, other.equation, 1, "none"
            if isinstance(equation, Evolution):
                step, times = size.final_time / (size.snapshots - 1), size.snapshots - (not equation.from_start)
                first, unit = 0.0 if equation.from_start else step, _unit(equation.time_units)
                span = f"{times}: {first:g}, {first + step:g}, ..., {size.final_time:g}{unit}"
            points = math.prod(len(along.values) for along in equation.outputs(other.grid).values())
            total = 4.0 * size.simulations * times * len(equation.fields) * points
            power = min(int(math.log10(total)) // 3, 3)
            data = f"{total / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
            grid, shards = " x ".join(map(str, size.grid)) or "none", math.ceil(size.simulations / size.shard)
            rows.append((f"`{name}`", f"{size.simulations}", grid, span, f"{shards}", data))
        return _table(("size", "simulations", "grid", "times", "shards", "data"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _unit(units: str) -> str:
    return "" if units == "1" else f" {units}"
