"""Roll-outs over whole simulations: any pieces give the same numbers, which are those of a roll-out in one piece."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.data import DataSettings, Stream, Window
from surrogate.evaluation import (
    SampleSource,
    Stepping,
    evaluate_rollout,
    evaluate_simulations,
    labels_of,
    lead_table,
    plan_stepping,
    rolled_out,
    save_rollout,
    trajectories,
    typical,
    write_rollout,
)
from surrogate.models import ConvNetSettings, Surrogate
from surrogate.models.rollout import rollout
from surrogate.models.signature import signature_of
from surrogate.normalize import Normalizer

SAMPLES, TIMES = 5, 11


def dataset(grid: tuple[int, ...] = (6,), seed: int = 0) -> xr.Dataset:
    """Two variables in time, one without, with physical times that are not evenly spaced."""
    rng = np.random.default_rng(seed)
    space = ("z", "y", "x")[-len(grid) :]
    dims = ("sample", "time", *space)
    fields = {name: (dims, rng.normal(size=(SAMPLES, TIMES, *grid)), {"units": "K"}) for name in ("u", "v")}
    fields["k"] = (("sample", *space), rng.normal(size=(SAMPLES, *grid)))
    times = ("time", np.arange(TIMES) ** 1.5, {"units": "s"})
    return xr.Dataset(fields, {"time": times, **{name: np.arange(n) / n for name, n in zip(space, grid, strict=True)}})


def source(data: xr.Dataset, window: Window | None = None, targets: tuple[str, ...] = ("u", "v")) -> SampleSource:
    settings = DataSettings(path="none", inputs=["u", "v", "k"], targets=list(targets), window=window or Window())
    stream = Stream(data, settings.inputs, settings.targets, batch_size=4, window=settings.window, shuffle=False)
    return SampleSource(stream, data, settings)


def stepper(source: SampleSource, seed: int = 0) -> Surrogate:
    torch.manual_seed(seed)
    inputs, targets = (Normalizer.identity(len(n)) for n in (source.stream.input_names, source.stream.target_names))
    settings = ConvNetSettings(width=4, depth=1)
    return Surrogate(settings, signature_of(source.stream, source.dataset), inputs, targets).eval()


def planned(data: xr.Dataset, window: Window | None = None, steps: int | None = None) -> Stepping:
    found = source(data, window)
    plan = plan_stepping(stepper(found), found, steps=steps)
    assert plan is not None
    return plan


def scored(plan: Stepping, piece_bytes: int = 10**8) -> xr.Dataset:
    return evaluate_simulations(plan, labels_of(plan.source.stream, plan.source.dataset), piece_bytes=piece_bytes)


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((6,), Window()),
        ((4, 5), Window(steps_in=2, steps_out=2)),
        ((3, 4, 3), Window(stride=2)),
    ],
)
def test_the_scores_are_those_of_one_roll_out_in_one_piece(grid: tuple[int, ...], window: Window) -> None:
    plan = planned(dataset(grid), window)
    steps = (TIMES - window.extent) // plan.feedback.advance + 1
    assert plan.steps == steps
    long = source(dataset(grid), window.model_copy(update={"steps_out": window.steps_out * steps}))
    starts = trajectories(long.stream, long.stream.target_names)

    def whole(inputs: torch.Tensor, _leads: int) -> torch.Tensor:
        found = rollout(plan.surrogate, inputs, steps)  # (B, steps, channels, *S): variables inside offsets
        return found.unflatten(2, (window.steps_out, 2)).flatten(1, 2)

    expected = evaluate_rollout(whole, starts, variables=("u", "v")).isel(time=[0])
    result = scored(plan)
    for name in ("relative_l2", "rmse", "max_error", "conserved_error", "squared_target"):
        np.testing.assert_allclose(result[name].values, expected[name].values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("piece_bytes", [1, 400, 1000])
def test_pieces_do_not_matter(piece_bytes: int) -> None:
    plan = planned(dataset())
    one, many = scored(plan), scored(plan, piece_bytes)
    assert len(list(plan.pieces(plan.samples[:1], piece_bytes))) > 1
    xr.testing.assert_allclose(one, many, rtol=1e-6, atol=1e-6)  # a network may round otherwise in another batch
    assert one.attrs == many.attrs


def test_lead_times_are_physical_and_steps_are_stated() -> None:
    result = scored(planned(dataset(), Window(steps_in=2, steps_out=1)))
    times = np.arange(TIMES) ** 1.5
    np.testing.assert_allclose(result["lead"], times[2:] - times[1])
    assert result["lead"].attrs["units"] == "s"
    assert result["units"].values.tolist() == ["K", "K"]
    assert result.attrs["steps_given"] == "t-1, t+0"
    assert result.attrs["steps_scored"] == "t+1, t+2, …, t+9"


def test_persistence_is_the_error_of_the_last_state_given() -> None:
    data = dataset()
    result = scored(planned(data))
    truth, start = data["u"].values[:, 1:], data["u"].values[:, :1]
    expected = np.linalg.norm(truth - start, axis=-1) / np.linalg.norm(truth, axis=-1)
    np.testing.assert_allclose(result["persistence_relative_l2"].sel(variable="u")[:, 0], expected, rtol=1e-5)


def test_a_target_that_is_no_input_has_no_persistence_and_is_rolled_out() -> None:
    data = dataset().assign(w=dataset(seed=1)["u"])
    settings = DataSettings(path="none", inputs=["u"], targets=["u", "w"], window=Window())
    stream = Stream(data, settings.inputs, settings.targets, batch_size=4, window=Window(), shuffle=False)
    found = SampleSource(stream, data, settings)
    plan = plan_stepping(stepper(found), found)
    assert plan is not None
    result = scored(plan)
    assert result["persistence_rmse"].sel(variable="w").isnull().all()
    assert np.isfinite(result["persistence_rmse"].sel(variable="u")).all()
    assert np.isfinite(result["rmse"]).all()


def test_the_shortest_simulation_says_how_far_and_those_without_a_step_are_counted() -> None:
    data = dataset().assign_coords(time_steps=("sample", [11, 7, 1, 11, 9]))
    plan = planned(data)
    assert (plan.steps, plan.samples, plan.left_out) == (6, (0, 1, 3, 4), 1)
    result = scored(plan)
    assert result.attrs["left_out"] == 1
    assert result["sample"].values.tolist() == [0, 1, 3, 4]
    assert np.isfinite(result["rmse"]).all()


@pytest.mark.parametrize(("asked", "steps"), [(None, 10), (3, 3), (99, 10)])
def test_steps_come_from_the_configuration_or_the_data(asked: int | None, steps: int) -> None:
    assert planned(dataset(), steps=asked).steps == steps


def test_what_makes_no_step_in_time_is_not_rolled_out(tmp_path: Path) -> None:
    autoencoder = source(dataset(), Window(steps_out=0))
    assert plan_stepping(stepper(autoencoder), autoencoder) is None
    found = source(dataset(), targets=("u",))  # v is an input that nobody predicts
    assert plan_stepping(stepper(found), found) is None
    old = tmp_path / "rollout.nc"
    old.write_text("of another run")
    labels = labels_of(found.stream, found.dataset)
    assert write_rollout(stepper(found), found, tmp_path, labels=labels, facts={}) is None
    assert not old.exists()
    plan = source(dataset())
    assert plan_stepping(stepper(plan), plan, steps=0) is None


def test_zero_targets_are_counted_in_the_tables_and_divergence_is_not_hidden(tmp_path: Path) -> None:
    data = dataset()
    data["v"][1] = 0.0
    plan = planned(data)
    with torch.no_grad():
        list(plan.surrogate.parameters())[-1].fill_(1e38)  # the head's bias, so that sums overflow in the third step
    result = scored(plan)
    rows = lead_table(result)
    assert [row.degenerate for row in rows if row.variable == "v"] == [1] * 10
    assert [row.degenerate for row in rows if row.variable == "u"] == [0] * 10
    assert result.attrs["diverged"] == SAMPLES
    assert rows[-1].diverged == SAMPLES
    assert np.isinf(rows[-1].median)
    save_rollout(result.assign_attrs(split="test"), tmp_path, threshold=0.5)
    for name, count in (("rollout", SAMPLES * 20), ("rollout_summary", 20), ("rollout_growth", 2)):
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert len(table) == count
        assert {row["steps_scored"] for row in table} == {"t+1, t+2, …, t+10"}
        assert {(row["split"], row["steps_given"]) for row in table} == {("test", "t+0")}


def test_the_roll_out_to_look_at_is_the_one_that_was_scored() -> None:
    plan = planned(dataset((4, 5)))
    result = scored(plan)
    sample = typical(result)
    errors = result["relative_l2"].mean(("time", "lead", "variable"))
    assert float(errors.sel(sample=sample)) == np.sort(errors)[2]
    coordinates = {name: plan.source.dataset[name] for name in ("y", "x")}
    fields = rolled_out(plan, sample, result, coordinates)
    rmse = np.sqrt(((fields["prediction"] - fields["truth"]) ** 2).mean(("y", "x")))
    np.testing.assert_allclose(rmse, result["rmse"].sel(sample=sample)[0], rtol=1e-5)


def test_blocks_are_cut_in_the_middle() -> None:
    plan = planned(dataset((3, 4, 5)))
    coordinates = {name: plan.source.dataset[name] for name in ("z", "y", "x")}
    fields = rolled_out(plan, 0, scored(plan), coordinates)
    assert fields["truth"].dims == ("lead", "variable", "y", "x")
    assert float(fields["z"]) == pytest.approx(1 / 3)
    expected = plan.source.dataset["u"].values[0, 1:, 1]
    np.testing.assert_allclose(fields["truth"].sel(variable="u"), expected, rtol=1e-6)
