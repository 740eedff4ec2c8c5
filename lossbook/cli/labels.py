"""`tag`, `note` and `rename`: what people say about a run, kept in its `run.json`."""

from __future__ import annotations

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.format import printable, to_json
from lossbook.errors import BadArgument
from lossbook.reading import edit_run, name_of, set_name, set_notes, writable
from lossbook.run_info import RunInfo


class _TagCommand(click.Command):
    """Takes `-old` for a tag to take away rather than for four options."""

    _OPTIONS = ("-h", "-p")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        marked = [
            f"\0{one}" if one[:1] == "-" and one[:2] != "--" and one not in self._OPTIONS else one for one in args[:end]
        ]
        return super().parse_args(ctx, [*marked, *args[end:]])


@click.command(
    "tag",
    cls=_TagCommand,
    epilog="\b\nExamples:\n  lossbook tag baseline +keep +paper -draft\n  lossbook tag baseline",
)
@click.argument("ref", type=RUN, metavar="RUN")
@click.argument("changes", nargs=-1, type=click.UNPROCESSED, metavar="[+NEW | -OLD]...")
@common_options()
@click.pass_obj
def tag_command(settings: Settings, ref: str, changes: tuple[str, ...]) -> None:
    """Add tags with +, take them away with -, or list them."""
    changes = tuple(writable(one.lstrip("\0")) for one in changes)
    for one in changes:
        word = one.lstrip("+-").strip()
        if one[:1] not in ("+", "-") or not word:
            word = word or "TAG"
            raise click.UsageError(f"write +{word} to add a tag or -{word} to take it away, not {one!r}")
    run = settings.own_store().run(ref)
    tags = [str(one) for one in run.tags]
    if changes:
        missing = [one[1:] for one in changes if one[0] == "-" and one[1:] not in tags]
        if missing:
            raise BadArgument(f"the run {run.id} has no tag {missing[0]!r}; it has: {', '.join(tags) or 'none'}")

        def change(info: RunInfo) -> RunInfo:
            held = list(info.tags)
            for one in changes:
                if one[0] == "+" and one[1:] not in held:
                    held.append(one[1:])
                elif one[0] == "-" and one[1:] in held:
                    held.remove(one[1:])
            return info._replace(tags=tuple(held))

        tags = list(edit_run(run.path, change).tags)
    if settings.json:
        click.echo(to_json({"id": run.id, "tags": tags}))
    elif tags:
        click.echo(" ".join(printable(one) for one in tags))
    else:
        click.echo("(no tags)")


@click.command(
    "note",
    epilog="\b\nExamples:\n  lossbook note baseline the spike at 3000 is a bad batch\n  lossbook note baseline --edit",
)
@click.argument("ref", type=RUN, metavar="RUN")
@click.argument("text", nargs=-1, metavar="[TEXT]...")
@click.option("--edit", is_flag=True, help="Open the notes in $EDITOR.")
@click.option("--clear", is_flag=True, help="Delete the notes.")
@common_options()
@click.pass_obj
def note_command(settings: Settings, ref: str, text: tuple[str, ...], edit: bool, clear: bool) -> None:
    """Show a run's notes, or add a line to them."""
    if edit + clear + bool(text) > 1:
        raise click.UsageError("a text, --edit and --clear exclude one another")
    run = settings.own_store().run(ref)
    notes = str(run.notes or "")
    line = writable(" ".join(text).strip())
    if edit:
        written = _edited(notes)
        if written is None:
            click.echo("The notes are as they were.", err=True)
            return
        notes = set_notes(run.path, lambda _: written.strip() or None)
    elif clear:
        notes = set_notes(run.path, lambda _: None)
    elif line:
        notes = set_notes(run.path, lambda before: f"{before}\n{line}" if before else line)
    if settings.json:
        click.echo(to_json({"id": run.id, "notes": notes or None}))
    elif notes or not (edit or clear):
        click.echo("\n".join(printable(one) for one in notes.splitlines()) or "(no notes)")


def _edited(notes: str) -> str | None:
    try:
        return click.edit(notes, extension=".md", require_save=True)
    except click.ClickException as error:
        raise BadArgument(
            f"the editor failed and the notes are as they were ({error.format_message()}); EDITOR names another one"
        ) from None


@click.command("rename", epilog="\b\nExample:\n  lossbook rename k3jd9f2a baseline-adamw")
@click.argument("ref", type=RUN, metavar="RUN")
@click.argument("name")
@common_options()
@click.pass_obj
def rename_command(settings: Settings, ref: str, name: str) -> None:
    """Give a run another name; its id and its folder stay."""
    name = name_of(name)
    run = settings.own_store().run(ref)
    before = str(run.name or "")
    set_name(run.path, name)
    if settings.json:
        click.echo(to_json({"id": run.id, "name": name, "before": before}))
    else:
        click.echo(f"{run.id} is now {printable(name)} (was {printable(before)})")
