"""Every example runs as it stands, and shows what it says."""

import ast
import os
import re
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OTHERS = {"bring_your_own_data", "dask_on_slurm"}  # not in the gallery
FAST = {"bring_your_own_data", "first_surrogate", "own_equation", "own_model_own_loop"}  # the others take half a minute
SCRIPTS = [pytest.param(path, marks=() if path.stem in FAST else pytest.mark.slow, id=path.name) for path in EXAMPLES]


def output_of(script: Path, folder: Path) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = forked.run(str(script), folder=folder, PYTHONPATH=path, MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_runs_and_says_something(script: Path, tmp_path: Path) -> None:
    found = output_of(script, tmp_path)
    assert found.strip()
    pictures = [path.name for path in tmp_path.glob("*.png")]
    expected = {"first_surrogate": "first.png"}.get(script.stem, f"{script.stem}.png")
    assert pictures == ([] if script.stem in OTHERS else [expected])
    if script.name == "own_model_own_loop.py":
        losses = {line.split()[0]: float(line.split()[3]) for line in found.splitlines()}
        assert losses["slimTrain"] < 0.5 * losses["Adam"]
    if script.name == "own_family.py":
        assert 7 < float(found.split("gives ")[1].split()[0]) < 9


def test_the_gallery_has_a_title_for_every_script() -> None:
    """A page of the gallery opens with the docstring of its script: a title, underlined, and sentences."""
    gallery = [path for path in EXAMPLES if path.stem not in OTHERS]
    assert len(gallery) >= 12
    for path in gallery:
        title, rule, blank, *sentences = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
        assert rule == "=" * len(title), path
        assert not blank
        assert sentences


def test_the_three_lines_of_the_readme_are_those_of_the_example() -> None:
    def marked(text: str) -> list[str]:
        """Code of the lines that end in a comment with their number, free of what a loop of one's own names."""
        lines = re.findall(r"^(.*\S)  # (?:<-- )?[123]\b.*$", text, re.MULTILINE)
        return [line.strip().replace(", LEARNING_RATE", "").replace("[rows]", "") for line in lines]

    readme, example = (ROOT / "README.md").read_text(), (ROOT / "examples" / "own_model_own_loop.py").read_text()
    assert len(marked(readme)) == 3
    assert marked(readme) == marked(example)


def test_the_first_lines_of_the_readme_are_those_of_the_first_example() -> None:
    readme, example = (ROOT / "README.md").read_text(), (ROOT / "examples" / "first_surrogate.py").read_text()
    lines = [line for line in re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1].splitlines() if line]
    assert [line for line in example.splitlines() if line in lines] == lines


def test_workers_on_slurm_are_jobs_with_the_given_facts(tmp_path: Path) -> None:
    """The job script that dask-jobqueue makes; a Slurm runs it in tests/cluster."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
    code += "from dask_on_slurm import read_options, slurm_cluster\n"
    code += "options = read_options(['--slurm', '--interface', 'lo', '--account', 'p01', '--partition', 'cpu'])\n"
    code += "with slurm_cluster(options, Path('logs')) as found: print(found.scheduler_address, found.job_script())"
    pytest.importorskip("dask_jobqueue")
    done = forked.run("-c", code, str(ROOT / "examples"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tcp://127.0.0.1:")
    for line in ("#SBATCH -A p01", "#SBATCH -p cpu", "#SBATCH -t 00:30:00", "export OMP_NUM_THREADS=1"):
        assert line in done.stdout.splitlines()
    worker = done.stdout.strip().splitlines()[-1]
    assert "--nthreads 1" in worker
    assert "--interface lo" in worker
    assert "--no-dashboard" in worker


def test_workers_on_slurm_need_an_interface(tmp_path: Path) -> None:
    done = forked.run(str(ROOT / "examples" / "dask_on_slurm.py"), "--slurm", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("error: --slurm needs --interface: the scheduler listens there alone")
