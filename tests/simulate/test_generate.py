"""Data sets from recipes: the same whatever the batch, the shards and the interruptions."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import Client

from surrogate.config import digest
from surrogate.data.store import Manifest, read_manifest, verify
from surrogate.errors import ConfigError, NumericalError, ResourceError
from surrogate.progress import ProgressBar
from surrogate.runtime.dask import _client, dask_executor
from surrogate.simulate import EQUATIONS, Grid, Numerics, Stepper
from surrogate.simulate.generate import PROGRESS, Recipe, generate, is_made, load_recipe, simulate_members

SMALL = ["grid=[18, 20]", "snapshots=4", "simulations=11", "shard=4"]


def small(*overrides: str) -> Recipe:
    return load_recipe("convection_diffusion", [f"sizes.tiny.{entry}" for entry in SMALL] + list(overrides))


def checksums(folder: Path) -> dict[str, str]:
    return {shard.file: shard.sha256 for shard in verify(folder).shards}


def opened(folder: Path) -> xr.Dataset:
    parts = [xr.load_dataset(folder / file, engine="h5netcdf") for file in checksums(folder)]
    return xr.concat(parts, "sample", data_vars="all")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(small(), "tiny", tmp_path_factory.mktemp("made") / "data")


def test_what_is_in_the_folder(made: Path) -> None:
    manifest = verify(made)
    assert [shard.samples for shard in manifest.shards] == [4, 4, 3]
    assert (manifest.name, manifest.samples, manifest.failed) == ("convection_diffusion", 11, [])
    stored = load_recipe(made / "recipe.yaml")
    assert list(stored.sizes) == ["tiny"]
    assert digest(stored) == manifest.digest
    visible = {path.name for path in made.iterdir() if not path.name.startswith(".")}
    assert visible == {"manifest.json", "recipe.yaml", *checksums(made)}


def test_shards_hold_the_simulations_of_the_recipe(made: Path) -> None:
    data = opened(made)
    np.testing.assert_array_equal(data.simulation, np.arange(11))
    xr.testing.assert_identical(data, simulate_members(small(), "tiny", range(11)))
    xr.testing.assert_identical(data.isel(sample=[7]), simulate_members(small(), "tiny", [7]))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_same_bytes_whatever_the_batch(made: Path, tmp_path: Path, batch: int) -> None:
    assert checksums(generate(small(), "tiny", tmp_path / "data", batch=batch)) == checksums(made)


@pytest.mark.parametrize("shard", [1, 5, 100])
def test_same_content_whatever_the_shards(made: Path, tmp_path: Path, shard: int) -> None:
    other = generate(small(f"sizes.tiny.shard={shard}"), "tiny", tmp_path / "data")
    xr.testing.assert_identical(opened(other), opened(made))


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(small(), "tiny", tmp_path / "data", batch=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 11), (3, 11), (4, 11), (7, 11), (8, 11), (11, 11)]


def test_existing_output_is_refused_or_replaced(tmp_path: Path) -> None:
    output = generate(small(), "tiny", tmp_path / "data")
    with pytest.raises(ConfigError, match="exists already; give --overwrite"):
        generate(small(), "tiny", output)
    generate(small("seed=1"), "tiny", output, overwrite=True)
    assert load_recipe(output / "recipe.yaml").seed == 1
    verify(output)


# --- resuming ---------------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """Not an error: the user leaves."""


@pytest.mark.parametrize("after", [1, 3, 4, 8, 10])
def test_resumed_run_equals_an_undisturbed_one(made: Path, tmp_path: Path, after: int) -> None:
    def stop(done: int, total: int) -> None:
        if done >= after:
            raise Stop

    with pytest.raises(Stop):
        generate(small(), "tiny", tmp_path / "data", batch=1, progress=stop)
    assert not (tmp_path / "data" / "manifest.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.h5")}
    output = generate(small(), "tiny", tmp_path / "data", resume=True)
    assert len(kept) == (after - 1) // 4
    assert all((output / name).stat().st_mtime_ns == time for name, time in kept.items())
    assert checksums(output) == checksums(made)
    assert not (output / "progress.json").exists()


def test_resume_mends_a_damaged_shard_and_a_missing_one(made: Path, tmp_path: Path) -> None:
    output = generate(small(), "tiny", tmp_path / "data")
    first, second, _ = sorted(output.glob("*.h5"))
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.unlink()
    assert checksums(generate(small(), "tiny", output, resume=True)) == checksums(made)


def test_resume_with_another_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    output = generate(small(), "tiny", tmp_path / "data")
    changed = small("parameters.speed.high=2.0", "sizes.tiny.snapshots=5")
    with pytest.raises(ConfigError, match=r"parameters.speed.high: 1.0 -> 2.0; sizes.tiny.snapshots: 4 -> 5\); resume"):
        generate(changed, "tiny", output, resume=True)
    with pytest.raises(ConfigError, match=r"sizes.default.grid: absent -> \[64, 64\]"):
        generate(small(), "default", output, resume=True)
    verify(output)


def test_resume_leaves_a_foreign_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(ConfigError, match="not made by surrogate"):
        generate(small(), "tiny", tmp_path, resume=True)
    assert (tmp_path / "thesis.tex").read_text() == "text"


# --- failing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def unstable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Members whose velocity along x is negative blow up."""
    plain = EQUATIONS["convection_diffusion"]

    def stepper(parameters: Mapping[str, np.ndarray], grid: Grid, step: float, numerics: Numerics) -> Stepper:
        inner = plain.stepper(parameters, grid, step, numerics)
        factor = torch.where(torch.from_numpy(parameters["velocity_x"]) < 0, torch.inf, 1.0).reshape(-1, 1, 1, 1)
        return lambda u: inner(u) * factor

    monkeypatch.setitem(EQUATIONS, "convection_diffusion", replace(plain, stepper=stepper))


