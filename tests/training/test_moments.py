"""Statistics of the training data are computed once and kept beside the data; NaN is dropped or masked on request."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate import files, normalize
from surrogate.config import parse_yaml
from surrogate.models import Surrogate
from surrogate.training import RunFolder, read_experiment, train

CONFIG = """
name: small
data:
  path: {path}
  inputs: [a]
  targets: [u]
  split: {{validation: 4, test: 4, seed: 1}}
  normalize: {normalize}
  nonfinite: {nonfinite}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: slimtrain, learning_rate: 1e-3}}
training: {{epochs: 1, batch_size: 5}}
"""


def write(path: Path, *, bad: bool = False) -> Path:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(24, 8)).astype("f4") * np.arange(1, 9, dtype="f4")
    if bad:
        a[5, 3] = np.nan
    fields = {"a": (("sample", "x"), a), "u": (("sample", "x"), np.nan_to_num(a) ** 2)}
    xr.Dataset(fields).to_netcdf(path, engine="h5netcdf")
    return path


def run(data: Path, output: Path, normalize: str = "channel", nonfinite: str = "error") -> RunFolder:
    text = CONFIG.format(path=data, normalize=normalize, nonfinite=nonfinite)
    return train(read_experiment(parse_yaml(text, "small.yaml")), output, command="")


def surrogate_of(found: RunFolder) -> Surrogate:
    return Surrogate.load(found.checkpoints.best())


def test_a_second_run_reads_the_statistics_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "data.nc")
    first = surrogate_of(run(data, tmp_path / "one"))
    (kept,) = tmp_path.glob(".statistics-*.json")
    with monkeypatch.context() as patch:
        patch.setattr(normalize, "stream_moments", None)  # no pass over the data
        again = surrogate_of(run(data, tmp_path / "two"))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    write(data, bad=False)  # another file of the same content is other data
    run(data, tmp_path / "three")
    assert len([*tmp_path.glob(".statistics-*.json")]) == 2
    assert kept.exists()


def test_data_that_are_not_normalised_are_seen_as_they_are(tmp_path: Path) -> None:
    surrogate = surrogate_of(run(write(tmp_path / "data.nc"), tmp_path / "run", normalize="none"))
    x = torch.randn(3, 1, 8)
    assert torch.equal(surrogate(x), surrogate.network(x))
    assert not [*tmp_path.glob(".statistics-*.json")]  # there is nothing to count


def test_read_only_data_are_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    data = write(tmp_path / "data" / "data.nc")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run(data, tmp_path / "one")
    assert [path.name for path in data.parent.iterdir()] == ["data.nc"]
    assert len([*(tmp_path / "cache" / "slim-surrogate").glob(".statistics-*.json")]) == 1
    monkeypatch.setattr(files.os.path, "expanduser", lambda path: path)  # no home
    monkeypatch.delenv("XDG_CACHE_HOME")
    run(data, tmp_path / "two")


def test_per_pixel(tmp_path: Path) -> None:
    found = surrogate_of(run(write(tmp_path / "data.nc"), tmp_path / "run", normalize="pixel"))
    assert found.inputs.mean.shape == found.targets.scale.shape == (1, 8)
    assert found.inputs.scale[0, 7] > 3 * found.inputs.scale[0, 0]
    values = torch.randn(3, 1, 8)
    torch.testing.assert_close(found.inputs.inverse(found.inputs(values)), values)


@pytest.mark.parametrize(("choice", "count"), [("drop", 23), ("mask", 24)])
def test_bad_values_are_dropped_or_masked(tmp_path: Path, choice: str, count: int) -> None:
    data = write(tmp_path / "data.nc", bad=True)
    with pytest.warns(UserWarning, match=r"data.nc\[5\]|'a' are NaN or Inf"):
        found = run(data, tmp_path / "run", nonfinite=choice)
    facts = found.facts.read_text()
    assert ("data.nc[5]" in facts) == (choice == "mask")
    assert facts.count("data.nc[") == count
    assert torch.isfinite(surrogate_of(found)(torch.zeros(1, 1, 8))).all()
