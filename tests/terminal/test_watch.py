"""The page as somebody uses it who has nothing but a keyboard and a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("textual")

Record = Callable[..., Any]


def falling(start: float, rows: int = 60) -> list[dict[str, float]]:
    return [{"train/loss": start - step / rows, "lr": 1e-3} for step in range(rows)]


def test_runs_are_listed_marked_and_drawn_together(record: Record, watch: Any) -> None:
    record("narrow", falling(4.0))
    record("wide", falling(5.0))

    async def use(person: Any) -> None:
        screen = await person.see("narrow", "wide", "finished", "2 runs")
        assert screen.index("wide") < screen.index("narrow")  # the newest first
        await person.press("space", "space", "2")
        screen = await person.see("2 marked", "train/loss", "step", "━━ narrow", "━━ wide")
        assert any("\u2800" < character <= "\u28ff" for character in screen)
        await person.press("u")
        await person.see("━━ narrow", without="━━ wide")  # the run in focus alone

    watch(use)


def test_a_spike_of_one_row_and_a_nan_are_on_the_screen(record: Record, watch: Any) -> None:
    rows = [{"train/loss": 3.0} for _ in range(2000)]
    rows[700]["train/loss"] = 90.0
    rows[1500]["train/loss"] = float("nan")
    record("spiky", rows)

    async def use(person: Any) -> None:
        await person.press("2")
        screen = await person.see("━━ spiky", "1 not finite")
        plot = [line.split("│")[-1].split("┤")[-1] for line in screen.splitlines() if "│" in line or "┤" in line]
        assert plot[0].strip(), "the spike does not reach the top"
        assert any(line.strip() == "×" for line in screen.splitlines())
        await person.press("]", "]", "]")
        screen = await person.see("ema:0.99")
        await person.see("1 not finite")
        plot = [line.split("│")[-1].split("┤")[-1] for line in person.screen.splitlines() if "│" in line or "┤" in line]
        assert plot[0].strip(), "smoothing has hidden the spike"

    watch(use)


def test_a_search_narrows_the_table_as_it_is_typed_and_escape_takes_it_back(record: Record, watch: Any) -> None:
    for name in ("adamw-small", "adamw-large", "muon-small"):
        record(name, tags=("paper",) if name == "muon-small" else ())

    async def use(person: Any) -> None:
        await person.see("3 runs")
        await person.press("slash")
        await person.type("adam")
        await person.see("search: adam", "2 of 3 runs", without="muon-small")
        await person.type(" larg")
        await person.see("1 of 3 runs", "adamw-large", without="adamw-small")
        await person.press("escape")
        await person.see("3 runs", "muon-small", without="search:")
        await person.press("slash")
        await person.type("paper")
        await person.press("enter")
        await person.see("search: paper", "muon-small", without="adamw-small")
        await person.press("escape")
        await person.see("adamw-small")

    watch(use)


def test_an_expression_keeps_the_runs_for_which_it_holds_and_a_wrong_one_is_said(record: Record, watch: Any) -> None:
    record("slow", config={"lr": 1e-5})
    record("fast", config={"lr": 1e-2})

    async def use(person: Any) -> None:
        await person.see("2 runs")
        await person.press("w")
        await person.type("config.lr > 1e-3")
        await person.press("enter")
        await person.see("1 of 2 runs", "fast", "where: config.lr > 1e-3", without="slow")
        await person.press("w", "ctrl+u")
        await person.type("config.lr >")
        await person.press("enter")
        await person.see("a value was expected")
        await person.press("escape")
        await person.see("1 of 2 runs", without="a value was expected")

    watch(use)


def test_a_column_is_sorted_by_its_key_or_a_click(record: Record, watch: Any) -> None:
    record("low", [{"train/loss": 1.0}])
    record("high", [{"train/loss": 9.0}])
    record("middle", [{"train/loss": 5.0}])

    def order(screen: str) -> list[str]:
        return [name for line in screen.splitlines() for name in ("low", "high", "middle") if name in line.split()]

    async def use(person: Any) -> None:
        await person.see("3 runs")
        assert order(person.screen) == ["middle", "high", "low"]
        await person.press("s")
        await person.see("sort by")
        await person.type("loss")
        await person.press("enter")
        await person.see("loss ▲")
        assert order(person.screen) == ["low", "middle", "high"]
        at = person.screen.splitlines()[1].index("loss")
        await person.pilot.click(offset=(at, 1))
        await person.see("loss ▼")
        assert order(person.screen) == ["high", "middle", "low"]

    watch(use)


def test_new_points_and_new_runs_appear_while_training_goes_on(record: Record, watch: Any) -> None:
    run = record("live", [{"train/loss": 7.0}], finish=False)

    async def use(person: Any) -> None:
        await person.see("live", "running", "1 running")
        await person.press("2")
        await person.see("━━ live", "7 at 0")
        run.log({"train/loss": 4.25}, step=1)
        await person.see("4.25 at 1")
        run.log({"train/loss": 3.125}, step=2)
        await person.see("3.125 at 2")
        await person.press("1")
        await person.see("3.125")
        run.finish()
        await person.see("finished", without="running")
        record("another")
        await person.see("another", "2 runs")

    watch(use)


def test_axes_metrics_scales_and_panels_are_a_key_away(record: Record, watch: Any) -> None:
    rows = [{"train/loss": 9.0 / (step + 1), "lr": 1e-3, "time/tokens_seen": step * 1000.0} for step in range(50)]
    record("only", rows)

    async def use(person: Any) -> None:
        await person.press("2")
        await person.see("train/loss · against step")
        await person.press("x")
        await person.see("against tokens", "━━ only")
        await person.press("X", "l")
        await person.see("against step · log y")
        await person.press("n")
        await person.see("lr · against step")
        await person.press("p", "m")
        await person.see(" train/loss", " lr")
        await person.press("m", "m", "K")
        await person.see("metric:", "3 of 3")
        await person.type("tok")
        await person.see("1 of 3")
        await person.press("enter")
        await person.see("time/tokens_seen · against")

    watch(use)


def test_zooming_and_panning_show_a_part_and_zero_shows_all(record: Record, watch: Any) -> None:
    record("long", [{"train/loss": float(step % 7)} for step in range(1000)])

    async def use(person: Any) -> None:
        await person.press("2")
        await person.see("━━ long")
        await person.press("+")
        await person.see("zoom 250 to 749")
        await person.press("right")
        await person.see("zoom 375 to 874")
        await person.press("right", "right", "right")
        await person.see("zoom 500 to 999")  # no further than the curve goes
        await person.press("-")
        await person.see("━━ long", without="· zoom")
        await person.press("+", "+", "0")
        await person.see("━━ long", without="· zoom")

    watch(use)


def test_a_baseline_is_drawn_along_and_the_others_are_compared_with_it(record: Record, watch: Any) -> None:
    record("base", [{"train/loss": 3.0} for _ in range(10)])
    record("better", [{"train/loss": 2.5} for _ in range(10)])

    async def use(person: Any) -> None:
        await person.see("2 runs")
        await person.press("j", "b")
        await person.see("◆ base")
        await person.press("k", "space", "2")
        await person.see("━━ better", "━━ base", "-0.5 to baseline")

    watch(use)


def test_seeds_of_a_group_become_one_line_with_a_band(record: Record, watch: Any) -> None:
    for seed in range(3):
        record(f"seed-{seed}", [{"train/loss": 3.0 + seed} for _ in range(10)], group="seeds")

    async def use(person: Any) -> None:
        await person.see("3 runs")
        await person.press("g")
        await person.see("seeds (3)")
        await person.press("home", "space", "space", "space", "2")
        await person.see("seeds (3 runs)", "4 at 9", "min 3")

    watch(use)


def test_the_console_follows_and_is_searched(record: Record, watch: Any) -> None:
    lines = "\n".join(f"line {number}" + (" oom here" if number in (20, 80) else "") for number in range(100))
    run = record("talker", printed=lines, finish=False)

    async def use(person: Any) -> None:
        await person.press("4")
        await person.see("line 99", "following", without="line 20")
        await person.press("slash")
        await person.type("oom")
        await person.press("enter")
        await person.see("line 80 oom here", "2 with 'oom'", "match 2 of 2")
        await person.press("N")
        await person.see("line 20 oom here", "match 1 of 2")
        # Textual has taken standard output for itself.
        with open(f"{run.path}/console/r0.log", "a") as file:
            file.write("the newest line\n")
        await person.press("escape", "f")
        await person.see("the newest line", "following")
        await person.press("pageup")
        await person.see("line 70", without="following")
        run.finish()

    watch(use)


def test_gpus_are_bars_by_node_with_the_straggler_named(record: Record, watch: Any) -> None:
    row: dict[str, float] = {"train/loss": 2.0, "system.cpu/node_2": 10.0}
    for gpu in range(4):
        row |= {
            f"system.gpu.{gpu}.gpu": 95.0 if gpu != 3 else 40.0,
            f"system.gpu.{gpu}.temp": 60.0 + gpu,
            f"system.gpu.{gpu}.memoryAllocatedBytes": 40.0 * 2**30,
            f"system.gpu.{gpu}.memoryTotalBytes": 80.0 * 2**30,
            f"system.gpu.{gpu}.powerWatts": 300.0,
        }
    record("four", [row])

    async def use(person: Any) -> None:
        await person.press("3")
        screen = await person.see("node 0", "node 2", "95 %", "40 %", "40.0/80 GB", "300 W", "63 °C", "█")
        assert "lowest mean 40.0 % (GPU 3)" in screen

    watch(use)


def test_a_run_without_gpus_says_where_help_is(record: Record, watch: Any) -> None:
    record("cpu")

    async def use(person: Any) -> None:
        await person.press("3")
        await person.see("no series of a GPU", "lossbook gpu")

    watch(use)


def test_the_overview_has_configuration_alerts_notes_and_metrics(record: Record, watch: Any) -> None:
    run = record("told", config={"model": {"layers": 12}}, notes="first try", finish=False)
    run.alert("loss spike", text="at noon", level="warning")
    run.finish()

    async def use(person: Any) -> None:
        await person.press("5")
        await person.see("first try", "warning: loss spike: at noon", "model.layers  12", "train/loss")

    watch(use, size=(100, 40))


HOSTILE = "\x1b[31mred\x1b]0;owned\x07 [red]bold[/red] \x9b2J \u202egnp.exe"


def test_nothing_from_outside_steers_the_terminal_or_becomes_markup(record: Record, watch: Any) -> None:
    record(
        HOSTILE,
        [{"train/loss": 1.0, "a[red]b": 1.0}],
        printed=HOSTILE,
        notes=HOSTILE,
        tags=(HOSTILE,),
        group=HOSTILE,
        config={"k[bold]": HOSTILE},
    )

    async def use(person: Any) -> None:
        await person.see("^[[31mred^[]0;owned^G [red]bold[/red]")
        for view in "12345":
            await person.press(view)
            screen = await person.see("[red]bold[/red]", without="reading ...")
            assert not any(
                (ord(one) < 32 and one != "\n") or 0x7F <= ord(one) < 0xA0 or one == "\u202e" for one in screen
            ), view
        await person.press("4")
        await person.see("^[]0;owned^G")
        await person.press("2", "K")
        await person.see("a[red]b")

    watch(use, size=(160, 40))


def test_without_unicode_every_character_is_ascii(record: Record, watch: Any) -> None:
    record("größe", falling(3.0), printed="fertig ✓")
    record("zwei", falling(2.0))

    async def use(person: Any) -> None:
        await person.see("gr??e")
        await person.press("space", "space", "b")
        for view in "12345?":
            await person.press(view)
            await person.see("1 Runs", without="reading ...")
            assert person.screen.isascii(), person.screen
        await person.press("escape", "2", "l", "]")
        screen = await person.see("** ", "oo ")
        assert screen.isascii()

    watch(use, unicode=False, theme="none")


def test_a_theme_without_colour_sends_none(record: Record, watch: Any) -> None:
    record("one", falling(3.0))
    record("two", falling(2.0))

    def colors(person: Any) -> set[Any]:
        strips = [person.app.canvas.render_line(row) for row in range(24)]
        return {segment.style.color for strip in strips for segment in strip if segment.style} - {None}

    async def use(person: Any) -> None:
        await person.see("2 runs")
        await person.press("space", "space", "2")
        await person.see("━━ one")
        assert colors(person)
        await person.press("t", "t")
        await person.see("theme: none")
        assert not colors(person)

    watch(use)


def test_the_page_follows_the_size_of_the_terminal(record: Record, watch: Any) -> None:
    record("a-run", falling(3.0))

    async def use(person: Any) -> None:
        await person.see("a-run")
        await person.pilot.resize_terminal(30, 8)
        await person.see("This terminal has 30 x 8", without="a-run")
        await person.pilot.resize_terminal(200, 60)
        screen = await person.see("a-run", "started")
        assert all(len(line) == 200 for line in screen.splitlines())
        assert len(screen.splitlines()) == 60

    watch(use)


def test_help_names_every_key_and_any_view_is_reached_from_it(record: Record, watch: Any) -> None:
    record("a-run")

    async def use(person: Any) -> None:
        await person.press("?")
        screen = await person.see("everywhere", "baseline", "curves")
        from lossbook.terminal.screen import HELP

        assert all(what in screen for _, entries in HELP for _, what in entries)
        await person.press("5")
        await person.see("project", without="everywhere")

    watch(use, size=(120, 40))


def test_an_empty_store_says_so_and_the_first_run_appears(record: Record, watch: Any) -> None:
    async def use(person: Any) -> None:
        await person.see("No runs yet")
        for view in "2345":
            await person.press(view)
            await person.see("1 Runs")
        await person.press("1")
        record("first")
        await person.see("first", "1 run")

    watch(use)


def test_one_project_alone_is_shown_where_one_is_named(record: Record, watch: Any) -> None:
    record("mine", project="here")
    record("other", project="there")

    async def use(person: Any) -> None:
        await person.see("mine", "1 run", without="other")

    watch(use, project="here")


def test_runs_named_at_the_start_are_marked(record: Record, watch: Any) -> None:
    first = record("first", falling(3.0))
    record("second", falling(2.0))

    async def use(person: Any) -> None:
        await person.see("━━ first", "lr · against", "1 marked")

    watch(use, given=(first.path,), view="curves", keys=("lr",))


def test_q_ends_the_page(record: Record, watch: Any) -> None:
    record("a-run")

    async def use(person: Any) -> None:
        await person.see("a-run")
        await person.press("q")
        assert person.app.model.quitting

    watch(use)
