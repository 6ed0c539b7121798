"""Layouts: from a file to named, lazy variables, and back.

`detect`: which layout, and why. `pdebench`, `the_well`, and `write_pdebench`, `write_well` for the way back.
`variables`: datasets whose axes are named or declared. `lazy`: dask arrays of them. `stack`: many datasets as one.
`idx`: MNIST's files. `text`: text in shards. `join`: many files. `ragged`: simulations with different numbers of steps.
"""
