// Loads the sparklines of a table: one request for all rows in view, cached by run and metric.

import { api, type CurveAnswer } from "../api";
import { afterFirstCurve, poll } from "../polling";

/** So many buckets of a curve no wider than a thumb. */
const POINTS = 64;
const AGAIN_MS = 5000;
const MOST_KEPT = 2000;
const MOST_SERIES = 200;
const CURVES_FIRST = 800; // ms that the charts have for their own questions

interface Spark {
  project: string;
  run: string;
  metric: string;
  state: string;
  curve: CurveAnswer | null;
  known: boolean;
  askedState: string;
  watchers: Set<(curve: CurveAnswer | null) => void>;
}

const sparks = new Map<string, Spark>();
let gathering: ReturnType<typeof setTimeout> | undefined;
let stopAsking: (() => void) | null = null;
let busy: AbortController | null = null;

/** Follow the curve of a run that is in sight; the returned function ends it. */
export function watchSparkline(
  project: string,
  run: string,
  metric: string,
  state: string,
  watcher: (curve: CurveAnswer | null) => void,
): () => void {
  const name = JSON.stringify([project, run, metric]);
  let spark = sparks.get(name);
  if (spark === undefined) {
    spark = { project, run, metric, state, curve: null, known: false, askedState: "", watchers: new Set() };
    sparks.set(name, spark);
    forget();
  }
  const watched = spark;
  watched.state = state;
  watched.watchers.add(watcher);
  if (watched.known) watcher(watched.curve);
  if (!watched.known || watched.askedState !== state) gather();
  follow();
  return () => {
    watched.watchers.delete(watcher);
    follow();
  };
}

function gather(): void {
  if (gathering !== undefined) return;
  gathering = setTimeout(async () => {
    await afterFirstCurve(CURVES_FIRST);
    gathering = undefined;
    if (busy !== null) return; // what has come into sight meanwhile is asked for when the answer is here
    const wanted = [...sparks.values()].filter(
      (one) => one.watchers.size > 0 && (!one.known || one.askedState !== one.state),
    );
    if (wanted.length > 0) void ask(wanted.slice(0, MOST_SERIES));
  }, 30);
}

async function ask(wanted: readonly Spark[], signal?: AbortSignal): Promise<void> {
  busy = new AbortController();
  const states = wanted.map(({ state }) => state);
  try {
    const answers = await api.curves(
      { series: wanted.map(({ project, run, metric }) => ({ project, run, key: metric })), points: POINTS },
      signal ?? busy.signal,
    );
    wanted.forEach((spark, at) => {
      spark.curve = answers[at]!.error === null ? answers[at]! : null;
      spark.known = true;
      spark.askedState = states[at]!;
      for (const watcher of spark.watchers) watcher(spark.curve);
    });
  } catch (error) {
    if (signal !== undefined) throw error;
    for (const [at, spark] of wanted.entries()) [spark.known, spark.askedState] = [true, states[at]!]; // an ornament: not asked for again and again
  } finally {
    busy = null;
  }
  if ([...sparks.values()].some((one) => one.watchers.size > 0 && !one.known)) gather();
}

function follow(): void {
  const wanted = [...sparks.values()].some((one) => one.watchers.size > 0 && one.state === "running");
  if (wanted && stopAsking === null) {
    let first = true;
    stopAsking = poll(AGAIN_MS, async (signal) => {
      if (first) {
        first = false;
        return;
      }
      const running = [...sparks.values()].filter((one) => one.watchers.size > 0 && one.state === "running");
      if (running.length > 0 && busy === null) await ask(running.slice(0, MOST_SERIES), signal);
    });
  } else if (!wanted && stopAsking !== null) {
    stopAsking();
    stopAsking = null;
  }
}

function forget(): void {
  if (sparks.size <= MOST_KEPT) return;
  for (const [name, { watchers }] of sparks) {
    if (sparks.size <= MOST_KEPT) break;
    if (watchers.size === 0) sparks.delete(name);
  }
}
