"""Attacks on what Lossbook promises of a run: enumerated faults, each with what was lost and what was said.

`python -m attack` runs them all and prints a line for each kind of fault; docs/reliability.md keeps the table. A family
is a module with one function, `attack(session)`, that yields `Attempted` rows (attack/report.py). They share three things:
the library between a program and its files (attack/shim.py), children that may die of a fault (attack/child.py), and runs
of which it is known what must be in them (attack/runs.py).
"""
