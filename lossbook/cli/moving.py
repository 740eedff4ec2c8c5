"""`rm`, `undo` and `mv`: runs leave, come back and move whole or not at all.

A removed run lies in `<store>/.trash/<when>-<project>-<id>/run` beside a `manifest.json` that says where it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lossbook.access import refusal
from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.followers import follower_of
from lossbook.cli.format import age, plural, printable, size, to_json
from lossbook.errors import BadArgument, LossbookError, StoreError, UnknownRun
from lossbook.paths import TRASH, RunFolder, fsync_folder, project_folder, read_json, run_folder, safe_name, write_json
from lossbook.run_info import edit_run_info

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

#: How long a follower that still seals a finished run is waited for, in seconds.
FOLLOWER_SECONDS = 15.0
_COPY_CHUNK_BYTES = 1 << 20


# -- rm and undo --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removed:
    """One run in the trash: its folder there, and where it came from."""

    folder: str
    project: str
    id: str
    name: str
    removed: float
    home: str

    @property
    def run(self) -> str:
        return os.path.join(self.folder, "run")


@click.command(
    "rm",
    epilog="\b\nExamples:\n  lossbook rm k3jd9f2a old-baseline\n  lossbook undo\n  lossbook rm --empty-trash",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="RUN...")
@click.option("--force", is_flag=True, help="Also remove a run that is still being written.")
@click.option("--undo", is_flag=True, help="Bring the named runs back, or the one removed last.")
@click.option("--trash", is_flag=True, help="List what lies in the trash.")
@click.option("--empty-trash", is_flag=True, help="Delete what lies in the trash for good.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the trash is emptied.")
@common_options()
@click.pass_obj
def rm_command(
    settings: Settings, refs: tuple[str, ...], force: bool, undo: bool, trash: bool, empty_trash: bool, yes: bool
) -> None:
    """Move runs to the trash, from where undo brings them back."""
    if sum((undo, trash, empty_trash)) > 1:
        raise click.UsageError("--undo, --trash and --empty-trash exclude one another")
    if empty_trash:
        if refs:
            raise click.UsageError("--empty-trash empties the whole trash: name no run")
        _empty_trash(settings, yes)
    elif trash:
        _list_trash(settings)
    elif undo:
        _undo(settings, refs)
    elif not refs:
        raise click.UsageError("name the runs to remove")
    else:
        runs = settings.own_store().runs(refs)
        for run in runs:
            if not force:
                refuse_running(run, "removed")
        removed = [_remove(settings.location, run) for run in runs]
        _say(settings, removed, "removed", hint="`lossbook undo` brings it back" if len(removed) == 1 else "")


@click.command("undo")
@click.argument("refs", nargs=-1, metavar="[RUN]...")
@common_options()
@click.pass_obj
def undo_command(settings: Settings, refs: tuple[str, ...]) -> None:
    """Bring back the run removed last, or those named."""
    _undo(settings, refs)


def _remove(store: str, run: RecordedRun) -> Removed:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    trash = os.path.join(store, TRASH)
    try:
        os.makedirs(trash, exist_ok=True)
        number = 1
        while True:
            ending = f"-{number}" if number > 1 else ""
            folder = os.path.join(trash, f"{stamp}-{safe_name(run.project)}-{safe_name(run.id)}{ending}")
            try:
                os.mkdir(folder)
                break
            except FileExistsError:
                number += 1
        home = os.path.relpath(run.path, store)
        manifest = {
            "format": 1,
            "project": run.project,
            "id": run.id,
            "name": run.name,
            "removed": time.time_ns() // 1000,
            "home": home,
        }
        # The manifest first: a run without one could not be brought back.
        write_json(os.path.join(folder, "manifest.json"), manifest)
        try:
            os.rename(run.path, os.path.join(folder, "run"))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            _leave(trash)
            raise
        _leave(os.path.dirname(run.path))
    except OSError as error:
        raise StoreError(f"the run {run.id} cannot be moved to {trash} ({refusal(error)})") from error
    return Removed(folder, run.project, run.id, run.name or "", time.time(), home)


def trashed(store: str) -> list[Removed]:
    """What lies in a store's trash, the latest last; entries that were cut short are passed over."""
    found = []
    trash = os.path.join(store, TRASH)
    try:
        names = os.listdir(trash)
    except OSError:
        return []
    for name in names:
        folder = os.path.join(trash, name)
        try:
            manifest = read_json(os.path.join(folder, "manifest.json"))
        except LossbookError:
            continue
        if manifest is None or not os.path.isdir(os.path.join(folder, "run")):
            continue
        found.append(
            Removed(
                folder,
                str(manifest.get("project")),
                str(manifest.get("id")),
                str(manifest.get("name") or ""),
                int(manifest.get("removed") or 0) / 1e6,
                str(manifest.get("home") or ""),
            )
        )
    return sorted(found, key=lambda one: (one.removed, one.folder))


