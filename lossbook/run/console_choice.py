"""How what is printed is kept: by the descriptors, by Python's streams, or not at all.

By the descriptors where nobody sits in front of the program: neither standard output nor standard error is a terminal, it
is a script, and `sys.stdout` and `sys.stderr` are Python's own. Elsewhere (a terminal, a notebook, a debugger's or an
embedding program's streams) by Python's streams, because there nothing may stand between the program and a person.
"""

from __future__ import annotations

from collections.abc import Callable

from lossbook.run.console import Console
from lossbook.run.descriptor_console import DescriptorConsole, can_capture_descriptors, is_for_people
from lossbook.run.messages import say_once
from lossbook.run.shell import find_shell
from lossbook.run.text import describe

#: Words for it; "auto" chooses.
CAPTURES = ("auto", "fd", "stream", "off")


def start_console(
    capture: str, run: str, name: str, sink: Callable[[bytes], None]
) -> Console | DescriptorConsole | None:
    """Begin to keep what is printed.

    Args:
        capture: one of `CAPTURES`.
        run: the run's folder; empty where it is not known yet.
        name: the file in it.
        sink: adds to that file.
    """
    if capture == "off":
        return None
    if capture != "stream" and run and can_capture_descriptors() and find_shell() is None:
        if capture == "fd" or not is_for_people():
            try:
                descriptors = DescriptorConsole(run, name, sink)
                descriptors.start()
                return descriptors
            except (OSError, NotImplementedError, ValueError) as error:
                say_once(f"what C libraries and child processes print is not kept ({describe(error)})")
    elif capture == "fd":
        say_once(
            "console='fd' is not possible here (a notebook, other streams than Python's own, or another run of this "
            "process has it): what Python prints is kept"
        )
    console = Console(sink)
    console.start()
    return console
