"""SwanLab: the runs in its log folder."""
