"""Posts each alert to `LOSSBOOK_WEBHOOK`, as Slack's incoming webhooks take it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import ClassVar

from lossbook.follower.sinks import Alert, AlertSink

#: For one try.
WEBHOOK_SECONDS = 10.0
#: Between the tries of a webhook that does not answer.
PAUSES_SECONDS = (1.0, 5.0)
_LONGEST_RETRY_AFTER_SECONDS = 15.0
_SIGNS = {"error": "\N{LARGE RED CIRCLE}", "warning": "\N{LARGE YELLOW CIRCLE}"}


class Webhook(AlertSink):
    """Posts `{"text": ...}` to an address, which is a credential and is in no message."""

    kind: ClassVar[str] = "webhook"
    title: ClassVar[str] = "a webhook, such as Slack's"

    def send(self, alert: Alert) -> None:
        if not self.setting.lower().startswith(("https://", "http://")):
            self.warn("LOSSBOOK_WEBHOOK is no http address; alerts stay in the run")
            return
        sign = _SIGNS.get(alert.level, "")
        text = f"{sign} *{_plain(self.run.name)}* {_plain(alert.title)}\n{_plain(alert.text)}".strip()
        body = json.dumps({"text": text}).encode()
        why = ""
        for pause in (0.0, *PAUSES_SECONDS):
            self.closing.wait(pause) if not self.closing.is_set() else time.sleep(min(pause, 1.0))
            request = urllib.request.Request(
                self.setting, data=body, headers={"Content-Type": "application/json", "User-Agent": "lossbook"}
            )
            try:
                with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS) as answer:
                    answer.read(1024)
                return
            except urllib.error.HTTPError as error:
                error.close()
                why = f"HTTP {error.code}"
                if error.code != 429 and error.code < 500:
                    break
                self._wait_as_told(error.headers.get("Retry-After"))
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                why = getattr(reason, "strerror", None) or type(reason).__name__
        self.warn(f"the webhook did not take an alert ({why}); it is in the run")

    def _wait_as_told(self, retry_after: str | None) -> None:
        if retry_after is not None and retry_after.isdigit():
            self.closing.wait(min(float(retry_after), _LONGEST_RETRY_AFTER_SECONDS))


def _plain(text: str) -> str:
    """Text that Slack does not take for markup, a link or a mention of everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