@pytest.mark.usefixtures("unstable")
def test_simulations_that_blow_up_are_named_and_not_written(made: Path, tmp_path: Path) -> None:
    output = generate(small("max_failed=1.0"), "tiny", tmp_path / "data", batch=5)
    good, manifest = opened(made), verify(output)
    blown = good.simulation.values[good.velocity_x.values < 0]
    assert 0 < len(blown) < 11
    assert [failure.simulation for failure in manifest.failed] == list(blown)
    assert all(failure.parameters["velocity_x"] < 0 for failure in manifest.failed)
    xr.testing.assert_identical(opened(output), good.isel(sample=good.velocity_x.values >= 0))


@pytest.mark.usefixtures("unstable")
def test_a_shard_without_data_is_not_written(tmp_path: Path) -> None:
    output = generate(small("max_failed=1.0", "sizes.tiny.shard=1"), "tiny", tmp_path / "data")
    manifest: Manifest = read_manifest(output)
    assert len(manifest.shards) == manifest.samples == len(list(output.glob("*.h5"))) == 11 - len(manifest.failed)
    assert generate(small("max_failed=1.0", "sizes.tiny.shard=1"), "tiny", output, resume=True)
    assert read_manifest(output) == manifest


@pytest.mark.usefixtures("unstable")
def test_too_many_failures_end_the_run(tmp_path: Path) -> None:
    message = r"\d of 11 simulations blew up when \d+ had run, more than max_failed 0.1 allows; first number \d+ \(vel"
    with pytest.raises(NumericalError, match=message):
        generate(small(), "tiny", tmp_path / "data")
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_two_processes_on_one_output(tmp_path: Path) -> None:
    output = generate(small(), "tiny", tmp_path / "data")
    with open(output / ".lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process writes to"):
            generate(small(), "tiny", output, resume=True)
    generate(small(), "tiny", output, resume=True)


def test_batch_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch is 0"):
        generate(small(), "tiny", tmp_path / "data", batch=0)
    assert not (tmp_path / "data").exists()


# --- many workers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_same_bytes_whatever_the_number_of_workers(made: Path, tmp_path: Path, workers: int) -> None:
    seen: list[int] = []
    with ThreadPoolExecutor(workers) as executor:
        output = generate(
            small(), "tiny", tmp_path / "data", executor=executor, progress=lambda done, total: seen.append(done)
        )
    assert checksums(output) == checksums(made)
    assert read_manifest(output) == read_manifest(made)
    assert seen[0] == 0
    assert sorted(seen) == seen
    assert seen[-1] == 11


