"""Every command under a full disk, a read-only output, lost streams, few descriptors, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import zipfile
from collections.abc import Iterator
from math import inf
from pathlib import Path
from signal import SIGKILL

import forked
import numpy as np
import pytest
import xarray as xr

from surrogate.data.store import verify
from surrogate.errors import SurrogateError
from surrogate.experiment.run_folder import RunFolder
from surrogate.files import sha256
from surrogate.models.surrogate import Surrogate

PROGRAM = str(Path(__file__).with_name("commands.py"))
CONFIG = """
name: small
data: {path: data.nc, inputs: [a], targets: [u], split: {validation: 4, test: 4, seed: 1}}
model: {family: convnet, width: 2, depth: 1}
optimizer: {name: adam}
training: {epochs: 2, batch_size: 5, device: cpu}
"""
NUMBERS = CONFIG.replace("data.nc", "numbers.nc").replace("family: convnet, width: 2", "family: mlp, width: 2")
STUDY = "study: {kind: learning_curve, axes: {data.split.train: [4, 8]}, seeds: [0]}\n"
READ_ONLY = "/sys" if os.getuid() == 0 else "/"  # in which not even root makes a file
COMMANDS = {
    "simulate": ["simulate", "peaks", "--size", "tiny", "--output", "OUT"],
    "card": ["simulate", "peaks", "--size", "tiny", "--card", "OUT"],
    "inspect": ["inspect", "data.nc", "--write-config", "OUT.yaml"],
    "convert": ["convert", "data.nc", "OUT"],
    "train": ["train", "small.yaml", "--output", "OUT"],
    "run": ["run", "small.yaml", "--output", "OUT"],
    "study": ["run", "study.yaml", "--output", "OUT"],
    "predict": ["predict", "whole", "data.nc", "--output", "OUT.nc"],
    "export": ["export", "whole", "--output", "OUT.pt2"],
    "report": ["report", "whole", "--output", "OUT"],
    "evaluate": ["evaluate", "whole"],
    "render": ["slurm", "render", "small.yaml", "--output", "OUT"],
    "compare": ["compare", "small.yaml", "--output", "OUT", "--minutes", "0.1", "--set", "data.split.test=0.2"],
    "statistics": ["statistics", "small.yaml"],
    "sobol": ["sobol", "numbers", "--samples", "8"],
    "workers": ["simulate", "peaks", "--size", "tiny", "--output", "OUT", "--workers", "1"],
}
BRIEF = ("simulate", "convert", "predict")
BESIDE_DATA = ("render", "evaluate", "statistics", "sobol")  # commands without a folder of results
RUNS = {"evaluate": "whole", "sobol": "numbers"}  # the runs into which commands write
CODES = {
    "full disk": {0, 5},
    "read-only": {5},
    "64 descriptors": {0},
    "closed stderr": {0},
    "full stderr": {0},
    "broken pipe": {0, 1},
    "no threads": {0, 5},
}
FAST = {("train", "closed stderr"), ("train", "no threads")}


def make_inputs(folder: Path) -> None:
    """Write data, a configuration and a study into a folder."""
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    xr.Dataset(dict.fromkeys("au", (("sample", "x"), a))).to_netcdf(folder / "data.nc", engine="h5netcdf")
    xr.Dataset({"a": ("sample", a[:, 0]), "u": ("sample", a[:, 1])}).to_netcdf(folder / "numbers.nc", engine="h5netcdf")
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "numbers.yaml").write_text(NUMBERS)
    (folder / "study.yaml").write_text(CONFIG + STUDY)


class Session:
    """A folder in which commands run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        make_inputs(folder)
        assert self.run(COMMANDS["train"], "whole")["code"] == 0

    def run(
        self, arguments: list[str], output: str, *, fault: str = "none", seconds: float = inf, number: int = SIGKILL
    ) -> dict:
        """Run a command with an output, to which a signal is sent after some seconds; return how it ended."""
        if arguments[0] == "report" and not RunFolder(self.folder / "whole").evaluation.path.exists():
            assert self.run(COMMANDS["evaluate"], "")["code"] == 0
        if arguments[0] == "sobol" and not RunFolder(self.folder / "numbers").config.exists():
            assert self.run(["train", "numbers.yaml", "--output", "numbers"], "")["code"] == 0
        words = [argument.replace("OUT", output) for argument in arguments]
        began = time.monotonic()
        process = forked.start(PROGRAM, fault, *words, folder=self.folder, log=".told")
        if seconds < inf:
            process.join(seconds)
            if process.is_alive():
                os.kill(process.pid, number)
        ended = forked.end(process, self.folder, ".told")
        took = time.monotonic() - began
        return {"arguments": words, "code": ended.returncode, "stderr": ended.stderr, "took": took}

    def fresh(self) -> str:
        """Return a name that no output has had."""
        self.count += 1
        return f"out-{self.count}"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(tmp_path_factory.mktemp("commands"))


