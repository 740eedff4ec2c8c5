// Loads what happened in the drawn runs, once for all charts of an axis, and merges marks that nearly touch.

import { api } from "../api";
import type { Mark } from "../types";
import type { ChartSeries, DrawnMark, MarkGroup, Range } from "./types";

interface CachedMarks {
  marks: readonly Mark[];
  at: number; // performance.now()
  promise: Promise<void> | null;
  state: string;
}

/** Marks of a run that goes on are asked for again so often. */
const AGAIN_MS = 10_000;
const MOST_KEPT = 500;
/** What kinds of marks are called, one and many. */
export const MARK_KINDS: Record<string, [string, string]> = {
  attempt: ["resumed", "resumed"],
  fork: ["fork", "forks"],
  checkpoint: ["checkpoint", "checkpoints"],
  stage: ["stage", "stages"],
  alert: ["alert", "alerts"],
  note: ["note", "notes"],
};

const kept = new Map<string, CachedMarks>();

/** In words: "checkpoint at step 800", "7 checkpoints". */
export function markTitle(group: MarkGroup): string {
  const [one, many] = MARK_KINDS[group.kind] ?? [group.kind, `${group.kind} marks`];
  return group.marks.length === 1 ? group.marks[0]!.title || one : `${group.marks.length} ${many}`;
}

export class MarkSubscription {
  private series: readonly ChartSeries[] = [];
  private axis = "step";
  private again: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly changed: () => void) {}

  want(series: readonly ChartSeries[], axis: string): void {
    this.series = series;
    this.axis = axis;
    clearTimeout(this.again);
    if (series.length === 0) return;
    void this.ask();
    // A run that goes on may get more of them; the chart's own clock ends with it.
    if (series.some(({ state }) => state === "running"))
      this.again = setTimeout(() => this.want(this.series, this.axis), AGAIN_MS);
  }

  close(): void {
    this.series = [];
    clearTimeout(this.again);
  }

  private async ask(): Promise<void> {
    const now = performance.now();
    const wanted = new Map<string, ChartSeries[]>();
    const waiting: Promise<void>[] = [];
    for (const series of this.series) {
      const before = kept.get(nameOf(series, this.axis));
      if (before?.promise) waiting.push(before.promise);
      else if (
        before === undefined ||
        before.state !== series.state ||
        (series.state === "running" && now - before.at >= AGAIN_MS - 50)
      ) {
        wanted.set(series.project, [...(wanted.get(series.project) ?? []), series]);
      }
    }
    for (const [project, some] of wanted) waiting.push(askFor(project, some, this.axis));
    if (waiting.length === 0) return;
    await Promise.all(waiting);
    if (this.series.length > 0) this.changed();
  }

  /** The marks in view, those that nearly touch as one. */
  merged(range: Range, log: boolean, places = 90): MarkGroup[] {
    const seen = new Set<string>();
    const found: DrawnMark[] = [];
    for (const series of this.series) {
      const { run, label, color, attempt } = series;
      if (attempt !== undefined || seen.has(run)) continue;
      seen.add(run);
      for (const mark of kept.get(nameOf(series, this.axis))?.marks ?? []) found.push({ ...mark, label, color });
    }
    return mergeMarks(found, range, log, places);
  }
}

/** Marks within a range, those of one kind that fall into the same of so many places as one. */
export function mergeMarks(marks: readonly DrawnMark[], [low, high]: Range, log: boolean, places: number): MarkGroup[] {
  const to = log ? Math.log : (value: number) => value;
  const width = (to(high) - to(low)) / places;
  const groups = new Map<string, DrawnMark[]>();
  for (const mark of marks) {
    if (!(mark.x >= low && mark.x <= high) || (log && mark.x <= 0)) continue;
    const name = `${mark.kind} ${Math.floor((to(mark.x) - to(low)) / width)}`;
    const others = groups.get(name);
    if (others) others.push(mark);
    else groups.set(name, [mark]);
  }
  return [...groups.values()]
    .map((together) => {
      const levels = together.map(({ level }) => level);
      const level = levels.includes("error") ? "error" : levels.includes("warning") ? "warning" : "info";
      const x = together.reduce((sum, one) => sum + one.x, 0) / together.length;
      return { kind: together[0]!.kind, level, x, marks: together };
    })
    .sort((one, other) => one.x - other.x);
}

const nameOf = ({ project, run, created }: { project: string; run: string; created?: number }, axis: string): string =>
  JSON.stringify([project, run, axis, created ?? 0]);

function askFor(project: string, series: readonly ChartSeries[], axis: string): Promise<void> {
  const runs = [...new Set(series.map(({ run }) => run))];
  const asked = series.map((one) => {
    const name = nameOf(one, axis);
    const entry: CachedMarks = {
      marks: kept.get(name)?.marks ?? [],
      at: performance.now(),
      promise: null,
      state: one.state,
    };
    kept.delete(name);
    kept.set(name, entry);
    return [one.run, entry] as const;
  });
  const promise = api
    .marks({ project, runs, key: series[0]!.key, x: axis })
    .then(
      ({ marks }) => {
        for (const [run, entry] of asked) entry.marks = marks.filter((mark) => mark.run === run);
      },
      () => {
        for (const [, entry] of asked) entry.at = -Infinity; // marks are an extra: asked for again with the next change
      },
    )
    .finally(() => {
      for (const [, entry] of asked) entry.promise = null;
    });
  for (const [, entry] of asked) entry.promise = promise;
  for (const name of kept.keys()) {
    if (kept.size <= MOST_KEPT) break;
    kept.delete(name);
  }
  return promise;
}
