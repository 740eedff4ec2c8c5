// Made by scripts/web_types.py from lossbook/web/schemas.py: change that, and run it again.

/** What a metric is in a training run: lossbook/metrics.py. */
export type Role = "train-loss" | "val-loss" | "test-loss" | "loss" | "quality" | "tokens" | "speed" | "step-time" | "utilisation" | "machine";

/** Why a request could not be answered: one sentence, with an HTTP status of 400 or above. */
export interface Failure {
  error: string;
}

export interface Project {
  name: string;
  runs: number;
  running: number;
  newest: number;
}

/** `GET /api/store` */
export interface Store {
  location: string;
  source: string | null;
  version: string;
  editable: boolean;
  projects: Project[];
  unreadable: string[];
}

/** One line of the table. */
export interface RunRow {
  id: string;
  name: string;
  state: string;
  created: number;
  duration: number;
  last_step: number | null;
  tags: string[];
  group: string | null;
  notes: string | null;
  attempts: number;
  alerts: number;
  host: string | null;
  user: string | null;
  error: string | null;
}

/** `GET /api/runs?project=P[&since=REVISION][&column=NAME]...`: the runs, the newest first. With `since`, only those that are new or changed, and `removed`. `columns` has for each asked name (`config.lr`, `summary.params`, `val/loss`, `val/loss.min`) one value for each of `rows`, null where a run has none. With `limit`, no more than the newest so many, and those of `run` (may be given several times). */
export interface Runs {
  revision: string;
  whole: boolean;
  rows: RunRow[];
  removed: string[];
  columns: Record<string, unknown[]>;
  total: number;
  unknown: string[];
}

/** A column that could be shown, or a metric that could be drawn. */
export interface Name {
  name: string;
  runs: number;
  unit: string | null;
  goal: string | null;
  same_as: string | null;
  role: Role | null;
}

/** `GET /api/names?project=P[&run=ID]...[&newest=N]` (only those runs, or the newest N): every column. Config and summary have their prefix. */
export interface Names {
  config: Name[];
  summary: Name[];
  metrics: Name[];
  axes: string[];
  usual: string[];
  differing: string[];
}

/** `GET /api/where?project=P&where=EXPRESSION`: ids of the runs that fit. */
export interface Matching {
  ids: string[];
}

export interface SeriesRequest {
  project: string;
  run: string;
  key: string;
  start?: number | null;
  attempt?: number | null;
}

/** `POST /api/curves`; the answer is binary, its header a `CurvesHeader`. */
export interface CurvesRequest {
  series: SeriesRequest[];
  x?: string;
  points?: number;
  start?: number | null;
  end?: number | null;
  smoothing?: string | null;
}

/** One series of the answer: `length` values in each array, in the order of `CurvesHeader.fields`. */
export interface CurveHeader {
  project: string;
  run: string;
  key: string;
  found: string | null;
  length: number;
  attempts: number;
  state: string;
  error: string | null;
}

/** `fields`: x, x_end, first, last, min, max, min_x, max_x, mean, count, nonfinite (see `lossbook.Curve`). */
export interface CurvesHeader {
  fields: string[];
  x: string;
  curves: CurveHeader[];
}

export interface BandGroup {
  name: string;
  project: string;
  runs: string[];
}

/** `POST /api/bands`: mean and range over the runs of each group; binary, its header a `BandsHeader`. */
export interface BandsRequest {
  groups: BandGroup[];
  key: string;
  x?: string;
  points?: number;
  start?: number | null;
  end?: number | null;
  smoothing?: string | null;
}

export interface BandHeader {
  name: string;
  length: number;
  runs: number;
  error: string | null;
}

/** `fields`: x, mean, low, high, count. */
export interface BandsHeader {
  fields: string[];
  x: string;
  bands: BandHeader[];
}

/** `POST /api/marks`: `{"runs": [...ids], "project": P, "key": K, "x": X}`. */
export interface MarksRequest {
  project: string;
  runs: string[];
  key: string;
  x?: string;
}

/** Something that happened, at its place on the axis of a curve. */
export interface Mark {
  run: string;
  kind: string;
  x: number;
  step: number | null;
  time: number;
  title: string;
  text: string;
  level: string;
}

export interface Marks {
  marks: Mark[];
}

/** `POST /api/compare`, as `Book.compare`. */
export interface CompareRequest {
  project: string;
  runs: string[];
  metric?: string | null;
  losses?: number[];
  columns?: string[];
  baseline?: string | null;
  every_setting?: boolean;
}

export interface ComparedColumn {
  name: string;
  title: string;
  kind: string;
  goal: string | null;
}

export interface Compared {
  metric: string | null;
  goal: string | null;
  baseline: string | null;
  columns: ComparedColumn[];
  runs: Record<string, unknown>[];
  settings: string[];
  config: Record<string, unknown>[];
}

/** What is known of one series without reading it. */
export interface Metric {
  key: string;
  last: number | string | null;
  last_step: number | null;
  min: number | string | null;
  min_step: number | null;
  max: number | string | null;
  max_step: number | null;
  mean: number | string | null;
  count: number;
  nonfinite: number;
  unit: string | null;
  goal: string | null;
  role: Role | null;
}

/** The one metric that stands for a role. `percent_factor`: what a utilisation is multiplied by to be percent. */
export interface KeyMetric {
  role: Role;
  key: string;
  percent_factor: number;
}

export interface Attempt {
  number: number;
  started: number;
  host: string | null;
  resume_step: number | null;
  world_size: number;
  command: string | null;
}

/** A mirror or another follower, as its cursor tells. */
export interface Follower {
  name: string;
  state: string;
  rows_behind: number | null;
  error: string | null;
  link: string | null;
}

