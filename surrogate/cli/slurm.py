"""Commands on job scripts for Slurm: render, submit, requeue."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from surrogate.cli.answer import Answer, answering
from surrogate.cli.options import (
    ClusterFile,
    Config,
    Output,
    Overrides,
)
from surrogate.progress import say
from surrogate.runtime.launch import requeue as put_back

__all__ = ["app"]

app = typer.Typer(
    name="slurm", no_args_is_help=True, help="Job scripts for Slurm: render, submit, requeue.", rich_markup_mode=None
)


@app.command(epilog="Example: surrogate slurm render quickstart --output runs/quickstart --cluster cluster.yaml")
@partial(answering, quiet=False)
def render(config: Config, output: Output = None, overrides: Overrides = None, cluster: ClusterFile = None) -> Answer:
    """Print the job scripts of a pipeline or a study in the order of their dependencies."""
    from surrogate.workflows.slurm import render as render_stage

    _, folder, facts, stages = _stages(config, output, overrides, cluster)
    jobs = []
    for stage in stages:
        after = f", {stage.condition} {' '.join(stage.after)}" if stage.after else ""
        script = render_stage(stage, facts, folder / "slurm")
        typer.echo(f"# --- {folder}/slurm/{stage.name}.sbatch{after}")
        typer.echo(script)
        jobs.append({"name": stage.name, stage.condition: stage.after, "script": script})
    return {"path": folder, "jobs": jobs}


@app.command(epilog="Example: surrogate slurm submit quickstart --output runs/quickstart --cluster cluster.yaml")
@partial(answering, quiet=False)
def submit(config: Config, output: Output = None, overrides: Overrides = None, cluster: ClusterFile = None) -> Answer:
    """Submit the jobs of a pipeline or a study with `sbatch` and print their ids."""
    from surrogate.workflows.slurm import submit as submit_stages

    path, folder, facts, _ = _stages(config, output, overrides, cluster)
    return {"path": folder, "jobs": submit_stages(path, overrides or [], folder, facts, say)}


@app.command(epilog="Example, in a job script: surrogate train my.yaml --resume || exec surrogate slurm requeue $?")
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
