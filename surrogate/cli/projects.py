"""Commands that do all at once: run a pipeline or a study, compare surrogates, launch ranks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from surrogate.cli.answer import Answer, answering
from surrogate.cli.options import (
    Config,
    Output,
    Overrides,
    Overwrite,
    Resume,
    Workers,
    typed_command,
)
from surrogate.errors import ConfigError
from surrogate.progress import say
from surrogate.runtime.launch import launch as start_ranks

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: surrogate run scarce --output runs/scarce --workers 2")
@answering
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
) -> Answer:
    """Simulate, train, evaluate and report in a row; with a section `study`, a whole study."""
    from surrogate.api import Project
    from surrogate.experiment.folders import ProjectFolder
    from surrogate.workflows import Spread, find_pipeline, read_part, run_file

    spread = Spread(workers, scheduler, read_part(part))
    options: dict[str, Any] = {"command": typed_command(), "resume": resume, "overwrite": overwrite, "spread": spread}
    page = run_file(find_pipeline(config), overrides or [], output, say, **options)
    if page is None:  # other parts of a study are not finished
        return {"path": [], "report": None}
    table = ProjectFolder(page.parent).table_csv
    results = {"table": table} if table.is_file() else {"errors": Project(page.parent).errors.to_dict()}
    return {"path": page.parent, "report": page, **results}


@app.command(epilog="Example: surrogate compare mine.yaml --minutes 10")
@answering
def compare(
    config: Config,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all training together.")] = 10.0,
    output: Output = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = 0,
    solve_seconds: Annotated[
        float | None, typer.Option(min=0, help="Time of one simulation: after how many solves does it pay back?")
    ] = None,
) -> Answer:
    """Find out which surrogate is best for your data: baselines, Gaussian processes, networks, in one table."""
    import pandas as pd

    from surrogate.workflows import Spread, find_pipeline, run_comparison

    options: dict[str, Any] = {"command": typed_command(), "resume": resume, "overwrite": overwrite}
    options |= {"spread": Spread(workers), "minutes": minutes, "solve_seconds": solve_seconds}
    page = run_comparison(find_pipeline(config), overrides or [], output, say, **options)
    ranking = pd.read_csv(page.parent / "leaderboard.csv").to_dict("records")
    return {"path": page.parent, "report": page, "best": ranking[0]["name"], "ranking": ranking}


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: surrogate launch torchrun --standalone --nproc-per-node 2 -m surrogate train my.yaml",
)
def launch(context: typer.Context) -> None:
    """Run torchrun so that one signal stops all ranks at the same step with a checkpoint and no process is left."""
    if not context.args:
        raise ConfigError("give the command to launch, such as: surrogate launch torchrun --nproc-per-node 2 ...")
    raise typer.Exit(start_ranks(context.args))
