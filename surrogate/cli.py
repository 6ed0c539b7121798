"""The command line; everything slow is imported inside the commands."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from surrogate import __version__
from surrogate.errors import ConfigError, did_you_mean
from surrogate.files import check_output
from surrogate.progress import say
from surrogate.runtime.command import run_command
from surrogate.runtime.launch import launch as start_ranks
from surrogate.runtime.launch import requeue as put_back

__all__ = ["app", "main"]

app = typer.Typer(
    name="surrogate",
    help="Surrogate models of PDE simulations from few data: HDF5 in, slimTrain inside, honest errors out.",
    epilog="Start with: surrogate run quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

slurm = typer.Typer(no_args_is_help=True, help="Job scripts for Slurm: render, submit, requeue.", rich_markup_mode=None)
app.add_typer(slurm, name="slurm")

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write into.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a value: key.subkey=value. May be repeated.")
]
LayoutName = Annotated[
    str | None, typer.Option("--layout", help="auto, shards, netcdf, pdebench, the_well or idx; without it, auto.")
]
LayoutFrom = Annotated[Path | None, typer.Option("--config", help="A configuration that declares data.layout.")]
ClusterFile = Annotated[Path | None, typer.Option("--cluster", help="Your copy of pipelines/slurm/cluster.yaml.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes of a dask cluster on this machine.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a running dask scheduler.")]
Config = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped pipeline.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        typer.echo(f"surrogate {__version__}")
        raise typer.Exit


@app.command(epilog="Example: surrogate simulate convection_diffusion --size tiny --output data/cd --workers 2")
def simulate(
    recipe: Annotated[str, typer.Argument(help="A recipe of the catalogue, or a YAML file.")],
    size: Annotated[str, typer.Option(help="One of the recipe's sizes.")] = "default",
    output: Output = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Simulations that are stepped together.")] = 16,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    card: Annotated[Path | None, typer.Option(help="Write the data set's card into this folder instead.")] = None,
) -> None:
    """Simulate an ensemble into HDF5 shards."""
    from surrogate.progress import ProgressBar
    from surrogate.simulate.generate import find_recipe, generate, load_recipe

    loaded = load_recipe(find_recipe(recipe), overrides)
    if card is not None:
        from surrogate.simulate.card import write_card

        say(f"{write_card(loaded, size, card)}")
        return
    folder = output or Path("data") / loaded.name
    remedy = "use fewer workers, or a smaller --set sizes.<size>.shard"
    check_output(folder, overwrite=overwrite, resume=resume, reads=[find_recipe(recipe)])
    with _executor(workers, scheduler, remedy) as executor, ProgressBar("simulating", "simulations") as progress:
        options: dict[str, Any] = {"batch": batch, "resume": resume, "overwrite": overwrite, "device": device}
        generate(loaded, size, folder, progress=progress, executor=executor, **options)
    say(f"{folder}")


@app.command(epilog="Example: surrogate inspect simulations.h5")
def inspect(
    path: Annotated[str, typer.Argument(help="An HDF5 or NetCDF-4 file, a folder of them, or a pattern.")],
    layout: LayoutName = None,
    config: LayoutFrom = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")] = False,
    write_config: Annotated[Path | None, typer.Option(help="Write a configuration to start from.")] = None,
) -> None:
    """Show what is in a file, what may be wrong with it, and how to train on it."""
    from surrogate.data.inspect import describe, render
    from surrogate.workflows import write_starter

    description = describe(path, _layout(layout, config))
    if as_json:
        typer.echo(json.dumps(description.to_json(), indent=2))
    for line in [] if as_json else render(description):
        typer.echo(line)
    if write_config is not None:
        write_starter(write_config, Path(path).stem, description.suggested_config)
        advice = f"wrote {write_config}: check its axes, inputs and targets, then `surrogate run {write_config}`"
        typer.echo(advice, err=as_json)


@app.command(epilog="Example: surrogate convert simulations.h5 data/shards --to shards --config mine.yaml")
def convert(
    source: Annotated[str, typer.Argument(help="A file, a folder of files, or a pattern.")],
    output: Annotated[Path, typer.Argument(help="Folder to write into.")],
    to: Annotated[str, typer.Option(help="shards, the_well or pdebench.")] = "shards",
    layout: LayoutName = None,
    config: LayoutFrom = None,
    memory: Annotated[str, typer.Option(help="Upper bound of the data in memory.")] = "512MB",
    file_size: Annotated[str, typer.Option(help="Size of a file.")] = "1GB",
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = 0,
    scheduler: Scheduler = None,
) -> None:
    """Convert data of any layout to training shards, or to the layout of The Well or PDEBench."""
    from surrogate.data.convert import convert, read_size
    from surrogate.progress import ProgressBar

    check_output(output, overwrite=overwrite, resume=resume, reads=[config] if config else [])
    remedy = "lower --memory, which each of them takes"
    with ProgressBar("converting", "bytes") as progress, _executor(workers, scheduler, remedy) as executor:
        folder = convert(
            source,
            output,
            to,
            layout=_layout(layout, config),
            memory_bytes=read_size(memory),
            file_bytes=read_size(file_size),
            overwrite=overwrite,
            resume=resume,
            progress=progress,
            executor=executor,
        )
    say(f"{folder}")


@contextmanager
def _executor(workers: int, scheduler: str | None, remedy: str) -> Iterator[Any]:
    """Yield an executor on a dask cluster if one is asked for, else None."""
    if not workers and scheduler is None:
        yield None
        return
    from surrogate.runtime.dask import dask_executor

    with dask_executor(workers, scheduler, remedy=remedy) as executor:
        yield executor


def _layout(name: str | None, config: Path | None) -> Any:
    """Return the layout given by name, or that a configuration declares."""
    from surrogate.data.convert import read_layout
    from surrogate.data.mapping import LAYOUTS

    if name is not None and config is not None:
        raise ConfigError("--layout and --config both name a layout; give one of them")
    if name is not None and name not in LAYOUTS:
        raise ConfigError(f"--layout: no layout '{name}'; {did_you_mean(name, LAYOUTS)}")
    return read_layout(config) if config else name


@app.command(epilog="Example: surrogate train my.yaml --output runs/my --set training.epochs=50")
def train(
    config: Config,
    output: Output = None,
    case: Annotated[str | None, typer.Option(help="Which of the file's cases; needed when there are several.")] = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    stage: Annotated[
        str | None, typer.Option(help="Node-local folder to copy the data to first, such as '$TMPDIR'.")
    ] = None,
) -> None:
    """Train one model."""
    from surrogate.workflows import find_pipeline, train_case

    run = train_case(
        find_pipeline(config),
        overrides or [],
        output,
        case=case,
        command=_command(),
        resume=resume,
        overwrite=overwrite,
        staging=Path(os.path.expandvars(stage)) if stage else None,
    )
    say(f"{run}")


@app.command(epilog="Example: surrogate statistics my.yaml --workers 4")
def statistics(
    config: Config,
    case: Annotated[str | None, typer.Option(help="One of the file's cases; without it, all of them.")] = None,
    overrides: Overrides = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
) -> None:
    """Compute means and standard deviations of the training data and keep them with the data for later trainings."""
    from surrogate.workflows import find_pipeline, keep_case_statistics

    with _executor(workers, scheduler, "lower training.buffer_mb") as executor:
        for path in keep_case_statistics(find_pipeline(config), overrides or [], case, executor):
            say(f"{path}")


@app.command(epilog="Example: surrogate evaluate runs/my")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder written by `surrogate train` or `surrogate run`.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    rollout: Annotated[
        int | None, typer.Option(min=0, help="Steps of the roll-outs; as many as the data have unless given.")
    ] = None,
) -> None:
    """Score a trained model on unseen data; roll a time stepper out from the first step of each simulation."""
    from surrogate.workflows import cases_of, evaluate_run

    for case in cases_of(run):
        evaluate_run(case, say, part=split, rollout_steps=rollout)


@app.command(epilog="Example: surrogate predict runs/my new.h5 --output predictions.nc")
def predict(
    run: Annotated[Path, typer.Argument(help="A trained run, one of its cases, or a checkpoint.")],
    inputs: Annotated[str, typer.Argument(help="HDF5 file, folder or pattern, or a .csv table of parameters.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("predictions.nc"),
    rollout: Annotated[int, typer.Option(min=0, help="Network steps to roll out from the first window.")] = 0,
    intervals: Annotated[bool, typer.Option("--intervals", help="Also the ends of 90 % intervals.")] = False,
    layout: LayoutName = None,
    config: LayoutFrom = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write predictions for new inputs to a NetCDF-4 file, with standard deviations if the head has them.

    New data are read in the layout of the training data unless --layout or --config names another.
    """
    from surrogate.workflows import predict_run

    path = predict_run(
        run,
        inputs,
        output,
        device=device,
        layout=_layout(layout, config),
        intervals=intervals,
        rollout_steps=rollout,
        batch_size=batch,
        overwrite=overwrite,
        about={"history": _command()},
    )
    say(f"{path}")


