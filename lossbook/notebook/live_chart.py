"""A chart below a cell that follows the training: `run.live_chart("train/loss")`.

A thread reads the run's files as any reader does, so `log()` knows nothing of it. It looks at the most once in
`every_seconds`, takes at the most a twentieth of the time, and ends with the run.
"""

from __future__ import annotations

import atexit
import threading
import time
from importlib import import_module
from typing import Any

from lossbook.errors import LossbookError
from lossbook.metrics import usual_keys
from lossbook.notebook.cards import recorded
from lossbook.notebook.chart import POINTS, chart
from lossbook.notebook.markup import Html, escaped, link, page, state
from lossbook.notebook.pages import page_of
from lossbook.reading import RecordedRun
from lossbook.run import Run, find_shell, say_once

#: What drawing may take of the time.
_SHARE = 0.05
#: How long the end of the program waits for a picture that is being drawn, in seconds.
_END_SECONDS = 2.0


class LiveChart:
    """One chart in a notebook. It ends with the run, or by `stop()`.

    Args:
        keys: what to draw; none for the losses, whatever they are called.
        x: the axis, as in `RecordedRun.curve`.
        every_seconds: between two pictures, at the least.
    """

    def __init__(self, run: Run, keys: tuple[str, ...] = (), *, x: str = "step", every_seconds: float = 1.0) -> None:
        self._run = run
        self._keys = keys
        self._x = x
        self._every_seconds = max(0.2, every_seconds)
        self._recorded: RecordedRun | None = None
        self._stopped = threading.Event()
        self._shown = ""
        self._display: Any = None
        self._thread: threading.Thread | None = None
        if not run.path:
            say_once("live_chart() shows nothing, because nothing of this run is recorded")
        elif find_shell() is None:
            say_once("live_chart() shows a chart in a notebook only; `lossbook watch` follows a run in a terminal")
        else:
            self._begin()

    def _begin(self) -> None:
        ipython: Any = import_module("IPython.display")
        self._html: Any = ipython.HTML
        self._shown = self._draw()
        self._display = ipython.display(self._html(self._shown), display_id=True)
        self._thread = threading.Thread(target=self._follow, name="lossbook-chart", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave the chart as it is."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_END_SECONDS)
        atexit.unregister(self.stop)

    def wait(self, seconds: float = 10.0) -> bool:
        """Wait until the chart of a run that has ended shows all of its rows; False when it took longer."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _follow(self) -> None:
        pause = self._every_seconds
        is_last = False
        while not is_last:
            # A run that has ended is drawn once more, with all its rows.
            is_last = self._stopped.wait(pause) or self._run.is_finished
            begun = time.monotonic()
            try:
                drawn = self._draw()
                if drawn != self._shown:
                    self._display.update(self._html(drawn))
                    self._shown = drawn
            except Exception:  # the notebook is closing, or the run's files are gone
                return
            pause = max(self._every_seconds, (time.monotonic() - begun) / _SHARE)

    def _draw(self) -> str:
        try:
            if self._recorded is None:
                self._recorded = recorded(self._run)
            known = set(self._recorded.keys())
            keys = list(self._keys) or usual_keys(known)
            curves, missing = [], []
            for key in keys:
                try:
                    curves.append(self._recorded.curve(key, x=self._x, points=POINTS))
                except LossbookError:
                    missing.append(key)
            body = chart(curves) if curves else Html("")
            if missing or not curves:
                body = Html(
                    f'{body}<div class="lb-note">no row yet of {escaped(", ".join(missing) or "a metric")}</div>'
                )
        except LossbookError as error:
            body = Html(f'<div class="lb-note">{escaped(error)}</div>')
        return page([self._head(), body])

    def _head(self) -> str:
        run = self._recorded
        standing = "running" if not self._run.is_finished or run is None else run.refresh().state
        place = page_of(run.store, run) if run is not None else None
        return f'<div class="lb-head"><b>{link(self._run.name, place)}</b>{state(standing)}</div>'

    def __repr__(self) -> str:
        return f"<lossbook live chart of {self._run.name}>"
