"""From lazy data to batches.

`stream`: what users iterate over. `plan`: the order, integers only. `columns`: which variable fills which channel.
`sources`: how each variable is read. `gather`: windows through a buffer. `windows`: windows straight from the files.
`device`: to a GPU while the batch before is used.
"""