def whole_or_absent(output: Path) -> list[str]:
    """Use everything that an output takes for whole as its readers do; return what they say against it."""
    said = []
    for path in [*output.rglob("*"), *output.parent.glob(f"{output.name}.*")]:
        run = RunFolder(path.parent)
        try:
            if path.name == "manifest.json":
                verify(path.parent)
            elif path.name in ("BEST", "LATEST"):
                Surrogate.load(path.parent.parent)
            elif path.name == "evaluation":
                run.evaluation.verify()
            elif path.name == "config.yaml" and run.facts.is_file():
                run.experiment()
            elif path.suffix == ".nc":
                xr.load_dataset(path, engine="h5netcdf")
            elif path.suffix == ".pt2":
                assert zipfile.ZipFile(path).testzip() is None
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>")
        except (SurrogateError, OSError, ValueError, AssertionError, zipfile.BadZipFile) as error:
            said.append(f"{path}: {error}")
    return said


def walk() -> Iterator[object]:
    for name in COMMANDS:
        for fault in CODES:
            fast = (name in BRIEF and fault in ("full disk", "read-only")) or (name, fault) in FAST
            yield pytest.param(name, fault, id=f"{name}-{fault}", marks=[] if fast else pytest.mark.slow)


@pytest.mark.parametrize(("name", "fault"), list(walk()))
def test_a_command_under_a_fault_ends_in_one_line_with_its_exit_code(session: Session, name: str, fault: str) -> None:
    output = session.fresh()
    where = f"{READ_ONLY}/{output}" if fault == "read-only" else output
    done = session.run(COMMANDS[name], where, fault="none" if fault == "read-only" else fault)
    errors = [line for line in done["stderr"].splitlines() if line.startswith("error: ")]
    allowed = CODES[fault] | ({0} if name in BESIDE_DATA else set())
    assert done["code"] in allowed, done
    assert "Traceback" not in done["stderr"], done
    assert name != "train" or fault != "no threads" or "raise the limit of processes" in done["stderr"], done
    assert len(errors) <= (done["code"] != 0), done
    assert errors or done["code"] in (0, 1), done
    assert all(len(line) < 2000 for line in errors)
    assert whole_or_absent(session.folder / RUNS.get(name, output)) == []
    assert list(session.folder.rglob(f"{output}*/**/*.part")) == []


def content(output: Path) -> dict[str, str]:
    """Return the hashes of results: what does not hold a time, a path or the command."""
    kept = {}
    for path in sorted(output.rglob("*")):
        if path.suffix == ".h5" or path.name == "model.safetensors":
            kept[path.relative_to(output).as_posix()] = sha256(path)
    return kept


RESUMED = ("simulate", "convert", "train", "run", "study", "workers")
KILLED = [name for name in COMMANDS if name != "render"]


@pytest.mark.parametrize("count", [pytest.param(1, id="1"), pytest.param(12, marks=pytest.mark.slow, id="12")])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "convert" else pytest.mark.slow) for n in KILLED])
def test_what_a_killed_command_leaves_is_whole_or_absent(session: Session, name: str, count: int) -> None:
    reference = session.fresh()
    took = session.run(COMMANDS[name], reference)
    assert took["code"] == 0, took
    rng = random.Random(f"{name} {count}")
    for _ in range(count):
        output = session.fresh()
        session.run(COMMANDS[name], output, seconds=rng.uniform(0.1, 1.0) * took["took"])
        assert whole_or_absent(session.folder / RUNS.get(name, output)) == []
        if name in RESUMED:
            again = session.run([*COMMANDS[name], "--resume"], output)
            assert again["code"] == 0, again
            assert whole_or_absent(session.folder / output) == []
            names = {old.replace(reference, output): sha for old, sha in content(session.folder / reference).items()}
            assert content(session.folder / output) == names


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "convert" else pytest.mark.slow) for n in KILLED])
def test_ctrl_c_ends_a_command_in_one_line(session: Session, name: str) -> None:
    took = session.run(COMMANDS[name], session.fresh())["took"]
    rng, output = random.Random(name), session.fresh()
    done = session.run(COMMANDS[name], output, seconds=rng.uniform(0.2, 0.6) * took, number=signal.SIGINT)
    errors = [line for line in done["stderr"].splitlines() if "stopped by SIGINT" in line]
    assert "Traceback" not in done["stderr"], done
    assert (done["code"], len(errors)) in ((75, 1), (0, 0)), done  # or it had ended
    assert not errors or errors[0].startswith("error: ")
    assert whole_or_absent(session.folder / RUNS.get(name, output)) == []
