"""What the reading of a console promises: any page of any file quickly, as a terminal would have shown it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import lossbook
from lossbook.errors import BadArgument, StoreError
from lossbook.paths import RunFolder
from lossbook.reading import console as console_module, console_file
from lossbook.reading.ansi import ConsoleSpan, show_line
from lossbook.reading.console import follow_console, list_consoles, read_console, search_console


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run" / "console").mkdir(parents=True)
    return RunFolder(str(tmp_path / "run"))


def write(folder: RunFolder, raw: bytes, rank: int = 0, mode: str = "wb") -> None:
    with open(os.path.join(folder.console, f"r{rank}.log"), mode) as file:
        file.write(raw)


def texts(page: console_module.ConsolePage | console_module.ConsoleMatches) -> list[str]:
    return [line.text for line in page.lines]


# -- a line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        (b"windows\r", "windows"),
        (b" 10%|#  |\r 50%|## |\r100%|###|", "100%|###|"),
        (b"a longer line\rshort", "shortger line"),
        (b"a longer line\r\x1b[Kshort", "short"),
        (b"a longer line\x1b[2K\rshort", "short        "),
        (b"oops\b\b\b\bfine", "fine"),
        (b"a\x1b[3Cb", "a   b"),
        (b"abc\x1b[1Gx", "xbc"),
        (b"abc\x1b[2Dx", "axc"),
        (b"\x1b]0;a title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"bell\x07 and null\x00", "bell and null"),
        (b"\x1b[999999999Cx", " x"),
        (b"tab\tstays", "tab\tstays"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (b"\x1b", ""),
        (b"\x1b[", ""),
        (b"<b>no markup</b>", "<b>no markup</b>"),
    ],
)
def test_a_line_is_what_a_terminal_shows_in_the_end(raw: bytes, shown: str) -> None:
    assert show_line(raw)[0] == shown


def test_colours_are_spans_beside_the_text() -> None:
    text, spans = show_line(b"a \x1b[1;31mred\x1b[0m \x1b[92mok\x1b[39m \x1b[38;5;208mx\x1b[0m\x1b[48;2;1;2;3my\x1b[m")
    assert text == "a red ok xy"
    assert spans == (
        ConsoleSpan(2, 5, "bold red"),
        ConsoleSpan(6, 8, "bright-green"),
        ConsoleSpan(9, 10, "#ff8700"),
        ConsoleSpan(10, 11, "on-#010203"),
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"\x1b", b"[", b"m", b"38;5", b";", b"1", b"K", b"\r", b"\b", b"x", b"\xff", b"]", b"G"]))
    | st.binary(max_size=40)
)
def test_no_line_holds_a_control_character(raw: bytes | list[bytes]) -> None:
    joined = raw if isinstance(raw, bytes) else b"".join(raw)
    text, spans = show_line(joined.replace(b"\n", b""))
    assert all(character == "\t" or (character >= " " and not "\x7f" <= character <= "\x9f") for character in text)
    assert all(0 <= span.start < span.end <= len(text) and span.style for span in spans)


# -- pages --------------------------------------------------------------------------------------------------------


def test_the_end_and_any_page_by_line(folder: RunFolder) -> None:
    write(folder, b"".join(b"line %d\n" % number for number in range(100_000)))
    end = read_console(folder, lines=3)
    assert texts(end) == ["line 99997", "line 99998", "line 99999"]
    assert (end.first_line, end.total_lines, end.at_end) == (99_997, 100_000, True)
    page = read_console(folder, start_line=54_321, lines=2)
    assert texts(page) == ["line 54321", "line 54322"]
    assert ([line.number for line in page.lines], page.at_end) == ([54_321, 54_322], False)
    assert texts(follow_console(folder, 0, page.next_offset, lines=1)) == ["line 54323"]
    beyond = read_console(folder, start_line=100_000)
    assert (beyond.lines, beyond.at_end) == ((), True)


def test_a_large_file_s_end_is_shown_without_counting_its_lines(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_file, "COUNTED_BYTES", 1000)
    write(folder, b"some line\n" * 100_000)
    end = read_console(folder, lines=2)
    assert (texts(end), end.first_line, end.total_lines) == (["some line"] * 2, None, None)
    assert read_console(folder, start_line=99_999).lines[0].number == 99_999
    assert read_console(folder, lines=2).first_line == 99_998


def test_what_is_printed_is_followed_and_an_unfinished_line_is_read_again(folder: RunFolder) -> None:
    write(folder, b"one\n 10%")
    page = read_console(folder)
    assert texts(page) == ["one", " 10%"]
    assert [line.is_whole for line in page.lines] == [True, False]
    assert page.next_offset == 4
    write(folder, b"\r 50%", mode="ab")
    page = follow_console(folder, 0, page.next_offset)
    assert (texts(page), page.lines[0].is_whole, page.first_line) == ([" 50%"], False, 1)
    write(folder, b"\r100%\nthree\n", mode="ab")
    page = follow_console(folder, 0, page.next_offset)
    assert texts(page) == ["100%", "three"]
    assert follow_console(folder, 0, page.next_offset).lines == ()


def test_a_file_that_was_begun_again_is_read_from_its_beginning(folder: RunFolder) -> None:
    write(folder, b"old\n" * 100)
    offset = read_console(folder).next_offset
    os.unlink(os.path.join(folder.console, "r0.log"))
    write(folder, b"new\n")
    assert texts(follow_console(folder, 0, offset)) == ["new"]
    assert read_console(folder).total_lines == 1


def test_a_progress_bar_of_megabytes_is_one_short_line(folder: RunFolder) -> None:
    bar = b"".join(b"\r%7d/1000000 steps" % step for step in range(100_000))
    write(folder, b"before\n" + bar + b"\nafter\n" + bar)
    page = read_console(folder)
    assert texts(page) == ["before", "  99999/1000000 steps", "after", "  99999/1000000 steps"]
    assert [line.is_cut for line in page.lines] == [False] * 4
    assert not page.lines[-1].is_whole
    write(folder, b"\r 100000/1000000 steps\nend\n", mode="ab")
    assert texts(follow_console(folder, 0, page.next_offset)) == [" 100000/1000000 steps", "end"]


def test_a_line_too_long_to_show_is_cut(folder: RunFolder) -> None:
    write(folder, b"x" * 3_000_000 + b"\nshort\n")
    page = read_console(folder)
    assert [(len(line.text), line.is_cut) for line in page.lines] == [(65_536, True), (5, False)]


def test_the_last_lines_of_a_file_of_one_huge_line_are_that_line(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "TAIL_BYTES", 1000)
    write(folder, b"first\n" + b"y" * 5000 + b"\n")
    assert [line.text[:5] for line in read_console(folder, lines=5).lines] == ["yyyyy"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(st.text("ab \r\t", max_size=12), max_size=40),
    ends=st.booleans(),
    most=st.integers(1, 7),
    block=st.integers(1, 30),
)
def test_pages_one_behind_the_other_are_the_file(
    lines: list[str],
    ends: bool,
    most: int,
    block: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console_file, "BLOCK_BYTES", block)
    folder = RunFolder(str(tmp_path_factory.mktemp("run")))
    os.mkdir(folder.console)
    raw = "\n".join(lines) + ("\n" if ends and lines else "")
    write(folder, raw.encode())
    expected = [show_line(line.encode())[0] for line in raw.removesuffix("\n").split("\n")] if raw else []
    if raw == "\n" * len(raw):
        expected = [""] * len(raw)
    found: list[str] = []
    while True:
        page = read_console(folder, start_line=len(found), lines=most)
        assert page.total_lines == len(expected)
        assert [line.number for line in page.lines] == list(range(len(found), len(found) + len(page.lines)))
        found += texts(page)
        if page.at_end:
            break
    assert found == expected
    assert texts(read_console(folder, lines=most)) == expected[-most:]


# -- searching ----------------------------------------------------------------------------------------------------


def test_upper_and_lower_case_are_alike_and_what_is_shown_is_searched(folder: RunFolder) -> None:
    write(folder, "nothing\nCUDA Error\n\x1b[31mer\x1b[0mROR here\nerror\rfixed\nÉRREUR\nlast error".encode())
    assert texts(search_console(folder, 0, "error")) == ["CUDA Error", "erROR here", "last error"]
    assert texts(search_console(folder, 0, "érr")) == ["ÉRREUR"]
    assert [line.number for line in search_console(folder, 0, "ERROR").lines] == [1, 2, 5]


def test_a_search_goes_on_where_it_stopped(folder: RunFolder) -> None:
    write(folder, b"".join(b"match %d\n" % number if number % 3 == 0 else b"other\n" for number in range(3000)))
    found: list[int | None] = []
    offset: int | None = 0
    while offset is not None:
        matches = search_console(folder, 0, "match", offset=offset, most=7)
        assert len(matches.lines) <= 7
        found += [line.number for line in matches.lines]
        offset = matches.next_offset
    assert found == list(range(0, 3000, 3))


def test_a_search_stops_in_time_and_says_where_to_go_on(folder: RunFolder) -> None:
    write(folder, b"hay\n" * 1_000_000 + b"needle\n")
    matches = search_console(folder, 0, "needle", seconds=0.0)
    assert matches.lines == ()
    assert matches.next_offset == matches.searched_bytes
    assert 0 < matches.searched_bytes < matches.size_bytes
    while matches.next_offset is not None:
        matches = search_console(folder, 0, "needle", offset=matches.next_offset, seconds=0.0)
    assert texts(matches) == ["needle"]


# -- files --------------------------------------------------------------------------------------------------------


def test_a_run_that_printed_nothing_has_an_empty_page(folder: RunFolder) -> None:
    page = read_console(folder, 3)
    assert (page.lines, page.total_lines, page.at_end, page.size_bytes) == ((), 0, True, 0)
    assert search_console(folder, 3, "x").next_offset is None
    assert list_consoles(RunFolder(folder.path + "-none")) == []


def test_each_rank_has_its_own(folder: RunFolder) -> None:
    for rank in (10, 2, 0, -1):
        write(folder, b"%d\n" % rank, rank)
    (Path(folder.console) / "notes.txt").write_text("no console")
    assert [(one.rank, one.bytes) for one in list_consoles(folder)] == [(0, 2), (2, 2), (10, 3), (-1, 3)]
    assert texts(read_console(folder, 10)) == ["10"]


def test_a_link_out_of_the_store_is_not_followed(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", os.path.join(folder.console, "r0.log"))
    os.mkfifo(os.path.join(folder.console, "r1.log"))
    with pytest.raises(StoreError):
        read_console(folder, 0)
    with pytest.raises(StoreError, match="no file"):
        read_console(folder, 1)
    assert list_consoles(folder) == []


def test_what_cannot_be_meant_is_said(folder: RunFolder) -> None:
    write(folder, b"x\n")
    for wrong in (
        lambda: read_console(folder, lines=0),
        lambda: read_console(folder, start_line=-1),
        lambda: follow_console(folder, 0, -1),
        lambda: search_console(folder, 0, ""),
        lambda: search_console(folder, 0, "x", most=0),
    ):
        with pytest.raises(BadArgument):
            wrong()


def test_the_console_of_a_real_run_is_there_while_it_runs(store: Path) -> None:
    with lossbook.init(project="tests", store=store) as run:
        print("\x1b[32mstep 1\x1b[0m")
        page = read_console(RunFolder(run.path))
        assert "step 1" in texts(page)
    assert lossbook.open(store).run(run.id).state == "finished"
