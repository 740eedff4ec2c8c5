"""`export`: runs as files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.curve import several_keys
from lossbook.cli.format import plural, printable, to_json
from lossbook.cli.progress import RunsProgress
from lossbook.errors import BadArgument, LossbookError, StoreError, UnknownKey, UnknownRun
from lossbook.run_info import load_run_info

if TYPE_CHECKING:
    from lossbook.dataset import Exported
    from lossbook.reading import RecordedRun

FORMATS = ("csv", "parquet", "json", "jsonl")
#: With --follow the store is looked at so often,
_FOLLOW_SECONDS = 2.0
#: and after a look that took long, only after so many times as long.
_REST = 10.0


@click.command(
    "export",
    epilog="""\b
Wide: one line a step, one column a metric. Long: one line a value
(run, project, key, row, step, time, value, rank, attempt).

\b
Examples:
  lossbook export baseline --keys train/loss,val/loss -o baseline.csv
  lossbook export --project gpt2 --format parquet --long -o gpt2.parquet
  lossbook export --project gpt2 --html -o gpt2.html   the page itself, to send to somebody
  lossbook export --all --parquet team --follow   a folder that any engine reads
  lossbook export --all --to wandb:offline   every run, as `lossbook sync --all --to` does
  lossbook export baseline --format jsonl -o - | head""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@click.option("--format", "-f", type=click.Choice(FORMATS), help="[default: what the file's name ends in, else csv]")
@click.option("--keys", "-k", metavar="A,B,...", help="Only these metrics.")
@click.option("--wide/--long", "wide", default=True, help="One line a step (the default), or one line a value.")
@click.option("--output", "-o", metavar="FILE", default="-", help="The file to write; - is standard output.")
@click.option("--html", is_flag=True, help="One page with the curves and all else, that opens without Lossbook.")
@click.option(
    "--points",
    type=click.IntRange(10, 20_000),
    metavar="N",
    help="With --html: points of each curve at the most, extremes kept [default: 1000].",
)
@click.option("--all", "everything", is_flag=True, help="Every run of the store.")
@click.option(
    "--parquet",
    metavar="FOLDER",
    help="With --all or --project: a folder of Parquet for any engine, brought up to date each time.",
)
@click.option("--follow", is_flag=True, help="With --parquet: keep it up to date until Ctrl-C.")
@click.option(
    "--to",
    "targets",
    metavar="NAMES",
    help="To other trackers instead, as `lossbook sync --to` does: wandb:offline, ...",
)
@click.option("--force", is_flag=True, help="Replace the file where there is one.")
@common_options()
@click.pass_obj
def export_command(
    settings: Settings,
    refs: tuple[str, ...],
    format: str | None,
    keys: str | None,
    wide: bool,
    output: str,
    html: bool,
    points: int | None,
    everything: bool,
    parquet: str | None,
    follow: bool,
    targets: str | None,
    force: bool,
) -> int | None:
    """Write runs as CSV, Parquet, JSON or a page, or to a tracker.

    Without a run it is the latest one, with --project every run of that project, or with --all every run. The exit status
    is 1 where something was damaged and is left out.
    """
    if everything and (refs or settings.project):
        raise click.UsageError("--all is every run of the store: leave it out, or the runs and --project")
    others: dict[str, object] = {
        "runs": refs,
        "--format": format,
        "--keys": keys,
        "--html": html,
        "--output": output != "-",
    }
    if targets is not None:
        _refuse_beside("--to delivers whole runs", {**others, "runs": (), "--parquet": parquet, "--follow": follow})
        from lossbook.cli.syncing import deliver, mirrors_named

        chosen = refs or (() if everything or settings.project else ("latest",))
        return deliver(settings, chosen, mirrors_named(targets), every=True, options={})
    if parquet is not None:
        _refuse_beside("--parquet makes a folder of whole runs", others)
        if not everything and not settings.project:
            raise click.UsageError("say which runs --parquet is for: --all, or --project NAME")
        return _export_parquet(settings, parquet, follow)
    if follow:
        raise click.UsageError("--follow is for --parquet: other files are written once")
    from lossbook.cli.export_files import export_long, export_page, export_wide

    html = html or (format is None and output.lower().endswith((".html", ".htm")))
    if html and format is not None:
        raise BadArgument(f"--html and --format {format} are two files: ask for one of them")
    if points is not None and not html:
        raise BadArgument("--points is for --html: other formats have every row")
    if settings.json and format is None:
        format = "json"
    if format is None:
        ending = output.rpartition(".")[2].lower()
        format = {"ndjson": "jsonl", "pq": "parquet"}.get(ending, ending if ending in FORMATS else "csv")
    if output == "/dev/stdout":
        output = "-"
    if output != "-" and os.path.exists(output) and not os.path.isfile(output):
        # The file is renamed into place, which would do away with a device or a pipe.
        raise BadArgument(f"{output} is no ordinary file: write to - and redirect that")
    if output != "-" and os.path.lexists(output) and not force:
        raise StoreError(f"{output} is there already: --force replaces it")
    if output == "-" and format == "parquet" and sys.stdout.isatty():
        raise BadArgument("Parquet is not for the terminal: name a file with -o FILE")
    if html and output == "-" and sys.stdout.isatty():
        raise BadArgument("a page is not for the terminal: name a file with -o FILE.html")
    if refs:
        runs = settings.runs(refs)
    elif everything:
        runs = settings.book().runs()
        if not runs:
            raise UnknownRun(f"there is no run in {settings.location}")
    elif settings.project:
        runs = settings.book().runs(project=settings.project)
        if not runs:
            raise UnknownRun(f"the project {settings.project!r} has no runs in {settings.location}")
    else:
        runs = [settings.run(None)]
    wanted = _known_keys(runs, keys)
    if html:
        for sentence in export_page(settings.book(), runs, wanted, output, points):
            click.echo(sentence, err=True)
        return _say_left_out(runs)
    if wide:
        progress = RunsProgress("read", len(runs))
        count = export_wide(settings.book(), runs, wanted, format, output, progress.at)
        progress.clear()
    else:
        count = export_long(settings.book(), runs, wanted, format, output)
    if output != "-":
        click.echo(f"{plural(count, 'row')} of {plural(len(runs), 'run')} in {output}", err=True)
    return _say_left_out(runs)


