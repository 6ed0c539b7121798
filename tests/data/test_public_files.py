"""Files that other programs wrote: each opens as its program means it, or is refused in one line.

The files belong to their authors and are not part of this project; without them the tests are skipped.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from surrogate.config import parse_yaml
from surrogate.data import DataSettings, Mapping, Stream, open_data, open_snapshots, split
from surrogate.data.inspect import describe
from surrogate.errors import DataError

PUBLIC = next((p / "shared/data/public" for p in Path(__file__).parents if (p / "shared/data/public").is_dir()), Path())
pytestmark = pytest.mark.skipif(Path() == PUBLIC, reason="no public files next to the project")

# Trained from the proposal, its blank answered: folder, answer, sizes, and a value to compare.
PROPOSED = {
    "dedalus": (None, {"sample": 1, "time": 23, "z": 32, "r": 32}),
    "dolfinx": (None, {"sample": 1, "time": 5, "point": 729}),
    "fenics_obstacle": ("point", {"sample": 6724, "time": 1}),
    "fenics_study": (None, {"sample": 4, "point": 40691}),
    "fenicsx": ("point", {"sample": 11095, "time": 1}),
    "firedrake": (None, {"sample": 1, "time": 5, "dof": 128}),
    "flash": ("y", {"sample": 256, "time": 2, "x": 256}),
    "fluent": ("cell", {"sample": 4338}),
    "matlab5/AC.mat": (None, {"sample": 1, "time": 201, "x": 512}),
    "netcdf3": (None, {"sample": 1, "time": 24, "lat": 170, "lon": 180}),
    "oceananigans": ("zC", {"sample": 16, "time": 2}),
    "openpmd/example-femm-3d.h5": ("z", {"sample": 47, "time": 1, "channel": 3, "x": 47, "y": 47}),
    "petsc": ("n", {"sample": 10201}),
    "pyclaw": ("z", {"sample": 16, "time": 2, "channel": 5, "x": 16, "y": 16}),
    "vtkhdf": (None, {"sample": 1, "time": 100, "point": 1684}),
}

# From a mapping of docs/files-from.md.
DECLARED = {
    "gkeyll": (
        "files: sample_gkeyll_uniform_q_{time}.h5\n"
        "variables: {q: {path: StructGridField, axes: [sample, y, channel]}}\n",
        {"sample": 96, "time": 2, "y": 64, "channel": 18},
    ),
    "openggcm": (
        "files: sample_xdmf.py_0.{time}_p000000.h5\n"
        "variables:\n"
        "  pressure: {path: py_0/pp/2d, axes: [z, x]}\n"
        "  density: {path: py_0/rr/2d, axes: [z, x]}\n"
        "coordinates: {time: {path: mrc_io, attribute: time}}\n",
        {"sample": 1, "time": 4, "z": 32, "x": 64},
    ),
    "roms": (
        "files: ocean_his_{time}.nc\n"
        "variables: {zeta: {path: zeta, axes: [time, eta, xi]}}\n"
        "coordinates: {time: {path: ocean_time, axes: [time]}}\n",
        {"sample": 1, "time": 4, "eta": 9, "xi": 14},
    ),
    "bout": (
        "files: BOUT.restart.{y}.nc\nsample: y\nvariables: {T: {path: T, axes: [_, y, _], select: {y: [2, -2]}}}\n",
        {"sample": 100},
    ),
}

REFUSED = {
    "cgns_adf": "ADF",
    "medusa": "entries along",
}


def answered(text: str, answer: str | None) -> DataSettings:
    tree = parse_yaml(text, "proposal").tree["data"]
    for key, value in (("sample", answer or "none"), ("time", "none")):
        if isinstance(tree.get("layout"), dict) and tree["layout"].get(key) == "???":
            tree["layout"][key] = value
    if "netcdf3" in tree["path"]:
        tree["nonfinite"] = "mask"  # land
    return DataSettings.model_validate(tree)


@pytest.mark.parametrize("folder", PROPOSED)
def test_the_proposal_opens_as_the_program_means_it(folder: str) -> None:
    answer, sizes = PROPOSED[folder]
    settings = answered(describe(str(PUBLIC / folder)).suggested_config, answer)
    ds = open_data(settings)
    assert sizes.items() <= dict(ds.sizes).items()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train = split(ds, settings.split, window=settings.window)["train"]
    stream = Stream(train, settings.inputs, settings.targets, batch_size=2, window=settings.window)
    assert next(iter(stream)).targets.numel()


@pytest.mark.parametrize("folder", DECLARED)
def test_a_mapping_of_the_documentation_opens(folder: str) -> None:
    text, sizes = DECLARED[folder]
    ds = open_snapshots(PUBLIC / folder, Mapping.model_validate(yaml.safe_load(text)))
    assert sizes.items() <= dict(ds.sizes).items()
    page = Path(__file__).parents[2] / "docs" / "files-from.md"
    assert text.splitlines()[0].split(": ")[-1] in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", REFUSED)
def test_others_are_refused_in_one_line(folder: str) -> None:
    try:
        description = describe(str(PUBLIC / folder))
    except DataError as error:
        reason = str(error)
    else:
        assert not description.suggested_config
        (reason,) = [note for note in description.notes if note.startswith("no configuration is proposed")]
    assert REFUSED[folder] in reason
    assert "\n" not in reason


def test_values_are_those_that_h5py_reads(tmp_path: Path) -> None:
    settings = answered(describe(str(PUBLIC / "vtkhdf")).suggested_config, None)
    with h5py.File(PUBLIC / "vtkhdf" / "warping_spheres.vtkhdf") as file:
        raw = file["VTKHDF/PointData/SpatioTemporalHarmonics"][()].reshape(100, 1684)
    np.testing.assert_array_equal(open_data(settings)["SpatioTemporalHarmonics"][0], raw)
    shutil.copytree(PUBLIC / "flash", tmp_path / "flash")
    settings = answered(describe(str(tmp_path / "flash")).suggested_config, "y")
    ds = open_data(settings)
    with h5py.File(tmp_path / "flash" / "INS_Rayleigh_hdf5_plt_cnt_0002") as file:
        block, box = file["temp"][9, 0], file["bounding box"][9]  # the second block of the second row
    inside = ds["temp"].isel(time=1).transpose("sample", "x").values[32:64, 32:64]
    np.testing.assert_array_equal(inside, block)
    assert box[0, 0] < float(ds["x"][32]) < float(ds["x"][63]) < box[0, 1]
    ds = open_data(answered(describe(str(PUBLIC / "fenics_study")).suggested_config, None))
    with h5py.File(PUBLIC / "fenics_study" / "results_0.01" / "pressure.h5") as file:
        np.testing.assert_array_equal(ds["u"].sel(sample=2), file["VisualisationVector/0"][:, 0])
    assert ds["parameter"].values.tolist() == [0.0001, 0.001, 0.01, 0.1]
