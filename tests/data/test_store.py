"""Shards round-trip through xarray, HDF5 and a memory map; manifests catch what was changed."""

from __future__ import annotations

import importlib.util
import json
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surrogate.data import store
from surrogate.data.hdf5 import writer
from surrogate.data.store import Failure, Manifest, read_manifest, verify, write_manifest, write_shard
from surrogate.errors import DataError

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"no {module}"))
    for name, module in (("h5netcdf", "h5netcdf"), ("netcdf4", "netCDF4"))
]


def example(samples: int = 5, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(2, samples, 3, 4, 6)).astype(np.float32)
    axes = ("sample", "time", "y", "x")
    return xr.Dataset(
        {
            "u": (axes, fields[0], {"units": "K", "long_name": "temperature"}),
            "v": (axes, fields[1], {"units": "µm s-1", "long_name": "a name in UTF-8: naïve"}),
            "diffusivity": (("sample",), rng.random(samples), {"units": "m2 s-1"}),
            "mask": (("y", "x"), rng.integers(0, 2, (4, 6)).astype(np.int8)),
            "gravity": ((), np.float64(9.81), {"units": "m s-2"}),
        },
        {
            "time": ("time", np.linspace(0, 1, 3), {"units": "s", "long_name": "time"}),
            "y": ("y", np.arange(4.0), {"units": "m"}),
            "x": ("x", np.arange(6.0), {"units": "m"}),
            "simulation": ("sample", 10 * np.arange(samples)),
        },
        {"title": "an example", "seed": 7, "weights": np.array([0.5, 0.25])},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two shards."""
    shards = [write_shard(tmp_path / f"example-{i:05d}.h5", example(seed=i)) for i in range(2)]
    write_manifest(tmp_path, Manifest(name="example", digest="0" * 64, samples=10, shards=shards))
    return tmp_path


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_xarray_reads_back_names_units_and_values(tmp_path: Path, engine: str) -> None:
    write_shard(tmp_path / "a.h5", example())
    with xr.open_dataset(tmp_path / "a.h5", engine=engine) as read:
        xr.testing.assert_identical(read.load(), example())
        assert read.u.dtype == np.float32


def test_every_variable_can_be_mapped_into_memory(tmp_path: Path) -> None:
    written = example()
    write_shard(tmp_path / "a.h5", written)
    with h5py.File(tmp_path / "a.h5") as file:
        for name in map(str, written.variables):
            data = file[name]
            assert data.chunks is None
            assert data.id.get_offset() % 64 == 0
            mapped = np.memmap(tmp_path / "a.h5", data.dtype, "r", data.id.get_offset(), data.shape)
            np.testing.assert_array_equal(mapped, written[name])
            assert [scale[0].name for scale in data.dims if len(scale)] == [
                f"/{dim}" for dim in written[name].dims if name not in written.dims
            ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", "<i4", ">i2", "<u8", "<i1"]),
    variables=st.sampled_from([1, 2, 3, 30]),
)
def test_any_numbers_round_trip(tmp_path: Path, shape: list[int], dtype: str, variables: int) -> None:
    dims = ["sample", "time", "z", "y", "x"][: len(shape)]
    values = (np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)
    written = xr.Dataset({f"v{i}": (dims, values + np.array(i, dtype)) for i in range(variables)})
    write_shard(tmp_path / "a.h5", written)
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as read:
        xr.testing.assert_identical(read.load(), written)
        assert read.v0.dtype == np.dtype(dtype).newbyteorder("<")


def test_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    """HDF5 keeps times in whole seconds unless told not to."""
    first = write_shard(tmp_path / "a.h5", example())
    time.sleep(1.1)
    assert write_shard(tmp_path / "a.h5", example()) == first


def test_layout_takes_little_memory_beside_the_data(tmp_path: Path) -> None:
    """The skeleton holds the metadata alone, however large the fields are."""
    big = xr.Dataset({name: (("sample", "x"), np.zeros((4, 10**6), np.float32)) for name in "abc"})
    skeleton, offsets, _, size = writer.lay_out(partial(store._declare, big, tmp_path / "a.h5"))
    assert sum(len(piece) for _, piece in skeleton.pieces) < 50_000
    assert size > 3 * 16 * 10**6
    assert sorted(offsets) == ["a", "b", "c"]


def test_lazy_variables_give_the_same_bytes(tmp_path: Path) -> None:
    loaded = write_shard(tmp_path / "a.h5", example(samples=7))
    lazy = write_shard(tmp_path / "b.h5", example(samples=7).chunk(sample=2, time=2, x=4), block_bytes=600, reread=True)
    assert loaded.sha256 == lazy.sha256


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (example(samples=0), "nothing to write to .*a.h5"),
        (xr.Dataset({"u": (("x",), np.ones(3))}), "nothing to write to .*a.h5"),
        (example().assign(name=("sample", list("abcde"))), "a.h5:name: it holds <U1, only real numbers"),
        (example().assign(z=("sample", np.ones(5) * 1j)), "a.h5:z: it holds complex128"),
        (example().rename(u="a/b"), "a.h5:a/b: a name with a slash"),
        (example().assign(flag=("sample", np.ones(5, bool))), "a.h5:flag: it holds bool"),
    ],
)
def test_what_cannot_be_stored_leaves_the_old_version(tmp_path: Path, broken: xr.Dataset, message: str) -> None:
    write_shard(tmp_path / "a.h5", example())
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(DataError, match=message):
        write_shard(tmp_path / "a.h5", broken)
    assert (tmp_path / "a.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


# --- manifest ---------------------------------------------------------------------------------------------------------


def test_manifest_round_trip(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest.samples == 10
    failed = manifest.model_copy(update={"failed": [Failure(simulation=3, parameters={"D": 0.5})]})
    write_manifest(folder, failed)
    assert read_manifest(folder) == failed


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_caught(folder: Path, place: float, bit: int) -> None:
    path = folder / "example-00001.h5"
    original = path.read_bytes()
    changed = bytearray(original)
    changed[int(place * len(changed))] ^= 1 << bit
    path.write_bytes(changed)
    with pytest.raises(DataError, match=r"example-00001.h5 was changed after it was written"):
        verify(folder)
    path.write_bytes(original)


def test_truncated_and_missing_shards_are_caught(folder: Path) -> None:
    path = folder / "example-00000.h5"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"example-00000.h5 has \d+ bytes, its manifest says \d+"):
        verify(folder)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*example-00000.h5: No such file"):
        verify(folder)


@pytest.mark.parametrize("name", ["../secret.h5", "/etc/passwd", "a/b.h5", "..", "a\\b.h5", ".hidden", "", "a\n.h5"])
def test_manifest_with_a_path_is_refused(folder: Path, name: str) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content["shards"][0]["file"] = name
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"(?s)shards.0.file: .*is not a plain file name"):
        verify(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[]", "the file: "),
        ("{}", "name: Field required"),
        ('{"version": 2}', "version: "),
        ('{"name": "a", "digest": "", "samples": 0, "shards": [], "extra": 1}', "extra: Extra inputs"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=f"manifest.json: .*{message}|manifest.json: {message}"):
        read_manifest(tmp_path)


def test_absent_and_huge_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"has no manifest.json: not a data set, or one not finished"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*manifest.json: Is a directory"):
        read_manifest(tmp_path)
    monkeypatch.setattr(store, "MANIFEST_BYTES", 10)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read_manifest(tmp_path)
