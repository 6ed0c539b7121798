"""From a user's HDF5 file to a trained surrogate: describe it, look at it, rechunk it, train, predict.

Run with `python examples/bring_your_own_data.py [FOLDER]`; takes about ten seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch

from surrogate.config import parse_yaml
from surrogate.data import Mapping, open_snapshots
from surrogate.data.convert import convert
from surrogate.data.inspect import describe
from surrogate.models import Surrogate
from surrogate.training import read_experiment, train

CONFIG = """
name: heat
data:
  path: {path}
  inputs: [conductivity]
  targets: [temperature]
  split: {{validation: 16, test: 16, seed: 0}}
model: {{family: convnet, width: 8, depth: 1}}
optimizer: {{name: slimtrain, learning_rate: 1e-2}}
training: {{epochs: 2, batch_size: 16, seed: 0}}
"""

LAYOUT = Mapping.model_validate(
    {
        "variables": {
            "conductivity": {"path": "run/k", "axes": ["sample", "y", "x"], "units": "W/(m K)"},
            "temperature": {"path": "run/T", "axes": ["sample", "y", "x"], "units": "K"},
        },
        "coordinates": {"x": {"path": "grid/x", "axes": ["x"], "units": "m"}},
    }
)


def simulate(path: Path) -> None:
    """A file as a user may have it: names of its own, chunks that are bad for reading single snapshots."""
    rng = np.random.default_rng(0)
    modes = np.fft.fftfreq(16, 1 / 16)
    smooth = np.exp(-(modes[:, None] ** 2 + modes[None, :] ** 2) / 18)
    k = np.fft.ifft2(np.fft.fft2(rng.normal(size=(96, 16, 16))) * smooth).real
    with h5py.File(path, "w") as file:
        file.create_dataset("run/k", data=k.astype("f4"), chunks=(96, 4, 4), compression="gzip")
        file.create_dataset("run/T", data=(k + np.roll(k, 1, axis=2) ** 2).astype("f4"), chunks=(96, 4, 4))
        file["grid/x"] = np.arange(16) / 16


def main(folder: Path) -> None:
    """All steps, in a folder that holds nothing else."""
    source = folder / "simulations.h5"
    simulate(source)

    description = describe(source, LAYOUT)
    for report in description.variables:
        print(f"{report.path}: axes {report.axes}, read amplification {report.amplification:.0f}")

    data = open_snapshots(source, LAYOUT)
    print(f"opened {dict(data.sizes)}, {data['temperature'].attrs['units']}, read when needed")

    shards = convert(source, folder / "shards", "shards", layout=LAYOUT, memory_bytes=64_000_000)
    again = open_snapshots(shards)
    print(f"converted to {shards.name}: {bool((again['temperature'] == data['temperature']).all())}")

    experiment = read_experiment(parse_yaml(CONFIG.format(path=shards), "heat"))
    run = train(experiment, folder / "run", command="examples/bring_your_own_data.py")
    surrogate = Surrogate.load(run.checkpoints.best())
    fields = torch.from_numpy(again["conductivity"].isel(sample=slice(0, 1)).values)[:, None]
    print(f"predicted temperature {tuple(surrogate(fields).shape)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