def _undo(settings: Settings, refs: Sequence[str]) -> None:
    store = settings.location
    lying = [one for one in trashed(store) if settings.project in (None, one.project)]
    if not lying:
        raise UnknownRun(f"there is nothing to bring back: the trash of {store} is empty")
    chosen = [_find_trashed(lying, ref, store) for ref in refs] if refs else lying[-1:]
    restored = []
    for one in chosen:
        home = run_folder(store, one.project, one.id).path
        if os.path.lexists(home):
            raise StoreError(f"the run {one.id} cannot come back: there is another run at {home}; move that one first")
        try:
            os.makedirs(os.path.dirname(home), exist_ok=True)
            os.rename(one.run, home)
        except OSError as error:
            raise StoreError(f"the run {one.id} cannot be moved back to {home} ({refusal(error)})") from error
        shutil.rmtree(one.folder, ignore_errors=True)
        restored.append(one)
    _say(settings, restored, "brought back")


def _find_trashed(lying: Sequence[Removed], ref: str, store: str) -> Removed:
    exact = [one for one in lying if ref in (one.id, one.name)]
    found = exact or [one for one in lying if one.id.startswith(ref) or one.name.startswith(ref)]
    # Of runs removed one after another under the same name, the last one is meant.
    if len({one.id for one in found}) > 1 and not exact:
        raise UnknownRun(f"{ref!r} fits several removed runs: {', '.join(sorted({one.id for one in found})[:5])}")
    if not found:
        raise UnknownRun(f"no run {ref!r} lies in the trash of {store}; `lossbook rm --trash` lists what does")
    return found[-1]


def _list_trash(settings: Settings) -> None:
    lying = trashed(settings.location)
    if settings.json:
        click.echo(to_json([_plain_removed(one) for one in lying]))
    elif not lying:
        click.echo("The trash is empty.")
    for one in lying if not settings.json else ():
        click.echo(f"{one.id}  {printable(one.project)}  {printable(one.name)}  removed {age(one.removed)}")


def _empty_trash(settings: Settings, yes: bool) -> None:
    trash = os.path.join(settings.location, TRASH)
    lying = trashed(settings.location)
    total = _tree_bytes(trash)
    if lying and not yes:
        click.confirm(f"Delete {plural(len(lying), 'run')} ({size(total)}) for good?", abort=True, err=True)
    if os.path.isdir(trash):
        try:
            shutil.rmtree(trash)
        except OSError as error:
            raise StoreError(f"{error.filename} cannot be deleted ({error.strerror})") from error
    if settings.json:
        click.echo(to_json({"deleted": [_plain_removed(one) for one in lying], "bytes": total}))
    else:
        click.echo(f"Deleted {plural(len(lying), 'run')}, {size(total)}.")


def _say(settings: Settings, runs: Sequence[Removed], verb: str, *, hint: str = "") -> None:
    if settings.json:
        click.echo(to_json([_plain_removed(one) for one in runs]))
        return
    for one in runs:
        click.echo(f"{verb} {one.id} {printable(one.name)} of {printable(one.project)}".replace("  ", " "))
    if hint:
        click.echo(hint)


def _plain_removed(one: Removed) -> dict[str, object]:
    return {"id": one.id, "name": one.name, "project": one.project, "removed": one.removed, "trash": one.folder}


def refuse_running(run: RecordedRun, verb: str) -> None:
    """Let nobody pull a run away from its writer.

    Raises:
        StoreError: the run is being written, or may be; or its follower is still sealing it after a short wait.
    """
    from lossbook.journal import living_writer

    way_out = "end it first, or pass --force" if verb == "removed" else "end it first"
    if run.state == "running":
        raise StoreError(f"the run {run.id} is running and cannot be {verb}: {way_out}")
    try:
        writer = living_writer(RunFolder(run.path))
    except OSError as error:
        raise StoreError(f"{run.path} cannot be written ({error.strerror or error}); check who owns it") from error
    if writer is not None and writer.attempt is not None:
        who = f"process {writer.attempt.pid} on {writer.attempt.host}"
        raise StoreError(f"the run {run.id} may still be written by {who} and cannot be {verb}: {way_out}")
    deadline = time.monotonic() + FOLLOWER_SECONDS
    while (process := follower_of(run.path)) is not None:
        if time.monotonic() > deadline:
            raise StoreError(f"the run {run.id} is still being sealed by process {process}: try again when it is done")
        time.sleep(0.1)


