"""What the page asks the server and what it is told: the shapes of every request and answer.

The one place where they are written down: `ui/src/types.ts` is made from these classes by `scripts/web_types.py`.
All times are Unix seconds. A number that is not finite is the text "NaN", "Infinity" or "-Infinity", as in a journal,
wherever the type is `Number`; arrays of curves are binary (see `lossbook.web.binary`) and hold them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lossbook.metrics import Role

#: A number, or the name of one that is not finite.
Number = float | str
#: Configuration and summary values: JSON.
Value = object


@dataclass(frozen=True)
class Failure:
    """Why a request could not be answered: one sentence, with an HTTP status of 400 or above."""

    error: str


# -- the store ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    name: str
    runs: int
    running: int
    newest: float  # when its newest run was begun


@dataclass(frozen=True)
class Store:
    """`GET /api/store`"""

    location: str
    source: str | None  # the tracker whose runs these are, None for a store of Lossbook's
    version: str
    editable: bool  # served with --edit
    projects: list[Project]
    unreadable: list[str] = field(default_factory=list)  # projects and runs that may not be read, a sentence each


# -- the runs of a project ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunRow:
    """One line of the table."""

    id: str
    name: str
    state: str  # running, finished, failed, interrupted, killed, preempted, crashed
    created: float
    duration: float  # seconds
    last_step: int | None
    tags: list[str]
    group: str | None
    notes: str | None
    attempts: int
    alerts: int
    host: str | None
    user: str | None
    error: str | None


@dataclass(frozen=True)
class Runs:
    """`GET /api/runs?project=P[&since=REVISION][&column=NAME]...`: the runs, the newest first.

    With `since`, only those that are new or changed, and `removed`. `columns` has for each asked name (`config.lr`,
    `summary.params`, `val/loss`, `val/loss.min`) one value for each of `rows`, null where a run has none.
    With `limit`, no more than the newest so many, and those of `run` (may be given several times).
    """

    revision: str
    whole: bool  # all runs are in `rows`: forget what was there
    rows: list[RunRow]
    removed: list[str]
    columns: dict[str, list[Value]]
    total: int = 0  # how many runs the project has
    unknown: list[str] = field(default_factory=list)  # names among `columns` that no run of the project has


@dataclass(frozen=True)
class Name:
    """A column that could be shown, or a metric that could be drawn."""

    name: str
    runs: int  # how many have it
    unit: str | None = None
    goal: str | None = None  # minimize, maximize
    same_as: str | None = None  # what most of the runs that were asked for call the same quantity
    role: Role | None = None


@dataclass(frozen=True)
class Names:
    """`GET /api/names?project=P[&run=ID]...[&newest=N]` (only those runs, or the newest N): every column.

    Config and summary have their prefix.
    """

    config: list[Name]
    summary: list[Name]
    metrics: list[Name]
    axes: list[str]  # what curves can be drawn against here, "step" first
    usual: list[str] = field(default_factory=list)  # training and validation loss, by the names they have here
    differing: list[str] = field(default_factory=list)  # configuration that is not the same in the newest runs


@dataclass(frozen=True)
class Matching:
    """`GET /api/where?project=P&where=EXPRESSION`: ids of the runs that fit."""

    ids: list[str]


# -- curves ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeriesRequest:
    project: str
    run: str  # id
    key: str
    start: float | None = None  # only from here on (units of x): the last bucket that is known, and what is new
    attempt: int | None = None  # that attempt's rows, hidden ones included


@dataclass(frozen=True)
class CurvesRequest:
    """`POST /api/curves`; the answer is binary, its header a `CurvesHeader`."""

    series: list[SeriesRequest]
    x: str = "step"
    points: int = 1000
    start: float | None = None
    end: float | None = None
    smoothing: str | None = None  # "ema:0.99", "mean:50", "median:50", "gaussian:20"


@dataclass(frozen=True)
class CurveHeader:
    """One series of the answer: `length` values in each array, in the order of `CurvesHeader.fields`."""

    project: str
    run: str
    key: str  # as asked
    found: str | None  # what the run calls it
    length: int
    attempts: int  # when this grows, earlier points may be hidden: draw anew
    state: str
    error: str | None = None  # why there is nothing


@dataclass(frozen=True)
class CurvesHeader:
    """`fields`: x, x_end, first, last, min, max, min_x, max_x, mean, count, nonfinite (see `lossbook.Curve`)."""

    fields: list[str]
    x: str
    curves: list[CurveHeader]


@dataclass(frozen=True)
class BandGroup:
    name: str
    project: str
    runs: list[str]


@dataclass(frozen=True)
class BandsRequest:
    """`POST /api/bands`: mean and range over the runs of each group; binary, its header a `BandsHeader`."""

    groups: list[BandGroup]
    key: str
    x: str = "step"
    points: int = 1000
    start: float | None = None
    end: float | None = None
    smoothing: str | None = None


@dataclass(frozen=True)
class BandHeader:
    name: str
    length: int
    runs: int
    error: str | None = None


@dataclass(frozen=True)
class BandsHeader:
    """`fields`: x, mean, low, high, count."""

    fields: list[str]
    x: str
    bands: list[BandHeader]


@dataclass(frozen=True)
class MarksRequest:
    """`POST /api/marks`: `{"runs": [...ids], "project": P, "key": K, "x": X}`."""

    project: str
    runs: list[str]
    key: str
    x: str = "step"


@dataclass(frozen=True)
class Mark:
    """Something that happened, at its place on the axis of a curve."""

    run: str
    kind: str  # attempt, fork, checkpoint, stage, alert, note
    x: float
    step: int | None
    time: float
    title: str
    text: str = ""
    level: str = "info"  # info, warning, error


@dataclass(frozen=True)
class Marks:
    marks: list[Mark]


# -- comparing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompareRequest:
    """`POST /api/compare`, as `Book.compare`."""

    project: str
    runs: list[str]
    metric: str | None = None
    losses: list[float] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    baseline: str | None = None
    every_setting: bool = False  # also what is the same in all of them


@dataclass(frozen=True)
class ComparedColumn:
    name: str
    title: str
    kind: str  # text, setting, value, seconds, rate, count, step, percent, gibibytes, moment
    goal: str | None  # minimize, maximize


@dataclass(frozen=True)
class Compared:
    metric: str | None
    goal: str | None
    baseline: str | None
    columns: list[ComparedColumn]
    runs: list[dict[str, Value]]  # by column name; `change` holds numbers minus the baseline's
    settings: list[str]  # every configuration key that differs between the runs; with `every_setting`, every one
    config: list[dict[str, Value]]  # for each of `runs`, the flat configuration of those keys


# -- one run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """What is known of one series without reading it."""

    key: str
    last: Number | None
    last_step: int | None
    min: Number | None
    min_step: int | None
    max: Number | None
    max_step: int | None
    mean: Number | None
    count: int
    nonfinite: int
    unit: str | None
    goal: str | None
    role: Role | None


@dataclass(frozen=True)
class KeyMetric:
    """The one metric that stands for a role. `percent_factor`: what a utilisation is multiplied by to be percent."""

    role: Role
    key: str
    percent_factor: int


@dataclass(frozen=True)
class Attempt:
    number: int
    started: float
    host: str | None
    resume_step: int | None
    world_size: int
    command: str | None


@dataclass(frozen=True)
class Follower:
    """A mirror or another follower, as its cursor tells."""

    name: str
    state: str  # delivering, waiting, failed, done
    rows_behind: int | None
    error: str | None
    link: str | None  # where the run is to be seen there


@dataclass(frozen=True)
class RunPage:
    """`GET /api/run?project=P&run=ID`"""

    project: str
    row: RunRow
    path: str  # the run's folder, as a person would type it
    ended: float | None
    config: dict[str, Value]
    summary: dict[str, Value]
    metrics: list[Metric]
    key_metrics: list[KeyMetric]
    gpus: int  # how many GPUs the run has readings of
    attempts: list[Attempt]
    parent: dict[str, Value] | None  # project, run, step
    forks: list[str]  # ids of runs of the project that go on from this one
    argv: list[str]
    cwd: str | None
    script: str | None
    git: dict[str, Value] | None  # commit, branch, dirty, remote
    host: dict[str, Value] | None  # name, user, os, python, cpus
    problems: list[str]
    followers: list[Follower]
    console_ranks: list[int]
    event_kinds: dict[str, int]  # how many rows of each kind there are
    axes: list[str]
    revision: str = ""  # changes when anything here may have, but for a running run's duration


@dataclass(frozen=True)
class Event:
    """A row that is no scalar; `value` as docs/format.md says for its kind."""

    row: int
    step: int | None
    time: float
    kind: str
    key: str | None
    rank: int
    attempt: int
    value: dict[str, Value]
    cut: bool = False  # `value` is too large to be given whole: a text is cut, everything else left out


@dataclass(frozen=True)
class Events:
    """`GET /api/run/events?project&run&kind=K[&kind=...][&key=...][&after=TIME][&limit=N][&thin=true]`, oldest first.

    `total` is how many there are; where they are more than `limit`, the newest `limit` are given, or with `thin` such
    as are evenly spread over steps, the first and the last among them.
    """

    events: list[Event]
    total: int
    left_out: int = 0
    problems: list[str] = field(default_factory=list)  # files that cannot be read


@dataclass(frozen=True)
class TablePage:
    """`GET /api/run/table?project&run&rank=R&row=I&start=N&limit=M`: lines of one logged table."""

    columns: list[str]
    rows: list[list[Value]]
    count: int


@dataclass(frozen=True)
class ConsoleSpan:
    """Some characters of a line in a style of their own: words of bold, dim, italic, underline, red, bright-red, on-red."""

    start: int
    end: int
    style: str


@dataclass(frozen=True)
class ConsoleLine:
    number: int  # from 0; below 0 counted from the end (-1 the last), where a huge log's lines are not counted yet
    text: str
    offset: int = 0  # where it begins, in bytes: tells lines apart
    spans: list[ConsoleSpan] = field(default_factory=list)
    whole: bool = True  # false: it has not ended, and may still change
    cut: bool = False  # it is longer than this


@dataclass(frozen=True)
class Console:
    """`GET /api/run/console?project&run&rank=R[&start=LINE|-N][&offset=BYTE][&limit=N]`: `start=-N` for the last N lines.

    To follow a log, ask with `offset` the `next_offset` of the answer before; a line that had not ended comes again.
    """

    lines: list[ConsoleLine]
    total: int  # lines known so far
    whole: bool  # `total` is exact
    next_offset: int = 0  # in bytes
    at_end: bool = True
    bytes: int = 0  # of the log


@dataclass(frozen=True)
class ConsoleFound:
    """`GET /api/run/console/search?project&run&rank=R&text=T[&start=LINE][&limit=N]`: `next` where to go on, or null.

    A search gives what it found in a fifth of a second: there may be no line and a `next`.
    """

    lines: list[ConsoleLine]
    next: int | None
    searched: float = 1.0  # how much of the log lies behind, 0 to 1


@dataclass(frozen=True)
class GpuReading:
    """In percent, bytes, watts and degrees Celsius, as `quantity` ends; null where it is not known.

    quantity: utilisation_percent, memory_bytes, memory_total_bytes, memory_percent, memory_activity_percent,
    process_memory_bytes, power_watts, power_percent, temperature_celsius, and throttled: 1 where the clock is held down
    (`average`: the share of samples).
    """

    quantity: str
    current: float | None
    average: float | None
    maximum: float | None
    key: str | None  # the series, to be drawn


@dataclass(frozen=True)
class Gpu:
    node: str | None
    rank: int | None
    index: int
    model: str | None
    readings: list[GpuReading]
    active: bool = True  # did anything for this run, as far as can be seen
    throttle_reasons: int | None = None  # why the clock was held down last, NVML's bits


@dataclass(frozen=True)
class RankSpeed:
    """How long a rank's steps take beside the others', over the run's last steps."""

    rank: int
    node: str | None
    step_seconds: float | None  # None where step times are not logged (a speed may be: `value`)
    slower_percent: float  # than the median of the others; below 0: faster
    straggler: bool  # the diagnosis found that it made the others wait
    value: float | None = None  # the mean of `Gpus.rank_key`, in its own unit
    last_step: int | None = None


