"""What inspection finds, and that its proposal opens and trains."""

import json
import re

import h5py
import makers
import numpy as np
import pytest
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.data import DataSettings, Stream, open_snapshots, split
from surrogate.data.axis_names import propose_axes
from surrogate.data.inspect import amplification, describe, render


def settings_of(text, **answers):
    """The proposal with its blanks answered."""
    tree = parse_yaml(text, "suggested").tree["data"]
    for key in ("sample", "time"):
        if isinstance(tree.get("layout"), dict) and tree["layout"].get(key) == "???":
            tree["layout"][key] = answers.get(key, "none")
    return DataSettings.model_validate(tree)


def open_suggested(description):
    data = settings_of(description.suggested_config)
    parts = split(open_snapshots(data.path, data.layout), data.split, by=data.by)
    return Stream(parts["train"], data.inputs, data.targets, batch_size=4, window=data.window)


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["code"] = "solver 1"
        u = rng.normal(size=(20, 6, 8, 8)).astype("f4")
        u[3, 2, 1, 0], u[4] = np.nan, np.inf
        file.create_dataset("u", data=u, chunks=(4, 3, 8, 4), compression="gzip", compression_opts=4, shuffle=True)
        file["nu"] = rng.uniform(size=20)
        file["wall"] = np.ones((20, 8, 8))
        file["t-coordinate"] = np.arange(6.0)
        file["x-coordinate"], file["y-coordinate"] = np.arange(8.0), np.arange(8.0)
    return tmp_path / "a.h5"


def test_a_file_without_names(file):
    description = describe(file)
    reports = {report.path: report for report in description.variables}
    u = reports["u"]
    assert (u.shape, u.dtype, u.axes, u.chunks) == ((20, 6, 8, 8), "float32", None, (4, 3, 8, 4))
    assert u.compression == "shuffle + gzip-4"
    assert u.memory_bytes == 20 * 6 * 64 * 4
    assert u.amplification == 12
    assert (u.values.nan, u.values.inf, u.values.looked_at, u.values.all) == (1, 384, 7680, True)
    assert reports["wall"].values.constant
    assert not u.values.constant
    assert any("1 NaN and 384 infinite of 7680" in note for note in description.notes)
    assert any("wall: every value looked at is 1" in note for note in description.notes)
    text = "\n".join(render(description))
    assert "code: solver 1" in text
    assert "chunks (4, 3, 8, 4), compression shuffle + gzip-4" in text
    plain = json.loads(json.dumps(description.to_json()))
    assert plain["variables"][1]["values"]["all"] is True


def test_the_proposal_for_a_file_without_names_is_marked_and_opens(file):
    description = describe(file)
    assert "u: {path: u, axes: [n, time, y, x]}  # check the order" in description.suggested_config
    assert "    sample: n\n" in description.suggested_config  # as long as a parameter, the other axes have coordinates
    stream = open_suggested(description)
    assert stream.target_names == ("u[t+1]",)
    assert stream.samples == 16 * 5


def test_the_proposal_for_named_dimensions_has_no_layout(tmp_path):
    ds = xr.Dataset({"a": (("sample", "x"), np.random.rand(10, 4)), "b": (("sample", "x"), np.random.rand(10, 4))})
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    description = describe(tmp_path / "a.nc")
    assert "layout" not in description.suggested_config
    assert description.sizes == {"sample": 10, "x": 4}
    assert [report.axes for report in description.variables] == [("sample", "x")] * 2
    assert len(list(open_suggested(description))) == 2


def test_the_reference_darcy_file(shared_data):
    description = describe(shared_data / "darcy16.h5")
    data = settings_of(description.suggested_config)
    assert set(data.layout.groups) == {"train", "test"}
    assert data.split.test.group == "test"
    stream = open_suggested(description)
    assert (stream.samples, stream.input_names, stream.target_names) == (900, ("permeability",), ("pressure",))
    declared = describe(shared_data / "darcy16.h5", data.layout)
    assert declared.sizes == {"sample": 1050, "y": 16, "x": 16}
    assert {report.axes for report in declared.variables} == {("sample", "y", "x")}


def test_the_reference_burgers_file(shared_data):
    data = settings_of(describe(shared_data / "burgers_reference.h5").suggested_config)
    assert data.layout.variables["u"].axes == ("time", "x")
    opened = open_snapshots(data.path, data.layout)
    assert opened.u.sizes == {"sample": 1, "time": 100, "x": 256}
    assert opened.x.values[[0, -1]].tolist() == [-1, 1]


