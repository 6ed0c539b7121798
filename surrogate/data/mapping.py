"""A declared layout: the dataset, attribute or name behind every variable, and its axes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from surrogate.config import Settings
from surrogate.errors import ConfigError

__all__ = [
    "BLANK",
    "LAYOUTS",
    "LEADING",
    "Layout",
    "LayoutName",
    "MappedVariable",
    "Mapping",
    "Table",
    "in_order",
    "is_channel",
    "placeholders",
]

LEADING = ("sample", "time", "channel")  # the axes with a meaning; every other axis is space
LAYOUTS = ("auto", "shards", "netcdf", "pdebench", "the_well", "idx")
LayoutName = Literal["auto", "shards", "netcdf", "pdebench", "the_well", "idx"]
BLANK = "???"  # what a proposal leaves to its reader
NO_AXIS = "_"  # an axis of length 1 that is dropped
NONE = "none"
PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")

Axis = str | dict[str, Annotated[int, Field(ge=1, strict=True)]]


def is_channel(axis: object) -> bool:
    """Test whether an axis counts components: `channel`, or `..._channel` where variables differ in them."""
    return axis == "channel" or str(axis).endswith("_channel")


def in_order(axes: tuple[Any, ...]) -> list[Any]:
    """Sort axes: sample, time, channel, space."""
    first = [axis for axis in ("sample", "time") if axis in axes] + [axis for axis in axes if is_channel(axis)]
    return first + [axis for axis in axes if axis not in first]


def placeholders(pattern: str | None) -> list[str]:
    """List the names in braces in a pattern such as `run_{sample}/step_{time}.h5`, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(pattern or "")))


