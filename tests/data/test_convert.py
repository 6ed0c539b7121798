"""Conversion keeps every value, goes on where it stopped, and never leaves half a file."""

from __future__ import annotations

import itertools
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import h5py
import makers
import numpy as np
import pytest
import xarray as xr

from surrogate import cli
from surrogate.config import read_yaml
from surrogate.data import Mapping, open_snapshots, split
from surrogate.data import convert as module
from surrogate.data.convert import convert, read_layout, read_size
from surrogate.data.formats import target
from surrogate.data.hdf5.writer import blocks
from surrogate.data.settings import SplitSettings
from surrogate.data.store import MANIFEST, Manifest, read_manifest, verify, write_manifest, write_shard
from surrogate.errors import ConfigError, DataError, ResourceError


def fields(samples: int = 7, *, steps: int = 4, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    axes = ("sample", "time", "y", "x")
    return xr.Dataset(
        {
            "u": (axes, rng.normal(size=(samples, steps, 5, 6)).astype("f4"), {"units": "m/s"}),
            "v": (axes, rng.normal(size=(samples, steps, 5, 6)).astype("f4")),
        },
        {
            "nu": ("sample", rng.uniform(size=samples).astype("f4").astype("f8"), {"units": "m2/s"}),
            "time": ("time", np.arange(steps, dtype="f4"), {"units": "s"}),
            "y": ("y", np.arange(5, dtype="f4"), {"units": "m"}),
            "x": ("x", np.arange(6, dtype="f4"), {"units": "m"}),
        },
        {"equation": "burgers"},
    )


def shards(folder: Path, ds: xr.Dataset, count: int = 2) -> Path:
    edges = np.linspace(0, ds.sizes["sample"], count + 1).astype(int)
    parts = [ds.isel(sample=slice(a, b)) for a, b in itertools.pairwise(edges)]
    entries = [write_shard(folder / f"s-{index:05d}.h5", part) for index, part in enumerate(parts)]
    write_manifest(folder, Manifest(name="s", digest="0", samples=ds.sizes["sample"], shards=entries))
    return folder


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Equal values, axes and units by name, whatever is a coordinate."""
    found, expected = (ds.drop_vars("origin", errors="ignore").reset_coords().load() for ds in (found, expected))
    assert {*found.variables} == {*expected.variables}
    for name, variable in expected.variables.items():
        other = found.variables[name]
        np.testing.assert_array_equal(other.transpose(*variable.dims).values, variable.values, err_msg=str(name))
        assert other.attrs.get("units") == variable.attrs.get("units"), name


def test_shards_to_the_well_and_back(tmp_path: Path) -> None:
    source = shards(tmp_path / "a", fields())
    convert(source, tmp_path / "well", "the_well")
    well = open_snapshots(tmp_path / "well")
    assert set(well.group.values) == {"train"}
    assert_same(well.drop_vars("group"), fields())
    convert(tmp_path / "well", tmp_path / "b", "shards")
    assert_same(open_snapshots(tmp_path / "b").drop_vars("group"), fields())
    verify(tmp_path / "b")


def test_shards_to_pdebench_and_back(tmp_path: Path) -> None:
    source = shards(tmp_path / "a", fields())
    convert(source, tmp_path / "p", "pdebench")
    opened = open_snapshots(tmp_path / "p")
    assert opened.attrs["pdebench_family"] == "per seed"
    assert opened.channel.values.tolist() == ["u", "v"]
    np.testing.assert_array_equal(opened.data.sel(channel="u"), fields().u)
    np.testing.assert_array_equal(opened.data.sel(channel="v"), fields().v)
    np.testing.assert_array_equal(opened.nu, fields().nu)
    for axis in ("time", "y", "x"):
        xr.testing.assert_identical(opened[axis].variable, fields()[axis].variable)
    convert(tmp_path / "p", tmp_path / "b", "shards")
    again = open_snapshots(tmp_path / "b")
    assert again.channel.values.tolist() == ["u", "v"]
    assert_same(again, opened)


def test_a_group_of_the_source_becomes_a_split_and_splits_as_before(tmp_path: Path) -> None:
    names = ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    ds = fields().assign_coords(group=("sample", names))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in dict.fromkeys(names):
            file[f"{name}/u"] = ds.u.values[np.array(names) == name]
    layout = Mapping.model_validate(
        {"groups": ["train", "validation", "test"], "variables": {"u": {"path": "u", "axes": [*ds.u.dims]}}}
    )
    convert(tmp_path / "a.h5", tmp_path / "s", "shards", layout=layout)
    opened = open_snapshots(tmp_path / "s")
    assert opened.group.values.tolist() == names
    chosen = SplitSettings.model_validate({"validation": {"group": "validation"}, "test": {"group": "test"}})
    assert split(opened, chosen)["test"].sizes["sample"] == 2
    convert(tmp_path / "s", tmp_path / "w", "the_well")
    well = open_snapshots(tmp_path / "w")
    assert well.group.values.tolist() == ["train"] * 3 + ["valid"] * 2 + ["test"] * 2
    np.testing.assert_array_equal(well.u, ds.u)


LAYOUTS = {
    "per seed": ("2D_diff-react_NA_NA.h5", makers.make_per_seed),
    "scalar": ("1D_Advection_Sols_beta0.1.hdf5", makers.make_scalar),
    "darcy": ("2D_DarcyFlow_beta1.0_Train.hdf5", makers.make_darcy),
    "flow": ("flow.h5", makers.make_flow),
    "incompressible": ("ns_incom.h5", makers.make_incompressible),
    "the_well": ("well/data/train/a.hdf5", makers.make_well),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_to_shards_and_to_the_well(tmp_path: Path, name: str) -> None:
    file, make = LAYOUTS[name]
    make(tmp_path / file)
    source = open_snapshots(tmp_path / file)
    convert(tmp_path / file, tmp_path / "s", "shards")
    assert_same(open_snapshots(tmp_path / "s"), source)
    if name == "per seed":  # u and v are no components of a vector: they become fields of their own
        source = xr.Dataset({f"data_{c}": source.data.sel(channel=c, drop=True) for c in "uv"})
    convert(tmp_path / file, tmp_path / "w", "the_well")
    well = open_snapshots(tmp_path / "w")
    for key in source.data_vars:
        np.testing.assert_array_equal(well[key].transpose(*source[key].dims).values, source[key].values)


@pytest.mark.parametrize("name", ["per seed", "scalar", "darcy", "flow"])
def test_pdebench_families_survive_shards(tmp_path: Path, name: str) -> None:
    file, make = LAYOUTS[name]
    make(tmp_path / file)
    source = open_snapshots(tmp_path / file)
    convert(tmp_path / file, tmp_path / "s", "shards")
    convert(tmp_path / "s", tmp_path / "p", "pdebench")
    back = open_snapshots(tmp_path / "p", "pdebench")
    assert back.attrs["pdebench_family"] == source.attrs["pdebench_family"]
    assert_same(back, source)


def test_statistics_of_the_well_are_those_of_numpy(tmp_path: Path) -> None:
    makers.make_well(tmp_path / "a/data/train/a.hdf5")
    truth = open_snapshots(tmp_path / "a").load()
    convert(tmp_path / "a", tmp_path / "w", "the_well")
    found = read_yaml(tmp_path / "w" / "stats.yaml").tree
    a, velocity = truth.A.values.astype("f8"), truth.velocity.values.astype("f8")
    np.testing.assert_allclose(found["std"]["A"], a.std(), rtol=1e-12)
    np.testing.assert_allclose(found["rms"]["velocity"], np.sqrt((velocity**2).mean((0, 1, 3, 4))), rtol=1e-12)
    np.testing.assert_allclose(found["mean_delta"]["A"], np.diff(a, axis=1).mean(), rtol=1e-9, atol=1e-15)
    assert "height" not in found["mean_delta"]
    np.testing.assert_allclose(open_snapshots(tmp_path / "w").A.attrs["std"], a.std(), rtol=1e-12)
    assert "periodic" in open_snapshots(tmp_path / "w").attrs["boundary_conditions"]


@pytest.mark.parametrize("to", ["shards", "the_well", "pdebench"])
def test_side_by_side_the_files_are_the_same(tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a relative path, and where some files are there already."""
    monkeypatch.chdir(tmp_path)
    source, ds = "a", fields(12)
    shards(tmp_path / source, ds)
    alone = convert(source, Path("alone/x"), to, file_bytes=ds.nbytes // 5)
    with ThreadPoolExecutor(3) as executor:
        together = convert(source, Path("together/x"), to, file_bytes=ds.nbytes // 5, executor=executor)
        last = sorted(together.rglob("*.h*5"))[-1]
        last.unlink()
        then = {path: path.stat().st_mtime_ns for path in together.rglob("*.h*5")}
        convert(source, together, to, file_bytes=ds.nbytes // 5, executor=executor, resume=True)
    assert last.exists()
    assert len(then) > 2
    assert {path: path.stat().st_mtime_ns for path in then} == then
    files = [path.relative_to(alone) for path in alone.rglob("*") if path.is_file() and path.name[0] != "."]
    assert {path.suffix for path in files} >= {".h5" if to == "shards" else ".hdf5", ".json"}
    for file in files:
        assert (together / file).read_bytes() == (alone / file).read_bytes()


def hostile(path: Path, samples: int = 24) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(samples, 32, 32)).astype("f4")
    with h5py.File(path, "w") as file:
        file.create_dataset("u", data=values, chunks=(samples, 4, 4), compression="gzip")
    return values


LAYOUT = Mapping.model_validate({"variables": {"u": {"path": "u", "axes": ["sample", "y", "x"]}}})


def test_hostile_chunks_are_read_once_and_within_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = hostile(tmp_path / "a.h5")
    with pytest.raises(ResourceError, match=r"'u' is read in blocks of 0 MB .* give at least --memory 1MB"):
        convert(tmp_path / "a.h5", tmp_path / "s", "shards", layout=LAYOUT, memory_bytes=100_000)
    assert not (tmp_path / "s").exists()
    largest = []
    monkeypatch.setattr(module, "COPIES", 1)
    seen = module._Run.advance
    monkeypatch.setattr(module._Run, "advance", lambda job, count: (largest.append(count), seen(job, count)))
    convert(tmp_path / "a.h5", tmp_path / "s", "shards", layout=LAYOUT, memory_bytes=values.nbytes)
    np.testing.assert_array_equal(open_snapshots(tmp_path / "s").u, values)
    assert max(largest) <= values.nbytes


@pytest.mark.parametrize("chunks", [None, (3, 2, 5), (1, 4, 6), (7, 1, 1)])
@pytest.mark.parametrize("limit", [1, 100, 400, 10**6])
def test_blocks_cover_a_variable_once(chunks: tuple[int, ...] | None, limit: int) -> None:
    variable = xr.Variable(("sample", "y", "x"), np.zeros((7, 4, 6), "f4"))
    lazy = variable if chunks is None else variable.chunk(dict(zip(variable.dims, chunks, strict=True)))
    count = np.zeros(variable.shape, int)
    for block in blocks(lazy, limit):
        count[block] += 1
        assert count[block].size * 4 <= max(limit, 4 * np.prod(chunks or 1))
    assert (count == 1).all()


def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shards(tmp_path / "a", fields(12))
    size = fields(12).nbytes // 12
    written: list[str] = []

    def stop(path: Path, ds: xr.Dataset, **options: object) -> object:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_shard(path, ds)

    monkeypatch.setattr(target, "write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "b", "shards", file_bytes=3 * size)
    assert not (tmp_path / "b" / MANIFEST).exists()
    with pytest.raises(ConfigError, match="exists already; give --overwrite"):
        convert(source, tmp_path / "b", "shards", file_bytes=3 * size)
    with pytest.raises(ConfigError, match="made from other data or with other settings"):
        convert(source, tmp_path / "b", "shards", file_bytes=6 * size, resume=True)
    with open(tmp_path / "b" / written[1], "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    done = []
    monkeypatch.setattr(target, "write_shard", lambda path, ds, **o: done.append(path.name) or write_shard(path, ds))
    convert(source, tmp_path / "b", "shards", file_bytes=3 * size, resume=True)
    assert done == ["b-00001.h5", "b-00002.h5", "b-00003.h5"]  # the damaged one and the missing ones
    assert read_manifest(tmp_path / "b").samples == 12
    assert_same(open_snapshots(tmp_path / "b"), fields(12))


@pytest.mark.parametrize("to", ["shards", "the_well", "pdebench"])
def test_what_reads_back_differently_never_becomes_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    source = shards(tmp_path / "a", fields())
    real = h5py.Dataset.__getitem__

    def flipped(dataset: h5py.Dataset, key: object) -> np.ndarray:
        values = real(dataset, key)
        return values + 1 if ".part" in dataset.file.filename else values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", flipped)
    with pytest.raises(ResourceError, match="reads back differently from what was written"):
        convert(source, tmp_path / "b", to)
    assert not [path for path in (tmp_path / "b").rglob("*") if path.suffix in (".h5", ".hdf5", ".json", ".part")]


FULL = """
import resource, signal, sys
from pathlib import Path
from surrogate.errors import ResourceError
from surrogate.data.convert import convert
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (0, 100, 3000, 9000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        convert(sys.argv[1], Path(sys.argv[2]) / str(limit), sys.argv[3])
    except ResourceError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(error, flush=True)
"""


@pytest.mark.parametrize("to", ["the_well", "pdebench"])
def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path, to: str) -> None:
    source = shards(tmp_path / "a", fields())
    run = forked.run("-c", FULL, str(source), str(tmp_path / "b"), to, folder=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.splitlines()) == 4
    assert "File too large; free some space" in run.stdout
    assert not list((tmp_path / "b").rglob("*.hdf5"))


@pytest.mark.parametrize(
    ("change", "to", "text"),
    [
        (lambda ds: ds.rename(x="r"), "pdebench", r"spatial axes are \['r', 'y'\], PDEBench has x, then y, then z"),
        (lambda ds: ds.drop_vars("v").isel(time=0), "pdebench", "'u' has the axes .*every variable needs sample"),
        (lambda ds: ds.assign(w=ds.u.isel(time=0)), "pdebench", "'w' has the axes"),
        (lambda ds: ds.drop_vars(["u", "v"]), "the_well", "no variable has a spatial axis"),
        (lambda ds: ds.assign_coords(group=("sample", ["a"] * 7)), "the_well", "the data have the group 'a'"),
        (lambda ds: ds, "well", "cannot convert to 'well'; did you mean 'the_well'"),
    ],
)
def test_refusals_say_why(tmp_path: Path, change, to: str, text: str) -> None:
    ds = target.encode_text(change(fields()).drop_vars("time", errors="ignore"))
    source = shards(tmp_path / "a", ds, 1)
    with pytest.raises((DataError, ConfigError), match=text):
        convert(source, tmp_path / "b", to)
    assert not (tmp_path / "b").exists()


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = shards(tmp_path / "a", fields())
    (source / ".surrogate").touch()
    with pytest.raises(ConfigError, match="holds the source itself"):
        convert(source, source, "shards", overwrite=True)
    assert_same(open_snapshots(source), fields())


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(shards(tmp_path / "a", fields()), tmp_path / "b", "shards", progress=lambda *now: seen.append(now))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(("text", "size"), [("512MB", 512_000_000), ("2 gb", 2 * 10**9), ("1.5KB", 1500)])
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "0MB", "-1MB", "5 parsec"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size; write a number and a unit"):
        read_size(text)


def test_the_layout_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("data: {path: a, layout: {variables: {u: {path: u, axes: [sample, x]}}}}\nmodel: {}\n")
    assert read_layout(path).variables["u"].axes == ("sample", "x")
    path.write_text("data: {layout: pdebench}")
    assert read_layout(path) == "pdebench"
    path.write_text("data: {path: a}")
    with pytest.raises(ConfigError, match=r"declares no data\.layout"):
        read_layout(path)
    path.write_text("data: {layout: {variables: {u: {axis: [x]}}}}")
    with pytest.raises(ConfigError, match=r"a.yaml:1: data.layout.variables.u.axis: unknown key"):
        read_layout(path)


# --- the command ------------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["surrogate", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, *capsys.readouterr()


def test_the_command_converts_and_inspects(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    values = hostile(tmp_path / "a.h5")
    Path("a.yaml").write_text("data: {layout: {variables: {u: {path: u, axes: [sample, y, x]}}}}\n")
    code, out, err = command(monkeypatch, capsys, "convert", "a.h5", "s", "--config", "a.yaml", "--memory", "64MB")
    assert (code, out, err) == (0, "s\n", "")
    np.testing.assert_array_equal(open_snapshots("s").u, values)
    code, out, _ = command(monkeypatch, capsys, "inspect", "s", "--json")
    found = json.loads(out)
    assert (code, found["layout"], found["sizes"]) == (0, "shards", {"sample": 24, "y": 32, "x": 32})
    assert found["memory_bytes"] == values.nbytes
    code, _, err = command(monkeypatch, capsys, "convert", "a.h5", "s", "--config", "a.yaml")
    assert code == 2
    assert "exists already; give --overwrite" in err
    code, _, err = command(monkeypatch, capsys, "convert", "s", "w", "--to", "the_well", "--layout", "shards")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--layout", "pdebnch"], 2, "--layout: no layout 'pdebnch'; did you mean 'pdebench'?"),
        (["--layout", "pdebench"], 3, "is not in PDEBench's layout"),
        (["--layout", "auto", "--config", "a.yaml"], 2, "give one of them"),
        (["--config", "none.yaml"], 2, "cannot read configuration none.yaml"),
        (["--memory", "much"], 2, "'much' is no size"),
        (["--to", "zarr"], 2, "cannot convert to 'zarr'; choose one of shards, the_well, pdebench"),
        ([], 3, "does not name the axes of 'u'"),
    ],
)
def test_bad_commands_are_one_line(tmp_path: Path, monkeypatch, capsys, arguments, code, text) -> None:
    monkeypatch.chdir(tmp_path)
    hostile(tmp_path / "a.h5")
    found, _, err = command(monkeypatch, capsys, "convert", "a.h5", "s", *arguments)
    assert found == code
    assert text in err
    assert len(err.splitlines()) == 1
    assert not Path("s").exists()
