"""The parts of the page by themselves: the end of a file, the order of runs, what is typed, what is sent."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.terminal.console_tail import KEPT_BYTES, KEPT_LINES, ConsoleTail, console_files
from lossbook.terminal.model import Model
from lossbook.terminal.prompt import Picker, Prompt
from lossbook.terminal.reader import SnapshotReader
from lossbook.terminal.runs import RunLine, arranged
from lossbook.terminal.screen import make_screen
from lossbook.terminal.snapshot import Snapshot, ViewRequest
from lossbook.terminal.styled_text import Span, beside, fit, plain_text, visible, width_of

Record = Callable[..., Any]


def run_line(number: int, **changed: Any) -> RunLine:
    line = RunLine(
        path=f"/store/p/{number}",
        id=f"id{number}",
        name=f"run-{number}",
        project="p",
        state="finished",
        step=number,
        loss=3.0,
        val_loss=None,
        tokens_per_second=None,
        duration_seconds=60.0,
        created=float(number),
        group="",
        tags="",
        found_by=f"run-{number} id{number} p finished",
    )
    return replace(line, **changed)


# -- the end of a file --------------------------------------------------------------------------------------------


def test_a_tail_reads_on_and_keeps_a_line_that_is_not_finished_apart(tmp_path: Path) -> None:
    path = tmp_path / "r0.log"
    path.write_bytes(b"one\ntwo\nthr")
    tail = ConsoleTail(str(path))
    assert tail.read()
    assert (list(tail.lines), tail.unfinished) == (["one", "two"], "thr")
    assert not tail.read()
    with path.open("ab") as file:
        file.write(b"ee\nfour\n")
    assert tail.read()
    assert (list(tail.lines), tail.unfinished) == (["one", "two", "three", "four"], "")


def test_a_tail_begins_again_when_its_file_is_replaced_cut_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "r0.log"
    path.write_bytes(b"old\nlines\n")
    tail = ConsoleTail(str(path))
    tail.read()
    path.write_bytes(b"new\n")
    assert tail.read()
    assert list(tail.lines) == ["new"]
    path.unlink()
    assert tail.read()
    assert not tail.lines
    assert not tail.read()


def test_a_tail_of_a_large_file_holds_its_end_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "r0.log"
    with path.open("wb") as file:
        file.writelines(b"%09d %s\n" % (number, b"x" * 90) for number in range(3 * KEPT_BYTES // 100))
    tail = ConsoleTail(str(path))
    tail.read()
    assert len(tail.lines) == KEPT_LINES
    assert tail.dropped
    assert tail.lines[-1].startswith(f"{3 * KEPT_BYTES // 100 - 1:09d}")
    assert all(len(line) == 100 for line in tail.lines), "a line was cut through"


def test_a_progress_bar_is_one_line_and_colours_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r0.log"
    path.write_bytes(b" 1%\r 50%\r100%\n\x1b[1;32mgreen\x1b[0m\r\n\x1b]0;title\x07\n")
    tail = ConsoleTail(str(path))
    tail.read()
    assert list(tail.lines) == ["100%", "green", "\x1b]0;title\x07"]


def test_consoles_are_listed_by_rank(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        (tmp_path / f"r{rank}.log").write_text("")
    assert console_files(str(tmp_path)) == ["r0.log", "r2.log", "r10.log"]
    assert console_files(str(tmp_path / "none")) == []


# -- text ---------------------------------------------------------------------------------------------------------


def test_what_would_steer_a_terminal_is_seen_instead() -> None:
    assert visible("\x1b[2J\x07\x7f\x9b\r") == "^[[2J^G^?<9b>^M"
    assert visible("a\u202eb\u200bc") == "a<202e>b<200b>c"
    assert visible("\ud800") == "<d800>"
    assert visible("größe", unicode=False) == "gr??e"
    assert visible("two\nlines") == "two lines"


def test_a_line_is_cut_or_filled_to_its_columns() -> None:
    assert width_of(fit([Span("日本語"), Span("abc", "red")], 5)) == 5
    assert plain_text(fit([Span("ab")], 4)) == "ab  "
    assert [plain_text(line) for line in beside([[Span("a")]], [[Span("b")], [Span("c")]], 3)] == [
        "a    b",
        "     c",
    ]


# -- runs ---------------------------------------------------------------------------------------------------------


def test_runs_without_the_value_come_last_either_way() -> None:
    lines = [run_line(0, loss=None), run_line(1, loss=2.0), run_line(2, loss=float("nan")), run_line(3, loss=1.0)]
    assert [line.step for line in arranged(lines, sort="loss", falling=False)] == [3, 1, 0, 2]
    assert [line.step for line in arranged(lines, sort="loss", falling=True)] == [1, 3, 0, 2]


def test_words_must_all_be_found_and_a_minus_leaves_out() -> None:
    lines = [run_line(1), run_line(12), run_line(22)]
    assert [line.step for line in arranged(lines, words="run 2")] == [22, 12]
    assert [line.step for line in arranged(lines, words="2 -22")] == [12]


def test_a_page_of_ten_thousand_runs_writes_only_the_lines_on_the_screen() -> None:
    lines = tuple(run_line(number) for number in range(10_000))
    model = Model(snapshot=Snapshot(lines=lines))
    page = make_screen(model, "store")
    assert len(page.lines) == 24
    assert len(page.watched) == 21
    model.press("end")
    page = make_screen(model, "store")
    assert page.watched[-1] == "/store/p/0"
    model.press("pageup")
    assert model.focus == "/store/p/19"
    assert "/store/p/19" in make_screen(model, "store").watched
    # The run in focus stays the same one when others come before it.
    held = model.focus
    model.snapshot = Snapshot(lines=(run_line(10_001), *lines))
    make_screen(model, "store")
    assert model.focus == held
    assert model.focused is not None
    assert model.focused.path == held


def test_every_line_has_the_width_of_the_terminal_at_any_size() -> None:
    lines = (run_line(1, name="日本語" * 30, group="g" * 40, tags="t" * 50), run_line(2, val_loss=1e-9, loss=1e300))
    for width in (40, 41, 57, 80, 133, 300):
        for height in (10, 24, 70):
            model = Model(snapshot=Snapshot(lines=lines), width=width, height=height)
            for key in "12345?":
                model.press(key, key)
                page = make_screen(model, "a store with a long name" * 5)
                assert len(page.lines) == height
                assert {width_of(line) for line in page.lines} == {width}


# -- what is typed ------------------------------------------------------------------------------------------------


def test_a_prompt_is_edited_like_a_line_of_a_shell() -> None:
    prompt = Prompt("words")
    for character in "one two":
        prompt.type(character, character)
    prompt.type("ctrl+w", "\x17")
    assert prompt.text == "one "
    prompt.type("home", None)
    prompt.type("X", "X")
    prompt.type("delete", None)
    assert prompt.text == "Xne "
    prompt.type("end", None)
    prompt.type("backspace", "\x08")
    assert prompt.text == "Xne"
    prompt.type("ctrl+u", "\x15")
    assert prompt.text == ""


def test_a_picker_lists_what_has_every_part() -> None:
    picker = Picker("key", "metric", ("train/loss", "val/loss", "lr"), "val/loss")
    assert picker.chosen == "val/loss"
    for character in "loss t":
        picker.press(character, character)
    assert picker.fitting == ["train/loss"]
    picker.press("z", "z")
    assert picker.chosen is None


# -- what is sent -------------------------------------------------------------------------------------------------


def test_only_the_stretch_that_differs_is_sent() -> None:
    pytest.importorskip("textual")
    from lossbook.terminal.app import differing_regions, line_cells
    from lossbook.terminal.themes import THEMES

    def sent(old: list[Span], new: list[Span]) -> list[tuple[int, int]]:
        theme = THEMES["dark"]
        return [
            (region.x, region.width) for region in differing_regions(line_cells(old, theme), line_cells(new, theme), 3)
        ]

    line = [Span("loss "), Span("3.125", "red"), Span(" at 10" + " " * 30 + "end")]
    assert sent(line, list(line)) == []
    assert sent(line, [line[0], Span("3.225", "red"), line[2]]) == [(7, 1)]
    assert sent(line, [line[0], Span("3.125", "green"), line[2]]) == [(5, 5)]
    assert sent(line, [Span("LOSS "), line[1], Span(" at 10" + " " * 30 + "END")]) == [(0, 4), (46, 3)]
    assert sent([Span("a日b")], [Span("a本b")]) == [(1, 1)]


# -- reading ------------------------------------------------------------------------------------------------------


def reader_of(store: Path) -> SnapshotReader:
    return SnapshotReader(lossbook.open(str(store)), lambda snapshot: None)


def test_a_look_gives_the_same_objects_while_nothing_changed(record: Record, store: Path) -> None:
    run = record("still")
    reader = reader_of(store)
    wanted = ViewRequest(view="curves", drawn=(run.path,), focus=run.path)
    first = reader.look(wanted)
    assert first.lines is not None
    assert [line.name for line in first.lines] == ["still"]
    assert first.panels[0].curves[0].curve is not None
    for _ in range(3):
        assert reader.look(wanted) is first


def test_a_metric_that_a_run_has_not_logged_is_no_error(record: Record, store: Path) -> None:
    run = record("plain")
    snapshot = reader_of(store).look(ViewRequest(view="curves", drawn=(run.path,), keys=("nothing/like/it",)))
    assert snapshot.panels[0].curves[0].curve is None
    assert not snapshot.troubles


def test_a_store_that_went_away_is_said_and_the_page_goes_on(record: Record, store: Path) -> None:
    run = record("gone")
    reader = reader_of(store)
    reader.look(ViewRequest())
    subprocess.run(["rm", "-r", str(store)], check=True)
    snapshot = reader.look(ViewRequest(asked=1, view="overview", focus=run.path))
    assert snapshot.lines == () or snapshot.troubles


def test_more_runs_than_rows_are_held_of_are_drawn_one_after_the_other(record: Record, store: Path) -> None:
    paths = [record(f"run-{number}", [{"train/loss": float(number)}]).path for number in range(30)]
    reader = reader_of(store)
    for number, path in enumerate(paths):
        snapshot = reader.look(ViewRequest(view="curves", drawn=(path,)))
        curve = snapshot.panels[0].curves[0].curve
        assert curve is not None
        assert curve.mean[0] == number
    again = reader.look(ViewRequest(view="curves", drawn=(paths[0],)))
    assert again.panels[0].curves[0].curve is not None
    assert len(reader.open_runs) < 30


KEYS = ("1", "2", "3", "4", "5", "tab", "j", "k", "down", "pageup", "home", "end", "<", ">", "space", "u", "b", "g", "/",
        "w", "r", "t", "escape", "?", "s", "S", "enter", "n", "p", "K", "x", "X", "l", "[", "]", "+", "-", "0", "left",
        "right", "m", "f", "N", "o", "a", "backspace")  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_no_row_of_keys_breaks_the_page(seed: int, record: Record, store: Path) -> None:
    odd = float("nan")
    record(
        "many", [{"train/loss": 3.0 - step / 900, "lr": 0.0, "tokens": step * 8.0} for step in range(800)], group="g"
    )
    record("few", [{"train/loss": odd}, {"val/loss": float("inf")}], printed="a line\n" * 50, group="g")
    record("none", [])
    record("one", [{"train/loss": 1e300}, {"train/loss": -1e300}], finish=False)
    chance = random.Random(seed)
    reader, model = reader_of(store), Model()
    watched: tuple[str, ...] = ()
    for _ in range(250):
        key = chance.choice(KEYS)
        model.press(key, key if len(key) == 1 else " " if key == "space" else None)
        if chance.random() < 0.05:
            model.width, model.height = chance.randint(20, 200), chance.randint(5, 60)
        model.quitting = False
        if chance.random() < 0.7:
            model.snapshot = reader.look(model.wanted(watched))
        page = make_screen(model, "store")
        assert len(page.lines) == model.height
        assert {width_of(line) for line in page.lines} == {model.width}
        watched = page.watched
        assert not model.snapshot.troubles, model.snapshot.troubles


def test_no_other_command_imports_textual() -> None:
    program = (
        "import sys, lossbook, importlib\n"
        "from lossbook.registry import COMMANDS\n"
        "for address in COMMANDS.own.values(): importlib.import_module(address.partition(':')[0])\n"
        "import lossbook.terminal.screen, lossbook.terminal.reader\n"
        "assert not {'textual', 'rich'} & set(sys.modules), 'textual was imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
