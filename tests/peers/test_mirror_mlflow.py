"""The MLflow mirror, read back with MLflow's own client. The store is MLflow's default, an SQLite file."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from driving_mirrors import CREATED, deliver_through_kills, drive, ending, other, scalars, subject

import lossbook
from lossbook.trackers.mirror import LoggedRow, MirrorSettings, MirrorUnavailable
from lossbook.trackers.mlflow.entries import DistinctTimes, safe_key
from lossbook.trackers.mlflow.mirror import METRICS_A_BATCH, MlflowMirror

pytest.importorskip("mlflow")
pytest.importorskip("alembic")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes more than a second to make one; each test begins with a copy."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def quiet_mlflow(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def mirror_of(home: Path, remote: dict[str, Any] | None = None, **settings: Any) -> MlflowMirror:
    return MlflowMirror(subject(home), MirrorSettings(cwd=str(home), **settings), {} if remote is None else remote)


def client_of(folder: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def remote_runs(client: Any, project: str = "lab") -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name(project).experiment_id]))


def history(client: Any, run_id: str, key: str) -> list[tuple[int, float, int]]:
    """(step, value, milliseconds since the run began) in the order of time."""
    found = [(m.step, m.value, m.timestamp - int(CREATED * 1000)) for m in client.get_metric_history(run_id, key)]
    return sorted(found, key=lambda one: one[2])


def test_a_run_arrives_with_its_name_configuration_tags_and_end(tmp_path: Path) -> None:
    (tmp_path / "run" / "console").mkdir(parents=True)
    (tmp_path / "run" / "console" / "r0.log").write_text("step 0\nstep 1\n")
    mirror = mirror_of(tmp_path)
    drive(mirror, [scalars(i, i, {"train/loss": 3.0 - i, "lr": 0.1}) for i in range(3)], ending())
    client = client_of(tmp_path)
    (run,) = remote_runs(client)
    assert run.info.run_name == "small run"
    assert run.info.status == "FINISHED"
    assert run.info.start_time == int(CREATED * 1000)
    assert run.info.end_time == int((CREATED + 60) * 1000)
    assert run.data.params == {"lr": "0.0003", "model.depth": "12"}
    tags = run.data.tags
    assert tags["group"] == "ratio-ablation"
    assert tags["ablation"] == tags["step-05"] == "true"
    assert tags["mlflow.note.content"] == "first try"
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert tags["mlflow.source.name"] == "train.py"
    assert tags["lossbook.state"] == "finished"
    assert history(client, run.info.run_id, "train/loss") == [(0, 3.0, 0), (1, 2.0, 1), (2, 1.0, 2)]
    printed = client.download_artifacts(run.info.run_id, "console/r0.log", str(tmp_path))
    assert Path(printed).read_text() == "step 0\nstep 1\n"


def test_a_group_and_a_tag_are_found_by_mlflows_search(tmp_path: Path) -> None:
    drive(mirror_of(tmp_path), [scalars(0, 0, {"loss": 1.0})])
    client = client_of(tmp_path)
    ids = [client.get_experiment_by_name("lab").experiment_id]
    assert len(client.search_runs(ids, "tags.group = 'ratio-ablation' and tags.ablation = 'true'")) == 1
    assert not client.search_runs(ids, "tags.group = 'another'")


def test_steps_may_go_backward_and_repeat_and_values_may_be_anything(tmp_path: Path) -> None:
    values = [1.5, float("nan"), 0.1 + 0.2, -1e-300, 7.0, 7.0]
    steps = [10, 5, 5, -3, 2**53 + 1, 2**53 + 1]
    drive(mirror_of(tmp_path), [scalars(i, steps[i], {"x": values[i]}) for i in range(6)])
    client = client_of(tmp_path)
    found = history(client, remote_runs(client)[0].info.run_id, "x")
    assert [step for step, _, _ in found] == steps
    assert [repr(value) for _, value, _ in found] == [repr(value) for value in values]
    assert [time for _, _, time in found] == list(range(6))


def test_equal_rows_of_one_millisecond_all_arrive(tmp_path: Path) -> None:
    at = int(CREATED * 1e6)
    rows = [LoggedRow(0, i, at + i, 1, None, None, {"x": 1.0, "y": float("nan")}, 0) for i in range(20)]
    drive(mirror_of(tmp_path), rows)
    client = client_of(tmp_path)
    run_id = remote_runs(client)[0].info.run_id
    assert len(history(client, run_id, "x")) == len(history(client, run_id, "y")) == 20


def test_infinities_are_the_largest_number_that_a_double_holds(tmp_path: Path) -> None:
    drive(mirror_of(tmp_path), [scalars(0, 0, {"up": math.inf, "down": -math.inf})])
    client = client_of(tmp_path)
    run = remote_runs(client)[0]
    assert (run.data.metrics["up"], run.data.metrics["down"]) == (sys.float_info.max, -sys.float_info.max)


def test_keys_that_mlflow_does_not_allow_are_changed_and_noted(tmp_path: Path) -> None:
    keys = ["loss@1", "loss#1", "a//b", "/a", "..", "x" * 400, "größe", "fine key: 1"]
    drive(mirror_of(tmp_path), [scalars(0, 0, {key: float(number) for number, key in enumerate(keys)})])
    client = client_of(tmp_path)
    run = remote_runs(client)[0]
    changed = {
        key[len("lossbook.key.") :]: value for key, value in run.data.tags.items() if key.startswith("lossbook.key.")
    }
    real = {changed.get(key, key): value for key, value in run.data.metrics.items()}
    assert real == {key: float(number) for number, key in enumerate(keys)}
    assert safe_key("größe") == "größe"
    assert safe_key("fine key: 1") == "fine key: 1"


def test_ranks_and_system_metrics_have_their_places(tmp_path: Path) -> None:
    rows = [
        scalars(0, 0, {"loss": 1.0}),
        scalars(0, 0, {"loss": 2.0}, rank=3),
        scalars(0, 0, {"child": 3.0}, rank=-2),
        LoggedRow(0, 1, int((CREATED + 30) * 1e6), None, None, None, {"system.gpu.0.temp": 61.0}, 0),
    ]
    drive(mirror_of(tmp_path), rows)
    client = client_of(tmp_path)
    run = remote_runs(client)[0]
    assert run.data.metrics == {"loss": 1.0, "loss/rank_3": 2.0, "child": 3.0, "system/gpu.0.temp": 61.0}
    assert history(client, run.info.run_id, "system/gpu.0.temp") == [(30, 61.0, 30000)]


def test_a_changed_parameter_keeps_its_first_value_and_the_later_one_is_a_tag(tmp_path: Path) -> None:
    rows = [
        other(0, "config", {"model": {"depth": 24}, "seed": 1, "long": "y" * 9000}),
        other(1, "config", {"seed": 2}),
        other(2, "config", {"seed": 1}),
    ]
    drive(mirror_of(tmp_path), rows)
    client = client_of(tmp_path)
    run = remote_runs(client)[0]
    assert run.data.params["model.depth"] == "12"
    assert run.data.tags["config.model.depth"] == "24"
    assert (run.data.params["seed"], run.data.tags["config.seed"]) == ("1", "1")
    assert run.data.params["long"] == "y" * 6000
    whole = json.loads(Path(client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))).read_text())
    assert whole == {"lr": 3e-4, "model": {"depth": 24}, "seed": 1, "long": "y" * 9000}


def test_texts_pictures_tables_and_what_mlflow_has_no_type_for_are_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    # `load_table` looks there, whatever its client was made for.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    media = tmp_path / "run" / "media"
    media.mkdir(parents=True)
    Image.new("RGB", (640, 320), "red").save(media / "ab.png")
    (media / "cd.json").write_text('{"columns":["a"],"rows":[[1],[2]]}')
    rows = [
        other(0, "text", {"text": "Once upon a time"}, key="sample/first", step=4),
        other(1, "image", {"file": "media/ab.png", "caption": "red"}, key="pictures/one", step=4),
        other(2, "table", {"columns": ["q", "a"], "rows": [["1+1", 2]]}, key="answers", step=4),
        other(3, "table", {"columns": ["a"], "count": 2, "file": "media/cd.json"}, key="large", step=4),
        other(4, "histogram", {"edges": [0.0, 1.0], "counts": [3]}, key="weights", step=4),
        other(5, "alert", {"title": "spike", "text": "loss 9", "level": "warning"}, step=4),
        other(6, "checkpoint", {"path": "/c/4.pt", "is_best": True}, step=4),
        other(7, "stage", {"name": "warm up"}, step=4),
        other(8, "note", {"text": "so far so good"}, step=4),
        other(9, "image", {"file": "media/gone.png"}, key="pictures/two", step=5),
        other(10, "something new", {"x": 1}),
        other(11, "summary", {"final/best_val_loss": 1.25, "verdict": "good", "worst": "NaN"}),
    ]
    drive(mirror_of(tmp_path), rows, ending())
    client = client_of(tmp_path)
    run = remote_runs(client)[0]
    run_id = run.info.run_id

    def files(folder: str | None = None) -> list[str]:
        found = []
        for one in client.list_artifacts(run_id, folder):
            found += files(one.path) if one.is_dir else [one.path]
        return sorted(found)

    def read(path: str) -> str:
        return Path(client.download_artifacts(run_id, path, str(tmp_path))).read_text()

    found = files()
    assert read("text/sample/first/step4-r0-0.txt") == "Once upon a time"
    assert json.loads(read("histograms/weights/step4-r0-4.json"))["counts"] == [3]
    assert json.loads(read("alerts/step4-r0-5.json"))["title"] == "spike"
    assert json.loads(read("checkpoints/step4-r0-6.json"))["is_best"] is True
    assert read("notes/step4-r0-8.txt") == "so far so good"
    pictures = [path for path in found if path.startswith("images/pictures~one+step+4+timestamp+")]
    assert [os.path.splitext(path)[1] for path in pictures] == [".webp", ".txt", ".png"]
    assert any(path.startswith("images/pictures~two") and path.endswith(".missing.txt") for path in found)
    experiment = run.info.experiment_id
    table = client.load_table(experiment, "tables/answers/step4-r0-2.json", [run_id])
    assert table.to_dict("list") == {"q": ["1+1"], "a": [2]}
    large = client.load_table(experiment, "tables/large/step4-r0-3.json", [run_id])
    assert large["a"].tolist() == [1, 2]
    assert run.data.metrics["summary/final/best_val_loss"] == 1.25
    assert math.isnan(run.data.metrics["summary/worst"])
    assert run.data.tags["summary.verdict"] == "good"
    assert run.data.tags["mlflow.loggedImages"] == "True"
    assert run.data.tags["lossbook.stage"] == "warm up"
    assert run.data.tags["lossbook.alert"] == "warning: spike"


@pytest.mark.parametrize(
    ("state", "status"),
    [("failed", "FAILED"), ("crashed", "FAILED"), ("killed", "KILLED"), ("interrupted", "KILLED")],
)
def test_the_end_is_mlflows_status(tmp_path: Path, state: str, status: str) -> None:
    drive(mirror_of(tmp_path), [scalars(0, 0, {"loss": 1.0})], ending(state))
    run = remote_runs(client_of(tmp_path))[0]
    assert (run.info.status, run.data.tags["lossbook.state"]) == (status, state)


def test_a_resumed_run_goes_on_as_the_same_remote_run(tmp_path: Path) -> None:
    remote: dict[str, Any] = {}
    drive(mirror_of(tmp_path, remote), [scalars(0, 0, {"loss": 1.0})], ending("failed"))
    noted = json.loads(json.dumps(remote))
    mirror = mirror_of(tmp_path, noted, live=True)
    assert mirror.open({0: 0}) == {0: 0}
    client = client_of(tmp_path)
    assert remote_runs(client)[0].info.status == "RUNNING"
    mirror.deliver([other(1, "attempt", {"number": 1}), scalars(2, 1, {"loss": 0.5})])
    mirror.flush()
    mirror.close(ending())
    (run,) = remote_runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.tags["lossbook.attempt"] == "1"
    assert [step for step, _, _ in history(client, run.info.run_id, "loss")] == [0, 1]


def test_a_lost_cursor_brings_nothing_twice(tmp_path: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(50)]
    drive(mirror_of(tmp_path), rows)
    drive(mirror_of(tmp_path), rows, ending())
    client = client_of(tmp_path)
    (run,) = remote_runs(client)
    assert [step for step, _, _ in history(client, run.info.run_id, "loss")] == list(range(50))


def test_a_target_that_was_removed_gets_everything_again(tmp_path: Path) -> None:
    remote: dict[str, Any] = {}
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(5)]
    drive(mirror_of(tmp_path, remote), rows)
    other_place = tmp_path / "other"
    other_place.mkdir()
    assert mirror_of(tmp_path, remote, folder=str(other_place)).open({0: 4}) == {}


def test_a_run_that_was_deleted_at_mlflow_is_not_filled_again(tmp_path: Path) -> None:
    remote: dict[str, Any] = {}
    drive(mirror_of(tmp_path, remote), [scalars(0, 0, {"loss": 1.0})])
    client_of(tmp_path).delete_run(remote["run_id"])
    with pytest.raises(MirrorUnavailable, match="was deleted at MLflow") as caught:
        mirror_of(tmp_path, remote).open({0: 0})
    assert not caught.value.may_pass


def test_a_row_wider_than_a_request_arrives_whole(tmp_path: Path) -> None:
    wide = {f"key/{number}": float(number) for number in range(2 * METRICS_A_BATCH + 7)}
    config = {f"parameter_{number}": number for number in range(230)}
    drive(mirror_of(tmp_path), [other(0, "config", config), scalars(1, 0, wide), scalars(2, 1, {"after": 1.0})])
    run = remote_runs(client_of(tmp_path))[0]
    assert run.data.metrics == {**wide, "after": 1.0}
    assert len(run.data.params) == 232


@pytest.mark.parametrize("store", ["database", "folder"])
def test_kills_at_any_moment_lose_nothing_and_bring_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    # The database is not there yet: the first that are killed are making it.
    address = f"sqlite:///{tmp_path}/new.db" if store == "database" else f"file://{tmp_path}/mlruns"
    environment = {"MLFLOW_TRACKING_URI": address, "MLFLOW_ALLOW_FILE_STORE": "true"}
    # A relative PYTHONPATH means another folder here.
    sources = {"PYTHONPATH": str(Path(lossbook.__file__).parents[1])}
    rows: list[LoggedRow] = []
    for i in range(3000):
        if i % 100 == 50:
            rows.append(other(i, "text", {"text": f"text {i}"}, key="sample", step=i))
        elif i % 700 == 0:
            rows.append(other(i, "config", {"seed": i}))
        else:
            # Steps go back now and then, and some rows are equal but for their number.
            rows.append(scalars(i, i % 1000, {"loss": float(i % 7), "lr": 0.1}))
    deliver_through_kills("mlflow", tmp_path, rows, kills=3, longest_seconds=4.0, environment=environment | sources)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    (run,) = remote_runs(client)
    logged = [row for row in rows if row.kind is None]
    for key in ("loss", "lr"):
        expected = sorted((row.time_us // 1000 - int(CREATED * 1000), row.step, row.body[key]) for row in logged)
        found = sorted((time, step, value) for step, value, time in history(client, run.info.run_id, key))
        assert found == expected
    texts = client.list_artifacts(run.info.run_id, "text/sample")
    assert len(texts) == sum(row.kind == "text" for row in rows)
    assert run.info.status == "FINISHED"
    assert run.data.tags["config.seed"] == "2800"


def test_a_kill_between_the_metrics_and_their_mark_brings_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    rows = [scalars(i, i, {"loss": 1.0, "nan": math.nan}) for i in range(2000)]
    remote: dict[str, Any] = {}
    mirror = mirror_of(tmp_path, remote)
    mirror.open({})
    mirror.flush()
    noted = json.loads(json.dumps(remote))
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "_set_tags", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mirror.deliver(rows)
    client = client_of(tmp_path)
    assert 0 < len(history(client, remote["run_id"], "loss")) < 2000
    drive(mirror_of(tmp_path, noted), rows)
    for key in ("loss", "nan"):
        assert [step for step, _, _ in history(client, remote["run_id"], key)] == list(range(2000))


def test_a_batch_that_a_kill_cut_off_in_a_folder_store_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file://{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    rows = [scalars(i, i, {"loss": float(i), "lr": 0.1}) for i in range(40)]
    remote: dict[str, Any] = {}
    drive(mirror_of(tmp_path, remote), rows[:10])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    for row in rows[10:17]:
        # What a batch leaves behind that was cut off after its first metrics.
        client.log_metric(remote["run_id"], "loss", row.body["loss"], row.time_us // 1000, row.step)
    mirror = mirror_of(tmp_path, remote)
    held = mirror.open({0: 9})
    mirror.deliver([row for row in rows if row.i > held[0]])
    mirror.flush()
    assert [step for step, _, _ in history(client, remote["run_id"], "loss")] == list(range(40))
    assert [step for step, _, _ in history(client, remote["run_id"], "lr")] == list(range(40))


def test_without_the_library_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MirrorUnavailable, match=r"pip install 'lossbook\[mlflow\]'.*lossbook sync") as caught:
        mirror_of(tmp_path).open({})
    assert not caught.value.may_pass


def test_a_server_that_is_not_there_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(MirrorUnavailable, match=r"http://127.0.0.1:9 did not take the run.*lossbook sync") as caught:
        mirror_of(tmp_path).open({})
    assert caught.value.may_pass


def test_offline_asks_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_server() as (address, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(MirrorUnavailable, match="offline"):
            mirror_of(tmp_path, mode="offline").open({})
        assert asked == []


def test_a_server_that_refuses_needs_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_server() as (address, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(MirrorUnavailable, match="no token") as caught:
            mirror_of(tmp_path).open({})
        assert asked
        assert not caught.value.may_pass


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(MirrorUnavailable, match="mlflow.db did not take the run") as caught:
        mirror_of(tmp_path).open({})
    assert "\n" not in str(caught.value)


def test_a_kill_while_the_database_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mirror_of(tmp_path).open({})
    assert not (tmp_path / "mlflow.db").exists()
    drive(mirror_of(tmp_path), [scalars(0, 0, {"loss": 1.0})])
    assert remote_runs(client_of(tmp_path))[0].data.metrics == {"loss": 1.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlruns"]


def test_naming_the_mirror_loads_no_library() -> None:
    program = "import sys, lossbook.trackers.mlflow.mirror; print('mlflow' in sys.modules)"
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lossbook.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_times_do_not_depend_on_where_delivery_was_cut() -> None:
    logged = [("x", float(i % 3), 1000 + i // 50 - (i % 40 == 0), i % 2) for i in range(2000)]
    whole = DistinctTimes()
    expected = [whole.place(*point) for point in logged]
    assert len(set(expected)) == len(logged)
    for cut in (1, 333, 1999):
        first = DistinctTimes()
        found = [first.place(*point) for point in logged[:cut]]
        second = DistinctTimes(json.loads(json.dumps(first.to_json())))
        found += [second.place(*point) for point in logged[cut:]]
        assert found == expected


@contextmanager
def refusing_server() -> Iterator[tuple[str, list[str]]]:
    """A loopback stand-in for a tracking server that lets nobody in; yields its address and what it was asked."""
    asked: list[str] = []

    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            text = json.dumps({"error_code": "PERMISSION_DENIED", "message": "no token"}).encode()
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_mark_that_a_kill_tore_in_the_folder_store_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    rows = [scalars(i, i, {"loss": 1.0 / (i + 1)}) for i in range(30)]
    first = mirror_of(tmp_path)
    first.open({})
    first.deliver(rows[:10])
    first.flush()
    noted = json.loads(json.dumps(first.remote))  # what the engine wrote down, with the cursor
    first.deliver(rows[10:20])
    first.flush()
    (mark,) = (tmp_path / "mlruns").rglob("lossbook.delivered.*")
    mark.write_text("")
    again = mirror_of(tmp_path, noted)
    held = again.open({0: 9})
    again.deliver([row for row in rows if row.i > held[0]])
    again.flush()
    again.close(ending())
    from mlflow.tracking import MlflowClient

    history = MlflowClient(f"file://{tmp_path / 'mlruns'}").get_metric_history(again.remote["run_id"], "loss")
    assert sorted(point.step for point in history) == list(range(30))
