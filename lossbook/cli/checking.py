"""`check`: what is wrong with a run."""

from __future__ import annotations

import glob
import time
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.format import Column, number, plural, printable, screen, table, to_json
from lossbook.cli.run_output import plain_run

if TYPE_CHECKING:
    from lossbook.diagnosis import Finding


_WENT_WRONG = ("failed", "crashed", "killed")


@click.command(
    "check",
    epilog="""\b
Looks for NaN and infinity, loss spikes, divergence, a plateau, a stalled run,
falling throughput, a straggling rank, idle GPUs, memory near its limit,
overheating, throttling and a GPU unlike the others. Findings that belong
together are listed together, the first cause first. Says how the run ended, and
what is damaged in it. Ends with status 1 when something was found, when the run
has a problem, and when it failed, crashed or was killed.

\b
Examples:
  lossbook check
  lossbook check baseline --json
  lossbook check baseline --step-time perf/fwd
  lossbook check baseline || echo "look at it first\"""",
)
@click.argument("ref", required=False, type=RUN, metavar="[RUN]")
@click.option(
    "--step-time",
    metavar="KEY",
    help="compare ranks by this metric, where neither its name nor define_metric(role='step_time') says what it is",
)
@common_options()
@click.pass_obj
def check_command(settings: Settings, ref: str | None, step_time: str | None) -> int:
    """Say what is wrong with a run, and where on its curves."""
    from lossbook.diagnosis import diagnose, group_findings

    run = settings.run(ref)
    run.rows()  # another tracker's run is brought here first
    now_us = time.time_ns() // 1000 if run.state == "running" else None
    if step_time is not None:
        step_time = run.find_key(step_time)
    defined = [] if step_time is None else [{"pattern": glob.escape(step_time), "role": "step_time"}]
    diagnosis = diagnose(run.folder, now_us=now_us, defined=defined)
    groups = group_findings(diagnosis.findings())
    findings = [finding for group in groups for finding in group]
    problems = [printable(text) for text in run.problems()]
    hints = diagnosis.hints()
    is_wrong = bool(problems) or run.state in _WENT_WRONG
    status = 1 if findings or is_wrong else 0
    if settings.json:
        plain = [finding.plain() | {"group": number_} for number_, group in enumerate(groups) for finding in group]
        found = {"findings": plain, "left_out": diagnosis.left_out, "problems": problems, "hints": hints}
        click.echo(to_json({"run": plain_run(run), **found}))
        return status
    view = screen()
    name = f"{view.paint(printable(run.name), bold=True)}  {run.id}  {run.state}"
    told = [f"{run.state}: {printable(_first_and_last(run.error))}"] if run.error else []
    told += [f"problem: {text}" for text in problems if text not in (run.error or "")]
    advice = [view.paint(printable(hint), dim=True) for hint in hints]
    if not findings:
        first = name if is_wrong else f"{name}  nothing found"
        click.echo("\n".join([first, *told, *advice]), color=view.color)
        return status
    lines = [f"{name}  {plural(len(findings), 'finding')}", *told, ""]
    columns = [Column("severity"), Column("steps", right=True), Column("finding", shrink=True, keep=30)]
    cells = []
    for group in groups:
        cells += [
            [one.severity, _steps(one), f"{'  then ' if after else ''}{printable(one.sentence)}"]
            for after, one in enumerate(group)
        ]
    lines += table(columns, cells, view)
    lines += [
        view.paint(f"and {plural(count, 'more')} of the kind {kind}", dim=True)
        for kind, count in diagnosis.left_out.items()
    ]
    drawn = next((one.key for one in findings if one.key), None)
    if advice:
        lines += ["", *advice]
    if drawn is not None:
        lines += ["", view.paint(f"lossbook curve {run.id} '{printable(drawn)}' draws the curve", dim=True)]
    click.echo("\n".join(lines), color=view.color)
    return status


def _first_and_last(error: str) -> str:
    """An error in a line: of a traceback, the last line says what it was, and the first whose."""
    lines = [line for line in error.splitlines() if line.strip()]
    if len(lines) < 2:
        return error.strip()
    whose = lines[0].partition(": Traceback")[0]
    return lines[-1] if whose == lines[0] or lines[0].startswith("Traceback") else f"{whose}: {lines[-1]}"


def _steps(finding: Finding) -> str:
    first, last = number(finding.first_step), number(finding.last_step)
    return first if first == last else f"{first}-{last}"
