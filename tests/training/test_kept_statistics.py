"""Statistics that are computed beforehand, in parts, are those that a training computes for itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from surrogate import normalize
from surrogate.errors import DataError
from surrogate.models import Surrogate
from surrogate.workflows import keep_case_statistics, train_case

TREE = {
    "name": "small",
    "data": {
        "path": "data.h5",
        "layout": {
            "variables": {name: {"path": name, "axes": ["sample", "time", "x"]} for name in ("a", "b")},
        },
        "inputs": ["a"],
        "targets": ["b"],
        "window": {"steps_in": 1, "steps_out": 1},
        "split": {"validation": 4, "test": 4},
    },
    "model": {"family": "convnet", "width": 3, "depth": 1},
    "training": {"epochs": 1, "batch_size": 8},
    "cases": {"slimtrain": {"optimizer": {"name": "slimtrain"}}, "adam": {"optimizer": {"name": "adam"}}},
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    values = np.random.default_rng(0).normal(3, 2, size=(26, 5, 8)).astype("f4")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["a"], file["b"] = values, values**2
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(TREE))
    monkeypatch.chdir(tmp_path)
    return Path("small.yaml")


def normalizers(config: Path, output: str) -> dict[str, np.ndarray]:
    run = train_case(config, [], Path(output), case="adam", command="", resume=False, overwrite=False)
    state = Surrogate.load(run).state_dict()
    return {name: value.numpy() for name, value in state.items() if name.endswith((".mean", ".scale"))}


def test_a_training_finds_what_was_computed_in_parts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = normalizers(config, "alone")
    for kept in Path().glob(".statistics-*"):
        kept.unlink()
    with ThreadPoolExecutor(3) as executor:
        (path,) = keep_case_statistics(config, [], None, executor)
    together = path.read_bytes()
    path.unlink()
    assert keep_case_statistics(config, [], "slimtrain", None) == [path]
    assert path.read_bytes() == together
    monkeypatch.setattr(normalize, "stream_moments", lambda *_, **__: pytest.fail("read again"))
    found = normalizers(config, "found")
    assert len(found) == 4
    for name, value in found.items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-6)


def test_cases_with_data_of_their_own_have_statistics_of_their_own(config: Path) -> None:
    tree = TREE | {"cases": {"few": {"data.split.train": 8}, "many": {"data.split.train": 16}}}
    config.write_text(yaml.safe_dump(tree | {"optimizer": {"name": "adam"}}))
    assert len(set(keep_case_statistics(config, [], None, None))) == 2


def test_what_cannot_be_read_is_said(config: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        keep_case_statistics(config, ["data.path=absent.h5"], None, None)
