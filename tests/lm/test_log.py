"""A JSON log says what its run has; and whatever state a log is in, what can be read of it is read."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import lossbook
from lossbook.errors import BadArgument, DamagedFile
from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker, MetricsSnapshot, load_experiment_log

#: Written by hand, in the format of the original course code and in states that people's logs are in.
LOGS = Path(__file__).parent / "logs"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def logged(store: Path, count: int = 3, **named: Any) -> ExperimentTracker:
    """An experiment that ran and was not saved yet."""
    config = ExperimentConfig(experiment_name="one", track_memory=False, max_iters=count, max_learning_rate=6e-4)
    tracker = ExperimentTracker(config, store=store, project="p", **named).start()
    for iteration in range(count):
        tracker.log_metrics(
            iteration=iteration, train_loss=4.0 - iteration, learning_rate=6e-4, tokens_per_sec=1024.5, iter_time_ms=2.5
        )
        tracker.increment_gradient_step()
    return tracker


# -- as it is written ---------------------------------------------------------------------------------------------


def test_the_file_has_the_fields_and_columns_that_its_readers_know(store: Path, tmp_path: Path) -> None:
    tracker = logged(store)
    tracker.log_eval(iteration=2, train_loss=2.5, val_loss=2.75)
    tracker.finish(train_loss=2.25, val_loss=2.5, notes="a note")
    path = tracker.save()
    assert path.parent == Path("experiment_logs")
    assert re.fullmatch(r"experiment_one_\d{8}_\d{6}\.json", path.name)
    written = json.loads(path.read_text())
    assert list(written) == [
        "config",
        "start_time",
        "end_time",
        "duration_seconds",
        "best_train_loss",
        "best_val_loss",
        "final_train_loss",
        "final_val_loss",
        "metrics_history",
        "notes",
        "run",
    ]
    assert list(written["metrics_history"][0]) == [
        "iteration",
        "gradient_step",
        "wallclock_time",
        "train_loss",
        "val_loss",
        "learning_rate",
        "tokens_per_sec",
        "iter_time_ms",
    ]
    first, evaluation = written["metrics_history"][0], written["metrics_history"][-1]
    assert first | {"wallclock_time": None} == {
        "iteration": 0,
        "gradient_step": 1,
        "wallclock_time": None,
        "train_loss": 4.0,
        "val_loss": None,
        "learning_rate": 6e-4,
        "tokens_per_sec": 1024.5,
        "iter_time_ms": 2.5,
    }
    assert (evaluation["iteration"], evaluation["train_loss"], evaluation["val_loss"]) == (2, 2.5, 2.75)
    assert evaluation["learning_rate"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", written["start_time"])
    assert written["start_time"] < written["end_time"]
    assert (written["best_train_loss"], written["final_train_loss"]) == (2.0, 2.25)
    assert (written["best_val_loss"], written["final_val_loss"]) == (2.5, 2.5)
    assert written["config"]["max_iters"] == written["config"]["num_iterations"] == 3
    assert written["run"]["path"] == tracker.run.path


def test_it_is_json_to_the_strictest_reader_and_comes_back_bit_for_bit(store: Path) -> None:
    losses = [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1 + 0.2]
    tracker = ExperimentTracker(
        ExperimentConfig(
            experiment_name="odd", grad_clip=math.inf, extra={"rates": [math.nan], "at": Path("x"), "big": 2**70}
        ),
        store=store,
    ).start()
    for iteration, loss in enumerate(losses):
        tracker.log_metrics(iteration=iteration, train_loss=loss)
    tracker.finish(val_loss=math.nan)
    text = tracker.save().read_text()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads(text, parse_constant=refuse)
    log = load_experiment_log(tracker.log_path)
    read = [one.train_loss for one in log.metrics_history]
    assert [repr(loss) for loss in read] == [repr(loss) for loss in losses]
    assert math.isnan(log.final_val_loss or 0.0)
    assert (log.config.extra["at"], log.config.grad_clip) == ("x", math.inf)
    assert log.problems == []


def test_it_may_be_saved_at_any_time_and_is_replaced_in_one_step(store: Path) -> None:
    tracker = logged(store)
    path = tracker.save()
    before = path.read_bytes()
    assert load_experiment_log(path).end_time is None
    with path.open("rb") as reader:
        tracker.finish()
        assert tracker.save() == path
        assert reader.read() == before, "who reads the one that was there reads it whole"
    assert load_experiment_log(path).end_time is not None
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_log_that_cannot_be_written_leaves_the_one_that_was_there(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = logged(store)
    path = tracker.save()
    before = path.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lossbook.lm.log_writer.os.fsync", fail)
    assert tracker.save() == path
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()


def test_the_csv_has_the_same_columns(store: Path, tmp_path: Path) -> None:
    tracker = logged(store)
    tracker.finish()
    tracker.save()
    analyzer = ExperimentAnalyzer()
    analyzer.load_all()
    path = analyzer.export_csv("one")
    assert path == Path("experiment_logs/one_metrics.csv")
    lines = path.read_text().splitlines()
    assert (
        lines[0]
        == "iteration,gradient_step,wallclock_time,train_loss,val_loss,learning_rate,tokens_per_sec,iter_time_ms"
    )
    assert lines[1].split(",")[3:] == ["4.0", "", "0.0006", "1024.5", "2.5"]
    assert len(lines) == 4


def test_rows_that_a_resume_went_back_beyond_are_not_in_it(store: Path) -> None:
    first = logged(store, 5)
    state = first.state_dict() | {"iteration": 2, "gradient_steps": 3}
    first.finish()
    second = ExperimentTracker(first.config, store=store, project="p")
    second.load_state_dict(state)
    for iteration in (3, 4, 5):
        second.log_metrics(iteration=iteration, train_loss=float(iteration))
        second.increment_gradient_step()
    second.finish()
    history = load_experiment_log(second.save()).metrics_history
    assert [(one.iteration, one.gradient_step) for one in history] == [(number, number + 1) for number in range(6)]


def test_nor_are_those_that_an_attempt_logged_again_which_never_said_where_it_began(store: Path) -> None:
    first = logged(store, 5)
    first.log_eval(iteration=4, val_loss=9.0)
    first.finish()
    second = ExperimentTracker(first.config, store=store, project="p", run_id=first.run.id)
    second.log_validation(val_loss=8.0)
    for iteration in (3, 4, 5):
        second.log_metrics(iteration=iteration, train_loss=float(iteration))
    second.finish()
    history = load_experiment_log(second.save()).metrics_history
    assert [one.iteration for one in history if one.train_loss is not None] == [0, 1, 2, 3, 4, 5]
    assert [one.val_loss for one in history if one.val_loss is not None] == [8.0]


def test_a_run_that_was_sealed_reads_as_it_did_before(store: Path) -> None:
    from lossbook.paths import RunFolder
    from lossbook.storage.compaction import seal_run

    tracker = logged(store, 20)
    tracker.finish()
    live = load_experiment_log(tracker.save()).metrics_history
    seal_run(RunFolder(tracker.run.path), finished=True)
    assert load_experiment_log(tracker.save()).metrics_history == live
    assert len(live) == 20


# -- through its run ----------------------------------------------------------------------------------------------


def test_the_log_of_an_experiment_that_never_saved_is_read_through_its_run(store: Path) -> None:
    tracker = logged(store)
    tracker.log_eval(iteration=2, val_loss=3.5)
    log = load_experiment_log(tracker.log_path)
    assert json.loads(tracker.log_path.read_text())["metrics_history"] == []
    assert [one.train_loss for one in log.metrics_history] == [4.0, 3.0, 2.0, None]
    assert (log.best_train_loss, log.best_val_loss, log.final_val_loss) == (2.0, 3.5, 3.5)
    assert log.duration_seconds == log.metrics_history[-1].wallclock_time
    assert log.end_time is None
    tracker.finish()


def test_logs_and_store_moved_together_still_know_each_other(tmp_path: Path) -> None:
    tracker = logged(tmp_path / "here" / "lossbook-runs", log_dir=tmp_path / "here" / "experiment_logs")
    tracker.finish()
    shutil.move(tmp_path / "here", tmp_path / "there")
    (path,) = (tmp_path / "there" / "experiment_logs").glob("*.json")
    assert len(load_experiment_log(path).metrics_history) == 3


def test_without_its_run_the_log_says_what_it_has(store: Path) -> None:
    tracker = logged(store)
    tracker.finish()
    shutil.rmtree(store)
    log = load_experiment_log(tracker.log_path)
    assert log.metrics_history == []
    assert (log.best_train_loss, log.final_train_loss) == (2.0, 2.0)


def test_a_log_whose_run_is_damaged_says_so(store: Path) -> None:
    tracker = logged(store)
    tracker.finish()
    (Path(tracker.run.path) / "run.json").write_text("{")
    log = load_experiment_log(tracker.log_path)
    assert log.metrics_history == []
    assert len(log.problems) == 1
    assert "its run cannot be read" in log.problems[0]


# -- as other programs and people left it -------------------------------------------------------------------------


def test_a_whole_log_of_the_original_code() -> None:
    log = load_experiment_log(LOGS / "whole.json")
    assert log.problems == []
    assert (log.name, log.duration_seconds, log.notes) == (
        "baseline_tinystories",
        615.530865,
        "Baseline experiment with default hyperparameters",
    )
    assert (log.best_train_loss, log.best_val_loss, log.final_train_loss, log.final_val_loss) == (
        2.1234,
        2.3456,
        2.0987,
        2.321,
    )
    assert log.start_time == "2025-02-22T14:05:30.123456"
    assert log.metrics_history[1] == MetricsSnapshot(99, 100, 150.5, 4.5678, None, 0.000594, 108860.9, 150.504)
    assert log.metrics_history[1].tokens_per_sec == 108860.9
    assert (log.config.num_iterations, log.config.learning_rate, log.config.d_ff) == (400, 6e-4, 1344)
    assert log.config.extra == {}


def test_one_that_never_ended() -> None:
    log = load_experiment_log(LOGS / "unfinished.json")
    (problem,) = log.problems
    assert problem.endswith("unfinished.json: end_time is missing; the experiment may not have finished")
    assert (log.best_train_loss, log.final_train_loss, log.best_val_loss) == (8.8, 8.8, 9.0)
    assert log.duration_seconds == 1.0


def test_one_with_the_infinities_that_python_writes() -> None:
    log = load_experiment_log(LOGS / "diverged.json")
    assert log.problems == []
    assert math.isnan(log.final_train_loss or 0.0)
    assert log.best_val_loss == math.inf
    assert [repr(one.train_loss) for one in log.metrics_history] == ["9.3", "inf", "nan"]


def test_one_that_was_edited_by_hand() -> None:
    log = load_experiment_log(LOGS / "edited.json")
    assert log.name == "edited_by_hand"
    assert (log.config.d_model, log.config.max_learning_rate, log.config.num_layers) == (512, 6e-4, None)
    assert log.config.extra == {"positional": "rope", "num_layers_as_written": -6}
    assert log.config.tags == ["redo", "baseline"]
    assert log.start_time == "2025-02-25 08:30"
    assert (log.end_time, log.duration_seconds, log.best_val_loss) == (None, 615.5, 4.5)
    assert log.notes == "['two', 'notes']"
    assert [(one.iteration, one.gradient_step) for one in log.metrics_history] == [(0, 1), (1, 2), (2, 3)]
    assert [one.train_loss for one in log.metrics_history] == [4.5, 4.25, None]
    assert math.isnan(log.metrics_history[0].val_loss or 0.0)
    said = [problem.split("edited.json:", 1)[1].strip() for problem in log.problems]
    assert said == [
        "1: comments or commas that JSON does not know were passed over",
        "num_layers must be 1 or more, not -6; it is kept aside as num_layers_as_written",
        "entry 1 of metrics_history has a learning_rate that is no number",
        "entry 1 of metrics_history has no gradient_step; one for each iteration is taken",
        "2 entries of metrics_history, the first of them number 1, have no wallclock_time",
        "entry 2 of metrics_history is no object",
        "entry 3 of metrics_history has a wallclock_time that is no number",
        "entry 3 of metrics_history has a train_loss that is no number",
        "entry 3 of metrics_history has no iteration; it is numbered on",
        "end_time is no ISO 8601 time: 'in the evening'",
        "best_val_loss is no number: 'about 2.3'",
    ]


def test_one_without_a_configuration_is_called_after_its_file() -> None:
    log = load_experiment_log(LOGS / "config_missing.json")
    assert log.name == "config_missing"
    assert "the configuration is missing; the experiment is called after its file" in log.problems[0]
    assert (log.final_train_loss, log.best_val_loss, log.duration_seconds) == (3.0, 3.25, 2.0)


def test_one_without_a_history_has_its_figures_still() -> None:
    log = load_experiment_log(LOGS / "history_missing.json")
    assert (log.best_val_loss, log.final_val_loss, log.metrics_history) == (2.75, 2.875, [])
    assert log.config.extra == {"heads": 8, "extra_as_written": "none", "max_iters_as_written": 0}
    said = " ".join(log.problems)
    for words in (
        "metrics_history is missing; there are no curves",
        "start_time is no ISO 8601 time: 20250227",
        "max_iters must be 1 or more, not 0",
    ):
        assert words in said


def test_one_that_was_cut_off_in_the_middle() -> None:
    log = load_experiment_log(LOGS / "truncated.json")
    assert log.name == "truncated"
    assert [one.iteration for one in log.metrics_history] == [0, 99, 99, 399]
    assert log.metrics_history[-1].train_loss == 2.1234
    line = (LOGS / "truncated.json").read_text().count("\n") + 1
    assert re.search(rf"truncated\.json:{line}: the text ends or is damaged here", log.problems[0])


@pytest.mark.parametrize(
    "name", ["whole.json", "unfinished.json", "diverged.json", "edited.json", "config_missing.json"]
)
def test_every_beginning_of_a_log_loads_or_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    contents = (LOGS / name).read_bytes()
    whole = load_experiment_log(LOGS / name)
    path = tmp_path / name
    seen = 0
    for length in range(0, len(contents) + 1, 1 if len(contents) < 1500 else 3):
        path.write_bytes(contents[:length])
        try:
            log = load_experiment_log(path)
        except DamagedFile as error:
            assert re.match(rf"{re.escape(str(path))}(:\d+: | is empty)", str(error))
            assert not seen, "what was readable stays readable when more is there"
            continue
        if contents[:length].strip() != contents.strip():
            assert any(re.match(rf"{re.escape(str(path))}:\d+: the text ends", problem) for problem in log.problems)
        # No row is invented, and none is lost that was whole.
        read = [(one.iteration, repr(one.train_loss)) for one in log.metrics_history[:-1]]
        assert read == [(one.iteration, repr(one.train_loss)) for one in whole.metrics_history[: len(read)]]
        assert len(log.metrics_history) >= seen
        seen = len(log.metrics_history)
    assert seen == len(whole.metrics_history)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", " is empty: nothing was written to it"),
        (b"\n \n", " is empty"),
        (b"\x00" * 64, ":1: this is no JSON"),
        (b"[1, 2]", ":1: an experiment log is a JSON object, not list"),
        (b'{"metrics": {}}', ":1: this is no experiment log: it has neither config nor metrics_history"),
        (b"once upon a time", ":1: this is no JSON"),
        (b"[" * 100_000, ":1: "),
        (b'{"config":' * 50_000, ":1: "),
        (b"\xff\xfe{\x00}\x00", ":1: "),
    ],
)
def test_what_is_no_log_is_refused_with_file_and_line(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(contents)
    with pytest.raises(DamagedFile) as refused:
        load_experiment_log(path)
    assert str(refused.value).startswith(f"{path}{words}")
    assert len(str(refused.value)) < 300


def test_a_log_that_is_not_there_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="there is no experiment log"):
        load_experiment_log(tmp_path / "none.json")
    with pytest.raises(DamagedFile, match="cannot be read"):
        load_experiment_log(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"gradient_step": 400,', '"gradient_step": 400', 1),  # a comma too few
        lambda text: text + text,  # appended to
        lambda text: text.replace("4.5678", "4.56.78"),
        lambda text: text.replace('"notes": "', '"notes": '),
        lambda text: text.replace("null", "None"),
    ],
)
def test_what_stands_before_the_damage_is_read(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(damage((LOGS / "whole.json").read_text()))
    log = load_experiment_log(path)
    assert log.name == "baseline_tinystories"
    assert log.config.d_model == 512
    assert re.match(rf"{re.escape(str(path))}:\d+: ", log.problems[0])


def test_other_encodings_and_marks_are_read_and_named(tmp_path: Path) -> None:
    text = (LOGS / "whole.json").read_text().replace("Baseline experiment", "Größe")
    (tmp_path / "mark.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_experiment_log(tmp_path / "mark.json").notes.startswith("Größe")
    (tmp_path / "latin.json").write_bytes(text.encode("latin-1"))
    log = load_experiment_log(tmp_path / "latin.json")
    assert len(log.metrics_history) == 5
    line = text.split("Größe", maxsplit=1)[0].count("\n") + 1
    assert log.problems[0].startswith(f"{tmp_path / 'latin.json'}:{line}: this is no UTF-8")


def test_absurd_numbers_cost_themselves_and_not_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    huge = "9" * 400
    entry = f'{{"iteration": {huge}, "gradient_step": {huge}, "wallclock_time": -1e999, "train_loss": {huge}, "val_loss": NaN}}'
    path.write_text(
        f'{{"config": {{"d_model": {huge}, "seed": 1e400, "experiment_name": 5}}, "start_time": "9999-99-99",'
        f' "duration_seconds": {huge}, "best_val_loss": true, "metrics_history": [{entry}], "run": {{"path": 5}}}}'
    )
    log = load_experiment_log(path)
    assert log.name == "a"
    assert len(log.metrics_history) == 1
    assert len(log.problems) >= 4
    path.write_text('{"config": {}, "metrics_history": [], "notes": ' + "9" * 5000 + "}")
    assert load_experiment_log(path).notes == "inf", "Python itself refuses to read a number of that length"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["NaN", "3", "-Infinity"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["config", "start_time", "end_time", "duration_seconds", "best_val_loss", "metrics_history", "notes", "run"]
ENTRIES = st.dictionaries(st.sampled_from(MetricsSnapshot._fields), values)
CONFIGS = st.dictionaries(
    st.sampled_from(["experiment_name", "d_model", "max_iters", "num_iterations", "tags", "extra", "d"]), values
)


@given(
    log=st.dictionaries(st.sampled_from(FIELDS), values),
    history=st.none() | st.lists(values | ENTRIES, max_size=4),
    config=st.none() | CONFIGS,
)
def test_any_json_loads_with_its_problems_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, log: dict[str, Any], history: Any, config: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    log |= {"metrics_history": history} if history is not None else {}
    log |= {"config": config} if config is not None else {}
    path.write_text(json.dumps(log))
    try:
        loaded = load_experiment_log(path)
    except DamagedFile:
        return
    assert loaded.started is None or loaded.started
    for one in loaded.metrics_history:
        assert type(one.iteration) is int
        assert type(one.gradient_step) is int
        assert all(value is None or type(value) in (int, float) for value in one)


def test_every_one_of_them_feeds_the_analyzer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analyzer = ExperimentAnalyzer(LOGS)
    analyzer.load_all()
    assert sorted(analyzer.logs) == [
        "baseline_tinystories",
        "config_missing",
        "diverged",
        "edited_by_hand",
        "history_missing",
        "truncated",
        "unfinished",
    ]
    table = analyzer.get_comparison_table()
    order = [line.split()[0] for line in table.splitlines()[2:]]
    assert order[0] == "baseline_tinystories"
    assert order[-1] == "diverged"
    assert analyzer.get_best_experiment("val_loss") == ("baseline_tinystories", 2.3456)
    for name in analyzer.logs:
        analyzer.get_summary_stats(name)
        analyzer.print_summary(name)
        analyzer.export_csv(name, tmp_path / f"{name}.csv")
    assert "the text ends or is damaged here" in capsys.readouterr().out


def test_a_log_of_the_original_code_gives_the_configuration_to_go_on_with(store: Path) -> None:
    old = load_experiment_log(LOGS / "whole.json")
    tracker = ExperimentTracker(old.config, store=store)
    tracker.load_from_file(LOGS / "whole.json")
    tracker.start()
    tracker.log_metrics(iteration=400, train_loss=2.0)
    tracker.finish()
    assert tracker.gradient_steps == 400
    assert tracker.tokens_seen == 401 * 64 * 256
    (run,) = lossbook.open(store).runs()
    assert run.name == "baseline_tinystories"
    assert tracker.wallclock_seconds >= 615.5
    assert load_experiment_log(LOGS / "whole.json").problems == []
