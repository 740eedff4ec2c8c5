"""Delivers many runs to other trackers, one after another: what one of them comes to is nothing to the others.

A run that cannot be delivered is said, named and counted. A tracker that refuses each run for the same reason, as one
does that is out of reach, is given up: the runs that were not tried are counted as well.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import click

from lossbook.cli.format import plural, printable
from lossbook.cli.progress import Bar, RunsProgress
from lossbook.errors import DamagedFile, LossbookError
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder
from lossbook.run_info import load_run_info

if TYPE_CHECKING:
    from lossbook.follower import Delivery
    from lossbook.reading import RecordedRun

#: So many runs in a row that a tracker refuses for the same reason: the others would be refused as well.
GIVE_UP_AFTER = 3
#: So many runs are named in one line.
_MOST_NAMED = 10

#: delivered: all that there is. under way: another process is at it, and goes on. complete: was there already.
#: gone: removed or moved meanwhile. failed: refused, or could not be read. not tried: its tracker was given up.
State: TypeAlias = Literal["delivered", "under way", "complete", "gone", "failed", "not tried"]


#: What is wrong with the whole store where it is wrong with one run after the other.
_OF_THE_STORE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES))
#: Names the run in each refusal.
_PATH = re.compile(r"(?<!\S)/\S+")
_SAID = {"complete": "there already", "under_way": "under way", "not_tried": "not tried"}


@dataclass(frozen=True)
class Work:
    """One run that is to be delivered to one mirror.

    Attributes:
        spec: the mirror, "wandb" or "wandb:offline".
        rows: how many rows are missing there, as far as is known.
        again: look at it even where all of it is there.
    """

    run: RecordedRun
    spec: str
    rows: int = 0
    again: bool = False

    @property
    def tracker(self) -> str:
        """The mirror without its mode."""
        return self.spec.partition(":")[0]

    @property
    def mode(self) -> str:
        """Its mode."""
        return self.spec.partition(":")[2] or "online"


@dataclass
class DeliveryResult:
    """What came of delivering one run to one mirror.

    Attributes:
        error: why it was not delivered, one sentence; None where nothing is wrong.
        problems: what of the run was damaged and is left out, a sentence each.
    """

    run: str
    name: str
    to: str
    mode: str
    rows: int = 0
    url: str | None = None
    error: str | None = None
    state: State = "delivered"
    problems: list[str] = field(default_factory=list)

    @property
    def is_wrong(self) -> bool:
        """Whether something was refused, failed or left out."""
        return self.error is not None or bool(self.problems)


class Deliveries:
    """Takes work and says what came of it; `results` has one for each run that was tried or given up.

    Args:
        options: further settings of the tracker.
        complete: runs that were found to be there already, for the totals.
        unreadable: runs that may not be read: they are said elsewhere, and wrong.
        quiet: print no line for a run that is delivered.
    """

    def __init__(
        self, work: Sequence[Work], *, options: dict[str, str], complete: int, unreadable: int, quiet: bool
    ) -> None:
        self.results: list[DeliveryResult] = []
        self._work = work
        self._options = options
        self._complete, self._unreadable = complete, unreadable
        self._quiet = quiet
        self._progress = RunsProgress("done", len(work), sum(one.rows for one in work))
        self._refusals: dict[str, Counter[str]] = {}
        self._given_up: set[str] = set()
        self._begun = time.monotonic()

    def run(self) -> int:
        """Deliver everything; the exit status: 0 where nothing is wrong.

        Raises:
            KeyboardInterrupt: Ctrl-C; how far it came is said.
        """
        try:
            for one in self._work:
                self.results.append(self._deliver(one))
                self._progress.run_done(one.rows)
        except KeyboardInterrupt:
            if len(self._work) > 1:
                done = f"{len(self.results)} of {plural(len(self._work), 'run')}"
                self._warn(f"stopped after {done}; the same command goes on there")
            raise
        finally:
            self._progress.clear()
        if len(self._work) > 1:
            self._say_totals()
        return 1 if self._unreadable or any(result.is_wrong for result in self.results) else 0

    def totals(self) -> JsonObject:
        """How many runs came to what, and how many rows were delivered in how many seconds."""
        return {
            **self._counts(),
            "unreadable": self._unreadable,
            "damaged": sum(bool(result.problems) for result in self.results),
            "rows": sum(result.rows for result in self.results),
            "seconds": round(time.monotonic() - self._begun, 3),
        }

    def _counts(self) -> dict[str, int]:
        counts = Counter(result.state for result in self.results)
        counts["complete"] += self._complete
        return {state.replace(" ", "_"): counts[state] for state in get_args(State)}

    # -- one run ------------------------------------------------------------------------------------------------------

    def _deliver(self, work: Work) -> DeliveryResult:
        run, tracker = work.run, work.tracker
        result = DeliveryResult(run.id, run.name, tracker, work.mode)
        if work.spec in self._given_up:
            result.state, result.error = "not tried", "others had failed before it, all for the same reason"
            return result
        try:
            self._hand_over(work, result)
        except (LossbookError, OSError) as error:
            self._fail(result, _sentence(error))
            if isinstance(error, OSError) and error.errno in _OF_THE_STORE:
                self._refused(work, _sentence(error))
        except Exception as error:
            if os.environ.get("LOSSBOOK_TRACEBACK"):
                raise
            self._fail(
                result,
                f"something went wrong inside Lossbook ({type(error).__name__}: {error}); LOSSBOOK_TRACEBACK=1 in the "
                "environment shows where, please report it",
            )
        return result

    def _hand_over(self, work: Work, result: DeliveryResult) -> None:
        from lossbook.follower import Busy, Delivery, UnforeseenFailure, is_complete
        from lossbook.trackers import MirrorUnavailable

        folder = work.run.folder
        if not os.path.lexists(folder.path):
            result.state = "gone"
            self._say(f"{result.name}: it was removed or moved meanwhile; the same command finds it where it is")
            return
        _refuse_unknown(folder)
        delivery = Delivery(folder, work.tracker, mode=work.mode, options=self._options)
        try:
            with delivery.held():
                if not work.again and is_complete(folder, delivery.cursor):
                    result.state = "complete"
                    return
                self._catch_up(delivery, result)
        except Busy:
            result.state = "under way"
            self._say(f"{result.name} → {result.to}: under way; the process that delivers it goes on by itself")
        except MirrorUnavailable as error:
            self._fail(result, str(error))
            if not isinstance(error, UnforeseenFailure):
                self._refused(work, str(error))
            delivery.stopped(str(error))
        else:
            self._refusals.pop(work.spec, None)

    def _catch_up(self, delivery: Delivery, result: DeliveryResult) -> None:
        from lossbook.follower import ending_of, undelivered_rows

        missing = undelivered_rows(delivery.folder, delivery.cursor)
        delivery.open()
        said = delivery.remarks()
        for sentence in said:
            self._warn(sentence)
        alone = len(self._work) == 1
        left = undelivered_rows(delivery.folder, delivery.cursor) if alone else 0
        bar = Bar(f"{result.name} → {result.to}", left, quiet=self._quiet or not alone)

        def progress(rows: int) -> None:
            bar.add(rows)
            self._progress.add_rows(rows)

        try:
            delivery.catch_up(progress)
        finally:
            bar.close()
        result.problems = delivery.damage()
        for sentence in delivery.remarks():
            if sentence not in said:
                self._warn(sentence)
        ending = ending_of(delivery.folder)
        delivery.close(ending)
        # What a mirror had of it in a file of its own, and only had to send, was missing there as well.
        result.rows = missing - undelivered_rows(delivery.folder, delivery.cursor) + delivery.inherited_rows
        result.url = delivery.cursor.url
        where = f": {result.url}" if result.url else ""
        running = "" if ending is not None else "; it still runs"
        self._say(f"{result.name} → {result.to}: {plural(result.rows, 'row')} delivered{running}{where}")

    # -- what is said -------------------------------------------------------------------------------------------------

    def _fail(self, result: DeliveryResult, why: str) -> None:
        result.state, result.error = "failed", why
        self._warn(f"{result.name} → {result.to}: {why}")

    def _refused(self, work: Work, why: str) -> None:
        """Give up where one run after the other fails for the same reason: a server out of reach costs a time-out each."""
        for own in (work.run.id, work.run.name):
            why = why.replace(own, "RUN")
        why = _PATH.sub("PATH", why)
        refusals = self._refusals.setdefault(work.spec, Counter())
        refusals[why] += 1
        left = [one for one in self._work[len(self.results) + 1 :] if one.spec == work.spec]
        if refusals[why] == GIVE_UP_AFTER and left:
            self._given_up.add(work.spec)
            self._warn(
                f"one run after the other fails for that reason: {plural(len(left), 'run')} not tried for {work.tracker}"
            )

    def _say_totals(self) -> None:
        counts = self._counts()
        said = [f"{plural(counts.pop('delivered'), 'run')} delivered"]
        said += [f"{count} {_SAID.get(state, state)}" for state, count in counts.items() if count]
        self._say(f"{', '.join(said)}; {plural(sum(result.rows for result in self.results), 'row')}")
        damaged = [result for result in self.results if result.problems]
        if damaged:
            self._warn(f"damaged lines and files were left out of {_named(damaged)}; `lossbook verify` names them")
        failed = [result for result in self.results if result.state == "failed"]
        if failed:
            more = f" and {plural(not_tried, 'run')} not tried" if (not_tried := counts["not_tried"]) else ""
            self._warn(
                f"not delivered: {_named(failed)}{more}; mend what is said above, and the same command goes on there"
            )

    def _say(self, sentence: str) -> None:
        if not self._quiet:
            self._progress.clear()
            click.echo(printable(sentence))

    def _warn(self, sentence: str) -> None:
        self._progress.clear()
        click.echo(f"lossbook: {printable(sentence)}", err=True)


def _refuse_unknown(folder: RunFolder) -> None:
    """Keep a run without its identity from being delivered under a wrong one, for ever.

    Raises:
        DamagedFile, StoreError: its `run.json` is missing or cannot be read.
    """
    mend = f"put it back from a copy, or remove the run (`lossbook rm {os.path.basename(folder.path)}`)"
    try:
        known = load_run_info(folder)
    except DamagedFile as error:
        raise DamagedFile(f"{error}: {mend}") from None
    if known is None:
        raise DamagedFile(f"{folder.run_json} is missing or empty: {mend}")


def _named(results: Sequence[DeliveryResult]) -> str:
    names = [
        f"{printable(result.name)} ({result.run})" if result.name != result.run else result.run
        for result in results[:_MOST_NAMED]
    ]
    more = f" and {plural(len(results) - _MOST_NAMED, 'more run')}" if len(results) > _MOST_NAMED else ""
    return f"{', '.join(dict.fromkeys(names))}{more}"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, LossbookError):
        return f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error})"
    return str(error)
