"""Every command and every option says what it is for."""

from __future__ import annotations

import click
import pytest

from lossbook.cli.app import cli
from lossbook.registry import COMMANDS


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found = [(name, cli.get_command(context, name)) for name in COMMANDS.own]
    return [("lossbook", cli), *((name, command) for name, command in found if command is not None)]


def test_every_command_of_the_table_exists() -> None:
    assert [name for name, _ in commands()][1:] == list(COMMANDS.own)
    assert all(command.name == name for name, command in commands()[1:])


@pytest.mark.parametrize(("name", "command"), commands())
def test_a_command_says_in_one_line_what_it_does(name: str, command: click.Command) -> None:
    assert command.help, f"{name} has no help"
    first = command.help.splitlines()[0]
    assert first.endswith("."), f"the help of {name} is no sentence"
    assert len(first) <= 62 or name == "lossbook", f"the help of {name} is cut off in the list of commands"


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_option_has_help(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


@pytest.mark.parametrize(("name", "command"), commands()[1:])
def test_every_command_that_reads_a_store_takes_the_common_options(name: str, command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    if name not in ("completion", "run"):
        assert {"--store", "--json"} <= options
        assert command.epilog or name == "undo", f"{name} shows no example"


def test_the_list_of_commands_cuts_no_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbook.cli import main

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS.own:
        assert any(row.split()[:1] == [name] and row.endswith(".") for row in listed.splitlines()), name
    assert "..." not in listed.split("Commands:")[1].split("A RUN is")[0]
