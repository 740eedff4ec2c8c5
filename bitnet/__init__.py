"""BitNet: a Transformer whose weights end as -1, 0 and 1, and its trainer."""
