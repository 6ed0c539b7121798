"""Two processes train what one does: the same losses, one writer, one agreed end."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from forked import run_ranks

from surrogate.config import read_yaml
from surrogate.errors import ConfigError
from surrogate.normalize import Moments
from surrogate.training import read_experiment, train
from surrogate.training.ranks import Ranks

CONFIG = """
name: ranks
data: {{path: {path}, inputs: [a], targets: [u], split: {{validation: 5, test: 4, seed: 1}}}}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: {optimizer}, learning_rate: 1e-3}}
training: {{epochs: 3, batch_size: 5, schedule: cosine, log_every: 1, refit: both, device: cpu}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    a = np.random.default_rng(0).normal(size=(27, 16)).astype("f4")  # 18 to train: batches of 5, 5, 5 and 3
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    path = tmp_path_factory.mktemp("data") / "data.nc"
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(path, engine="h5netcdf")
    return path


def configuration(data: Path, folder: Path, optimizer: str) -> Path:
    path = folder / f"{optimizer}.yaml"
    path.write_text(CONFIG.format(path=data, optimizer=optimizer))
    return path


def alone(config: Path, output: Path) -> None:
    train(read_experiment(read_yaml(config)), output, command="")


def on_two_ranks(config: Path, output: Path, *arguments: str) -> None:
    words = ["-m", "surrogate", "train", str(config), "--output", str(output), *arguments]
    for ended in run_ranks(2, *words, folder=config.parent):
        assert ended.returncode == 0, ended.stderr


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record[key] for record in records for key in ("loss", "train_loss", "validation_loss") if key in record]


@pytest.mark.parametrize("optimizer", ["slimtrain", "adam"])
def test_two_ranks_have_the_loss_curves_of_one_process(data: Path, tmp_path: Path, optimizer: str) -> None:
    config = configuration(data, tmp_path, optimizer)
    alone(config, tmp_path / "one")
    on_two_ranks(config, tmp_path / "two")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 12 + 2 * 3
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_resume_with_another_number_of_ranks(data: Path, tmp_path: Path) -> None:
    config = configuration(data, tmp_path, "slimtrain")
    alone(config, tmp_path / "run")
    expected = losses(tmp_path / "run")
    shutil.rmtree(max((tmp_path / "run" / "checkpoints").glob("step-*")))  # as if it had been killed in the last epoch
    on_two_ranks(config, tmp_path / "run", "--resume")
    np.testing.assert_allclose(losses(tmp_path / "run"), expected, rtol=0, atol=1e-6)


def test_launcher_variables() -> None:
    assert Ranks.of({}) == Ranks()
    found = Ranks.of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    assert (found.rank, found.world, found.local, found.first) == (5, 8, 1, False)
    with pytest.raises(ConfigError, match="RANK=None, WORLD_SIZE=2, LOCAL_RANK=None; start several processes with"):
        Ranks.of({"WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match="RANK=2 of WORLD_SIZE=2"):
        Ranks.of({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"})


def test_one_process_agrees_with_itself() -> None:
    alone, values = Ranks(), torch.arange(3.0)
    assert alone.average([values], 3, [1.0, 2.0]) == [3, 1.0, 2.0]
    assert torch.equal(alone.sum(values), torch.arange(3.0))
    moments = Moments.of(torch.randn(4, 2, 3))
    assert alone.merged(moments) is moments
