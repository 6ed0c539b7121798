"""The axis of simulations of a data set, and the origin of each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

__all__ = ["with_sample"]


def with_sample(
    ds: xr.Dataset, where: str, group: str | Sequence[str] = "", origin: Sequence[str] | None = None
) -> xr.Dataset:
    """Add a sample axis and the origin of every sample; a file without that axis is one simulation.

    Variables of the file called `origin` or `group` get an underscore after their name, with a warning.

    Arguments:
        ds: Variables.
        where: Name of the file.
        group: Value of coordinate `group`, or one for each simulation; none where it is empty.
        origin: Names of the simulations; None numbers them.
    """
    own_group = "group" in ds.variables and ds["group"].dtype.kind in "US" and not group  # such as that of our shards
    taken = {
        name: f"{name}_" for name in ("origin", "group") if name in ds.variables and not (own_group and name == "group")
    }
    for name, other in taken.items():
        warnings.warn(f"{where}: variable '{name}' is called '{other}' here: '{name}' says where a simulation is from")
    ds = ds.rename({name: other for name, other in taken.items() if other not in ds.variables})
    if "sample" not in ds.dims:
        constants = [name for name, variable in ds.coords.items() if not variable.dims]
        ds = ds.reset_coords(constants).expand_dims("sample").set_coords(constants)
        origin = origin or [where]
    names = origin or [f"{where}[{index}]" for index in range(ds.sizes["sample"])]
    ds = ds.assign_coords(origin=("sample", np.array(names)))
    groups = [group] * len(names) if isinstance(group, str) else list(group)
    return ds.assign_coords(group=("sample", np.array(groups))) if group else ds