@pytest.mark.usefixtures("unstable")
def test_workers_report_simulations_that_blow_up(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(NumericalError, match=r"more than max_failed 0\.1 allows"):
            generate(small(), "tiny", tmp_path / "a", executor=executor)
        side_by_side = generate(small("max_failed=1.0"), "tiny", tmp_path / "b", executor=executor)
    alone = generate(small("max_failed=1.0"), "tiny", tmp_path / "c")
    assert read_manifest(side_by_side) == read_manifest(alone)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """A worker on this machine, in a process of its own."""
    with _client(1, None) as client:
        yield client


def test_a_dask_cluster_makes_the_same_files(cluster: Client, made: Path, tmp_path: Path) -> None:
    """A process on this machine, reached by its address as well; every port listens on 127.0.0.1 alone."""
    output = generate(small(), "tiny", tmp_path / "a", executor=cluster.get_executor())
    assert checksums(output) == checksums(made)
    info = cluster.scheduler_info()
    addresses = [info["address"], *info["workers"], *(worker["nanny"] for worker in info["workers"].values())]
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
    with dask_executor(scheduler=info["address"]) as executor:
        assert checksums(generate(small(), "tiny", tmp_path / "b", executor=executor)) == checksums(made)


def test_local_workers_outlive_a_pause_and_keep_freed_memory(cluster: Client) -> None:
    """A scheduler that forgets silent workers leaves a study that was paused waiting for ever."""
    assert cluster.cluster.scheduler.worker_ttl is None
    told = cluster.run(os.getenv, "MALLOC_TRIM_THRESHOLD_")
    assert [int(value) for value in told.values()] == [2**28]


def kill_a_busy_worker(client: Client) -> None:
    pids = client.run(os.getpid)
    end = time.monotonic() + 60
    while not (busy := [address for address, tasks in client.processing().items() if tasks]):
        assert time.monotonic() < end, "no worker has anything to do"
    os.kill(pids[busy[0]], signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_costs_its_task_alone(tmp_path: Path) -> None:
    """What was noted before it died is left as it is; its task runs again, and the files are those of one process."""
    kept: dict[Path, int] = {}
    recipe = small("sizes.tiny.simulations=40", "sizes.tiny.shard=2")

    def watch(done: int, _total: int) -> None:
        if done >= 8 and not kept:
            noted = read_manifest(tmp_path / "killed", PROGRESS).shards
            kept.update({path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / s.file for s in noted)})
            kill_a_busy_worker(client)

    with _client(2, None) as client:
        killed = generate(recipe, "tiny", tmp_path / "killed", progress=watch, executor=client.get_executor())
    assert kept
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert checksums(killed) == checksums(generate(recipe, "tiny", tmp_path / "calm"))
    assert not list(killed.rglob("*.part"))


def test_data_are_known_to_be_made_without_being_read(made: Path, tmp_path: Path) -> None:
    assert is_made(small(), "tiny", made)
    assert not is_made(small("sizes.tiny.simulations=12"), "tiny", made)
    assert not is_made(small(), "tiny", tmp_path / "absent")
    copy = shutil.copytree(made, tmp_path / "copy")
    shard = next(copy.glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not is_made(small(), "tiny", copy)


def test_cluster_messages() -> None:
    with pytest.raises(ConfigError, match="either a number of workers or the address"), dask_executor():
        pass
    with pytest.raises(ResourceError, match="no dask scheduler at nowhere"), dask_executor(scheduler="nowhere://1"):
        pass


# --- progress ---------------------------------------------------------------------------------------------------------


def test_plain_progress_tells_rate_and_time_left() -> None:
    text = io.StringIO()
    with ProgressBar("simulating", "simulations", file=text, every=0.0) as watch:
        for done in (4, 6, 10):
            watch(done, 10)
    lines = text.getvalue().splitlines()
    assert lines[0] == "4 of 10 simulations, 0 per s"
    assert re.fullmatch(r"6 of 10 simulations, [\d.e+]+ per s, \d+ s left", lines[1])
    assert re.fullmatch(r"10 of 10 simulations, [\d.e+]+ per s", lines[2])


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(text, "isatty", lambda: True)
    with ProgressBar("simulating", "simulations", file=text) as watch:
        watch(0, 10)
        watch(7, 10)
    assert "7 of 10" in text.getvalue()
    assert "per s" in text.getvalue()