@app.command(epilog="Example: surrogate export runs/my --output my.pt2")
def export(
    run: Annotated[Path, typer.Argument(help="A trained run, one of its cases, or a checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, ending in .pt2.")] = Path(
        "surrogate.pt2"
    ),
) -> None:
    """Write a trained surrogate as a program that torch runs without this package."""
    from surrogate.models.export import export_surrogate
    from surrogate.workflows import load_surrogate

    if output.exists():
        raise ConfigError(f"{output} exists already; choose another --output")
    say(f"{export_surrogate(load_surrogate(run, 'cpu')[0], output)}")


@app.command(epilog="Example: surrogate report runs/slimtrain runs/adam --output runs/comparison")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders, or the folder of a pipeline or study.")],
    output: Output = None,
) -> None:
    """Write one HTML page about evaluated runs, or about a study."""
    from surrogate.workflows import report_folders

    say(f"{report_folders(runs, output, command=_command())}")


@app.command(epilog="Example: surrogate run scarce --output runs/scarce --workers 2")
def run(
    config: Config,
    output: Output = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Annotated[int, typer.Option(min=0, help="Of a study: processes of a dask cluster on this machine.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Of a study: address of a running dask scheduler.")] = None,
    part: Annotated[
        str | None, typer.Option(help="Of a study: K/N, only every N-th case from the K-th, as in a Slurm array.")
    ] = None,
) -> None:
    """Simulate, train, evaluate and report in a row; with a section `study`, a whole study."""
    from surrogate.workflows import Spread, find_pipeline, read_part, run_file

    spread = Spread(workers, scheduler, read_part(part))
    options: dict[str, Any] = {"command": _command(), "resume": resume, "overwrite": overwrite, "spread": spread}
    run_file(find_pipeline(config), overrides or [], output, say, **options)


