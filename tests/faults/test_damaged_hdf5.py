"""Damaged HDF5 files give the same values or one line with exit code 3; none ends the process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import forked
import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.data import open_snapshots, verified
from surrogate.data.convert import convert
from surrogate.data.hdf5 import preflight
from surrogate.data.hdf5.array import open_file
from surrogate.data.inspect import describe
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.errors import DataError
from surrogate.workflows import run_file

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("damaged_hdf5.py")
CASES = ROOT.parent / "shared" / "cases" / "faults"
KINDS = ("contiguous", "chunked", "gzip", "latest", "virtual", "netcdf", "well", "compound", "shards")
CHECKED = ("gzip", "shards")  # of which every value has a checksum


def outcomes(kinds: Sequence[str], count: int, folder: Path) -> list[dict]:
    """Read damaged files in a child; in the next one after a file of which it died."""
    found, jobs, number = [], [f"{kind}:0:{count}" for kind in kinds], 0
    while jobs:
        place = folder / f"{number}"
        place.mkdir()
        number += 1
        done = forked.run(str(PROGRAM), str(place), *jobs, folder=place)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [line for line in lines if "what" in line]
        if done.returncode == 0:
            break
        assert lines, done.stderr
        kind, seed = lines[-1]["kind"], lines[-1]["seed"]
        found.append({"kind": kind, "seed": seed, "died": done.returncode})
        jobs = [f"{kind}:{seed + 1}:{count}", *(f"{other}:0:{count}" for other in kinds[kinds.index(kind) + 1 :])]
    return found


def fault(found: dict) -> str:
    """Return what is wrong with an outcome; empty where nothing is."""
    line = found.get("line")
    if line is not None:
        return "" if found["code"] == 3 and found["ours"] and "\n" not in line and len(line) < 2000 else line
    if "result" not in found:
        return str(found)
    differs = found["what"] == "read" and found["kind"] in CHECKED and found["result"] != found["whole"]
    return "other values" if differs else ""


def check(kinds: Sequence[str], count: int, folder: Path) -> None:
    found = outcomes(kinds, count, folder)
    assert [entry | {"fault": fault(entry)} for entry in found if fault(entry)] == []
    assert len(found) == 2 * count * len(kinds)


def test_36_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    check(KINDS, 4, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_3006_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    check([kind], 334, tmp_path)


def write(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["u"] = np.ones(3)
    return path


@pytest.mark.parametrize(("number", "what"), [(signal.SIGABRT, "ends with SIGABRT"), (signal.SIGPROF, "without end")])
def test_a_file_of_which_the_library_dies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    monkeypatch.setattr(preflight._Reader, "current", None)
    monkeypatch.setattr(preflight, "_read", lambda name: os.kill(os.getpid(), number))
    with (
        pytest.raises(DataError, match=rf"a\.h5: the HDF5 library .*{what}.*damaged"),
        open_file(write(tmp_path / "a.h5")),
    ):
        pass
    monkeypatch.undo()
    with open_file(write(tmp_path / "b.h5")) as file:
        assert list(file) == ["u"]


def test_a_child_that_somebody_ends_says_nothing_about_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight._Reader, "current", None)
    monkeypatch.setattr(preflight, "_read", lambda name: os.kill(os.getpid(), signal.SIGTERM))
    with open_file(write(tmp_path / "a.h5")) as file:
        assert list(file) == ["u"]


def test_errors_of_our_own_are_not_taken_for_damage(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="ours"), open_file(write(tmp_path / "a.h5")):
        {}["ours"]
    refused = pytest.raises(DataError, match=r"a\.h5: cannot be read \(.*'absent' doesn't exist.*\); it may be damaged")
    with refused, open_file(tmp_path / "a.h5") as file:
        file["absent"]


CONFIG = """
name: damaged
data: {{path: {path}, inputs: [u], targets: [u]}}
model: {{family: convnet, width: 2, depth: 1}}
optimizer: {{name: adam}}
"""


@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
def test_files_that_ended_the_process_are_refused(tmp_path: Path, path: Path) -> None:
    with contextlib.suppress(DataError):  # whether the library dies of a file depends on the content of memory
        describe(path)
    config = tmp_path / "damaged.yaml"
    config.write_text(CONFIG.format(path=path))
    options = {"command": "", "resume": False, "overwrite": False}
    doors = (
        lambda: open_snapshots(path),
        lambda: convert(path, tmp_path / "out", "shards"),
        lambda: run_file(config, [], tmp_path / "out", print, **options),
    )
    for door in doors:
        with pytest.raises(DataError, match="damaged: copy or write it again") as caught:
            door()
        assert "\n" not in str(caught.value)


def test_a_damaged_shard_is_noticed_though_its_size_and_time_are_the_same(tmp_path: Path) -> None:
    u = np.arange(12.0).reshape(4, 3)
    shard = write_shard(tmp_path / "a.h5", xr.Dataset({"u": (("sample", "x"), u)}))
    write_manifest(tmp_path, Manifest(name="a", digest="0", samples=4, shards=[shard]))
    np.testing.assert_array_equal(open_snapshots(tmp_path).u, u)
    before = os.stat(tmp_path / "a.h5")
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[-1] ^= 1
    with open(tmp_path / "a.h5", "r+b") as file:
        file.write(content)
    os.utime(tmp_path / "a.h5", ns=(before.st_atime_ns, before.st_mtime_ns))
    for paths in (tmp_path, tmp_path / "a.h5", str(tmp_path / "*.h5"), [tmp_path / "a.h5"]):
        with pytest.raises(DataError, match=r"a\.h5 was changed after it was written \(SHA-256 differs\)"):
            open_snapshots(paths)


def test_an_unchanged_shard_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(tmp_path / "a.h5", xr.Dataset({"u": (("sample", "x"), np.ones((4, 3)))}))
    write_manifest(tmp_path, Manifest(name="a", digest="0", samples=4, shards=[shard]))
    read = []
    monkeypatch.setattr(verified, "check_shard", lambda folder, shard: read.append(shard.file))
    for _ in range(2):
        open_snapshots(tmp_path)
        verified._verified.clear()  # as in another process
    assert read == ["a.h5"]
    next(tmp_path.glob(".verified-*")).write_text("{")
    open_snapshots(tmp_path)
    assert read == ["a.h5", "a.h5"]
