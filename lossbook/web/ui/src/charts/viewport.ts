// Computes the ranges in view: extents, zoom limits, robust y ranges, and the outliers that they leave out.

import { indexBefore } from "./lines";
import type { Line, Outliers, Range, Scale } from "./types";

/** From the first to the last row of all lines; null where there is none. */
export function extentOf(lines: readonly Line[], log: boolean): Range | null {
  let low = Infinity;
  let high = -Infinity;
  for (const { curve, band, length } of lines) {
    const starts = band?.x ?? curve!.x;
    const ends = band?.x ?? curve!.x_end;
    const count = band === null ? curve!.length : length;
    for (let at = 0; at < count; at += 1) {
      if (log && starts[at]! <= 0) continue;
      low = Math.min(low, starts[at]!);
      break;
    }
    if (count > 0 && (!log || ends[count - 1]! > 0)) high = Math.max(high, ends[count - 1]!);
  }
  if (!(low <= high)) return null;
  if (low < high) return [low, high];
  return log ? [low / 1.5, high * 1.5] : [low - 0.5, high + 0.5];
}

/** A zoom in bounds: never further out than all there is and a little, never so near that numbers end. */
export function clampZoom(range: Range, whole: Range, log: boolean): Range {
  const to = log ? Math.log : (value: number) => value;
  const from = log ? Math.exp : (value: number) => value;
  const [low, high] = [to(whole[0]), to(whole[1])];
  const span = high - low;
  let [first, last] = [log && range[0] <= 0 ? low : to(range[0]), log && range[1] <= 0 ? high : to(range[1])];
  const wanted = Math.min(Math.max(last - first, span * 1e-9, Math.abs(high) * 1e-12), span * 1.1);
  const middle = (first + last) / 2;
  [first, last] = [middle - wanted / 2, middle + wanted / 2];
  const edge = span * 0.05;
  if (first < low - edge) [first, last] = [low - edge, low - edge + wanted];
  if (last > high + edge) [first, last] = [high + edge - wanted, high + edge];
  return [from(first), from(last)];
}

/** What is in sight between two places on x. */
export interface ValueRange {
  low: number; // NaN where nothing can be drawn
  high: number;
  robustLow: number;
  robustHigh: number;
  nonPositive: number; // values that a log axis cannot show
  nonPositiveAtLeast: boolean; // among buckets: there may be more
}

/** The buckets of a line that touch a range. */
export function bucketsWithin(
  starts: Float64Array,
  ends: Float64Array,
  length: number,
  range: Range,
): [number, number] {
  let first = Math.max(0, indexBefore(starts, length, range[0]));
  if (first < length && ends[first]! < range[0]) first += 1;
  return [first, indexBefore(starts, length, range[1]) + 1];
}

/** Of so many values quantiles are told; of more, every second, third, ... is taken. */
const MOST_SORTED = 20_000;
/** Usual is what lies between these shares of all buckets, and a spread and a half beyond on each side. */
const USUAL = 0.05;
const FENCE = 1.5;
/** A line's beginning is kept though it is unusual: if its first so many buckets come steadily nearer and the usual keeps this share of the height. */
const STEADY = 3;
const LEAST_SHARE = 0.1;

