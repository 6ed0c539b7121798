"""The pages of the documentation are true: their blocks run one after another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from pictures import BLANK

from surrogate.config import parse_yaml, validate
from surrogate.data import DataSettings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / name for name in ("bring-your-own-data.md", "in-scripts.md", "use-a-surrogate.md")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_configuration_is_valid(page: Path) -> None:
    for kind, text in blocks(page):
        if kind == "yaml":
            source = parse_yaml(text, page.name)
            source.tree = source.tree["data"]
            validate(source, DataSettings)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("[bdep]*/**/*.md")], ids=lambda page: page.stem)
def test_every_link_to_a_file_has_its_target(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, heading in re.findall(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", text):
        path = page.parent / target
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading[1:] in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def output_of(page: str, folder: Path, more: str) -> str:
    """Run all Python of a page, one block after another, and some more; return what it prints."""
    script = "".join(text for kind, text in blocks(ROOT / "docs" / page) if kind == "python")
    done = forked.run("-c", f"{BLANK}{script}\n{more}", folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_blocks_of_from_python_run(tmp_path: Path) -> None:
    shown = output_of("from-python.md", tmp_path, "print(field.shape, set(project.cases))")
    assert "widht: unknown key; did you mean 'width'" in shown
    assert shown.splitlines()[-1].startswith("torch.Size([1, 1, 32])")


def test_the_blocks_of_your_own_model_run(tmp_path: Path) -> None:
    """They register families and build networks of them, one block after another."""
    more = """
from surrogate.batch import Batch
y, i = torch.tensor([[3.0], [-5.0]]), torch.arange(2)
network = build(ScaledSettings(), Shapes(inputs=1, outputs=1, grid=()))
prepare(ScaledSettings(), network, lambda: [Batch(y, y, i, i)])
print(float(network.features[0].scale))
"""
    assert output_of("your-own-model.md", tmp_path, more).split("\n")[:2] == ["torch.Size([5, 3])", "5.0"]


def test_the_blocks_of_your_own_equation_run(tmp_path: Path) -> None:
    """They register equations and simulate them, one block after another."""
    more = """
register(waves)
recipe = recipe.model_copy(update={"equation": "my_korteweg_de_vries", "lengths": (40.0,), "parameters": {}})
print(bool(np.isfinite(simulate_members(recipe, "tiny", [0])["u"]).all()))
"""
    shown = output_of("your-own-equation.md", tmp_path, more)
    assert shown.split("\n")[1:3] == ["True", "True"]
    assert "'sample': 2, 'time': 11" in shown


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "surrogate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m surrogate "$@"\n')
    command.chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    texts = [text for kind, text in blocks(page) if kind == "yaml"]
    if texts:
        (tmp_path / "mine.yaml").write_text(texts[0])
    for number, (kind, text) in enumerate(blocks(page)):  # Python goes on with the names of the blocks before
        if kind == "sh":
            _run(["sh", "-e", "-c", text], tmp_path, environment)
        elif kind == "python":
            before = "".join(earlier for k, earlier in blocks(page)[:number] if k == "python")
            _run([sys.executable, "-c", before + text], tmp_path, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stderr}"
