// Loads and caches the curves of all charts: few large requests, one copy of each curve, polling while runs are
// running.
// Promises: at most three requests at a time; smoothed curves come last, a few at a time; none for charts out of view;
// memory bounded by what is drawn; no timer is left when nothing is.

import { AnswerError, api, type CurveAnswer } from "../api";
import { firstCurveHasLoaded, poll } from "../polling";
import { appendPoints } from "./append_points";

/** One series as it is asked for. */
export interface CurveQuery {
  project: string;
  run: string;
  key: string;
  attempt: number | null;
  x: string;
  points: number;
  start: number | null;
  end: number | null;
  smoothing: string | null;
  /** When the run was created: what was drawn of a run before it under its id is not what is asked for. */
  created?: number;
}

/** What is known of a question. */
export interface CurveState {
  readonly name: string;
  readonly curve: CurveAnswer | null; // null: not yet, or none
  readonly error: string | null; // why there is none
  readonly pending: boolean;
}

interface Entry extends CurveState {
  query: CurveQuery;
  curve: CurveAnswer | null;
  error: string | null;
  pending: boolean;
  subscribers: Set<CurveSubscription>;
  batch: Batch | null;
  live: boolean;
  requestedAt: number; // when it was last asked for whole; ms as of performance.now()
  took: number; // how long that lasted
  tail: number; // points that were added since
  failures: number;
  usedAt: number;
}

interface Batch {
  stop: AbortController;
  entries: Entry[];
  smooths: boolean;
}

const CONCURRENT = 3;
const MOST_SERIES = 100;
/** So many points in one question: some hundred milliseconds of the server's time. */
const MOST_POINTS = 60_000;
/** Smoothing goes over every row: of long runs a few curves are as much work as all of them unsmoothed. */
const MOST_SMOOTHED = 4;
const LIVE_MS = 500;
/** A delta has so few points that a run of any pace adds few. */
const DELTA_POINTS = 6;
const WHOLE_AGAIN_MS = 60_000;
/** Curves that nobody draws any more are kept for a while, for the way back. */
const MOST_UNUSED = 300;

const entries = new Map<string, Entry>();
const subscriptions = new Set<CurveSubscription>();
const queue = new Set<Entry>();
const batches = new Set<Batch>();
let flushing = false;
let anyLoaded = false; // any curve at all
let retry: ReturnType<typeof setTimeout> | undefined;
let stopPolling: (() => void) | null = null;

export function nameOf(query: CurveQuery): string {
  const { project, run, key, attempt, x, points, start, end, smoothing, created } = query;
  return JSON.stringify([project, run, key, attempt, x, points, start, end, smoothing, created ?? 0]);
}

/** What one chart wants to draw; `changed` is called when something of it has come or changed. */
export class CurveSubscription {
  private wanted = new Map<string, Entry>();
  private seen = false;

  constructor(readonly changed: () => void) {
    subscriptions.add(this);
  }

  /** Whether somebody can see the chart: nothing is asked for while not. */
  get visible(): boolean {
    return this.seen;
  }

  set visible(seen: boolean) {
    if (seen === this.seen) return;
    this.seen = seen;
    if (seen) for (const entry of this.wanted.values()) requestIfStale(entry);
    else for (const entry of this.wanted.values()) release(entry);
    schedule();
  }

  /** Say what is wanted now; the rest is let go. `running`: names of runs that go on, as far as is known. */
  want(queries: readonly CurveQuery[], running: ReadonlySet<string>): void {
    const before = this.wanted;
    this.wanted = new Map();
    for (const query of queries) {
      const name = nameOf(query);
      let entry = entries.get(name);
      if (entry === undefined) {
        entry = {
          name,
          query,
          curve: null,
          error: null,
          pending: false,
          subscribers: new Set(),
          batch: null,
          live: false,
          requestedAt: -Infinity,
          took: 0,
          tail: 0,
          failures: 0,
          usedAt: 0,
        };
        entries.set(name, entry);
      }
      if (running.has(query.run)) entry.live = true;
      entry.subscribers.add(this);
      this.wanted.set(name, entry);
      if (this.seen) requestIfStale(entry);
    }
    for (const [name, entry] of before) if (!this.wanted.has(name)) this.drop(entry);
    schedule();
  }

  known(query: CurveQuery): CurveState | null {
    return this.wanted.get(nameOf(query)) ?? null;
  }

