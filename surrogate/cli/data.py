"""Commands on data: simulate, inspect, convert, statistics."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from surrogate.cli.answer import Answer, answering
from surrogate.cli.options import (
    Config,
    LayoutFrom,
    LayoutName,
    Output,
    Overrides,
    Overwrite,
    RecipeName,
    Resume,
    Scheduler,
    Workers,
    chosen_layout,
    executor_on,
)
from surrogate.files import check_output
from surrogate.progress import say

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: surrogate simulate convection_diffusion --size tiny --output data/cd --workers 2")
@answering
def simulate(
    recipe: RecipeName,
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
) -> Answer:
    """Simulate an ensemble into HDF5 shards."""
    from surrogate.data.store import read_manifest
    from surrogate.progress import ProgressBar
    from surrogate.simulate.generate import find_recipe, generate, load_recipe

    loaded = load_recipe(find_recipe(recipe), overrides)
    if card is not None:
        from surrogate.simulate.card import write_card

        written = write_card(loaded, size, card)
        say(f"{written}")
        return {"path": written}
    folder = output or Path("data") / loaded.name
    remedy = "use fewer workers, or a smaller --set sizes.<size>.shard"
    check_output(folder, overwrite=overwrite, resume=resume, reads=[find_recipe(recipe)])
    with executor_on(workers, scheduler, remedy) as executor, ProgressBar("simulating", "simulations") as progress:
        options: dict[str, Any] = {"batch": batch, "resume": resume, "overwrite": overwrite, "device": device}
        generate(loaded, size, folder, progress=progress, executor=executor, **options)
    say(f"{folder}")
    manifest = read_manifest(folder)
    return {"path": folder, "simulations": manifest.samples, "files": len(manifest.shards)}


@app.command(epilog="Example: surrogate inspect simulations.h5")
@partial(answering, quiet=False)
def inspect(
    path: Annotated[str, typer.Argument(help="An HDF5 or NetCDF-4 file, a folder of them, or a pattern.")],
    layout: LayoutName = None,
    config: LayoutFrom = None,
    write_config: Annotated[Path | None, typer.Option(help="Write a configuration to start from.")] = None,
) -> Answer:
    """Show what is in a file, what may be wrong with it, and how to train on it."""
    from surrogate.data.inspect import describe, render
    from surrogate.workflows import write_starter
    from surrogate.workflows.advice import advice

    description = describe(path, chosen_layout(layout, config))
    tips = advice(description.suggested_config, str(write_config or "mine.yaml"))
    for line in [*render(description), *(["", "next:"] if tips else []), *(f"  {tip}" for tip in tips)]:
        typer.echo(line)
    if write_config is not None:
        write_starter(write_config, Path(path).stem, description.suggested_config)
        typer.echo(f"wrote {write_config}: check its axes, inputs and targets, then `surrogate run {write_config}`")
    return {**description.to_json(), "advice": tips, "written": write_config}


@app.command(epilog="Example: surrogate convert simulations.h5 data/shards --to shards --config mine.yaml")
@answering
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
) -> Answer:
    """Convert data of any layout to training shards, or to the layout of The Well or PDEBench."""
    from surrogate.data.convert import convert, read_size
    from surrogate.progress import ProgressBar

    check_output(output, overwrite=overwrite, resume=resume, reads=[config] if config else [])
    remedy = "lower --memory, which each of them takes"
    with ProgressBar("converting", "bytes") as progress, executor_on(workers, scheduler, remedy) as executor:
        folder = convert(
            source,
            output,
            to,
            layout=chosen_layout(layout, config),
            memory_bytes=read_size(memory),
            file_bytes=read_size(file_size),
            overwrite=overwrite,
            resume=resume,
            progress=progress,
            executor=executor,
        )
    say(f"{folder}")
    return {"path": folder, "layout": to}


@app.command(epilog="Example: surrogate statistics my.yaml --workers 4")
@answering
def statistics(
    config: Config,
    case: Annotated[str | None, typer.Option(help="One of the file's cases; without it, all of them.")] = None,
    overrides: Overrides = None,
    workers: Workers = 0,
    scheduler: Scheduler = None,
) -> Answer:
    """Compute means and standard deviations of the training data and keep them with the data for later trainings."""
    from surrogate.workflows import find_pipeline, keep_case_statistics

    with executor_on(workers, scheduler, "lower training.buffer_mb") as executor:
        paths = keep_case_statistics(find_pipeline(config), overrides or [], case, executor)
    for path in paths:
        say(f"{path}")
    return {"path": paths}
