"""A wheel runs without the repository: the quickstart and the lines of the README, in an empty folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which Python imports the package from the content of a wheel."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "content")
    return os.environ | {"PYTHONPATH": str(folder / "content"), "OMP_NUM_THREADS": "1"}


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quickstart_runs_from_a_wheel(environment: dict[str, str], tmp_path: Path) -> None:
    where = run(environment, tmp_path, "-c", "import surrogate; print(surrogate.__file__)")
    assert where.startswith(environment["PYTHONPATH"])
    run(environment, tmp_path, "-m", "surrogate", "run", "quickstart", "--set", "training.epochs=1")
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_the_lines_of_the_readme_run_from_a_wheel(environment: dict[str, str], tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert "mean relative L2 error of 18 simulations" in run(environment, tmp_path, "-c", code)
