"""`seal`, `verify`, `doctor` and `completion`: looking after runs and the installation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from lossbook.access import refusal
from lossbook.cli.app import COMPLETE, RUN, Settings, cli, common_options
from lossbook.cli.format import plural, printable, screen, size, to_json
from lossbook.errors import LossbookError, StoreError
from lossbook.paths import RunFolder, run_folders
from lossbook.run_info import read_run_info

if TYPE_CHECKING:
    from lossbook.storage import SealReport


def _chosen(settings: Settings, refs: tuple[str, ...], everything: bool) -> list[RunFolder]:
    if everything and refs:
        raise click.UsageError("name runs or pass --all, not both")
    settings = settings.own_store()
    if not everything:
        runs = settings.runs(refs) if refs else [settings.run(None)]
        return [RunFolder(run.path) for run in runs]
    if settings.project:
        return [RunFolder(run.path) for run in settings.book().runs(project=settings.project)]
    if not os.path.isdir(settings.location):
        raise StoreError(f"there is no store at {settings.location}")
    # Every folder, not every run: one that cannot be read as a run is what `verify --all` is for.
    return [folder for folder in run_folders(settings.location) if folder.exists()]


# -- seal ---------------------------------------------------------------------------------------------------------


@click.command(
    "seal",
    epilog="""\b
Followers do this while training runs; this does it where none lives any more.
What is being written, or may be, is left alone, and it is said why.

\b
Examples:
  lossbook seal
  lossbook seal --all
  lossbook seal baseline --take-over""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@click.option("--all", "everything", is_flag=True, help="Every run of the store, or of --project.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Also what processes on other machines or in containers wrote: they have ended, as you know.",
)
@click.option("--rewrite", is_flag=True, help="Also write files of format 1 anew, for other engines (docs/engines.md).")
@common_options()
@click.pass_obj
def seal_command(settings: Settings, refs: tuple[str, ...], everything: bool, take_over: bool, rewrite: bool) -> int:
    """Turn journals that nobody writes any more into Parquet."""
    _bring_home(settings)
    # A run before those that were forked from it: what is seen of a fork is made of both.
    folders = sorted(_chosen(settings, refs, everything), key=lambda folder: read_run_info(folder)[0].created)
    reports: list[dict[str, object]] = []
    status = 0
    for folder in folders:
        name = os.path.basename(folder.path)
        try:
            report, added = seal_folder(folder, take_over=take_over)
            anew = _rewrite(folder) if rewrite else None
        except LossbookError as error:
            status = 1
            reports.append({"id": name, "error": str(error)})
            if not settings.json:
                click.echo(f"lossbook: {name}: {error}", err=True)
            continue
        reports.append({"id": name, **_plain_report(report)})
        if anew is not None:
            report.problems += anew.problems
            reports[-1]["rewritten"] = anew.rewritten
        if not settings.json:
            for sentence in added:
                click.echo(f"{name}  {printable(sentence)}")
            if report.segments or report.left is None:
                click.echo(f"{name}  {_report_text(report)}")
            if anew is not None and anew.rewritten:
                click.echo(f"{name}  {plural(anew.rewritten, 'sealed segment')} written anew")
            if report.left is not None:
                click.echo(f"{name}  {printable(report.left)}")
            for problem in report.problems:
                click.echo(f"{name}  {printable(problem)}")
    if settings.json:
        click.echo(to_json(reports))
    return status


def _bring_home(settings: Settings) -> None:
    """Add what waits on this machine to the runs of the store: one may not be there yet, and could not be named."""
    from lossbook.journal import bring_home
    from lossbook.storage import next_row

    try:
        added = bring_home(store=settings.own_store().location, next_row=next_row)
    except OSError as error:
        raise StoreError(f"{settings.location} cannot be written ({error.strerror or error})") from error
    if not settings.json:
        for sentence in added:
            click.echo(printable(sentence))


def seal_folder(folder: RunFolder, *, take_over: bool = False) -> tuple[SealReport, list[str]]:
    """Do what a run's follower would have done at its end.

    Args:
        take_over: also seal what may still be written by a process that cannot be seen from here.

    Returns:
        What was sealed, and a sentence for each spill file whose rows were added first.

    Raises:
        StoreError: the folder cannot be written or the disk is full; the journal is as it was.
    """
    from lossbook.journal import bring_home
    from lossbook.storage import LiveSummary, next_row, seal_run

    try:
        added = bring_home(folder, next_row=next_row)
        report = seal_run(folder, finished=True, take_over=take_over)
        if report.segments or report.left is None:
            LiveSummary(folder).write()
    except LossbookError:
        raise
    except OSError as error:
        raise StoreError(f"{folder.path} cannot be sealed ({refusal(error)})") from error
    return report, added


