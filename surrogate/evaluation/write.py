"""Write the evaluation folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.data import Stream
from surrogate.data.mesh import geometry_of, is_one_mesh, point_axis
from surrogate.errors import DataError
from surrogate.evaluation.conformal import Residuals, RolloutResiduals
from surrogate.evaluation.evaluate import evaluate
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.latent import Codes, bottleneck
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.projection import Projection
from surrogate.evaluation.rollout.simulations import evaluate_simulations, rolled_out, typical
from surrogate.evaluation.rollout.stepping import plan_stepping
from surrogate.evaluation.rollout.summary import save_rollout
from surrogate.evaluation.source import SampleSource
from surrogate.evaluation.summary import save, save_dataset, save_uncertainty
from surrogate.evaluation.table import Columns, Labels, Rows, grid
from surrogate.evaluation.uncertainty import UncertaintyScores
from surrogate.evaluation.volumes import Volumes
from surrogate.experiment.folders import EvaluationFolder
from surrogate.models.input_range import SCORE, InputRange
from surrogate.models.surrogate import Surrogate
from surrogate.progress import ProgressBar

__all__ = ["Beside", "labels_of", "with_parameters", "write_evaluation", "write_rollout"]

MESHES_DIFFER = "meshes differ between simulations or steps, so that no point has several errors"


def labels_of(stream: Stream, dataset: xr.Dataset, *, by: str | None = None) -> Labels:
    """Return the labels of a stream over a data set.

    Arguments:
        stream: The stream.
        dataset: The data set of the stream.
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
    """Add every number of a simulation as a coordinate `parameter_NAME` along the samples."""
    parameters = {}
    for name, values in dataset.variables.items():
        if values.dims == ("sample",) and values.dtype.kind in "fiu" and name not in ("sample", "simulation"):
            units = str(values.attrs.get("units", ""))
            picked = np.asarray(values.values, dtype=np.float64)[metrics["sample"].values]
            parameters[f"parameter_{name}"] = ("sample", picked, {"long_name": str(name), "units": units})
    return metrics.assign_coords(parameters)


@dataclass(frozen=True)
class Beside:
    """Training inputs and modes that an evaluation compares inputs and targets with.

    Arguments:
        input_range: Range of its training inputs.
        projection: Modes that bound its error.
    """

    input_range: InputRange | None = None
    projection: Projection | None = None


class _Pass:
    """One pass over a stream: all statistics of all samples, from one prediction of each."""

    def __init__(self, surrogate: Surrogate, labels: Labels, beside: Beside) -> None:
        self.surrogate, self.labels, self.beside = surrogate, labels, beside
        self.rows = Rows()
        self.device = next(surrogate.parameters()).device
        self.maps, self.residuals = ErrorMaps(), Residuals()
        self.scores = UncertaintyScores(labels.variables) if surrogate.has_std else None
        has_codes = surrogate.settings.family == "autoencoder" and surrogate.members == 1  # members share no space
        layer = bottleneck(surrogate.network) if has_codes else None
        self.codes = None if layer is None else Codes(layer)
        self._std = torch.empty(0)
        self.volumes: Volumes | None = None

    def predict(self, inputs: Tensor) -> Tensor:
        """Predict a batch, with standard deviations where the surrogate has them."""
        if self.scores is None:
            return self.surrogate(inputs.to(self.device))
        prediction, self._std = self.surrogate.predict_with_std(inputs.to(self.device))
        return prediction

    def also(self, batch: Batch, prediction: Tensor) -> None:
        """Add a batch to the other statistics."""
        self.residuals.add(batch, prediction)
        columns: Columns = {}
        if self.beside.input_range is not None:
            columns[SCORE] = self.beside.input_range.score(batch.inputs).numpy()
        if self.beside.projection is not None and not batch.masked:
            columns |= self.beside.projection.sums(batch, prediction, self.volumes)
        if columns:
            self.rows.add(columns | {"sample": batch.sample.cpu().numpy(), "step": batch.time.cpu().numpy()})
        if self.scores is not None:
            self.scores.add(batch, prediction, self._std)
        if self.codes is not None:
            self.codes.add(batch)

    def run(self, source: SampleSource, axis: str) -> xr.Dataset:
        """Run the pass over points along `axis`, or a grid, and return the metrics; other statistics are attributes."""
        self.volumes = Volumes.of(source.dataset, axis)
        known: dict[str, Any] = {"volumes": self.volumes, "on_points": bool(axis), "maps": self.maps}
        done = 0

        def also(batch: Batch, prediction: Tensor) -> None:
            nonlocal done
            self.also(batch, prediction)
            done += len(batch.sample)
            progress(done, source.stream.samples)

        try:
            with ProgressBar("evaluating", "samples") as progress:
                progress(0, source.stream.samples)
                metrics = evaluate(self.predict, source.stream, also=also, **known, **vars(self.labels))
        finally:
            if self.codes is not None:
                self.codes.close()
        if not self.rows:
            return metrics
        columns = self.rows.columns()
        beside = grid(columns, dict.fromkeys(columns.keys() - {"sample", "step"}, ()), {})
        metrics = metrics.assign(beside.drop_vars(["sample", "step"]).data_vars)
        if self.beside.projection is None:
            return metrics
        modes = self.beside.projection
        return metrics.assign_attrs(modes=modes.modes.shape[1], within_modes=int(modes.within))