def _refuse_beside(what: str, options: dict[str, object]) -> None:
    """Refuse options that something has no use for.

    Raises:
        click.UsageError: one of them is given.
    """
    if given := [name for name, value in options.items() if value]:
        raise click.UsageError(f"{what}: leave {' and '.join(given)} out")


def _say_left_out(runs: Sequence[RecordedRun]) -> int:
    """Name what was damaged or could not be read; the exit status."""
    from lossbook.journal import take_left_out

    sentences = take_left_out() + _nameless(runs)
    for sentence in sentences:
        click.echo(f"lossbook: {printable(sentence)}", err=True)
    return 1 if sentences else 0


def _nameless(runs: Sequence[RecordedRun]) -> list[str]:
    """A sentence for each run of which name and configuration are not known, and so are not in a file either."""
    sentences = []
    for run in runs:
        try:
            if load_run_info(run.folder) is None:
                sentences.append(f"{run.folder.run_json} is missing or empty: its name and configuration are left out")
        except LossbookError as error:
            sentences.append(f"{error}: its name and configuration are left out")
    return sentences


def _export_parquet(settings: Settings, folder: str, follow: bool) -> int:
    """Bring a data set up to date, once or until Ctrl-C; the exit status."""
    from lossbook.dataset import ParquetExport
    from lossbook.journal import take_left_out
    from lossbook.trackers import SourceBook

    book = settings.book()
    export = ParquetExport(book, folder, project=settings.project)
    said: set[str] = set()
    first = True
    progress = RunsProgress("written", 0)
    try:
        while True:
            begun = time.monotonic()
            done = export.turn(patient=not first, progress=progress.at if first else None)
            progress.clear()
            if first or done.changed:
                _say_exported(settings, done, folder)
            wrong = done.problems + take_left_out() + (_nameless(book.runs(settings.project)) if first else [])
            for sentence in wrong:
                if sentence not in said:
                    said.add(sentence)
                    click.echo(f"lossbook: {printable(sentence)}", err=True)
            if not follow:
                return 1 if wrong else 0
            first = False
            time.sleep(max(_FOLLOW_SECONDS, _REST * (time.monotonic() - begun)))
            if isinstance(book, SourceBook):
                book.refresh()
    except KeyboardInterrupt:
        progress.clear()
        if not follow:
            raise
        return 0


def _say_exported(settings: Settings, done: Exported, folder: str) -> None:
    if settings.json:
        click.echo(to_json(asdict(done)))
        return
    parts = [f"{plural(done.written, 'run')} written", f"{done.unchanged} unchanged"]
    if done.removed:
        parts.append(f"{done.removed} removed")
    click.echo(f"{', '.join(parts)} in {printable(folder)}", err=True)


def _known_keys(runs: Sequence[RecordedRun], text: str | None) -> list[str] | None:
    if text is None:
        return None
    wanted = several_keys(runs, text)
    from lossbook.metrics import find_key, nearest

    every = set().union(*(run.keys() for run in runs))
    for key in wanted:
        if find_key(key, every) is None:
            close = nearest(key, every)
            hint = f"the nearest are {', '.join(close)}" if close else "`lossbook keys` lists what there is"
            raise UnknownKey(f"no run among those named logged {key!r}: {hint}")
    return wanted
