"""The journal: append-only JSON Lines, one file per writing process and segment.

`line` owns the format of a line, `attempt_row` the row that begins a segment, `writer` the promise that a returned
append survives SIGKILL, `async_writer` and `spill` the same for a file system that may hang, `reader` the reading of
whatever is there, damaged or not, `liveness` whether somebody still writes.
"""
