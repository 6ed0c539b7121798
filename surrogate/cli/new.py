"""The command that writes a first configuration, from options or from answers on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from surrogate.cli.answer import Answer, answering
from surrogate.cli.options import LayoutName
from surrogate.errors import ConfigError
from surrogate.progress import say

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: surrogate new simulations.h5 --sample n --time none --family convnet --output mine.yaml")
@answering
def new(
    data: Annotated[str | None, typer.Argument(help="A file, a folder of files, or a pattern.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The configuration to write; named after the data if not given."),
    ] = None,
    sample: Annotated[str | None, typer.Option(help="Axis that counts the simulations, or none.")] = None,
    time: Annotated[str | None, typer.Option(help="Axis that counts the time steps, or none.")] = None,
    task: Annotated[
        str | None, typer.Option(help="parameters-to-field, field-to-field, time-stepping or autoencoder.")
    ] = None,
    inputs: Annotated[str | None, typer.Option(help="Names of the input variables, with commas.")] = None,
    targets: Annotated[str | None, typer.Option(help="Names of the target variables, with commas.")] = None,
    family: Annotated[str | None, typer.Option(help="Family of models, such as convnet or pod_gp.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="slimtrain, adam, adamw, gnvpro, lbfgs or elm.")] = None,
    layout: LayoutName = None,
) -> Answer:
    """Write a first configuration for your data; on a terminal it asks for what no option says."""
    from surrogate.cli.options import chosen_layout
    from surrogate.workflows import Wishes, new_config

    path = data or _ask("DATA", "Which file or folder holds the simulations?", {}, None)
    config = output or Path(f"{Path(path).stem}.yaml")
    said = {key: answer for key, answer in (("sample", sample), ("time", time)) if answer is not None}
    sides = {"inputs": inputs.split(",") if inputs else None, "targets": targets.split(",") if targets else None}
    wishes = Wishes(said, task, **sides, family=family, optimizer=optimizer)
    experiment = new_config(config, path, wishes, _ask, chosen_layout(layout, None))
    say(f"wrote {config}: {', '.join(experiment.data.inputs)} to {', '.join(experiment.data.targets)}")
    say(f"next: surrogate run {config}, or surrogate compare {config} --minutes 10 to see which family is best")
    about = {"model": experiment.model.family, "optimizer": experiment.optimizer.name}
    return {"path": config, "inputs": experiment.data.inputs, "targets": experiment.data.targets, **about}


def _ask(flag: str, question: str, answers: Mapping[str, str], usual: str | None) -> str:
    """Ask on a terminal, by name or number; without one take the usual answer.

    Raises:
        ConfigError: There is no terminal and no usual answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if usual is None:
            choices = f" One of {', '.join(answers)}" if answers else ""
            raise ConfigError(f"{flag} is not given and there is no terminal to ask: {question}{choices}")
        return usual
    typer.echo(f"\n{question}", err=True)
    width = max(map(len, answers), default=0)
    for number, (answer, meaning) in enumerate(answers.items(), start=1):
        typer.echo(f"  {number:>2}  {answer:{width}}  {meaning}", err=True)
    while True:
        shown = f"{'Name or number' if answers else 'Path'}{f' [{usual}]' if usual else ''}: "
        typer.echo(shown, err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            raise ConfigError(f"{flag}: the input ended before an answer")
        said = line.strip() or usual or ""
        chosen = list(answers)[int(said) - 1] if said.isdecimal() and 0 < int(said) <= len(answers) else said
        if chosen in answers or (said and not answers):
            return chosen
        typer.echo(f"'{said}' is no answer", err=True)
