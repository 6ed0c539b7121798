"""Commands on one model: train, evaluate, predict, sobol, export, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from surrogate.cli.answer import Answer, answering
from surrogate.cli.options import (
    Config,
    LayoutFrom,
    LayoutName,
    Output,
    Overrides,
    Overwrite,
    Resume,
    chosen_layout,
    read_ranges,
    typed_command,
)
from surrogate.errors import ConfigError
from surrogate.progress import say
from surrogate.runtime.command import is_first_process

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: surrogate train my.yaml --output runs/my --set training.epochs=50")
@answering
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
) -> Answer:
    """Train one model."""
    from surrogate.experiment.run_folder import RunFolder
    from surrogate.workflows import find_pipeline, train_case

    run = train_case(
        find_pipeline(config),
        overrides or [],
        output,
        case=case,
        command=typed_command(),
        resume=resume,
        overwrite=overwrite,
        staging=Path(os.path.expandvars(stage)) if stage else None,
    )
    say(f"{run}")
    if not is_first_process():  # the folder may be on the disk of the first
        return {"path": run}
    experiment, facts = RunFolder(run).experiment(), RunFolder(run).begun()
    kept: Answer = {key: facts[key] for key in ("steps", "validation_loss", "train_seconds") if key in facts}
    about = {"name": experiment.name, "model": experiment.model.family, "optimizer": experiment.optimizer.name}
    return {"path": run, **about, **kept}


@app.command(epilog="Example: surrogate evaluate runs/my")
@answering
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder written by `surrogate train` or `surrogate run`.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    rollout: Annotated[
        int | None, typer.Option(min=0, help="Steps of the roll-outs; as many as the data have unless given.")
    ] = None,
) -> Answer:
    """Score a trained model on unseen data; roll a time stepper out from the first step of each simulation."""
    from surrogate.evaluation import headline
    from surrogate.experiment.run_folder import RunFolder
    from surrogate.workflows import cases_of, evaluate_run

    cases: dict[str, Answer] = {}
    for case in cases_of(run):
        metrics = evaluate_run(case, say, part=split, rollout_steps=rollout)
        metric = headline(metrics).metric
        scored = {"metric": metric, "error": metrics[f"{metric}_sample"].mean(), "samples": metrics.sizes["sample"]}
        cases[case.name] = {"path": RunFolder(case).evaluation_on(split).path, **scored}
    return {"path": [case["path"] for case in cases.values()], "split": split, "cases": cases}


@app.command(epilog="Example: surrogate predict runs/my new.h5 --output predictions.nc")
@answering
def predict(
    run: Annotated[Path, typer.Argument(help="A trained run, one of its cases, or a checkpoint.")],
    inputs: Annotated[str, typer.Argument(help="HDF5 file, folder or pattern, or a .csv table of parameters.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("predictions.nc"),
    rollout: Annotated[int, typer.Option(min=0, help="Network steps to roll out from the first window.")] = 0,
    intervals: Annotated[bool, typer.Option("--intervals", help="Also the ends of 90 % intervals.")] = False,
    vtu: Annotated[bool, typer.Option("--vtu", help="On points also VTU files, for ParaView.")] = False,
    layout: LayoutName = None,
    config: LayoutFrom = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> Answer:
    """Write predictions for new inputs to a NetCDF-4 file, with standard deviations if the head has them.

    New data are read in the layout of the training data unless --layout or --config names another. `out_of_range` is
    the distance of every input from the training inputs: above 1, errors and intervals of the evaluation do not apply.
    """
    from surrogate.workflows import predict_run

    path = predict_run(
        run,
        inputs,
        output,
        device=device,
        layout=chosen_layout(layout, config),
        intervals=intervals,
        vtu=vtu,
        say=say,
        rollout_steps=rollout,
        batch_size=batch,
        overwrite=overwrite,
        about={"history": typed_command()},
    )
    say(f"{path}")
    return {"path": path}


@app.command(epilog="Example: surrogate sobol runs/my --range viscosity=0.01:0.1")
@answering
def sobol(
    run: Annotated[Path, typer.Argument(help="A trained run, or one of its cases.")],
    ranges: Annotated[
        list[str] | None, typer.Option("--range", help="Range of a parameter: name=low:high. May be repeated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=8, max=2**20, help="Base samples, rounded up to a power of 2.")] = 1024,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> Answer:
    """Find out which parameters the outputs depend on: Sobol indices, as a table and as figures in RUN/sobol.

    Parameters are independent and uniform over the ranges of the recipe, else of the training data.
    """
    from surrogate.workflows import cases_of, sobol_run

    sobol_run(run, say, samples=samples, ranges=read_ranges(ranges), device=device)
    folder = cases_of(run)[0] / "sobol"
    say(f"{folder}")
    return {"path": folder}


@app.command(epilog="Example: surrogate export runs/my --output my.pt2")
@answering
def export(
    run: Annotated[Path, typer.Argument(help="A trained run, one of its cases, or a checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, ending in .pt2.")] = Path(
        "surrogate.pt2"
    ),
) -> Answer:
    """Write a trained surrogate as a program that torch runs without this package."""
    from surrogate.models.export import export_surrogate
    from surrogate.workflows import load_surrogate

    if output.exists():
        raise ConfigError(f"{output} exists already; choose another --output")
    path = export_surrogate(load_surrogate(run, "cpu")[0], output)
    say(f"{path}")
    return {"path": path}


@app.command(epilog="Example: surrogate report runs/slimtrain runs/adam --output runs/comparison")
@answering
def report(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders, or the folder of a pipeline or study.")],
    output: Output = None,
) -> Answer:
    """Write one HTML page about evaluated runs, or about a study."""
    from surrogate.workflows import report_folders

    page = report_folders(runs, output, command=typed_command())
    say(f"{page}")
    return {"path": page}
