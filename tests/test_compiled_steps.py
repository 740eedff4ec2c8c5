"""A training step that torch.compile compiles, with what records in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lossbook

pytest.importorskip("torch")

#: Counts the frames that are compiled in twelve steps, each with what is to be recorded in its middle.
PROGRAM = """
import sys
import {first}
import lossbook
run = lossbook.init(project="p", id="r", store={store!r}, system_metrics=False, console=False)
early = run.log
import torch
assert "torch._dynamo" not in sys.modules or {first!r} == "torch._dynamo", "importing lossbook or beginning a run loads no compiler"
import torch._dynamo
from torch._dynamo.utils import counters

def frames(record):
    def step(x, number):
        loss = (x * x).sum()
        record(loss, number)
        return loss * 2
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(step, backend="eager")
    for number in range(12):
        compiled(torch.ones(3) * number, number)
    return counters["frames"]["total"]

def nothing(loss, number):
    pass

aside = torch._dynamo.disable(lambda loss, number: None)
run.log({{"warm": torch.ones(())}}, step=0)
least = frames(lambda loss, number: aside(loss, number))
for record in (
    lambda loss, number: run.log({{"loss": loss}}, step=number),
    lambda loss, number: early({{"early": loss}}, step=number),
    lambda loss, number: lossbook.log({{"module": loss, "nested": {{"loss": loss}}}}, step=number),
    lambda loss, number: run.log({{"text": lossbook.Text("x"), "loss2": loss}}, step=number),
    lambda loss, number: run.summary.update({{"best": loss}}),
    lambda loss, number: run.note("a note"),
):
    print(frames(record) - least)
run.finish()
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["sys", "torch", "torch._dynamo"])
def test_the_compiler_leaves_out_what_records(tmp_path: Path, first: str) -> None:
    program = PROGRAM.format(first=first, store=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [int(more) <= 1 for more in done.stdout.split()] == [True] * 6, done.stdout
    history = lossbook.open(tmp_path).run("r").history(["loss", "early", "module", "nested/loss", "loss2"]).rows()
    assert [row[2:] for row in history] == [(3.0 * number**2,) * 5 for number in range(12)]
