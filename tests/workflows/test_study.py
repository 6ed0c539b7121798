"""Studies: every case once, the same table however it was run, and what a user is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from surrogate.errors import ConfigError, DataError, Interrupted, NumericalError, ResourceError, SurrogateError
from surrogate.files import locked
from surrogate.runtime import dask as dask_cluster
from surrogate.studies import read_plan
from surrogate.workflows import Spread, execute, read_part, report_folders, run_file

pytestmark = pytest.mark.usefixtures("blank_pictures")

BASE = {
    "name": "small",
    "data": {
        "path": "data.h5",
        "layout": {
            "variables": {"k": {"path": "k", "axes": ["sample", "x"]}, "u": {"path": "u", "axes": ["sample", "x"]}}
        },
        "inputs": ["k"],
        "targets": ["u"],
        "split": {"validation": 4, "test": 4},
    },
    "model": {"family": "convnet", "width": 3, "depth": 1},
    "optimizer": {"name": "slimtrain"},
    "training": {"epochs": 1, "batch_size": 8},
    "cases": {"slimtrain": {}, "adam": {"optimizer": {"name": "adam"}}},
    "study": {"kind": "learning_curve", "axes": {"data.split.train": [4, 8]}, "seeds": [0]},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as on a worker, so that the bits agree
    yield
    torch.set_num_threads(before)


def write_data(folder: Path) -> None:
    k = np.random.default_rng(0).normal(size=(24, 8)).astype("f4")
    with h5py.File(folder / "data.h5", "w") as file:
        file["k"], file["u"] = k, k + np.roll(k, 1, axis=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.set_num_threads(1)
        assert run()[0] == "study small: 4 cases, 4 of them here"
    return folder / "out"


@pytest.fixture
def finished(folder: Path, whole: Path) -> Path:
    """A copy of it to go on with."""
    shutil.copytree(whole, folder / "out")
    return folder


def run(tree=BASE, output="out", **options):
    """Run a study; returns what it said."""
    Path("study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    said: list[str] = []
    options = {"resume": False, "overwrite": False} | options
    run_file(Path("study.yaml"), [], Path(output), said.append, command="surrogate run study.yaml", **options)
    return said


def table(output: str | Path = "out") -> xr.Dataset:
    loaded = xr.load_dataset(Path(output) / "table.nc", engine="h5netcdf")
    return loaded.drop_vars(["seconds", "curve_seconds"])


def changed(**study):
    return BASE | {"study": BASE["study"] | study}


def test_a_study_makes_its_table_and_its_report(whole: Path) -> None:
    result = table(whole)
    assert result.sizes == {"point": 4, "sample": 4, "epoch": 1}
    assert set(result["status"].values) == {"done"}
    assert np.allclose(result["sample_error"].mean("sample"), result["error"])
    assert sorted(result["train"].values) == [4] * 2 + [8] * 2
    page = (whole / "report.html").read_text()
    assert "<script" not in page
    assert 'src="http' not in page
    assert "4 training simulations" in page
    header, *rows = (whole / "table.csv").read_text().splitlines()
    assert header.split(",")[:2] == ["method", "grid"]
    assert len(rows) == 4


def test_the_report_of_a_study_follows_from_its_table(folder: Path) -> None:
    """Medians, extremes and percentages of the page, from the errors of the samples in `table.nc`."""
    run(changed(seeds=[0, 1, 2], metric="rmse", axes={"data.split.train": [8]}))
    result, page = table(), Path("out/report.html").read_text()
    errors = np.sqrt((result["sample_error"].values ** 2).mean(1))  # a root of a mean over the test samples
    np.testing.assert_allclose(errors, result["error"])
    for method in ("slimtrain", "adam"):
        own = errors[result["method"].values == method]
        low, middle, high = (f"{value:.4g}" for value in (own.min(), np.median(own), own.max()))
        assert f"{middle} ({low}, {high})" in page


def test_stopped_and_resumed_it_gives_the_same_table_and_runs_no_case_twice(folder, whole, monkeypatch) -> None:
    trained = []
    train = execute.train

    def counted(experiment, output, **options):
        if len(trained) == 2:
            trained.append("stopped")
            raise Interrupted("stopped by SIGTERM at step 1; a checkpoint is written: continue with --resume")
        trained.append(Path(output).name)
        return train(experiment, output, **options)

    monkeypatch.setattr(execute, "train", counted)
    with pytest.raises(Interrupted):
        run()
    said = run(resume=True)
    assert said[0] == "study small: 4 cases, 4 of them here, 2 of them finished before"
    trained.remove("stopped")
    assert sorted(trained) == sorted(read_plan(Path("out")).cases)
    xr.testing.assert_identical(table(), table(whole))
    run(resume=True)
    assert len(trained) == 4


@pytest.mark.slow
def test_two_workers_give_the_same_table_as_one_process(folder: Path, whole: Path) -> None:
    run(spread=Spread(workers=2))
    xr.testing.assert_identical(table(), table(whole))


@pytest.mark.slow
def test_a_killed_worker_costs_its_case_alone(folder: Path) -> None:
    """The others keep what they have; the case goes on elsewhere, and the table is that of one process."""
    tree = changed(seeds=[0, 1, 2]) | {"training": {"epochs": 20, "batch_size": 2}}
    kept: dict[Path, int] = {}

    def watch(line: str) -> None:
        if line.startswith("[2/") and not kept:
            kept.update({path: path.stat().st_mtime_ns for path in folder.glob("killed/cases/*/result.json")})
            pids, processing = client.run(os.getpid), client.processing()
            os.kill(pids[next(address for address, tasks in processing.items() if tasks)], signal.SIGKILL)

    run(tree, output="calm")
    with dask_cluster._client(2, None) as client:
        spread = Spread(scheduler=client.scheduler_info()["address"])
        options = {"command": "surrogate run study.yaml", "resume": False, "overwrite": False, "spread": spread}
        run_file(Path("study.yaml"), [], Path("killed"), watch, **options)
    assert kept
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(folder.glob("killed/cases/*/result.json"))) == 12
    xr.testing.assert_identical(table("killed"), table("calm"))


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["workers", "scheduler"])
def test_a_study_ends_when_nobody_is_left_to_run_it(folder: Path, monkeypatch, lost: str) -> None:
    monkeypatch.setattr(dask_cluster, "CHECKS_ELSEWHERE", 3)
    tree = changed(seeds=[0, 1, 2]) | {"training": {"epochs": 20, "batch_size": 2}}

    def watch(line: str) -> None:
        if line.startswith("[1/") and lost == "scheduler":
            cluster.close()
        elif line.startswith("[1/"):
            for nanny in cluster.workers.values():
                nanny.close_gracefully()  # so that it starts no other
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)

    with dask_cluster._client(2, None) as client:
        cluster = client.cluster
        spread = Spread(scheduler=cluster.scheduler_address)
        options = {"command": "surrogate run study.yaml", "resume": False, "overwrite": False, "spread": spread}
        Path("study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        with pytest.raises(ResourceError, match=r"its scheduler, or all its workers for 3 s;.* is kept"):
            run_file(Path("study.yaml"), [], Path("out"), watch, **options)
    assert 1 <= len(list(folder.glob("out/cases/*/result.json"))) < 12
    assert not list(folder.glob("out/cases/*/failed.json"))
    run(tree, resume=True)
    assert set(table()["status"].values) == {"done"}


def test_parts_cover_a_study(folder: Path, whole: Path) -> None:
    first = run(spread=Spread(part=(1, 2)))
    assert first[-1] == "2 of 4 cases are finished; when the other parts are done: surrogate report out"
    assert not Path("out/report.html").exists()
    assert run(spread=Spread(part=(2, 2)))[-1] == "report: out/report.html"
    xr.testing.assert_identical(table(), table(whole))


def test_more_seeds_reuse_what_is_there(finished: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in Path("out").glob("cases/*/result.json")}
    said = run(changed(seeds=[0, 1]), resume=True)
    assert said[0] == "study small: 8 cases, 8 of them here, 4 of them finished before"
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert table().sizes["point"] == 8


def test_a_failed_case_is_reported_and_the_rest_goes_on(folder: Path) -> None:
    tree = changed(axes={"optimizer.learning_rate": [1e-3, 1e30]}, kind="sensitivity", seeds=[0])
    tree["cases"] = {"sgd": {"optimizer": {"name": "sgd"}}, "adam": {"optimizer": {"name": "adam"}}}
    tree["training"] = {"epochs": 3, "batch_size": 8}
    said = run(tree)
    result = table()
    bad = result.isel(point=np.flatnonzero(result["status"] == "failed"))
    assert set(bad["optimizer.learning_rate"].values) == {1e30}
    assert "sgd" in bad["method"].values
    assert all("learning_rate" in why for why in bad["why"].values)
    assert "cases failed; the report says which and why" in said[-2]
    assert "learning_rate" in Path("out/report.html").read_text()
    failure = json.loads(next(Path("out").glob("cases/sgd-*/failed.json")).read_text())
    assert failure["final"]
    run(tree, resume=True)
    xr.testing.assert_identical(table(), result)


def test_a_study_of_failures_alone_is_an_error(folder: Path) -> None:
    tree = changed(axes={"optimizer.learning_rate": [1e30]}, kind="sensitivity", seeds=[0])
    tree["cases"] = {"sgd": {"optimizer": {"name": "sgd"}}}
    with pytest.raises(NumericalError, match="every case of the study failed, the first with: "):
        run(tree)


@pytest.mark.parametrize(("metric", "units"), [("rmse", "K"), ("relative_l2", None)])
def test_errors_have_the_units_of_the_targets_where_their_metric_does(folder: Path, metric: str, units: str) -> None:
    tree = yaml.safe_load(yaml.safe_dump(changed(metric=metric, axes={"data.split.train": [4]})))
    tree["data"]["layout"]["variables"]["u"]["units"] = "K"
    run(tree)
    assert table()["error"].attrs.get("units") == table()["sample_error"].attrs.get("units") == units


def test_a_curve_longer_than_the_data_is_refused_before_training(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train = 17, data\.split: train takes 17 simulations, but 16 of 24 are left"):
        run(changed(axes={"data.split.train": [4, 17]}))
    assert not Path("out/cases").exists()


def test_a_curve_is_as_long_as_the_simulations_that_are_not_dropped(folder: Path) -> None:
    with h5py.File("data.h5", "r+") as file:
        file["u"][3, 2] = np.nan
    data = BASE["data"] | {"nonfinite": "drop"}
    with pytest.raises(DataError, match=r"train takes 16 simulations, but 15 of 23 are left"):
        run(changed(axes={"data.split.train": [4, 16]}) | {"data": data})
    assert not Path("out/cases").exists()


def test_a_curve_without_sizes_halves_what_there_is(folder: Path) -> None:
    run(changed(axes={}, seeds=[0]) | {"cases": {"adam": {"optimizer": {"name": "adam"}}}})
    assert table()["train"].values.tolist() == [2, 4, 8, 16]


def test_every_method_is_tuned_alike(folder: Path) -> None:
    tuned = {"optimizer.learning_rate": [1e-3, 1e-2]}
    run(changed(tuning=tuned, axes={}, kind="budget", seeds=[0]))
    result = table()
    assert result.sizes["point"] == 4
    assert "2 trials for each method" in Path("out/report.html").read_text()
    with pytest.raises(ConfigError, match=r"same number of trials \(slimtrain 2, adam 1\)"):
        run(changed(tuning={"slimtrain": tuned, "adam": {"optimizer.learning_rate": [1e-3]}}), output="other")
    with pytest.raises(ConfigError, match=r"adam has no setting optimizer\.memory_depth"):
        run(changed(tuning={"optimizer.memory_depth": [0, 5]}), output="other")


def test_a_setting_that_a_method_lacks_leaves_it_as_it_is(folder: Path) -> None:
    run(changed(kind="sensitivity", axes={"optimizer.memory_depth": [0, 5]}))
    assert len(list(Path("out").glob("cases/adam-*"))) == 1
    assert len(list(Path("out").glob("cases/slimtrain-*"))) == 2
    report = Path("out/report.html").read_text()
    assert "the median error of slimtrain runs" in report
    assert "the median error of adam runs" not in report
    with pytest.raises(ConfigError, match=r"no method has a setting optimizer\.memory_dept; did you mean"):
        run(changed(kind="sensitivity", axes={"optimizer.memory_dept": [0]}), output="other")


def test_a_case_in_use_is_left_to_the_other_process(finished: Path) -> None:
    case = next(Path("out").glob("cases/adam-*"))
    (case / "result.json").unlink()
    unfinished = pytest.raises(ResourceError, match=r"1 of 4 cases are not finished, .*: another process runs it; ")
    with locked(case, ".case.lock"), unfinished:
        run(resume=True)
    assert report_folders([Path("out")], None, command="surrogate report out") == Path("out/report.html")
    assert "missing" in Path("out/report.html").read_text()


@pytest.mark.slow
def test_a_signal_ends_a_study_that_resumes(folder: Path) -> None:
    tree = BASE | {"training": {"epochs": 30, "batch_size": 2}}
    Path("study.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    command = [sys.executable, "-m", "surrogate", "run", "study.yaml", "--output", "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(folder.glob("out/cases/*/log.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert "--resume" in error
    run(tree, resume=True)
    run(tree, output="again")
    xr.testing.assert_identical(table(), table("again"))


def test_plain_pipelines_are_not_spread(folder: Path) -> None:
    tree = {key: value for key, value in BASE.items() if key != "study"}
    with pytest.raises(ConfigError, match="no section `study`: --workers, --scheduler and --part are for studies"):
        run(tree, spread=Spread(workers=2))


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_a_part_is_k_of_n(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as K/N"):
        read_part(text)


LOOP = {
    "name": "loop",
    "simulate": {"recipe": "peaks", "size": "tiny"},
    "data": {"inputs": ["y1", "y2"], "targets": ["c"], "split": {"validation": 20, "test": 20}},
    "model": {"family": "mlp", "width": 4, "depth": 1},
    "optimizer": {"name": "slimtrain"},
    "training": {"epochs": 1, "batch_size": 5},
    "study": {
        "kind": "propose",
        "propose": {"initial": 6, "batch": 3, "rounds": 1},
        "seeds": [0],
        "metric": "rmse",
    },
}


def test_a_loop_proposes_and_goes_on_from_what_it_has(folder: Path) -> None:
    run(LOOP)
    result = table()
    assert sorted(zip(result["method"].values, result["train"].values, strict=True)) == [
        ("random", 6), ("random", 9), ("variance", 6), ("variance", 9),
    ]  # fmt: skip
    start = result.isel(point=np.flatnonzero(result["train"] == 6))
    assert len(set(start["error"].values)) == 1  # both ways start from the same simulations
    notes = [json.loads(path.read_text()) for path in Path("out").glob("loops/*/round-1/chosen.json")]
    assert len({str(note["simulations"][6:]) for note in notes}) == 2
    longer = LOOP | {"study": LOOP["study"] | {"propose": {"initial": 6, "batch": 3, "rounds": 2}}}
    assert run(longer, resume=True)[0] == "study loop: 6 cases, 6 of them here, 4 of them finished before"
    kept = table()
    xr.testing.assert_identical(
        kept.isel(point=np.flatnonzero(kept["train"] < 12)).drop_vars("number"), result.drop_vars("number")
    )
    for path in Path("out").glob("loops/*/round-2/data.h5"):  # a flipped bit in what the next round would go on from
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    longest = LOOP | {"study": LOOP["study"] | {"propose": {"initial": 6, "batch": 3, "rounds": 3}}}
    with pytest.raises(SurrogateError):
        run(longest, resume=True)
    failures = [path.read_text() for path in Path("out").rglob("failed.json")]
    assert len(failures) == 2
    assert all("data.h5 was changed after it was written" in text for text in failures)


def test_a_loop_needs_enough_candidates(folder: Path) -> None:
    tree = LOOP | {"study": LOOP["study"] | {"propose": {"initial": 100, "batch": 50, "rounds": 2}}}
    with pytest.raises(DataError, match="200 training simulations in the end, but 160 of the 200 of size tiny"):
        run(tree)
    assert not Path("out").exists()
