"""Families of networks by name: a family is its settings and a function that builds it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args

from pydantic import Field, create_model, model_validator

from surrogate.batch import Batch
from surrogate.config import Settings
from surrogate.errors import ConfigError, did_you_mean
from surrogate.models.separable import Separable

__all__ = [
    "Batches",
    "ModelSettings",
    "Shapes",
    "build",
    "families",
    "is_fitted",
    "of_families",
    "prepare",
    "register",
    "settings_of",
    "settings_union",
]


LARGEST = {"depth": 1000, "blocks": 1000, "levels": 30}  # a network of more would be built for hours
LARGEST_WIDTH = 1_000_000  # of every other number


class ModelSettings(Settings):
    """Base of the settings of a family; a subclass declares `family: Literal["its name"]`."""

    family: str
    fitted: ClassVar[bool] = False  # in one pass over the training data; no optimizer changes such a network
    physical: ClassVar[bool] = False  # works on values as they are, without normalisation
    on_grid: ClassVar[bool] = False  # neighbours along an axis are neighbours in space: not for points of a mesh
    at_points: ClassVar[Literal["never", "meshes", "always"]] = "never"  # where it takes coordinates as inputs

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name, value in self:
            largest = LARGEST.get(name, LARGEST_WIDTH)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int) and number > largest:
                    raise ValueError(f"{name}: expected at most {largest:,}")
        return self


class Shapes(Settings):
    """Shapes that a network maps: inputs (B, C, *input_grid) to targets (B, M, *S).

    Arguments:
        inputs: Number of input channels C.
        outputs: Number of output channels M.
        grid: Points along each axis of the targets; empty when they are plain vectors.
        input_grid: Points along each axis of the inputs, empty for plain parameters; that of the targets unless given.
        latest: For each output channel the input channel with the same quantity at the latest time, for time steppers;
            empty where an output has none.
        point_axis: Name of the axis of the targets that counts the points of a mesh, in no order; "" for a grid.
        positions: Input channels that are the coordinates of the points, at the latest time.
        parameters: Input channels that are constant over the points.
        ragged: Simulations have different numbers of points; coordinates are NaN where a sample has no point.
    """

    inputs: int
    outputs: int
    grid: tuple[int, ...]
    input_grid: tuple[int, ...] = ()
    latest: tuple[int, ...] = ()
    point_axis: str = ""
    positions: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()
    ragged: bool = False

    @model_validator(mode="before")
    @classmethod
    def _same_grid(cls, values: Any) -> Any:
        if isinstance(values, dict) and "input_grid" not in values and "grid" in values:
            return {**values, "input_grid": values["grid"]}
        return values

    @property
    def dimensions(self) -> int:
        """Return the number of space dimensions."""
        return len(self.grid)

    @property
    def points(self) -> int:
        """Return the number of grid points of the targets."""
        return prod(self.grid)

    @property
    def input_size(self) -> int:
        """Return the numbers in one input, all channels and points."""
        return self.inputs * prod(self.input_grid)

    def refuse_other_grids(self, family: str) -> None:
        """Check that inputs and targets are on one grid, for a family that maps fields to fields.

        Raises:
            ConfigError: They are not.
        """
        if self.input_grid != self.grid:
            raise ConfigError(
                f"data.inputs have the grid {self.input_grid}, data.targets {self.grid}: the family {family} maps "
                "fields to fields on one grid; choose a family that takes parameters, such as mlp, or an input field "
                "on the grid of the targets (parameters next to it become constant channels)"
            )

    def refuse_odd_grid(self, halvings: int) -> None:
        """Check that a family with `levels` can halve the grid `halvings` times.

        Raises:
            ConfigError: It cannot; the message says which factor is needed.
        """
        factor = 2**halvings
        if not self.grid or any(side % factor for side in self.grid):
            raise ConfigError(
                f"model.levels: {halvings} halvings need a grid divisible by {factor}, the data have "
                f"{'x'.join(map(str, self.grid)) or 'no space axes'}; choose fewer levels or another grid"
            )


M = TypeVar("M", bound=ModelSettings)
T = TypeVar("T", bound=Settings)
Builder = Callable[[M, Shapes], Separable]
Batches = Callable[[], Iterable[Batch]]  # starts a pass over the training data in normalised units
Prepare = Callable[[M, Any, Batches], None]  # the network is what the builder of the same family returns


@dataclass(frozen=True)
class _Family:
    settings: type[ModelSettings]
    build: Builder[Any]
    prepare: Prepare[Any] | None


_FAMILIES: dict[str, _Family] = {}
ENTRY_POINTS = "surrogate.models"  # the group under which an installed package names modules that register families


def register(settings: type[M], *, prepare: Prepare[M] | None = None) -> Callable[[Builder[M]], Builder[M]]:
    """Return a decorator that makes a family available by name in configurations.

    Arguments:
        settings: The family's settings; the default of their field `family` is the name.
        prepare: Function of (settings, network, batches) that fits parts of a network to the training data before the
            first step.

    Raises:
        ConfigError: Another family has that name, or `family` is not declared as `Literal["its name"]`.
    """
    name = settings.model_fields["family"].default

    def add(builder: Builder[M]) -> Builder[M]:
        if name in _FAMILIES and _FAMILIES[name].settings is not settings:
            raise ConfigError(f"a model family named '{name}' is registered already; choose another name")
        if get_args(settings.model_fields["family"].annotation) != (name,):
            raise ConfigError(f'{settings.__name__}: declare its name as `family: Literal["name"] = "name"`')
        _FAMILIES[name] = _Family(settings, builder, prepare)
        return builder

    return add


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Import the modules that installed packages name under the entry points `surrogate.models`, once.

    A module that cannot be imported gives a warning of one line and loses its own families only.
    """
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            warnings.warn(
                f"the model families of entry point '{point.name}' ({point.value}) cannot be used: "
                f"{type(error).__name__}: {reason}; fix or remove that package"
            )


