"""One configuration file for everything: simulate, data, model, optimizer, training, and the cases to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from surrogate.checks import ConfigError, did_you_mean
from surrogate.config import Settings, Source, validate
from surrogate.data import DataSettings
from surrogate.models.registry import settings_union
from surrogate.training.steps import OptimizerSettings

__all__ = ["CASES", "Experiment", "SimulateSettings", "TrainingSettings", "case_sources", "read_experiment"]

CASES = "cases"
SECTIONS = ("data", "model", "optimizer", "training")


class SimulateSettings(Settings):
    """Data that a pipeline makes for itself.

    Arguments:
        recipe: Name of a recipe of the catalogue, or the path of one.
        size: One of the recipe's sizes.
    """

    recipe: str
    size: str = "default"


class TrainingSettings(Settings):
    """How long, on what, and how often to write.

    Arguments:
        epochs: Passes over the training data.
        batch_size: Samples per step.
        seed: Seed of initial weights and of the order of the data.
        device: `auto` takes a GPU when there is one.
        schedule: Learning rate over the steps: constant, or half a cosine down to zero.
        refit: When the head is solved exactly over all training data: before the first step, after the last, or both.
            The solution at the end is kept where it lowers the validation loss.
        uncertainty: Fit the posterior of the head at the end, for standard deviations; its mean becomes the head.
        buffer_mb: Memory of the shuffle buffer, in megabytes.
        log_every: Steps between two step records in the log.
        tolerated_failures: Steps in a row that may be skipped as not finite before the run is given up.
    """

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(32, ge=1)
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    schedule: Literal["constant", "cosine"] = "constant"
    refit: Literal["none", "start", "end", "both"] = "none"
    uncertainty: bool = False
    buffer_mb: int = Field(256, ge=1)
    log_every: int = Field(10, ge=1)
    tolerated_failures: int = Field(10, ge=0)


class Experiment(Settings):
    """A resolved configuration: one data set, one model, one optimizer."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    simulate: SimulateSettings | None = None
    data: DataSettings
    model: Any
    optimizer: OptimizerSettings
    training: TrainingSettings = TrainingSettings()


def read_experiment(source: Source) -> Experiment:
    """Validate one experiment; `model` may be any family registered by now."""
    typed = create_model("Experiment", __base__=Experiment, model=(settings_union(), ...))
    return validate(source, typed)


def case_sources(source: Source) -> dict[str, Source]:
    """The configuration of every case: a case replaces whole sections of the file; without cases there is one, `main`.

    Raises:
        ConfigError: `cases` is no mapping from names to sections.
    """
    base = {key: value for key, value in source.tree.items() if key != CASES}
    cases = source.tree.get(CASES)
    if cases is None:
        return {"main": Source(source.name, base, source.lines)}
    if not isinstance(cases, dict) or not cases:
        raise ConfigError(f"{source.where((CASES,))}: cases: expected `name: {{section: ...}}` lines")
    return {str(name): _case(source, base, str(name), sections) for name, sections in cases.items()}


def _case(source: Source, base: dict[str, Any], name: str, sections: Any) -> Source:
    where = source.where((CASES, name))
    if Path(name).name != name or name.startswith("."):
        raise ConfigError(f"{where}: cases.{name}: a case names a folder; use letters, digits, - and _")
    if sections is not None and not isinstance(sections, dict):
        raise ConfigError(f"{where}: cases.{name}: expected sections ({', '.join(SECTIONS)})")
    sections = sections or {}
    for section in sections:
        if section not in SECTIONS:
            remedy = did_you_mean(section, SECTIONS)
            raise ConfigError(
                f"{source.where((CASES, name, section))}: cases.{name}.{section}: unknown section; {remedy}"
            )
    prefix = (CASES, name)
    lines = {key: line for key, line in source.lines.items() if key and key[0] not in sections}
    lines |= {key[2:]: line for key, line in source.lines.items() if key[:2] == prefix and len(key) > 2}
    return Source(source.name, base | sections, lines)