@dataclass(frozen=True)
class HostSeries:
    key: str
    label: str


@dataclass(frozen=True)
class HostChart:
    title: str
    unit: str
    series: list[HostSeries]


@dataclass(frozen=True)
class Gpus:
    """`GET /api/run/gpus?project&run`"""

    gpus: list[Gpu]
    ranks: list[RankSpeed]
    findings: list[str]  # what the diagnosis says of the machine: stragglers, throttling, heat
    overall: list[GpuReading] = field(default_factory=list)  # means and sums over all GPUs, where they were logged
    rank_key: str | None = None  # the series that ranks are compared by
    host: list[HostChart] = field(default_factory=list)


@dataclass(frozen=True)
class Code:
    """`GET /api/run/code?project&run[&attempt=N]`"""

    git: dict[str, Value] | None
    diff: str | None
    diff_truncated: bool
    script_name: str | None
    script: str | None
    packages: str | None
    environment: dict[str, Value] | None
    attempts: list[int]  # those that have code of their own
    attempt: int = 0  # the one that this is
    problems: list[str] = field(default_factory=list)  # what is damaged, or was cut


@dataclass(frozen=True)
class File:
    path: str  # within the run's folder, with forward slashes
    bytes: int
    changed: float
    picture: bool


@dataclass(frozen=True)
class Files:
    """`GET /api/run/files?project&run`; one of them: `GET /api/run/file?project&run&path=P[&text=true]`.

    `text` shows a text as plain text; otherwise all but pictures is something to save.
    """

    files: list[File]
    whole: bool = True  # false: there are more than these 10,000


@dataclass(frozen=True)
class Family:
    """Series that are the same quantity of different layers or parameters."""

    pattern: str  # `gradient/h.*.mlp.c_fc.weight`
    keys: list[str]  # in the order of the layers
    labels: list[str]  # what the pattern's `*` stands for in each


@dataclass(frozen=True)
class Families:
    """`GET /api/run/families?project&run`"""

    families: list[Family]


@dataclass(frozen=True)
class MatrixRequest:
    """`POST /api/run/matrix`; binary: arrays `x` (columns + 1 edges), then mean, min, max, count, nonfinite
    (keys x columns each, row by row); its header a `MatrixHeader`."""

    project: str
    run: str
    keys: list[str]
    x: str = "step"
    columns: int = 200
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class MatrixHeader:
    """`beyond`: how far (in x) a row may lie beyond its cell's edge, where cells were made of rollup buckets; else 0."""

    keys: list[str]
    columns: int
    x: str
    beyond: float = 0.0


# -- changing (only with --edit) --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """`POST /api/edit`: what is given is set, what is null is left as it is. Answered with the new `RunRow`."""

    project: str
    run: str
    name: str | None = None
    notes: str | None = None
    tags: list[str] | None = None
    group: str | None = None  # "" for none