@app.command(epilog="Example: surrogate compare mine.yaml --minutes 10")
def compare(
    config: Config,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all training together.")] = 10.0,
    output: Output = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = 0,
) -> None:
    """Find out which surrogate is best for your data: baselines, Gaussian processes, networks, in one table."""
    from surrogate.workflows import Spread, find_pipeline, run_comparison

    options: dict[str, Any] = {"command": _command(), "resume": resume, "overwrite": overwrite}
    options |= {"spread": Spread(workers), "minutes": minutes}
    run_comparison(find_pipeline(config), overrides or [], output, say, **options)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: surrogate launch torchrun --standalone --nproc-per-node 2 -m surrogate train my.yaml",
)
def launch(context: typer.Context) -> None:
    """Run torchrun so that one signal stops all ranks at the same step with a checkpoint and no process is left."""
    if not context.args:
        raise ConfigError("give the command to launch, such as: surrogate launch torchrun --nproc-per-node 2 ...")
    raise typer.Exit(start_ranks(context.args))


@slurm.command(epilog="Example: surrogate slurm render quickstart --output runs/quickstart --cluster cluster.yaml")
def render(config: Config, output: Output = None, overrides: Overrides = None, cluster: ClusterFile = None) -> None:
    """Print the job scripts of a pipeline or a study in the order of their dependencies."""
    from surrogate.workflows.slurm import render as render_stage

    _, folder, facts, stages = _stages(config, output, overrides, cluster)
    for stage in stages:
        after = f", {stage.condition} {' '.join(stage.after)}" if stage.after else ""
        typer.echo(f"# --- {folder}/slurm/{stage.name}.sbatch{after}")
        typer.echo(render_stage(stage, facts, folder / "slurm"))


@slurm.command(epilog="Example: surrogate slurm submit quickstart --output runs/quickstart --cluster cluster.yaml")
def submit(config: Config, output: Output = None, overrides: Overrides = None, cluster: ClusterFile = None) -> None:
    """Submit the jobs of a pipeline or a study with `sbatch` and print their ids."""
    from surrogate.workflows.slurm import submit as submit_stages

    path, folder, facts, _ = _stages(config, output, overrides, cluster)
    submit_stages(path, overrides or [], folder, facts, say)


@slurm.command(epilog="Example, in a job script: surrogate train my.yaml --resume || exec surrogate slurm requeue $?")
def requeue(code: Annotated[int, typer.Argument(help="Exit code of the command before.")]) -> None:
    """End a job script with an exit code; if it is 75, put the job back in the queue first."""
    typer.echo(put_back(code, os.environ), err=True)
    raise typer.Exit(code)


def _stages(config: str, output: Path | None, overrides: list[str] | None, cluster: Path | None) -> Any:
    """Return the configuration, the output folder, the settings of the cluster and the stages."""
    from surrogate.workflows import find_pipeline
    from surrogate.workflows.slurm import find_cluster, plan

    path, facts = find_pipeline(config), find_cluster(cluster)
    folder = output or Path("runs") / path.stem
    return path, folder, facts, plan(path, overrides or [], folder, facts)


def _command() -> str:
    """Return the command as typed, for the report."""
    return shlex.join(["surrogate", *sys.argv[1:]])


def main() -> None:
    """Run the command line; an error is one line and an exit code, with a traceback only under `--debug`."""
    run_command(app)