  wants(entry: Entry): boolean {
    return this.wanted.has(entry.name);
  }

  close(): void {
    subscriptions.delete(this);
    for (const entry of this.wanted.values()) this.drop(entry);
    this.wanted = new Map();
    schedule();
  }

  private drop(entry: Entry): void {
    entry.subscribers.delete(this);
    entry.usedAt = performance.now();
    release(entry);
  }
}

const isVisible = (entry: Entry): boolean => [...entry.subscribers].some((subscription) => subscription.visible);

/** Ask for what is not known, or was last heard of while its run went on and nobody looked. */
function requestIfStale(entry: Entry): void {
  if (entry.pending) return;
  const old = entry.live && performance.now() - entry.requestedAt > 1500 && stopPolling === null;
  if ((entry.curve === null && entry.error === null) || old) requestWhole(entry);
}

function requestWhole(entry: Entry): void {
  if (entry.pending) return;
  entry.pending = true;
  queue.add(entry);
}

function release(entry: Entry): void {
  if (isVisible(entry)) return;
  if (queue.delete(entry)) entry.pending = false;
  const { batch } = entry;
  if (batch !== null && !batch.entries.some(isVisible)) {
    batch.stop.abort();
    for (const one of batch.entries) {
      one.pending = false;
      one.batch = null;
    }
    batches.delete(batch);
  }
}

/** Questions of charts that are drawn in the same moment go together. */
function schedule(): void {
  if (flushing) return;
  flushing = true;
  queueMicrotask(() => {
    flushing = false;
    flush();
    updatePolling();
    evict();
  });
}

function flush(): void {
  while (queue.size > 0 && batches.size < CONCURRENT) {
    const first = nextInQueue();
    if (first === null) return;
    const { x, points, start, end, smoothing } = first.query;
    const most =
      smoothing === null ? Math.max(1, Math.min(MOST_SERIES, Math.floor(MOST_POINTS / points))) : MOST_SMOOTHED;
    // The first chart by itself: it is there before the server has drawn them all.
    const isFirst = !anyLoaded && batches.size === 0;
    const together: Entry[] = [];
    for (const entry of queue) {
      const other = entry.query;
      if (isFirst && other.key !== first.query.key) continue;
      if (
        other.x !== x ||
        other.points !== points ||
        other.start !== start ||
        other.end !== end ||
        other.smoothing !== smoothing
      )
        continue;
      together.push(entry);
      queue.delete(entry);
      if (together.length === most) break;
    }
    void requestBatch(together);
  }
}

/** What was logged goes before what is smoothed of it; of that one question at a time, so that new points get through. */
function nextInQueue(): Entry | null {
  for (const entry of queue) if (entry.query.smoothing === null) return entry;
  const [first] = queue;
  return first === undefined || [...batches].some(({ smooths }) => smooths) ? null : first;
}

async function requestBatch(together: Entry[]): Promise<void> {
  const batch: Batch = {
    stop: new AbortController(),
    entries: together,
    smooths: together[0]!.query.smoothing !== null,
  };
  batches.add(batch);
  for (const entry of together) entry.batch = batch;
  const { x, points, start, end, smoothing } = together[0]!.query;
  const series = together.map(({ query: { project, run, key, attempt } }) => ({
    project,
    run,
    key,
    ...(attempt === null ? {} : { attempt }),
  }));
  const begun = performance.now();
  try {
    const answers = await api.curves({ series, x, points, start, end, smoothing }, batch.stop.signal);
    for (const [at, entry] of together.entries()) receive(entry, answers[at]!, begun);
  } catch (error) {
    if (batch.stop.signal.aborted) return;
    for (const entry of together) fail(entry, error);
  } finally {
    batches.delete(batch);
    for (const entry of together) {
      if (entry.batch !== batch) continue;
      entry.batch = null;
      if (!queue.has(entry)) entry.pending = false;
    }
  }
  notify(together);
  firstCurveHasLoaded();
  schedule();
}

function receive(entry: Entry, answer: CurveAnswer, begun: number): void {
  anyLoaded = true;
  entry.live = answer.state === "running";
  entry.curve = answer.error === null ? answer : null;
  entry.error = answer.error;
  entry.requestedAt = begun;
  entry.took = performance.now() - begun;
  entry.tail = 0;
  entry.failures = 0;
}

