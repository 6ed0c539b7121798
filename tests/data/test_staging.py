"""A copy on the node is whole or absent, made once, and the same data."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr

from surrogate.data import open_snapshots
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.data.staging import _key, stage
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.errors import DataError, ResourceError

COPY = """
import os, sys, time; from pathlib import Path; from surrogate.data.staging import stage
Path(f"ready-{os.getpid()}").touch()
while not Path("go").exists(): time.sleep(0.001)
print(stage(sys.argv[1], Path(sys.argv[2])))
"""


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
    file = tmp_path / "alone" / "a-0.h5"  # no manifest says what is in it
    file.parent.mkdir()
    file.write_bytes((shards / "a-0.h5").read_bytes())
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


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_two_processes_at_once_make_one_copy(shards: Path, tmp_path: Path) -> None:
    words = ("-c", COPY, str(shards), str(tmp_path / "node"))
    both = {log: forked.start(*words, folder=tmp_path, log=log) for log in ("one", "two")}
    wait(lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    (tmp_path / "go").touch()
    answers = [forked.end(process, tmp_path, log) for log, process in both.items()]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout
    assert len(copies(tmp_path / "node")) == 1


def test_a_kill_while_copying_leaves_no_copy_and_the_next_makes_it(shards: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data" / "b.h5")  # the copy comes to it and waits
    node = tmp_path / "node"
    values = (shards / "a-0.h5").read_bytes()
    code = "import sys; from pathlib import Path; from surrogate.data.staging import _copy_all\n"
    code += "source, node = map(Path, sys.argv[1:])\n"
    code += "_copy_all([source / 'a-0.h5', source / 'b.h5'], source, node / 'copy', {})"
    node.mkdir()
    process = forked.start("-c", code, str(shards), str(node), folder=tmp_path)
    part = node / ".copy.part" / "a-0.h5"
    wait(lambda: part.exists() and part.stat().st_size == len(values))
    process.kill()
    process.join()
    (shards / "b.h5").unlink()
    assert not (node / "copy").exists()
    (node / ".copy.part").rename(node / f".surrogate-{_key(find_files(shards))}.part")
    copy = Path(stage(str(shards), node))
    assert (copy / "a-0.h5").read_bytes() == values
    assert copies(node) == [copy.name]
