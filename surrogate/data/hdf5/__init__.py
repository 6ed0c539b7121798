"""HDF5 files as such, without names of axes: lazy arrays, fast and safe ways of reading, whole files written.

`array`: a dataset that is read when indexed. `storage`: what a file holds, and what of it is refused. `reading`: boxes
of values. `decode`: chunks outside the lock of HDF5. `choice`: the fastest way of reading, measured. `trace`: where
selected values lie. `sniff`: what a file looks like that is no HDF5. `raw`: writing by plain calls.
"""