def write_evaluation(
    surrogate: Surrogate,
    source: SampleSource,
    folder: Path,
    *,
    labels: Labels,
    facts: dict[str, Any],
    beside: Beside | None = None,
    metrics_alone: bool = False,
) -> xr.Dataset:
    """Score a surrogate on a stream and write metrics, examples, error maps, and scores of its uncertainty.

    The stream is read once; the examples are chosen from the metrics and read alone.

    Arguments:
        surrogate: The model, on its device.
        source: The samples.
        folder: Where the files go.
        labels: Labels of the stream.
        facts: Attributes of the metrics: the split, whether training had finished.
        beside: What inputs and targets are compared with: scores and sums of squares that are added to the metrics.
        metrics_alone: Write nothing but the metrics and their tables.

    Returns:
        The metrics.
    """
    scoring, dataset = _Pass(surrogate, labels, beside or Beside()), source.dataset
    axis = point_axis(dataset, source.stream.spatial_dims)
    metrics = with_parameters(scoring.run(source, axis), dataset).assign_attrs(facts)
    if metrics_alone:
        save(metrics, folder)
        return metrics
    coordinates = {name: dataset[name] for name in source.stream.spatial_dims}
    files = EvaluationFolder(folder)
    mesh = geometry_of(dataset, axis) if axis else {}
    one_mesh = is_one_mesh(dataset, axis)
    if not one_mesh:
        scoring.residuals.why = MESHES_DIFFER
    try:
        conformal = scoring.residuals.dataset(labels, coordinates)
        save_dataset(conformal, files.conformal)
        metrics = metrics.assign_attrs(
            conformal_half_width=float(conformal["half_width"].mean()),
            conformal_coverage=float(conformal["coverage"].mean()),
        )
    except DataError as refusal:
        metrics = metrics.assign_attrs(no_conformal=str(refusal))
    picks = select_examples(metrics)
    pairs = list(zip(picks["sample"].values.tolist(), picks["step"].values.tolist(), strict=True))
    chosen = (source.windows([sample], step)[0] for sample, step in pairs)
    examples = collect_examples(lambda x: surrogate(x.to(scoring.device)), chosen, picks, coordinates=coordinates)
    if axis:
        ahead = labels.scored[0] if labels.scored else 0
        own = [geometry_of(dataset, axis, sample=sample, time=step + ahead) for sample, step in pairs]
        places = {
            name: xr.Variable.concat([one[name] for one in own], "example") for name in own[0] if name not in mesh
        }
        examples = examples.assign_coords(mesh | places)
    save(metrics, folder)
    save_dataset(examples, files.examples)
    if one_mesh:
        maps = scoring.maps.dataset(labels.variables, metrics["units"].values.tolist(), coordinates)
        save_dataset(maps.assign_coords(mesh), files.maps)
    else:
        files.maps.unlink(missing_ok=True)
    if scoring.scores is not None:
        save_uncertainty(scoring.scores.dataset(labels).assign_attrs(facts), folder)
    if scoring.codes is not None:
        save_dataset(with_parameters(scoring.codes.dataset(labels), source.dataset), files.latent)
    return metrics


def write_rollout(
    surrogate: Surrogate,
    source: SampleSource,
    folder: Path,
    *,
    labels: Labels,
    facts: dict[str, Any],
    steps: int | None = None,
    threshold: float = 0.5,
) -> xr.Dataset | None:
    """Roll a time stepper out from the first step of every simulation and write its errors at every lead time.

    Files of an earlier roll-out are removed where there is none now.

    Arguments:
        surrogate: The model, on its device and in evaluation mode.
        source: The simulations.
        folder: Where the files go.
        labels: Labels of the stream.
        facts: Attributes of the scores.
        steps: Most network steps; None takes as many as the data have, 0 none.
        threshold: The relative L2 error up to which a roll-out counts as useful.

    Returns:
        The scores; None where the surrogate is no time stepper, or nothing was asked for.
    """
    files, stepping = EvaluationFolder(folder), plan_stepping(surrogate, source, steps=steps)
    if stepping is None:
        for file in files.of_rollouts:
            file.unlink(missing_ok=True)
        return None
    residuals, axis = RolloutResiduals(), point_axis(source.dataset, source.stream.spatial_dims)
    scores = with_parameters(evaluate_simulations(stepping, labels, also=residuals.add), source.dataset)
    coordinates = {name: source.dataset[name] for name in source.stream.spatial_dims}
    example = typical(scores)
    mesh = geometry_of(source.dataset, axis, sample=example) if axis else {}
    if not is_one_mesh(source.dataset, axis):
        residuals.why = MESHES_DIFFER
    try:
        conformal = residuals.dataset(scores, labels, coordinates)
        save_dataset(conformal, files.rollout_conformal)
        scores = scores.assign_attrs(
            conformal_leads=conformal.sizes["lead"], conformal_coverage=float(conformal["coverage"].mean())
        )
    except DataError as refusal:
        scores = scores.assign_attrs(no_conformal=str(refusal))
    scores = scores.assign_attrs(facts | {"threshold": threshold})
    save_rollout(scores, folder, threshold=threshold)
    save_dataset(rolled_out(stepping, example, scores, coordinates).assign_coords(mesh), files.rollout_example)
    return scores
