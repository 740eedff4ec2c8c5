"""A long random life of one run, with a model that knows which rows must be there.

The seed decides everything but the moments: `python -m attack soak --seed N` lives the same life again.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack.child import in_child
from attack.report import Attempted, Session, Tally
from attack.runs import Contents, complaints, missing, read_store, seal_quietly, twice, victim
from attack.trainer import Trainer, end_followers
from lossbook.reading import set_labels

ACTIONS = (
    "log", "log", "log", "kill", "kill with its follower", "finish", "kill the follower", "seal", "show", "edit labels",
    "copy", "move the store",
)  # fmt: skip


class Model:
    """What must be in the run."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place, self.chance = place, chance
        self.store = place / "store"
        self.trainer: Trainer | None = None
        self.logged: list[int] = []
        self.maybe: set[int] = set()
        self.name = ""
        self.next_step = 0

    @property
    def safe(self) -> list[int]:
        """Steps whose `log()` has returned."""
        live = self.trainer
        return [*self.logged, *(range(live.first, live.returned + 1) if live is not None else ())]

    def do(self, action: str) -> None:
        """One action, where it makes sense now."""
        trainer = self.trainer
        if action == "log":
            if trainer is None:
                self.trainer = trainer = Trainer(self.store, first=self.next_step, followed=self.chance.random() < 0.7)
            trainer.wait_for(self.chance.randrange(5, 60))
        elif action in ("kill", "kill with its follower", "finish") and trainer is not None:
            trainer.wait_for(1)
            if action == "finish":
                trainer.finish()
            else:
                trainer.kill()
            if action == "kill with its follower":
                end_followers(self.store)
            self.logged = self.safe
            # The row that was being written may be there too: the next attempt begins behind it.
            self.maybe.add(trainer.returned + 1)
            self.next_step = trainer.returned + 2
            self.trainer = None
        elif action == "kill the follower":
            end_followers(self.store)
        elif action == "seal":
            in_child(lambda: seal_quietly(self.place)).must_be_well()
        elif action == "edit labels" and os.path.isfile(victim(self.store).run_json):
            self.name = f"name-{self.chance.randrange(1000)}"
            set_labels(victim(self.store).path, name=self.name)
        elif action == "copy" and self.store.is_dir():
            copy = self.place / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            try:
                shutil.copytree(self.store, copy)
            except shutil.Error:
                pass  # files went away meanwhile
            in_child(lambda: read_store(copy)).must_be_well()
        elif action == "move the store" and trainer is None:
            end_followers(self.store)
            away = self.place / "away"
            if self.store.is_dir():
                self.store.rename(away)
                away.rename(self.store)

    def check(self) -> list[str]:
        """What does not hold."""
        safe = self.safe
        seen = in_child(lambda: read_store(self.store))
        if seen.answer is None:
            return [seen.raised or f"the reader died of signal {seen.signal}"]
        found: Contents = seen.answer
        steps = found.all_steps
        wrong = [*found.wrong, *found.failures, *found.errors]
        if gone := missing(steps, safe):
            wrong.append(f"{len(gone)} of {len(safe)} rows are gone ({gone[:3]} ...)")
        if again := twice(steps):
            wrong.append(f"{len(again)} rows are read twice ({again[:3]} ...)")
        if self.name and self.name not in found.names.values():
            wrong.append(f"it is called {list(found.names.values())}, not {self.name}")
        if self.trainer is None and (extra := set(steps) - set(safe) - self.maybe):
            wrong.append(f"{len(extra)} rows that nobody logged ({sorted(extra)[:3]} ...)")
        return wrong


def attack(session: Session) -> Iterator[Attempted]:
    """Lives of a run."""
    tally = Tally()
    for seed, chance in session.times(short=1, long=8):
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            model, done = Model(Path(folder), chance), []
            try:
                for _ in range(8 if session.short else 30):
                    action = chance.choice(ACTIONS) if done else "log"
                    done.append(action)
                    model.do(action)
                    tally.points += 1
                    wrong = model.check()
                    tally.failures += [f"--seed {seed}, after {', '.join(done)}: {one}" for one in wrong]
                    if wrong:
                        break
                model.do("finish")
                model.do("seal")
                wrong = model.check() + (in_child(lambda model=model: complaints(model.store)).answer or [])
                wrong = [one for one in wrong if "torn" not in one]
                tally.failures += [f"--seed {seed}, at the end of {', '.join(done)}: {one}" for one in wrong]
            finally:
                if model.trainer is not None:
                    model.trainer.kill()
                end_followers(model.store)
    yield tally.row("a random life", f"one run: {', '.join(dict.fromkeys(ACTIONS))}")
