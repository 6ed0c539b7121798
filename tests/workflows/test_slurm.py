"""Job scripts say what was asked for, and nothing that a value smuggles in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from surrogate.catalogue import shipped
from surrogate.errors import ConfigError, ResourceError
from surrogate.workflows import find_pipeline
from surrogate.workflows.slurm import Cluster, Stage, find_cluster, plan, render, submit

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "pipelines" / "slurm").glob("*.sbatch"))
QUICKSTART = find_pipeline("quickstart")

SBATCH = """\
#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
with open(folder / "calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
refuse = folder / "refuse"
if refuse.exists() and refuse.read_text() in sys.argv[-1]:
    sys.exit("sbatch: error: Invalid account or account/partition combination specified")
print(100 + len((folder / "calls").read_text().splitlines()))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the PATH, with an `sbatch` that answers ids and a `scancel`; both note their arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "scancel"):
        (folder / name).write_text(SBATCH.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.chdir(tmp_path)
    return folder


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shipped_scripts_are_short_and_valid(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) <= 40
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    for word in ("if ", "for ", "while ", "case ", "function "):
        assert not any(line.lstrip().startswith(word) for line in text.splitlines())
    assert "#SBATCH --signal=USR1@180" in text
    assert "#SBATCH --requeue" in text


def test_stages_of_a_pipeline_depend_on_one_another() -> None:
    stages = plan(QUICKSTART, [], Path("out"), Cluster())
    assert [(stage.name, stage.after, stage.condition) for stage in stages] == [
        ("simulate", (), "afterok"),
        ("train-slimtrain", ("simulate",), "afterok"),
        ("train-adam", ("simulate",), "afterok"),
        ("report", ("train-slimtrain", "train-adam"), "afterany"),
    ]


def test_given_data_need_no_simulation(tmp_path: Path) -> None:
    stages = plan(QUICKSTART, ["data.path=given"], Path("out"), Cluster())
    assert [stage.kind for stage in stages] == ["train", "train", "report"]
    assert stages[0].after == ()


def test_a_study_is_one_array() -> None:
    stages = plan(QUICKSTART, ["study.seeds=[0, 1]"], Path("out"), Cluster(parts=8, running=2, gpus=4))
    assert [stage.name for stage in stages] == ["simulate", "study", "report"]
    script = render(stages[1], Cluster(parts=8, running=2, gpus=4), Path("out/slurm"))
    assert "#SBATCH --array=1-8%2" in script
    assert "#SBATCH --gpus-per-node=1" in script
    assert "--set 'study.seeds=[0, 1]'" in script


@pytest.mark.parametrize(
    ("facts", "script"),
    [
        ({}, "train"),
        ({"gpus": 1}, "train"),
        ({"gpus": 4}, "train-node"),
        ({"processes": 2}, "train-node"),
        ({"nodes": 2, "gpus": 4}, "train-nodes"),
    ],
)
def test_the_script_of_a_training_follows_the_facts(facts: dict, script: str) -> None:
    assert {stage.script for stage in plan(QUICKSTART, [], Path("o"), Cluster(**facts)) if stage.kind == "train"} == {
        script
    }


def test_facts_stand_in_the_script() -> None:
    cluster = Cluster(
        account="p01", partition="gpu", qos="low", constraint="a100|h100", modules=["cuda/12.4"], activate="my env/act",
        variables={"A": "x $(rm) 'y'"}, nodes=2, gpus=4, cpus=8, memory="64G",
    )  # fmt: skip
    stage = next(stage for stage in plan(QUICKSTART, [], Path("out"), cluster) if stage.kind == "train")
    lines = render(stage, cluster, Path("out/slurm")).splitlines()
    for line in (
        "#SBATCH --account=p01", "#SBATCH --partition=gpu", "#SBATCH --qos=low", "#SBATCH --constraint=a100|h100",
        "#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --cpus-per-task=32", "#SBATCH --mem=64G",
        "module load cuda/12.4", "source 'my env/act'", "export SURROGATE_PROCESSES=4",
    ):  # fmt: skip
        assert line in lines
    (export,) = (line for line in lines if line.startswith("export A="))
    shown = subprocess.run(["bash", "-c", f'{export}; printf %s "$A"'], capture_output=True, text=True)
    assert shown.stdout == "x $(rm) 'y'"


def test_directives_come_before_commands() -> None:
    for stage in plan(QUICKSTART, [], Path("out"), Cluster(account="a")):
        lines = render(stage, Cluster(account="a"), Path("out/slurm")).splitlines()
        commands = [n for n, line in enumerate(lines) if line and not line.startswith("#")]
        assert max(n for n, line in enumerate(lines) if line.startswith("#SBATCH")) < min(commands)


INJECTIONS = ["a\n#SBATCH --uid=0", "a\r#SBATCH", "a b", "a;rm", "$(rm)", "`rm`", "-x", "", "a\x00", "a'b", 'a"b']
INJECTIONS += ["a\u2028b"]


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize("key", ["account", "partition", "qos", "constraint", "memory", "modules"])
def test_facts_that_are_no_plain_words_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({key: [value] if key == "modules" else value})


@pytest.mark.parametrize("value", ["01:00:00\n#SBATCH --uid=0", "1h", "-1", "$T"])
def test_times_are_in_slurms_notation(value: str) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({"time": {"train": value}})


def test_a_wrong_fact_is_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").write_text("account: p01\npartiton: gpu\n")
    with pytest.raises(ConfigError, match=r"facts\.yaml:2: partiton: unknown key; did you mean 'partition'\?"):
        find_cluster(tmp_path / "facts.yaml")


@given(st.text(), st.sampled_from(["activate", "stage", "variables", "argument"]))
def test_no_text_makes_a_line_of_its_own(text: str, place: str) -> None:
    """Any text is refused, or reaches its command as one word unchanged."""
    stage = Stage("job", "report", (text if place == "argument" else "out",), "report")
    try:
        facts = {"variables": {"V": text}} if place == "variables" else {place: text} if place != "argument" else {}
        cluster = Cluster.model_validate(facts)
        script = render(stage, cluster, Path("logs"))
    except (ValidationError, ConfigError):
        return
    plain = render(Stage("job", "report", ("out",), "report"), Cluster(), Path("logs"))
    directives = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert directives == [line for line in plain.splitlines() if line.startswith("#SBATCH")]
    extra = len(script.splitlines()) - len(plain.splitlines())
    assert extra == (1 if place in ("activate", "variables") else 0)


@pytest.mark.parametrize("name", ["a b", "x\ny", "../up", "-rf"])
def test_names_of_jobs_are_checked(name: str) -> None:
    with pytest.raises(ConfigError):
        render(Stage(name, "report", (), "report"), Cluster(), Path("logs"))


@pytest.mark.parametrize("logs", ["with space", "a%j", "a\nb", "$(x)"])
def test_folders_of_logs_are_checked(logs: str) -> None:
    with pytest.raises(ConfigError):
        render(Stage("job", "report", (), "report"), Cluster(), Path(logs))


def test_submit_calls_sbatch_with_dependencies(fake: Path, tmp_path: Path) -> None:
    said: list[str] = []
    ids = submit(QUICKSTART, [], Path("runs/q"), Cluster(account="p01"), said.append)
    assert ids == {"simulate": 101, "train-slimtrain": 102, "train-adam": 103, "report": 104}
    assert said == [f"{number} {name}" for name, number in ids.items()]
    arguments = calls(fake)
    kill = "--kill-on-invalid-dep=yes"
    assert arguments[0] == ["--parsable", "runs/q/slurm/simulate.sbatch"]
    assert arguments[1][:3] == ["--parsable", "--dependency=afterok:101", kill]
    assert arguments[3][:3] == ["--parsable", "--dependency=afterany:102:103", kill]
    assert (tmp_path / "runs/q/slurm/quickstart.yaml").read_text() == QUICKSTART.read_text()
    assert "runs/q/slurm/quickstart.yaml" in (tmp_path / "runs/q/slurm/train-adam.sbatch").read_text()


def test_a_refusal_cancels_what_was_submitted(fake: Path) -> None:
    (fake / "refuse").write_text("train-adam")
    with pytest.raises(ResourceError, match="Invalid account"):
        submit(QUICKSTART, [], Path("runs/q"), Cluster(), print)
    assert calls(fake)[-1] == ["101", "102"]


def test_without_slurm_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResourceError, match="there is no sbatch here"):
        submit(QUICKSTART, [], Path("out"), Cluster(), print)


def test_the_command_renders_and_submits(fake: Path, tmp_path: Path) -> None:
    for verb, expected in (("render", "#SBATCH --job-name=train-adam"), ("submit", "103 train-adam")):
        words = ("slurm", verb, "quickstart", "--output", "runs/q")
        done = forked.run("-m", "surrogate", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout.splitlines()


def test_shipped_facts_are_the_defaults() -> None:
    assert find_cluster(None) == Cluster()
    assert shipped("pipelines/slurm/cluster.yaml").is_file()
