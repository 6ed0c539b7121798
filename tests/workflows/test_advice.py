"""Advice names surrogates that a comparison of the same data fits, and is printed by `inspect`."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from surrogate.cli import app
from surrogate.config import parse_yaml
from surrogate.data.inspect import describe
from surrogate.experiment.settings import read_experiment
from surrogate.models.signature import signature_of
from surrogate.workflows.advice import advice
from surrogate.workflows.candidates import candidates_for
from surrogate.workflows.starter import open_section

RNG = np.random.default_rng(0)
FIELD, SERIES, NUMBER = ("sample", "y", "x"), ("sample", "time", "y", "x"), ("sample",)
CASES = {
    "parameters to fields": ({"k": NUMBER, "u": FIELD}, ["pod_gp", "pod_rbf", "kernel_ridge", "elm"]),
    "fields to fields": ({"a": FIELD, "u": FIELD}, ["linear", "kernel_ridge", "elm"]),
    "time steps": ({"u": SERIES}, ["persistence", "linear", "kernel_ridge", "elm"]),
    "fields to themselves": ({"u": FIELD}, ["pod_rbf"]),
}


def section_of(folder: Path, variables: dict[str, tuple[str, ...]], simulations: int) -> str:
    sizes = {"sample": simulations, "time": 8, "y": 4, "x": 4}
    arrays = {name: (axes, RNG.normal(size=[sizes[axis] for axis in axes])) for name, axes in variables.items()}
    xr.Dataset(arrays).to_netcdf(folder / "data.nc", engine="h5netcdf")
    return describe(str(folder / "data.nc")).suggested_config


@pytest.mark.parametrize("case", CASES)
def test_what_is_named_is_fitted_by_a_comparison(case: str, tmp_path: Path) -> None:
    variables, names = CASES[case]
    section = section_of(tmp_path, variables, 20)
    lines = advice(section)
    assert len(lines) == 2
    assert "with 20 simulations, before any network" in lines[0]
    assert re.findall(r"persistence|(?<=\()[a-z_]+(?=\))", lines[0]) == names
    assert "by 5-fold cross-validation" in lines[1]
    ds, stream = open_section(section)
    signature = signature_of(stream, ds)
    base = read_experiment(parse_yaml(f"name: x\n{section}model: {{family: linear}}\n", "x"))
    reconstruct = {*signature.targets} <= {*signature.inputs}
    candidates = [c for c in candidates_for(signature.shapes, base, reconstruct=reconstruct) if c.fitted]
    families = {c.model["family"] for c in candidates} | {c.name for c in candidates}
    assert {*names} <= families


def test_many_simulations_need_no_folds(tmp_path: Path) -> None:
    assert "cross-validation" not in " ".join(advice(section_of(tmp_path, CASES["parameters to fields"][0], 60)))


def test_inspect_prints_it_and_is_silent_where_it_asks(tmp_path: Path) -> None:
    section_of(tmp_path, CASES["parameters to fields"][0], 20)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "data.nc")])
    assert "next:\n  with 20 simulations, before any network, try what is fitted in seconds: Gaussian" in result.output
    assert "`surrogate compare mine.yaml` fits these first" in result.output
    assert advice('data:\n  path: x.h5\n  layout:\n    sample: "???"\n  inputs: [a]\n  targets: [b]\n') == []
