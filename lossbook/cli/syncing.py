"""`sync`: runs to another tracker, now or a year later."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.delivering import Deliveries, Work
from lossbook.cli.format import plural, to_json
from lossbook.errors import BadArgument, LossbookError, UnknownRun
from lossbook.json_shapes import text_or_none
from lossbook.registry import MIRRORS

if TYPE_CHECKING:
    from lossbook.follower import Cursor
    from lossbook.reading import RecordedRun


@click.command(
    "sync",
    short_help="Deliver runs to W&B, Trackio, TensorBoard or MLflow.",
    epilog="""\b
  lossbook sync --to wandb                 the runs that asked for it and are not all there
  lossbook sync RUN --to tensorboard       any run, at any time
  lossbook sync --all --to mlflow          every run of the store, to move there
  lossbook sync RUN --to wandb:offline     leaves ./wandb/offline-run-*, which `wandb sync` takes
""",
)
@click.argument("refs", metavar="[RUN ...]", nargs=-1, type=RUN)
@click.option(
    "--to", "targets", metavar="NAMES", help=f"One or several of {', '.join(MIRRORS.names())}, separated by commas."
)
@click.option("--all", "every", is_flag=True, help="Every run of the store (or of --project).")
@click.option("--again", is_flag=True, help="Also what was delivered before: to another folder or server, say.")
@click.option("--entity", metavar="NAME", help="The W&B team to deliver to [WANDB_ENTITY].")
@common_options()
@click.pass_obj
def sync_command(
    settings: Settings, refs: tuple[str, ...], targets: str | None, every: bool, again: bool, entity: str | None
) -> int:
    """Deliver what another tracker does not have yet.

    Each row arrives exactly once. Ctrl-C is safe: the next call goes on. A run that cannot be delivered is named, and
    the others are delivered; the exit status is 0 where nothing is wrong, as with a run whose own mirror is at it.
    """
    wanted = mirrors_named(targets) if targets is not None else None
    return deliver(settings, refs, wanted, every=every, again=again, options={"entity": entity} if entity else {})


def mirrors_named(targets: str) -> list[str]:
    """The mirrors of `--to`, each with its mode.

    Raises:
        BadArgument: none of that name is known.
    """
    from lossbook.compat.wandb.init_arguments import mirror_modes
    from lossbook.run import mirror_specs

    wanted = mirror_specs(targets, modes=mirror_modes())
    if not wanted:
        raise BadArgument(f"--to {targets} names no mirror: use one of {', '.join(MIRRORS.names())}")
    return wanted


def deliver(
    settings: Settings,
    refs: Sequence[str],
    wanted: list[str] | None,
    *,
    every: bool,
    again: bool = False,
    options: dict[str, str],
) -> int:
    """Deliver runs of the store to mirrors, as `lossbook sync` and `lossbook export --to` do; the exit status.

    Args:
        wanted: the mirrors; None for those that each run asked for.
        every: also runs that did not ask for it.
        again: also those that are complete there.
    """
    found = _find_work(settings, refs, wanted, every, again)
    status = 1 if found.unreadable else 0
    deliveries = Deliveries(
        found.work, options=options, complete=found.complete, unreadable=len(found.unreadable), quiet=settings.json
    )
    if found.lost:
        click.echo(
            f"lossbook: {plural(found.lost, 'run')} of those delivered before can no longer be found at that place: "
            "--again delivers once more",
            err=True,
        )
    try:
        if found.work:
            status = deliveries.run()
        elif not settings.json:
            click.echo(_why_nothing(found, wanted))
    finally:
        if settings.json:
            click.echo(to_json({**deliveries.totals(), "runs": [asdict(one) for one in deliveries.results]}))
    return status


def _why_nothing(found: _Found, wanted: list[str] | None) -> str:
    if found.complete:
        return "everything is delivered"
    if wanted:
        return f"no run asked for {', '.join(wanted)}: --all delivers every run, or name the runs"
    return "no run asked for a mirror: name one with --to, such as --to wandb"


@dataclass
class _Found:
    """What is to be delivered; how many deliveries are complete, and of how many the files have gone since; sentences of
    runs that may not be read."""

    work: list[Work] = field(default_factory=list)
    complete: int = 0
    lost: int = 0
    unreadable: tuple[str, ...] = ()


def _find_work(settings: Settings, refs: Sequence[str], wanted: list[str] | None, every: bool, again: bool) -> _Found:
    if refs:
        runs = settings.own_store().runs(refs)
        unasked = next((run for run in runs if not _asked(run)), None) if wanted is None else None
        if unasked is not None:
            raise BadArgument(f"the run {unasked.name} asked for no mirror: name one with --to, such as --to wandb")
        return _Found([Work(run, spec, again=True) for run in runs for spec in (wanted or _asked(run))])
    listed = settings.own_store().book().runs(project=settings.project)
    if not listed:
        raise UnknownRun(
            f"there is no run in {settings.location}" + (f" of project {settings.project}" if settings.project else "")
        )
    found = _Found(unreadable=listed.unreadable)
    asked_for = False
    for run in listed:
        asked = _asked(run)
        asked_for = asked_for or bool(asked)
        kinds = {one.partition(":")[0] for one in asked}
        for spec in wanted or asked:
            if every or wanted is None or spec.partition(":")[0] in kinds:
                _add(found, Work(run, spec, again=again))
    if wanted is not None and not found.work and not every and not asked_for:
        # Nobody asked for anything: the run that was begun last is meant.
        found.work = [Work(listed[0], spec, again=True) for spec in wanted]
    return found


def _add(found: _Found, work: Work) -> None:
    """Add work that there is, with how many rows are missing there; count what is complete."""
    from lossbook.follower import cursor_name, is_complete, load_cursor, undelivered_rows

    folder, rows = work.run.folder, 0
    try:
        cursor = load_cursor(folder, cursor_name(work.tracker, work.mode))
        if not work.again and is_complete(folder, cursor):
            found.complete += 1
            found.lost += _is_lost(cursor)
            return
        rows = undelivered_rows(folder, cursor)
    except (LossbookError, OSError):
        pass  # the delivery says what is wrong with it
    found.work.append(replace(work, rows=rows))


def _is_lost(cursor: Cursor) -> bool:
    """Whether the folder or database that a run was delivered to is not there any more. W&B's offline files may go: they
    are on their way to its server."""
    noted = [text_or_none(cursor.remote.get(name)) for name in ("folder", "place", "uri")]
    paths = [place.removeprefix("sqlite:///") for place in noted if place]
    return any(path.startswith("/") and not os.path.lexists(path) for path in paths)


def _asked(run: RecordedRun) -> list[str]:
    return list(run.known_info.mirrors)
