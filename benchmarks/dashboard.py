"""The dashboards: how soon curves are on the screen, how they follow the hand and the training, what the server needs.

Ours beside TensorBoard's and Trackio's on the same runs, in the same headless Chromium without a GPU, looked at in the
same way (`benchmarks.dashboard_page`).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.dashboard_page import Screen, Seen, browsing, missing, new_page
from benchmarks.dashboard_servers import Served, await_tensorboard, end, serving
from benchmarks.dashboard_stores import CURVES, DIFFERENT, copy_runs, write_curves, write_runs
from benchmarks.harness import ROOT, start
from benchmarks.listing import multiply, record_one
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, PROJECT, installed

TENSORBOARD = "tensorboardX"
SHOWN = (OURS, "trackio", TENSORBOARD)
#: The rectangle of the first chart on a page.
CHARTS = {OURS: ".chart-card canvas", "trackio": "canvas.marks", TENSORBOARD: "line-chart canvas"}
PATIENCE_SECONDS = 60.0
GESTURE_SECONDS = 2.0

#: TensorBoard ticks no run where there are many: the first ten, as soon as they are listed.
_TICK_TEN = """
const ticking = setInterval(() => {
  const boxes = [...document.querySelectorAll("runs-data-table input[type=checkbox]")];
  if (boxes.length < 11) return;
  clearInterval(ticking);
  if (!boxes.some((box) => box.checked)) for (const box of boxes.slice(1, 11)) box.click();
}, 20);
"""
#: What its settings' dialogue would set.
_RELOAD_BY_ITSELF = """localStorage.setItem("_tb_global_settings", JSON.stringify({autoReload: true}));"""


def open_pages(folder: str, tracker: str, runs: int, pages: int, gestures: bool) -> dict[str, Any]:
    """Open the project again and again, each time on a page with nothing in its cache.

    Returns:
        `first`: what the first page after the server's start took; `pages`: the others, [begun, whole] in seconds
        each, null where no curve was seen; `memory_bytes` of the server then; `pan` and `zoom` of all curves
        in frames a second, null where the page has no such gesture.
    """
    return asyncio.run(_open_pages(folder, tracker, runs, pages, gestures))


async def _open_pages(folder: str, tracker: str, runs: int, pages: int, gestures: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"first": None, "pages": [], "pan": None, "zoom": None}
    chart = CHARTS[tracker]
    with serving(tracker, folder) as served:
        async with browsing() as browser:
            if tracker == TENSORBOARD:
                await_tensorboard(served, runs)
            address = _address(tracker, served, folder, runs)
            script = _TICK_TEN if tracker == TENSORBOARD else ""
            for number in range(pages + 1):
                async with new_page(browser, chart, script) as screen:
                    seen = await screen.open(address, PATIENCE_SECONDS)
                    if number == 0:
                        found["first"] = _pair(seen)
                    else:
                        found["pages"].append(_pair(seen))
                    if seen is None:
                        # It will not be there in the next minute either.
                        break
                    if number == pages and gestures:
                        found["zoom"] = await _zoom(screen, tracker)
                        found["pan"] = await _pan(screen, tracker)
            found["memory_bytes"] = served.memory_bytes()
    return found


def see_points(folder: str, tracker: str, points: int, options: list[str], by_itself: bool) -> dict[str, Any]:
    """Log a point at a time to a run that goes on, and wait for each on the screen.

    Args:
        options: of the dashboard's server.
        by_itself: for TensorBoard: switch on that its page asks again (each 30 s, the least that it allows).

    Returns:
        `seconds` from the return of `log()` to the frame with the point, one for each that was seen.
    """
    return asyncio.run(_see_points(folder, tracker, points, options, by_itself))


async def _see_points(folder: str, tracker: str, points: int, options: list[str], by_itself: bool) -> dict[str, Any]:
    patience = 75.0 if tracker == TENSORBOARD else 20.0
    arguments = f"{folder!r}, {tracker!r}, {points}, {3 * patience}"
    code = f"from benchmarks.dashboard_stores import log_when_told; log_when_told({arguments})"
    output = subprocess.DEVNULL
    logging = start([sys.executable, "-c", code], folder, output, group=True)
    seconds: list[float] = []
    try:
        _await_file(os.path.join(folder, "told-begun"))
        with serving(tracker, folder, options) as served:
            async with browsing() as browser:
                if tracker == TENSORBOARD:
                    await_tensorboard(served, 1)
                async with new_page(browser, CHARTS[tracker], _RELOAD_BY_ITSELF if by_itself else "") as screen:
                    if await screen.open(_address(tracker, served, folder, 1), PATIENCE_SECONDS) is None:
                        raise RuntimeError("no curve was on the screen")
                    for number in range(points):
                        known = await screen.await_stillness()
                        with open(os.path.join(folder, f"tell-{number}"), "w", encoding="utf-8"):
                            pass
                        seen = await screen.await_change(known, patience)
                        if seen is None:
                            break
                        seconds.append(seen - float(_await_file(os.path.join(folder, f"told-{number}"))))
    finally:
        end(logging)
    return {"seconds": seconds}


def figures(session: Session) -> list[Figure]:
    reason = missing()
    if reason is None and not os.path.exists(os.path.join(ROOT, "lossbook", "web", "static", "index.html")):
        reason = "The dashboards were left out: the page is not built (make ui)."
    if reason is not None:
        print(f"  {reason}", file=sys.stderr)
        session.failures.append(reason)
        return []
    shown = [one for one in SHOWN if one == OURS or (one in session.peers and _has_dashboard(one))]
    pages = 3 if session.quick else 7
    large, same = 10_000, 200 if session.quick else 1_000
    rows, long = (2_000 if session.quick else 10_000), 1_000_000

    one = session.measure(record_one, session.place("one-run"))
    many = _opened(session, _made(session, one, OURS, large), OURS, large, pages)
    several = {tracker: _opened(session, _made(session, one, tracker, same), tracker, same, pages) for tracker in shown}
    short = {tracker: _curves(session, tracker, rows, pages) for tracker in shown}
    million = _curves(session, OURS, long, pages)
    points = {tracker: _points(session, tracker) for tracker in shown}
    return [
        *_opening_figures(many, several, large, same),
        *_curve_figures(million, short, rows, long),
        *_gesture_figures(million, short, rows, long),
        *_point_figures(points, session.quick),
        *_memory_figures(many, million, several, short, large, same, rows, long),
    ]


# -- the figures -------------------------------------------------------------------------------------------------------

Answer = dict[str, Any] | None


def _opening_figures(many: Answer, several: dict[str, Answer], large: int, same: int) -> list[Figure]:
    never = [tracker for tracker, answer in several.items() if answer is not None and _median(answer, 0) is None]
    return [
        Figure(
            "dashboard",
            f"first chart of a project of {large:,} runs, s",
            _median(many, 0),
            target=Target(at_most=0.5),
            note="from the navigation's start to the first frame in which the first chart has half the colour that it has "
            "in the end, known to a frame (17 ms); the server runs, the page has nothing in its cache; the median of "
            f"{_counted(many)} pages. Chromium without a GPU.",
        ),
        Figure("dashboard", f"first chart of a project of {large:,} runs, the server's first page, s", _first(many)),
        Figure(
            "dashboard",
            f"first chart of a project of {same:,} runs, s",
            _median(several.get(OURS), 0),
            _peers(several, lambda answer: _median(answer, 0)),
            note="ten series of 100 rows each. Ours draws the ten newest runs, Trackio all of them; TensorBoard "
            "draws none by itself where there are so many, and is ticked the first ten as soon as they are listed."
            + "".join(f" Nothing of {tracker} was on the screen after {PATIENCE_SECONDS:.0f} s." for tracker in never),
        ),
    ]


def _curve_figures(million: Answer, short: dict[str, Answer], rows: int, long: int) -> list[Figure]:
    return [
        Figure(
            "dashboard",
            f"{CURVES} curves × {long:,} rows on the screen, s",
            _median(million, 1),
            target=Target(at_most=1),
            note="from the navigation's start to the frame after which the chart stays as it is; the median of "
            f"{_counted(million)} pages. Sealed files written by the sealing function "
            f"itself, {DIFFERENT} different ones.",
        ),
        Figure("dashboard", f"{CURVES} curves × {long:,} rows, the server's first page, s", _first(million, 1)),
        Figure(
            "dashboard",
            f"{CURVES} curves × {rows:,} rows on the screen, s",
            _median(short.get(OURS), 1),
            _peers(short, lambda answer: _median(answer, 1)),
            note="TensorBoard keeps 1,000 samples of a series and Trackio's page asks for some thousands of rows in "
            "all; ours keeps the extremes of all rows.",
        ),
    ]


def _gesture_figures(million: Answer, short: dict[str, Answer], rows: int, long: int) -> list[Figure]:
    how = f"frames in which the chart's canvas held other pixels than a frame before, over {GESTURE_SECONDS:.0f} s; "
    return [
        Figure(
            "dashboard",
            f"moving {CURVES} curves × {long:,} rows, frames/s",
            _of(million, "pan"),
            target=Target(at_least=50),
            note=how + "dragged with the shift key to and fro, zoomed in before; the mouse reports 125 times a second.",
        ),
        Figure(
            "dashboard",
            f"zooming {CURVES} curves × {long:,} rows, frames/s",
            _of(million, "zoom"),
            target=Target(at_least=50),
            note=how + "the wheel with ctrl, in and out.",
        ),
        Figure(
            "dashboard",
            f"moving {CURVES} curves × {rows:,} rows, frames/s",
            _of(short.get(OURS), "pan"),
            _peers(short, lambda answer: _of(answer, "pan")),
            note="TensorBoard: shift and drag. Trackio's chart cannot be moved.",
        ),
        Figure(
            "dashboard",
            f"zooming {CURVES} curves × {rows:,} rows, frames/s",
            _of(short.get(OURS), "zoom"),
            _peers(short, lambda answer: _of(answer, "zoom")),
            note="TensorBoard: the wheel with alt. Trackio: a range is dragged, which zooms as it grows.",
        ),
    ]


def _point_figures(points: dict[str, dict[str, list[float]]], quick: bool) -> list[Figure]:
    def typical(tracker: str, how: str) -> float | None:
        seconds = points.get(tracker, {}).get(how, [])
        return statistics.median(seconds) if seconds else None

    ours = points.get(OURS, {}).get("as it is", [])
    plain = {tracker: typical(tracker, "as it is") for tracker in points if tracker != OURS}
    hurried = typical(TENSORBOARD, "hurried")
    told = (
        "" if quick or TENSORBOARD not in points else " TensorBoard showed none in 75 s: its page does not ask again."
    )
    return [
        Figure(
            "dashboard",
            "a new point on the screen after log(), s",
            typical(OURS, "as it is"),
            {tracker: value for tracker, value in plain.items() if value is not None},
            Target(at_most=1),
            note=f"from the return of `log()` in a running training process to the frame with the point; the "
            f"median of {len(ours)}.{told if plain.get(TENSORBOARD) is None else ''}",
        ),
        Figure("dashboard", "a new point, the slowest, s", max(ours, default=None)),
        Figure(
            "dashboard",
            "a new point, TensorBoard hurried, s",
            None,
            {TENSORBOARD: hurried} if hurried is not None else {},
            note="`--reload_interval 1`, its page's reloading switched on (each 30 s, the least that it allows), and "
            "the writer flushed after each point.",
        ),
    ]


def _memory_figures(
    many: Answer,
    million: Answer,
    several: dict[str, Answer],
    short: dict[str, Answer],
    large: int,
    same: int,
    rows: int,
    long: int,
) -> list[Figure]:
    def megabytes(answer: Answer) -> float | None:
        return None if answer is None else answer["memory_bytes"] / 1e6

    return [
        Figure(
            "dashboard",
            f"memory of the server after {large:,} runs, MB",
            megabytes(many),
            target=Target(at_most=300),
            note="resident memory of the server's process tree after the pages above.",
        ),
        Figure(
            "dashboard",
            f"memory of the server after {CURVES} curves × {long:,} rows, MB",
            megabytes(million),
            target=Target(at_most=300),
        ),
        Figure(
            "dashboard",
            f"memory of the server after {same:,} runs, MB",
            megabytes(several.get(OURS)),
            _peers(several, megabytes),
        ),
        Figure(
            "dashboard",
            f"memory of the server after {CURVES} curves × {rows:,} rows, MB",
            megabytes(short.get(OURS)),
            _peers(short, megabytes),
        ),
    ]


def _peers(answers: dict[str, Answer], of: Any) -> dict[str, float]:
    found = {tracker: of(answer) for tracker, answer in answers.items() if tracker != OURS}
    return {tracker: value for tracker, value in found.items() if value is not None}


def _of(answer: Answer, name: str) -> float | None:
    return None if answer is None else answer[name]


def _median(answer: Answer, place: int) -> float | None:
    seen = [] if answer is None else [page[place] for page in answer["pages"] if page is not None]
    return statistics.median(seen) if seen else None


def _first(answer: Answer, place: int = 0) -> float | None:
    return None if answer is None or answer["first"] is None else answer["first"][place]


def _counted(answer: Answer) -> int:
    return 0 if answer is None else sum(page is not None for page in answer["pages"])


# -- the measurements --------------------------------------------------------------------------------------------------


def _made(session: Session, one: Any, tracker: str, runs: int) -> str | None:
    """The folder with a project of many runs; None where it could not be made."""
    folder = session.place(f"{runs}-runs-{tracker}")
    if tracker == OURS:
        made = session.measure(multiply, folder, path=one.value, runs=runs) if one is not None else None
    else:
        made = session.measure(write_runs, folder, tracker=tracker, runs=runs)
    return folder if made is not None else None


def _opened(
    session: Session, folder: str | None, tracker: str, runs: int, pages: int, gestures: bool = False
) -> Answer:
    if folder is None:
        return None
    outcome = session.measure(open_pages, folder, tracker=tracker, runs=runs, pages=pages, gestures=gestures)
    return None if outcome is None else outcome.value


def _curves(session: Session, tracker: str, rows: int, pages: int) -> Answer:
    folder = session.place(f"curves-{tracker}")
    if session.measure(write_curves, folder, tracker=tracker, rows=rows) is None:
        return None
    if tracker == OURS and session.measure(copy_runs, folder) is None:
        return None
    return _opened(session, folder, tracker, CURVES, pages, gestures=True)


def _points(session: Session, tracker: str) -> dict[str, list[float]]:
    ways: dict[str, dict[str, Any]] = {"as it is": {"options": [], "by_itself": False}}
    if tracker == TENSORBOARD:
        ways["hurried"] = {"options": ["--reload_interval", "1"], "by_itself": True}
        if session.quick:
            # To see that nothing comes takes longer than everything else.
            del ways["as it is"]
    found = {}
    for name, way in ways.items():
        points = (1 if session.quick else 3) if tracker == TENSORBOARD else (5 if session.quick else 10)
        folder = session.place(f"points-{tracker}")
        outcome = session.measure(see_points, folder, tracker=tracker, points=points, **way)
        found[name] = outcome.value["seconds"] if outcome is not None else []
    return found


async def _zoom(screen: Screen, tracker: str) -> float:
    if tracker == "trackio":
        return await screen.changes_per_second(lambda: screen.drag(GESTURE_SECONDS))
    key, turn = ("Control", 20.0) if tracker == OURS else ("Alt", 10.0)
    return await screen.changes_per_second(lambda: screen.wheel(GESTURE_SECONDS, key=key, turn=turn))


async def _pan(screen: Screen, tracker: str) -> float | None:
    if tracker == "trackio":
        return None
    key, turn, turns = ("Control", 100.0, 4) if tracker == OURS else ("Alt", 20.0, 2)
    await screen.zoom_in(key=key, turn=turn, turns=turns)
    await screen.await_stillness()
    return await screen.changes_per_second(lambda: screen.drag(GESTURE_SECONDS, key="Shift"))


def _address(tracker: str, served: Served, folder: str, runs: int) -> str:
    if tracker == "trackio":
        return f"{served.address}/?project={PROJECT}"
    if tracker == TENSORBOARD:
        return f"{served.address}/#timeseries"
    if runs != CURVES:
        return f"{served.address}/#/p/{PROJECT}/charts"
    # All of them are drawn, not only the newest.
    return f"{served.address}/#/p/{PROJECT}/charts?runs={','.join(os.listdir(os.path.join(folder, OURS, PROJECT)))}"


def _has_dashboard(tracker: str) -> bool:
    return installed("tensorboard") if tracker == TENSORBOARD else installed(tracker)


def _pair(seen: Seen | None) -> list[float] | None:
    return None if seen is None else [seen.begun_seconds, seen.whole_seconds]


def _await_file(path: str, seconds: float = 60.0) -> str:
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{os.path.basename(path)} was not written in time")
        time.sleep(0.001)
    with open(path, encoding="utf-8") as file:
        return file.read()
