"""The command `lossbook`; every command prints JSON with `--json`."""

from lossbook.cli.app import RUN, Settings, common_options, main

__all__ = ["RUN", "Settings", "common_options", "main"]
