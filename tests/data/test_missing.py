"""Values that are not finite: an error, a reason to drop their simulation, or masked."""

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.data import DataSettings, Stream, Window, mask_missing, open_data, split
from surrogate.errors import DataError
from surrogate.normalize import fit_normalizers

AXES = {"u": ["sample", "time", "x"], "k": ["sample"], "shared": ["x"]}
BAD = {(3, 1, 2): np.nan, (3, 1, 3): np.inf, (6, 0, 0): -np.inf}


@pytest.fixture
def path(tmp_path):
    values = np.random.default_rng(0).normal(size=(8, 3, 5)).astype("f4")
    for place, value in BAD.items():
        values[place] = value
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=values, chunks=(2, 3, 5), compression="gzip")
        file["k"], file["shared"] = np.arange(8.0), np.ones(5)
    return tmp_path / "a.h5"


def settings(path, **options):
    layout = {"variables": {name: {"path": name, "axes": axes} for name, axes in AXES.items()}}
    tree = {"path": str(path), "layout": layout, "inputs": ["u", "k"], "targets": ["u"], **options}
    return DataSettings.model_validate(tree)


def stream(ds, inputs=("u", "k")):
    return Stream(ds, inputs, ["u"], batch_size=3, window=Window(steps_out=0))


def test_error_is_the_default(path):
    with pytest.raises(DataError, match=r"'u' of a.h5\[3\] holds nan"):
        list(stream(open_data(settings(path))))


def test_drop_leaves_out_whole_simulations_and_names_them(path):
    with pytest.warns(UserWarning, match=r"2 of 8 simulations hold NaN or Inf and are left out: a.h5\[3\], a.h5\[6\]"):
        ds = open_data(settings(path, nonfinite="drop"))
    assert ds.k.values.tolist() == [0, 1, 2, 4, 5, 7]
    found = stream(ds)
    assert found.reading["u"] == "threaded decoding"  # a selection, so still read from the file
    assert sum(len(batch) for batch in found) == 6 * 3
    parts = split(ds, settings(path).split)
    assert sum(part.sizes["sample"] for part in parts.values()) == 6


def test_variables_that_nobody_uses_do_not_count(path):
    options = {"nonfinite": "drop", "inputs": ["k"], "targets": ["k"]}
    assert open_data(settings(path, **options)).sizes["sample"] == 8


def test_a_masked_variable_is_streamed_with_nan_and_tells_where(path):
    ds = open_data(settings(path, nonfinite="mask", inputs=["u", "u_valid"]))
    with h5py.File(path) as file:
        raw = file["u"][...]
    finite = np.isfinite(raw)
    assert ds.u.dtype == np.float32
    for batch in stream(ds, ["u", "u_valid"]):
        assert batch.masked
        for row, (sample, time) in enumerate(zip(batch.sample, batch.time, strict=True)):
            there = finite[sample, time]
            np.testing.assert_array_equal(batch.inputs[row, 1].numpy(), there)
            np.testing.assert_array_equal(batch.inputs[row, 0].numpy(), np.where(there, raw[sample, time], np.nan))


def test_statistics_of_a_masked_variable_are_those_of_its_values(path):
    found = stream(open_data(settings(path, nonfinite="mask")))
    with pytest.warns(UserWarning, match=r"0.025 of the values of 'u\[t\+0\]' are NaN or Inf and left out; .*_valid"):
        inputs, targets = fit_normalizers(found, found.input_names, found.target_names)
    with h5py.File(path) as file:
        values = file["u"][...].astype("f8")
    values = values[np.isfinite(values)]
    np.testing.assert_allclose([inputs.mean[0], inputs.scale[0]], [values.mean(), values.std()], rtol=1e-6)
    np.testing.assert_allclose(targets.scale, [values.std()], rtol=1e-6)


def test_a_value_too_large_for_float32_is_refused_in_a_masked_variable_too(path):
    with h5py.File(path, "r+") as file:
        values = file["u"][...].astype("f8")
        values[1, 1, 1] = 1e300
        del file["u"]
        file["u"] = values
    with pytest.raises(DataError, match=r"'u' of a.h5\[1\] holds 1e\+300, too large for float32, at .*; rescale it"):
        list(stream(open_data(settings(path, nonfinite="mask"))))


def test_what_is_finite_stays_as_it_is(path):
    with h5py.File(path, "r+") as file:
        file["u"][...] = 1
    for choice in ("drop", "mask"):
        ds = open_data(settings(path, nonfinite=choice))
        assert ds.sizes["sample"] == 8
        assert (ds.u == 1).all()


@pytest.mark.parametrize(
    ("choice", "targets", "place", "text"),
    [
        (
            "drop",
            "u",
            ...,
            "each of 8 simulations has values that are not finite in u, k; correct the files, or choose",
        ),
        ("drop", "shared", 2, "'shared' is shared by all simulations and not finite; correct it in the file"),
    ],
)
def test_nothing_to_drop_to_is_refused(path, choice, targets, place, text):
    with h5py.File(path, "r+") as file:
        file[targets][place] = np.nan
    with pytest.raises(DataError, match=text):
        open_data(settings(path, nonfinite=choice, targets=[targets]))


def test_a_masked_variable_without_any_value_is_refused(path):
    with h5py.File(path, "r+") as file:
        file["u"][...] = np.nan
    found = stream(open_data(settings(path, nonfinite="mask")))
    with pytest.raises(DataError, match=r"variable 'u\[t\+0\]' has no finite value in the training data; leave it out"):
        fit_normalizers(found, found.input_names, found.target_names)


def test_a_variable_called_like_a_mask_is_not_replaced():
    ds = xr.Dataset({"u": (("sample", "x"), np.ones((4, 3))), "u_valid": (("sample",), np.arange(4.0))})
    with pytest.raises(DataError, match=r"variable 'u_valid' has the name that data.nonfinite: mask gives"):
        mask_missing(ds, ["u"])
    once = mask_missing(ds.drop_vars("u_valid"), ["u"])
    xr.testing.assert_equal(mask_missing(once, ["u"]), once)
