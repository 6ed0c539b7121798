"""Evaluate a run again and again, killed before its n-th change of a file; run by test_evaluation_unit.py.

python evaluate_killed.py FOLDER NUMBER...

FOLDER holds `run`, a run whose evaluation is of an older model. Prints for each number whether the process was killed,
and the first metric afterwards: null where there is no evaluation, an error where it does not verify.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
import xarray as xr

from surrogate.errors import SurrogateError
from surrogate.experiment.run_folder import RunFolder
from surrogate.workflows import evaluate_run

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
WRITING = os.O_WRONLY | os.O_RDWR


def kill_before(number: int, folder: Path) -> None:
    """Kill this process before it changes a file below a folder for the n-th time."""
    left = [number]

    def count(event: str, arguments: tuple) -> None:
        changing = event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING)
        if not changing or str(folder) not in str(arguments[0]):
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def evaluate(folder: Path, number: int) -> bool:
    """Evaluate in a forked process; True if it was killed."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status)
    if number:
        kill_before(number, folder)
    try:
        evaluate_run(folder, lambda line: None)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def state(folder: Path) -> float | str | None:
    evaluation = RunFolder(folder).evaluation
    if not evaluation.path.exists():
        return None
    try:
        evaluation.verify()
    except SurrogateError as error:
        return str(error)
    return float(xr.load_dataset(evaluation.metrics, engine="h5netcdf")["relative_l2"].mean())


def main(folder: Path, numbers: list[int]) -> None:
    torch.set_num_threads(1)
    states = []
    for number in numbers:
        shutil.copytree(folder / "run", folder / "copy")
        killed = evaluate(folder / "copy", number)
        after = state(folder / "copy")
        evaluate(folder / "copy", 0)
        left = sorted(path.name for path in (folder / "copy").iterdir() if path.name.startswith(".evaluation"))
        states.append({"killed": killed, "after": after, "again": state(folder / "copy"), "left": left})
        shutil.rmtree(folder / "copy")
    print(json.dumps(states))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(number) for number in sys.argv[2:]])
