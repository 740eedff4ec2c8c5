"""What the experiment log promises: figures are generated, and what a person wrote stays, wherever they moved it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.analysis.report import ReportEntry, entries_of_runs, write_report
from lossbook.errors import DamagedFile, StoreError

BASELINE = ReportEntry(
    "baseline",
    1_760_000_000.0,
    1_760_003_600.0,
    "finished",
    3600.0,
    {"lr": 3e-4, "seed": 1, "model": {"layers": 6}},
    {"best val loss": 2.5, "tokens/s": 41_000.0},
    "steady\nuntil 3000",
    "logs/experiment_baseline_1.json",
)
WIDE = replace(
    BASELINE,
    name="wide",
    started=1_760_010_000.0,
    config={"lr": 1e-4, "seed": 1, "model": {"layers": 6}},
    results={"best val loss": 2.25, "tokens/s": None},
    notes="",
    link="logs/experiment_wide_2.json",
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "EXPERIMENT_LOG.md"


def written(log: Path) -> str:
    return log.read_bytes().decode()


def table(log: Path) -> list[str]:
    """The first cell of each row of the table of results."""
    rows = re.findall(r"^\| (\S+) ", written(log), re.MULTILINE)
    return rows[2:]


def test_a_new_log_has_results_a_section_for_each_experiment_and_places_to_write_in(log: Path) -> None:
    assert write_report([WIDE, BASELINE], log) == str(log)
    text = written(log)
    for heading in ("# Experiment log", "## Results", "## Observations", "## Findings", "## Planned experiments"):
        assert f"{heading}\n" in text
    assert table(log) == ["wide", "baseline"]
    assert text.index("### baseline") < text.index("### wide")
    assert "finished, began 2025-10-09 08:53 UTC, ended 2025-10-09 09:53 UTC, took 1h 00m." in text
    assert "- lr: 0.0003\n" in text
    assert "seed" not in text
    assert "> steady\n> until 3000\n" in text
    assert "- best val loss: 2.25\n" in text


def test_a_refresh_brings_figures_up_to_date_and_leaves_every_other_byte(log: Path) -> None:
    write_report([BASELINE], log)
    mine = "\n\nI think that the *learning rate* is too high.  \n\tno tidying | here\n\n\n"
    text = written(log)
    changed = text.replace("## Findings\n", f"## What we know{mine}", 1)
    changed = changed.replace("<!-- lossbook:next", "about the baseline:\xa0kept — naïve\n<!-- lossbook:next")
    log.write_bytes(changed.encode())
    write_report([replace(BASELINE, results={"best val loss": 2.0}, notes="")], log)
    after = written(log)
    assert f"## What we know{mine}" in after
    assert "- best val loss: 2\n" in after
    assert "steady" not in after

    def by_hand(text: str) -> str:
        return re.sub(r"(lossbook:begin[^\n]*\n).*?(<!-- lossbook:end)", r"\1\2", text, flags=re.DOTALL)

    assert by_hand(after) == by_hand(changed)


def test_a_refresh_that_changes_nothing_does_not_touch_the_file(log: Path) -> None:
    write_report([BASELINE, WIDE], log)
    os.utime(log, (1, 1))
    write_report([WIDE, BASELINE], log)
    assert log.stat().st_mtime == 1


def test_new_experiments_are_put_below_the_last_and_parts_stay_where_a_person_moved_them(log: Path) -> None:
    write_report([BASELINE], log)
    begin = written(log).index("<!-- lossbook:begin logs/")
    end = written(log).index("<!-- lossbook:end logs/")
    end = written(log).index("\n", end) + 1
    section = written(log)[begin:end]
    moved = section + "my words\n\n" + written(log)[:begin] + written(log)[end:] + "\n## Appendix\n\nlast words\n"
    log.write_text(moved)
    write_report([BASELINE, WIDE], log)
    after = written(log)
    assert after.startswith(section.split("\n")[0])
    assert after.index("### baseline") < after.index("my words") < after.index("# Experiment log")
    assert after.index("### wide") < after.index("lossbook:next") < after.index("## Appendix")
    assert after.endswith("last words\n")


def test_an_experiment_that_is_gone_keeps_its_section_and_leaves_the_table(log: Path) -> None:
    write_report([BASELINE, WIDE], log)
    end = "<!-- lossbook:end logs/experiment_wide_2.json -->\n"
    log.write_text(written(log).replace(end, f"{end}my view of it\n"))
    for _ in range(2):
        write_report([BASELINE], log)
        assert table(log) == ["baseline"]
        assert written(log).count("Not among the experiments of the last refresh") == 1
        assert "my view of it" in written(log)
        assert "- best val loss: 2.25\n" in written(log)
    write_report([BASELINE, WIDE], log)
    assert "Not among" not in written(log)
    assert table(log) == ["wide", "baseline"]


def test_a_renamed_experiment_and_a_moved_folder_keep_their_section(log: Path) -> None:
    write_report([replace(BASELINE, link="/old/place/logs/experiment_baseline_1.json")], log)
    log.write_text(written(log).replace("<!-- lossbook:next", "mine\n<!-- lossbook:next"))
    write_report([replace(BASELINE, name="adamw", link="elsewhere/logs/experiment_baseline_1.json")], log)
    assert "### adamw\n" in written(log)
    assert "### baseline" not in written(log)
    assert written(log).count("lossbook:begin logs/experiment_baseline_1.json") == 1


def test_experiments_of_one_name_without_a_link_have_a_section_each(log: Path) -> None:
    twin = replace(BASELINE, link="", config={"lr": 1.0})
    write_report([replace(BASELINE, link=""), twin], log)
    assert written(log).count("### baseline\n") == 2
    before = written(log)
    write_report([replace(BASELINE, link=""), twin], log)
    assert written(log) == before


_BEGIN = "<!-- lossbook:begin results (generated: write outside of it) -->"
_END = "<!-- lossbook:end results -->"


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        pytest.param(f"{_END}\n", "", _BEGIN, id="an end that was deleted"),
        pytest.param(f"{_BEGIN}\n", "", _END, id="a beginning that was deleted"),
        pytest.param(
            _END, "<!-- lossbook:end result -->", "<!-- lossbook:end result -->", id="an end that was renamed"
        ),
        pytest.param(_END, "<!-- lossbook:end results", "<!-- lossbook:end results", id="an end that was cut"),
        pytest.param(_BEGIN, "<!-- lossbook:results -->", "<!-- lossbook:results -->", id="a word that is missing"),
        pytest.param("## Findings", "## Findings\n<!-- lossbook:next x -->", "<!-- lossbook:next (", id="two places"),
        pytest.param("## Findings", f"{_BEGIN} \n{_END}", f"{_BEGIN} ", id="two parts of one name"),
        pytest.param(_END, f"<!-- lossbook:next -->\n{_END}", "<!-- lossbook:next -->", id="a marker inside a part"),
    ],
)
def test_a_damaged_marker_is_named_by_its_line_and_nothing_is_changed(
    log: Path, good: str, bad: str, named: str
) -> None:
    write_report([BASELINE, WIDE], log)
    damaged = written(log).replace(good, bad, 1)
    log.write_text(damaged)
    line = next(at for at, text in enumerate(damaged.split("\n"), 1) if text.startswith(named))
    with pytest.raises(DamagedFile, match=rf"EXPERIMENT_LOG.md line {line}:"):
        write_report([BASELINE], log)
    assert written(log) == damaged


def test_a_log_that_was_written_by_hand_gets_its_generated_parts_and_keeps_the_rest(log: Path) -> None:
    log.write_text("# My log\n\nwords of mine")
    write_report([BASELINE], log)
    after = written(log)
    assert after.startswith("# My log\n\n## Results\n\n<!-- lossbook:begin results")
    assert "\nwords of mine\n" in after
    assert after.index("words of mine") < after.index("### baseline")
    write_report([BASELINE], log)
    assert written(log) == after


def test_windows_line_ends_stay(log: Path) -> None:
    write_report([BASELINE], log)
    log.write_bytes(written(log).replace("\n", "\r\n").encode())
    write_report([BASELINE, WIDE], log)
    assert log.read_bytes().count(b"\n") == log.read_bytes().count(b"\r\n")
    before = log.read_bytes()
    write_report([BASELINE, WIDE], log)
    assert log.read_bytes() == before


def test_what_was_noted_cannot_be_taken_for_a_marker(log: Path) -> None:
    hostile = replace(
        BASELINE,
        name="a # *b*\n<!-- lossbook:end results -->",
        notes="<!-- lossbook:end results -->\n# loud",
        config={"x": "<!-- lossbook:next -->"},
        link="logs/--> lossbook.json",
    )
    write_report([hostile], log)
    before = written(log)
    write_report([hostile], log)
    assert written(log) == before
    assert "> &lt;!-- lossbook:end results -->" in before
    assert "### a # \\*b\\* \\<!-- lossbook:end results --\\>" in before


def test_a_file_that_is_no_text_and_a_folder_are_refused(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(DamagedFile, match=r"line 2: .*UTF-8"):
        write_report([BASELINE], log)
    with pytest.raises(StoreError, match="no ordinary file"):
        write_report([BASELINE], tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        write_report([BASELINE], tmp_path / "missing" / "log.md")


def test_the_file_behind_a_symbolic_link_is_the_one_that_is_refreshed(log: Path, tmp_path: Path) -> None:
    write_report([BASELINE], log)
    link = tmp_path / "link.md"
    link.symlink_to(log)
    write_report([BASELINE, WIDE], link)
    assert link.is_symlink()
    assert "### wide" in written(log)


def test_what_an_editor_saves_while_a_refresh_is_at_work_is_kept(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.analysis import report

    write_report([BASELINE], log)
    made = report.refreshed
    saves = iter(["saved in between\n"])

    def refresh_slowly(*arguments: object) -> bytes:
        contents = made(*arguments)  # type: ignore[arg-type]
        for words in saves:
            log.write_text(written(log) + words)
        return contents

    monkeypatch.setattr(report, "refreshed", refresh_slowly)
    write_report([BASELINE, WIDE], log)
    assert written(log).endswith("saved in between\n")
    assert "### wide" in written(log)


def test_a_log_of_no_experiments_says_so(log: Path) -> None:
    write_report([], log)
    assert "No experiment has been recorded yet." in written(log)


def test_recorded_runs_are_entries_with_their_losses_and_notes(store: Path, log: Path) -> None:
    run = WrittenRun(store / "tests" / "one", name="one", notes="first try", config={"lr": 1}, created=BEGIN)
    run.segment(
        [{"train_loss": 3.0, "val_loss": 4.0, "tokens": 512.0}, ("note", {"text": "a spike"}), {"train_loss": 2.0}],
        end="finished",
    )
    with lossbook.init(store=store, project="tests", name="two", console=False, system_metrics=False) as live:
        live.log({"train/loss": 1.0}, step=0)
        live.sync()
        entries = {entry.name: entry for entry in entries_of_runs(lossbook.open(store).runs())}
        assert entries["two"].state == "running"
        assert entries["two"].ended is None
        assert abs((entries["two"].started or 0) - time.time()) < 60
    one = entries["one"]
    assert one.notes == "first try\na spike"
    assert (one.results["best val loss"], one.results["final train loss"], one.results["tokens"]) == (4.0, 2.0, 512)
    assert one.link.endswith("tests/one")
    write_report([one], log)
    assert "<!-- lossbook:begin tests/one (" in written(log)
    assert "Recorded in `store/tests/one`." in written(log)