/** `robust`: with the range of what is usual, as a box plot's whiskers tell it. */
export function measureValues(lines: readonly Line[], range: Range, log: boolean, robust: boolean): ValueRange {
  let [low, high, nonPositive] = [Infinity, -Infinity, 0];
  let nonPositiveAtLeast = false;
  const lows: number[] = [];
  const highs: number[] = [];
  const take = (from: number, to: number): void => {
    if (from < low && (!log || from > 0)) low = from;
    if (to > high) high = to;
    if (log && from <= 0 && to > 0 && to < low) low = to;
    if (robust && (!log || to > 0)) {
      if (!log || from > 0) lows.push(from);
      highs.push(to);
    }
  };
  for (const { curve, band, smooth } of lines) {
    if (band !== null) {
      const [first, end] = bucketsWithin(band.x, band.x, band.length, range);
      for (let at = first; at < end; at += 1) if (Number.isFinite(band.low[at]!)) take(band.low[at]!, band.high[at]!);
      continue;
    }
    const { x, x_end, length, min, max, count } = curve!;
    const [first, end] = bucketsWithin(x, x_end, length, range);
    for (let at = first; at < end; at += 1) {
      if (!Number.isFinite(min[at]!) || !Number.isFinite(max[at]!)) continue;
      if (log && min[at]! <= 0) {
        nonPositive += 1;
        if (count[at]! > 1) nonPositiveAtLeast = true;
      }
      take(min[at]!, max[at]!);
    }
    if (smooth !== null) {
      const [from, to] = bucketsWithin(smooth.x, smooth.x_end, smooth.length, range);
      for (let at = from; at < to; at += 1) {
        const value = smooth.mean[at]!;
        if (Number.isFinite(value) && (!log || value > 0)) {
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }
  }
  if (!(low <= high) || (log && !(high > 0))) [low, high] = [NaN, NaN];
  const [robustLow, robustHigh] = robust && low < high ? usual(lines, range, log, lows, highs, low, high) : [low, high];
  return { low, high, robustLow, robustHigh, nonPositive, nonPositiveAtLeast };
}

/** The range that leaves far outliers out, but no line's steady beginning. */
function usual(
  lines: readonly Line[],
  range: Range,
  log: boolean,
  lows: readonly number[],
  highs: readonly number[],
  low: number,
  high: number,
): Range {
  const to = log ? Math.log : (value: number): number => value;
  const [below, above] = [share(lows, USUAL), share(highs, 1 - USUAL)];
  if (below === null || above === null || below > above) return [low, high];
  const spread = to(above) - to(below);
  const [least, most] = [to(below) - FENCE * spread, to(above) + FENCE * spread];
  // Up to the furthest value that is still usual, as whiskers are drawn.
  let [from, until] = [below, above];
  for (const value of lows) if (value < from && to(value) >= least) from = value;
  for (const value of highs) if (value > until && to(value) <= most) until = value;
  for (const line of lines) {
    for (const value of steadyBeginning(line, range, (one) => to(one) < least || to(one) > most)) {
      const [wideLow, wideHigh] = [Math.min(from, value), Math.max(until, value)];
      if (spread >= LEAST_SHARE * (to(wideHigh) - to(wideLow))) [from, until] = [wideLow, wideHigh];
    }
  }
  return [Math.max(low, from), Math.min(high, until)];
}

/** The unusual values that a line begins with, the furthest first, where they come steadily nearer to the rest. */
function steadyBeginning({ curve, band }: Line, range: Range, isUnusual: (value: number) => boolean): number[] {
  const [starts, ends, values, length] =
    band !== null ? [band.x, band.x, band.mean, band.length] : [curve!.x, curve!.x_end, curve!.mean, curve!.length];
  if (length === 0 || starts[0]! < range[0]) return [];
  const end = bucketsWithin(starts, ends, length, range)[1];
  const found: number[] = [];
  let at = 0;
  for (; at < end && Number.isFinite(values[at]!) && isUnusual(values[at]!); at += 1) found.push(values[at]!);
  if (found.length === 0 || at >= end) return [];
  const down = found[0]! > values[at]!;
  const first = [...values.subarray(0, Math.max(STEADY, at + 1))];
  // Against the one before the last: a mean of few rows trembles.
  const isSteady = first.every(
    (value, place) => place < 2 || (down ? value < first[place - 2]! : value > first[place - 2]!),
  );
  return isSteady ? found : [];
}

/** The value below which a share of all lie. */
function share(values: readonly number[], part: number): number | null {
  const every = Math.ceil(values.length / MOST_SORTED);
  const some = Float64Array.from(every > 1 ? values.filter((_, at) => at % every === 0) : values).sort();
  return some.length === 0 ? null : some[Math.min(some.length - 1, Math.max(0, Math.round(part * (some.length - 1))))]!;
}

/** A range with a little room above and below. */
export function padRange(low: number, high: number, log: boolean): Scale {
  if (Number.isNaN(low)) return log ? { min: 0.1, max: 1, log } : { min: 0, max: 1, log };
  if (log) {
    const room = Math.max(10 ** (0.05 * Math.log10(high / low)), 1.02);
    return { min: low / room, max: high * room, log };
  }
  const span = high - low;
  const room = span > 0 ? span * 0.06 : Math.abs(low) * 0.05 || 1;
  return { min: low - room, max: high + room, log };
}

export function findOutliers(lines: readonly Line[], range: Range, y: Scale): Outliers {
  const found: Outliers = { atLeast: false, above: 0, highest: null, below: 0, lowest: null, places: [] };
  for (const line of lines) {
    const { curve } = line;
    if (curve === null) continue;
    const { x, x_end, length, min, max, min_x, max_x, count } = curve;
    const [first, end] = bucketsWithin(x, x_end, length, range);
    for (let at = first; at < end; at += 1) {
      if (max[at]! > y.max) {
        found.above += 1;
        if (count[at]! > 1) found.atLeast = true;
        if (found.highest === null || max[at]! > found.highest.value)
          found.highest = { value: max[at]!, x: max_x[at]! };
        found.places.push({ x: max_x[at]!, above: true, line });
      }
      if (min[at]! < y.min && !(y.log && min[at]! <= 0)) {
        found.below += 1;
        if (count[at]! > 1) found.atLeast = true;
        if (found.lowest === null || min[at]! < found.lowest.value) found.lowest = { value: min[at]!, x: min_x[at]! };
        found.places.push({ x: min_x[at]!, above: false, line });
      }
    }
  }
  return found;
}
