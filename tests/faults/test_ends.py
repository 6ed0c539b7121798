"""How commands end when memory, the output or a signal fails: one line and the documented exit code, never silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from surrogate.cli import main
from surrogate.errors import ConfigError, DataError, brief, failure_of
from surrogate.experiment.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: ends
data: {path: data.nc, inputs: [a], targets: [u], split: {validation: 4, test: 4, seed: 1}}
model: {family: convnet, width: 4, depth: 1}
optimizer: {name: adam}
training: {epochs: 1, batch_size: 5, device: cpu}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    xr.Dataset(dict.fromkeys("au", (("sample", "x"), a))).to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    (tmp_path / "ends.yaml").write_text(CONFIG)
    return tmp_path


def surrogate(folder: Path, *arguments: str, **streams: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "surrogate", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, check=False, **streams)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("command", "stream"),
    [
        ("train", "stderr"),
        pytest.param("train", "stdout", marks=pytest.mark.slow),
        pytest.param("run", "stdout", marks=pytest.mark.slow),
        pytest.param("run", "stderr", marks=pytest.mark.slow),
    ],
)
def test_work_is_done_though_its_progress_cannot_be_written(folder: Path, command: str, stream: str) -> None:
    (folder / f".{stream}").symlink_to("/dev/full")
    process = forked.start("-m", "surrogate", command, "ends.yaml", "--output", "out", folder=folder)
    process.join()
    assert process.exitcode == 0
    run = RunFolder(folder / "out" if command == "train" else folder / "out" / "cases" / "main")
    assert run.begun()["train_seconds"] is not None
    assert run.evaluation.path.is_dir() == (command == "run")


@pytest.mark.slow
def test_work_is_done_though_nobody_reads_its_output(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        done = surrogate(folder, "run", "ends.yaml", "--output", "out", stdout=broken, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert (folder / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory; lower"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"), "lower"),
        (RuntimeError("std::bad_alloc"), "out of memory: std::bad_alloc; lower training.batch_size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"), "out of memory: CUDA out of memory"),
        (RuntimeError("can't start new thread"), "can't start new thread; raise the limit of processes"),
        (OSError(28, "No space left on device", "x"), "x: No space left on device; check space"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_exhausted_resources_are_one_line_and_exit_code_5(error: BaseException, message: str) -> None:
    failure = failure_of(error)
    assert failure is not None
    text, code = failure
    assert (code, "\n" in text) == (5, False)
    assert message in text


def test_a_defect_of_the_program_is_not_taken_for_an_exhausted_resource() -> None:
    assert failure_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert failure_of(KeyError("memory")) is None


def test_memory_that_torch_cannot_allocate_ends_a_command_in_one_line(folder: Path) -> None:
    words = ["train", "ends.yaml", "--output", "out", "--set", "model.width=900000"]
    done = forked.run("-m", "surrogate", *words, folder=folder)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("error: out of memory: ")
    assert done.stderr.count("\n") == 1


@given(
    st.lists(st.text(max_size=20).map(lambda text: text * 200), max_size=30),
    st.sampled_from([ConfigError, DataError, lambda text: OSError(28, "No space left on device", text), MemoryError]),
)
def test_no_message_is_longer_than_2000_letters(lines: list[str], make: Callable[[str], Exception]) -> None:
    text, _ = failure_of(make("\n".join(lines)))
    printed = [f"error: {line}" for line in text.splitlines()]
    assert len("\n".join(printed)) <= 2000
    assert brief(text) == text or len(brief(text)) <= 2000


LONG = "x" * 3000


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", f"{LONG}.h5"],
        ["train", "ends.yaml", "--set", f"data.inputs=[{LONG}]"],
        ["train", "ends.yaml", "--set", f"{LONG}=1"],
        ["train", "ends.yaml", f"--{LONG}"],
        [LONG],
        ["run", LONG],
        ["predict", LONG, "data.nc"],
        ["simulate", "peaks", "--size", LONG],
        ["simulate", "peaks", "--batch", LONG],
        ["evaluate", LONG],
        ["report", LONG],
        ["convert", "data.nc", LONG],
        ["export", LONG],
        ["slurm", "render", LONG],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "...")[:40],
)
def test_a_long_word_makes_no_long_message(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surrogate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr().err
    assert ended.value.code in (2, 3, 5)
    assert 0 < len(said) <= 2100
    assert "Traceback" not in said


INTERRUPTED = """
import os, signal, sys, time, weakref
from surrogate.errors import Interrupted
from surrogate.runtime.launch import interruptible

class Thing: pass

def callback(_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)  # the handler runs here

try:
    with interruptible():
        ARRIVES
        time.sleep(20)
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""
DROPPED = "thing = Thing(); reference = weakref.ref(thing, callback); del thing"
CAUGHT = """
        try:
            callback(None)
        except Exception:
            pass
"""


@pytest.mark.parametrize("arrives", [DROPPED, CAUGHT], ids=["in a weakref callback", "where a library catches errors"])
def test_no_signal_is_lost(arrives: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", INTERRUPTED.replace("ARRIVES", arrives)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (75, "")
    assert signal.SIGTERM.name in done.stdout
