"""Runs as training leaves them, and how a command ended; for the tests of the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from waiting import wait_until

import lossbook
from lossbook.cli.followers import follower_of

STEPS = 400
SPIKE, NOT_A_NUMBER = 177, 222


class Result(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Result]


def record(store: str | Path, name: str, *, project: str = "gpt2", lr: float = 3e-4, **more: Any) -> str:
    """Record one run that finished, and wait until it is sealed; returns its id."""
    config = {"lr": lr, "model": {"n_layer": 4}}
    with lossbook.init(store=store, project=project, name=name, config=config, console=False, **more) as run:
        for step in range(STEPS):
            loss = 1.5 + 9 * math.exp(-step / 60)
            if step == SPIKE:
                loss = 42.0
            if step == NOT_A_NUMBER:
                loss = math.nan
            run.log({"train_loss": loss, "lr": lr, "tokens": step * 1024}, step=step)
            if step % 50 == 0:
                run.log({"val_loss": loss + 0.25}, step=step)
        run.checkpoint("out/best.pt", step=300, is_best=True)
        run.alert("loss spike", text="twice the median", level="warning")
        run.summary["params"] = 124_439_808
    wait_until(lambda: follower_of(run.path) is None)
    return str(run.id)
