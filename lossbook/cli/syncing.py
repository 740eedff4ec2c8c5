"""`sync`: a run to another tracker, now or a year later."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.format import plural, to_json
from lossbook.cli.progress import Bar
from lossbook.errors import BadArgument, UnknownRun
from lossbook.registry import MIRRORS

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun


@click.command(
    "sync",
    short_help="Deliver runs to W&B, Trackio, TensorBoard or MLflow.",
    epilog="""\b
  lossbook sync --to wandb                 the runs that asked for it and are not all there
  lossbook sync RUN --to tensorboard       any run, at any time
  lossbook sync RUN --to wandb:offline     leaves ./wandb/offline-run-*, which `wandb sync` takes
""",
)
@click.argument("refs", metavar="[RUN ...]", nargs=-1, type=RUN)
@click.option(
    "--to", "targets", metavar="NAMES", help=f"One or several of {', '.join(MIRRORS.names())}, separated by commas."
)
@click.option("--all", "every", is_flag=True, help="Every run of the store (or of --project).")
@click.option("--entity", metavar="NAME", help="The W&B team to deliver to [WANDB_ENTITY].")
@common_options()
@click.pass_obj
def sync_command(
    settings: Settings, refs: tuple[str, ...], targets: str | None, every: bool, entity: str | None
) -> int:
    """Deliver what another tracker does not have yet.

    Each row arrives exactly once. Ctrl-C is safe: the next call goes on.
    """
    from lossbook.compat.wandb.init_arguments import mirror_modes
    from lossbook.run import mirror_specs

    wanted = mirror_specs(targets, modes=mirror_modes()) if targets is not None else None
    if targets is not None and not wanted:
        raise BadArgument(f"--to {targets} names no mirror: use one of {', '.join(MIRRORS.names())}")
    runs, work = _work(settings, refs, wanted, every)
    if not work:
        sentence = (
            "everything is delivered" if runs else "no run asked for a mirror: name one with --to, such as --to wandb"
        )
        click.echo(to_json([]) if settings.json else sentence)
        return 0
    results = []
    options = {"entity": entity} if entity else {}
    for run, spec in work:
        result = _deliver(run, spec, options, quiet=settings.json)
        results.append(result)
    if settings.json:
        click.echo(to_json([asdict(one) for one in results]))
    return 1 if any(result.error for result in results) else 0


def _work(
    settings: Settings, refs: tuple[str, ...], wanted: list[str] | None, every: bool
) -> tuple[list[RecordedRun], list[tuple[RecordedRun, str]]]:
    """Which run is to be delivered where."""
    from lossbook.follower import cursor_name, is_complete, load_cursor

    if refs:
        runs = settings.own_store().runs(refs)
        if wanted is None:
            unasked = next((run for run in runs if not run.info.mirrors), None)
            if unasked is not None:
                raise BadArgument(f"the run {unasked.name} asked for no mirror: name one with --to, such as --to wandb")
        return runs, [(run, spec) for run in runs for spec in (wanted or _asked(run))]
    runs = settings.own_store().book().runs(project=settings.project)
    if not runs:
        raise UnknownRun(
            f"there is no run in {settings.location}" + (f" of project {settings.project}" if settings.project else "")
        )
    work = []
    for run in runs:
        asked = _asked(run)
        for spec in wanted or asked:
            name, _, mode = spec.partition(":")
            if not every and wanted is not None and name not in [one.partition(":")[0] for one in asked]:
                continue
            cursor = load_cursor(run.folder, cursor_name(name, mode or "online"))
            if not is_complete(run.folder, cursor):
                work.append((run, spec))
    if wanted is not None and not work and not every and not any(_asked(run) for run in runs):
        # Nobody asked for anything: the run that was begun last is meant.
        return runs, [(runs[0], spec) for spec in wanted]
    return runs, work


def _asked(run: RecordedRun) -> list[str]:
    return list(run.known_info.mirrors)


@dataclass
class DeliveryResult:
    """What came of delivering one run to one mirror."""

    run: str
    name: str
    to: str
    mode: str
    rows: int = 0
    url: str | None = None
    error: str | None = None


def _deliver(run: RecordedRun, spec: str, options: dict[str, str], *, quiet: bool) -> DeliveryResult:
    """Deliver one run to one mirror; what goes wrong is one sentence of the result."""
    from lossbook.follower import Busy, Delivery, ending_of, undelivered_rows
    from lossbook.trackers import MirrorUnavailable

    name, _, mode = spec.partition(":")
    delivery = Delivery(run.folder, name, mode=mode or "online", options=options)
    result = DeliveryResult(run.id, run.name, name, delivery.mode)
    try:
        with delivery.held():
            missing = undelivered_rows(run.folder, delivery.cursor)
            delivery.open()
            said = delivery.remarks()
            for sentence in said:
                click.echo(f"lossbook: {sentence}", err=True)
            bar = Bar(f"{run.name} → {name}", undelivered_rows(run.folder, delivery.cursor), quiet=quiet)
            try:
                delivery.catch_up(bar.add)
            finally:
                bar.close()
            for sentence in delivery.remarks():
                if sentence not in said:
                    click.echo(f"lossbook: {sentence}", err=True)
            ending = ending_of(run.folder)
            delivery.close(ending)
            # What a mirror had of it in a file of its own, and only had to send, was missing there as well.
            result.rows = missing - undelivered_rows(run.folder, delivery.cursor) + delivery.inherited_rows
            result.url = delivery.cursor.url
    except Busy as error:
        result.error = f"{error}; it goes on by itself"
    except MirrorUnavailable as error:
        delivery.stopped(str(error))
        result.error = str(error)
    if not quiet:
        if result.error:
            click.echo(f"lossbook: {result.error}", err=True)
        else:
            where = f": {result.url}" if result.url else ""
            running = "" if ending is not None else "; it still runs"
            click.echo(f"{run.name} → {name}: {plural(result.rows, 'row')} delivered{running}{where}")
    return result
