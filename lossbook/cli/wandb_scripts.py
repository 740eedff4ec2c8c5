"""The scripts `scripts/*wandb*.py`: `lossbook keys`, `gpu` and `gpu --full` under the flags that people know from W&B's.

A run is named by an entity, a project, and its name or its id.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import Settings, main
from lossbook.cli.format import plural
from lossbook.errors import BadArgument, UnknownRun

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

#: Answers one question about a run, as JSON where that is asked for.
Answer = Callable[["RecordedRun", bool], None]


# -- the scripts --------------------------------------------------------------------------------------------------


def run_script(name: str, purpose: str, answer: Answer) -> int:
    """Ask one question with the flags of `scripts/`, and return the exit status as `lossbook` does.

    Args:
        name: the script's.
        purpose: one sentence for its `--help`.
        answer: prints the answer.
    """

    @click.command(name, help=purpose, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option("--entity", "-e", metavar="NAME", help="W&B user or team [WANDB_ENTITY, else the one logged in].")
    @click.option("--project", "-p", metavar="NAME", help="The project [WANDB_PROJECT, where --entity is given].")
    @click.option("--run-name", metavar="NAME", help="The newest run of this name.")
    @click.option("--run-id", metavar="ID", help="The run of this id.")
    @click.option("--store", metavar="WHERE", help="A store, or another tracker's runs, instead of W&B's cloud.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(
        entity: str | None,
        project: str | None,
        run_name: str | None,
        run_id: str | None,
        store: str | None,
        as_json: bool,
    ) -> None:
        if run_name and run_id:
            raise click.UsageError("name a run with --run-name or with --run-id, not with both")
        if entity and store:
            raise click.UsageError("an --entity is W&B's, and --store is in its place: give one of them")
        location, project = _location(entity, project, store, run_id)
        book = Settings(store=location).book()
        answer(_find(book.runs(project=project), run_name, run_id, location or book.store), as_json)

    return main(command=command, name=name)


_EPILOG = """\b
With --entity or --project it asks W&B's cloud; --store names anything else:
  --store lossbook-runs        a store of Lossbook's
  --store ./wandb              W&B's offline runs
  --store trackio://PROJECT    a project of Trackio
  --store ./runs               TensorBoard's logs
With neither, it is the store LOSSBOOK_STORE, else ./lossbook-runs.
Without --run-name and --run-id it is the run that was begun last."""


def _location(
    entity: str | None, project: str | None, store: str | None, run_id: str | None
) -> tuple[str | None, str | None]:
    """What to open, and which of its projects."""
    if store is not None or not (entity or project):
        return store, project
    project = project or os.environ.get("WANDB_PROJECT")
    if not project:
        raise BadArgument(f"which project of {entity}? Name it with --project, or set WANDB_PROJECT")
    entity = entity or os.environ.get("WANDB_ENTITY")
    if not entity:
        # It is the one that is logged in.
        return f"wandb://{project}", None
    # A run that is named by its id needs no listing of a project that may have thousands.
    return f"wandb://{entity}/{project}" + (f"/{run_id}" if run_id else ""), None


def _find(runs: list[RecordedRun], name: str | None, run_id: str | None, location: str) -> RecordedRun:
    """The newest run, of a name where one is given; or the one of an id."""
    if name is None and run_id is None:
        if not runs:
            raise UnknownRun(f"there is no run in {location}")
        return runs[0]
    found = [run for run in runs if (run.name == name if name is not None else run_id in (run.id, _own_id(run)))]
    if not found:
        from lossbook.metrics import nearest

        wanted = str(name if name is not None else run_id)
        close = nearest(wanted, {run.name if name is not None else run.id for run in runs})
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise UnknownRun(
            f"there is no run of {'the name' if name is not None else 'the id'} {wanted!r} in {location}{hint}"
        )
    if len(found) > 1:
        click.echo(f"{plural(len(found), 'run')} have that name, this is the newest; --run-id names another", err=True)
    return found[0]


def _own_id(run: RecordedRun) -> str | None:
    """What another tracker calls a run, where its folder had to be called otherwise."""
    source = run.known_info.source
    return source.id if source is not None else None
