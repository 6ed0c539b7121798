"""`surrogate new`: a configuration that trains, from options or from answers on a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.cli import main
from surrogate.config import read_yaml
from surrogate.experiment.settings import read_experiment
from surrogate.models.registry import families, is_fitted
from surrogate.workflows.new import OPTIMIZERS, TASKS, Wishes, new_config

RNG = np.random.default_rng(0)
FIELD, SERIES, NUMBER = ("sample", "y", "x"), ("sample", "time", "y", "x"), ("sample",)
DATA = {
    "numbers and fields": {"k": NUMBER, "a": FIELD, "u": FIELD},
    "fields": {"a": FIELD, "u": FIELD},
    "one field": {"u": FIELD},
    "series": {"k": NUMBER, "u": SERIES},
    "numbers": {"k": NUMBER, "c": NUMBER},
    "a series of numbers": {"s": ("sample", "time")},
}


@pytest.mark.parametrize("number", range(len(DATA)), ids=list(DATA))
def test_what_is_offered_gives_a_configuration(number: int, tmp_path: Path) -> None:
    """The parser accepts every task, with families and optimizers that are other ones for each of the data."""
    sizes = {"sample": 20, "time": 8, "y": 8, "x": 8}
    variables = list(DATA.values())[number]
    arrays = {name: (axes, RNG.normal(size=[sizes[axis] for axis in axes])) for name, axes in variables.items()}
    xr.Dataset(arrays).to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    offered: dict[str, list[str]] = {}

    def listen(flag: str, question: str, answers: dict[str, str], proposed: str | None) -> str:
        offered[flag] = list(answers)
        assert proposed in answers, question
        return proposed

    new_config(tmp_path / "usual.yaml", tmp_path / "data.nc", Wishes({}), listen)
    others = offered.get("--task", ["autoencoder"])[1:]
    assert {*others} <= {*TASKS}
    for task in others:
        family = offered["--family"][-1 - number]
        optimizer = None if is_fitted(family) else list(OPTIMIZERS)[number]
        output = tmp_path / f"{task}.yaml"
        wishes = Wishes({}, task, family=family, optimizer=optimizer)
        written = new_config(output, tmp_path / "data.nc", wishes, listen)
        assert (written.model.family, written.optimizer.name) == (family, optimizer or "fit")
        assert read_experiment(read_yaml(output)).model_dump() == written.model_dump()
    assert {*offered["--family"]} <= {*families()}


class Terminal(io.StringIO):
    """Text that is typed on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that names nothing, in the working directory."""
    with h5py.File(tmp_path / "mine.h5", "w") as handle:
        handle["k"], handle["u"] = RNG.normal(size=(2, 20, 8)).astype("f4")
    monkeypatch.chdir(tmp_path)
    return "mine.h5"


def call(monkeypatch: pytest.MonkeyPatch, capsys, *words: str, typed: str | None = None) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["surrogate", "new", *words])
    if typed is not None:
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0, *capsys.readouterr()


def test_questions_are_answered_by_name_by_number_or_not_at_all(file: str, monkeypatch, capsys) -> None:
    typed = "mine.h5\nwrong\n1\nnone\n\nconvnet\nadam\n"  # data; axis of simulations; time; task; family; optimizer
    code, out, err = call(monkeypatch, capsys, "--output", "mine.yaml", typed=typed)
    assert code == 0, err
    assert "'wrong' is no answer" in err
    assert "Which axis counts the simulations?" in err
    assert out.startswith("wrote mine.yaml: k to u\nnext: surrogate run mine.yaml")
    experiment = read_experiment(read_yaml(Path("mine.yaml")))
    assert (experiment.model.family, experiment.optimizer.name) == ("convnet", "adam")
    assert experiment.data.layout.sample == "n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "error: DATA is not given and there is no terminal to ask: Which file or folder holds"),
        (["mine.h5"], 2, "error: --sample is not given and there is no terminal to ask: Which axis counts the sim"),
        (["mine.h5", "--sample", "nn", "--time", "none"], 2, "error: --sample nn: not possible with these data; did"),
        (["mine.h5", "--sample", "n", "--time", "none", "--family", "unets"], 2, "error: --family unets: not possible"),
        (["mine.h5", "--sample", "n", "--time", "none", "--inputs", "q"], 2, "error: --inputs q: no such variable"),
        (
            ["mine.h5", "--sample", "n", "--time", "none", "--family", "linear", "--optimizer", "adam"],
            2,
            "error: --optimizer adam: linear is fitted in one pass without an optimizer",
        ),
        (["nowhere.h5"], 3, "error: "),
        (["mine.h5", "--output", "mine.h5"], 2, "error: mine.h5 exists already; choose another --output"),
    ],
)
def test_what_cannot_be_written_is_one_line(file: str, words: list[str], code: int, message: str, monkeypatch, capsys):
    ended, out, err = call(monkeypatch, capsys, *words)
    assert (ended, out, len(err.splitlines())) == (code, "", 1), err
    assert err.startswith(message)
    assert not list(Path().glob("*.yaml"))
