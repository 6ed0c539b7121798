"""Every block of the documentation: commands exist with their options, YAML is valid, Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command_tree import COMMANDS, command_lines, parse

from surrogate.config import parse_yaml, validate
from surrogate.data import Mapping
from surrogate.errors import ConfigError
from surrogate.experiment.settings import case_sources, read_experiment
from surrogate.models.registry import is_fitted
from surrogate.studies.settings import read_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)
PAGES = [page for page in PAGES if not {"_build", "generated", "gallery", "_gallery"} & set(page.parts)]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE = {  # pages whose Python runs as it stands, and the test that does so
    "README.md": "test_wheel.py, test_examples.py",
    "bring-your-own-data.md": "test_docs.py",
    "from-python.md": "test_docs.py",
    "in-scripts.md": "test_docs.py",
    "use-a-surrogate.md": "test_docs.py",
    "your-own-equation.md": "test_docs.py",
    "your-own-model.md": "test_docs.py",
}
MODEL = """
import torch
from surrogate import SlimTrain, separate
torch.manual_seed(0)
model = separate(torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)))
optimizer = SlimTrain(torch.optim.Adam(model.features.parameters()), model.head)
criterion = torch.nn.MSELoss()
x, y = torch.randn(40, 2), torch.randn(40, 1)
"""
GATHERED = """
from surrogate.batch import Batch
from surrogate.optim.refit import gather
from surrogate.slimtik.posterior import Posterior, predictive_std
batches = [Batch(x, y, torch.arange(40), torch.arange(40))]
"""
TRAINED = """
from pathlib import Path
import numpy as np
import xarray as xr
u = ("sample", "x"), np.random.default_rng(0).normal(size=(20, 4)).astype("f4")
xr.Dataset({"a": u, "u": u}).to_netcdf("data.nc", engine="h5netcdf")
Path("mine.yaml").write_text('''
name: mine
data: {path: data.nc, inputs: [a], targets: [u]}
model: {family: mlp, width: 4}
optimizer: {name: adam}
training: {epochs: 1}
''')
"""
BEFORE = {  # names that a page speaks of in words before its block
    "design.md": MODEL + "from surrogate.batch import Batch\nbatch = Batch(x, y, torch.arange(40), torch.arange(40))\n",
    "how-slimtrain-works.md": MODEL + GATHERED,
    "training.md": TRAINED,
}


def blocks(page: Path, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind in kinds]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_exists_with_its_options(page: Path) -> None:
    for text in blocks(page, "sh", "bash", ""):
        for words in command_lines(text):
            parse(words)
    for words in re.findall(r"`surrogate ([a-z][^`]*)`", page.read_text(encoding="utf-8")):
        name = " ".join(words.split()[: 2 if words.startswith("slurm") else 1])
        assert name in (*COMMANDS, "slurm"), words


def _merged(block: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Put a block in the place of sections of a base; `data` may be a part of its section."""
    merged = base | block | {"data": base["data"] | (block.get("data") or {})}
    if "optimizer" not in block and is_fitted(merged["model"]["family"]):
        del merged["optimizer"]
    return merged


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.stem)
def test_every_yaml_block_is_valid(page: Path) -> None:
    base = {
        "name": "block",
        "data": {"path": "data.h5", "inputs": ["a"], "targets": ["u"]},
        "model": {"family": "mlp"},
        "optimizer": {"name": "adam"},
    }
    for text in blocks(page, "yaml"):
        source = parse_yaml(text, page.name)
        if {"processes", "equation"} & set(source.tree) or "wave" in text:
            continue  # settings of a cluster, a recipe, a family of the page itself: run elsewhere
        if "variables" in source.tree:
            validate(source, Mapping)
            continue
        source.tree = _merged(source.tree, base)
        for case in case_sources(source).values():
            read_experiment(case)
        if "study" in source.tree:
            read_study(source)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_every_python_block_runs_here_or_with_its_page(page: Path, tmp_path: Path, monkeypatch) -> None:
    if page.name in WHOLE:
        return
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(BEFORE.get(page.name, ""), namespace)
    for text in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), namespace)


def test_a_mistake_in_a_block_is_noticed() -> None:
    assert [
        parse(words) for words in command_lines("data=$(surrogate run x --resume) && surrogate slurm render y")
    ] == [
        "run",
        "slurm render",
    ]
    for wrong in (
        "surrogate trian x",
        "surrogate train x --epochs 3",
        "x || surrogate slurm rendr y",
        "surrogate train",
    ):
        with pytest.raises(Exception, match=r".") as error:
            [parse(words) for words in command_lines(wrong)]
        assert (
            "Usage" in type(error.value).__name__ or "Missing" in type(error.value).__name__ or "No" in str(error.value)
        )
    with pytest.raises(ConfigError):
        read_experiment(parse_yaml("name: x\ndata: {path: x}\n", "x"))