/** `GET /api/run?project=P&run=ID` */
export interface RunPage {
  project: string;
  row: RunRow;
  path: string;
  ended: number | null;
  config: Record<string, unknown>;
  summary: Record<string, unknown>;
  metrics: Metric[];
  key_metrics: KeyMetric[];
  gpus: number;
  attempts: Attempt[];
  parent: Record<string, unknown> | null;
  forks: string[];
  argv: string[];
  cwd: string | null;
  script: string | null;
  git: Record<string, unknown> | null;
  host: Record<string, unknown> | null;
  problems: string[];
  followers: Follower[];
  console_ranks: number[];
  event_kinds: Record<string, number>;
  axes: string[];
  revision: string;
}

/** A row that is no scalar; `value` as docs/format.md says for its kind. */
export interface Event {
  row: number;
  step: number | null;
  time: number;
  kind: string;
  key: string | null;
  rank: number;
  attempt: number;
  value: Record<string, unknown>;
  cut: boolean;
}

/** `GET /api/run/events?project&run&kind=K[&kind=...][&key=...][&after=TIME][&limit=N][&thin=true]`, oldest first. `total` is how many there are; where they are more than `limit`, the newest `limit` are given, or with `thin` such as are evenly spread over steps, the first and the last among them. */
export interface Events {
  events: Event[];
  total: number;
  left_out: number;
  problems: string[];
}

/** `GET /api/run/table?project&run&rank=R&row=I&start=N&limit=M`: lines of one logged table. */
export interface TablePage {
  columns: string[];
  rows: unknown[][];
  count: number;
}

/** Some characters of a line in a style of their own: words of bold, dim, italic, underline, red, bright-red, on-red. */
export interface ConsoleSpan {
  start: number;
  end: number;
  style: string;
}

export interface ConsoleLine {
  number: number;
  text: string;
  offset: number;
  spans: ConsoleSpan[];
  whole: boolean;
  cut: boolean;
}

/** `GET /api/run/console?project&run&rank=R[&start=LINE|-N][&offset=BYTE][&limit=N]`: `start=-N` for the last N lines. To follow a log, ask with `offset` the `next_offset` of the answer before; a line that had not ended comes again. */
export interface Console {
  lines: ConsoleLine[];
  total: number;
  whole: boolean;
  next_offset: number;
  at_end: boolean;
  bytes: number;
}

/** `GET /api/run/console/search?project&run&rank=R&text=T[&start=LINE][&limit=N]`: `next` where to go on, or null. A search gives what it found in a fifth of a second: there may be no line and a `next`. */
export interface ConsoleFound {
  lines: ConsoleLine[];
  next: number | null;
  searched: number;
}

/** In percent, bytes, watts and degrees Celsius, as `quantity` ends; null where it is not known. quantity: utilisation_percent, memory_bytes, memory_total_bytes, memory_percent, memory_activity_percent, process_memory_bytes, power_watts, power_percent, temperature_celsius, and throttled: 1 where the clock is held down (`average`: the share of samples). */
export interface GpuReading {
  quantity: string;
  current: number | null;
  average: number | null;
  maximum: number | null;
  key: string | null;
}

export interface Gpu {
  node: string | null;
  rank: number | null;
  index: number;
  model: string | null;
  readings: GpuReading[];
  active: boolean;
  throttle_reasons: number | null;
}

/** How long a rank's steps take beside the others', over the run's last steps. */
export interface RankSpeed {
  rank: number;
  node: string | null;
  step_seconds: number | null;
  slower_percent: number;
  straggler: boolean;
  value: number | null;
  last_step: number | null;
}

export interface HostSeries {
  key: string;
  label: string;
}

export interface HostChart {
  title: string;
  unit: string;
  series: HostSeries[];
}

/** `GET /api/run/gpus?project&run` */
export interface Gpus {
  gpus: Gpu[];
  ranks: RankSpeed[];
  findings: string[];
  overall: GpuReading[];
  rank_key: string | null;
  host: HostChart[];
}

/** `GET /api/run/code?project&run[&attempt=N]` */
export interface Code {
  git: Record<string, unknown> | null;
  diff: string | null;
  diff_truncated: boolean;
  script_name: string | null;
  script: string | null;
  packages: string | null;
  environment: Record<string, unknown> | null;
  attempts: number[];
  attempt: number;
  problems: string[];
}

export interface File {
  path: string;
  bytes: number;
  changed: number;
  picture: boolean;
}

/** `GET /api/run/files?project&run`; one of them: `GET /api/run/file?project&run&path=P[&text=true]`. `text` shows a text as plain text; otherwise all but pictures is something to save. */
export interface Files {
  files: File[];
  whole: boolean;
}

/** Series that are the same quantity of different layers or parameters. */
export interface Family {
  pattern: string;
  keys: string[];
  labels: string[];
}

/** `GET /api/run/families?project&run` */
export interface Families {
  families: Family[];
}

/** `POST /api/run/matrix`; binary: arrays `x` (columns + 1 edges), then mean, min, max, count, nonfinite (keys x columns each, row by row); its header a `MatrixHeader`. */
export interface MatrixRequest {
  project: string;
  run: string;
  keys: string[];
  x?: string;
  columns?: number;
  start?: number | null;
  end?: number | null;
}

/** `beyond`: how far (in x) a row may lie beyond its cell's edge, where cells were made of rollup buckets; else 0. */
export interface MatrixHeader {
  keys: string[];
  columns: number;
  x: string;
  beyond: number;
}

/** `POST /api/edit`: what is given is set, what is null is left as it is. Answered with the new `RunRow`. */
export interface Change {
  project: string;
  run: string;
  name?: string | null;
  notes?: string | null;
  tags?: string[] | null;
  group?: string | null;
}
