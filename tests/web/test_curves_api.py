"""Curves, bands, marks and comparisons as the page asks for them, of runs that training made."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import orjson
import pytest
from serving import Served

import lossbook
from lossbook.errors import DamagedFile
from lossbook.reading.run import RecordedRun
from lossbook.web import schemas
from lossbook.web.api import curves as curves_module
from lossbook.web.binary import Frame, decode_frame, encode_frame

Serve = Callable[..., Served]


def train(store: Path, name: str, steps: int = 50, *, slope: float = 1.0, **named: Any) -> lossbook.Run:
    run = lossbook.init(store=store, project="tiny", name=name, console=False, **named)
    for step in range(steps):
        run.log({"train/loss": 10.0 - slope * step, "time/tokens_seen": 100 * step}, step=step)
    return run


def series(run: lossbook.Run, key: str = "train/loss", **more: Any) -> dict[str, Any]:
    return {"project": "tiny", "run": run.id, "key": key, **more}


# -- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a", "ab", "abc", "é" * 7])
def test_arrays_of_a_frame_begin_at_a_multiple_of_eight(name: str) -> None:
    header = schemas.BandsHeader([], name, [])
    body = encode_frame(
        Frame(header, [numpy.array([1.5, math.nan]), numpy.zeros(0), numpy.array([7], dtype=numpy.int64)])
    )
    assert (len(body) - 3 * 8) % 8 == 0
    told, values = decode_frame(body)
    assert told["x"] == name
    assert values[[0, 2]].tolist() == [1.5, 7.0]
    assert math.isnan(values[1])


def test_what_is_no_frame_is_said() -> None:
    for body in (b"", b"abc", b"\xff\xff\xff\xff{}", b"\x02\x00\x00\x00{}123"):
        with pytest.raises(DamagedFile):
            decode_frame(body)


# -- curves ---------------------------------------------------------------------------------------------------------


def test_a_curve_is_what_the_book_says(store: Path, served: Serve) -> None:
    run = train(store, "one", 3000)
    run.finish()
    header, (drawn,) = served(store).frame("/api/curves", {"series": [series(run, "train_loss")], "points": 100})
    expected = lossbook.open(store).run(run.id).curve("train/loss", points=100)
    assert header["curves"][0] == {
        "project": "tiny",
        "run": run.id,
        "key": "train_loss",
        "found": "train/loss",
        "length": len(expected),
        "attempts": 1,
        "state": "finished",
        "error": None,
    }
    for name in header["fields"]:
        numpy.testing.assert_array_equal(drawn[name], getattr(expected, name).astype(float))


def test_series_fail_one_by_one(store: Path, served: Serve) -> None:
    run = train(store, "one")
    run.finish()
    header, drawn = served(store).frame(
        "/api/curves",
        {
            "series": [
                series(run),
                series(run, "nothing"),
                {"project": "tiny", "run": "nobody", "key": "train/loss"},
                {"project": "../tiny", "run": "..", "key": "k"},
                series(run, attempt=7),
                series(run),
            ]
        },
    )
    errors = [one["error"] for one in header["curves"]]
    assert errors[0] is None
    assert errors[5] is None
    assert "never logged 'nothing'" in errors[1]
    assert "no run 'nobody'" in errors[2]
    assert errors[3]
    assert [one["length"] for one in header["curves"]] == [50, 0, 0, 0, 0, 50]
    numpy.testing.assert_array_equal(drawn[0]["last"], drawn[5]["last"])


def test_a_new_point_is_there_with_the_next_question(store: Path, served: Serve) -> None:
    run = train(store, "live", 5)
    server = served(store)
    ask = {"series": [series(run)]}
    assert server.frame("/api/curves", ask)[1][0]["x"].tolist() == [0, 1, 2, 3, 4]
    for step in range(5, 20):
        run.log({"train/loss": 1.0}, step=step)
        header, (drawn,) = server.frame("/api/curves", ask)
        assert drawn["x"][-1] == step
        assert header["curves"][0]["state"] == "running"
    run.finish()


def test_a_tail_begins_where_it_is_asked_to_begin(store: Path, served: Serve) -> None:
    one, other = train(store, "one", 100), train(store, "other", 60)
    server = served(store)
    ask = {"series": [series(one, start=90.5), series(other, start=58.0), series(other)], "start": 55.0}
    _, drawn = server.frame("/api/curves", ask)
    assert [curve["x"].tolist() for curve in drawn] == [[*range(91, 100)], [58, 59], [*range(55, 60)]]
    # On another axis, in its units.
    _, (drawn,) = server.frame("/api/curves", {"series": [series(one, start=9_750.0)], "x": "tokens"})
    assert drawn["x"].tolist() == [9_800, 9_900]
    # Beyond all rows there is nothing, and that is no error.
    header, (drawn,) = server.frame("/api/curves", {"series": [series(one, start=1e9)]})
    assert (header["curves"][0]["error"], len(drawn["x"])) == (None, 0)
    one.finish(), other.finish()


def test_a_zoom_is_smoothed_over_all_rows(store: Path, served: Serve) -> None:
    run = train(store, "one", 200)
    run.finish()
    server = served(store)
    _, (whole,) = server.frame("/api/curves", {"series": [series(run)], "smoothing": "ema:0.9"})
    _, (zoomed,) = server.frame(
        "/api/curves", {"series": [series(run)], "smoothing": "ema:0.9", "start": 100, "end": 150}
    )
    numpy.testing.assert_allclose(zoomed["mean"], whole["mean"][100:151])
    refused = server.send("/api/curves", {"series": [series(run)], "smoothing": "magic:3"})
    assert (refused.status, "smoothing" in refused.json["error"]) == (400, True)


def test_rows_that_are_not_finite_are_counted(store: Path, served: Serve) -> None:
    run = train(store, "nan", 3)
    run.log({"train/loss": float("nan")}, step=3)
    run.log({"train/loss": float("inf")}, step=4)
    run.finish()
    _, (drawn,) = served(store).frame("/api/curves", {"series": [series(run)]})
    assert drawn["nonfinite"].tolist() == [0, 0, 0, 1, 1]
    assert math.isnan(drawn["last"][3])
    assert drawn["last"][4] == math.inf


def test_hidden_rows_are_drawn_by_their_attempt(store: Path, served: Serve) -> None:
    run = train(store, "resumed", 30)
    run.finish()
    again = lossbook.init(store=store, project="tiny", id=run.id, resume="must", resume_step=9, console=False)
    for step in range(10, 15):
        again.log({"train/loss": -1.0}, step=step)
    again.finish()
    header, (shown, first, second) = served(store).frame(
        "/api/curves", {"series": [series(run), series(run, attempt=0), series(run, attempt=1)]}
    )
    assert header["curves"][0]["attempts"] == 2
    assert shown["x"].tolist() == [*range(15)]
    assert shown["last"][10:].tolist() == [-1.0] * 5
    assert first["x"].tolist() == [*range(30)]
    assert second["x"].tolist() == [*range(10, 15)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": 0}, "points=0"),
        ({"points": 20_001}, "points=20001"),
        ({"start": 5.0, "end": 1.0}, "beyond end"),
        ({"series": [{"project": "p", "run": "r", "key": "k"}] * 2001}, "2,001 series"),
    ],
)
def test_questions_have_limits(store: Path, served: Serve, change: dict[str, Any], said: str) -> None:
    store.mkdir()
    answer = served(store).send("/api/curves", {"series": [], **change})
    assert answer.status == 400
    assert said in answer.json["error"]


def test_many_series_have_fewer_points_each(store: Path, served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves_module, "MOST_DRAWN", 100)
    run = train(store, "one", 200)
    run.finish()
    server = served(store)
    _, drawn = server.frame("/api/curves", {"series": [series(run)] * 5, "points": 1000})
    assert [len(curve["x"]) for curve in drawn] == [20] * 5
    assert [curve["count"].sum() for curve in drawn] == [200] * 5


# -- bands ----------------------------------------------------------------------------------------------------------


def test_a_band_spans_its_runs(store: Path, served: Serve) -> None:
    runs = [train(store, f"seed-{number}", 20, slope=slope) for number, slope in enumerate((1.0, 3.0))]
    for run in runs:
        run.finish()
    groups = [
        {"name": "seeds", "project": "tiny", "runs": [run.id for run in runs]},
        {"name": "gone", "project": "tiny", "runs": ["nobody"]},
    ]
    header, (band, nothing) = served(store).frame("/api/bands", {"groups": groups, "key": "train/loss"}, "bands")
    assert [(one["name"], one["runs"], one["length"]) for one in header["bands"]] == [("seeds", 2, 20), ("gone", 1, 0)]
    assert "no run 'nobody'" in header["bands"][1]["error"]
    assert (band["low"][10], band["mean"][10], band["high"][10], band["count"][10]) == (-20.0, -10.0, 0.0, 2.0)
    assert len(nothing["x"]) == 0


# -- marks ----------------------------------------------------------------------------------------------------------


def test_what_happened_stands_at_its_place_on_the_axis(store: Path, served: Serve) -> None:
    run = train(store, "one", 20)
    run.checkpoint("ckpt-10.pt", step=10, is_best=True)
    run.stage("annealing", step=15)
    run.alert("spike", "look at it", level="error")
    run.note("tea")
    run.finish()
    server = served(store)
    ask = {"project": "tiny", "runs": [run.id, "nobody"], "key": "train/loss"}
    marks = {one["kind"]: one for one in server.post("/api/marks", ask)["marks"]}
    assert {kind: (one["x"], one["title"]) for kind, one in marks.items()} == {
        "checkpoint": (10.0, "best checkpoint"),
        "stage": (15.0, "annealing"),
        "alert": (19.0, "spike"),
        "note": (19.0, "note"),
    }
    assert (marks["alert"]["text"], marks["alert"]["level"]) == ("look at it", "error")
    assert marks["note"]["text"] == "tea"
    assert marks["checkpoint"]["text"].endswith("ckpt-10.pt")
    tokens = {one["kind"]: one["x"] for one in server.post("/api/marks", {**ask, "x": "tokens"})["marks"]}
    assert tokens == {"checkpoint": 1000.0, "stage": 1500.0, "alert": 1900.0, "note": 1900.0}
    assert server.post("/api/marks", {**ask, "key": "nothing"})["marks"] == []


def test_attempts_and_forks_are_marked(store: Path, served: Serve) -> None:
    run = train(store, "parent", 30)
    run.finish()
    again = lossbook.init(store=store, project="tiny", id=run.id, resume="must", resume_step=9, console=False)
    again.log({"train/loss": -1.0}, step=10)
    again.finish()
    fork = lossbook.init(store=store, project="tiny", name="fork", fork_from=(run.id, 5), console=False)
    fork.log({"train/loss": 2.0}, step=6)
    fork.finish()
    answer = served(store).post("/api/marks", {"project": "tiny", "runs": [run.id, fork.id], "key": "train/loss"})
    marks = [(one["run"], one["kind"], one["x"], one["title"]) for one in answer["marks"]]
    assert marks == [(run.id, "attempt", 9.0, "attempt 2"), (fork.id, "fork", 5.0, "fork")]
    assert run.id in answer["marks"][1]["text"]


def test_many_marks_are_spread_over_the_steps(store: Path, served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves_module, "MOST_MARKS", 10)
    run = train(store, "one", 100)
    for step in range(100):
        run.checkpoint(f"{step}.pt", step=step)
    run.stage("last", step=99)
    run.finish()
    marks = served(store).post("/api/marks", {"project": "tiny", "runs": [run.id], "key": "train/loss"})["marks"]
    at = [one["x"] for one in marks if one["kind"] == "checkpoint"]
    assert len(at) == 10
    assert (min(at), max(at)) == (0.0, 99.0)
    assert sum(one["kind"] == "stage" for one in marks) == 1


# -- comparing ------------------------------------------------------------------------------------------------------


def test_runs_are_held_against_a_baseline(store: Path, served: Serve) -> None:
    good = train(store, "good", 50, config={"lr": 1e-3, "model": {"width": 64}, "same": 1})
    bad = train(store, "bad", 40, config={"lr": 1e-4, "model": {"width": 32}, "same": 1})
    good.finish(), bad.finish()
    server = served(store)
    answer = server.post(
        "/api/compare", {"project": "tiny", "runs": [good.id, bad.id], "baseline": bad.id, "losses": [0.0]}
    )
    assert (answer["metric"], answer["goal"], answer["baseline"]) == ("train/loss", "minimize", bad.id)
    assert [one["id"] for one in answer["runs"]] == [bad.id, good.id]
    assert answer["settings"] == ["lr", "model.width"]
    assert answer["config"] == [{"lr": 1e-4, "model.width": 32}, {"lr": 1e-3, "model.width": 64}]
    assert answer["runs"][1]["change"]["best_train_loss"] == -10.0
    assert [one["step_of_0"] for one in answer["runs"]] == [10, 10]
    assert {"name": "config.lr", "title": "lr", "kind": "setting", "goal": None} in answer["columns"]


def test_a_comparison_that_cannot_be_made_is_said(store: Path, served: Serve) -> None:
    run = train(store, "one")
    run.finish()
    server = served(store)
    for body, status in (
        ({"runs": ["nobody"]}, 404),
        ({"runs": [run.id], "metric": "nothing"}, 404),
        ({"runs": [run.id], "columns": ["config.nothing"]}, 400),
        ({"runs": [run.id], "baseline": "nobody"}, 404),
        ({"runs": [run.id] * 20_001}, 400),
    ):
        answer = server.send("/api/compare", {"project": "tiny", **body})
        assert (answer.status, bool(answer.json["error"])) == (status, True)


def test_what_nobody_waits_for_any_more_is_not_drawn(
    store: Path, served: Serve, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    run = train(store, "one", 5)
    run.finish()
    server = served(store)
    goes_on, begun = threading.Event(), []
    whole = RecordedRun.curve

    def slowly(self: RecordedRun, *arguments: Any, **named: Any) -> Any:
        begun.append(None)
        goes_on.wait(20)
        return whole(self, *arguments, **named)

    monkeypatch.setattr(RecordedRun, "curve", slowly)
    body = orjson.dumps({"series": [series(run)] * 200})
    head = f"POST /api/curves HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((server.host, server.port)) as page:
        page.sendall(head.encode() + body)
        wait_until(lambda: begun)
    # The page has zoomed on and dropped its question; another one is answered when its turn comes.
    server.ask("/api/store")
    goes_on.set()
    header, _ = server.frame("/api/curves", {"series": [series(run)]})
    assert header["curves"][0]["length"] == 5
    assert len(begun) < 20
