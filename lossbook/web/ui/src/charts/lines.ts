// Turns curves and bands into lines: vertices, envelope, and the extremes that stand out.

import type { BandAnswer, CurveAnswer } from "../api";
import type { Line, LineHead, Range, Reading } from "./types";

// A curve is drawn many times: what is made of its numbers alone is made once.
const knownMiddles = new WeakMap<Float64Array, Float64Array>();
const knownSpikes = new WeakMap<Float64Array, Int32Array>();

/** The places of a line's vertices; its ends reach to the first and the last row. */
function middles(curve: CurveAnswer): Float64Array {
  const known = knownMiddles.get(curve.x);
  if (known !== undefined) return known;
  const { x, x_end, length } = curve;
  const places = new Float64Array(length);
  for (let at = 0; at < length; at += 1) places[at] = (x[at]! + x_end[at]!) / 2;
  if (length > 1) {
    places[0] = x[0]!;
    places[length - 1] = x_end[length - 1]!;
  }
  knownMiddles.set(x, places);
  return places;
}

const WINDOW = 4;
const scratch = new Float64Array(2 * WINDOW + 1);

function median(values: Float64Array, from: number, to: number): number {
  let count = 0;
  for (let at = from; at < to; at += 1) {
    const value = values[at]!;
    if (Number.isNaN(value)) continue;
    let place = count;
    while (place > 0 && scratch[place - 1]! > value) {
      scratch[place] = scratch[place - 1]!;
      place -= 1;
    }
    scratch[place] = value;
    count += 1;
  }
  return count === 0 ? NaN : scratch[count >> 1]!;
}

/** Buckets of several rows that reach further than those around them: a single row is lost in their mean. */
export function findSpikes(curve: CurveAnswer): Int32Array {
  const { length, min, max, mean, count } = curve;
  const known = knownSpikes.get(max);
  if (known !== undefined) return known;
  const found: number[] = [];
  let highest = -1;
  let lowest = -1;
  for (let at = 0; at < length; at += 1) {
    if (highest < 0 || max[at]! > max[highest]!) highest = at;
    if (lowest < 0 || min[at]! < min[lowest]!) lowest = at;
    if (count[at]! < 2 || !(max[at]! > min[at]!)) continue;
    const from = Math.max(0, at - WINDOW);
    const to = Math.min(length, at + WINDOW + 1);
    const high = median(max, from, to);
    const low = median(min, from, to);
    const margin = 0.3 * (high - low);
    if (max[at]! - high > margin && max[at]! > mean[at]!) found.push(at);
    if (low - min[at]! > margin && min[at]! < mean[at]!) found.push(-1 - at);
  }
  if (highest >= 0 && count[highest]! > 1 && !found.includes(highest)) found.push(highest);
  if (lowest >= 0 && count[lowest]! > 1 && !found.includes(-1 - lowest)) found.push(-1 - lowest);
  const spikes = Int32Array.from(found);
  knownSpikes.set(max, spikes);
  return spikes;
}

/** A run's line: its means, or what was smoothed of it. */
export function lineOf(head: LineHead, curve: CurveAnswer, smooth: CurveAnswer | null): Line {
  const drawn = smooth ?? curve;
  return {
    ...head,
    curve,
    smooth,
    band: null,
    smoothed: smooth !== null,
    length: drawn.length,
    x: middles(drawn),
    y: drawn.mean,
    spikes: findSpikes(curve),
  };
}

export function bandLine(head: LineHead, band: BandAnswer): Line {
  return {
    ...head,
    curve: null,
    smooth: null,
    band,
    smoothed: false,
    length: band.length,
    x: band.x,
    y: band.mean,
    spikes: new Int32Array(0),
  };
}

/** The number of the last place at or before `x`; -1 before the first. `places` increase. */
export function indexBefore(places: Float64Array, length: number, x: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! <= x) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function readingAt(line: Line, x: number, reach: number): Reading | null {
  const at = nearestIndex(line.x, line.length, x);
  if (at < 0) return null;
  const { curve, band } = line;
  if (band !== null) {
    if (x < band.x[0]! - reach || x > band.x[band.length - 1]! + reach) return null;
    return {
      line,
      x: band.x[at]!,
      xEnd: band.x[at]!,
      value: band.mean[at]!,
      raw: band.mean[at]!,
      low: band.low[at]!,
      high: band.high[at]!,
      count: band.count[at]!,
      nonfinite: 0,
    };
  }
  const own = nearestIndex(curve!.x, curve!.length, x, curve!.x_end);
  if (own < 0) return null;
  const from = curve!.x[own]!;
  const to = curve!.x_end[own]!;
  if (x < curve!.x[0]! - reach || x > curve!.x_end[curve!.length - 1]! + reach) return null;
  return {
    line,
    x: from,
    xEnd: to,
    value: line.y[at]!,
    raw: curve!.mean[own]!,
    low: curve!.min[own]!,
    high: curve!.max[own]!,
    count: curve!.count[own]!,
    nonfinite: curve!.nonfinite[own]!,
  };
}

/** The number of the place next to `x`; -1 where there is none. `ends`: where each place ends. */
export function nearestIndex(places: Float64Array, length: number, x: number, ends: Float64Array = places): number {
  if (length === 0) return -1;
  const before = Math.max(0, indexBefore(places, length, x));
  if (before + 1 >= length) return before;
  return x - ends[before]! <= places[before + 1]! - x ? before : before + 1;
}

/** The last value of a line that is a number, as its legend tells it. */
export function lastReading(line: Line): { value: number; x: number } | null {
  const { curve, smoothed } = line;
  const [values, places] = curve === null || smoothed ? [line.y, line.x] : [curve.last, curve.x_end];
  for (let at = line.length - 1; at >= 0; at -= 1)
    if (Number.isFinite(values[at]!)) return { value: values[at]!, x: places[at]! };
  return null;
}

/**
 * The vertex of a line that a step of the cursor goes to: the first or last one within the range where the cursor is
 * outside of it; null where the line has none there.
 */
export function stepAlong(
  line: Pick<Line, "x" | "length">,
  [min, max]: Range,
  from: number | null,
  by: number,
): number | null {
  if (line.length === 0) return null;
  let at: number;
  if (from === null || from < min || from > max) {
    at = nearestIndex(line.x, line.length, by > 0 ? min : max);
    if (line.x[at]! < min && at + 1 < line.length) at += 1;
    if (line.x[at]! > max && at > 0) at -= 1;
  } else at = Math.max(0, Math.min(line.length - 1, nearestIndex(line.x, line.length, from) + by));
  return line.x[at]! < min || line.x[at]! > max ? null : at;
}
