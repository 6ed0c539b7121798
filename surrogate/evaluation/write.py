"""Everything that the evaluation folder of a run holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from surrogate.data import Stream
from surrogate.evaluation.evaluate import evaluate
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.latent import bottleneck, latent_space
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.summary import save, save_dataset, save_uncertainty
from surrogate.evaluation.table import Labels
from surrogate.evaluation.uncertainty import evaluate_uncertainty
from surrogate.models.surrogate import Surrogate

__all__ = ["labels_of", "with_parameters", "write_evaluation"]


def labels_of(stream: Stream, dataset: xr.Dataset, *, by: str | None = None) -> Labels:
    """What the positions of a stream over a data set mean.

    Arguments:
        stream: The stream.
        dataset: What it reads.
        by: Coordinate that names the simulation of a sample; without it, its origin.
    """
    simulation = by or "origin"
    return Labels(
        variables=stream.target_names,
        units=stream.targets.units,
        times=dataset["time"] if "time" in dataset.coords else None,
        simulations=dataset[simulation].values if simulation in dataset.variables else None,
        given=stream.window.input_offsets if stream.window else (),
        scored=stream.window.target_offsets if stream.window else (),
    )


def with_parameters(metrics: xr.Dataset, dataset: xr.Dataset) -> xr.Dataset:
    """The metrics with every number that a simulation has, as a coordinate `parameter_NAME` along the samples."""
    found = {}
    for name, values in dataset.variables.items():
        if values.dims == ("sample",) and values.dtype.kind in "fiu" and name not in ("sample", "simulation"):
            units = str(values.attrs.get("units", ""))
            picked = np.asarray(values.values, dtype=np.float64)[metrics["sample"].values]
            found[f"parameter_{name}"] = ("sample", picked, {"long_name": str(name), "units": units})
    return metrics.assign_coords(found)


def write_evaluation(
    surrogate: Surrogate, stream: Stream, dataset: xr.Dataset, folder: Path, *, labels: Labels, facts: dict[str, Any]
) -> xr.Dataset:
    """Score a surrogate on a stream and write metrics, examples, error maps, and what else the model offers.

    Arguments:
        surrogate: The model, on its device.
        stream: The samples, in the order of the data.
        dataset: What the stream reads.
        folder: Where the files go.
        labels: What the positions of the stream mean.
        facts: Written beside the metrics: the split, whether training had ended.

    Returns:
        The metrics.
    """
    device = next(surrogate.parameters()).device

    def predict(inputs: Tensor) -> Tensor:
        return surrogate(inputs.to(device))

    maps, options = ErrorMaps(), vars(labels)
    metrics = with_parameters(evaluate(predict, stream, maps=maps, **options), dataset).assign_attrs(facts)
    coordinates = {name: dataset[name] for name in stream.spatial_dims}
    examples = collect_examples(predict, stream, select_examples(metrics), coordinates=coordinates)
    save(metrics, folder)
    save_dataset(examples, folder / "examples.nc")
    save_dataset(maps.dataset(labels.variables, metrics["units"].values.tolist(), coordinates), folder / "maps.nc")
    if surrogate.posterior is not None:
        scores = evaluate_uncertainty(lambda x: surrogate.predict_with_std(x.to(device)), stream, **options)
        save_uncertainty(scores.assign_attrs(facts), folder)
    layer = bottleneck(surrogate.network) if surrogate.settings.family == "autoencoder" else None
    if layer is not None:
        save_dataset(with_parameters(latent_space(predict, layer, stream, labels), dataset), folder / "latent.nc")
    return metrics
