"""What other packages make of the files of `stream.py`; run by a Python that has the package, not by ours.

    PYTHON benchmarks/stream_peers.py {xbatcher|xbatcher-single|the_well} FILE SAMPLES

Prints snapshots a second, start and imports left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

BATCH = 32


def xbatcher_in_order(path: str) -> Iterator[int]:
    """Batches of 32 neighbours; shuffling single samples is left to the user."""
    return _xbatcher(path, BATCH, shuffle=False)


def xbatcher_single(path: str) -> Iterator[int]:
    """Samples in random order, one by one, as its map-style data set for torch gives them."""
    return _xbatcher(path, 1, shuffle=True)


def _xbatcher(path: str, size: int, *, shuffle: bool) -> Iterator[int]:
    import numpy as np
    import xarray as xr
    import xbatcher

    ds = xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", chunks={})
    first = ds.u.dims[0]
    batches = xbatcher.BatchGenerator(ds, {dim: size if dim == first else count for dim, count in ds.sizes.items()})
    order = np.random.default_rng(0).permutation(len(batches)) if shuffle else range(len(batches))
    yield 0
    for index in order:
        yield batches[int(index)].u.values.reshape(size, -1).shape[0]


def the_well(path: str) -> Iterator[int]:
    """Its data set, one step in and one out, in torch's loader with shuffling."""
    import torch
    from the_well.data import WellDataset

    folder = Path(path).parent
    data = WellDataset(path=str(folder), n_steps_input=1, n_steps_output=1, return_grid=False)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, collate_fn=list)
    yield 0
    for batch in loader:
        torch.stack([sample["input_fields"] for sample in batch])
        torch.stack([sample["output_fields"] for sample in batch])
        yield len(batch)


PEERS = {"xbatcher": xbatcher_in_order, "xbatcher-single": xbatcher_single, "the_well": the_well}


def main(name: str, path: str, samples: str) -> None:
    counts = PEERS[name](path)
    next(counts)  # opens
    start, done = time.perf_counter(), 0
    for count in counts:
        done += count
        if done >= int(samples):
            break
    print(done / (time.perf_counter() - start))


if __name__ == "__main__":
    main(*sys.argv[1:])
