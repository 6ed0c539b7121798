"""Apply a surrogate to all inputs of a source and stream the predictions into one file."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surrogate import __version__
from surrogate.data import mask_missing, open_snapshots
from surrogate.data.hdf5.writer import Room
from surrogate.data.layouts import files_behind
from surrogate.data.mapping import Layout, Mapping
from surrogate.data.store import filling_shard
from surrogate.data.streaming.digits import refuse_lost_digits
from surrogate.errors import ConfigError, NumericalError
from surrogate.files import check_file
from surrogate.models.folds import FoldMean
from surrogate.models.input_range import SCORE, InputRange
from surrogate.models.rollout import rollout
from surrogate.models.surrogate import Surrogate
from surrogate.prediction.output import HIGH, LOW, STD, Output
from surrogate.prediction.sources import Source, source_of_data, source_of_table

__all__ = ["TABLES", "HalfWidth", "Interval", "predict", "predict_into"]

TABLES = (".csv", ".txt")
Progress = Callable[[int, int], None]
Interval = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class HalfWidth:
    """Intervals from p - w to p + w around predictions p.

    Arguments:
        width: The half width w of each target at every point, with shape (M, *S), or of each step too, (steps, M, *S).
    """

    def __init__(self, width: Tensor) -> None:
        self.width = width

    def __call__(self, inputs: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of the intervals around predictions (B, steps, M, *S).

        Raises:
            ConfigError: The predictions are at other points.
        """
        if prediction.shape[2:] != self.width.shape[-(prediction.ndim - 2) :]:
            raise ConfigError(
                "intervals hold at the points of the training data; predict at others without --intervals"
            )
        width = self.width.to(prediction)
        return prediction - width, prediction + width


def predict(
    surrogate: Surrogate | FoldMean,
    inputs: Path | str,
    output: Path,
    *,
    layout: Layout | None = None,
    rollout_steps: int = 0,
    interval: Interval | None = None,
    input_range: InputRange | None = None,
    batch_size: int = 32,
    overwrite: bool = False,
    about: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Predict for every input in a file, a folder, a pattern or a table, in physical units, into a NetCDF-4 file.

    Variables are named as the targets; `<name>_std` are standard deviations, if the head has a posterior, `<name>_low`
    and `<name>_high` the ends of intervals, if a function for them is given.

    Arguments:
        surrogate: In evaluation mode, on its device; or the mean of those of folds.
        inputs: Data in any layout, or a table of parameters (`.csv`).
        output: The file to write.
        layout: As for `open_snapshots`; of a mapping only the inputs are read.
        rollout_steps: Network steps from the first window of every simulation; 0 predicts one step from each window.
        interval: Function of inputs (B, C, *S) and predictions (B, steps, M, *S) that returns lower and upper ends of
            intervals, with the shape of the predictions.
        input_range: Range of the training inputs; the score of every input is then written as `out_of_range`.
        batch_size: Samples at a time.
        overwrite: Replace an existing file.
        about: Further attributes of the file.
        progress: Called with bytes written and bytes in all.

    Raises:
        ConfigError: The output exists, or the surrogate cannot be rolled out.
        DataError: The inputs cannot be used, or do not fit the surrogate; the message lists the differences.
        NumericalError: A prediction is not finite; no file is written.
        ResourceError: The disk is full.
    """
    signature, table = surrogate.signature, str(inputs).lower().endswith(TABLES)
    check_file(output, overwrite=overwrite, reads=[inputs] if table else files_behind(inputs, layout))
    if table:
        source = source_of_table(signature, Path(inputs), batch_size=batch_size)
    else:
        layout = layout.only(signature.variables(signature.inputs)) if isinstance(layout, Mapping) else layout
        dataset = mask_missing(open_snapshots(inputs, layout), signature.masked)
        source = source_of_data(signature, dataset, batch_size=batch_size, first_window=rollout_steps > 0)
        refuse_lost_digits(source.dataset, source.stream.inputs, scale=surrogate.inputs.scale_per_channel)
    options: dict[str, Any] = {"interval": interval, "input_range": input_range}
    predict_into(surrogate, source, output, rollout_steps=rollout_steps, about=about, progress=progress, **options)
    return output


def predict_into(
    surrogate: Surrogate | FoldMean,
    source: Source,
    path: Path,
    *,
    rollout_steps: int = 0,
    interval: Interval | None = None,
    input_range: InputRange | None = None,
    about: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the predictions of a source to a file; see `predict`."""
    with_std = surrogate.has_std and not rollout_steps
    suffixes = ("", *([STD] if with_std else []), *([LOW, HIGH] if interval is not None else []))
    output = Output(surrogate.signature, source, rollout_steps, suffixes, scored=input_range is not None)
    attributes: dict[str, Any] = {"title": "Predictions of a surrogate model", "source": f"surrogate {__version__}"}
    positions = surrogate.signature.shapes.positions if surrogate.signature.point_axis else ()
    template = output.template(attributes | (about or {}))
    total = sum(template[name].nbytes for name in output.names)
    done = 0
    with filling_shard(path, template, output.names) as room:
        for rows, inputs in source.batches():
            if input_range is not None:
                done += _put(room, SCORE, rows, input_range.score(inputs).float().numpy())
            inputs = inputs.to(next(surrogate.parameters()).device)
            with torch.no_grad():
                if with_std and isinstance(surrogate, Surrogate):
                    prediction, std = surrogate.predict_with_std(inputs)
                    predictions = {"": prediction[:, None], STD: std[:, None]}
                else:
                    predictions = {
                        "": rollout(surrogate, inputs, rollout_steps) if rollout_steps else surrogate(inputs)[:, None]
                    }
                if interval is not None:
                    predictions |= dict(zip((LOW, HIGH), interval(inputs, predictions[""]), strict=True))
            for suffix, values in predictions.items():
                if not bool(torch.isfinite(values).all()):
                    row = int(rows[int(torch.nonzero(~torch.isfinite(values))[0, 0])])
                    sample, start = divmod(row, source.starts)
                    where = f"sample {sample}" + (f", window {start}" if source.starts > 1 else "")
                    raise NumericalError(
                        f"{path}: the prediction for {where} is not finite, so nothing is written; compare the inputs "
                        "with those of the training, or roll out over fewer steps"
                    )
                if positions:  # NaN where a sample has no point
                    values = values.masked_fill(inputs[:, positions[0]].isnan()[:, None, None], torch.nan)
                for variable in output.variables:
                    done += _put(room, variable.name + suffix, rows, variable.rows(values.cpu().numpy()))
            if progress is not None:
                progress(done, total)


def _put(room: Room, name: str, rows: np.ndarray, content: np.ndarray) -> int:
    """Write values (B, ...) to their rows of a variable; return the number of bytes."""
    size = prod(content.shape[1:])
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):  # of consecutive rows
        room.put(name, int(rows[run[0]]) * size, content[run[0] : run[-1] + 1])
    return 4 * content.size
