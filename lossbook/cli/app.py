"""The command `lossbook`: its commands, the options that all of them take, and how it ends.

A command's module is imported when that command is run, and none imports DuckDB or NumPy at its top: most of what
`lossbook ls` takes is the interpreter's own start.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from lossbook.cli.terminal_guard import guarded_terminal
from lossbook.errors import BadArgument, LossbookError, StoreError
from lossbook.formatting import printable
from lossbook.paths import default_store
from lossbook.registry import COMMANDS, BrokenPlugin

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

    TextType = click.ParamType[str]
else:
    # Generic since click 8.2 alone.
    TextType = click.ParamType

Function = TypeVar("Function", bound=Callable[..., object])

#: The variable through which a shell asks for completions.
COMPLETE = "_LOSSBOOK_COMPLETE"

#: Commands whose output says which files are damaged; others say on standard error what their answer lacks.
_NAME_DAMAGE_THEMSELVES = frozenset(("seal", "show", "verify"))

EPILOG = """\b
A RUN is an id, a name, the beginning of one that only one run has, or
"latest"; without one, commands take the latest run.

\b
  lossbook ls --where "config.lr > 1e-4 and state = 'finished'" --sort val/loss
  lossbook show                     the latest run, its loss curve drawn here
  lossbook curve baseline,wide train/loss --x wallclock
  lossbook sql "select run, min(value) from metrics where key = 'val/loss' group by run"
"""


@dataclass
class Settings:
    """What the options that every command takes came to."""

    store: str | None = None
    json: bool = False
    project: str | None = None

    @property
    def location(self) -> str:
        return self.store or default_store()

    def book(self, memory_bytes: int | None = None) -> Book:
        """Open the store, or another tracker's runs; `memory_bytes` as `lossbook.trackers.sources.open`.

        Raises:
            StoreError: there is no such folder.
        """
        if "://" not in self.location and not os.path.exists(self.location):
            raise StoreError(
                f"there is no store at {self.location}: name one with --store or LOSSBOOK_STORE, or log a run first"
            )
        from lossbook.trackers import open as open_book

        return open_book(self.location, memory_bytes=memory_bytes)

    def own_store(self) -> Settings:
        """These settings, for a command that changes what it reads.

        Raises:
            BadArgument: the runs are another tracker's, and here is but a copy of them in the cache.
        """
        from lossbook.trackers import find_source, only_read

        if find_source(self.location) is not None:
            raise BadArgument(only_read(self.location))
        return self

    def run(self, ref: str | None) -> RecordedRun:
        return self.book().run("latest" if ref is None else ref, project=self.project)

    def runs(self, refs: Sequence[str]) -> list[RecordedRun]:
        """The runs that `refs` name, each once, in their order."""
        book = self.book()
        found: dict[str, RecordedRun] = {}
        for ref in refs:
            run = book.run(ref, project=self.project)
            found.setdefault(run.path, run)
        return list(found.values())


# -- options and arguments ----------------------------------------------------------------------------------------


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> object:
    # An option may stand before the command, behind it, or both: the one behind wins.
    if value not in (None, False):
        setattr(context.ensure_object(Settings), str(parameter.name), value)
    return value


def common_options(*, project: bool = True) -> Callable[[Function], Function]:
    """Give a command `--store`, `--json` and (unless told otherwise) `--project`."""

    def add(function: Function) -> Function:
        if project:
            function = click.option(
                "--project", "-p", metavar="NAME", help="Only this project.", expose_value=False, callback=_remember
            )(function)
        function = _store_option(_json_option(function))
        return function

    return add


_store_option = click.option(
    "--store",
    metavar="FOLDER",
    help="The store, or another tracker's runs, to look at [default: LOSSBOOK_STORE, else ./lossbook-runs].",
    expose_value=False,
    callback=_remember,
)
_json_option = click.option(
    "--json", is_flag=True, help="Print JSON, with NaN as a string.", expose_value=False, callback=_remember
)


class RunType(TextType):
    """A run's id, name or prefix; completes from the store."""

    name = "run"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        settings = ctx.find_object(Settings) or Settings()
        before, comma, beginning = incomplete.rpartition(",") if param.name == "runs_and_more" else ("", "", incomplete)
        try:
            runs = settings.book().runs(project=settings.project)
        except LossbookError:
            return []
        found = [
            CompletionItem(before + comma + ref, help=f"{run.project} {run.state}")
            for run in runs
            for ref in (run.name, run.id)
            if ref and ref.startswith(beginning)
        ]
        return found[:200]