class MappedVariable(Settings):
    """One variable of a declared layout: a dataset, an attribute, or evenly spaced numbers.

    A name in braces, as in `step_{time}/u`, stands for many objects; they are put together along the axis of that name.

    Arguments:
        path: Path of the dataset in the file, or in each group; of the object that has the attribute.
        axes: Names of its axes in file order: `sample`, `time`, `channel` (or `..._channel`), and space by name
            (`y`, `x`, `point`). `{y: 8, x: 4}` splits a flat axis in C order; a name that occurs twice is one axis in
            blocks, the outer one first; `_` drops an axis of length 1.
        units: Units, as text; "1" for none.
        file: File it is in, relative to the folder of the data, with names in braces; None takes that of the layout.
        attribute: Attribute that has the value.
        entry: Field of a compound dataset, or the row of that name in a table of names and values.
        select: Index, or first and end index, taken along an axis.
        start: First value of an evenly spaced coordinate.
        step: Its spacing.
    """

    path: str = ""
    axes: tuple[Axis, ...] = ()
    units: str | None = None
    file: str | None = None
    attribute: str | None = None
    entry: str | None = None
    select: dict[str, int | tuple[int, int]] = Field(default_factory=dict)
    start: float | None = None
    step: float | None = Field(default=None)

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if not all(axes):
            raise ValueError(f"an axis of {list(axes)} has no name")
        plain = [axis for axis in axes if isinstance(axis, str) and axis != NO_AXIS]
        repeated = sorted({axis for axis in plain if plain.count(axis) > 1})
        if repeated and not any(isinstance(axis, dict) for axis in axes):
            raise ValueError(f"axis {', '.join(repeated)} is repeated in {list(axes)}; every axis has its own name")
        return axes

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        evenly = self.start is not None or self.step is not None
        if evenly and (self.start is None or self.step is None or self.path or self.attribute or len(self.axes) != 1):
            raise ValueError("an evenly spaced coordinate has start, step and one axis, and nothing else")
        if not (evenly or self.path or self.attribute):
            raise ValueError("needs the path of a dataset, or an attribute")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the axes of the dataset, each once, split axes included and dropped ones left out."""
        parts = [name for axis in self.axes for name in (axis if isinstance(axis, dict) else [axis])]
        return [name for name in dict.fromkeys(parts) if name != NO_AXIS]


class Table(Settings):
    """Parameters of the simulations in a CSV file.

    Arguments:
        file: The file, relative to the folder of the data.
        key: Column that names the simulation: a name in braces of the layout, or `file` for the name of its file; None
            takes the rows in the order of the simulations.
    """

    file: str = Field(min_length=1)
    key: str | None = None


class Mapping(Settings):
    """The layout of files as their user declares it; nothing is guessed from shapes.

    Arguments:
        groups: HDF5 groups that hold the same variables, joined along `sample`; their names become coordinate `group`.
        variables: Datasets and parameters by the name that they get.
        coordinates: Datasets that say where and when values are, by the name of an axis or a name of their own.
        files: Names of the files below the folder of the data, such as `results_{nu}/step_{time}.h5`. A name in braces
            that is `time` or an axis becomes that axis; `sample` counts simulations; any other is a parameter.
        table: Parameters in a file next to the data.
        fluent_case: A case file of Ansys Fluent (`.cas.h5`) with the mesh of the data, relative to their folder:
            centres `x`, `y` (and `z`) and `volume` of the axis `cell`.
        sample: Axis that counts the simulations, where it has another name; `none` where there is none.
        time: Axis that counts the time steps, where it has another name; `none` where there is none.
        allow_external: Follow links and external storage that leave the folder of a file.
    """

    groups: tuple[str, ...] = ()
    variables: dict[str, MappedVariable] = Field(min_length=1)
    coordinates: dict[str, MappedVariable] = Field(default_factory=dict)
    files: str | None = None
    table: Table | None = None
    fluent_case: str | None = None
    sample: str | None = None
    time: str | None = None
    allow_external: bool = False

    @model_validator(mode="after")
    def _names(self) -> Self:
        both = sorted(set(self.variables) & set(self.coordinates))
        if both:
            raise ValueError(f"{', '.join(both)} is declared as a variable and as a coordinate; keep one")
        clash = sorted(set(self.axis_names) & set(self.variables))
        clash += sorted({"origin", "group"} & {*self.variables, *self.coordinates})
        if clash:
            raise ValueError(f"'{clash[0]}' is taken as the name of an axis or coordinate; rename the variable")
        self._answered()
        return self

    def _answered(self) -> None:
        """Refuse blanks and answers that name no axis.

        Raises:
            ValueError: The question that is open.
        """
        choices = [name for name in self.axis_names if not is_channel(name) and name not in LEADING]
        shown = ", ".join([*choices, NONE])
        if self.sample == BLANK:
            raise ValueError(f"sample: ??? is not answered: which axis counts the simulations? Write one of {shown}")
        if self.time == BLANK:
            raise ValueError(f"time: ??? is not answered: which axis counts the time steps? Write one of {shown}")
        told = [name for e in self.entries.values() for name in placeholders(e.path) if not self.is_axis(name)]
        if self.sample == NONE and told:
            raise ValueError(
                f"sample is none, but {{{told[0]}}} counts objects; write sample: {told[0]} or time: {told[0]}"
            )
        for answer in (self.sample, self.time):
            if answer not in (None, NONE, *self.axis_names):
                raise ValueError(f"no variable has the axis '{answer}'; write one of {shown}")
        if self.sample == self.time and self.sample not in (None, NONE):
            raise ValueError(f"'{self.sample}' cannot count both simulations and time steps")

    @property
    def entries(self) -> dict[str, MappedVariable]:
        """All variables and coordinates."""
        return self.variables | self.coordinates

    @property
    def axis_names(self) -> list[str]:
        """All axes of datasets, and names in braces, as they are declared."""
        braces = [
            name for e in self.entries.values() for p in (e.path, e.file or self.files) for name in placeholders(p)
        ]
        return list(dict.fromkeys([*self._own_axes, *braces]))

    @property
    def _own_axes(self) -> list[str]:
        return [name for e in self.entries.values() for name in e.names]

    def axis(self, name: str) -> str:
        """Rename an axis as `sample` and `time` say."""
        return {self.sample: "sample", self.time: "time"}.get(name, name) if name != NONE else name

    def file_patterns(self) -> Iterator[str]:
        """Yield the patterns of file names, each once."""
        yield from dict.fromkeys(p for e in self.entries.values() if (p := e.file or self.files) and e.start is None)

    def is_axis(self, name: str) -> bool:
        """Test whether a name in braces is an axis of every simulation; else it tells simulations apart."""
        if self.axis(name) == "sample":
            return False
        known = {*self._own_axes, *self.coordinates}
        return self.axis(name) == "time" or is_channel(name) or name in known

    def only(self, names: Collection[str]) -> Mapping:
        """Keep the named variables and all coordinates.

        Raises:
            ConfigError: It declares none of them.
        """
        kept = {name: variable for name, variable in self.variables.items() if name in names}
        if not kept:
            raise ConfigError(f"the layout declares {', '.join(self.variables)}, but not {', '.join(names)}; add these")
        return self.model_copy(update={"variables": kept})


Layout = Annotated[
    Annotated[Mapping, Tag("mapping")] | Annotated[LayoutName, Tag("name")],
    Discriminator(lambda layout: "name" if isinstance(layout, str) else "mapping"),
]
