"""`/api/run/gpus`, `/api/run/families` and `/api/run/matrix`: the machines of a run, and its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import lossbook
from lossbook.errors import BadArgument, UnknownKey
from lossbook.follower.journal import OwnRows
from lossbook.web import schemas
from lossbook.web.api import gpus as gpus_api, matrix as matrix_api
from lossbook.web.api.gpus import GpusQuestion
from lossbook.web.api.matrix import FamiliesQuestion
from lossbook.web.binary import Frame, decode_frame, split_arrays
from lossbook.web.session import Session

GIBIBYTE = 2.0**30


@pytest.fixture
def session(store: Path) -> Iterator[Session]:
    store.mkdir()
    session = Session(lossbook.open(store))
    yield session
    session.close()


def asked(session: Session) -> schemas.Gpus:
    return gpus_api.gpus(session, GpusQuestion("p", "one"))


def train_on(store: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, slow: int | None = None) -> None:
    """A job of so many ranks, one of them half as fast as the others."""
    for rank in range(ranks):
        monkeypatch.setenv("LOSSBOOK_RANK", str(rank))
        monkeypatch.setenv("LOSSBOOK_WORLD_SIZE", str(ranks))
        with lossbook.init(store=store, project="p", id="one", console=False) as run:
            for step in range(100):
                run.log({"step_time_ms": 200.0 if rank == slow else 100.0}, step=step, ranks="all")
                if rank == 0:
                    run.log({"loss": 1.0}, step=step)


# -- GPUs and ranks -------------------------------------------------------------------------------------------------


def test_each_gpu_has_its_readings_and_the_series_to_draw(session: Session, store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        for step in range(3):
            for gpu in range(2):
                run.log(
                    {
                        f"system.gpu.{gpu}.gpu": 90.0 + step,
                        f"system.gpu.{gpu}.memoryAllocatedBytes": 2 * GIBIBYTE,
                        f"system.gpu.{gpu}.memoryTotalBytes": 8 * GIBIBYTE,
                        f"system.gpu.{gpu}.throttled": float(step == 1),
                        f"system.gpu.{gpu}.throttle": 32.0 * (step == 2),
                    },
                    step=step,
                )
    first, second = asked(session).gpus
    assert (first.index, second.index, first.active) == (0, 1, True)
    readings = {one.quantity: one for one in second.readings}
    used = readings["utilisation_percent"]
    assert (used.current, used.average, used.maximum, used.key) == (92.0, 91.0, 92.0, "system.gpu.1.gpu")
    assert readings["memory_percent"].current == 25.0
    assert readings["memory_percent"].key is None
    assert readings["throttled"].maximum == 1.0
    assert second.throttle_reasons == 32


def test_the_rank_that_is_slower_than_the_others_shows(
    session: Session, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on(store, monkeypatch, ranks=4, slow=2)
    found = asked(session)
    assert found.rank_key == "step_time_ms"
    assert [one.rank for one in found.ranks] == [0, 1, 2, 3]
    assert found.ranks[2].step_seconds == pytest.approx(0.2)
    assert found.ranks[2].slower_percent == pytest.approx(100.0)
    assert found.ranks[1].slower_percent == pytest.approx(0.0)
    assert not any(one.straggler for one in found.ranks), "that is for the diagnosis to say"


def test_what_the_diagnosis_found_of_the_machine_is_said(
    session: Session, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbook.diagnosis import Evidence, Finding

    train_on(store, monkeypatch, ranks=4, slow=2)
    folder = session.run("p", "one").folder
    findings = [
        Finding(
            "straggler",
            "warning",
            "step_time_ms",
            10,
            90,
            200.0,
            130.0,
            "rank 2 is slower than the others",
            (Evidence("step_time_ms", 10, 200.0, 1, 2),),
        ),
        Finding(
            "throttling", "warning", "system.gpu.0.throttle", 5, 9, 32.0, 0.0, "the clock of GPU 0 is held down by heat"
        ),
        Finding("spike", "warning", "loss", 5, 5, 9.0, 1.0, "a spike of the loss"),
    ]
    follower = OwnRows(folder)
    for finding in [*findings, findings[0]]:
        value = {"title": finding.title, "text": finding.sentence, "level": "warning", "finding": finding.plain()}
        assert follower.append_event("alert", value)
    assert follower.append_event("alert", {"title": "not a finding", "text": "of the machine", "level": "warning"})
    follower.close()
    found = asked(session)
    assert found.findings == ["rank 2 is slower than the others", "the clock of GPU 0 is held down by heat"]
    assert [one.rank for one in found.ranks if one.straggler] == [2]


def test_a_run_without_gpus_has_none(session: Session, store: Path) -> None:
    lossbook.init(store=store, project="p", id="one", console=False).finish()
    found = asked(session)
    assert (found.gpus, found.overall, found.findings, found.rank_key) == ([], [], [], None)
    assert [(one.rank, one.step_seconds) for one in found.ranks] == [(0, None)]


def test_means_over_all_gpus_stand_alone_where_no_gpu_was_logged_by_itself(session: Session, store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.log({"gpu/compute_util_avg": 50.0, "gpu/memory_used_total_gb": float("nan")}, step=1)
    found = asked(session)
    assert found.gpus == []
    assert [(one.quantity, one.average) for one in found.overall] == [("utilisation_percent", 50.0)]


# -- layers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(store: Path, session: Session) -> None:
    """A run that logs one quantity of twelve layers."""
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        for step in range(100):
            run.log({f"layers/{layer}/grad_norm": float(layer + step) for layer in range(12)}, step=step)
        run.log({"layers/3/grad_norm": float("inf"), "loss": 1.0}, step=100)


def test_series_of_many_layers_are_a_family_in_their_order(session: Session, layers: None) -> None:
    (family,) = matrix_api.families(session, FamiliesQuestion("p", "one")).families
    assert family.pattern == "layers/*/grad_norm"
    assert family.labels == [str(layer) for layer in range(12)]
    assert family.keys[10] == "layers/10/grad_norm"


def pictured(session: Session, **more: Any) -> Frame:
    keys = more.pop("keys", [f"layers/{layer}/grad_norm" for layer in range(12)])
    return matrix_api.matrix(session, schemas.MatrixRequest("p", "one", keys, **more))


def test_a_picture_of_layers_counts_every_row_once(session: Session, layers: None) -> None:
    frame = pictured(session, columns=10)
    edges, mean, low, high, count, nonfinite = frame.arrays
    assert frame.header.keys[11] == "layers/11/grad_norm"
    assert (edges.shape, mean.shape) == ((11,), (12, 10))
    assert count.sum() == 1201
    assert nonfinite.sum() == 1
    assert (low[5].min(), high[5].max()) == (5.0, 104.0)
    assert bool(numpy.isfinite(mean).all())


def test_a_picture_of_a_part_of_the_run(session: Session, layers: None) -> None:
    edges, *_, count, _ = pictured(session, keys=["layers/0/grad_norm"], columns=5, start=10, end=19).arrays
    assert (edges[0], edges[-1]) == (10.0, 19.0)
    assert count.sum() == 10


@pytest.mark.parametrize(
    "question", [{"keys": []}, {"columns": 0}, {"columns": -1}, {"columns": 10**7}, {"keys": ["x"] * 3 + [str(n) for n in range(6000)]}]
)  # fmt: skip
def test_pictures_that_cannot_be_meant_are_refused(session: Session, layers: None, question: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        pictured(session, **question)


def test_a_key_that_was_never_logged_is_named(session: Session, layers: None) -> None:
    with pytest.raises(UnknownKey, match="layers/99"):
        pictured(session, keys=["layers/99/grad_norm"])


def test_layers_and_gpus_are_served(served: Callable[..., Any], store: Path, layers: None) -> None:
    server = served(store)
    here = {"project": "p", "run": "one"}
    (family,) = server.get("/api/run/families", **here)["families"]
    answer = server.send("/api/run/matrix", {**here, "keys": family["keys"], "columns": 4})
    assert answer.status == 200
    header, values = decode_frame(answer.body)
    assert (len(header["keys"]), header["columns"]) == (12, 4)
    edges, *cells = split_arrays(values, [5, *[48] * 5])
    assert edges[0] == 0
    assert cells[3].sum() == 1201
    assert server.send("/api/run/matrix", {**here, "keys": ["none"]}).status == 404
    assert server.get("/api/run/gpus", **here)["gpus"] == []