class KeyType(TextType):
    """A metric's name; completes from the run that was named before it, else from the latest."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        settings = ctx.find_object(Settings) or Settings()
        named = ctx.params.get("ref") or ctx.params.get("runs_and_more") or ctx.params.get("refs")
        first = named[0] if isinstance(named, (tuple, list)) and named else named
        try:
            keys = settings.run(str(first).split(",")[0] if first else None).keys()
        except LossbookError:
            return []
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)][:200]


RUN = RunType()
KEY = KeyType()


# -- the group ----------------------------------------------------------------------------------------------------


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for; other packages' commands are among them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS.names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            return _command(cmd_name)
        except BrokenPlugin:
            return None  # not in the list of commands; who calls it is told why

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-"):
            if args[0] not in COMMANDS:
                import difflib

                close = difflib.get_close_matches(args[0], COMMANDS.names(), n=2)
                meant = f"; did you mean {' or '.join(close)}?" if close else "; `lossbook --help` lists the commands"
                raise click.UsageError(f"there is no command {args[0]!r}{meant}", ctx)
            _command(args[0])  # raises where it is another package's and broken
        return super().resolve_command(ctx, args)


def _command(name: str) -> click.Command:
    found = COMMANDS.load(name)
    assert isinstance(found, click.Command)
    return found


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        import lossbook

        click.echo(f"lossbook {lossbook.__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@_store_option
@_json_option
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Look at, compare and look after the runs that `lossbook.init()` recorded."""
    context.ensure_object(Settings)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# -- the end ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, *, command: click.Command = cli, name: str = "lossbook") -> int:
    """Run one command and return its exit status.

    0: done. 1: refused or something is damaged, one sentence on standard error. 2: wrong usage. 130: Ctrl-C.
    141: whoever read the output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is written with question marks rather than not at all.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with guarded_terminal():
        return _run(arguments, command, name)


def _run(arguments: Sequence[str] | None, command: click.Command, name: str) -> int:
    try:
        asked = os.environ.get(COMPLETE)
        if asked:
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, "lossbook", COMPLETE, asked)
        # Not cli.main(): that one prints a line of its own on Ctrl-C, and turns a closed pipe into an exit.
        with command.make_context(name, list(sys.argv[1:] if arguments is None else arguments)) as context:
            result = command.invoke(context)
            sys.stdout.flush()
            _say_what_was_left_out(is_said=context.invoked_subcommand in _NAME_DAMAGE_THEMSELVES)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        sys.stdout.flush()
        return end.exit_code
    except click.UsageError as error:
        where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return _refuse(f"{error.format_message().rstrip('.')}{where}", 2)
    except click.ClickException as error:
        return _refuse(error.format_message(), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except click.Abort:
        return 1
    except BrokenPipeError:
        _drop_output()
        return 141
    except LossbookError as error:
        return _refuse(str(error), 1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{named}{error.strerror or error}", 1)
    except MemoryError:
        return _refuse("there is not enough memory for that: ask for fewer keys, runs or points", 1)
    except Exception as error:
        if os.environ.get("LOSSBOOK_TRACEBACK"):
            raise
        return _refuse(
            f"something went wrong inside Lossbook ({type(error).__name__}: {error}); LOSSBOOK_TRACEBACK=1 in the "
            "environment shows where, please report it",
            1,
        )


def _say_what_was_left_out(*, is_said: bool) -> None:
    if "lossbook.journal.left_out" not in sys.modules:
        return  # nothing was read
    from lossbook.journal import take_left_out

    for sentence in take_left_out():
        if not is_said:
            click.echo(f"lossbook: {printable(sentence)}", err=True)


def _refuse(sentence: str, status: int) -> int:
    try:
        sys.stdout.flush()
        click.echo(f"lossbook: {printable(' '.join(sentence.split()))}", err=True)
    except BrokenPipeError:
        _drop_output()
    return status


def _drop_output() -> None:
    # The interpreter flushes standard output once more when it ends, and would complain.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
