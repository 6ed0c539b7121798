"""Files that other programs wrote: each opens as its program means it, or is refused in one line.

The files belong to their authors and are not part of this project; without them the tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
import yaml

from surrogate.config import parse_yaml
from surrogate.data import DataSettings, Mapping, open_data, open_snapshots, split
from surrogate.data.formats.patterns import expression
from surrogate.data.inspect import describe
from surrogate.errors import DataError
from surrogate.training import train
from surrogate.workflows import read_cases, report_folders, write_starter
from surrogate.workflows.pipeline import evaluate_run

PUBLIC = next((p / "shared/data/public" for p in Path(__file__).parents if (p / "shared/data/public").is_dir()), Path())
pytestmark = pytest.mark.skipif(Path() == PUBLIC, reason="no public files next to the project")

# Trained from the proposal: folder, the answer to its question (None: it asks nothing), sizes, the family of the model.
PROPOSED: dict[str, tuple[str | None, dict[str, int], str]] = {
    "dedalus": (None, {"sample": 1, "time": 23, "z": 32, "r": 32}, "convnet"),
    "dolfinx": (None, {"sample": 1, "time": 5, "point": 729}, "mlp"),
    "fenics_obstacle": ("point", {"sample": 6724, "time": 1}, "mlp"),
    "fenics_study": (None, {"sample": 4, "point": 40691}, "pod"),
    "fenicsx": ("point", {"sample": 11095, "time": 1}, "mlp"),
    "firedrake": (None, {"sample": 1, "time": 5, "dof": 128}, "mlp"),
    "flash": ("y", {"sample": 256, "time": 2, "x": 256}, "autoencoder"),
    "fluent": ("cell", {"sample": 4338}, "mlp"),
    "matlab5/AC.mat": (None, {"sample": 1, "time": 201, "x": 512}, "convnet"),
    "netcdf3": (None, {"sample": 1, "time": 24, "lat": 170, "lon": 180}, "convnet"),
    "oceananigans": ("zC", {"sample": 16, "time": 2}, "autoencoder"),
    "openpmd/example-femm-3d.h5": ("z", {"sample": 47, "time": 1, "channel": 3, "x": 47, "y": 47}, "convnet"),
    "petsc": ("n", {"sample": 10201}, "mlp"),
    "pyclaw": ("z", {"sample": 16, "time": 2, "channel": 5, "x": 16, "y": 16}, "autoencoder"),
    "vtkhdf": (None, {"sample": 1, "time": 100, "point": 1684}, "mlp"),
}

# Trained from a mapping of docs/files-from.md: the heading there, sizes, inputs and targets, options, a family.
DECLARED: dict[str, tuple[str, dict[str, int], list[str], dict[str, object], str]] = {
    "gkeyll": ("Gkeyll", {"sample": 96, "time": 2, "y": 64, "channel": 18}, ["q"], {}, "autoencoder"),
    "openggcm": (
        "OpenGGCM",
        {"sample": 1, "time": 4, "z": 32, "x": 64},
        ["pressure"],
        {"split": {"by": "time", "validation": 1, "test": 1, "gap": 0}},
        "autoencoder",
    ),
    "roms": (
        "ROMS",
        {"sample": 1, "time": 4, "eta": 9, "xi": 14},
        ["zeta"],
        {"split": {"by": "time", "validation": 1, "test": 1, "gap": 0}, "nonfinite": "mask"},
        "convnet",
    ),
    "bout": ("BOUT++", {"sample": 100}, ["T"], {}, "mlp"),
    "medusa": (
        "Medusa",
        {"sample": 3, "channel": 2, "point": 24523},
        ["velocity"],
        {"split": {"validation": 1, "test": 1, "seed": 0}},
        "transolver",
    ),
}

# Refused in one line, which says what is missing.
REFUSED = {
    "cgns_adf": "CGNS in ADF; convert it to HDF5 with adf2hdf",
    "matlab73/testfile2.mat": "it holds no field of numbers",
    "medusa": "entries along",
}


def test_every_folder_has_a_verdict() -> None:
    folders = {path.name for path in PUBLIC.iterdir() if path.is_dir()}
    named = [{name.split("/")[0] for name in table} for table in (PROPOSED, DECLARED, [*REFUSED, "exodus"])]
    assert set.union(*named) == folders
    assert len(named[0] | named[1]) >= 18  # of 23


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder for copies: a run keeps statistics next to the data."""
    return tmp_path / "public"


