"""What the server promises whoever asks it: strict questions, answers that are small, a table that follows the store."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Served

import lossbook
from lossbook.errors import BadArgument
from lossbook.web import schemas
from lossbook.web.api import routes
from lossbook.web.api.project import WhereQuestion
from lossbook.web.routing import Nothing, json_of, question_of_body, question_of_parameters

Serve = Callable[..., Served]


def record(store: Path, name: str, *, project: str = "tiny", steps: int = 3, **named: Any) -> lossbook.Run:
    """A run with a falling loss, still running."""
    run = lossbook.init(store=store, project=project, name=name, console=False, **named)
    for step in range(steps):
        run.log({"train/loss": 4.0 / (step + 1), "time/tokens_seen": 512 * step}, step=step)
    return run


# -- the store and its table ----------------------------------------------------------------------------------------


def test_the_store_tells_its_projects_the_newest_first(store: Path, served: Serve) -> None:
    record(store, "one", project="older").finish()
    record(store, "two", project="newer").finish()
    answer = served(store).get("/api/store")
    assert (answer["location"], answer["source"], answer["editable"]) == (str(store), None, False)
    assert [(one["name"], one["runs"], one["running"]) for one in answer["projects"]] == [
        ("newer", 1, 0),
        ("older", 1, 0),
    ]


def test_an_empty_store_is_served_and_its_first_run_appears(
    store: Path, served: Serve, wait_until: Callable[..., None]
) -> None:
    store.mkdir()
    server = served(store)
    assert server.get("/api/store")["projects"] == []
    missing = server.ask("/api/runs", project="tiny")
    assert (missing.status, "no project 'tiny'" in missing.json["error"]) == (404, True)
    record(store, "first").finish()
    wait_until(lambda: [one["name"] for one in server.get("/api/store")["projects"]] == ["tiny"])
    assert [row["name"] for row in server.get("/api/runs", project="tiny")["rows"]] == ["first"]


def test_rows_come_with_the_columns_that_were_asked_for(store: Path, served: Serve) -> None:
    record(store, "narrow", config={"lr": 1e-3, "model": {"width": 64}}, tags=["a"], group="g", notes="n").finish()
    record(store, "wide", config={"lr": 1e-4}, steps=1).finish()
    answer = served(store).get(
        "/api/runs", project="tiny", column=["config.lr", "config.model.width", "train/loss.min", "summary.x"]
    )
    assert answer["whole"]
    wide, narrow = answer["rows"]
    assert (narrow["name"], narrow["tags"], narrow["group"], narrow["notes"]) == ("narrow", ["a"], "g", "n")
    assert (narrow["state"], narrow["last_step"], narrow["attempts"], narrow["alerts"]) == ("finished", 2, 1, 0)
    assert wide["last_step"] == 0
    assert answer["columns"] == {
        "config.lr": [1e-4, 1e-3],
        "config.model.width": [None, 64],
        "train/loss.min": [4.0, 4.0 / 3],
        "summary.x": [None, None],
    }


def test_since_a_revision_only_what_changed_is_told(
    store: Path, served: Serve, wait_until: Callable[..., None]
) -> None:
    record(store, "still").finish()
    running = record(store, "running")
    gone = record(store, "gone")
    gone.finish()
    server = served(store)
    first = server.get("/api/runs", project="tiny")
    assert len(first["rows"]) == 3
    running.log({"train/loss": 0.1}, step=50)
    running.sync()
    added = record(store, "added")
    added.finish()
    Path(gone.path).rename(store / ".gone")
    seen: dict[str, Any] = {}
    removed: set[str] = set()
    revision = first["revision"]

    def told() -> bool:
        nonlocal revision
        later = server.get("/api/runs", project="tiny", since=revision, column=["train/loss"])
        assert not later["whole"]
        assert len(later["columns"]["train/loss"]) == len(later["rows"])
        revision = later["revision"]
        seen.update({row["name"]: row for row in later["rows"]})
        removed.update(later["removed"])
        return {"running", "added"} <= seen.keys() and removed == {gone.id} and seen["running"]["last_step"] == 50

    wait_until(told)
    assert "still" not in seen


def test_a_revision_of_another_server_gets_everything(store: Path, served: Serve) -> None:
    record(store, "one").finish()
    revision = served(store).get("/api/runs", project="tiny")["revision"]
    server = served(store)
    for since in (revision, "", "nonsense", "0", f"{revision}9", "-1"):
        assert server.get("/api/runs", project="tiny", since=since)["whole"], since


def test_values_that_are_not_finite_are_told_by_name(store: Path, served: Serve) -> None:
    run = record(store, "nan")
    run.log({"train/loss": float("nan"), "up": float("inf"), "down": float("-inf")}, step=9)
    run.finish()
    answer = served(store).get("/api/runs", project="tiny", column=["train/loss", "up", "down"])
    assert answer["columns"] == {"train/loss": ["NaN"], "up": ["Infinity"], "down": ["-Infinity"]}


def test_names_are_counted_and_say_what_they_are(store: Path, served: Serve) -> None:
    run = record(store, "one", config={"lr": 1e-3, "model": {"width": 64}})
    run.define_metric("score*", goal="minimize")
    run.log({"score/x": 1.0}, step=9)
    run.summary["params"] = 10
    run.finish()
    other = lossbook.init(store=store, project="tiny", name="two", console=False, config={"lr": 1e-4})
    other.log({"loss": 1.0}, step=0)
    other.finish()
    server = served(store)
    answer = server.get("/api/names", project="tiny")
    assert [(one["name"], one["runs"]) for one in answer["config"]] == [("config.lr", 2), ("config.model.width", 1)]
    assert [one["name"] for one in answer["summary"]] == ["summary.params"]
    metrics = {one["name"]: one for one in answer["metrics"]}
    assert (metrics["train/loss"]["unit"], metrics["train/loss"]["goal"]) == ("nats", "minimize")
    assert metrics["score/x"]["goal"] == "minimize"
    assert {metrics["train/loss"]["same_as"], metrics["loss"]["same_as"]} == {None, "train/loss"}
    assert answer["axes"] == ["step", "tokens", "wallclock", "elapsed", "time"]
    only = server.get("/api/names", project="tiny", run=[other.id])
    assert [one["name"] for one in only["metrics"]] == ["loss"]
    assert only["axes"] == ["step", "wallclock", "elapsed", "time"]
    assert server.ask("/api/names", project="tiny", run=["nobody"]).status == 404


def test_runs_are_found_by_an_expression(store: Path, served: Serve) -> None:
    record(store, "low", config={"lr": 1e-4}).finish()
    high = record(store, "high", config={"lr": 1e-2})
    high.alert("spike")
    high.finish()
    server = served(store)
    assert server.get("/api/where", project="tiny", where="config.lr > 1e-3")["ids"] == [high.id]
    assert server.get("/api/where", project="tiny", where="alerts > 0")["ids"] == [high.id]
    wrong = server.ask("/api/where", project="tiny", where="config.lr >")
    assert (wrong.status, wrong.json["error"][:5]) == (400, "where")


# -- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "project is missing"),
        ("project=a&project=b", "2 times"),
        ("project=a&nonsense=1", "'nonsense' is not known here; what can be given: project, since, column"),
        ("project=a&" + "&".join(f"column=c{number}" for number in range(201)), "201 columns"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_meant_is_refused(store: Path, served: Serve, query: str, said: str) -> None:
    store.mkdir()
    answer = served(store).raw("GET", f"/api/runs?{query}")
    assert answer.status == 400
    assert said in answer.json["error"]


def test_a_text_in_a_question_is_no_book() -> None:
    with pytest.raises(BadArgument, match="longer than 100,000"):
        question_of_parameters(WhereQuestion, [("project", "p"), ("where", "a" * 100_001)])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"[]", "the body is a list: it is an object with series, x, points"),
        (b"{}", "series is missing"),
        (b'{"series": {}}', "series is an object: it is a list"),
        (b'{"series": [1]}', "series is a whole number: it is an object with project, run, key, start, attempt"),
        (b'{"series": [], "points": "9"}', "points is a text: it is a whole number"),
        (b'{"series": [], "points": 1.5}', "points is a number: it is a whole number"),
        (b'{"series": [], "points": true}', "points is true or false"),
        (b'{"series": [], "start": NaN}', "no JSON"),
        (b'{"series": [], "x": null}', "x is null"),
        (b'{"series": [], "more": 1}', "'more' is not known here"),
        (b'{"series": [{"project": "p", "run": "r", "key": "k", "more": 1}]}', "'more' is not known here"),
        (b'{"series": [{"project": "p", "run": "r"}]}', "key is missing"),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(BadArgument, match=None) as refused:
        question_of_body(schemas.CurvesRequest, body)
    assert said in str(refused.value)


def test_whole_numbers_stand_for_numbers_and_null_for_nothing() -> None:
    asked = question_of_body(schemas.CurvesRequest, b'{"series": [], "start": 3, "end": null}')
    assert (asked.start, type(asked.start), asked.end, asked.points) == (3.0, float, None, 1000)


def test_every_route_has_an_address_of_its_own_and_a_question_that_can_be_read() -> None:
    found = routes()
    assert len({(route.method, route.path) for route in found}) == len(found)
    for route in found:
        assert route.path.startswith("/api/")
        if route.question is not Nothing and route.method == "GET":
            with pytest.raises(BadArgument, match="is missing"):
                question_of_parameters(route.question, [])


def test_what_is_not_there_is_said(store: Path, served: Serve) -> None:
    store.mkdir()
    server = served(store)
    for path in ("/api/nothing", "/api", "/nothing.js"):
        answer = server.ask(path)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert server.send("/api/store", {}).status == 405
    assert server.ask("/api/curves").status == 404


def test_reading_is_all_that_is_done_unless_editing_was_asked_for(store: Path, served: Serve) -> None:
    run = record(store, "one")
    run.finish()
    change = {"project": "tiny", "run": run.id, "name": "other"}
    refused = served(store).send("/api/edit", change)
    assert (refused.status, "--edit" in refused.json["error"]) == (403, True)
    server = served(store, editable=True)
    assert server.get("/api/store")["editable"]
    assert server.post("/api/edit", change)["name"] == "other"
    assert [row["name"] for row in server.get("/api/runs", project="tiny")["rows"]] == ["other"]


# -- answers --------------------------------------------------------------------------------------------------------


def test_what_the_browser_has_is_not_sent_again(store: Path, served: Serve) -> None:
    record(store, "one").finish()
    server = served(store)
    first = server.ask("/api/names", project="tiny")
    again = server.raw("GET", "/api/names?project=tiny", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert server.raw("GET", "/api/names?project=tiny", if_none_match='W/"other"').body == first.body


def test_a_long_answer_is_compressed_for_those_who_can_read_it(store: Path, served: Serve) -> None:
    for number in range(40):
        record(store, f"run-{number}", notes="a long story " * 20, steps=1).finish()
    server = served(store)
    plain = server.ask("/api/runs", project="tiny")
    assert "content-encoding" not in plain.headers
    packed = server.raw("GET", "/api/runs?project=tiny", accept_encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body) / 4
    assert gzip.decompress(packed.body) == plain.body


def test_a_head_is_answered_without_a_body(store: Path, served: Serve) -> None:
    store.mkdir()
    answer = served(store).raw("HEAD", "/api/store")
    assert (answer.status, answer.body) == (200, b"")


def test_numbers_in_an_answer_keep_their_names() -> None:
    metric = schemas.Metric("k", float("nan"), 1, float("-inf"), 2, 3.0, 3, float("inf"), 4, 0, None, None, None)
    told = json_of({"metric": [metric], "row": schemas.Name("n", 1)})
    assert b'"last":"NaN"' in told
    assert b'"min":"-Infinity"' in told
    assert b'"max":3.0' in told


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_asked_for_again_only_when_it_changed(store: Path, tmp_path: Path, served: Serve) -> None:
    store.mkdir()
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<title>one</title>")
    (static / "assets" / "app.js").write_text("1")
    server = served(store, static=str(static))
    first = server.raw("GET", "/")
    assert (first.headers["content-type"], first.body) == ("text/html; charset=utf-8", b"<title>one</title>")
    assert server.raw("GET", "/assets/app.js").headers["content-type"].startswith("text/javascript")
    assert server.raw("GET", "/", if_none_match=first.headers["etag"]).status == 304
    (static / "index.html").write_text("<title>two</title>")
    assert server.raw("GET", "/", if_none_match=first.headers["etag"]).body == b"<title>two</title>"


def test_a_checkout_without_the_page_says_how_to_build_it(store: Path, tmp_path: Path, served: Serve) -> None:
    store.mkdir()
    answer = served(store, static=str(tmp_path / "nothing")).raw("GET", "/")
    assert (answer.status, b"make ui" in answer.body) == (503, True)


def test_another_trackers_runs_are_served(tmp_path: Path, served: Serve, wait_until: Callable[..., None]) -> None:
    logs = tmp_path / "experiment_logs"
    logs.mkdir()
    (logs / "baseline.csv").write_text("step,train/loss\n0,4.0\n1,3.0\n2,2.5\n")
    server = served(lossbook.open(logs))
    store = server.get("/api/store")
    assert (store["source"], store["location"]) == ("logs", str(logs))
    project = store["projects"][0]["name"]
    (row,) = server.get("/api/runs", project=project)["rows"]
    _, (curve,) = server.frame("/api/curves", {"series": [{"project": project, "run": row["id"], "key": "train/loss"}]})
    assert curve["last"].tolist() == [4.0, 3.0, 2.5]
