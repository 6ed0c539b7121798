"""Writing survives a full disk and kill -9: what is visible is whole."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import xarray as xr

from surrogate import files
from surrogate.data.store import verify, write_shard
from surrogate.errors import ResourceError
from surrogate.files import sha256
from surrogate.simulate.generate import Recipe, generate, load_recipe

SCRIPT = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np, xarray as xr
from surrogate.errors import ResourceError
from surrogate.data.store import write_shard
from surrogate.files import sha256

def example(samples, value):
    return xr.Dataset({name: (("sample", "x"), np.full((samples, 1000), value, "f4")) for name in "uv"})

folder, messages = Path(sys.argv[1]), []
write_shard(folder / "a.h5", example(5, 1.0))
before = sha256(folder / "a.h5")

def attempt():
    try:
        write_shard(folder / "a.h5", example(50, 2.0))
    except ResourceError as error:
        messages.append(str(error))
"""

NO_DISK = 77
SMALL_DISK = f"""
import ctypes, os, sys
libc, user, group = ctypes.CDLL(None), os.getuid(), os.getgid()
if libc.unshare(0x10000000 | 0x20000):  # CLONE_NEWUSER | CLONE_NEWNS, as `unshare -rm`
    sys.exit({NO_DISK})
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {{user}} 1"), ("gid_map", f"0 {{group}} 1")):
    with open(f"/proc/self/{{name}}", "w") as file:
        file.write(text)
libc.mount(None, b"/", None, 0x4000 | 0x40000, None)  # MS_REC | MS_PRIVATE
if libc.mount(b"tmpfs", os.path.abspath(sys.argv[1]).encode(), b"tmpfs", 0, b"size=300k"):
    sys.exit({NO_DISK})
"""

SIZE_LIMITS = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in [0, 1, 100, 1000, 2048, 4096, 10_000, 100_000, 200_000, 300_000, 400_000]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    attempt()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""

FULL_DISK = """
attempt()
os.posix_fallocate = lambda *size: None
attempt()
"""

REPORT = """
visible, intact = sorted(path.name for path in folder.iterdir()), sha256(folder / "a.h5") == before
write_shard(folder / "b.h5", example(5, 3.0))
print(json.dumps({"messages": messages, "visible": visible, "intact": intact}))
"""


def report(run: forked.Ended) -> dict[str, Any]:
    """What the script found, if its process lived to tell."""
    assert (run.returncode, run.stderr) == (0, "")
    return json.loads(run.stdout)


def example(value: float) -> xr.Dataset:
    return xr.Dataset({"u": (("sample", "x"), np.full((50, 1000), value, np.float32))})


def test_file_size_limit_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    """The kernel refuses every size of write; the process lives, the old version stays, and later writes work."""
    (tmp_path / "data").mkdir()
    found = report(forked.run("-c", SCRIPT + SIZE_LIMITS + REPORT, "data", folder=tmp_path))
    assert len(found["messages"]) == 11
    assert all("a.h5: File too large; free some space" in text for text in found["messages"])
    assert (found["visible"], found["intact"]) == (["a.h5"], True)
    assert float(xr.load_dataset(tmp_path / "data" / "b.h5", engine="h5netcdf").v.min()) == 3.0


def test_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    """A real disk of 300 kB, filled with and without reserving room first."""
    (tmp_path / "data").mkdir()
    done = forked.run("-c", SMALL_DISK + SCRIPT + FULL_DISK + REPORT, "data", folder=tmp_path)
    if done.returncode == NO_DISK:
        pytest.skip("no small disk can be mounted here")
    found = report(done)
    assert len(found["messages"]) == 2
    assert all("a.h5: No space left on device; free some space" in text for text in found["messages"])
    assert (found["visible"], found["intact"]) == (["a.h5"], True)