def copied(folder: str, public: Path) -> Path:
    source = PUBLIC / folder
    if source.is_dir():
        return Path(shutil.copytree(source, public / folder))
    (public / folder).parent.mkdir(parents=True)
    return Path(shutil.copy(source, public / folder))


def text_of(folder: str, place: Path) -> str:
    """The proposal for a folder, its question answered."""
    answer = PROPOSED[folder][0]
    text = describe(str(place)).suggested_config
    assert (answer is not None) == ('sample: "???"' in text)
    return text.replace('sample: "???"', f"sample: {answer}").replace('time: "???"', "time: none")


def mapping_of(heading: str) -> str:
    """The mapping that the documentation shows in a section."""
    page = (Path(__file__).parents[2] / "docs" / "files-from.md").read_text(encoding="utf-8")
    mapping = page.split(f"## {heading}\n")[1].split("## ")[0].split("```yaml\n")[1].split("```")[0]
    assert len(mapping.splitlines()) <= 15
    return mapping


def trained(folder: Path, data: str, options: dict[str, object], family: str, batch_size: int = 16) -> None:
    """Train for one epoch as the written configuration says, then evaluate."""
    write_starter(folder / "mine.yaml", "mine", data)
    overrides = [
        "training.epochs=1",
        f"training.batch_size={batch_size}",
        *(f"data.{key}={json.dumps(value)}" for key, value in options.items()),
    ]
    (experiment,) = read_cases(folder / "mine.yaml", overrides).values()
    assert experiment.model.family == family
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(experiment, folder / "run", command="")
        metrics = evaluate_run(folder / "run", lambda line: None)
    assert np.isfinite(metrics["rmse"]).all()


QUICK = ("petsc", "fenics_study", "vtkhdf")


@pytest.mark.parametrize("folder", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in PROPOSED])
def test_the_proposal_trains_with_the_axes_of_the_program(folder: str, public: Path, tmp_path: Path) -> None:
    data, (_, sizes, family) = text_of(folder, copied(folder, public)), PROPOSED[folder]
    settings = DataSettings.model_validate(parse_yaml(data, "proposal").tree["data"])
    assert sizes.items() <= dict(open_data(settings.model_copy(update={"nonfinite": "mask"})).sizes).items()
    trained(
        tmp_path,
        data,
        {"nonfinite": "mask"} if folder == "netcdf3" else {},
        family,
        16 if sizes["sample"] < 1000 else 256,
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["dolfinx", "fenics_study", "fluent", "medusa", "vtkhdf"])
def test_data_on_meshes_are_trained_on_scored_and_drawn(folder: str, public: Path, tmp_path: Path) -> None:
    place = copied(folder, public)
    if folder in PROPOSED:
        data, family, options = text_of(folder, place), PROPOSED[folder][2], {}
    else:
        heading, _, names, options, family = DECLARED[folder]
        layout = yaml.safe_load(mapping_of(heading))
        data = yaml.safe_dump(
            {"data": {"path": str(place), "layout": layout, "inputs": [*names], "targets": [*names], "split": {}}}
        )
    trained(tmp_path, data, options, family, 256 if folder == "fluent" else 16)
    page = report_folders([tmp_path / "run"], None, command="test")
    pictures = {path.stem.split("_")[-1] for path in (page.parent / "figures").glob("*.png")}
    assert pictures & {"worst", "median", "best"}  # fewer where there are fewer test samples


@pytest.mark.parametrize("folder", [f if f == "roms" else pytest.param(f, marks=pytest.mark.slow) for f in DECLARED])
def test_a_mapping_of_the_documentation_trains(folder: str, public: Path, tmp_path: Path) -> None:
    heading, sizes, names, options, family = DECLARED[folder]
    layout = yaml.safe_load(mapping_of(heading))
    place = copied(folder, public)
    ds = open_snapshots(place, Mapping.model_validate(layout))
    assert sizes.items() <= dict(ds.sizes).items()
    window = {"window": {"steps_in": 1, "steps_out": 0, "stride": 1}} if "time" in ds.dims else {}
    data = {"path": str(place), "layout": layout, "inputs": list(names), "targets": list(names)}
    data |= {"split": {"validation": 0.1, "test": 0.1, "seed": 0}, **window, **options}
    trained(tmp_path, yaml.safe_dump({"data": data}), {}, family)