def test_the_way_of_reading_is_shown_with_what_was_measured(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = np.random.rand(64, 64, 64).astype("f4")
        file.create_dataset("large", data=data, chunks=(4, 64, 64), compression="gzip", compression_opts=1)
        file["small"] = np.random.rand(4, 4)
        file.create_dataset("other", data=data, chunks=(4, 64, 64), fletcher32=True)
    text = "\n".join(render(describe(tmp_path / "a.h5")))
    assert re.search(r"read by .* \(measured: threaded decoding \d+ MB/s, h5py \d+ MB/s\)", text)
    assert "read by direct (too small to measure)" in text
    assert "read by h5py (no other way undoes its filters or finds its values in the file)" in text
    (plain, *_) = describe(tmp_path / "a.h5").to_json()["variables"]
    assert set(plain["reading"]["speeds"]) == {"threaded decoding", "h5py"}


def test_a_large_variable_is_sampled(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        u = file.create_dataset("u", (4000, 64, 64), "f8", chunks=(500, 64, 64), compression="gzip", compression_opts=1)
        for start in range(0, 4000, 500):
            u[start : start + 500] = start
    (report,) = describe(tmp_path / "a.h5").variables
    assert not report.values.all
    assert report.values.looked_at < 4000 * 64 * 64
    assert (report.values.minimum, report.values.maximum) == (0, 3500)


def test_unusable_variables_are_described_with_their_problem(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.random.rand(6, 4)
        file["z"] = np.ones((6, 4), complex)
        file.create_dataset("half", (4, 4), "f4", chunks=(2, 4))[:2] = 1
        file.create_dataset("huge", (10**6, 1000, 1000), "f4")
        file["link"] = h5py.ExternalLink("/elsewhere.h5", "u")
    description = describe(tmp_path / "a.h5")
    reports = {report.path: report for report in description.variables}
    assert "complex type" in reports["z"].problem
    assert reports["half"].unwritten == 1
    assert "no value was ever written" in reports["huge"].problem
    assert reports["huge"].memory_bytes == 4 * 10**12
    assert any("/link: external link to /elsewhere.h5:u" in note for note in description.notes)
    assert set(settings_of(description.suggested_config).layout.variables) == {"u"}
    render(description)


@pytest.mark.parametrize("make", [makers.make_per_seed, makers.make_scalar, makers.make_darcy, makers.make_flow])
def test_the_proposal_for_pdebench_is_its_name(tmp_path, make):
    make(tmp_path / "a.hdf5")
    description = describe(tmp_path / "a.hdf5")
    assert description.layout == "pdebench"
    assert description.reason.startswith("PDEBench, family ")
    assert "  layout: pdebench\n" in description.suggested_config
    assert description.memory_bytes > 0
    data = settings_of(description.suggested_config)
    Stream(open_snapshots(data.path, data.layout), data.inputs, data.targets, batch_size=2, window=data.window)
    text = "\n".join(render(description))
    assert "layout: pdebench (PDEBench, family" in text
    assert "in memory: " in text


def test_numbered_groups_are_shown_once(tmp_path):
    makers.make_per_seed(tmp_path / "a.h5", seeds=40)
    description = describe(tmp_path / "a.h5")
    assert [report.path for report in description.variables] == [
        "0000/data", "0000/grid/t", "0000/grid/x", "0000/grid/y",
    ]  # fmt: skip
    assert description.variables[0].axes == ("time", "y", "x", "channel")
    assert description.variables[0].amplification == 13
    assert "/0000 stands for 40 groups, up to /0039" in description.notes


def test_the_proposal_for_the_well_takes_its_splits(tmp_path):
    for index, name in enumerate(("train", "valid", "test")):
        makers.make_well(tmp_path / "w" / "data" / name / "a.hdf5", feed=index / 10, seed=index)
    description = describe(tmp_path / "w")
    data = settings_of(description.suggested_config)
    assert (description.layout, data.layout, data.split.test.group) == ("the_well", "the_well", "test")
    assert {"A", "F"} <= set(data.inputs)
    assert open_suggested(description).samples == 3 * 4
    reports = {report.path: report for report in description.variables}
    assert reports["t2_fields/stress"].axes == ("sample", "time", "x", "component0", "component1")


def test_hostile_chunks_name_the_command_that_mends_them(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=np.random.rand(40, 64, 512), chunks=(40, 8, 8))
    (note,) = [note for note in describe(tmp_path / "a.h5").notes if "random snapshot" in note]
    assert "decodes 40 times its size from chunks (40, 8, 8)" in note
    assert f"rechunk with `surrogate convert {tmp_path}/a.h5 a-shards --to shards --config CONFIG.yaml`" in note


@pytest.mark.parametrize(
    ("shape", "axes", "chunks", "factor"),
    [
        ((100, 128, 128), ("sample", "y", "x"), None, 1),
        ((100, 128, 128), ("sample", "y", "x"), (1, 128, 128), 1),
        ((100, 128, 128), ("sample", "y", "x"), (16, 64, 64), 16),
        ((101, 128, 128, 2), ("time", "y", "x", "channel"), (13, 16, 32, 1), 13),
        ((10, 100), ("sample", "x"), (1, 64), 1.28),
    ],
)
def test_amplification(shape, axes, chunks, factor):
    assert amplification(shape, axes, chunks) == factor


@pytest.mark.parametrize(
    ("shape", "lengths", "axes"),
    [
        ((10, 16, 16), {}, ("sample", "y", "x")),
        ((100, 256), {"time": 100, "x": 256}, ("time", "x")),
        ((5, 100, 256, 2), {"time": 100, "x": 256}, ("sample", "time", "x", "channel")),
        ((5, 16, 16), {"x": 16, "y": 16}, ("sample", "y", "x")),
        ((1, 2, 3, 4, 5, 6, 7), {}, tuple(f"axis{index}" for index in range(7))),
    ],
)
def test_proposed_axes(shape, lengths, axes):
    assert propose_axes(shape, lengths) == axes


def test_names_that_yaml_would_misread_are_quoted(tmp_path):
    with h5py.File(tmp_path / "a: b.h5", "w") as file:
        file["my var"], file["2"] = np.random.rand(10, 4), np.random.rand(10, 4)
        file["my var"].attrs["units"] = '"K\x07\N{DEGREE SIGN}'
        file["2"].attrs.create("units", b"\xb0C", dtype=h5py.string_dtype("utf-8"))
    data = settings_of(describe(tmp_path / "a: b.h5").suggested_config, sample="n")
    assert data.path == str(tmp_path / "a: b.h5")
    assert data.layout.variables["my_var"].path == "my var"
    assert data.layout.variables["my_var"].units == '"K\x07\N{DEGREE SIGN}'
    assert open_snapshots(data.path, data.layout).sizes == {"sample": 10, "x": 4}


def proposal_of(path, **objects):
    with h5py.File(path, "w") as file:
        for name, values in objects.items():
            file[name.replace("__", "/")] = values
    return describe(path)


def test_nothing_is_taken_for_simulations_without_evidence(tmp_path):
    field = np.random.rand(24, 8, 8)
    description = proposal_of(tmp_path / "a.h5", k=field, T=field)
    assert 'sample: "???"' in description.suggested_config
    with pytest.raises(ValueError, match="which axis counts the simulations"):
        DataSettings.model_validate(parse_yaml(description.suggested_config, "a").tree["data"])
    data = settings_of(description.suggested_config, sample="n")
    assert dict(open_snapshots(data.path, data.layout).sizes) == {"sample": 24, "y": 8, "x": 8}
    assert not data.layout.coordinates  # `T` is no time


def test_all_numbered_groups_are_seen(tmp_path):
    groups = {f"run_{i:04d}__{name}": np.random.rand(8, 8) for i in range(200) for name in ("k", "T")}
    data = settings_of(proposal_of(tmp_path / "a.h5", **groups).suggested_config)
    assert dict(open_snapshots(data.path, data.layout).sizes) == {"sample": 200, "y": 8, "x": 8}


def test_input_and_target_groups_are_kept_apart(tmp_path):
    field = np.random.rand(24, 8, 8)
    data = settings_of(proposal_of(tmp_path / "a.h5", input__data=field, target__data=field[:, 0]).suggested_config)
    assert (data.inputs, data.targets) == (["input_data"], ["target_data"])


def test_groups_of_a_split_are_its_parts(tmp_path):
    groups = {
        f"{group}__{name}": np.random.rand(n, 8, 8) for group, n in (("training", 30), ("testing", 6)) for name in "kT"
    }
    data = settings_of(proposal_of(tmp_path / "a.h5", **groups).suggested_config)
    assert data.split.test.group == "testing"
    opened = open_snapshots(data.path, data.layout)
    assert split(opened, data.split)["test"].sizes["sample"] == 6


def test_text_references_topology_and_positions_are_no_fields(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"], file["points"] = np.random.rand(20, 300), np.random.rand(300, 3)
        file["cells"] = np.zeros((500, 4), "i8")
        file["note"] = "text"
        file["ref"] = np.array([file["u"].ref], h5py.ref_dtype)
        file["self"] = file["/"]  # a group that holds itself
        file["empty"] = np.zeros((0, 4))
        h5py.h5d.create(file.id, b"when", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((4,)))
    description = describe(tmp_path / "a.h5")
    assert set(settings_of(description.suggested_config).layout.variables) == {"u"}
    assert any("when" in note for note in description.notes)


def test_groups_that_differ_in_words_are_simulations(tmp_path):
    names = {"cases": [f"case_{letter}" for letter in "abcd"], "many": [f"{w}{w}" for w in "qwertzuiop"]}
    for name, groups in names.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for i, group in enumerate(groups):
                file[f"{group}/u"], file[f"{group}/v"] = np.full((4, 5), i, "f4"), np.ones((4, 5), "f4")
                file[group].attrs["nu"] = float(i)
    text = describe(tmp_path / "cases.h5").suggested_config
    assert 'u: {path: "case_{sample}/u", axes: [y, x]}' in text
    assert 'nu: {path: "case_{sample}", attribute: nu}' in text
    assert "inputs: [nu]" in text
    text = describe(tmp_path / "many.h5").suggested_config
    assert '"{number}/u"' in text
    assert 'sample: "???"' in text
    with h5py.File(tmp_path / "species.h5", "w") as file:
        for group in ("gas", "dust", "stars"):
            file[f"{group}/u"] = np.ones((4, 5), "f4")
    assert "dust_u: {path: dust/u" in describe(tmp_path / "species.h5").suggested_config


def test_numbered_datasets_are_simulations_of_one_variable(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(100):
            file[str(i)] = np.ones((5, 8, 8), "f4")
    text = describe(tmp_path / "a.h5").suggested_config
    assert 'data: {path: "{number}", axes: [n, y, x]}' in text
    assert "number: each object of that number is a simulation" in text
    assert text.count("{path:") == 1


def test_a_short_last_axis_counts_components(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"], file["flat"] = np.ones((30, 8, 8, 3), "f4"), np.ones((30, 8, 8), "f4")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for i in range(4):
            file[f"{i}/image"] = np.ones((8, 8, 3), "f4")
    text = describe(tmp_path / "a.h5").suggested_config
    assert "u: {path: u, axes: [n, y, x, channel]}" in text
    assert "flat: {path: flat, axes: [n, y, x]}" in text
    assert 'image: {path: "{number}/image", axes: [n, x, channel]}' in describe(tmp_path / "b.h5").suggested_config


def test_labels_name_axes_whose_scales_are_called_by_numbers(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for path, values in (
            ("grid/t", np.arange(24.0)),
            ("grid/z/1.0", np.linspace(0, 1, 6)),
            ("grid/r/1.0", np.r_[:8.0]),
        ):
            file[path] = values
            file[path].make_scale(path)
        file["data/u"] = np.ones((24, 6, 8), "f4")
        for axis, (label, path) in enumerate((("t", "t"), ("z", "z/1.0"), ("r", "r/1.0"))):
            file["data/u"].dims[axis].label = label
            file["data/u"].dims[axis].attach_scale(file[f"grid/{path}"])
    text = describe(tmp_path / "a.h5").suggested_config
    assert "u: {path: data/u, axes: [t, z, r]}" in text
    assert "time: t" in text
    assert "z: {path: grid/z/1.0, axes: [z]}" in text
    assert "r: {path: grid/r/1.0, axes: [r]}" in text


def test_a_file_in_which_nothing_can_be_read_says_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", (4, 5), "f4")
    notes = describe(tmp_path / "a.h5").notes
    assert "no configuration is proposed: no dataset of numbers in it can be read" in notes


@pytest.mark.parametrize("name", ["run_{}/u", "{}"])
def test_simulations_of_unequal_length_are_named_as_such(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(4):
            file[name.format(i)] = np.ones((20 + i, 6, 5), "f4")
    notes = describe(tmp_path / "a.h5").notes
    expected = f"{name.format('*')}: 4 datasets differ in length, from (20, 6, 5) ({name.format(0)}) to (23, 6, 5)"
    assert any(expected in note for note in notes)


def test_axes_of_matlab_next_to_coordinates_are_in_the_order_of_the_program(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["a"], file["u"] = np.ones((7, 8, 30)), np.ones((12, 7, 8, 30))  # size(u) is 30 x 8 x 7 x 12
        file["t"] = np.linspace(0, 1, 12)[:, None]
        for name in file:
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    text = describe(tmp_path / "a.mat").suggested_config
    assert "a: {path: a, axes: [x, y, n]}" in text
    assert "u: {path: u, axes: [time, x, y, n]}" in text
