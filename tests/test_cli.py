"""The command line as a user meets it: help, one line for every mistake, documented exit codes, the whole job."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import forked
import h5py
import numpy as np
import pytest
import torch
import xarray as xr

from surrogate import cli
from surrogate.files import locked
from surrogate.models import Surrogate

pytestmark = pytest.mark.usefixtures("blank_pictures")

CONFIG = """
name: small
data:
  path: {path}
  layout:
    variables:
      k: {{path: k, axes: [sample, x]}}
      u: {{path: u, axes: [sample, x]}}
  inputs: [k]
  targets: [u]
  split: {{validation: 4, test: 4, seed: 1}}
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: slimtrain}}
training: {{epochs: 2, batch_size: 5, log_every: 1}}
"""


def write_files(folder: Path) -> None:
    k = np.random.default_rng(0).normal(size=(24, 8)).astype("f4")
    with h5py.File(folder / "data.h5", "w") as file:
        file["k"], file["u"] = k, k**2
    (folder / "small.yaml").write_text(CONFIG.format(path="data.h5"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with one file, a configuration and nothing else."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, in which `surrogate run small.yaml --output out` has ended."""
    folder = tmp_path_factory.mktemp("made")
    write_files(folder)
    ended = forked.run("-m", "surrogate", "run", "small.yaml", "--output", "out", folder=folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("report: out/report.html\n")
    return folder


@pytest.fixture
def finished(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working folder; tests leave the run and its files as they are."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command line in this process; returns exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["surrogate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.mark.parametrize(
    "command", ["simulate", "inspect", "convert", "train", "evaluate", "predict", "export", "report", "run"]
)
def test_every_help_shows_an_example(run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: surrogate {command} " in out


def test_predict_and_export_a_trained_run(folder: Path, run) -> None:
    assert run("train", "small.yaml", "--output", "model")[0] == 0
    with h5py.File("new.h5", "w") as file:  # inputs alone
        file["k"] = np.linspace(-1, 1, 24, dtype="f4").reshape(3, 8)
    code, out, _ = run("predict", "model", "new.h5", "-o", "p.nc")
    assert (code, out) == (0, "p.nc\n")
    with h5py.File("new.h5") as file:
        expected = Surrogate.load("model")(torch.from_numpy(file["k"][...])[:, None]).detach()
    with xr.open_dataset("p.nc", engine="h5netcdf") as found:
        np.testing.assert_allclose(found["u"], expected[:, 0], rtol=1e-5, atol=1e-6)
        assert "surrogate predict model new.h5" in found.attrs["history"]
    assert run("export", "model", "-o", "m.pt2")[:2] == (0, "m.pt2\n")
    code, _, err = run("export", "model", "-o", "m.pt2")
    assert (code, err) == (2, "error: m.pt2 exists already; choose another --output\n")
    code, _, err = run("predict", "nowhere", "new.h5")
    assert code == 2
    assert err.startswith("error: no readable surrogate in nowhere")


def test_version(run) -> None:
    assert run("--version")[1].startswith("surrogate 0.")


def test_help_imports_nothing_slow() -> None:
    script = """
import sys
import surrogate.cli
sys.argv = ["surrogate", "--help"]
try:
    surrogate.cli.main()
except SystemExit:
    pass
print(sorted({"torch", "xarray", "dask", "matplotlib", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_whole_job_on_a_users_file(finished: Path) -> None:
    case = finished / "out" / "cases" / "main"
    with xr.open_dataset(case / "evaluation" / "metrics.nc", engine="h5netcdf") as metrics:
        assert metrics.sizes["sample"] == 4
        assert metrics.attrs["split"] == "test"
        assert np.isfinite(metrics["relative_l2_sample"]).all()
    prediction = Surrogate.load(case)(torch.zeros(3, 1, 8))
    assert prediction.shape == (3, 1, 8)
    assert "<script" not in (finished / "out" / "report.html").read_text()


def test_step_by_step_gives_the_same_errors(run, finished: Path) -> None:
    assert run("train", "small.yaml", "--output", "step")[0] == 0
    assert run("evaluate", "step")[0] == 0
    assert run("report", "step")[1].strip() == "step/report.html"
    one, two = (Path(name) / "evaluation" / "metrics.csv" for name in ("out/cases/main", "step"))
    assert one.read_text() == two.read_text()


def test_another_part_leaves_the_test_evaluation_alone(run, finished: Path) -> None:
    case = finished / "out" / "cases" / "main"
    before = (case / "evaluation" / "metrics.csv").read_bytes()
    code, out, _ = run("evaluate", "out", "--split", "train")
    assert code == 0
    assert out.startswith("main: mean relative L2 on train")
    assert (case / "evaluation" / "metrics.csv").read_bytes() == before
    with xr.open_dataset(case / "evaluation-train" / "metrics.nc", engine="h5netcdf") as metrics:
        assert (metrics.attrs["split"], metrics.sizes["sample"]) == ("train", 16)


def test_samples_of_one_simulation_are_known_to_belong_together(run, folder: Path) -> None:
    with h5py.File("data.h5", "r+") as file:
        file["run"] = np.repeat(np.arange(6.0), 4)
    text = Path("small.yaml").read_text().replace("  inputs:", "      run: {path: run, axes: [sample]}\n  inputs:")
    text = text.replace("  split: {validation: 4, test: 4, seed: 1}", "  split: {validation: 1, test: 2}\n  by: run")
    Path("small.yaml").write_text(text)
    assert run("train", "small.yaml", "--output", "out")[0] == 0
    assert run("evaluate", "out")[0] == 0
    with open("out/evaluation/summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["samples"], row["simulations"]) for row in rows} == {("8", "2")}


def test_an_autoencoder_with_uncertainty_is_evaluated_in_full(run, folder: Path) -> None:
    changes = ["data.inputs=[u]", "model={family: autoencoder, width: 4, latent: 3, levels: 1}"]
    arguments = [part for change in [*changes, "training.uncertainty=true"] for part in ("--set", change)]
    code, _, err = run("run", "small.yaml", "--output", "out", *arguments)
    assert code == 0, err
    names = {path.name for path in Path("out/cases/main/evaluation").iterdir()}
    assert names == {
        *("MANIFEST.json", "compat.csv", "examples.nc", "latent.nc", "maps.nc", "metrics.csv", "metrics.nc"),
        *("summary.csv", "uncertainty.csv", "uncertainty.nc"),
    }
    with xr.open_dataset("out/cases/main/evaluation/latent.nc", engine="h5netcdf") as latent:
        assert (latent.attrs["latent_size"], latent.sizes["component"]) == (3, 2)
    text = Path("out/report.html").read_text()
    assert "Predicted standard deviations (split test" in text


def test_inspect_writes_a_configuration_that_runs(run, folder: Path) -> None:
    assert run("inspect", "data.h5", "--write-config", "mine.yaml")[0] == 0
    code, _, err = run("run", "mine.yaml", "--output", "out")
    assert code == 2
    assert "sample: ??? is not answered: which axis counts the simulations? Write one of n, x, none" in err
    answers = ["data.layout.sample=n", "data.layout.time=none"]
    overrides = [*answers, "model.width=4", "model.depth=1", "training.epochs=1", "data.split={validation: 4, test: 4}"]
    code, _, err = run(
        "train", "mine.yaml", "--output", "out", *(part for entry in overrides for part in ("--set", entry))
    )
    assert code == 0, err
    code, _, err = run("inspect", "data.h5", "--write-config", "mine.yaml")
    assert code == 2
    assert "mine.yaml exists already" in err


def test_inspect_config_of_axes_without_space(run, folder: Path) -> None:
    code, out, _ = run("inspect", "data.h5")
    assert code == 0
    assert "k: {path: k, axes: [n, x]}" in out
    assert "n: each of its 24 entries is a simulation" in out


BROKEN = {
    "missing file": (["--set", "data.path=none.h5"], 3, ["none.h5"]),
    "not HDF5": (["--set", "data.path=small.yaml"], 3, ["small.yaml", "is not HDF5: it looks like plain text"]),
    "missing variable": (["--set", "data.layout.variables.k.path=kk"], 3, ["kk", "k (24, 8)", "u (24, 8)"]),
    "wrong axes": (["--set", "data.layout.variables.k.axes=[sample, y, x]"], 3, ["(24, 8)", "sample, y, x"]),
    "unknown key": (["--set", "training.epoch=3"], 2, ["training.epoch", "did you mean 'epochs'?"]),
    "unknown input": (["--set", "data.inputs=[kk]"], 3, ["kk"]),
    "unknown family": (["--set", "model.family=convnets"], 2, ["model.family", "did you mean 'convnet'?"]),
    "unknown optimizer": (["--set", "optimizer.name=slimtrian"], 2, ["optimizer.name", "did you mean 'slimtrain'?"]),
    "rule without noise": (["--set", "optimizer.rule=sdp"], 2, ["noise variance"]),
    "malformed override": (["--set", "training"], 2, ["--set training: write it as key.subkey=value"]),
    "too many wanted": (["--set", "data.split.test=40"], 3, ["40 simulations", "24"]),
    "existing output": (["--output", "."], 2, ["exists already; give --overwrite"]),
    "foreign output": (["--output", ".", "--overwrite"], 2, ["not made by surrogate"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_input_is_one_clear_line(run, folder: Path, name: str) -> None:
    arguments, expected, parts = BROKEN[name]
    before = sorted(os.listdir())
    code, _, err = run("train", "small.yaml", *arguments)
    assert code == expected, err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err
    assert sorted(os.listdir()) == before


def test_nan_is_named_with_its_index(run, folder: Path) -> None:
    with h5py.File("data.h5", "r+") as file:
        file["k"][:, 3] = np.nan
    code, _, err = run("train", "small.yaml", "--output", "out")
    assert code == 3
    assert "'k'" in err
    assert "[sample 0, x 3]" in err
    assert not Path("out").exists()


def test_a_configuration_key_is_reported_with_its_line(run, folder: Path) -> None:
    text = Path("small.yaml").read_text().replace("batch_size", "batchsize")
    Path("small.yaml").write_text(text)
    code, _, err = run("train", "small.yaml")
    line = next(number for number, content in enumerate(text.splitlines(), 1) if "batchsize" in content)
    assert (code, err.strip()) == (
        2,
        f"error: small.yaml:{line}: training.batchsize: unknown key; did you mean 'batch_size'?",
    )


def test_a_run_folder_is_asked_for(run, folder: Path) -> None:
    code, _, err = run("evaluate", ".")
    assert code == 2
    assert "no run folder" in err


def test_report_wants_an_evaluation(run, folder: Path) -> None:
    run("train", "small.yaml", "--output", "out")
    code, _, err = run("report", "out")
    assert code == 2
    assert "surrogate evaluate" in err


def test_unknown_pipeline(run) -> None:
    code, _, err = run("run", "quickstrat")
    assert code == 2
    assert "did you mean 'quickstart'?" in err


def test_several_cases_need_a_choice(run, folder: Path) -> None:
    with open("small.yaml", "a") as file:
        file.write("cases: {a: {}, b: {optimizer: {name: adam}}}\n")
    code, _, err = run("train", "small.yaml")
    assert code == 2
    assert "choose one with --case" in err
    assert run("train", "small.yaml", "--case", "b")[1].strip() == "runs/small-b"


def test_a_signal_writes_a_checkpoint_and_resume_ends_the_run(run, folder: Path) -> None:
    words = ("train", "small.yaml", "--output", "out", "--set", "training.epochs=2000")
    process = forked.start("-m", "surrogate", *words, folder=folder)
    log = folder / "out" / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and log.stat().st_size):
        time.sleep(0.01)
    process.terminate()
    ended = forked.end(process, folder)
    assert ended.returncode == 75
    assert "a checkpoint is written: continue with --resume" in ended.stderr
    code, _, err = run("train", "small.yaml", "--output", "out", "--resume")
    assert code == 2
    assert "training.epochs: 2000 -> 2" in err


def test_evaluation_refuses_data_that_changed(run, folder: Path) -> None:
    assert run("train", "small.yaml", "--output", "out")[0] == 0
    with h5py.File("data.h5", "r+") as file:
        file["u"][0] = 0
    code, _, err = run("evaluate", "out")
    assert code == 3
    assert "the data are not those out was trained on" in err


def test_evaluation_works_from_another_folder(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("train", "small.yaml", "--output", "out")[0] == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert run("evaluate", "../out")[0] == 0


def test_the_folder_of_a_pipeline_stands_for_its_cases(run, finished: Path) -> None:
    assert run("evaluate", "out", "--split", "validation")[1].startswith("main: mean relative L2 on validation")


def test_resume_leaves_a_foreign_folder_alone(run, folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "thesis.tex").touch()
    code, _, err = run("train", "small.yaml", "--output", "thesis", "--resume")
    assert code == 2
    assert "not made by surrogate" in err
    assert os.listdir("thesis") == ["thesis.tex"]


def test_overwrite_never_removes_the_data(run, folder: Path) -> None:
    assert run("train", "small.yaml", "--output", "out")[0] == 0
    os.rename("data.h5", "out/data.h5")
    code, _, err = run("train", "small.yaml", "--set", "data.path=out/data.h5", "--output", "out", "--overwrite")
    assert code == 2
    assert "is inside the output" in err
    assert Path("out/data.h5").exists()


def test_parameters_alone_are_refused_before_anything_is_written(run, folder: Path) -> None:
    with h5py.File("data.h5", "r+") as file:
        file["mu"] = np.arange(24.0)
    arguments = ["--set", "data.layout.variables.mu={path: mu, axes: [sample]}", "--set", "data.inputs=[mu]"]
    code, _, err = run("train", "small.yaml", *arguments, "--output", "out")
    assert code == 2
    assert "data.inputs have the grid (), data.targets (8,)" in err
    assert not Path("out").exists()


def test_a_run_that_never_had_a_finite_loss_fails(run, folder: Path) -> None:
    code, _, err = run("train", "small.yaml", "--set", "optimizer={name: sgd, learning_rate: 1e30}", "--output", "out")
    assert code == 4
    assert "learning_rate" in err


def test_two_processes_on_one_output(run, folder: Path) -> None:
    assert run("train", "small.yaml", "--output", "out")[0] == 0
    with locked(Path("out")):
        code, _, err = run("train", "small.yaml", "--output", "out", "--resume")
        assert code == 5
        assert "another process writes to out" in err
        assert run("train", "small.yaml", "--output", "out", "--overwrite")[0] == 5


def test_a_case_may_change_single_values(run, folder: Path) -> None:
    with open("small.yaml", "a") as file:
        file.write("cases: {a: {training.schedule: cosine}, b: {training.scedule: cosine}}\n")
    code, _, err = run("run", "small.yaml", "--output", "out")
    assert code == 2
    assert "training.scedule: unknown key; did you mean 'schedule'?" in err
    text = Path("small.yaml").read_text().replace("scedule", "schedule")
    Path("small.yaml").write_text(text)
    assert run("train", "small.yaml", "--case", "a", "--output", "out")[0] == 0
    written = Path("out/config.yaml").read_text()
    assert "schedule: cosine" in written
    assert "epochs: 2" in written
