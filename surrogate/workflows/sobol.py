"""Global sensitivity of a trained run: Sobol indices of its outputs for all of its parameters, table and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.data.mesh import geometry_of
from surrogate.data.streaming.channels import pick
from surrogate.errors import ConfigError, NumericalError, did_you_mean
from surrogate.evaluation.sobol import Parameter, sobol_indices, sobol_inputs
from surrogate.evaluation.summary import r_squared, save_dataset
from surrogate.experiment.folders import EvaluationFolder, SobolFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.files import refuse_links, replacing, replacing_folder
from surrogate.models.input_range import InputRange
from surrogate.models.signature import Signature, variable_and_step
from surrogate.models.surrogate import Surrogate
from surrogate.numbers import number
from surrogate.plotting import plot_sobol_bars, plot_sobol_maps, save_figure
from surrogate.prediction.sources import source_of_values
from surrogate.progress import ProgressBar
from surrogate.simulate.generate import find_recipe, load_recipe
from surrogate.training.build import split_datasets
from surrogate.workflows.pipeline import cases_of, load_surrogate

__all__ = ["sobol_run"]

Say = Callable[[str], None]
SUMMARIES = ("mean", "rms")  # of a field over its points
MOST = 200  # parameters
MAP_BYTES = 2**28  # of the outputs at grid points in memory
SHOWN = 4  # outputs and parameters of a line


def sobol_run(
    run: Path,
    say: Say,
    *,
    samples: int = 1024,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Estimate the Sobol indices of a surrogate's outputs and write them into `sobol/` of its run folder.

    Parameters are independent and uniform. Their ranges are those given, else of the recipe that the configuration
    simulates, else from the smallest to the largest value of the training data. A field is summarised by its mean and
    its root mean square over the points; maps have the indices at every point, of large fields at every second,
    third, ... along each axis.

    Arguments:
        run: A run folder, or the folder of a pipeline with one case.
        say: Called with a line for the user.
        samples: Base samples, rounded up to a power of two; d parameters take d + 2 times as many predictions.
        ranges: Lower and upper end by name of the parameter; a number of a vector is `name.0`, `name.1`, ...
        device: Name of the device, or "auto".

    Returns:
        `first`, `total` and half the widths of their intervals with dimensions (parameter, output, summary), and for
        fields `first_map` and `total_map` (parameter, output, *space).

    Raises:
        ConfigError: An input is a field or changes in time, a range is of no parameter, or SALib is not installed.
        NumericalError: A prediction is not finite.
    """
    surrogate, _ = load_surrogate(run, device)
    folder = RunFolder(cases_of(run)[0])
    refuse_links(folder.path)
    if not folder.config.is_file():
        raise ConfigError(f"{run} is no run folder: the ranges of the parameters come from its configuration and data")
    experiment = folder.experiment()
    inputs, places = _parameters(surrogate.signature, experiment, ranges or {})
    parameters = [parameter for group in inputs.values() for parameter in group if parameter.low < parameter.high]
    if not 0 < len(parameters) <= MOST:
        raise ConfigError(
            f"{len(parameters)} inputs of this surrogate vary over their ranges; Sobol indices need 1 to {MOST}, with "
            "ranges such as --range viscosity=0.01:0.1"
        )
    samples = 2 ** math.ceil(math.log2(max(samples, 8)))
    drawn = dict(zip((parameter.name for parameter in parameters), sobol_inputs(parameters, samples).T, strict=True))
    rows, values = len(next(iter(drawn.values()))), {}
    for name, group in inputs.items():  # an input that is constant stays at its value
        columns = np.stack([drawn.get(one.name, np.full(rows, one.low)) for one in group], axis=1)
        values[name] = columns[:, 0] if group[0].name == name else columns
    stored = folder.input_range
    input_range = InputRange.load(stored) if stored.is_file() else None
    sampled = _Sampled(surrogate, values, input_range)
    summaries, maps = sampled.outputs(places)
    indices = sobol_indices(summaries, parameters)
    if maps is not None:
        at_points = sobol_indices(maps, parameters, resamples=0)
        indices = indices.assign({f"{name}_map": at_points[name] for name in ("first", "total")})
    indices = indices.assign_attrs(base_samples=samples, out_of_range=sampled.beyond).assign_coords(
        low=("parameter", [parameter.low for parameter in parameters]),
        high=("parameter", [parameter.high for parameter in parameters]),
        log=("parameter", [int(parameter.log) for parameter in parameters]),
    )
    _write(indices, SobolFolder(folder.path / "sobol"))
    for line in _lines(indices, parameters, folder.evaluation):
        say(line)
    return indices


