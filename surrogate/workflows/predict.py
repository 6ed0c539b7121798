"""Predict with a trained run, on request with the conformal intervals of its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surrogate.data.mapping import Layout
from surrogate.errors import ConfigError
from surrogate.experiment.run_folder import RunFolder
from surrogate.prediction import predict
from surrogate.progress import ProgressBar
from surrogate.workflows.pipeline import cases_of, load_surrogate

__all__ = ["half_width_of", "predict_run"]


def predict_run(
    run: Path,
    inputs: str,
    output: Path,
    *,
    device: str,
    layout: Layout | None = None,
    intervals: bool = False,
    **options: Any,
) -> Path:
    """Write predictions for new inputs to a NetCDF-4 file.

    Arguments:
        run: A run folder, the folder of a pipeline with one case, or a checkpoint.
        inputs: Data in any layout, or a table of parameters.
        output: The file.
        device: Name of the device, or "auto".
        layout: Layout of the inputs; that of the training data unless given.
        intervals: Write the ends of conformal intervals too.
        options: Further ones of `surrogate.prediction.predict`.

    Returns:
        The file.

    Raises:
        ConfigError: There is no surrogate, or there are no intervals; the message says why.
    """
    surrogate, trained_on = load_surrogate(run, device)
    half_width = half_width_of(cases_of(run)[0], surrogate.signature.targets) if intervals else None
    with ProgressBar("predicting", "bytes") as progress:
        options |= {"layout": layout or trained_on, "half_width": half_width, "progress": progress}
        return predict(surrogate, inputs, output, **options)


def half_width_of(run: Path, targets: tuple[str, ...]) -> Tensor:
    """Read half the width of the intervals of a run from its evaluation, with shape (M, *S).

    Arguments:
        run: The run folder.
        targets: Names of the M targets.

    Raises:
        ConfigError: There are none; the message says why.
        DataError: The evaluation is damaged.
    """
    evaluation = RunFolder(run).evaluation
    if not evaluation.metrics.is_file():
        raise ConfigError(f"--intervals: {run} was not evaluated; run `surrogate evaluate {run}` first")
    if not evaluation.conformal.is_file():
        metrics = evaluation.read("metrics")
        why = metrics.attrs.get("no_conformal", f"an older version evaluated it; run `surrogate evaluate {run}` again")
        raise ConfigError(f"--intervals: {why}")
    widths = evaluation.read("conformal")["half_width"]
    return torch.from_numpy(widths.sel(variable=list(targets)).values)
