// The types that the charts share: what is requested, what is drawn, and the part in view.

import type { BandAnswer, CurveAnswer } from "../api";
import type { ChartSettings } from "../settings";
import type { Mark } from "../types";

export type Range = [number, number];

export interface Scale {
  min: number;
  max: number;
  log: boolean;
}

/** Where values lie in pixels. */
export interface Frame {
  x: Scale;
  y: Scale;
  width: number; // pixels of the device
  height: number;
  ratio: number; // of them for one of the page
}

export interface ChartSeries {
  project: string;
  run: string; // id
  key: string;
  label: string; // the run's name
  color: string; // #rrggbb
  group: string | null;
  state: string;
  created?: number; // when the run began: one that is recorded under its id later on is another
  emphasised?: boolean; // drawn thicker, on top: the baseline
  attempt?: number; // rows of that attempt alone, hidden ones included
}

export interface ChartSpec {
  title: string;
  series: readonly ChartSeries[];
  settings: ChartSettings;
  unit: string | null;
  goal: string | null;
  ownRange: boolean;
}

/** One line of a chart. Arrays are of `length`; NaN where there is nothing to draw. */
export interface Line {
  id: string; // of the run and key, or the group
  project: string;
  run: string | null; // null: a band of several
  key: string;
  label: string;
  color: string;
  runs: number;
  state: string;
  attempt: number | null; // rows of one attempt, hidden ones included
  emphasised: boolean;
  smoothed: boolean; // `y` is smoothed, the envelope is not
  length: number;
  x: Float64Array; // where the line has its vertices: each bucket's middle
  y: Float64Array;
  curve: CurveAnswer | null; // as it was logged
  smooth: CurveAnswer | null;
  band: BandAnswer | null;
  spikes: Int32Array; // buckets whose maximum (number) or minimum (-1 - number) stands out
}

export type LineHead = Pick<
  Line,
  "id" | "project" | "run" | "key" | "label" | "color" | "runs" | "state" | "attempt" | "emphasised"
>;

/** What a line has at a place on x: that of the nearest bucket, unless the line ends before. */
export interface Reading {
  line: Line;
  x: number; // of the bucket
  xEnd: number;
  value: number; // what the line shows there
  raw: number; // the mean of the rows
  low: number;
  high: number;
  count: number;
  nonfinite: number;
}

export interface Point {
  value: number;
  x: number;
}

/** Points of the lines beyond the range on y, and the furthest of them. */
export interface Outliers {
  atLeast: boolean; // counted by buckets of several rows: there may be more
  above: number;
  highest: Point | null;
  below: number;
  lowest: Point | null;
  places: { x: number; above: boolean; line: Line }[];
}

export interface DrawnMark extends Mark {
  label: string; // of the run
  color: string;
}

/** Marks of one kind that stand at one place. */
export interface MarkGroup {
  kind: string;
  level: string;
  x: number;
  marks: readonly DrawnMark[];
}

/** What the legend and the foot say. */
export interface ChartState {
  lines: readonly Line[];
  missing: readonly { label: string; error: string }[];
  loading: boolean;
  failure: string | null;
  range: Range | null; // null: all of it
  extent: Range | null;
  beyond: Outliers | null;
  nonPositive: number;
  nonPositiveAtLeast: boolean;
  nonPositiveX: boolean;
}
