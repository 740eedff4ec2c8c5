// Loads the sparklines of a table: one request for all rows in view, cached by run, when it was created, and metric.

import { api, type CurveAnswer } from "../api";
import { afterFirstCurve, poll } from "../polling";

/** So many buckets of a curve no wider than a thumb. */
const POINTS = 64;
const AGAIN_MS = 5000;
const MOST_KEPT = 2000;
const MOST_SERIES = 200;
const CURVES_FIRST = 800; // ms that the charts have for their own questions

interface SparklineEntry {
  project: string;
  run: string;
  metric: string;
  state: string;
  curve: CurveAnswer | null;
  known: boolean;
  askedState: string;
  watchers: Set<(curve: CurveAnswer | null) => void>;
}

const entries = new Map<string, SparklineEntry>();
let gathering: ReturnType<typeof setTimeout> | undefined;
let stopPolling: (() => void) | null = null;
let busy: AbortController | null = null;

/** Follow the curve of a run that is in sight; the returned function ends it. */
export function watchSparkline(
  project: string,
  run: string,
  metric: string,
  created: number,
  state: string,
  watcher: (curve: CurveAnswer | null) => void,
): () => void {
  const name = JSON.stringify([project, run, metric, created]);
  let entry = entries.get(name);
  if (entry === undefined) {
    entry = { project, run, metric, state, curve: null, known: false, askedState: "", watchers: new Set() };
    entries.set(name, entry);
    evict();
  }
  const watched = entry;
  watched.state = state;
  watched.watchers.add(watcher);
  if (watched.known) watcher(watched.curve);
  if (!watched.known || watched.askedState !== state) scheduleRequest();
  updatePolling();
  return () => {
    watched.watchers.delete(watcher);
    updatePolling();
  };
}

function scheduleRequest(): void {
  if (gathering !== undefined) return;
  gathering = setTimeout(async () => {
    await afterFirstCurve(CURVES_FIRST);
    gathering = undefined;
    if (busy !== null) return; // what has come into sight meanwhile is asked for when the answer is here
    const wanted = [...entries.values()].filter(
      (one) => one.watchers.size > 0 && (!one.known || one.askedState !== one.state),
    );
    if (wanted.length > 0) void request(wanted.slice(0, MOST_SERIES));
  }, 30);
}

async function request(wanted: readonly SparklineEntry[], signal?: AbortSignal): Promise<void> {
  busy = new AbortController();
  const states = wanted.map(({ state }) => state);
  try {
    const answers = await api.curves(
      { series: wanted.map(({ project, run, metric }) => ({ project, run, key: metric })), points: POINTS },
      signal ?? busy.signal,
    );
    wanted.forEach((entry, at) => {
      entry.curve = answers[at]!.error === null ? answers[at]! : null;
      entry.known = true;
      entry.askedState = states[at]!;
      for (const watcher of entry.watchers) watcher(entry.curve);
    });
  } catch (error) {
    if (signal !== undefined) throw error;
    for (const [at, entry] of wanted.entries()) [entry.known, entry.askedState] = [true, states[at]!]; // an ornament: not asked for again and again
  } finally {
    busy = null;
  }
  if ([...entries.values()].some((one) => one.watchers.size > 0 && !one.known)) scheduleRequest();
}

function updatePolling(): void {
  const wanted = [...entries.values()].some((one) => one.watchers.size > 0 && one.state === "running");
  if (wanted && stopPolling === null) {
    let first = true;
    stopPolling = poll(AGAIN_MS, async (signal) => {
      if (first) {
        first = false;
        return;
      }
      const running = [...entries.values()].filter((one) => one.watchers.size > 0 && one.state === "running");
      if (running.length > 0 && busy === null) await request(running.slice(0, MOST_SERIES), signal);
    });
  } else if (!wanted && stopPolling !== null) {
    stopPolling();
    stopPolling = null;
  }
}

function evict(): void {
  if (entries.size <= MOST_KEPT) return;
  for (const [name, { watchers }] of entries) {
    if (entries.size <= MOST_KEPT) break;
    if (watchers.size === 0) entries.delete(name);
  }
}
