"""What is kept of what is printed: each line as it was, of a progress bar its last state."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lossbook.journal import Gap, append_bounded, bounded_text, find_gap
from lossbook.reading.ansi import show_line
from lossbook.redaction import mask_lines, mask_text
from lossbook.run.console_text import ConsoleText


class Printed(io.StringIO):
    """A terminal that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)

    def isatty(self) -> bool:
        return True


def kept(pieces: list[str], clock: Callable[[], float] = lambda: 0.0) -> str:
    text = ConsoleText(clock)
    return "".join([*(text.take(piece) for piece in pieces), text.end()])


def shown(text: str) -> list[str]:
    """Its lines as a reader shows them."""
    return [show_line(line.encode())[0].rstrip() for line in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["one\n", "two\n"], ["one", "two"]),
        (["one\r\ntwo\r\n"], ["one", "two"]),
        (["par", "tial", "\n"], ["partial"]),
        (["\r 10%", "\r 50%", "\r100%", "\n", "done\n"], ["100%", "done"]),
        (["oops\b\b\b\bfine\n"], ["fine"]),
        (["a longer line\rshort\n"], ["shortger line"]),
        (["a longer line\r\x1b[Kshort\n"], ["short"]),
        (["\r 50%", "\r    \r", "a note\n", "\r 60%", "\n"], ["a note", " 60%"]),
        (["\r outer 0%", "\n", "\r inner 0%", "\x1b[A", "\n", "\r inner 9%", "\x1b[A", "\r outer 1%\n", "\nend\n"],
         [" outer 1%", " inner 9%", "end"]),
        (["\x1b[31mred\x1b[0m\n"], ["red"]),
        (["\x1b[1A\x1b[2Kabove nothing\n"], ["above nothing"]),
    ],
)  # fmt: skip
def test_what_is_kept_reads_as_a_terminal_shows_it(pieces: list[str], lines: list[str]) -> None:
    assert shown(kept(pieces)) == lines


def test_a_progress_bar_is_kept_as_its_last_state() -> None:
    tqdm = pytest.importorskip("tqdm")
    printed = Printed()
    for _ in tqdm.tqdm(range(1000), file=printed, mininterval=0):
        pass
    text = kept(printed.pieces)
    assert len(printed.pieces) > 900
    assert len(text) < 400
    assert len(shown(text)) == 1
    assert "1000/1000" in shown(text)[0]


def test_bars_inside_each_other_are_kept_as_their_last_states() -> None:
    tqdm = pytest.importorskip("tqdm")
    printed = Printed()
    for _ in tqdm.tqdm(range(3), desc="epochs", file=printed, mininterval=0):
        for _ in tqdm.tqdm(range(200), desc="steps", file=printed, mininterval=0, leave=False):
            pass
    printed.write("done\n")
    lines = shown(kept(printed.pieces))
    assert ["3/3" in lines[0], lines[1:]] == [True, ["done"]]


def test_a_live_display_is_kept_as_its_last_state() -> None:
    rich = pytest.importorskip("rich.progress")
    printed = Printed()
    console = rich.Console(file=printed, force_terminal=True, width=80)
    with rich.Progress(console=console, auto_refresh=False) as progress:
        first, second = progress.add_task("first", total=40), progress.add_task("second", total=40)
        for step in range(40):
            progress.update(first, advance=1)
            progress.update(second, advance=1)
            progress.refresh()
            if step % 20 == 0:
                console.print("a note at", step)
    lines = shown(kept(printed.pieces))
    assert lines[:2] == ["a note at 0", "a note at 20"]
    assert [line.split()[0] for line in lines[2:] if line] == ["first", "second"]
    assert all("100%" in line for line in lines[2:] if line)


def test_a_moving_bar_is_written_now_and_then_and_a_line_at_once() -> None:
    now = [0.0]
    text = ConsoleText(lambda: now[0])
    assert text.take("step 1\n") == "step 1\n"
    assert text.take("no end yet") == "no end yet"
    text.take("\n")
    written = []
    for second in range(1000):
        now[0] = float(second)
        written.append(text.take(f"\r{second:4d}"))
    assert 20 < sum(map(bool, written)) < 60
    assert shown("".join(written))[0].startswith(" 9")


@given(
    st.lists(st.sampled_from(["\r", "\n", "\b", "\x1b[A", "\x1b[2K", "\x1b[K", "\x1b[?25l", "\x1b[?25h", "a", "bc"]))
)
def test_nothing_that_is_printed_fails_and_nothing_is_held_for_ever(pieces: list[str]) -> None:
    text = ConsoleText(lambda: 0.0)
    for _ in range(30):
        for piece in pieces:
            text.take(piece)
    text.end()
    assert text.take("\nthe last line\n").endswith("the last line\n")


# -- a text of any size ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_text, "LARGEST_BYTES", 4000)
    monkeypatch.setattr(bounded_text, "HEAD_BYTES", 1000)
    monkeypatch.setattr(bounded_text, "TAIL_BYTES", 1000)


@pytest.mark.usefixtures("small")
def test_beginning_and_end_are_kept_and_one_line_counts_the_rest(tmp_path: Path) -> None:
    path = str(tmp_path / "r0.log")
    printed = 0
    for number in range(5000):
        line = b"line %06d\n" % number
        printed += len(line)
        append_bounded(path, line)
    text = Path(path).read_bytes()
    assert len(text) <= 4000
    lines = text.splitlines()
    assert lines[0] == b"line 000000"
    assert lines[-1] == b"line 004999"
    said = [line for line in lines if b"left out" in line]
    assert len(said) == 1
    with open(path, "rb") as file:
        gap = find_gap(file.fileno())
    assert gap is not None
    assert gap.left_out + len(text) - (gap.end - gap.start) == printed
    assert gap.printed_at(len(text)) == printed
    assert gap.place_of(printed) == len(text)
    assert text[gap.place_of(printed - 12) :] == b"line 004999\n"
    assert os.listdir(tmp_path) == ["r0.log"]


def test_a_place_in_what_was_left_out_is_the_line_that_says_so() -> None:
    gap = Gap(start=100, end=150, left_out=1000)
    assert [gap.place_of(printed) for printed in (0, 100, 101, 1099, 1100, 1101)] == [0, 100, 100, 100, 150, 151]
    assert [gap.printed_at(place) for place in (0, 100, 150, 151)] == [0, 100, 1100, 1101]


@pytest.mark.usefixtures("small")
def test_a_link_in_the_place_of_the_console_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "r0.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        append_bounded(str(tmp_path / "r0.log"), b"text\n")
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_long_text_is_masked_as_its_lines_are() -> None:
    secret = "api_key='sk-abcdefghijklmnop1234'"
    lines = [f"step {number} | loss 3.2" if number % 97 else secret for number in range(2000)]
    masked = mask_lines("\n".join(lines))
    assert masked == "\n".join(mask_text(line) for line in lines)
    assert "sk-abc" not in masked
