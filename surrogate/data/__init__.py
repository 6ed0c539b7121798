"""Data: any HDF5 in, lazily and with names; batches out.

`layouts` opens files: `hdf5/` reads and writes them as such, `formats/` knows their layouts, `mapping` declares others.
`missing` handles NaN, `splits` parts the simulations, `streaming/` makes batches. `inspect` describes files, with
`values` and `suggest`; `store` writes shards; `staging` copies files to a node; `fingerprint` tells whether
files changed; `settings` is the `data:` section.
"""

from surrogate.data.layouts import open_snapshots
from surrogate.data.mapping import MappedVariable, Mapping
from surrogate.data.missing import mask_missing, open_data
from surrogate.data.settings import DataSettings, NamedGroup, SplitSettings, Window
from surrogate.data.splits import split, split_ids
from surrogate.data.streaming.stream import Stream

__all__ = [
    "DataSettings",
    "MappedVariable",
    "Mapping",
    "NamedGroup",
    "SplitSettings",
    "Stream",
    "Window",
    "mask_missing",
    "open_data",
    "open_snapshots",
    "split",
    "split_ids",
]