def _rewrite(folder: RunFolder) -> SealReport:
    from lossbook.storage import rewrite_sealed

    try:
        return rewrite_sealed(folder)
    except OSError as error:
        if isinstance(error, LossbookError):
            raise
        raise StoreError(f"{folder.path} cannot be written ({refusal(error)})") from error


def _plain_report(report: SealReport) -> dict[str, object]:
    return {
        "segments": report.segments,
        "rows": report.rows,
        "scalars": report.scalars,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "problems": list(report.problems),
        "left": report.left,
    }


def _report_text(report: SealReport) -> str:
    if not report.segments:
        return "nothing to seal"
    return (
        f"{plural(report.segments, 'segment')}, {plural(report.rows, 'row')}, {plural(report.scalars, 'scalar')}: "
        f"{size(report.bytes_before)} of journal became {size(report.bytes_after)}"
    )


# -- verify -------------------------------------------------------------------------------------------------------


@click.command(
    "verify",
    epilog="""\b
Ends with status 1 when something is damaged; nothing is changed.

\b
Examples:
  lossbook verify
  lossbook verify --all --json""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@click.option("--all", "everything", is_flag=True, help="Every run of the store, or of --project.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is damaged.")
@common_options()
@click.pass_obj
def verify_command(settings: Settings, refs: tuple[str, ...], everything: bool, quiet: bool) -> int:
    """Check every file: what is damaged, and what was saved."""
    from lossbook.storage import verify_run

    view = screen()
    found, damaged, files = [], 0, 0
    for folder in _chosen(settings, refs, everything):
        name = os.path.basename(folder.path)
        findings = verify_run(folder)
        bad = [one for one in findings if not one.ok]
        files += len({one.path for one in findings})
        damaged += bool(bad)
        found.append(
            {
                "id": name,
                "path": folder.path,
                "ok": not bad,
                "findings": [{"path": one.path, "ok": one.ok, "message": one.message} for one in findings],
            }
        )
        if settings.json or (quiet and not bad):
            continue
        click.echo(f"{view.paint(name, bold=True)}  {os.path.basename(os.path.dirname(folder.path))}", color=view.color)
        for one in findings:
            if one.ok and quiet:
                continue
            word = view.paint("ok     ", "green") if one.ok else view.paint("DAMAGED", "red", bold=True)
            click.echo(f"  {word}  {printable(one.path)}  {printable(one.message)}".rstrip(), color=view.color)
    if settings.json:
        click.echo(to_json(found))
    else:
        verdict = f"{damaged} of them damaged" if damaged else "all whole"
        click.echo(f"{plural(len(found), 'run')}, {plural(files, 'file')}: {verdict}")
    return 1 if damaged else 0


# -- doctor -------------------------------------------------------------------------------------------------------


@click.command("doctor", epilog="\b\nExamples:\n  lossbook doctor\n  lossbook doctor --store /mnt/runs --json")
@common_options(project=False)
@click.pass_obj
def doctor_command(settings: Settings) -> int:
    """Say what is installed, which GPUs, how the store lies."""
    from lossbook.cli.doctor import examine

    sections = examine(settings.location)
    view = screen()
    if settings.json:
        click.echo(to_json({section.title: {**section.facts, "warnings": section.warnings} for section in sections}))
    else:
        for position, section in enumerate(sections):
            if position:
                click.echo()
            click.echo(view.paint(section.title, bold=True), color=view.color)
            width = max((len(name) for name in section.facts), default=0)
            for name, fact in section.facts.items():
                click.echo(f"  {name:<{width}}  {printable(fact)}", color=view.color)
            for warning in section.warnings:
                click.echo(f"  {view.paint('!', 'red', bold=True)} {printable(warning)}", color=view.color)
    return 1 if any(section.warnings for section in sections) else 0


# -- completion ---------------------------------------------------------------------------------------------------


@click.command(
    "completion",
    epilog="""\b
Put one of these where your shell looks:
  bash   eval "$(lossbook completion bash)"        in ~/.bashrc
  zsh    eval "$(lossbook completion zsh)"         in ~/.zshrc, behind compinit
  fish   lossbook completion fish > ~/.config/fish/completions/lossbook.fish""",
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the script that completes commands, runs and keys."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # The class itself runs bash to look at its version; only the script is wanted here.
    completion = kind(cli, {}, "lossbook", COMPLETE)
    click.echo(completion.source_template % completion.source_vars())