# -- mv -----------------------------------------------------------------------------------------------------------


@click.command(
    "mv",
    epilog="\b\nExamples:\n  lossbook mv k3jd9f2a --project archive\n  lossbook mv k3jd9f2a wide --to /mnt/runs",
)
@click.argument("refs", nargs=-1, required=True, type=RUN, metavar="RUN...")
@click.option("--to", metavar="STORE", help="The store (a folder) to move to; it is made when missing.")
@click.option("--project", "-p", metavar="NAME", help="The project to move to; it is made when missing.")
@common_options(project=False)
@click.pass_obj
def mv_command(settings: Settings, refs: tuple[str, ...], to: str | None, project: str | None) -> None:
    """Move runs to another store or project, whole or not at all."""
    if to is None and not project:
        raise click.UsageError("say where to: --to STORE, --project NAME, or both")
    if to is not None and "://" in to:
        raise BadArgument(f"{to} is no folder: runs move between folders only")
    moved = []
    runs = settings.own_store().runs(refs)
    for run in runs:
        refuse_running(run, "moved")
    for run in runs:
        target = move_run(RunFolder(run.path), to or settings.location, project or run.project, run.id)
        moved.append({"id": run.id, "from": run.path, "to": target.path})
        if not settings.json:
            click.echo(f"moved {run.id} to {target.path}")
    if settings.json:
        click.echo(to_json(moved))


def move_run(folder: RunFolder, store: str, project: str, run_id: str) -> RunFolder:
    """Move one run that nobody writes to.

    Within a file system it is renamed. Between two it is copied beside its place under a hidden name, compared
    byte for byte, renamed, and only then deleted where it was.

    Raises:
        StoreError: something is there already, or one of the folders cannot be read or written; the run is then
            where it was.
    """
    target = run_folder(store, project, run_id)
    if os.path.lexists(target.path):
        same = os.path.exists(target.path) and os.path.samefile(folder.path, target.path)
        why = "it lies there already" if same else f"there is something at {target.path} already"
        raise StoreError(f"the run {run_id} cannot be moved: {why}")
    parent = project_folder(store, project)
    try:
        os.makedirs(parent, exist_ok=True)
        try:
            os.rename(folder.path, target.path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_across(folder.path, target.path)
        fsync_folder(parent)
        _leave(os.path.dirname(folder.path))
    except OSError as error:
        _leave(parent)
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"the run {run_id} cannot be moved to {target.path} ({refusal(error)})") from error

    if os.path.exists(target.run_json):
        edit_run_info(target, lambda info: info._replace(project=project))
        _name_project(target)
    return target


def _name_project(folder: RunFolder) -> None:
    """Have sealed rows name the project that their run is in now, for other engines; nothing of ours reads it."""
    from lossbook.storage import rewrite_sealed

    try:
        rewrite_sealed(folder)
    except (LossbookError, OSError) as error:
        hint = "`lossbook seal --rewrite` tries again"
        click.echo(
            f"lossbook: {folder.path} has moved, but its sealed rows name the old project ({error}); {hint}", err=True
        )


def _leave(project: str) -> None:
    """Delete the folder of a project that has no run any more; one that holds anything stays."""
    try:
        os.rmdir(project)
    except OSError:
        pass


def _move_across(source: str, target: str) -> None:
    partial = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}-{os.urandom(3).hex()}.partial")
    try:
        shutil.copytree(source, partial, symlinks=True)
        _compare(source, partial)
        for folder, _, _ in os.walk(partial):
            fsync_folder(folder)
        os.rename(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, shutil.Error):
            raise OSError(errno.EIO, str(error.args[0][0][2] if error.args[0] else error)) from error
        raise
    # Out of sight first: a source that cannot be deleted whole must not look like a second, damaged run.
    hidden = os.path.join(os.path.dirname(source), f".{os.path.basename(source)}-{os.urandom(3).hex()}.moved")
    os.rename(source, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _compare(source: str, copy: str) -> None:
    """Check that two trees hold the same bytes, and that the copy is on the disk."""
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            other = os.path.join(copy, os.path.relpath(path, source))
            if os.path.islink(path):
                continue
            if _digest(path) != _digest(other, durable=True):
                raise StoreError(f"{other} is not what {path} is: the run has been left where it was")


def _digest(path: str, *, durable: bool = False) -> bytes:
    digest = hashlib.blake2b()
    with open(path, "rb") as file:
        if durable:
            os.fsync(file.fileno())
        while chunk := file.read(_COPY_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _tree_bytes(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
