"""Batches from lazy data.

`stream`: the class that users iterate over. `read_plan`: the order, integers only. `channels`: the variable and time
step of each channel. `sources`: how each variable is read. `buffer`: windows through a buffer. `windows`: windows
straight from the files. `device`: copies to a GPU while the previous batch is used.
"""
