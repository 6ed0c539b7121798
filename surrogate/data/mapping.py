"""A declared layout: which dataset is which variable, and what its axes are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from surrogate.config import Settings
from surrogate.errors import ConfigError

__all__ = ["LAYOUTS", "LEADING", "Layout", "LayoutName", "MappedVariable", "Mapping", "in_order", "is_channel"]

LEADING = ("sample", "time", "channel")  # the axes with a meaning; every other axis is space
LAYOUTS = ("auto", "shards", "netcdf", "pdebench", "the_well", "idx")
LayoutName = Literal["auto", "shards", "netcdf", "pdebench", "the_well", "idx"]


def is_channel(axis: object) -> bool:
    """Test whether an axis counts components: `channel`, or `..._channel` where variables differ in them."""
    return axis == "channel" or str(axis).endswith("_channel")


def in_order(axes: tuple[Any, ...]) -> list[Any]:
    """Sort axes: sample, time, channel, space."""
    first = [axis for axis in ("sample", "time") if axis in axes] + [axis for axis in axes if is_channel(axis)]
    return first + [axis for axis in axes if axis not in first]


class MappedVariable(Settings):
    """One dataset of a file.

    Arguments:
        path: Path of the dataset in the file, or in each group.
        axes: Names of its axes in file order: `sample`, `time`, `channel` (or `..._channel`), and space by name
            (`y`, `x`, `point`).
        units: Units, as text; "1" for none.
    """

    path: str = Field(min_length=1)
    axes: tuple[str, ...]
    units: str | None = None

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({axis for axis in axes if axes.count(axis) > 1})
        if repeated:
            raise ValueError(f"axis {', '.join(repeated)} is repeated in {list(axes)}; every axis has its own name")
        if not all(axes):
            raise ValueError(f"an axis of {list(axes)} has no name")
        return axes


class Mapping(Settings):
    """The layout of files as their user declares it; nothing is guessed from shapes.

    Arguments:
        groups: HDF5 groups that hold the same variables, joined along `sample`; their names become coordinate `group`.
        variables: Datasets by the name that they get.
        coordinates: Coordinates by the name that they get.
        allow_external: Follow links and external storage that leave the folder of the file.
    """

    groups: tuple[str, ...] = ()
    variables: dict[str, MappedVariable] = Field(min_length=1)
    coordinates: dict[str, MappedVariable] = Field(default_factory=dict)
    allow_external: bool = False

    @model_validator(mode="after")
    def _names(self) -> Self:
        both = sorted(set(self.variables) & set(self.coordinates))
        if both:
            raise ValueError(f"{', '.join(both)} is declared as a variable and as a coordinate; keep one")
        axes = {axis for variable in self.variables.values() for axis in variable.axes}
        clash = sorted(axes & set(self.variables)) + sorted({"origin", "group"} & {*self.variables, *self.coordinates})
        if clash:
            raise ValueError(f"'{clash[0]}' is taken as the name of an axis or coordinate; rename the variable")
        return self

    def only(self, names: Collection[str]) -> Mapping:
        """Keep the named variables and all coordinates.

        Raises:
            ConfigError: It declares none of them.
        """
        kept = {name: variable for name, variable in self.variables.items() if name in names}
        if not kept:
            raise ConfigError(f"the layout declares {', '.join(self.variables)}, but not {', '.join(names)}; add these")
        return self.model_copy(update={"variables": kept})


def _kind(layout: Any) -> str:
    return "name" if isinstance(layout, str) else "mapping"


Layout = Annotated[Annotated[Mapping, Tag("mapping")] | Annotated[LayoutName, Tag("name")], Discriminator(_kind)]
