"""Run commands in forks of one process, under a fault or until a kill: run as a program by its tests.

    python commands.py FOLDER < jobs.json

A job is `{"arguments": [...], "fault": NAME, "seconds": NUMBER, "signal": NUMBER}`; with seconds the fork gets a signal
after that time, SIGKILL unless another is given. A line of JSON about each job tells its exit code, what it wrote to
standard error, and how long it took.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import surrogate.prediction
import surrogate.simulate.generate
import surrogate.workflows  # noqa: F401
from surrogate.cli import main as command_line

CONFIG = """
name: small
data: {path: data.nc, inputs: [a], targets: [u], split: {validation: 4, test: 4, seed: 1}}
model: {family: convnet, width: 2, depth: 1}
optimizer: {name: adam}
training: {epochs: 2, batch_size: 5, device: cpu}
"""
NUMBERS = CONFIG.replace("data.nc", "numbers.nc").replace("family: convnet, width: 2", "family: mlp, width: 2")
STUDY = "study: {kind: learning_curve, axes: {data.split.train: [4, 8]}, seeds: [0]}\n"


def make_inputs() -> None:
    """Write data, a configuration and a study into the working directory."""
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    xr.Dataset(dict.fromkeys("au", (("sample", "x"), a))).to_netcdf("data.nc", engine="h5netcdf")
    xr.Dataset({"a": ("sample", a[:, 0]), "u": ("sample", a[:, 1])}).to_netcdf("numbers.nc", engine="h5netcdf")
    Path("small.yaml").write_text(CONFIG)
    Path("numbers.yaml").write_text(NUMBERS)
    Path("study.yaml").write_text(CONFIG + STUDY)


def full_disk() -> None:
    """Let files grow to 2 kB and no further."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, resource.RLIM_INFINITY))


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def closed_stderr() -> None:
    os.close(2)
    sys.stderr = None  # type: ignore[assignment]


def full_stderr() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def no_threads() -> None:
    """Leave no further thread or process to this one, of whom root has any number: its real user becomes nobody."""
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.getuid() == 0:
        os.setresuid(65534, 0, 0)
        os.access = functools.partial(os.access, effective_ids=True)  # who may read is no matter of this fault
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the sets, this process
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; of 32 capabilities each, twice
        assert libc.capget(header, sets) == 0
        for number in (21, 24):  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
            sets[0] &= ~(1 << number)
        assert libc.capset(header, sets) == 0


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "full disk": full_disk,
    "64 descriptors": few_descriptors,
    "closed stderr": closed_stderr,
    "full stderr": full_stderr,
    "broken pipe": broken_pipe,
    "no threads": no_threads,
}


def run(job: dict, number: int) -> dict:
    """Run a job in a fork."""
    told, began = Path(f"stderr-{number}.txt"), time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.argv = ["surrogate", *job["arguments"]]
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
            FAULTS[job.get("fault", "none")]()
            command_line()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, AttributeError):
                    code = code or 120
            os._exit(code)
    if "seconds" in job:
        time.sleep(job["seconds"])
        os.kill(child, job.get("signal", signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    took = time.monotonic() - began
    text = told.read_text(errors="replace") if told.exists() else ""
    told.unlink(missing_ok=True)
    return {**job, "code": os.waitstatus_to_exitcode(status), "stderr": text, "took": took}


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    torch.set_num_threads(1)
    make_inputs()
    for number, line in enumerate(sys.stdin):
        print(json.dumps(run(json.loads(line), number)), flush=True)
