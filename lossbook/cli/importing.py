"""`import`: another tracker's runs into a store of one's own."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import Settings, common_options
from lossbook.cli.format import plural, to_json
from lossbook.cli.progress import Bar
from lossbook.cli.source_preview import preview
from lossbook.cli.source_reading import say_remarks
from lossbook.errors import BadArgument, LossbookError, UnknownRun

if TYPE_CHECKING:
    from typing import TypeAlias

    from lossbook.trackers import ForeignRun, Source

    #: A run and the source that reads its rows.
    _Found: TypeAlias = tuple[Source, ForeignRun]

#: Warnings of one run that are kept: a log may have millions of damaged lines.
_MOST_WARNINGS = 100


@click.command(
    "import",
    short_help="Bring the runs of another tracker into a store.",
    epilog="""\b
  lossbook import trackio://PROJECT
  lossbook import ./runs --to lossbook-runs         TensorBoard's event files
  lossbook import mlflow://EXPERIMENT --run NAME
  lossbook import wandb://ENTITY/PROJECT
  lossbook import results.csv --step total_frames --map ep_rew=reward --dry-run
  lossbook import train.log --pattern "at (?P<step>[0-9]+): (?P<loss>[0-9.]+)"
""",
)
@click.argument("source", metavar="SOURCE")
@click.option("--to", "target", metavar="STORE", help="The store to write [default: --store, else as for reading].")
@click.option("--run", "wanted", metavar="RUN", multiple=True, help="Only the run of this id or name; may be repeated.")
@click.option("--step", metavar="COLUMN", help="Of a log: the column, or group of --pattern, that is a row's step.")
@click.option("--time", metavar="COLUMN", help="Of a log: the column, or group of --pattern, that is a row's time.")
@click.option("--pattern", metavar="REGEX", help="Of a log: read the lines that fit; its named groups are the columns.")
@click.option(
    "--map", "renamed", metavar="OLD=NEW", multiple=True, help="Of a log: call a column NEW; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Show what would be read, and write nothing.")
@common_options(project=False)
@click.option("--project", "-p", metavar="NAME", help="Put the runs into this project, not the one they are in there.")
@click.pass_obj
def import_command(
    settings: Settings,
    source: str,
    target: str | None,
    wanted: tuple[str, ...],
    step: str | None,
    time: str | None,
    pattern: str | None,
    renamed: tuple[str, ...],
    dry_run: bool,
    project: str | None,
) -> int:
    """Make Lossbook runs of those of another tracker.

    History, configuration, summary, tags, system metrics and media come along. SOURCE is a folder or a file
    (TensorBoard, MLflow, offline W&B, JSON, CSV and text logs), or trackio://PROJECT, mlflow://EXPERIMENT,
    wandb://ENTITY/PROJECT. Each row arrives exactly once: cut off anywhere, the same command goes on; called again
    later, it brings what is new.
    """
    from lossbook.trackers import LogOptions, find_logs, find_source

    store = os.path.abspath((target or settings.location).removeprefix("file://"))
    if "://" in (target or settings.location).removeprefix("file://"):
        raise BadArgument(f"{target or settings.location} is no folder: import into a folder, and copy that")
    if not source or ("://" not in source and not os.path.exists(source)):
        raise BadArgument(f"there is no {source!r} here to import: name a folder, a file or a tracker's address")
    options = LogOptions(step, time, pattern, _renames(renamed))
    found = find_logs(source, options) if options.digest else find_source(source)
    if found is None:
        raise BadArgument(
            f"{source} is a store of Lossbook's own, or nothing in it is known: copy or `lossbook mv` its runs instead"
        )
    runs = _chosen(list(found.runs_by_source()), wanted, source)
    say_remarks(found.remarks())
    if dry_run:
        previews = [preview(origin, run) for origin, run in runs]
        if settings.json:
            click.echo(to_json([one.to_json() for one in previews]))
        else:
            click.echo("\n\n".join("\n".join(one.lines()) for one in previews))
            click.echo(f"\nNothing was written: without --dry-run, {plural(len(runs), 'run')} would come into {store}")
        return 0
    os.makedirs(store, exist_ok=True)
    results = [_import(origin, run, store, project, quiet=settings.json) for origin, run in runs]
    if settings.json:
        click.echo(to_json([asdict(one) for one in results]))
    elif len(results) > 1:
        rows = sum(result.rows for result in results)
        click.echo(f"{plural(len(results), 'run')} of {source} in {store}, {plural(rows, 'row')} of them new")
    brought = [origin for (origin, _), result in zip(runs, results, strict=True) if result.rows]
    for sentence in dict.fromkeys(sentence for origin in brought for sentence in origin.lacks):
        if not settings.json:
            click.echo(f"lossbook: {sentence}", err=True)
    return 1 if any(result.error for result in results) else 0


def _renames(renamed: tuple[str, ...]) -> dict[str, str]:
    names = {}
    for one in renamed:
        old, sign, new = one.partition("=")
        if not (old and sign and new):
            raise BadArgument(f"--map {one!r} is not OLD=NEW: name a column and what to call it")
        names[old] = new
    return names


def _chosen(runs: list[_Found], wanted: tuple[str, ...], source: str) -> list[_Found]:
    if not wanted:
        # In the order in which they were begun, so that an import that is cut off leaves the older ones whole.
        return sorted(runs, key=lambda found: found[1].created)
    chosen: list[_Found] = []
    for ref in wanted:
        matching = [found for found in runs if ref in (found[1].id, found[1].name)]
        if not matching:
            from lossbook.metrics import nearest

            close = nearest(ref, {text for _, run in runs for text in (run.id, run.name)})
            raise UnknownRun(
                f"there is no run {ref!r} in {source}" + (f"; the nearest are {', '.join(close)}" if close else "")
            )
        chosen += [found for found in matching if found not in chosen]
    return chosen


@dataclass
class ImportResult:
    """What came of importing one run.

    Attributes:
        run, path: None where it could not be begun.
        warnings: what of the run could not be read, and what was assumed; the first of them.
        warning_count: all of them.
    """

    run: str | None
    name: str
    project: str
    source: str
    rows: int = 0
    path: str | None = None
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
    warning_count: int = 0

    def warn(self, sentence: str) -> None:
        """Keep one more warning."""
        self.warning_count += 1
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(sentence)


def _import(source: Source, run: ForeignRun, store: str, project: str | None, *, quiet: bool) -> ImportResult:
    """Bring one run; what goes wrong with it is one sentence, and the others go on."""
    from lossbook.trackers import import_rows, import_run, rows_imported

    result = ImportResult(None, run.name, project or run.project, run.id)
    try:
        folder = import_run(store, source, run, project=project)
        result.run, result.path = os.path.basename(folder.path), folder.path
        total = source.row_count(run) if sys.stderr.isatty() and not quiet else None
        bar = Bar(run.name, max(0, (total or 0) - rows_imported(folder)), quiet=quiet)
        try:
            result.rows = import_rows(folder, source, run, bar.add, warn=result.warn)
        finally:
            bar.close()
        for sentence in source.remarks(run):
            result.warn(sentence)
    except LossbookError as error:
        result.error = str(error)
    except OSError as error:
        result.error = f"{error.filename or store} cannot be written ({error.strerror or error}); import again later"
    if not quiet:
        if result.error:
            click.echo(f"lossbook: {run.name}: {result.error}", err=True)
        else:
            click.echo(f"{run.name} → {result.path}: {plural(result.rows, 'new row')}")
        say_remarks((f"{run.name}: {sentence}" for sentence in result.warnings), count=result.warning_count)
    return result
