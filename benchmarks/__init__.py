"""Lossbook and its peers, measured on the same work, on the same machine, in the same run.

    python -m benchmarks                     everything (about 15 minutes)
    python -m benchmarks --quick log kills   two families, short
    python -m benchmarks --markdown docs/benchmarks.md

Every measurement is a fresh process without network, in a temporary folder. A peer that is not installed is left
out and named; a figure that misses its target says `not reached` and fails nothing.
"""
