"""Damaged HDF5 files give the same values or one line with exit code 3; none ends the process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from surrogate.data.hdf5 import preflight
from surrogate.data.hdf5.array import open_file
from surrogate.data.inspect import describe
from surrogate.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("damaged_hdf5.py")
CASES = ROOT.parent / "shared" / "cases" / "faults"
KINDS = ("contiguous", "chunked", "gzip", "latest", "virtual", "netcdf", "well", "compound", "shards")
CHECKED = ("gzip", "shards")  # of which every value has a checksum


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))


def outcomes(kind: str, count: int, folder: Path) -> list[dict]:
    """Read damaged files in a child; in the next one after a file of which it died."""
    found, first = [], 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    while first < count:
        place = folder / f"{first}"
        place.mkdir()
        command = [sys.executable, str(PROGRAM), kind, str(first), str(count), str(place)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limited, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [line for line in lines if "what" in line]
        if done.returncode == 0:
            break
        assert lines, done.stderr
        found.append({"seed": lines[-1].get("begin", lines[-1].get("seed")), "died": done.returncode})
        first = found[-1]["seed"] + 1
    return found


def fault(kind: str, found: dict) -> str:
    """Return what is wrong with an outcome; empty where nothing is."""
    line = found.get("line")
    if line is not None:
        return "" if found["code"] == 3 and found["ours"] and "\n" not in line and len(line) < 2000 else line
    if "result" not in found:
        return str(found)
    differs = found["what"] == "read" and kind in CHECKED and found["result"] != found["whole"]
    return "other values" if differs else ""


@pytest.mark.parametrize("count", [pytest.param(12, id="12"), pytest.param(334, marks=pytest.mark.slow, id="334")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, kind: str, count: int) -> None:
    found = outcomes(kind, count, tmp_path)
    assert [entry | {"fault": fault(kind, entry)} for entry in found if fault(kind, entry)] == []
    assert len(found) == 2 * count


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
    with pytest.raises(DataError, match=rf"a\.h5: the HDF5 library .*{what}.*damaged"), open_file(write(tmp_path / "a.h5")):
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
    with pytest.raises(DataError, match=r"a\.h5: cannot be read \(.*'absent' doesn't exist.*\); it may be damaged"):
        with open_file(tmp_path / "a.h5") as file:
            file["absent"]


@pytest.mark.parametrize("path", sorted(CASES.glob("*")), ids=lambda path: path.name)
def test_files_that_ended_the_process_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="damaged: copy or write it again"):
        describe(path)
