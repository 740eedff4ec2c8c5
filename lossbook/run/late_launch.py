"""Finds the run of a rank other than 0 in a thread: training begins, and its rows wait, where rank 0 is late.

`init()` waits for a bounded time. After it the thread goes on looking: for as long as the rank logs nothing, and then
for `SETTLE_SECONDS`, because a job that trains has a rank 0 that is there. A rank whose rank 0 never comes is a run by
itself; so is the only rank of its job that logs.
"""

from __future__ import annotations

import threading
import time

from lossbook.errors import StoreError, UnknownRun
from lossbook.journal import AttemptRow, WaitingJournal
from lossbook.paths import new_run_id
from lossbook.run.announcement import FINISH_SECONDS, Patience, init_seconds
from lossbook.run.create import Settles, Started, begin, begin_async, fresh_run
from lossbook.run.distributed import Launch
from lossbook.run.request import InitRequest

#: How long a rank's rows wait for its rank 0, from the first of them on.
SETTLE_SECONDS = 60.0
#: How long the end of a run waits for the store, where the rank has not found its run.
STORE_SECONDS = 10.0
#: How long `init()` waits for a store that does not answer at all.
SILENT_SECONDS = 5.0


class LateLaunch:
    """The search of one rank for its run.

    Args:
        may_hang: whether the store's file system may not answer.

    Attributes:
        is_settled: set when the run is known, or when it cannot be.
        journal: what takes rows until then; None where `init()` has found the run in time.
    """

    def __init__(self, request: InitRequest, launch: Launch, *, may_hang: bool) -> None:
        self._request = request
        self._launch = launch
        self._may_hang = may_hang
        self._began = self._heard = time.monotonic()
        self._is_ending = threading.Event()
        self._lock = threading.Lock()
        self._started: Started | None = None
        self._refused: Exception | None = None
        self._run: Settles | None = None
        self._fresh = request.id or new_run_id()
        self._sentences: list[str] = []
        self.journal: WaitingJournal | None = None
        self.is_settled = threading.Event()
        self._thread = threading.Thread(target=self._search, name="lossbook-launch", daemon=True)

    def begin(self) -> Started:
        """Wait for the run for as long as `init()` may; then begin with rows that wait for it.

        Raises:
            UnknownRun, StoreError: as `begin()` of a run.
        """
        self._thread.start()
        limit = self._began + init_seconds(self._launch)
        while not self.is_settled.wait(0.005) and time.monotonic() < min(limit, self._heard + SILENT_SECONDS):
            pass
        with self._lock:
            if self._refused is not None:
                raise self._refused
            if self._started is not None:
                return self._started._replace(late=self)
            folder, info = fresh_run(self._request._replace(id=self._fresh), self._launch)
            attempt = info.last_attempt
            self.journal = WaitingJournal(
                folder,
                self._launch.rank,
                AttemptRow(attempt, 0),
                step=-1 if self._request.resume_step is None else self._request.resume_step,
                run_json=info.to_json(),
                warn=self._hear,
            )
            return Started(folder, info, attempt, self.journal, launch=self._launch, late=self)

    def tell(self, run: Settles) -> None:
        """Say whose rows wait: the run is told when it is known, at once where it is."""
        with self._lock:
            self._run = run
            self._say()
            if self.journal is not None and self._started is not None:
                run.settle(self._started)

    def _hear(self, sentence: str) -> None:
        self._sentences.append(sentence)

    def _say(self) -> None:
        if self._run is not None and self._sentences:
            said, self._sentences = self._sentences, []
            self._run.warn("launch", "; ".join(said))

    def end(self, *, in_peace: bool) -> None:
        """Come to a decision, because the run is ending.

        Args:
            in_peace: whether the program has the time to wait for a rank 0 that is late.
        """
        if in_peace:
            self.is_settled.wait(max(0.0, self._began + FINISH_SECONDS - time.monotonic()))
        self._is_ending.set()
        self.is_settled.wait(STORE_SECONDS)

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _search(self) -> None:
        try:
            patience = Patience(self._pause, self._is_over)
            started = (begin_async if self._may_hang else begin)(
                self._request, self._launch, warn=self._hear, patience=patience, fresh=self._fresh
            )
            with self._lock:
                self._started = started
                if self.journal is not None:
                    self.journal.settle(started.journal)
                    if self._run is not None:
                        self._run.settle(started)
                self._say()
        except (UnknownRun, StoreError) as error:
            self._refuse(error)
        except Exception as error:
            self._refuse(StoreError(f"nothing of this run is recorded ({type(error).__name__}: {error})"))
        finally:
            self.is_settled.set()

    def _refuse(self, error: Exception) -> None:
        with self._lock:
            self._refused = error
            if self.journal is not None:
                self._hear(str(error))
            self._say()

    def _pause(self, seconds: float) -> None:
        self._heard = time.monotonic()  # the store answers: it is rank 0 that is waited for
        self._is_ending.wait(seconds)

    def _is_over(self, waited: float) -> bool:
        if self._is_ending.is_set():
            return True
        if waited < init_seconds(self._launch):
            return False
        first = self.journal.first_row_at if self.journal is not None else None
        return not self._launch.is_launched or (first is not None and time.monotonic() - first >= SETTLE_SECONDS)