def _parameters(
    signature: Signature, experiment: Experiment, ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, list[Parameter]], dict[str, xr.Variable]]:
    """Return the parameters of every input by its name, and the coordinates of the targets."""
    dataset = split_datasets(experiment)["train"]
    drawn = {}
    if experiment.simulate is not None:
        drawn = load_recipe(find_recipe(experiment.simulate.recipe)).parameters
    inputs: dict[str, list[Parameter]] = {}
    moving = {name for name, step in map(variable_and_step, signature.inputs) if step is not None} - {"time"}
    for name in signature.variables(signature.inputs):
        if name in signature.positions:
            continue
        array = dataset["time"] if name == "time" else pick(dataset, name)
        axes = [str(axis) for axis in array.dims if axis != "sample" and name != "time"]
        if name in moving or len(axes) > 1 or {*axes} & {*signature.grid}:
            raise ConfigError(
                f"the input {name} of this surrogate is a field: Sobol indices are of inputs that are numbers of each "
                "simulation; describe the field by parameters and train on these"
            )
        numbers = np.asarray(array.values, dtype=np.float64).reshape(-1, array.sizes[axes[0]] if axes else 1)
        labels = signature.components.get(name, tuple(map(str, range(numbers.shape[1]))))
        inputs[name] = []
        for label, column in zip(labels, numbers.T, strict=True):
            own = f"{name}.{label}" if axes else name
            recipe = drawn.get(name)
            if own in ranges:
                parameter = Parameter(own, *ranges[own])
            elif recipe is not None and not recipe.options:
                parameter = Parameter(own, *recipe.bounds, log=recipe.scale == "log")
            else:
                parameter = Parameter(own, float(np.nanmin(column)), float(np.nanmax(column)))
            inputs[name].append(parameter)
    names = [parameter.name for group in inputs.values() for parameter in group]
    for name in ranges:
        if name not in names:
            raise ConfigError(f"--range: no parameter '{name}'; {did_you_mean(name, names)}")
    return inputs, _places(signature, dataset)


