"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import glob
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from surrogate.catalogue import entries
from surrogate.errors import ConfigError, did_you_mean

__all__ = [
    "ClusterFile",
    "Config",
    "LayoutFrom",
    "LayoutName",
    "Output",
    "Overrides",
    "Overwrite",
    "RecipeName",
    "Resume",
    "Scheduler",
    "Workers",
    "chosen_layout",
    "executor_on",
    "read_ranges",
    "typed_command",
]


def _names(kind: str, incomplete: str) -> list[str]:
    """Return what the shell may complete a name of the catalogue or a YAML file to."""
    names = [name for name in entries(kind) if name.startswith(incomplete) and not name.startswith("slurm/")]
    folders = [f"{path}/" for path in glob.glob(f"{glob.escape(incomplete)}*") if Path(path).is_dir()]
    return names + sorted([*glob.glob(f"{glob.escape(incomplete)}*.yaml"), *folders])


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
Config = Annotated[
    str,
    typer.Argument(
        help="A YAML file, or the name of a shipped pipeline.",
        autocompletion=lambda incomplete: _names("pipelines", incomplete),
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        help="A recipe of the catalogue, or a YAML file.",
        autocompletion=lambda incomplete: _names("datasets", incomplete),
    ),
]


@contextmanager
def executor_on(workers: int, scheduler: str | None, remedy: str) -> Iterator[Any]:
    """Yield an executor on a dask cluster if one is asked for, else None."""
    if not workers and scheduler is None:
        yield None
        return
    from surrogate.runtime.dask import dask_executor

    with dask_executor(workers, scheduler, remedy=remedy) as executor:
        yield executor


def chosen_layout(name: str | None, config: Path | None) -> Any:
    """Return the layout given by name, or that a configuration declares."""
    from surrogate.data.convert import read_layout
    from surrogate.data.mapping import LAYOUTS

    if name is not None and config is not None:
        raise ConfigError("--layout and --config both name a layout; give one of them")
    if name is not None and name not in LAYOUTS:
        raise ConfigError(f"--layout: no layout '{name}'; {did_you_mean(name, LAYOUTS)}")
    return read_layout(config) if config else name


def read_ranges(texts: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """Read ranges of parameters, each `name=low:high`.

    Raises:
        ConfigError: One is written otherwise, or its ends are not finite and in order.
    """
    ranges = {}
    for text in texts or []:
        name, _, ends = text.partition("=")
        low, _, high = ends.partition(":")
        try:
            ranges[name] = (float(low), float(high))
        except ValueError:
            raise ConfigError(f"--range {text}: expected name=low:high, such as viscosity=0.01:0.1") from None
        if not math.isfinite(ranges[name][1] - ranges[name][0]) or ranges[name][0] >= ranges[name][1]:
            raise ConfigError(f"--range {text}: the lower end must be below the upper one")
    return ranges


def typed_command() -> str:
    """Return the command as typed, for the report."""
    return shlex.join(["surrogate", *sys.argv[1:]])
