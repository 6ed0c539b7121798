"""Scoring a stream: the same numbers for any order of batches, every aggregate from the sums, honest counts."""

import csv
import importlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError, NumericalError
from surrogate.evaluation import (
    ErrorMaps,
    collect_examples,
    evaluate,
    mean_relative_l2,
    merge,
    relative_l2_of,
    save,
    save_dataset,
    select_examples,
    summary,
)

VARIABLES = ("u[t+1]", "v[t+1]")
SAMPLES, TIMES, SHAPE = 7, 3, (4, 6)


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, TIMES, 2, *SHAPE, generator=generator)
    return inputs, inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def stream(inputs: Tensor, targets: Tensor, *, size: int = 4, seed: int | None = None) -> Iterator[Batch]:
    pairs = [(s, t) for s in range(inputs.shape[0]) for t in range(inputs.shape[1])]
    if seed is not None:
        random.Random(seed).shuffle(pairs)
    for start in range(0, len(pairs), size):
        sample, time = torch.tensor(pairs[start : start + size]).T
        yield Batch(inputs[sample, time], targets[sample, time], sample, time)


def persistence(inputs: Tensor) -> Tensor:
    return inputs


def score(predict: Callable[[Tensor], Tensor] = persistence, **options: int) -> xr.Dataset:
    return evaluate(predict, stream(*data(), **options), variables=VARIABLES)


@pytest.mark.parametrize(("size", "seed"), [(1, 1), (3, 2), (100, 3)])
def test_batches_in_any_grouping_and_order_give_the_same_bits(size: int, seed: int) -> None:
    xr.testing.assert_identical(score(size=size, seed=seed), score())


def test_pieces_scored_by_several_threads_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = score()
    monkeypatch.setattr(importlib.import_module("surrogate.evaluation.evaluate"), "TOGETHER", 100)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    xr.testing.assert_identical(score(), expected)


def test_aggregates_follow_from_the_sums() -> None:
    result = score()
    inputs, targets = (values.double().numpy() for values in data())
    difference = ((inputs - targets) ** 2).sum((1, 3, 4))
    per_variable = np.sqrt(difference / (targets**2).sum((1, 3, 4)))
    np.testing.assert_allclose(result["relative_l2_variable"], per_variable, rtol=1e-13)
    np.testing.assert_allclose(result["relative_l2_sample"], per_variable.mean(1), rtol=1e-13)
    everything = np.sqrt(difference.sum() / (targets**2).sum())
    np.testing.assert_allclose(relative_l2_of(result, ("sample", "time", "variable")), everything, rtol=1e-13)
    rmse = np.sqrt(result["squared_error"] / result.attrs["points"])
    np.testing.assert_allclose(result["rmse"], rmse, rtol=1e-15)