function fail(entry: Entry, error: unknown): void {
  if (!(error instanceof AnswerError)) console.error(error);
  entry.failures += 1;
  const lost = error instanceof AnswerError && error.status === 0;
  if (!lost) {
    if (entry.curve === null) entry.error = error instanceof Error ? error.message : String(error);
    return;
  }
  // The server is away: what is drawn stays, what is not is asked for again when it is back.
  if (retry !== undefined) return;
  retry = setTimeout(
    () => {
      retry = undefined;
      for (const one of entries.values())
        if (one.curve === null && one.error === null && isVisible(one)) requestWhole(one);
      schedule();
    },
    Math.min(1000 * 2 ** Math.min(entry.failures, 4), 10_000),
  );
}

function notify(changed: readonly Entry[]): void {
  for (const subscription of subscriptions)
    if (changed.some((entry) => subscription.wants(entry))) subscription.changed();
}

// -- runs that go on ---------------------------------------------------------------------------------------------

const needsNewPoints = (entry: Entry): boolean => entry.live && !entry.pending && isVisible(entry) && !isPast(entry);

/** A zoom on what lies behind the run's last row does not change. */
function isPast({ query, curve }: Entry): boolean {
  return query.end !== null && curve !== null && curve.length > 0 && curve.x[curve.length - 1]! > query.end;
}

function updatePolling(): void {
  const wanted = [...entries.values()].some((entry) => entry.live && isVisible(entry) && !isPast(entry));
  if (wanted && stopPolling === null) stopPolling = poll(LIVE_MS, requestNewPoints);
  if (!wanted && stopPolling !== null) {
    stopPolling();
    stopPolling = null;
  }
}

async function requestNewPoints(signal: AbortSignal): Promise<void> {
  const now = performance.now();
  const byAxis = new Map<string, Entry[]>();
  for (const entry of entries.values()) {
    if (!needsNewPoints(entry)) continue;
    const {
      query: { smoothing, points, x },
      curve,
    } = entry;
    const age = now - entry.requestedAt;
    if (curve === null || curve.length === 0) {
      if (age > 1000) requestWhole(entry);
    } else if (smoothing !== null) {
      if (age > Math.max(2000, 20 * entry.took)) requestWhole(entry);
    } else if (entry.tail > Math.max(points / 2, 50) || (entry.tail > 0 && age > WHOLE_AGAIN_MS)) {
      requestWhole(entry);
    } else {
      const others = byAxis.get(x);
      if (others) others.push(entry);
      else byAxis.set(x, [entry]);
    }
  }
  flush();
  const changed: Entry[] = [];
  for (const [x, asked] of byAxis) {
    for (let first = 0; first < asked.length; first += MOST_SERIES) {
      const some = asked.slice(first, first + MOST_SERIES);
      const lengths = some.map(({ curve }) => curve);
      const series = some.map(({ query: { project, run, key, attempt }, curve }) => ({
        project,
        run,
        key,
        start: curve!.x[curve!.length - 1]!,
        ...(attempt === null ? {} : { attempt }),
      }));
      const answers = await api.curves({ series, x, points: DELTA_POINTS }, signal);
      some.forEach((entry, at) => {
        // Something whole may have come meanwhile: it knows more than this.
        if (entry.curve === lengths[at] && append(entry, answers[at]!)) changed.push(entry);
      });
    }
  }
  if (changed.length > 0) notify(changed);
  schedule();
}

/** Put new points behind those that are known; whether anything changed. */
function append(entry: Entry, delta: CurveAnswer): boolean {
  const known = entry.curve!;
  if (delta.error !== null) return false;
  const ended = delta.state !== "running";
  if (delta.attempts !== known.attempts || ended) {
    requestWhole(entry);
    if (ended) entry.live = false;
    return ended;
  }
  const joined = appendPoints(known, delta);
  if (joined === known) return false;
  entry.tail += joined.length - known.length;
  entry.curve = joined;
  return true;
}

// -- what nobody draws -------------------------------------------------------------------------------------------

function evict(): void {
  const unused = [...entries.values()].filter((entry) => entry.subscribers.size === 0 && !entry.pending);
  for (const entry of unused) if (entry.live) entries.delete(entry.name);
  const kept = unused.filter((entry) => entries.has(entry.name));
  if (kept.length <= MOST_UNUSED) return;
  kept.sort((one, other) => one.usedAt - other.usedAt);
  for (const entry of kept.slice(0, kept.length - MOST_UNUSED)) entries.delete(entry.name);
}
