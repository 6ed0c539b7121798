"""Sobol indices equal those of functions whose indices are known, and SALib's own analysis."""

import numpy as np
import pytest
import xarray as xr
from SALib.analyze import sobol

from surrogate.errors import ConfigError
from surrogate.evaluation import Parameter, sobol_indices, sobol_inputs

CUBE = [Parameter(name, -np.pi, np.pi) for name in ("x1", "x2", "x3")]
A, B = 7.0, 0.1


def ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[:, 0]) + A * np.sin(x[:, 1]) ** 2 + B * x[:, 2] ** 4 * np.sin(x[:, 0])


def exact() -> tuple[np.ndarray, np.ndarray]:
    """First-order and total indices of Ishigami's function (Ishigami, Homma, 1990)."""
    one, two = 0.5 * (1 + B * np.pi**4 / 5) ** 2, A**2 / 8
    both = B**2 * np.pi**8 * (1 / 18 - 1 / 50)
    total = one + two + both
    return np.array([one, two, 0]) / total, np.array([one + both, two, both]) / total


def test_indices_of_ishigamis_function_are_inside_their_intervals() -> None:
    outputs = xr.DataArray(ishigami(sobol_inputs(CUBE, 4096)), dims="sample")
    indices = sobol_indices(outputs, CUBE)
    assert indices["parameter"].values.tolist() == ["x1", "x2", "x3"]
    for name, values in zip(("first", "total"), exact(), strict=True):
        np.testing.assert_allclose(indices[name], values, atol=0.01)
        assert (abs(indices[name] - values) <= 2 * indices[f"{name}_half_width"] + 1e-3).all()
        assert (indices[f"{name}_half_width"] < 0.05).all()


def test_indices_are_those_of_salibs_analysis() -> None:
    outputs = ishigami(sobol_inputs(CUBE, 256))
    problem = {"num_vars": 3, "names": ["x1", "x2", "x3"], "bounds": [[-np.pi, np.pi]] * 3}
    theirs = sobol.analyze(problem, outputs, calc_second_order=False, conf_level=0.9, num_resamples=400, seed=1)
    ours = sobol_indices(xr.DataArray(outputs, dims="sample"), CUBE, resamples=400)
    for name, key in (("first", "S1"), ("total", "ST")):
        np.testing.assert_allclose(ours[name], theirs[key], rtol=1e-10)
        np.testing.assert_allclose(ours[f"{name}_half_width"], theirs[f"{key}_conf"], rtol=0.25)


def test_every_point_of_a_field_has_its_own_indices() -> None:
    """u(x) = a x + log10(b) (1 - x), where both terms have the variance 1 / 12: the index of a is x^2 over the sum."""
    parameters = [Parameter("a", 0.0, 1.0), Parameter("b", 1.0, 10.0, log=True)]
    inputs, x = sobol_inputs(parameters, 2048), np.linspace(0, 1, 5)
    field = inputs[:, :1] * x + np.log10(inputs[:, 1:]) * (1 - x)
    outputs = xr.DataArray(field, {"x": x}, ("sample", "x"))
    indices = sobol_indices(outputs, parameters, resamples=0)
    share = x**2 / (x**2 + (1 - x) ** 2)
    for name in ("first", "total"):
        np.testing.assert_allclose(indices[name], [share, 1 - share], atol=0.01)
        assert indices[name].dims == ("parameter", "x")


def test_a_constant_output_has_no_index() -> None:
    inputs = sobol_inputs(CUBE, 16)
    outputs = xr.DataArray(np.stack([inputs[:, 0], np.full(len(inputs), 3.0)], axis=1), dims=("sample", "output"))
    indices = sobol_indices(outputs, CUBE, resamples=3)
    assert np.isfinite(indices["total"].isel(output=0)).all()
    assert np.isnan(indices["total"].isel(output=1)).all()


def test_the_package_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'slim-surrogate\[sensitivity\]'"):
        sobol_inputs(CUBE, 16)
