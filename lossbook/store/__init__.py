"""Sealed segments and the reading of runs, without a server."""
