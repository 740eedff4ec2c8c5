"""The training process's side: `init()`, `Run` and the values that can be logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.lazy import lazy_exports

if TYPE_CHECKING:
    from lossbook.run.config import plain_config as plain_config
    from lossbook.run.current import current_run as current_run, finish as finish, init as init, log as log
    from lossbook.run.distributed import detect as detect
    from lossbook.run.exit_hooks import last_lines as last_lines
    from lossbook.run.follower_process import start_follower as start_follower
    from lossbook.run.handover import (
        BEHIND_SECONDS as BEHIND_SECONDS,
        Handover as Handover,
        HandoverFolder as HandoverFolder,
        Unshared as Unshared,
    )
    from lossbook.run.live_module import LiveModule as LiveModule
    from lossbook.run.mapping import RecordedMapping as RecordedMapping
    from lossbook.run.messages import say as say, say_once as say_once
    from lossbook.run.mirror_request import mirror_specs as mirror_specs
    from lossbook.run.plain_values import plain as plain
    from lossbook.run.request import InitArguments as InitArguments, InitRequest as InitRequest
    from lossbook.run.run import Run as Run
    from lossbook.run.saved_files import copy_by_content as copy_by_content
    from lossbook.run.shell import find_shell as find_shell
    from lossbook.run.text import describe as describe
    from lossbook.run.values import (
        Event as Event,
        Histogram as Histogram,
        Image as Image,
        Media as Media,
        Table as Table,
        Text as Text,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "config": "plain_config",
            "current": "current_run finish init log",
            "distributed": "detect",
            "exit_hooks": "last_lines",
            "follower_process": "start_follower",
            "handover": "BEHIND_SECONDS Handover HandoverFolder Unshared",
            "live_module": "LiveModule",
            "mapping": "RecordedMapping",
            "messages": "say say_once",
            "mirror_request": "mirror_specs",
            "plain_values": "plain",
            "request": "InitArguments InitRequest",
            "run": "Run",
            "shell": "find_shell",
            "saved_files": "copy_by_content",
            "text": "describe",
            "values": "Event Histogram Image Media Table Text",
        },
    )
