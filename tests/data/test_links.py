"""Links, virtual datasets and files reached twice: read as h5py reads them, and counted once."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from surrogate.data import Mapping, open_snapshots
from surrogate.data.convert import convert
from surrogate.data.fingerprint import fingerprint
from surrogate.data.inspect import describe
from surrogate.data.layouts import find_files
from surrogate.errors import DataError

U = np.random.default_rng(0).normal(size=(12, 4, 5)).astype("f4")


def declared(path: str, axes: tuple[str, ...] = ("sample", "y", "x"), **options: object) -> Mapping:
    return Mapping.model_validate({"variables": {"u": {"path": path, "axes": axes}}, **options})


def parts(folder: Path, names: list[str], per_file: int) -> None:
    for i, name in enumerate(names):
        with h5py.File(folder / name, "w") as file:
            file["u"] = U[per_file * i : per_file * (i + 1)] if per_file > 1 else U[i]
            file.attrs["nu"] = 0.5 * i


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """A file of external links to the files of the simulations beside it."""
    parts(tmp_path, [f"sim_{i}.h5" for i in range(12)], 1)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for i in range(12):
            file[f"run_{i}"] = h5py.ExternalLink(f"sim_{i}.h5", "/")
    return tmp_path / "all.h5"


def test_groups_behind_external_links_are_simulations_with_parameters(master: Path) -> None:
    ds = open_snapshots(
        master, declared("run_{sample}/u", ("y", "x"), coordinates={"nu": {"path": "run_{sample}", "attribute": "nu"}})
    )
    np.testing.assert_array_equal(ds["u"], U)
    np.testing.assert_array_equal(ds["nu"], 0.5 * np.arange(12))
    text = describe(master).suggested_config
    assert 'u: {path: "run_{sample}/u", axes: [y, x]}' in text
    assert "inputs: [nu]" in text


def test_files_that_another_file_shows_by_links_count_once(master: Path) -> None:
    with pytest.warns(UserWarning, match=r"sim_0.h5 and 11 more left out: virtual datasets or links of all.h5"):
        assert find_files(master.parent) == [master]


def test_files_of_a_series_that_link_to_each_other_all_count(tmp_path: Path) -> None:
    parts(tmp_path, [f"run_{i}.h5" for i in range(3)], 1)
    for i in range(3):
        with h5py.File(tmp_path / f"run_{i}.h5", "a") as file:
            file["other"] = h5py.ExternalLink(f"run_{(i + 1) % 3}.h5", "/u")
            if i < 2:
                file["next"] = h5py.ExternalLink(f"run_{i + 1}.h5", "/")
    assert len(find_files(tmp_path)) == 3


def test_links_to_nothing_to_themselves_and_out_are_notes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/k"], file["run/T"] = U, 2 * U
        file["run/self"], file["run/root"] = file["run"], file["/"]
        file["file"] = h5py.ExternalLink("a.h5", "/")
        file["loop"], file["nothing"] = h5py.SoftLink("/loop"), h5py.SoftLink("/no")
        file["gone"], file["out"] = h5py.ExternalLink("gone.h5", "/k"), h5py.ExternalLink("/etc/hosts", "/k")
    description = describe(tmp_path / "a.h5")
    assert sorted(report.path.rpartition("/")[2] for report in description.variables) == ["T", "k"]
    assert "axes: [n, y, x]" in description.suggested_config
    for note in ("gone: cannot be read", "out: cannot be read", "/loop: link to /loop"):
        assert any(line.startswith(note) for line in description.notes)


def test_names_and_attributes_that_cannot_be_read_are_notes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["k"], file["T"] = U, 2 * U
        scalar, time = h5py.h5s.create(h5py.h5s.SCALAR), h5py.h5t.UNIX_D32LE
        h5py.h5a.create(file["k"].id, b"when", time, scalar)
        h5py.h5a.create(file["k"].id, b"l\xe4nge", h5py.h5t.NATIVE_INT32, scalar)
        h5py.h5d.create(file.id, b"\xb0C", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((12, 4, 5)))
    description = describe(tmp_path / "a.h5")
    assert "k: its attribute when cannot be read; it is left out" in description.notes
    assert "\N{REPLACEMENT CHARACTER}C: its name is not UTF-8; it is left out" in description.notes
    assert "k: {path: k" in description.suggested_config


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Symbolic links to files in a store under other names, as DataLad and the caches of model hubs keep them."""
    (tmp_path / "store").mkdir()
    parts(tmp_path / "store", ["0", "1", "2"], 4)
    for i in range(3):
        os.symlink(f"store/{i}", tmp_path / f"part{i}.h5")
    view = h5py.VirtualLayout((12, 4, 5), "f4")
    for i in range(3):
        view[4 * i : 4 * i + 4] = h5py.VirtualSource(f"part{i}.h5", "u", (4, 4, 5))
    numbered = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    target = h5py.h5s.create_simple((12, 4, 5), (h5py.h5s.UNLIMITED, 4, 5))
    target.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (4, 1, 1), (4, 4, 5))
    source = h5py.h5s.create_simple((4, 4, 5))
    numbered.set_virtual(target, b"part%b.h5", b"u", source)
    with h5py.File(tmp_path / "store" / "main", "w", libver="latest") as file:
        file["linked"] = h5py.ExternalLink("part0.h5", "/u")
        file.create_virtual_dataset("view", view)
        h5py.h5d.create(file.id, b"numbered", h5py.h5t.IEEE_F32LE, target, numbered)
    os.symlink("store/main", tmp_path / "main.h5")
    return tmp_path / "main.h5"


