"""Answers over several runs or machines: comparisons, the best run, time to a target, GPUs, nodes, seed bands, reports."""
