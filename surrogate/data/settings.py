"""The `data:` section of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from surrogate.config import Settings
from surrogate.data.mapping import Layout

__all__ = ["DataSettings", "NamedGroup", "SplitSettings", "Window"]

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0, strict=True)]
Condition = Annotated[str, Field(pattern=r"^\s*(<=|>=|<|>)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")]


class Window(Settings):
    """Time steps of a sample.

    Arguments:
        steps_in: Input steps, the first at the start t of the window.
        steps_out: Target steps that follow them; 0 means the targets at the input steps themselves.
        stride: Distance of neighbouring steps of a window, in steps of the file.

    Example:
        >>> window = Window(steps_in=2, steps_out=1, stride=5)
        >>> window.input_offsets, window.target_offsets, window.extent
        ((0, 5), (10,), 11)
    """

    steps_in: int = Field(default=1, ge=1)
    steps_out: int = Field(default=1, ge=0)
    stride: int = Field(default=1, ge=1)

    @property
    def input_offsets(self) -> tuple[int, ...]:
        """Distances of the input steps from the start of the window."""
        return tuple(self.stride * step for step in range(self.steps_in))

    @property
    def target_offsets(self) -> tuple[int, ...]:
        """Distances of the target steps from the start of the window."""
        if self.steps_out == 0:
            return self.input_offsets
        return tuple(self.stride * (self.steps_in + step) for step in range(self.steps_out))

    @property
    def extent(self) -> int:
        """Time steps from the first to the last of a window."""
        return self.stride * (self.steps_in + self.steps_out - 1) + 1


class NamedGroup(Settings):
    """The simulations of a group.

    Arguments:
        group: Value of their coordinate `group`.
    """

    group: str


class SplitSettings(Settings):
    """Division of the simulations, or of their time steps, into training, validation and test.

    Arguments:
        by: `simulation`; or `time`: every simulation is divided into its first, later and last steps, for data of few
            long simulations. Errors then tell how the model continues these simulations, not how it does on new ones.
        validation: Fraction or number of the simulations, or a named group; of the time steps with `by: time`.
        test: Fraction or number of the simulations, or a named group; of the time steps with `by: time`.
        train: Number of training simulations or steps; None takes all that are left. Smaller sets are subsets of larger
            ones.
        gap: Time steps between the parts, with `by: time`; None takes as many as a window is long.
        seed: Seed of the draw.
        train_seed: Another draw of the training simulations from those that are left, with the same validation and
            test simulations; None takes them in the order of `seed`.
        folds: Cross-validation instead of `test`: a number k of parts of the simulations, or `leave_one_out`. Each
            simulation is in one part.
        fold: Number of the part that is the test, from 0.
        extrapolate: Parameters of simulations and a condition such as `"> 900"` by name: simulations that meet any of
            them are the test, instead of `test`.
    """

    by: Literal["simulation", "time"] = "simulation"
    validation: Count | Fraction | NamedGroup = 0.1
    test: Count | Fraction | NamedGroup = 0.1
    train: int | None = Field(default=None, ge=1)
    gap: int | None = Field(default=None, ge=0)
    seed: int = Field(default=0, ge=0)
    train_seed: int | None = Field(default=None, ge=0)
    folds: Annotated[int, Field(ge=2)] | Literal["leave_one_out"] | None = None
    fold: int = Field(default=0, ge=0)
    extrapolate: dict[str, Condition] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        ways = [name for name in ("folds", "extrapolate") if getattr(self, name)]
        if ways and (len(ways) > 1 or self.test != type(self).model_fields["test"].default):
            others = " and ".join([*ways, *(["test"] if len(ways) == 1 else [])])
            raise ValueError(f"{others} both choose the test simulations; give one of them")
        if self.fold and (self.folds is None or (isinstance(self.folds, int) and self.fold >= self.folds)):
            raise ValueError(f"fold: {self.fold} needs folds: {self.fold + 1} or more, or leave_one_out")
        return self

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.by == "simulation" and self.gap is not None:
            raise ValueError("gap is for by: time; leave it out, or split by time")
        if self.by == "time" and any(isinstance(size, NamedGroup) for size in (self.validation, self.test)):
            raise ValueError("by: time divides time steps, not groups; give validation and test as fractions or steps")
        if self.by == "time" and (self.folds or self.extrapolate):
            raise ValueError("by: time divides time steps; folds and extrapolate choose simulations: leave them out")
        if self.by == "time" and self.train_seed is not None:
            raise ValueError("train_seed draws simulations; leave it out with by: time")
        return self


class DataSettings(Settings):
    """Data of a training run: files, variables, windows, split.

    Arguments:
        path: File, folder or glob; a relative one is looked for next to the configuration, then where the command runs.
        layout: Name of a layout (`auto`, `shards`, `netcdf`, `pdebench`, `the_well`, `idx`) or a declared mapping; None
            is `auto`.
        inputs: Names of the input variables: fields or parameters.
        targets: Names of the target variables.
        window: Steps of a sample; only where there is a time axis.
        split: Division into training, validation and test.
        by: Coordinate that names the simulation where several samples belong to one; None makes each its own.
        normalize: Mean and deviation by which the network sees the data: of each `channel`, of each `pixel`, or
            `none`: it sees them in their own units.
        nonfinite: Treatment of NaN and Inf: an `error`; `drop` their simulation; or `mask` the values: targets are left
            out, inputs become the mean, and `<name>_valid` is 1 where there is a value.
        interpolate: Number of grid points along each axis, such as `{y: 64, x: 64}`, to which fields on the points of
            meshes are interpolated for families that need a grid; the error of that is reported. `inside` is a further
            variable, 1 at the grid points within the hull of the mesh.
    """

    path: str = Field(min_length=1)
    layout: Layout | None = None
    inputs: list[str] = Field(min_length=1)
    targets: list[str] = Field(min_length=1)
    window: Window | None = None
    split: SplitSettings = SplitSettings()
    by: str | None = None
    normalize: Literal["channel", "pixel", "none"] = "channel"
    nonfinite: Literal["error", "drop", "mask"] = "error"
    interpolate: dict[Literal["x", "y", "z"], Annotated[int, Field(ge=2, le=4096, strict=True)]] | None = None

    @model_validator(mode="after")
    def _once(self) -> Self:
        for side, names in (("inputs", self.inputs), ("targets", self.targets)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{side} name {', '.join(twice)} twice; name each variable once")
        return self
