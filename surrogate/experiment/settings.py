"""One configuration file for everything: simulate, data, model, optimizer, training, and the cases to compare."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from surrogate.config import Settings, Source, assign, validate
from surrogate.data import DataSettings
from surrogate.errors import ConfigError, did_you_mean
from surrogate.experiment.evaluation_settings import EvaluationSettings
from surrogate.experiment.optimizers import OptimizerSettings
from surrogate.models.registry import ModelSettings, is_fitted, of_families
from surrogate.models.surrogate import MOST_MEMBERS

__all__ = ["CASES", "Experiment", "SimulateSettings", "TrainingSettings", "case_sources", "read_experiment"]

CASES = "cases"
NOT_OF_A_CASE = (CASES, "study")
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
    """Length of the training, device, loss, schedule, and intervals of log and checkpoints.

    Arguments:
        epochs: Passes over the training data; 20 unless `steps` is given.
        steps: Number of steps instead of epochs.
        batch_size: Samples per batch, over all ranks.
        accumulate: Batches whose gradients make one step; the result is that of one batch as large as all of them.
        seed: Seed of initial weights, of the order of the data and of dropout.
        device: `auto` takes a GPU when there is one.
        precision: Of the features; `bf16` multiplies in half precision, parameters and head stay in single precision.
        compile: Compile the features with torch.compile.
        deterministic: Refuse operations whose result depends on the order of threads, on GPUs.
        loss: Mean squared error of normalised targets, or mean over samples of the relative L2 error. slimTrain's head
            always solves least squares; the loss is then what the features descend.
        rollout: Network steps that are unrolled in time; each from the prediction before.
        rollout_loss: Whether the loss is on `all` unrolled steps, as without it, or on the `last` alone, where nothing
            ties the first to the data (a network that flips every sign twice is right); the gradient takes one step.
        clip_norm: Largest norm of the gradient; a larger one is scaled down.
        members: Number N of networks that are trained one after the other on the same data, from the seeds N `seed`,
            N `seed` + 1, ...; the mean of their outputs is what is validated at the end, kept and used.
        average: Decay of a running mean of the weights over the steps, such as 0.99. The mean is what is validated,
            kept and used; training goes on from the weights themselves.
        schedule: Learning rate over the steps: constant, half a cosine, or a straight line.
        warmup: Steps over which the learning rate rises to its value.
        decay_to: Where the schedule ends, as a multiple of the learning rate.
        patience: Epochs without a lower validation loss after which training ends.
        start_from: A run folder whose trained network and normalisation are the start; the model, and names, units and
            grids of the data must be the same. The start is kept where no epoch has a lower validation loss.
        start_what: What training changes of it: `all`, the `head` alone (its exact refit, with optimizer elm), or
            `features` too but at a tenth of the learning rate.
        refit: When the head is solved exactly over all training data: before the first step, after the last, or both.
            The solution at the end is kept where it lowers the validation loss.
        uncertainty: Fit the posterior of the head at the end, for standard deviations; its mean becomes the head.
        buffer_mb: Memory of the shuffle buffer, in megabytes.
        log_every: Steps between two step records in the log.
        checkpoint_every: Steps between two checkpoints, with one at the end of every epoch. Without it they are written
            at the ends of epochs, as often as leaves 95 % of the time to training. The best epoch, the last one and a
            step that is stopped by a signal always have one.
        tensorboard: Write the log for TensorBoard too.
        tolerated_failures: Steps in a row that may be skipped as not finite before the run is given up.
    """

    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    deterministic: bool = False
    loss: Literal["mse", "relative_l2"] = "mse"
    rollout: int = Field(1, ge=1)
    rollout_loss: Literal["all", "last"] | None = None
    clip_norm: float | None = Field(None, gt=0)
    members: int = Field(1, ge=1, le=MOST_MEMBERS)
    average: float | None = Field(None, gt=0, lt=1)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = Field(0, ge=0)
    decay_to: float = Field(0.0, ge=0, le=1)
    patience: int | None = Field(None, ge=1)
    start_from: str | None = None
    start_what: Literal["all", "head", "features"] = "all"
    refit: Literal["none", "start", "end", "both"] = "none"
    uncertainty: bool = False
    buffer_mb: int = Field(256, ge=1)
    log_every: int = Field(10, ge=1)
    checkpoint_every: int | None = Field(None, ge=1)
    tensorboard: bool = False
    tolerated_failures: int = Field(10, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _length(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is None and values.get("steps") is None:
            return {**values, "epochs": 20}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"epochs: {self.epochs} and steps: {self.steps} both say how long to train; give one")
        if self.decay_to and self.schedule == "constant":
            raise ValueError("decay_to needs schedule: cosine or linear")
        if self.rollout == 1 and self.rollout_loss == "all":
            raise ValueError("rollout_loss: all needs rollout: 2 or more")
        if self.start_what != "all" and self.start_from is None:
            raise ValueError(f"start_what: {self.start_what} needs start_from, the folder of a trained run")
        if (self.seed + 1) * self.members > 2**63:
            raise ValueError(f"seed: {self.seed} is too large for {self.members} members")
        return self

    @property
    def length(self) -> str:
        """Length of the run for messages, such as `20 epochs`."""
        length = f"{self.epochs} epochs" if self.steps is None else f"{self.steps} steps"
        return length if self.members == 1 else f"{self.members} networks, {length} each"


class Experiment(Settings):
    """A resolved configuration: one data set, one model, one optimizer."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    simulate: SimulateSettings | None = None
    data: DataSettings
    model: Any
    optimizer: OptimizerSettings
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, values: Any) -> Any:
        """Fill in the optimizer of families that only a fit trains."""
        model = values.get("model") if isinstance(values, dict) and "optimizer" not in values else None
        wanting = isinstance(model, dict) and is_fitted(str(model.get("family")))
        return {**values, "optimizer": {"name": "fit"}} if wanting else values

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if not isinstance(self.model, ModelSettings):  # a plain mapping, not validated as one of the families
            return self
        family, name = self.model.family, self.optimizer.name
        if self.model.fitted and name != "fit":
            raise ValueError(
                f"model.family: {family} is fitted to the data in one pass, optimizer {name} cannot train it; "
                "use optimizer: {name: fit}"
            )
        start, what = self.training.start_from, self.training.start_what
        if start is not None and name == "fit":
            raise ValueError(f"training.start_from has no effect: {family} is fitted to its own data; leave it out")
        if start is not None and (what == "head") != (name == "elm"):
            raise ValueError(
                f"training.start_what: {what} with optimizer {name}: `head` is the exact refit of the last layer, "
                "which is optimizer: {name: elm}; the two go together"
            )
        if name == "fit" and not self.model.fitted:
            raise ValueError(
                f"optimizer fit is for families that are fitted in one pass, {family} is trained by steps; choose "
                "slimtrain or adam, or elm for random features with an exact fit of the last layer"
            )
        return self

    @model_validator(mode="after")
    def _no_idle_options(self) -> Self:
        plain = TrainingSettings()
        idle = [name for name in self.optimizer.unused if getattr(self.training, name) != getattr(plain, name)]
        if idle:
            names = ", ".join(f"training.{name}" for name in idle)
            raise ValueError(f"{names} has no effect with optimizer {self.optimizer.name}; leave it out")
        return self

    @model_validator(mode="after")
    def _whole_targets(self) -> Self:
        wanting = "training.uncertainty" if self.training.uncertainty else ""
        wanting = f"optimizer {self.optimizer.name}" if self.optimizer.name in ("elm", "fit") else wanting
        if wanting and self.data.nonfinite == "mask":
            raise ValueError(f"{wanting} takes every target for measured; choose data.nonfinite: drop, or leave it out")
        return self


