"""Damaged checkpoints are refused in one line or passed over; none gives other numbers."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.errors import ConfigError, DataError, SurrogateError
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.files import MANIFEST, sha256, write_manifest, write_pointer
from surrogate.models.export import export_surrogate
from surrogate.models.surrogate import Surrogate
from surrogate.training import read_experiment, train
from surrogate.workflows import evaluate_run

CONFIG = """
name: damaged
data: {{path: {path}, inputs: [a], targets: [u], split: {{validation: 4, test: 4, seed: 1}}}}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: slimtrain}}
training: {{epochs: 3, batch_size: 5, device: cpu}}
"""


@dataclass
class Run:
    """A finished run, a copy of its checkpoints, and what they predict."""

    folder: RunFolder
    pristine: Path
    experiment: Experiment
    inputs: torch.Tensor
    outputs: torch.Tensor
    weights: dict[str, torch.Tensor]

    @property
    def checkpoints(self) -> Path:
        return self.folder.checkpoints.path

    def restore(self) -> None:
        shutil.rmtree(self.checkpoints)
        shutil.copytree(self.pristine, self.checkpoints)

    def predict(self) -> torch.Tensor:
        with torch.no_grad():
            return Surrogate.load(self.folder.path)(self.inputs)

    def resume(self) -> dict[str, torch.Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train(self.experiment, self.folder.path, command="", resume=True, quiet=True)
        newest = self.folder.checkpoints.latest()
        assert newest is not None
        return Surrogate.load(newest).state_dict()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("damaged")
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(folder / "data.nc", engine="h5netcdf")
    experiment = read_experiment(parse_yaml(CONFIG.format(path=folder / "data.nc"), "damaged.yaml"))
    made = train(experiment, folder / "run", command="", quiet=True)
    shutil.copytree(made.checkpoints.path, folder / "pristine")
    inputs = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = Surrogate.load(made.path)(inputs)
    newest = made.checkpoints.latest()
    assert newest is not None
    return Run(made, folder / "pristine", experiment, inputs, outputs, Surrogate.load(newest).state_dict())


def flip(content: bytearray, rng: random.Random) -> bytes:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def overwrite(content: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    content[start : start + rng.randint(1, 64)] = rng.randbytes(rng.randint(1, 64))
    return bytes(content)


DAMAGES: list[Callable[[bytearray, random.Random], bytes]] = [
    flip,
    flip,
    overwrite,
    lambda content, rng: bytes(content[: rng.randrange(len(content))]),
    lambda content, rng: bytes(content) + rng.randbytes(rng.randint(1, 100)),
    lambda content, rng: bytes(len(content)),
]


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file below a folder, or remove it."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    if rng.random() < 0.05:
        path.unlink()
        return f"{path.name} removed"
    path.write_bytes(rng.choice(DAMAGES)(bytearray(path.read_bytes()), rng))
    return path.name


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return the result of a call and "", or None and the message that a user sees."""
    try:
        return call(), ""
    except SurrogateError as error:
        return None, str(error)


def is_one_line(message: str) -> bool:
    return "\n" not in message and len(message) < 1000


COUNTS = [pytest.param(30, id="30"), pytest.param(2000, marks=pytest.mark.slow, id="2000")]


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_checkpoint_predicts_the_same_or_is_refused(run: Run, count: int) -> None:
    refused = 0
    for seed in range(count):
        run.restore()
        where = damage(run.checkpoints, random.Random(seed))
        outputs, message = attempt(run.predict)
        assert outputs is None or torch.equal(outputs, run.outputs), f"seed {seed}: {where}"
        assert is_one_line(message), f"seed {seed}: {where}: {message}"
        refused += outputs is None
    run.restore()
    assert refused > count / 8


@pytest.mark.parametrize("count", [pytest.param(4, id="4"), pytest.param(300, marks=pytest.mark.slow, id="300")])
def test_a_run_with_a_damaged_checkpoint_resumes_to_the_same_weights_or_is_refused(run: Run, count: int) -> None:
    for seed in range(count):
        run.restore()
        where = damage(run.checkpoints, random.Random(f"resume {seed}"))
        weights, message = attempt(run.resume)
        assert is_one_line(message), f"seed {seed}: {where}: {message}"
        if weights is not None:
            assert all(torch.equal(weights[name], value) for name, value in run.weights.items()), f"{seed}: {where}"
    run.restore()


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_model_with_matching_checksums_is_refused_or_loaded(run: Run, count: int) -> None:
    """The second line of defence: files that somebody made, with checksums that fit."""
    for seed in range(count):
        run.restore()
        best = run.folder.checkpoints.best()
        rng = random.Random(f"forged {seed}")
        path = best / rng.choice(["surrogate.json", "model.safetensors"])
        path.write_bytes(rng.choice(DAMAGES)(bytearray(path.read_bytes()), rng))
        write_manifest(best)
        write_pointer(run.checkpoints / "BEST", best)
        outputs, message = attempt(run.predict)
        assert is_one_line(message), f"seed {seed}: {message}"
        assert outputs is None or outputs.shape == run.outputs.shape, f"seed {seed}"
    run.restore()