@pytest.mark.parametrize(("name", "count"), [("linked", 4), ("view", 12), ("numbered", 12)])
def test_names_between_symbolic_links_are_resolved_as_h5py_does(store: Path, name: str, count: int) -> None:
    with h5py.File(store) as file:
        np.testing.assert_array_equal(file[name], U[:count])
    assert name in {report.path for report in describe(store).variables if report.problem is None}
    np.testing.assert_array_equal(open_snapshots(store, declared(name))["u"], U[:count])
    convert(store, store.parent / "shards", "shards", layout=declared(name))
    np.testing.assert_array_equal(open_snapshots(store.parent / "shards")["u"], U[:count])


@pytest.mark.parametrize("gap", ["block", "stride", "source"])
def test_values_of_no_source_are_reported_and_refused(tmp_path: Path, gap: str) -> None:
    parts(tmp_path, ["0.h5", "1.h5", "2.h5"], 4)
    view = h5py.VirtualLayout((12, 4, 5), "f4")
    if gap == "stride":
        with h5py.File(tmp_path / "all.h5", "w") as file:
            file["u"] = U
        view[::2] = h5py.VirtualSource("all.h5", "u", (12, 4, 5))[::2]
    for i in (0, 2) if gap != "stride" else ():
        view[4 * i : 4 * i + 4] = h5py.VirtualSource(f"{i}.h5", "u", (4, 4, 5))
    if gap == "source":
        view[4:8] = h5py.VirtualSource("gone.h5", "u", (4, 4, 5))
    with h5py.File(tmp_path / "view.h5", "w") as file:
        file.create_virtual_dataset("u", view, fillvalue=0)
    count = {"block": 80, "stride": 120}.get(gap)
    reason = f"{count} of 240 values of a virtual dataset come from no source" if count else "gone.h5, which is missing"
    assert any(reason in note for note in describe(tmp_path / "view.h5").notes)
    with pytest.raises(DataError, match=reason):
        open_snapshots(tmp_path / "view.h5", declared("u"))


def test_replaced_sources_are_other_data(store: Path) -> None:
    before = fingerprint([store])
    ds = open_snapshots(store, declared("view"))
    os.unlink(store.parent / "store" / "1")
    with h5py.File(store.parent / "store" / "1", "w") as file:
        file["u"] = U[4:8] + 1000
    assert fingerprint([store]) != before
    with pytest.raises(DataError, match="replaced or changed while in use"):
        ds["u"].load()


@pytest.mark.parametrize("path", ["out/{sample}/u", "soft/{sample}/u", "twice/{sample}/u", "group/up/{sample}/u"])
def test_no_way_over_a_link_out_of_the_folder_is_followed_unasked(tmp_path: Path, path: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    with h5py.File(tmp_path / "elsewhere" / "b.h5", "w") as file:
        for i in range(4):
            file[f"runs/{i}/u"] = U[i]
    (tmp_path / "own").mkdir()
    with h5py.File(tmp_path / "own" / "a.h5", "w") as file:
        file["out"] = h5py.ExternalLink("../elsewhere/b.h5", "/runs")
        file["soft"], file["twice"] = h5py.SoftLink("/out"), h5py.SoftLink("./soft")
        file["group/up"] = h5py.SoftLink("/soft")
    for layout in (declared(path, ("y", "x")), declared(path.replace("{sample}", "0"), ("y", "x"))):
        with pytest.raises(DataError, match=r"leads to \.\./elsewhere/b\.h5, outside of"):
            open_snapshots(tmp_path / "own", layout)
        ds = open_snapshots(tmp_path / "own", layout, allow_external=True)
        np.testing.assert_array_equal(ds["u"], U[: ds.sizes["sample"]])


def test_soft_links_that_go_in_circles_lead_nowhere(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file["inside/self"], file["inside/u"] = h5py.SoftLink("."), U
        file["inside/above"] = h5py.SoftLink("../inside/u")  # HDF5 does not know `..`
    np.testing.assert_array_equal(open_snapshots(tmp_path, declared("inside/self/./self/u"))["u"], U)
    for path in ("a/{sample}", "inside/above", "b"):
        with pytest.raises(DataError):
            open_snapshots(tmp_path, declared(path))
