"""A copy on the node is whole or absent, made once, and the same data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from surrogate.data import open_snapshots
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.data.staging import _key, stage
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.errors import DataError, ResourceError

ROOT = Path(__file__).resolve().parents[2]
COPY = "import sys; from pathlib import Path; from surrogate.data.staging import stage\n"
COPY += "print('ready', flush=True); sys.stdin.readline(); print(stage(sys.argv[1], Path(sys.argv[2])))"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    fields = np.random.default_rng(0).normal(size=(6, 4, 4)).astype("f4")
    written = [
        write_shard(folder / f"a-{n}.h5", xr.Dataset({"u": (("sample", "y", "x"), fields[3 * n : 3 * n + 3])}))
        for n in range(2)
    ]
    write_manifest(folder, Manifest(name="a", digest="0", samples=6, shards=written))
    return folder


def copies(node: Path) -> list[str]:
    return sorted(path.name for path in node.glob("*") if not path.name.endswith(".lock"))


@pytest.mark.parametrize("form", ["folder", "file", "glob"])
def test_a_copy_holds_the_same_data(form: str, shards: Path, tmp_path: Path) -> None:
    path = str({"folder": shards, "file": shards / "a-1.h5", "glob": shards / "a-*.h5"}[form])
    copy = stage(path, tmp_path / "node")
    assert copy.startswith(str(tmp_path / "node"))
    assert fingerprint(find_files(copy)) == fingerprint(find_files(path))
    xr.testing.assert_identical(open_snapshots(copy).load(), open_snapshots(path).load())


def test_a_copy_is_made_once(shards: Path, tmp_path: Path) -> None:
    first = Path(stage(str(shards), tmp_path / "node"))
    before = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    assert Path(stage(str(shards), tmp_path / "node")) == first
    assert {file: file.stat().st_mtime_ns for file in first.iterdir()} == before


def test_changed_data_are_copied_anew(shards: Path, tmp_path: Path) -> None:
    file = shards / "a-0.h5"
    first = stage(str(file), tmp_path / "node")
    values = bytearray(file.read_bytes())
    values[-1] ^= 1
    file.write_bytes(values)
    second = stage(str(file), tmp_path / "node")
    assert second != first
    assert Path(second).read_bytes() == bytes(values)


def test_a_damaged_shard_is_not_copied(shards: Path, tmp_path: Path) -> None:
    values = bytearray((shards / "a-0.h5").read_bytes())
    values[-1] ^= 1
    (shards / "a-0.h5").write_bytes(values)
    with pytest.raises(DataError, match=r"a-0\.h5 was changed after it was written"):
        stage(str(shards), tmp_path / "node")
    assert copies(tmp_path / "node") == []


def test_a_node_too_small_leaves_the_data_where_they_are(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.warns(UserWarning, match="0 MB free, the data take .* they are read from"):
        assert stage(str(shards), tmp_path / "node") == str(shards)
    assert copies(tmp_path / "node") == []


def test_a_folder_that_cannot_be_written_is_one_line(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="choose another --stage"):
        stage(str(shards), tmp_path / "file")


def start(source: Path, node: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COPY, str(source), str(node)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_make_one_copy(shards: Path, tmp_path: Path) -> None:
    both = [start(shards, tmp_path / "node") for _ in range(2)]
    answers = [process.communicate("\n", timeout=60)[0] for process in both]
    assert answers[0] == answers[1]
    assert len(copies(tmp_path / "node")) == 1


def test_a_kill_while_copying_leaves_no_copy_and_the_next_makes_it(shards: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data" / "b.h5")  # the copy comes to it and waits
    node = tmp_path / "node"
    values = (shards / "a-0.h5").read_bytes()
    code = f"import surrogate.data.staging as s\n{COPY}"
    code = code.replace("stage(sys.argv[1]", "s._copy_all([Path(sys.argv[1]) / n for n in ('a-0.h5', 'b.h5')], "
                        "Path(sys.argv[1]), Path(sys.argv[2]) / 'copy', {}) and stage(sys.argv[1]")  # fmt: skip
    node.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(shards), str(node)], env=environment, stdin=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    part = node / ".copy.part" / "a-0.h5"
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == len(values)):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (shards / "b.h5").unlink()
    assert not (node / "copy").exists()
    (node / ".copy.part").rename(node / f".surrogate-{_key(find_files(shards))}.part")
    copy = Path(stage(str(shards), node))
    assert (copy / "a-0.h5").read_bytes() == values
    assert copies(node) == [copy.name]