def _places(signature: Signature, dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """Return the coordinates of the axes of the targets, indices where there are none, and of the points of a mesh."""
    axes = {
        axis: dataset[axis].variable if axis in dataset.coords else xr.Variable((axis,), np.arange(size))
        for axis, size in signature.grid.items()
    }
    mesh = geometry_of(dataset, signature.point_axis) if signature.point_axis else {}
    return axes | {name: places for name, places in mesh.items() if places.dims == (signature.point_axis,)}


class _Sampled:
    """Predictions at sampled parameters.

    Arguments:
        surrogate: The surrogate.
        values: Values of every input by name.
        input_range: Range of the training inputs.
    """

    def __init__(self, surrogate: Surrogate, values: Mapping[str, np.ndarray], input_range: InputRange | None) -> None:
        self.surrogate, self.input_range = surrogate, input_range
        self.rows = len(next(iter(values.values())))
        self.source = source_of_values(surrogate.signature, values, batch_size=256)
        self.beyond = 0.0  # share of the inputs that are out of the range of the training inputs

    def outputs(self, places: Mapping[str, xr.Variable]) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return summaries (sample, output, summary), and fields (sample, output, *space) where there are any."""
        names, grid = list(self.surrogate.signature.targets), tuple(self.surrogate.signature.grid.values())
        stride = 1
        while 4 * self.rows * len(names) * math.prod(-(-side // stride) for side in grid) > MAP_BYTES:
            stride += 1
        summaries = np.empty((self.rows, len(names), len(SUMMARIES) if grid else 1))
        kept = (slice(None), slice(None), *[slice(None, None, stride)] * len(grid))
        fields = np.empty((self.rows, len(names), *[-(-side // stride) for side in grid]), dtype=np.float32)
        with ProgressBar("predicting", "inputs") as progress:
            for rows, prediction in self._predictions():
                of_points = prediction.reshape(*prediction.shape[:2], -1).double()
                columns = (of_points.mean(2), of_points.square().mean(2).sqrt()) if grid else (of_points[..., 0],)
                summaries[rows] = torch.stack(columns, dim=2).numpy()
                fields[rows] = prediction[kept].numpy()
                progress(int(rows[-1]) + 1, self.rows)
        labels = {"output": names, "summary": list(SUMMARIES) if grid else ["value"]}
        table = xr.DataArray(summaries, labels, ("sample", "output", "summary"))
        if not grid:
            return table, None
        coords = {name: values[::stride] for name, values in places.items()} | {"output": names}
        return table, xr.DataArray(fields, coords, ("sample", "output", *self.surrogate.signature.grid))

    @torch.no_grad()
    def _predictions(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        device, beyond = next(self.surrogate.parameters()).device, 0
        for rows, inputs in self.source.batches():
            prediction = self.surrogate(inputs.to(device)).cpu()
            if not bool(torch.isfinite(prediction).all()):
                raise NumericalError("a prediction within these ranges is not finite; give narrower ones by --range")
            if self.input_range is not None:
                beyond += int((self.input_range.score(inputs) > 1).sum())
            yield rows, prediction
        self.beyond = beyond / self.rows


def _write(indices: xr.Dataset, folder: SobolFolder) -> None:
    """Write the indices as NetCDF, those of summaries as CSV, and the figures."""
    with replacing_folder(folder.path) as part:
        files = SobolFolder(part)
        save_dataset(indices, files.indices)
        table = indices[["first", "first_half_width", "total", "total_half_width"]].reset_coords(drop=True)
        frame = table.to_dataframe(dim_order=["output", "summary", "parameter"]).reset_index()
        with replacing(files.table) as path:
            frame.to_csv(path, index=False, lineterminator="\n")
        save_figure(plot_sobol_bars(indices), files.bars)
        if "total_map" in indices:
            save_figure(plot_sobol_maps(indices), files.maps)


def _lines(indices: xr.Dataset, parameters: Sequence[Parameter], evaluation: EvaluationFolder) -> Iterator[str]:
    """Yield what the indices say, what they are of, and how far the surrogate can be trusted with it."""
    shown = indices.isel(output=slice(SHOWN), summary=0)
    ranges = [f"{p.name} {p.low:g} to {p.high:g}{' (log)' if p.log else ''}" for p in parameters]
    more = f" and {len(ranges) - SHOWN} more" if len(ranges) > SHOWN else ""
    yield f"parameters, independent and uniform: {', '.join(ranges[:SHOWN])}{more}"
    for name in shown["output"].values:
        one = shown.sel(output=name)
        what = f"{name}, {one['summary'].item()}" if one["summary"].item() != "value" else str(name)
        if not one["total"].notnull().all():
            yield f"{what}: constant over these ranges"
            continue
        order = np.argsort(-one["total"].values)[:SHOWN]
        texts = [
            f"{one['parameter'].values[i]} {number(float(one['total'][i]), 2)} "
            f"(+-{number(float(one['total_half_width'][i]), 1)})"
            for i in order
        ]
        alone = number(100 * float(np.clip(one["first"].sum(), 0, 1)), 3)
        yield f"{what}: total indices {', '.join(texts)}; parameters on their own explain {alone} % of the variance"
    if indices.sizes["output"] > SHOWN:
        yield f"and {indices.sizes['output'] - SHOWN} more outputs: see sobol.csv"
    if indices.attrs["out_of_range"] > 0.05:
        share = number(100 * indices.attrs["out_of_range"], 3)
        yield f"{share} % of the sampled inputs are out of the range of the training inputs: narrow --range"
    if evaluation.metrics.is_file():
        metrics = evaluation.read("metrics")
        kept = [name for name in shown["output"].values if name in metrics["variable"].values]
        scores = [f"{name} {number(r_squared(metrics.sel(variable=name)), 3)}" for name in kept]
        yield f"these are indices of the surrogate, whose R2 on unseen simulations is: {', '.join(scores)}"
