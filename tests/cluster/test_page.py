"""*Running on a cluster*, word for word: every block of the page is run in its order, and comes to what it promises."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from surrogate.files import sha256
from tests.cluster.jobs import ended, left_behind, run, state, wait
from tests.cluster.local_slurm import missing

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing())]

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIGNALLED = "scancel --signal=USR1 $train\n"


class Shell:
    """Runs blocks of commands one after another, with the variables of those before."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder
        (folder / "variables").touch()

    def run(self, text: str) -> str:
        script = f"set -ea\n. ./variables\n{text}\ndeclare -p data train study > variables 2>/dev/null || true\n"
        command = ["bash", "-c", script]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    def variable(self, name: str) -> str:
        return re.findall(rf'{name}="(\d+)"', (self.folder / "variables").read_text())[0]


@pytest.fixture(scope="module")
def page(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The shell in which all blocks of the page have run, and all jobs have ended."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("pipelines", "examples"):
        (folder / name).symlink_to(ROOT / name)
    shell = Shell(environment, folder)
    for kind, text in BLOCK.findall((ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")):
        if kind == "yaml":
            (folder / text.splitlines()[0].removeprefix("# ")).write_text(text)
        elif SIGNALLED in text:
            faults(shell, text)
        else:
            shell.run(text)
            if "data=$(sbatch" not in text:  # these go on while the next block puts one of them back
                wait(lambda: ended(environment, folder), 400, folder)
    return shell


def faults(shell: Shell, text: str) -> None:
    """The commands that put jobs back, each when the job is at work."""
    before, signalled, after = text.partition(SIGNALLED)
    for number, command in enumerate([before, signalled], start=1):
        wait(lambda: steps(shell.folder / "runs/mine") > 40 * number, 200, shell.folder)  # noqa: B023
        shell.run(command)
    wait(lambda: "Restarts=2" in job(shell, "train"), 100, shell.folder)
    shell.run(after)
    wait(lambda: ended(shell.environment, shell.folder), 500, shell.folder)


def job(shell: Shell, name: str) -> str:
    return state(shell.environment, shell.folder, shell.variable(name))


def steps(run_folder: Path) -> int:
    log = run_folder / "log.jsonl"
    return log.read_text().count('"event": "step"') if log.exists() else 0


def same_as_undisturbed(page: Shell, output: str, *options: str) -> None:
    """Parameters, state and metrics are those of the same training by hand, to the last bit."""
    calm = page.folder / f"{output}-calm"
    train = ["surrogate", "train", "snapshots", "--case", "slimtrain", "--set", "data.path=data/cd", *options]
    run(page.environment, page.folder, *train, "--output", str(calm))
    run(page.environment, page.folder, "surrogate", "evaluate", str(calm))
    latest = (calm / "checkpoints" / "LATEST").read_text().strip()
    for file in [f"checkpoints/{latest}/model.safetensors", f"checkpoints/{latest}/optim.safetensors"]:
        assert sha256(page.folder / output / file) == sha256(calm / file)
    metrics = "evaluation/metrics.csv"
    assert (page.folder / output / metrics).read_text() == (calm / metrics).read_text()


def test_a_pipeline_and_a_study_come_to_their_reports(page: Shell) -> None:
    for output in ("runs/quickstart", "runs/curve", "runs/array", "runs/mine", "runs/dask"):
        assert (page.folder / output / "report.html").is_file(), output
    for file in ("manifest.json", "stats.yaml", ".statistics-"):
        assert any(path.name.startswith(file) for path in (page.folder / "data").rglob("*")), file
    assert list((page.folder / "runs").glob("staged/checkpoints/LATEST"))


def test_the_jobs_of_an_array_share_their_work_and_repeat_none(page: Shell) -> None:
    """Every case has one job that trained it, the data were made once, and the table is that of dask workers."""
    for output in ("runs/curve", "runs/array"):
        cases = list((page.folder / output / "cases").iterdir())
        assert len(cases) == 8
        for case in cases:
            records = [json.loads(line) for line in (case / "log.jsonl").read_text().splitlines()]
            assert [record["epoch"] for record in records if record["event"] == "epoch"] == [1, 2]
    logs = [path.read_text() for path in sorted((page.folder / "runs/curve/slurm").glob("study-*_*.log"))]
    assert len(logs) == 2
    assert all("8 cases, 4 of them here" in log for log in logs)
    assert sum(log.count("epoch") for log in logs) == sum(log.count("simulat") for log in logs) == 0
    assert errors(page.folder / "runs/curve") == errors(page.folder / "runs/array") == errors(page.folder / "runs/dask")


def errors(study: Path) -> dict[tuple[str, ...], str]:
    """The error of every point of a study."""
    with open(study / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    return {(row["method"], row["train"], row["seed"]): row["error"] for row in rows}


def test_a_training_that_was_put_back_twice_ends_as_an_undisturbed_one(page: Shell) -> None:
    assert "Restarts=2" in job(page, "train")
    same_as_undisturbed(page, "runs/mine", "--set", "training.epochs=20", "--set", "training.log_every=1")


def test_a_training_that_meets_its_time_limit_ends_as_an_undisturbed_one(page: Shell) -> None:
    logs = "\n".join(path.read_text() for path in page.folder.glob("slurm-*.out"))
    stopped = re.findall(r"stopped by SIGUSR1 at step (\d+); a checkpoint is written", logs)
    assert len(stopped) >= 2  # once by the page itself, at least once by the limit
    assert "DUE TO TIME LIMIT" not in logs
    same_as_undisturbed(page, "runs/limit", "--set", "training.epochs=80", "--set", "training.log_every=1")


def test_nothing_is_left_but_the_staged_copy(page: Shell) -> None:
    temporary = Path(page.environment["TMPDIR"])
    assert [path.name.split("-")[0] for path in (temporary / "data").iterdir() if path.is_dir()] == ["surrogate"]
    for path in sorted((temporary / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (temporary / "data").rmdir()
    assert not left_behind(page.environment)
