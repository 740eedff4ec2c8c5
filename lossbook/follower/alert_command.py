"""Runs the command of `LOSSBOOK_ALERT_COMMAND` for each alert, with the alert as JSON on its standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import ClassVar

from lossbook.follower.sinks import Alert, AlertSink

#: A command that takes longer is ended.
COMMAND_SECONDS = 30.0


class AlertCommand(AlertSink):
    """Runs a command of `/bin/sh`, in a session of its own."""

    kind: ClassVar[str] = "command"
    title: ClassVar[str] = "a command"

    def send(self, alert: Alert) -> None:
        body = {
            "run": self.run.id,
            "name": self.run.name,
            "project": self.run.project,
            "path": self.run.path,
            "title": alert.title,
            "text": alert.text,
            "level": alert.level,
            "step": alert.step,
            "finding": alert.finding,
        }
        process = subprocess.Popen(
            ["/bin/sh", "-c", self.setting],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(self.run.environment),
            cwd=self.run.cwd if self.run.cwd and os.path.isdir(self.run.cwd) else None,
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(body).encode() + b"\n", timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)
            self.warn(f"the command of LOSSBOOK_ALERT_COMMAND took longer than {COMMAND_SECONDS:.0f} s and was ended")
            return
        if process.returncode != 0:
            self.warn(f"the command of LOSSBOOK_ALERT_COMMAND ended with status {process.returncode}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    process.wait()