def families() -> list[str]:
    """List the names of all families: of this package, of installed packages and of the running script."""
    load_installed()
    return sorted(_FAMILIES)


def settings_of(tree: dict[str, Any]) -> ModelSettings:
    """Validate a `model` section, given as plain values with its `family`.

    Raises:
        ConfigError: There is no such family.
    """
    load_installed()
    family = str(tree.get("family"))
    if family not in _FAMILIES:
        raise ConfigError(f"there is no model family {family}; {did_you_mean(family, _FAMILIES)}")
    return _FAMILIES[family].settings.model_validate(tree)


def is_fitted(family: str) -> bool:
    """Return True if the family exists and is fitted in one pass instead of trained by steps."""
    load_installed()
    return family in _FAMILIES and _FAMILIES[family].settings.fitted


def settings_union() -> Any:
    """Return the type of the `model` section of a configuration: one of the registered families, chosen by `family`."""
    load_installed()
    return _union(_settings_classes())


def of_families(base: type[T]) -> type[T]:
    """Return settings whose field `model` is that of any registered family.

    The class is made once for the families there are: making one takes 7 ms, and with one for each reading the memory
    of a process grew by 0.3 MB a reading.
    """
    load_installed()
    return _with_model(base, _settings_classes())


def _settings_classes() -> tuple[type[ModelSettings], ...]:
    return tuple(family.settings for family in _FAMILIES.values())


def _union(classes: tuple[type[ModelSettings], ...]) -> Any:
    return Annotated[Union[classes], Field(discriminator="family")]  # noqa: UP007


@lru_cache(maxsize=16)
def _with_model(base: type[T], classes: tuple[type[ModelSettings], ...]) -> type[T]:
    return create_model(base.__name__, __base__=base, model=(_union(classes), ...))


def build(settings: ModelSettings, shapes: Shapes) -> Separable:
    """Build the network of a family for data of given shapes, freshly initialised from torch's random state.

    Raises:
        ConfigError: The family does not map data of these shapes; the message names what to use instead.
    """
    if settings.on_grid and shapes.point_axis:
        raise ConfigError(
            f"model.family: {settings.family} needs a grid, but neighbours along the axis '{shapes.point_axis}' of the "
            "targets are not neighbours in space; choose transolver, gino or deeponet, which take the coordinates of "
            "points, or mlp, pod, pod_rbf, pod_gp, kernel_ridge or linear for one mesh"
        )
    if shapes.ragged and settings.at_points == "never":
        raise ConfigError(
            f"model.family: {settings.family} needs the same points in every simulation, but their number differs "
            f"along the axis '{shapes.point_axis}'; choose transolver, gino or deeponet, which take the coordinates of "
            "points"
        )
    return _FAMILIES[settings.family].build(settings, shapes)


def prepare(settings: ModelSettings, network: Separable, batches: Batches) -> None:
    """Fit to the training data the parts of a new network that its family fits before the first step; most have none.

    Arguments:
        settings: Settings that the network was built with.
        network: The network.
        batches: Starts a pass over the training data, in the units in which the network is trained.
    """
    family = _FAMILIES[settings.family]
    if family.prepare is not None:
        family.prepare(settings, network, batches)
