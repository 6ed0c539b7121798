"""With --json a command prints one JSON document and nothing else, with --quiet the paths of what it wrote."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_tree import COMMANDS

from surrogate.cli import main

pytestmark = pytest.mark.usefixtures("blank_pictures")

CONFIG = """
name: small
data:
  path: data.h5
  layout: {variables: {k: {path: k, axes: [sample, x]}, u: {path: u, axes: [sample, x]}}}
  inputs: [k]
  targets: [u]
  split: {validation: 4, test: 4, seed: 1}
model: {family: convnet, width: 4, depth: 1}
optimizer: {name: slimtrain}
training: {epochs: 1, batch_size: 8}
"""
# In this order: later commands read what earlier ones have written.
CALLS = {
    "simulate": (["peaks", "--size", "tiny", "--output", "peaks"], "peaks"),
    "new": (["data.h5", "--sample", "n", "--time", "none", "--output", "mine.yaml"], "mine.yaml"),
    "inspect": (["data.h5"], None),
    "convert": (["peaks", "again"], "again"),
    "statistics": (["small.yaml"], None),
    "train": (["small.yaml", "--output", "trained"], "trained"),
    "evaluate": (["trained"], "trained/evaluation"),
    "predict": (["trained", "data.h5", "--output", "p.nc"], "p.nc"),
    "sobol": (["parametric", "--samples", "8"], "parametric/sobol"),
    "export": (["trained", "--output", "t.pt2"], "t.pt2"),
    "report": (["trained", "--output", "page"], "page/report.html"),
    "run": (["small.yaml", "--output", "whole"], "whole"),
    "compare": (["small.yaml", "--minutes", "0.1", "--output", "ranked"], "ranked"),
    "slurm render": (["small.yaml", "--output", "jobs"], "jobs"),
    "slurm submit": (["small.yaml", "--output", "jobs"], "jobs"),
}
SLOW = ("sobol", "export", "compare")


def test_every_command_that_answers_is_called_here() -> None:
    answering = {name for name, command in COMMANDS.items() if any("--json" in p.opts for p in command.params)}
    assert answering == set(CALLS)
    assert set(COMMANDS) - answering == {"launch", "slurm requeue"}  # their output is that of other programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data, a configuration, and an `sbatch` that accepts everything."""
    folder = tmp_path_factory.mktemp("answers")
    k = np.random.default_rng(0).normal(size=(24, 8)).astype("f4")
    with h5py.File(folder / "data.h5", "w") as file:
        file["k"], file["u"] = k, k**2
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text("#!/bin/sh\necho 7\n")
    (folder / "bin" / "sbatch").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", str(folder / "bin"), prepend=":")
        yield folder


def call(monkeypatch: pytest.MonkeyPatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["surrogate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CALLS])
def test_standard_output_is_one_json_document(name: str, folder: Path, monkeypatch, capsys) -> None:
    words, written = CALLS[name]
    if name == "sobol":
        numbers = ["--set", "data={path: peaks, inputs: [y1, y2], targets: [c]}", "--set", "model={family: linear}"]
        call(monkeypatch, capsys, "simulate", *CALLS["simulate"][0], "--overwrite")
        call(
            monkeypatch, capsys, "train", "small.yaml", *numbers, "--set", "optimizer={name: fit}", "--output", words[0]
        )
    if name == "export" and not Path("trained").exists():
        call(monkeypatch, capsys, "train", *CALLS["train"][0])
    code, out, err = call(monkeypatch, capsys, *name.split(), *words, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert written is None or answer["path"] in (written, [written])
    paths = answer["path"] if isinstance(answer["path"], list) else [answer["path"]]
    assert all(Path(path).exists() for path in paths) or name == "slurm render"
    expected = {
        "train": ("validation_loss", "model", "optimizer"),
        "evaluate": ("cases", "split"),
        "run": ("report", "errors"),
        "compare": ("best", "ranking"),
        "inspect": ("variables", "suggested_config"),
        "slurm submit": ("jobs",),
    }
    assert set(expected.get(name, ())) <= set(answer)


@pytest.mark.parametrize("name", ["train", "simulate"])
def test_quiet_prints_the_path_alone(name: str, folder: Path, monkeypatch, capsys) -> None:
    words, written = CALLS[name]
    assert call(monkeypatch, capsys, name, *words, "--quiet", "--overwrite") == (0, f"{written}\n", "")


@pytest.mark.parametrize("more", [["--set", "training.epoch=3"], ["--epochs", "3"]])
def test_a_failure_is_a_document_too(more: list[str], folder: Path, monkeypatch, capsys) -> None:
    code, out, err = call(monkeypatch, capsys, "train", "small.yaml", "--json", *more)
    answer = json.loads(out)
    assert (code, answer["exit_code"]) == (2, 2)
    assert answer["error"] in err
    assert "epoch" in answer["error"]


def test_numbers_that_json_lacks_become_null(folder: Path, monkeypatch, capsys) -> None:
    with h5py.File("nan.h5", "w") as file:
        file["u"] = np.full((4, 8), np.nan)
        file["u"].attrs["scale"] = np.inf
    _, out, _ = call(monkeypatch, capsys, "inspect", "nan.h5", "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(out, parse_constant=refuse)["variables"]
