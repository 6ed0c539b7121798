"""Read damaged HDF5 files, one per seed, and print a line of JSON about each: run as a program by its test.

python damaged_hdf5.py FOLDER KIND:FIRST:LAST ...
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from surrogate.data import Mapping, Stream, open_snapshots
from surrogate.data.inspect import describe, render
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.errors import SurrogateError, failure_of

VALUES = np.random.default_rng(0).normal(size=(6, 4, 5)).astype("f4")
LAYOUT = Mapping.model_validate({"variables": {"u": {"path": "g/u", "axes": ["sample", "y", "x"]}}})


def _plain(folder: Path, **options: object) -> None:
    with h5py.File(folder / "data.h5", "w", libver=options.pop("libver", "earliest")) as file:  # type: ignore[call-overload]
        u = file.create_dataset("g/u", data=VALUES, **options)
        u.attrs["units"] = "m/s"
        file.attrs["about"] = ["text of", "variable length"]


def _virtual(folder: Path) -> None:
    with h5py.File(folder / "data.h5", "w") as file:
        file["source"] = VALUES[:3]
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:3] = h5py.VirtualSource(".", "source", (3, 4, 5))
        layout[3:] = h5py.VirtualSource("other.h5", "u", (3, 4, 5))
        file.create_virtual_dataset("g/u", layout)
    with h5py.File(folder / "other.h5", "w") as file:
        file["u"] = VALUES[3:]


def _named(folder: Path) -> None:
    ds = xr.Dataset(
        {"u": (("sample", "y", "x"), VALUES, {"units": "K"}), "k": ("sample", np.arange(6.0))},
        {"x": np.linspace(0, 1, 5), "word": ("sample", [*"abcdef"])},
    )
    ds.to_netcdf(folder / "data.h5", engine="h5netcdf", encoding={"u": {"zlib": True, "shuffle": True}})


def _well(folder: Path) -> None:
    with h5py.File(folder / "data.h5", "w") as file:
        file.attrs.update(dataset_name="w", grid_type="cartesian", n_spatial_dims=1, n_trajectories=3)
        for name in ("boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields", "dimensions"):
            file.create_group(name).attrs["field_names"] = ["u"] if name == "t0_fields" else []
        file["dimensions"].attrs["spatial_dims"] = ["x"]
        file["dimensions/time"], file["dimensions/x"] = np.arange(4.0), np.arange(5.0)
        u = file.create_dataset("t0_fields/u", data=VALUES[:3])
        u.attrs.update(dim_varying=[True], sample_varying=True, time_varying=True)


def _compound(folder: Path) -> None:
    with h5py.File(folder / "data.h5", "w") as file:
        file["g/u"] = VALUES
        file["table"] = np.array([(b"a", 1.0), (b"b", 2.0)], [("name", "S4"), ("value", "f8")])
        file["words"] = ["one", "two"]
        file["soft"], file["far"] = h5py.SoftLink("/g/u"), h5py.ExternalLink("other.h5", "u")
        file["g/u"].attrs["_FillValue"] = np.float32(-1)
        file["ragged"] = np.array([np.ones(2, "f4"), np.ones(3, "f4")], h5py.vlen_dtype("f4"))


def _shards(folder: Path) -> None:
    ds = xr.Dataset({"u": (("sample", "y", "x"), VALUES)}, {"x": np.linspace(0, 1, 5)})
    shard = write_shard(folder / "data.h5", ds)
    write_manifest(folder, Manifest(name="a", digest="0", samples=6, shards=[shard]))


MAKERS: dict[str, Callable[[Path], None]] = {
    "contiguous": _plain,
    "chunked": lambda folder: _plain(folder, chunks=(2, 4, 3)),
    "gzip": lambda folder: _plain(folder, chunks=(1, 4, 5), compression="gzip", shuffle=True, fletcher32=True),
    "latest": lambda folder: _plain(folder, chunks=(2, 2, 5), maxshape=(None, 4, 5), libver="latest"),
    "virtual": _virtual,
    "netcdf": _named,
    "well": _well,
    "compound": _compound,
    "shards": _shards,
}
DECLARED = ("contiguous", "chunked", "gzip", "latest", "virtual", "compound")


def damage(content: bytearray, rng: random.Random) -> bytes:
    """Change a few bits or bytes, a block, or the length of a file."""
    kind, size = rng.randrange(8), len(content)
    if kind == 7:
        return bytes(content[: rng.randrange(size)])
    if kind == 6:
        start = rng.randrange(size)
        content[start : start + 32] = rng.choice([bytes(32), b"\xff" * 32, rng.randbytes(32)])
        return bytes(content[:size])
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        place = rng.randrange(size)
        content[place] = content[place] ^ 1 << rng.randrange(8) if kind < 3 else rng.choice([0, 1, 127, 255])
    return bytes(content)


def read(kind: str, folder: Path) -> str:
    """Read all values as training does; return their hash."""
    path, layout = folder if kind == "shards" else folder / "data.h5", LAYOUT if kind in DECLARED else None
    stream = Stream(open_snapshots(path, layout), ["u"], ["u"], batch_size=2, shuffle=False)
    total = hashlib.sha256()
    for batch in stream:
        total.update(batch.inputs.numpy().tobytes())
    return total.hexdigest()


def outcome(call: Callable[[], str]) -> dict[str, object]:
    """Return what a user sees of a call: its result, or the line and the exit code."""
    try:
        return {"result": call()}
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            frame = error.__traceback__
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
            return {"traceback": f"{type(error).__name__}: {error} at {place}"}
        return {"line": failure[0], "code": failure[1], "ours": isinstance(error, SurrogateError)}


def main(folder: Path, jobs: list[str]) -> None:
    """Print a line before each damaged file, and one about each reading of it; use no more than 16 GiB."""
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
    warnings.simplefilter("ignore")
    for job in jobs:
        kind, first, last = job.split(":")
        place = folder / kind
        place.mkdir()
        MAKERS[kind](place)
        pristine = {path: path.read_bytes() for path in place.glob("*.h5")}
        path = place if kind == "shards" else place / "data.h5"
        readings = {"read": partial(read, kind, place), "inspect": lambda path=path: "\n".join(render(describe(path)))}
        whole = read(kind, place)
        for seed in range(int(first), int(last)):
            about = {"kind": kind, "seed": seed}
            print(json.dumps(about), flush=True)
            rng = random.Random(f"{kind} {seed}")
            for file, content in pristine.items():
                file.write_bytes(content)
            file = rng.choice(sorted(pristine))
            file.write_bytes(damage(bytearray(pristine[file]), rng))
            for name, call in readings.items():
                print(json.dumps({**about, "what": name, "whole": whole, **outcome(call)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
