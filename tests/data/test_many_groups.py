"""Files of many groups: every dataset is described as it would be alone, and groups become simulations."""

import h5py
import numpy as np
import pytest

from surrogate.data import Mapping, Stream, open_snapshots
from surrogate.data.hdf5.alike import Alike
from surrogate.data.hdf5.storage import h5_array
from surrogate.data.inspect import describe, render
from surrogate.errors import DataError

RNG = np.random.default_rng(0)


def odd_one_out(file, name, kind):
    """A dataset that differs from its siblings in one respect."""
    values = RNG.integers(0, 100, (4, 6))
    options = {"chunks": (2, 7 if kind == "longer" else 6)} if kind != "contiguous" else {}
    options |= {"compression": "gzip"} if kind == "gzip" else {}
    dtype = {"big-endian": ">f4", "double": "f8", "integer": "i2"}.get(kind, "<f4")
    shape = (4, 7) if kind == "longer" else (4, 6)
    out = file.create_dataset(name, shape, dtype, fillvalue=9.969209968386869e36 if kind == "fill" else None, **options)
    out[:2, :6] = values[:2]
    if kind != "unwritten":
        out[2:, :6] = values[2:]
    if kind == "packed":
        out.attrs["scale_factor"] = 0.5
    if kind == "units":
        out.attrs["units"] = "K"


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_dataset_is_described_as_alone(tmp_path, libver):
    kinds = ["plain", "big-endian", "double", "integer", "longer", "fill", "packed", "units", "contiguous", "gzip"]
    order = [*kinds, *RNG.permutation(kinds), "plain", "plain", "unwritten", "packed", "packed"]
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        for i, kind in enumerate(order):
            odd_one_out(file, f"run_{i}/u", kind)
    with h5py.File(tmp_path / "a.h5") as file:
        alike = Alike()
        for i, kind in enumerate(order):
            dataset = file[f"run_{i}/u"]
            if kind == "unwritten":
                with pytest.raises(DataError, match="1 of 2 chunks were never written"):
                    alike.array(dataset.id, f"/run_{i}/u")
                continue
            described, alone = alike.array(dataset.id, f"/run_{i}/u"), h5_array(dataset)
            np.testing.assert_array_equal(described[...], alone[...])
            for name in ("path", "shape", "dtype", "stored", "chunks", "offset", "filters", "stamp"):
                assert getattr(described, name) == getattr(alone, name), (kind, name)


def test_declared_groups_are_simulations_in_their_order(tmp_path):
    field, x = RNG.normal(size=(12, 3, 4)).astype("f4"), np.linspace(0, 1, 4)
    with h5py.File(tmp_path / "g.h5", "w") as file:
        for i in range(12):
            file[f"run{i}/u"], file[f"run{i}/x"], file[f"run{i}/nu"] = field[i], x, 0.1 * i
    groups = [f"run{i}" for i in RNG.permutation(12)]
    layout = {
        "groups": groups,
        "variables": {"u": {"path": "u", "axes": ["y", "x"]}, "nu": {"path": "nu"}},
        "coordinates": {"x": {"path": "x", "axes": ["x"]}},
    }
    ds = open_snapshots(tmp_path / "g.h5", Mapping.model_validate(layout))
    assert ds["group"].values.tolist() == groups
    assert ds["origin"].values.tolist() == [f"g.h5:{group}" for group in groups]
    assert ds["x"].dims == ("x",)
    chosen = [int(group[3:]) for group in groups]
    np.testing.assert_array_equal(ds["u"], field[chosen])
    np.testing.assert_array_equal(ds["nu"], 0.1 * np.array(chosen))
    batches = Stream(ds, ["u"], ["u"], batch_size=5, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([b.inputs.numpy() for b in batches])[:, 0], field[chosen])
    with h5py.File(tmp_path / "g.h5", "a") as file:
        file["run7/x"][...] = 2 * x
    with pytest.raises(DataError, match="run7/x has other values"):
        open_snapshots(tmp_path / "g.h5", Mapping.model_validate(layout))


def test_one_odd_group_among_thousands_is_named(tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for i in range(1500):
            file[f"run_{i:04d}/u"] = np.full((3, 5) if i == 777 else (3, 4), i, "f4")
    description = describe(tmp_path / "many.h5")
    assert not description.suggested_config
    (problem,) = [note for note in description.notes if note.startswith("no configuration is proposed")]
    assert "run_0777/u" in problem
    with h5py.File(tmp_path / "many.h5", "a") as file:
        del file["run_0777/u"]
        file["run_0777/u"] = np.full((3, 4), 777, "f4")
    assert "run_{sample}/u" in describe(tmp_path / "many.h5").suggested_config


def test_sources_of_a_virtual_file_in_one_folder_count_once(tmp_path):
    field = RNG.normal(size=(6, 3, 4)).astype("f4")
    view = h5py.VirtualLayout((6, 3, 4), "f4")
    for i in range(3):
        with h5py.File(tmp_path / f"part{i}.nc", "w") as file:
            file["u"] = field[2 * i : 2 * i + 2]
            view[2 * i : 2 * i + 2] = h5py.VirtualSource(f"part{i}.nc", "u", (2, 3, 4))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("u", view)
    layout = Mapping.model_validate({"variables": {"u": {"path": "u", "axes": ["sample", "y", "x"]}}})
    for place in (tmp_path, tmp_path / "*"):
        with pytest.warns(UserWarning, match=r"part\d.nc and 2 more left out: virtual datasets or links of all.h5"):
            ds = open_snapshots(place, layout)
        np.testing.assert_array_equal(ds["u"], field)
    sources = open_snapshots([tmp_path / f"part{i}.nc" for i in range(3)], layout)
    np.testing.assert_array_equal(sources["u"], field)


def test_what_is_decoded_is_shown(tmp_path):
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file["u"] = np.arange(24, dtype="i2").reshape(4, 6)
        file["u"].attrs["scale_factor"], file["u"].attrs["_FillValue"] = 0.5, np.int16(3)
    lines = render(describe(tmp_path / "packed.h5"))
    assert "  decoded: 3 is missing (_FillValue); times 0.5 (scale_factor)" in lines


def test_a_virtual_file_is_inspected_while_it_is_open(tmp_path):
    field = RNG.normal(size=(6, 3, 4)).astype("f4")
    view = h5py.VirtualLayout((6, 3, 4), "f4")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["u"] = field
    view[...] = h5py.VirtualSource("part.h5", "u", (6, 3, 4))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("u", view)
    description = describe(tmp_path / "all.h5")
    assert description.variables[0].values.maximum == field.max()
    assert "path: u" in description.suggested_config