def test_no_unit_weighs_more_than_another() -> None:
    inputs, targets = data()
    units = torch.tensor([1e6, 1.0])[:, None, None]
    scaled = evaluate(persistence, stream(inputs * units, targets * units), variables=VARIABLES)
    np.testing.assert_allclose(scaled["relative_l2_sample"], score()["relative_l2_sample"], rtol=1e-6)
    np.testing.assert_allclose(mean_relative_l2(scaled), mean_relative_l2(score()), rtol=1e-6)
    pooled = relative_l2_of(scaled, ("time", "variable"))
    np.testing.assert_allclose(pooled, score()["relative_l2_variable"].sel(variable="u[t+1]"), rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_evaluations_of_parts_merge_to_the_bits_of_the_whole(parts: int) -> None:
    batches = list(stream(*data(), size=2, seed=7))
    labels = {"times": xr.DataArray([0.0, 0.5, 1.0], attrs={"units": "s"}), "simulations": list("aabbccd")}
    whole = evaluate(persistence, batches, variables=VARIABLES, units=["K", "Pa"], **labels)
    pieces = [
        evaluate(persistence, batches[i::parts], variables=VARIABLES, units=["K", "Pa"], **labels) for i in range(parts)
    ]
    xr.testing.assert_identical(merge(pieces), whole)
    xr.testing.assert_identical(merge(pieces[::-1]), whole)


def test_parts_that_overlap_or_were_scored_otherwise_do_not_merge() -> None:
    batches = list(stream(*data()))
    first = evaluate(persistence, batches[:2], variables=VARIABLES, scored=(1,))
    with pytest.raises(DataError, match="sample 0 at step 0 appears 2 times"):
        merge([first, first])
    other = evaluate(persistence, batches[2:], variables=VARIABLES, scored=(2,))
    with pytest.raises(DataError, match=r"differ in steps_scored \(t\+1, t\+2\)"):
        merge([first, other])
    with pytest.raises(DataError, match="nothing to merge"):
        merge([])


def test_error_maps_are_means_over_samples_and_times_and_add_up() -> None:
    inputs, targets = data()
    maps, half = ErrorMaps(), ErrorMaps()
    evaluate(persistence, list(stream(inputs, targets))[:3], variables=VARIABLES, maps=maps)
    evaluate(persistence, list(stream(inputs, targets))[3:], variables=VARIABLES, maps=half)
    maps.merge(half)
    result = maps.dataset(VARIABLES, ["K", "Pa"], {"y": np.arange(4.0), "x": np.arange(6.0)})
    error = (inputs - targets).double().flatten(0, 1).numpy()
    np.testing.assert_allclose(result["bias"], error.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result["mean_error"], np.abs(error).mean(0), rtol=1e-6)
    np.testing.assert_allclose(result["rms_error"], np.sqrt((error**2).mean(0)), rtol=1e-6)
    assert result["bias"].dims == ("variable", "y", "x")
    assert result.attrs["count"] == SAMPLES * TIMES
    with pytest.raises(DataError, match="no sample was added"):
        ErrorMaps().dataset(VARIABLES, ["", ""])


def test_spectra_of_error_and_target_add_up_to_the_sums() -> None:
    result = score()
    points = result.attrs["points"]
    np.testing.assert_allclose(result["spectral_error"].sum("wave_number"), result["rmse"] ** 2, rtol=1e-12)
    power = result["spectral_target"].sum("wave_number")
    np.testing.assert_allclose(power, result["squared_target"] / points, rtol=1e-12)
    assert int(result["coefficients"].sum()) == points


def test_coordinates_say_what_was_scored() -> None:
    times = xr.DataArray([0.0, 0.5, 1.0], attrs={"units": "s"})
    labels = {"times": times, "simulations": [f"run{i}" for i in range(SAMPLES)], "units": ["K", "Pa"]}
    steps = {"given": (0, 2), "scored": (4,)}
    result = evaluate(persistence, stream(*data()), variables=VARIABLES, **labels, **steps)
    assert result.attrs["steps_given"] == "t-2, t+0"
    assert result.attrs["steps_scored"] == "t+2"
    assert result["time"].values.tolist() == [0.0, 0.5, 1.0]
    assert result["time"].attrs["units"] == "s"
    assert result["simulation"].values.tolist()[-1] == "run6"
    assert result["units"].sel(variable="v[t+1]").item() == "Pa"
    assert (result.attrs["samples"], result.attrs["times"], result.attrs["scored"]) == (7, 3, 21)


def test_zero_and_constant_targets_are_counted_and_never_hidden() -> None:
    inputs, targets = data()
    targets[2, 1, 0] = 0
    targets[3, 0, 1] = 0.1
    result = evaluate(persistence, stream(inputs, targets), variables=VARIABLES)
    assert (result.attrs["zero_targets"], result.attrs["constant_targets"]) == (1, 2)
    assert np.isnan(result["nrmse"][2, 1, 0])
    assert int(result["nrmse"].isnull().sum()) == 1
    assert result["relative_l2_sample"].notnull().all()  # the other frames of the sample count
    rows = {(row.metric, row.variable): row for row in summary(result)}
    assert rows["nrmse", "u[t+1]"].degenerate == 1
    assert rows["vrmse", "v[t+1]"].degenerate == 1
    assert rows["relative_l2", "all"].degenerate == 0


def test_pairs_that_do_not_come_are_missing_not_zero() -> None:
    batches = [batch for i, batch in enumerate(stream(*data(), size=1)) if i != 4]
    result = evaluate(persistence, batches, variables=VARIABLES)
    assert result["rmse"][1, 1].isnull().all()
    assert int(result["rmse"].isnull().sum()) == 2
    assert result.attrs["zero_targets"] == 0
    assert result.attrs["scored"] == 20


def test_a_prediction_that_is_not_finite_is_named() -> None:
    def explode(inputs: Tensor) -> Tensor:
        out = inputs.clone()
        out[1, 1, 2, 3] = torch.nan
        return out

    with pytest.raises(NumericalError, match=r"prediction of 'v\[t\+1\]' is not finite for sample 1 at step 2"):
        evaluate(explode, list(stream(*data()))[1:], variables=VARIABLES)


def test_bad_streams_are_refused() -> None:
    inputs, targets = data()
    with pytest.raises(DataError, match="no samples"):
        evaluate(persistence, [], variables=VARIABLES)
    with pytest.raises(DataError, match="sample 0 at step 0 appears 2 times"):
        evaluate(persistence, [*stream(inputs, targets), *stream(inputs, targets)], variables=VARIABLES)
    with pytest.raises(DataError, match=r"gave shape \(4, 1, 4, 6\), expected \(4, 2, 4, 6\)"):
        evaluate(lambda x: x[:, :1], stream(inputs, targets), variables=VARIABLES)
    with pytest.raises(DataError, match="position 2 needs a label"):
        evaluate(persistence, stream(inputs, targets), variables=VARIABLES, times=[0.0])
    targets[0, 1, 0, 0, 0] = torch.inf
    with pytest.raises(DataError, match=r"target of 'u\[t\+1\]' is not finite for sample 0 at step 1"):
        evaluate(persistence, stream(inputs, targets), variables=VARIABLES)


def test_predictions_are_made_without_gradients() -> None:
    weight = torch.ones((), requires_grad=True)
    grad_modes = []

    def predict(inputs: Tensor) -> Tensor:
        grad_modes.append(torch.is_grad_enabled())
        return inputs * weight

    score(predict)
    assert not any(grad_modes)


def test_summary_agrees_with_the_metrics() -> None:
    result = score()
    rows = {(row.metric, row.variable): row for row in summary(result)}
    headline = rows["relative_l2", "all"]
    assert headline.mean == float(result["relative_l2_sample"].mean())
    assert headline.median == float(result["relative_l2_sample"].median())
    assert headline.low < headline.mean < headline.high
    assert rows["max_error", "u[t+1]"].largest == float(result["max_error"].sel(variable="u[t+1]").max())
    crmse = np.sqrt((result["conserved_error"].sel(variable="v[t+1]") ** 2).mean())
    assert rows["crmse", "v[t+1]"].mean == pytest.approx(float(crmse), rel=1e-13)
    assert summary(result) == summary(result)


def test_files_hold_what_was_computed(tmp_path: Path) -> None:
    result = evaluate(persistence, stream(*data()), variables=VARIABLES, given=(0, 2), scored=(4,))
    result.attrs["split"] = "test"
    rows = save(result, tmp_path)
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "metrics.nc", engine="h5netcdf"), result)
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == SAMPLES * TIMES * len(VARIABLES)
    assert float(lines[-1]["rmse"]) == float(result["rmse"][-1, -1, -1])
    with open(tmp_path / "summary.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(line["mean"]) for line in table] == [row.mean for row in rows]
    assert {line["split"] for line in table} == {"test"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "compat.csv",
        "metrics.csv",
        "metrics.nc",
        "summary.csv",
    ]
    for name in ("metrics", "summary", "compat"):
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            stated = {(line["split"], line["steps_given"], line["steps_scored"]) for line in csv.DictReader(file)}
        assert stated == {("test", "t-2, t+0", "t+2")}


def test_examples_are_the_extremes_and_hold_their_fields(tmp_path: Path) -> None:
    inputs, targets = data()
    result = score()
    picks = select_examples(result)
    errors = mean_relative_l2(result)
    assert picks["example"].values.tolist() == ["worst", "median", "best"]
    expected = [float(errors.max()), float(errors.median()), float(errors.min())]  # 21 pairs: the median is one of them
    assert picks["error_of_pair"].values.tolist() == expected
    axes = {"y": xr.DataArray(np.arange(4.0), attrs={"units": "m"}), "x": np.arange(6.0)}
    examples = collect_examples(persistence, stream(inputs, targets, seed=5), picks, coordinates=axes)
    for name in picks["example"].values:
        one = examples.sel(example=name)
        sample, step = int(one["sample"]), int(one["step"])
        np.testing.assert_array_equal(one["truth"], targets[sample, step])
        np.testing.assert_array_equal(one["prediction"], inputs[sample, step])
        np.testing.assert_array_equal(one["error"], one["prediction"] - one["truth"])
    assert examples["truth"].dims == ("example", "variable", "y", "x")
    assert examples["y"].attrs["units"] == "m"
    save_dataset(examples, tmp_path / "examples.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "examples.nc", engine="h5netcdf"), examples)


def test_few_pairs_give_few_examples() -> None:
    inputs, targets = (values[:1, :2] for values in data())
    two = select_examples(evaluate(persistence, stream(inputs, targets), variables=VARIABLES))
    assert two["example"].values.tolist() == ["worst", "best"]
    one = select_examples(evaluate(persistence, stream(inputs[:, :1], targets[:, :1]), variables=VARIABLES))
    assert one["example"].values.tolist() == ["worst"]


def test_examples_never_show_a_target_that_is_zero_unless_all_are() -> None:
    inputs, targets = data()
    targets[3, 0] = 0
    picks = select_examples(evaluate(persistence, stream(inputs, targets), variables=VARIABLES))
    assert (3, 0) not in set(zip(picks["sample"].values, picks["step"].values, strict=True))
    picks = select_examples(evaluate(persistence, stream(inputs, 0 * targets), variables=VARIABLES))
    sums = (inputs.double() ** 2).sum((2, 3, 4))
    assert picks["error_of_pair"].values[0] == pytest.approx(float(sums.max()))


def test_examples_of_another_stream_are_refused() -> None:
    inputs, targets = data()
    picks = select_examples(score())
    with pytest.raises(DataError, match="is not in the stream"):
        collect_examples(persistence, [], picks)
    with pytest.raises(DataError, match=r"coordinates \{'x': 3\} do not fit fields of shape \(4, 6\)"):
        collect_examples(persistence, stream(inputs, targets), picks, coordinates={"x": np.arange(3)})
