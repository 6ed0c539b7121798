"""Predictions in a file are those of the surrogate, in the units, axes and times of the data."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from surrogate.data import Mapping, Stream, Window, open_snapshots
from surrogate.data.store import write_shard
from surrogate.errors import ConfigError, DataError, NumericalError
from surrogate.models import ConvNetSettings, MlpSettings, Surrogate
from surrogate.models.registry import ModelSettings
from surrogate.models.rollout import rollout
from surrogate.models.signature import signature_of
from surrogate.normalize import fit_normalizers
from surrogate.optim.refit import gather
from surrogate.prediction import predict
from surrogate.slimtik import Posterior

Names = list[str]
NET = ConvNetSettings(width=4, depth=1)
PERCEPTRON = MlpSettings(width=4, depth=1)


def fields(samples: int = 5, times: int = 0, *, components: bool = False) -> xr.Dataset:
    rng = np.random.default_rng(0)
    axes = {"sample": samples} | ({"time": times} if times else {}) | {"x": 8}
    draw = {name: (tuple(axes), rng.normal(size=tuple(axes.values())), {"units": "K"}) for name in ("u", "w")}
    ds = xr.Dataset(draw, coords={"x": ("x", np.linspace(0, 1, 8), {"units": "m"})})
    if times:
        ds = ds.assign_coords(time=("time", 0.5 * np.arange(times), {"units": "s"}))
    if components:
        shape = {**axes, "channel": 2}
        ds["v"] = (tuple(shape), rng.normal(size=tuple(shape.values())))
        ds = ds.assign_coords(channel=["east", "north"])
    return ds


def parametric() -> xr.Dataset:
    rng = np.random.default_rng(1)
    draw = {name: ("sample", rng.normal(size=12), {"units": "s-1"}) for name in ("k", "q")}
    ds = xr.Dataset(draw | {"u": (("sample", "x"), rng.normal(size=(12, 8)), {"units": "K"})})
    return ds.assign_coords(x=np.linspace(0, 1, 8))


def surrogate_of(
    ds: xr.Dataset, inputs: Names, targets: Names, *, window: Window | None = None, model: ModelSettings = NET
) -> Surrogate:
    stream = Stream(ds, inputs, targets, batch_size=4, window=window, shuffle=False)
    normalizers = fit_normalizers(stream, stream.input_names, stream.target_names)
    torch.manual_seed(0)
    return Surrogate(model, signature_of(stream, ds), *normalizers).eval()


def with_posterior(surrogate: Surrogate, ds: xr.Dataset, inputs: Names, targets: Names) -> Surrogate:
    stream = Stream(ds, inputs, targets, batch_size=4, shuffle=False)
    statistics, energies = gather(surrogate.network, map(surrogate.normalized, stream))
    surrogate.posterior = Posterior.of(statistics, energies)
    return surrogate.eval()


def written(ds: xr.Dataset, folder: Path, name: str = "new.nc") -> Path:
    write_shard(folder / name, ds.drop_vars("channel", errors="ignore"))
    return folder / name


def tensor(values: xr.DataArray, *dims: str) -> Tensor:
    return torch.from_numpy(values.transpose(*dims).values).float()


def same(found: xr.DataArray, expected: Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_fields_to_fields(tmp_path: Path) -> None:
    ds = fields()
    surrogate = surrogate_of(ds, ["u"], ["w"])
    path = predict(surrogate, written(ds.drop_vars("w"), tmp_path), tmp_path / "out.nc", batch_size=2)
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found["w"].dims == ("sample", "x")
        assert found["w"].attrs["units"] == "K"
        assert found["x"].attrs["units"] == "m"
        np.testing.assert_array_equal(found["x"], ds["x"])
        same(found["w"], surrogate(tensor(ds["u"], "sample", "x")[:, None])[:, 0])
    assert open_snapshots(path)["predicted_from"].values.tolist() == [f"new.nc[{i}]" for i in range(5)]


def test_one_step_ahead_of_every_window(tmp_path: Path) -> None:
    ds = fields(samples=2, times=6)
    surrogate = surrogate_of(ds, ["u"], ["u"], window=Window(steps_in=2, steps_out=1))
    path = predict(surrogate, written(ds, tmp_path), tmp_path / "out.nc", batch_size=3)
    u = tensor(ds["u"], "sample", "time", "x")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found["u"].dims == ("sample", "time", "x")
        np.testing.assert_allclose(found["time"], [1.0, 1.5, 2.0, 2.5, 3.0])  # the last one is beyond the data
        for start in range(5):
            same(found["u"][:, start], surrogate(u[:, start : start + 2])[:, 0])


def test_several_steps_ahead_have_a_lead(tmp_path: Path) -> None:
    ds = fields(samples=2, times=6)
    surrogate = surrogate_of(ds, ["u"], ["u"], window=Window(steps_in=1, steps_out=2, stride=2))
    path = predict(surrogate, written(ds, tmp_path), tmp_path / "out.nc")
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert found["u"].dims == ("sample", "time", "lead", "x")
        np.testing.assert_allclose(found["time"], ds["time"])
        np.testing.assert_allclose(found["lead"], [1.0, 2.0])
        same(found["u"][:, 3], surrogate(tensor(ds["u"][:, 3:4], "sample", "time", "x")))


def test_a_roll_out_starts_at_the_first_window(tmp_path: Path) -> None:
    ds = fields(samples=3, times=4)
    surrogate = surrogate_of(ds, ["u"], ["u"], window=Window(steps_in=2, steps_out=1))
    path = predict(surrogate, written(ds, tmp_path), tmp_path / "out.nc", rollout_steps=4)
    with xr.open_dataset(path, engine="h5netcdf") as found:
        np.testing.assert_allclose(found["time"], [1.0, 1.5, 2.0, 2.5])
        same(found["u"], rollout(surrogate, tensor(ds["u"][:, :2], "sample", "time", "x"), 4)[:, :, 0])


def test_components_come_back_on_their_axis(tmp_path: Path) -> None:
    ds = fields(components=True)
    surrogate = surrogate_of(ds, ["u"], ["w", "v"])
    path = predict(surrogate, written(ds[["u"]], tmp_path), tmp_path / "out.nc")
    expected = surrogate(tensor(ds["u"], "sample", "x")[:, None])
    found = open_snapshots(path)
    assert found["v"].dims == ("sample", "channel", "x")
    assert found["channel"].values.tolist() == ["east", "north"]
    same(found["w"], expected[:, 0])
    same(found["v"], expected[:, 1:])


def test_a_table_of_parameters_gives_fields_with_standard_deviations(tmp_path: Path) -> None:
    ds = parametric()
    surrogate = surrogate_of(ds, ["k", "q"], ["u"], model=PERCEPTRON)
    surrogate = with_posterior(surrogate, ds, ["k", "q"], ["u"])
    table = tmp_path / "table.csv"
    table.write_text("q, name, k\n0.5, a, -1\n2, b, 3e-1\n")
    expected, std = surrogate.predict_with_std(torch.tensor([[-1.0, 0.5], [0.3, 2.0]]))
    with xr.open_dataset(predict(surrogate, table, tmp_path / "out.nc"), engine="h5netcdf") as found:
        same(found["u"], expected[:, 0])
        same(found["u_std"], std[:, 0])
        np.testing.assert_allclose(found["k"], [-1.0, 0.3])
        assert found["u_std"].attrs["units"] == "K"
        assert found["q"].attrs["units"] == "s-1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k,p\n1,2\n", "no column 'q'"),
        ("k,q\n1,2\n3,abc\n", r"column 'q', line 3: 'abc' is no finite number"),
        ("k,q\n1,inf\n", "column 'q', line 2"),
        ("k,q\n", "the table has no row"),
        ("", "no table of comma-separated values"),
    ],
)
def test_bad_tables(text: str, message: str, tmp_path: Path) -> None:
    surrogate = surrogate_of(parametric(), ["k", "q"], ["u"], model=PERCEPTRON)
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        predict(surrogate, tmp_path / "table.csv", tmp_path / "out.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_table_for_a_surrogate_of_fields(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("u\n1\n")
    ds = fields(times=4)
    with pytest.raises(DataError, match="give it an HDF5 file"):
        predict(surrogate_of(ds, ["u"], ["u"]), tmp_path / "table.csv", tmp_path / "out.nc")


def test_times_of_a_trajectory_from_parameters(tmp_path: Path) -> None:
    ds = fields(times=3).drop_vars("w").assign(k=("sample", np.arange(5.0)))
    surrogate = surrogate_of(ds, ["k"], ["u"], window=Window(steps_in=3, steps_out=0), model=PERCEPTRON)
    (tmp_path / "table.csv").write_text("k\n1\n2\n")
    with xr.open_dataset(predict(surrogate, tmp_path / "table.csv", tmp_path / "out.nc"), engine="h5netcdf") as found:
        assert found["u"].dims == ("sample", "time", "x")
        np.testing.assert_allclose(found["time"], ds["time"])
        assert found["time"].attrs["units"] == "s"
        same(found["u"], surrogate(torch.tensor([[1.0], [2.0]])))


def test_data_that_do_not_fit_are_refused_with_the_difference(tmp_path: Path) -> None:
    ds = fields(times=4)
    surrogate = surrogate_of(ds, ["u"], ["u"])
    other = ds.copy(deep=True).assign_coords(x=2 * ds["x"], time=3 * ds["time"])
    other["u"].attrs["units"] = "C"
    with pytest.raises(DataError, match=r"units of u: trained on K, given C.*coordinate x.*time step") as caught:
        predict(surrogate, written(other, tmp_path), tmp_path / "out.nc", rollout_steps=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.nc").exists()


def test_a_prediction_that_is_not_finite_leaves_no_file(tmp_path: Path) -> None:
    ds = fields()
    surrogate = surrogate_of(ds, ["u"], ["w"])
    surrogate.network.head.layer.bias.data.fill_(torch.nan)
    with pytest.raises(NumericalError, match="sample 0 is not finite, so nothing is written"):
        predict(surrogate, written(ds, tmp_path), tmp_path / "out.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["new.nc"]


def test_an_existing_output_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    ds = fields()
    surrogate, new = surrogate_of(ds, ["u"], ["w"]), written(ds, tmp_path)
    predict(surrogate, new, tmp_path / "out.nc")
    with pytest.raises(ConfigError, match="--overwrite"):
        predict(surrogate, new, tmp_path / "out.nc")
    predict(surrogate, new, tmp_path / "out.nc", overwrite=True)


def test_a_declared_mapping_reads_files_without_names(tmp_path: Path) -> None:
    ds = fields()
    surrogate = surrogate_of(ds, ["u"], ["w"])
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["deep/u"] = ds["u"].values
    layout = Mapping.model_validate({"variables": {"u": {"path": "deep/u", "axes": ["sample", "x"]}}})
    path = predict(surrogate, tmp_path / "plain.h5", tmp_path / "out.nc", layout=layout)
    same(open_snapshots(path)["w"], surrogate(tensor(ds["u"], "sample", "x")[:, None])[:, 0])
