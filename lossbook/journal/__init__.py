"""The journal: append-only JSON Lines, one file per writing process and segment.

`line` owns the format of a line, `writer` the promise that a returned append survives SIGKILL, `reader` the
reading of whatever is there, damaged or not.
"""
