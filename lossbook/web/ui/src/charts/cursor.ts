// What all charts share while the pointer moves: the cursor, the highlighted run, and a zoom in progress. Not in the
// address.

import { signal } from "@preact/signals";

export interface Cursor {
  axis: string; // charts of another axis do not follow
  x: number;
}

export interface RunName {
  project: string;
  run: string;
}

/** The place on x that the pointer is at, in every chart. */
export const cursor = signal<Cursor | null>(null);

/** The run whose line stands out everywhere: under the pointer in a legend, a table or a chart. */
export const hovered = signal<RunName | null>(null);

/** A zoom on its way: charts follow at once, the link when it rests. */
export const moving = signal<{ axis: string; range: [number, number] | null } | null>(null);

export function sameRun(one: RunName | null, other: RunName | null): boolean {
  return one !== null && other !== null && one.run === other.run && one.project === other.project;
}

/** Let a run stand out, or none; the same again changes nothing. */
export function hover(run: RunName | null): void {
  if (run === null ? hovered.peek() !== null : !sameRun(run, hovered.peek()))
    hovered.value = run === null ? null : { project: run.project, run: run.run };
}
