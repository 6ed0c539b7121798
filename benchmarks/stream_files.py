"""The files that `stream.py` reads: fields that compress about as simulations do, in the layouts that users have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

__all__ = ["SNAPSHOT", "SNAPSHOT_MB", "make"]

SNAPSHOT = (128, 128, 2)
SNAPSHOT_MB = 4 * 128 * 128 * 2 / 1e6
SEEDS = 40  # groups of the PDEBench file
TRAJECTORIES = 8  # of The Well's file


def fields(count: int, seed: int) -> np.ndarray:
    """Smooth fields with a little noise: (count, 128, 128, 2)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, np.pi, SNAPSHOT[0], dtype=np.float32)
    modes = np.sin(np.arange(1, 9, dtype=np.float32)[:, None] * x)
    weights = rng.normal(size=(count, 8, 2)).astype(np.float32)
    smooth = np.einsum("bkc,ky,kx->byxc", weights, modes, modes, optimize=True)
    return smooth + 1e-3 * rng.normal(size=(count, *SNAPSHOT)).astype(np.float32)


def _snapshots(path: Path, count: int, **options: object) -> None:
    """A user's file: channels last."""
    with h5py.File(path, "w") as file:
        u = file.create_dataset("u", (count, *SNAPSHOT), "f4", **options)
        for first in range(0, count, 64):
            u[first : first + 64] = fields(min(64, count - first), first)


def _shard(path: Path, count: int = 4096) -> None:
    """As `surrogate convert` writes it: contiguous, the axes (sample, channel, y, x)."""
    with h5py.File(path, "w") as file:
        u = file.create_dataset("u", (count, SNAPSHOT[2], *SNAPSHOT[:2]), "f4")
        for first in range(0, count, 64):
            u[first : first + 64] = np.moveaxis(fields(64, first), -1, 1)


def _contiguous(path: Path) -> None:
    _snapshots(path, 4096)


def _gzip(path: Path) -> None:
    _snapshots(path, 4096, chunks=(16, *SNAPSHOT), compression="gzip", compression_opts=4, shuffle=True)


def _large(path: Path) -> None:
    """8 GB."""
    _shard(path, 61_440)


def _pdebench(path: Path) -> None:
    """2D diffusion-reaction: groups 0000, 0001, ... with `data` (101, 128, 128, 2), lzf, in the chunks h5py chooses."""
    with h5py.File(path, "w") as file:
        for seed in range(SEEDS):
            group = file.create_group(f"{seed:04d}")
            group.create_dataset("data", data=fields(101, seed), compression="lzf", chunks=True)
            for name, size in (("t", 101), ("x", 128), ("y", 128)):
                group[f"grid/{name}"] = np.linspace(0, 1, size, dtype="f4")


def _well(path: Path) -> None:
    """Gray-Scott: `A` and `B` (trajectory, 256, 128, 128) without chunks, as The Well stores them."""
    steps, (nx, ny, _) = 256, SNAPSHOT
    path.parent.mkdir(parents=True, exist_ok=True)
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.attrs.update(dataset_name="gray_scott", grid_type="cartesian", n_spatial_dims=2)
        file.attrs["n_trajectories"], file.attrs["simulation_parameters"] = TRAJECTORIES, np.array([], text)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = np.array(["x", "y"], text)
        for name, size in (("time", steps), ("x", nx), ("y", ny)):
            item = dimensions.create_dataset(name, data=np.arange(size, dtype="f4"))
            item.attrs["sample_varying"], item.attrs["time_varying"] = False, name == "time"
        for group in ("boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields"):
            file.create_group(group).attrs["field_names"] = np.array(["A", "B"] if group == "t0_fields" else [], text)
        for name in ("A", "B"):
            item = file.create_dataset(f"t0_fields/{name}", (TRAJECTORIES, steps, nx, ny), "f4")
            item.attrs["sample_varying"] = item.attrs["time_varying"] = True
            item.attrs["dim_varying"] = np.array([True, True])
        for trajectory in range(TRAJECTORIES):
            values = fields(steps, trajectory)
            file["t0_fields/A"][trajectory], file["t0_fields/B"][trajectory] = values[..., 0], values[..., 1]


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "shards": ("shard.h5", _shard),
    "contiguous": ("contiguous.h5", _contiguous),
    "gzip": ("gzip.h5", _gzip),
    "pdebench": ("pdebench.h5", _pdebench),
    "well": ("gray_scott/data/train/gray_scott.hdf5", _well),
    "large": ("large.h5", _large),
}


def make(folder: Path, kind: str) -> Path:
    """A file by its kind; one that an earlier call left in the folder is used again."""
    name, write = FILES[kind]
    path, part = folder / name, (folder / name).with_suffix(".part")
    if not path.exists():
        part.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.rename(path)
    return path
