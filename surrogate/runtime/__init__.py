"""Processes of a run and what they may use: launching, signals, resources of the machine, dask workers."""
