"""MLflow's servers and databases, read with MLflow's own client, page by page."""

from __future__ import annotations

import hashlib
import heapq
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from lossbook.errors import MissingLibrary, StoreError
from lossbook.json_shapes import Json, JsonObject, counts_of
from lossbook.trackers.mlflow.tracking import Listed, Point, largest_as_infinity

if TYPE_CHECKING:
    import mlflow.entities

Answer = TypeVar("Answer")
#: Runs and points that one request asks for.
PAGE_RUNS, PAGE_POINTS = 500, 5000


class ClientTracking:
    """A tracking server. Within a metric a server gives points in the order of their times: a place counts them."""

    def __init__(self, uri: str) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise MissingLibrary(f"{uri} needs MLflow's client: pip install 'lossbook[mlflow]'") from None
        # MLflow repeats a request for minutes on end before it says that nobody answers.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        self.uri = uri
        self._client = self._ask(lambda: MlflowClient(tracking_uri=uri))

    def runs(self, experiment: str | None) -> Iterator[Listed]:
        by_id: dict[str, str] = {}
        token: str | None = None
        while True:
            page = self._ask(lambda token=token: self._client.search_experiments(page_token=token))  # type: ignore[misc]
            by_id.update({one.experiment_id: one.name for one in page})
            token = page.token
            if not token:
                break
        wanted = [key for key, name in by_id.items() if experiment in (None, name, key)]
        if not wanted and experiment is not None:
            names = ", ".join(by_id.values()) or "none"
            raise StoreError(f"there is no experiment {experiment!r} at {self.uri}; it has {names}")
        for experiment_id in wanted:
            token = None
            while True:
                page = self._ask(
                    lambda token=token, one=experiment_id: self._client.search_runs(  # type: ignore[misc]
                        [one], max_results=PAGE_RUNS, page_token=token
                    )
                )
                for run in page:
                    yield self._listed(run, by_id[experiment_id])
                token = page.token
                if not token:
                    break

    def _listed(self, run: mlflow.entities.Run, experiment: str) -> Listed:
        about, values = run.info, run.data
        last = {key: largest_as_infinity(float(value)) for key, value in values.metrics.items()}
        latest = sorted((one.key, one.timestamp, one.step, one.value) for one in values._metric_objs)
        parts = (latest, about.status, about.end_time, sorted(values.params.items()), sorted(values.tags.items()))
        return Listed(
            about.run_id,
            about.run_name or about.run_id,
            experiment,
            about.status,
            int(about.start_time or 0),
            about.end_time,
            dict(values.params),
            dict(values.tags),
            last,
            about.artifact_uri or "",
            hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16],
        )

    def points(self, run_id: str, after: Json) -> Iterator[Point]:
        counts = counts_of(after)
        keys = sorted(self._ask(lambda: self._client.get_run(run_id)).data.metrics)
        series = [self._series(run_id, key, counts.get(key, 0)) for key in keys]
        for point in heapq.merge(*series, key=lambda one: (one.time_ms, one.step)):
            counts = {**counts, point.key: counts.get(point.key, 0) + 1}
            place: JsonObject = {**counts}
            yield point._replace(place=place)

    def _series(self, run_id: str, key: str, skip: int) -> Iterator[Point]:
        """One metric's points, in pages, in the order of their times, behind the first `skip`."""
        token: str | None = None
        while True:
            page = self._ask(
                lambda token=token: self._client._tracking_client.store.get_metric_history(  # type: ignore[misc]
                    run_id, key, max_results=PAGE_POINTS, page_token=token
                )
            )
            for one in page:
                if skip:
                    skip -= 1
                    continue
                yield Point(one.timestamp, one.step, key, largest_as_infinity(float(one.value)), None)
            token = page.token
            if not token:
                return

    def files(self, run: Listed) -> Iterator[tuple[str, int]]:
        folders = [""]
        while folders:
            folder = folders.pop()
            for one in self._ask(lambda folder=folder: self._client.list_artifacts(run.id, folder or None)):  # type: ignore[misc]
                if one.is_dir:
                    folders.append(one.path)
                else:
                    yield one.path, int(one.file_size or 0)

    def contents(self, run: Listed, path: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="lossbook-mlflow-") as scratch:
            kept = self._ask(lambda: self._client.download_artifacts(run.id, path, scratch))
            with open(kept, "rb") as file:
                return file.read()

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask MLflow; whatever it, its database or the network raises becomes one sentence."""
        try:
            return question()
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise StoreError(
                f"MLflow at {self.uri} cannot be read ({said}); check the address, the network and your login, and "
                "try again: what was read stays"
            ) from error
