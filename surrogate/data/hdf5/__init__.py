"""HDF5 files as such, without names of axes: lazy arrays, fast and safe ways of reading, whole files written.

`array`: a dataset that is read when indexed. `storage`, `references`: how and where its values are stored. `reading`,
`filters`: boxes of values, decoded outside the lock of HDF5. `decoding`: CF conventions. `autotune`: the
fastest way of reading, measured. `origin`: files and byte ranges of a selection. `faults`: errors of HDF5 in one line.
`file_type`: the kind of a file that is not HDF5. `writer`: whole files written by plain calls.
"""
