"""Small files exact to the layouts of PDEBench and The Well, their quirks included."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import yaml

CONFIG = "Du: 1.0e-3\nDv: 0.005\nsim:\n  k: 5e-3\n  seed: {seed}\nname: diffusion-reaction\n"


def make_per_seed(path: Path, *, seeds: int = 3, steps: int = 26, size: int = 32, axes: int = 2) -> np.ndarray:
    """`2D_diff-react_NA_NA.h5`: groups that sort as text, white noise at the start, lzf, chunks (13, 16, 32, 1)."""
    rng = np.random.default_rng(0)
    channels = 2 if axes == 2 else 1
    data = rng.normal(size=(seeds, steps, *(size,) * axes, channels)).astype("f4")
    data[:, 1:] *= 0.1
    centres = ((np.arange(size) + 0.5) / size * 2 - 1).astype("f4")
    with h5py.File(path, "w") as file:
        for seed in reversed(range(seeds)):
            group = file.create_group(f"{seed:04d}")
            chunks = (13, *(16, 32)[2 - axes :], 1)
            group.create_dataset("data", data=data[seed], compression="lzf", chunks=chunks)
            for axis in ("x", "y")[:axes]:
                group[f"grid/{axis}"] = centres
            group["grid/t"] = np.linspace(0, 5, steps, dtype="f4")
            group.attrs["config"] = CONFIG.format(seed=seed)
    return data


def make_scalar(path: Path, *, attributes: dict[str, float] | None = None) -> np.ndarray:
    """`1D_Advection_Sols_beta0.1.hdf5`: T+1 times."""
    data = np.random.default_rng(1).normal(size=(6, 5, 16)).astype("f4")
    with h5py.File(path, "w") as file:
        file["tensor"] = data
        file["x-coordinate"] = np.linspace(0, 1, 16, dtype="f4")
        file["t-coordinate"] = np.linspace(0, 1, 6, dtype="f4")
        file.attrs.update(attributes or {})
    return data


def make_darcy(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`2D_DarcyFlow_beta1.0_Train.hdf5`: `tensor` (sample, 1, x, y) and the input `nu` (sample, x, y)."""
    rng = np.random.default_rng(2)
    tensor, nu = rng.normal(size=(8, 1, 6, 5)).astype("f4"), rng.uniform(size=(8, 6, 5)).astype("f4")
    with h5py.File(path, "w") as file:
        file["tensor"], file["nu"] = tensor, nu
        file["x-coordinate"], file["y-coordinate"] = np.arange(6, dtype="f4"), np.arange(5, dtype="f4")
        file["t-coordinate"] = np.array([0, 1], "f4")
        file.attrs["beta"] = 1.0
    return tensor, nu


def make_flow(path: Path, *, axes: int = 2) -> dict[str, np.ndarray]:
    """`2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_128_Train.hdf5`."""
    rng = np.random.default_rng(3)
    names = ["density", "pressure", "Vx", "Vy", "Vz"][: 2 + axes]
    data = {name: rng.normal(size=(4, 5, 8, 6, 7)[: 2 + axes]).astype("f4") for name in names}
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values
        for axis, size in list(zip("xyz", (8, 6, 7), strict=True))[:axes]:
            file[f"{axis}-coordinate"] = np.arange(size, dtype="f4")
        file["t-coordinate"] = np.arange(6, dtype="f4")
        file.attrs["eta"], file.attrs["zeta"], file.attrs["M"] = 0.01, 0.02, 0.1
    return data


def make_incompressible(path: Path, *, same_times: bool = True) -> dict[str, np.ndarray]:
    """`ns_incom_inhom_2d_512-0.h5`: lzf and shuffle, chunks of one snapshot, times of every sample."""
    rng = np.random.default_rng(4)
    data = {"velocity": rng.normal(size=(3, 4, 8, 6, 2)), "particles": rng.normal(size=(3, 4, 8, 6, 1))}
    data["force"] = rng.normal(size=(3, 8, 6, 2))
    data = {name: values.astype("f4") for name, values in data.items()}
    times = np.arange(4, dtype="f4") * np.ones((3, 1), "f4")
    data["t"] = times if same_times else times * np.array([[1], [2], [3]], "f4")
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            chunks = (1, 1, *values.shape[2:]) if values.ndim == 5 else None
            file.create_dataset(name, data=values, chunks=chunks, compression="lzf" if chunks else None)
    return data


def make_well(
    path: Path, *, samples: int = 3, steps: int = 5, feed: float = 0.03, seed: int = 0, stats: dict | None = None
) -> dict[str, np.ndarray]:
    """One file of `{name}/data/{split}/`: fields of all orders, absent dimensions and every form of a scalar."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    nx, ny = 4, 3
    fields = {
        "t0_fields/A": (rng.normal(size=(samples, steps, nx, ny)), (True, True), (True, True)),
        "t0_fields/height": (rng.normal(size=(samples, ny)), (True, False), (False, True)),
        "t0_fields/mask": (rng.normal(size=(nx, ny)), (False, False), (True, True)),
        "t1_fields/velocity": (rng.normal(size=(samples, steps, nx, ny, 2)), (True, True), (True, True)),
        "t2_fields/stress": (rng.normal(size=(samples, steps, nx, 2, 2)), (True, True), (True, False)),
    }
    scalars = {
        "F": (np.float32(feed), (False, False)),
        "k": (rng.uniform(size=samples), (True, False)),
        "forcing": (rng.normal(size=steps), (False, True)),
        "energy": (rng.normal(size=(samples, steps)), (True, True)),
    }
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["grid_type"] = "gray_scott", "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = 2, samples
        file.attrs["simulation_parameters"] = ["F", "k"]
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, size in (("time", steps), ("x", nx), ("y", ny)):
            item = dimensions.create_dataset(name, data=np.arange(size, dtype="f4"))
            item.attrs["sample_varying"], item.attrs["time_varying"] = False, name == "time"
        boundary = file.create_group("boundary_conditions/x_periodic")
        boundary.attrs["bc_type"], boundary.attrs["associated_dims"] = "periodic", ["x"]
        boundary.attrs["associated_fields"] = ["A"]
        boundary.attrs["sample_varying"] = boundary.attrs["time_varying"] = False
        boundary["mask"] = np.array([True, False, False, True])
        for group in ("scalars", "t0_fields", "t1_fields", "t2_fields"):
            names = [path.split("/")[1] for path in fields if path.startswith(group)]
            file.create_group(group).attrs["field_names"] = list(scalars) if group == "scalars" else names
        for name, (values, (by_sample, by_time), varying) in fields.items():
            item = file.create_dataset(name, data=values.astype("f4"))
            item.attrs["sample_varying"], item.attrs["time_varying"] = by_sample, by_time
            item.attrs["dim_varying"] = np.array(varying)
        for name, (values, (by_sample, by_time)) in scalars.items():
            item = file.create_dataset(f"scalars/{name}", data=np.asarray(values, "f4"))
            item.attrs["sample_varying"], item.attrs["time_varying"] = by_sample, by_time
    if stats is not None:
        (path.parents[2] / "stats.yaml").write_text(yaml.safe_dump(stats))
    return {name.split("/")[-1]: np.asarray(entry[0], "f4") for name, entry in (fields | scalars).items()}