def read_experiment(source: Source) -> Experiment:
    """Validate one experiment; `model` may be any registered family.

    A relative path of the data is looked for next to the file first, then in the working directory.
    """
    experiment = validate(source, of_families(Experiment))
    file, path = Path(source.name), experiment.data.path
    own = file.parent / path
    if Path(path).is_absolute() or file.parent == Path() or not file.is_file() or not any(glob.iglob(str(own))):
        return experiment
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"path": str(own)})})


def case_sources(source: Source) -> dict[str, Source]:
    """Return the configuration of every case.

    A case replaces whole sections of the file, or, by a dotted key such as `training.schedule`, single values; without
    cases there is one, `main`.

    Raises:
        ConfigError: `cases` is no mapping from names to sections.
    """
    base = {key: value for key, value in source.tree.items() if key not in NOT_OF_A_CASE}
    cases = source.tree.get(CASES)
    if cases is None:
        return {"main": Source(source.name, base, source.lines)}
    if not isinstance(cases, dict) or not cases:
        raise ConfigError(f"{source.where((CASES,))}: cases: expected `name: {{section: ...}}` lines")
    result: dict[str, Source] = {}
    for case, sections in cases.items():
        name = str(case)
        where = source.where((CASES, name))
        if Path(name).name != name or name.startswith("."):
            raise ConfigError(f"{where}: cases.{name}: a case names a folder; use letters, digits, - and _")
        if sections is not None and not isinstance(sections, dict):
            raise ConfigError(f"{where}: cases.{name}: expected sections ({', '.join(SECTIONS)})")
        given = sections or {}
        for section in given:
            if section.partition(".")[0] not in SECTIONS:
                remedy = did_you_mean(section, SECTIONS)
                raise ConfigError(
                    f"{source.where((CASES, name, section))}: cases.{name}.{section}: unknown section; {remedy}"
                )
        whole = {key: value for key, value in given.items() if "." not in key}
        single = {key: value for key, value in given.items() if "." in key}
        lines = {key: line for key, line in source.lines.items() if key and key[0] not in whole}
        for key, line in source.lines.items():
            if key[:2] == (CASES, name) and len(key) > 2:
                lines[(*str(key[2]).split("."), *key[3:])] = line
        result[name] = assign(Source(source.name, base | whole, lines), single)
    return result
