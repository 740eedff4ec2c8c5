"""The command `lossbook`; every command prints JSON with `--json`."""

from lossbook.cli.app import main

__all__ = ["main"]
