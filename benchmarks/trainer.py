"""The GPT-2 trainer, tracked at every step, beside a plain PyTorch loop of the same model in the same process."""

from __future__ import annotations

import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import Figure, Target
from benchmarks.session import Session

#: Steps that are timed as one: the trainer's own interval between two progress lines.
INTERVAL = 20
#: Intervals at the beginning of each loop that do not count: memory is laid out, caches are cold.
COLD = 2


def time_training(folder: str, device: str, size: str, batch: int, context: int, intervals: int) -> dict[str, Any]:
    """Seconds a step, a list each: of the plain loop before and after, of the trainer; and of its `run.log` alone.

    All in one process. The trainer is tracked in every other stretch of its steps and not in those between, so that
    what the machine does meanwhile cancels; the plain loop before it and after it shows how much that is.
    """
    from unittest import mock

    import lossbook
    from gpt2 import train as trainer
    from gpt2.arguments import parse
    from trainers.distributed import Group
    from trainers.text import load_text

    text_file = Path(folder, "text.txt")
    text_file.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 2000)
    steps = (intervals + COLD) * INTERVAL
    flags = [
        "--dataset",
        str(text_file),
        "--cache",
        str(Path(folder, "tokens")),
        "--size",
        size,
        "--batch-size",
        str(batch),
        "--context",
        str(context),
        "--steps",
        str(steps),
        "--log-interval",
        str(INTERVAL),
        "--eval-batches",
        "1",
        "--eval-interval",
        str(steps),
        "--device",
        device,
        "--store",
        str(Path(folder, "store")),
        "--checkpoints",
        str(Path(folder, "checkpoints")),
        "--tracker",
        "none",
    ]
    if device == "cuda":
        flags += ["--dtype", "bfloat16"]
    args = parse(flags)
    text = load_text(str(text_file), cache=Path(folder, "tokens"))
    steps_of: dict[bool, list[float]] = {True: [], False: []}
    seconds_in_log: list[float] = []
    begin_run = lossbook.init

    def timed_init(**arguments: Any) -> Any:
        run = begin_run(**arguments)
        log, taken, previous = run.log, 0, perf_counter()

        def timed(row: dict[str, Any], step: int) -> None:
            nonlocal taken, previous
            if "train_loss" not in row:
                log(row, step=step)
                return
            is_tracked = taken // INTERVAL % 2 == 0
            begin = perf_counter()
            if is_tracked:
                log(row, step=step)
            now = perf_counter()
            seconds_in_log.extend([now - begin] if is_tracked else [])
            # The first step of a stretch has the report of the one before in it.
            if taken % INTERVAL and taken >= COLD * INTERVAL:
                steps_of[is_tracked].append(now - previous)
            taken, previous = taken + 1, now

        run.log = timed
        return run

    before = _plain_loop(args, text, Group(), intervals)
    with mock.patch.object(lossbook, "init", timed_init):
        if trainer.main(flags) != 0:
            raise RuntimeError("the trainer did not come to its end")
    after = _plain_loop(args, text, Group(), intervals)
    recorded = lossbook.open(Path(folder, "store")).run("latest")
    speeds = [row[2] for row in recorded.history(["tokens_per_second"]).rows()]
    tracked = [batch * context / speed for speed in speeds[COLD::2]]
    with_and_without = {"with": steps_of[True], "without": steps_of[False]}
    return {"plain": before + after, "tracked": tracked, "log": statistics.mean(seconds_in_log), **with_and_without}


def _plain_loop(args: Any, text: Any, group: Any, intervals: int) -> list[float]:
    """The loop that one writes without a tracker: batches, loss, gradients, clipping, AdamW, and nothing said."""
    from contextlib import nullcontext

    import torch

    from gpt2.batches import training_starts, windows
    from gpt2.model import GPT2, SIZES
    from trainers.step import wait_for

    device = torch.device(args.device)
    model = GPT2(SIZES[args.size], text.vocabulary, args.context).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    autocast = torch.autocast(device.type, torch.bfloat16) if args.dtype == "bfloat16" else nullcontext()
    seconds = []
    for number in range(intervals + COLD):
        begin = perf_counter()
        for step in range(number * INTERVAL, (number + 1) * INTERVAL):
            (starts,) = training_starts(text.train, args, step, group)
            with autocast:
                loss = model(*windows(text.train, starts, args.context, device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait_for(device)
        seconds.append((perf_counter() - begin) / INTERVAL)
    return seconds[COLD:]


def figures(session: Session) -> list[Figure]:
    import torch

    shape: dict[str, Any] = {"device": "cpu", "size": "nano", "batch": 8, "context": 128}
    if torch.cuda.is_available():
        shape = {"device": "cuda", "size": "gpt2", "batch": 16, "context": 1024}
    repeats, intervals = (2, 4) if session.quick else (5, 20)
    share, cost, beside, noise, plain_seconds = [], [], [], [], []
    for _ in range(repeats):
        outcome = session.measure(time_training, session.place("trainer"), **shape, intervals=intervals)
        if outcome is None:
            continue
        middle = {name: statistics.median(outcome.value[name]) for name in ("plain", "tracked", "with", "without")}
        halves = outcome.value["plain"][:intervals], outcome.value["plain"][intervals:]
        share.append(100 * outcome.value["log"] / middle["without"])
        cost.append(100 * (middle["with"] / middle["without"] - 1))
        beside.append(100 * (middle["tracked"] / middle["plain"] - 1))
        noise.append(100 * (statistics.median(halves[1]) / statistics.median(halves[0]) - 1))
        plain_seconds.append(middle["plain"])
    if not share:
        return [Figure("trainer", "the GPT-2 trainer tracked, % slower", None, note="No run came to its end.")]
    tokens = shape["batch"] * shape["context"]
    what = (
        f"{shape['size']}, {tokens:,} tokens a step, on {shape['device']}: {tokens / statistics.median(plain_seconds):,.0f} "
        f"tokens/s in a plain PyTorch loop; the median of {repeats} processes"
    )
    limit = Target(at_most=0.5)
    # A figure that differs by more than that between processes says nothing about half a percent.
    is_quiet = max(cost) - min(cost) <= 1
    return [
        Figure(
            "trainer",
            "run.log at every step of the GPT-2 trainer, % of a step",
            statistics.median(share),
            target=limit,
            note=f"{what}. Four scalars a step, two of them tensors.",
        ),
        Figure(
            "trainer",
            "steps of the GPT-2 trainer with tracking, % slower than those without",
            statistics.median(cost),
            target=limit if is_quiet else None,
            note=f"{what}, {min(cost):+.2f} to {max(cost):+.2f}%. {intervals // 2} stretches of {INTERVAL} steps each way, "
            "in turn, in one run, the follower beside them all. No verdict where processes differ by more than 1%.",
        ),
        Figure(
            "trainer",
            "the GPT-2 trainer with tracking, % slower than a plain loop",
            statistics.median(beside),
            note=f"{what}, {min(beside):+.2f} to {max(beside):+.2f}%. The same plain loop after the trainer differed from "
            f"that before it by {min(noise):+.2f} to {max(noise):+.2f}%: that is the noise of this machine.",
        ),
    ]
