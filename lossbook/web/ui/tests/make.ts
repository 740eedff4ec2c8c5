// What tests make: curves of a few buckets, lines of them, runs, names.

import type { CurveAnswer } from "../src/api";
import { lineOf } from "../src/charts/lines";
import type { Line } from "../src/charts/types";
import type { Name, Role, RunRow } from "../src/types";

/** A curve with a bucket for each mean, one row each, at steps 0, 1, 2, ...; `more` replaces whole arrays. */
export function curve(
  means: readonly number[],
  more: Partial<Record<keyof CurveAnswer, number[]>> = {},
  state = "finished",
): CurveAnswer {
  const steps = means.map((_, at) => at);
  const arrays = {
    x: steps,
    x_end: more.x ?? steps,
    first: means,
    last: means,
    min: means,
    max: means,
    min_x: more.x ?? steps,
    max_x: more.x ?? steps,
    mean: means,
    count: means.map(() => 1),
    nonfinite: means.map((mean) => (Number.isFinite(mean) ? 0 : 1)),
    ...more,
  };
  const typed = Object.fromEntries(
    Object.entries(arrays).map(([name, values]) => [name, Float64Array.from(values as number[])]),
  );
  const about = { project: "p", run: "r", key: "k", found: "k", length: means.length, attempts: 1, state, error: null };
  return { ...about, ...typed } as unknown as CurveAnswer;
}

export function line(
  means: readonly number[],
  more: Partial<Line> = {},
  arrays: Partial<Record<keyof CurveAnswer, number[]>> = {},
): Line {
  const head = {
    id: "r k",
    project: "p",
    run: "r",
    key: "k",
    label: "a run",
    color: "#2f6bd0",
    runs: 1,
    state: "finished",
    attempt: null,
    emphasised: false,
  };
  return { ...lineOf(head, curve(means, arrays), null), ...more };
}

export function metric(name: string, role: Role | null = null, more: Partial<Name> = {}): Name {
  return { name, runs: 1, unit: null, goal: null, same_as: null, role, ...more };
}

export function row(id: string, more: Partial<RunRow> = {}): RunRow {
  return {
    id,
    name: id,
    state: "finished",
    created: 0,
    duration: 1,
    last_step: 10,
    tags: [],
    group: null,
    notes: null,
    attempts: 1,
    alerts: 0,
    host: null,
    user: null,
    error: null,
    ...more,
  };
}