STATES = ["", "[]", "{}", '{"dict": 3}', '{"dict": [["optimizer", {"tensor": "absent"}]]}', "\x00", "[" * 100_000]


@pytest.mark.parametrize("content", STATES, ids=range(len(STATES)))
def test_resume_falls_back_over_a_state_that_is_none(run: Run, content: str) -> None:
    run.restore()
    newest = run.folder.checkpoints.latest()
    assert newest is not None
    (newest / "state.json").write_text(content)
    write_manifest(newest)
    with pytest.warns(UserWarning, match=r"step-.*falling back to an earlier checkpoint"):
        train(run.experiment, run.folder.path, command="", resume=True, quiet=True)
    weights = Surrogate.load(newest).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in run.weights.items())
    run.restore()


def flip_weight(run: Run) -> None:
    """Flip one bit of a weight of the model in use."""
    run.restore()
    path = run.folder.checkpoints.best() / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DOORS: dict[str, Callable[[Run, Path], object]] = {
    "load": lambda run, _: Surrogate.load(run.folder.path),
    "load a checkpoint": lambda run, _: Surrogate.load(next(run.checkpoints.glob(named(run)))),
    "export": lambda run, output: export_surrogate(Surrogate.load(run.folder.path), output / "model.pt2"),
    "evaluate": lambda run, _: evaluate_run(run.folder.path, print),
}


def named(run: Run) -> str:
    return (run.checkpoints / "BEST").read_text().split()[0]


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_one_flipped_bit_is_noticed_by_every_reader(run: Run, tmp_path: Path, door: Callable) -> None:
    flip_weight(run)
    with pytest.raises(DataError, match=r"is damaged: model\.safetensors differs from its checksum"):
        door(run, tmp_path)
    run.restore()


def test_a_pointer_to_another_checkpoint_is_noticed(run: Run) -> None:
    run.restore()
    best = run.checkpoints / "BEST"
    name, checksum = best.read_text().split()
    other = next(path for path in run.checkpoints.glob("step-*") if path.name != name)
    best.write_text(f"{other.name} {checksum}\n")
    with pytest.raises(DataError, match="do not belong together"):
        Surrogate.load(run.folder.path)
    run.restore()


def test_nothing_to_resume_from_is_said(run: Run) -> None:
    run.restore()
    for path in run.checkpoints.glob("step-*/state.json"):
        path.write_text("{")
    with pytest.warns(UserWarning, match="falling back"), pytest.raises(DataError, match="nothing to resume from"):
        train(run.experiment, run.folder.path, command="", resume=True, quiet=True)
    run.restore()


@pytest.mark.parametrize("lost", ["config.yaml", "run.json"])
def test_a_run_that_does_not_say_what_it_is_cannot_be_resumed(run: Run, tmp_path: Path, lost: str) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.folder.path, folder.path)
    (folder.path / lost).unlink()
    before = {path: sha256(path) for path in folder.path.rglob("*") if path.is_file()}
    faster = run.experiment.optimizer.model_copy(update={"learning_rate": 0.1})
    changed = run.experiment.model_copy(update={"optimizer": faster})
    with pytest.raises(ConfigError, match=rf"holds checkpoints but no {lost}"):
        train(changed, folder.path, command="", resume=True, quiet=True)
    assert {path: sha256(path) for path in folder.path.rglob("*") if path.is_file()} == before


def test_a_manifest_names_only_files_of_its_folder(run: Run) -> None:
    run.restore()
    best = run.folder.checkpoints.best()
    sums = json.loads((best / MANIFEST).read_text())
    for name in ("../BEST", "/etc/hostname", "a\x00b", "."):
        (best / MANIFEST).write_text(json.dumps(sums | {name: "0"}))
        write_pointer(run.checkpoints / "BEST", best)
        with pytest.raises(DataError, match="no plain file name"):
            Surrogate.load(run.folder.path)
    run.restore()


def test_a_changed_configuration_of_a_run_is_noticed(run: Run, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.folder.path, folder.path)
    text = folder.config.read_text()
    folder.config.write_text(text.replace("batch_size: 5", "batch_size: 7"))
    with pytest.raises(DataError, match=r"config\.yaml was edited or damaged after the run began"):
        evaluate_run(folder.path, print)
    moved = tmp_path / "moved.nc"
    shutil.copy(run.experiment.data.path, moved)
    folder.config.write_text(text.replace(str(run.experiment.data.path), str(moved)))
    assert folder.experiment().data.path == str(moved)
