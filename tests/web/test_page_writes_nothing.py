"""The dashboard only reads: its questions leave the store's names, inodes, times and bytes as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Served
from untouched import make_store, untouched

from lossbook.web import api
from lossbook.web.routing import Route


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "store")


def asked_of(name: str) -> dict[str, object]:
    return {"project": "tests", "id": name, "run": name}


def test_every_question_of_the_page_changes_nothing_in_the_store(made: Path, served: Callable[..., Served]) -> None:
    answered = set()
    with untouched(made):
        server = served(made)
        for name in ("dead", "left", "live", "resumed", "fork", "damaged", "finished"):
            for route in reading_routes():
                if route.method == "GET":
                    known = {
                        key: value for key, value in asked_of(name).items() if key in route.question.__annotations__
                    }
                    reply = server.ask(route.path, **known)
                else:
                    curves = {"project": "tests", "runs": [name], "keys": ["train/loss"], "points": 50}
                    reply = server.send(
                        route.path, {k: v for k, v in curves.items() if k in route.question.__annotations__}
                    )
                assert reply.status < 500, (route.path, reply.body)
                if reply.status == 200:
                    answered.add(route.path)
    assert len(answered) >= 8, answered


def reading_routes() -> list[Route]:
    return [route for route in api.routes() if not route.edits]