def raw_values(folder: str, path: str, file: str | None) -> np.ndarray:
    """All values that the files of a folder hold under paths of a pattern, as h5py or scipy reads them, sorted."""
    place, form, found = PUBLIC / folder, expression(path.strip("/")), []
    for name in [place] if place.is_file() else sorted(p for p in place.rglob("[!.]*") if p.is_file()):
        if file is not None and not expression(file).fullmatch(name.relative_to(place).as_posix()):
            continue
        if name.suffix == ".mat":
            found.append(scipy.io.loadmat(name)[path])
        elif not h5py.is_hdf5(name):
            with scipy.io.netcdf_file(name, mmap=False) as archive:
                found.append(np.array(archive.variables[path].data))
        else:
            with h5py.File(name) as handle:
                names: list[str] = []
                handle.visit(names.append)
                names = [n for n in names if form.fullmatch(n)]
                found += [handle[n][()] for n in names if isinstance(handle[n], h5py.Dataset)]
    values = np.concatenate([np.ravel(v) for v in found]).astype(np.float64)
    return np.sort(values[np.abs(values) < 1e19])  # NaN and fill values aside


@pytest.mark.parametrize("folder", [*PROPOSED, *DECLARED])
def test_the_values_are_those_of_the_file(folder: str) -> None:
    if folder in DECLARED:
        layout = Mapping.model_validate(yaml.safe_load(mapping_of(DECLARED[folder][0])))
        ds = open_snapshots(PUBLIC / folder, layout)
    else:
        settings = DataSettings.model_validate(parse_yaml(text_of(folder, PUBLIC / folder), "proposal").tree["data"])
        layout, ds = settings.layout, open_data(settings.model_copy(update={"nonfinite": "mask"}))
    for name, variable in ds.data_vars.items():
        entry = layout.variables.get(str(name)) if isinstance(layout, Mapping) else None
        if (isinstance(layout, Mapping) and entry is None) or str(name).endswith("_valid"):
            continue  # a parameter in a name
        raw = raw_values(folder, entry.path if entry else str(name), (entry.file or layout.files) if entry else None)
        opened = np.sort(np.ravel(variable.values[np.isfinite(variable.values)]).astype(np.float64))
        if entry is not None and entry.select:
            assert set(opened) <= set(raw)  # guard cells are left out
        else:
            np.testing.assert_array_equal(opened, raw, err_msg=str(name))


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


def test_one_state_that_cannot_be_divided_is_refused_in_one_line() -> None:
    text = describe(str(PUBLIC / "exodus")).suggested_config
    assert "one simulation of 1 state, which cannot be divided: name more files" in text
    settings = DataSettings.model_validate(parse_yaml(text.replace('"???"', "none"), "proposal").tree["data"])
    with pytest.raises(DataError, match="0 of 1 are left for it; ask for fewer, or bring more simulations"):
        split(open_data(settings), settings.split, window=settings.window)


def opened(path: Path, answer: str | None = None) -> xr.Dataset:
    text = describe(str(path)).suggested_config
    filled = text.replace('sample: "???"', f"sample: {answer}").replace('time: "???"', "time: none")
    return open_data(DataSettings.model_validate(parse_yaml(filled, "proposal").tree["data"]))


def test_places_and_parameters_are_those_of_the_program(tmp_path: Path) -> None:
    with h5py.File(PUBLIC / "vtkhdf" / "warping_spheres.vtkhdf") as file:
        raw = file["VTKHDF/PointData/SpatioTemporalHarmonics"][()].reshape(100, 1684)
    np.testing.assert_array_equal(opened(PUBLIC / "vtkhdf")["SpatioTemporalHarmonics"][0], raw)
    shutil.copytree(PUBLIC / "flash", tmp_path / "flash")
    ds = opened(tmp_path / "flash", "y")
    with h5py.File(tmp_path / "flash" / "INS_Rayleigh_hdf5_plt_cnt_0002") as file:
        block, box = file["temp"][9, 0], file["bounding box"][9]  # the second block of the second row
    inside = ds["temp"].isel(time=1).transpose("sample", "x").values[32:64, 32:64]
    np.testing.assert_array_equal(inside, block)
    assert box[0, 0] < float(ds["x"][32]) < float(ds["x"][63]) < box[0, 1]
    ds = opened(PUBLIC / "fenics_study")
    with h5py.File(PUBLIC / "fenics_study" / "results_0.01" / "pressure.h5") as file:
        np.testing.assert_array_equal(ds["u"].sel(sample=2), file["VisualisationVector/0"][:, 0])
    assert ds["parameter"].values.tolist() == [0.0001, 0.001, 0.01, 0.1]