def test_full_disk_when_room_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "a.h5", example(1.0))

    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match=r"a.h5: No space left on device; free some space"):
        write_shard(tmp_path / "a.h5", example(2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert float(xr.load_dataset(tmp_path / "a.h5", engine="h5netcdf").u.max()) == 1.0


@pytest.mark.parametrize("reason", [errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_that_cannot_reserve_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    usual = write_shard(tmp_path / "a.h5", example(1.0))

    def unsupported(descriptor: int, offset: int, size: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert write_shard(tmp_path / "a.h5", example(1.0)) == usual
    monkeypatch.delattr(os, "posix_fallocate")
    assert write_shard(tmp_path / "a.h5", example(1.0)) == usual
    assert sha256(tmp_path / "a.h5") == usual.sha256


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(ResourceError, match=r"a.h5: Permission denied"):
            write_shard(tmp_path / "a.h5", example(1.0))
    finally:
        tmp_path.chmod(0o755)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


SIZE = ["simulations=40", "shard=2", "grid=[24, 24]", "snapshots=8"]


def recipe(*more: str) -> Recipe:
    return load_recipe("convection_diffusion", [f"sizes.tiny.{entry}" for entry in SIZE] + list(more))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = generate(recipe(), "tiny", tmp_path_factory.mktemp("undisturbed") / "data")
    return {shard.file: shard.sha256 for shard in verify(output).shards}


def check_visible(output: Path, undisturbed: dict[str, str]) -> None:
    """Every visible shard is the whole shard of an undisturbed run, and a manifest stands for all of them."""
    for path in output.glob("*.h5"):
        assert sha256(path) == undisturbed[path.name]
    if (output / "manifest.json").exists():
        assert {shard.file: shard.sha256 for shard in verify(output).shards} == undisturbed


def test_killed_at_random_moments(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    chance, output, killed, shards = random.Random(0), tmp_path / "data", 0, 0
    while not (output / "manifest.json").exists():
        process = forked.CONTEXT.Process(target=generate, args=(recipe(), "tiny", output), kwargs={"resume": True})
        process.start()
        before = {path.name for path in output.glob("*.h5")}
        while process.is_alive() and {path.name for path in output.glob("*.h5")} == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.04))
        process.kill()
        process.join()
        killed += process.exitcode == -9
        check_visible(output, undisturbed)
        shards = max(shards, len(list(output.glob("*.h5"))))
    assert killed >= 2
    assert shards == len(undisturbed)
    generate(recipe(), "tiny", output, resume=True)
    check_visible(output, undisturbed)
    assert not list(output.glob(".*.part"))


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGUSR1, signal.SIGINT))],
)
def test_a_signal_ends_a_run_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "data"
    size = ["--set=sizes.tiny.simulations=5000", "--set=sizes.tiny.shard=10"]
    words = ["simulate", "convection_diffusion", "--size", "tiny", *size, "--output", str(output)]
    process = forked.start("-m", "surrogate", *words, folder=tmp_path)
    while process.is_alive() and not list(output.glob("*.h5")):
        time.sleep(0.01)
    os.kill(process.pid, number)
    ended = forked.end(process, tmp_path)
    assert ended.returncode == 75
    said = ended.stderr.splitlines()[-1]
    assert said.startswith(f"error: stopped by {number.name}; what is finished is kept: continue with")
    assert not list(output.glob(".*.part"))
    assert not (output / "manifest.json").exists()


@pytest.mark.slow
def test_killed_at_random_moments_with_two_workers(tmp_path: Path) -> None:
    """The command itself, killed while its workers write; they end with it and the next run takes over at once."""
    size = ["simulations=60", "shard=2", "grid=[96, 96]", "snapshots=21"]
    longer = load_recipe("convection_diffusion", [f"sizes.tiny.{entry}" for entry in size])
    alone = verify(generate(longer, "tiny", tmp_path / "alone"))
    undisturbed = {shard.file: shard.sha256 for shard in alone.shards}
    output, chance, killed = tmp_path / "data", random.Random(1), 0
    command = [sys.executable, "-m", "surrogate", "simulate", "convection_diffusion", "--size", "tiny", "--resume"]
    command += [f"--set=sizes.tiny.{entry}" for entry in size] + ["--workers", "2", "--output", str(output)]
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = {path.name for path in output.glob("*.h5")}
        while process.poll() is None and {path.name for path in output.glob("*.h5")} == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        killed += process.wait() == -9
        check_visible(output, undisturbed)
    assert killed >= 2
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check_visible(output, undisturbed)
    assert (output / "manifest.json").exists()
    assert not list(output.glob(".*.part"))


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("allowed", range(8))
def test_stopped_before_every_rename(
    tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """Three shards take eight renames: the recipe, a shard and its note three times, the manifest."""
    rename, output, left = os.replace, tmp_path / "data", [None] * allowed
    short = recipe("sizes.tiny.simulations=6")

    def dying(source: Path, target: Path) -> None:
        if not left:
            raise Killed
        left.pop()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", dying)
        with pytest.raises(Killed):
            generate(short, "tiny", output)
    check_visible(output, undisturbed)
    assert len(list(output.glob("*.h5"))) == allowed // 2
    manifest = verify(generate(short, "tiny", output, resume=True))
    assert [shard.sha256 for shard in manifest.shards] == list(undisturbed.values())[:3]
