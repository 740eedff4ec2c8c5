// Turns a column of runs into an axis, numeric or categorical, and measures how two columns correlate.

import { asNumber, moment, number, value as valueText } from "../format";
import { makeTicks, type TickKind } from "./ticks";

export interface Dimension {
  name: string; // the column's
  title: string;
  isText: boolean;
  categories: readonly string[]; // of texts: `values` are places in it
  values: Float64Array; // NaN where a run has none, or one that has no place
  log: boolean;
  low: number; // of all values; low < high
  high: number;
  isOne: boolean; // all values are the same
  missing: number; // runs without a value
  nonfinite: number; // runs whose value is NaN or infinite
  nonPositive: number; // runs whose value a logarithmic axis cannot show
  kind: TickKind;
}

/** So many texts have places of their own; what is rarer shares the last. */
const MOST_CATEGORIES = 40;
const collator = new Intl.Collator("en", { numeric: true });

function textOf(any: unknown): string {
  return Array.isArray(any) && any.every((one) => typeof one === "string") ? any.join(", ") : valueText(any);
}

const isMissing = (any: unknown): boolean =>
  any === null || any === undefined || any === "" || (Array.isArray(any) && any.length === 0);

export function dimensionOf(name: string, title: string, all: readonly unknown[], log: boolean): Dimension {
  const isText = all.some((any) => !isMissing(any) && asNumber(any) === null);
  const values = new Float64Array(all.length).fill(NaN);
  let [missing, nonfinite, nonPositive] = [0, 0, 0];
  if (isText) {
    const counts = new Map<string, number>();
    for (const any of all) if (!isMissing(any)) counts.set(textOf(any), (counts.get(textOf(any)) ?? 0) + 1);
    const common = [...counts]
      .sort(([, one], [, other]) => other - one)
      .slice(0, counts.size > MOST_CATEGORIES ? MOST_CATEGORIES - 1 : MOST_CATEGORIES);
    const categories = common.map(([text]) => text).sort(collator.compare);
    const places = new Map(categories.map((text, at) => [text, at]));
    if (counts.size > categories.length)
      categories.push(`${(counts.size - categories.length).toLocaleString("en-US")} others`);
    all.forEach((any, at) => {
      if (isMissing(any)) missing += 1;
      else values[at] = places.get(textOf(any)) ?? categories.length - 1;
    });
    return {
      name,
      title,
      isText,
      categories,
      values,
      log: false,
      low: -0.5,
      high: categories.length - 0.5,
      isOne: categories.length === 1,
      missing,
      nonfinite,
      nonPositive,
      kind: "number",
    };
  }
  let [low, high] = [Infinity, -Infinity];
  all.forEach((any, at) => {
    const size = asNumber(any);
    if (size === null) missing += 1;
    else if (!Number.isFinite(size)) nonfinite += 1;
    else if (log && size <= 0) nonPositive += 1;
    else {
      values[at] = size;
      low = Math.min(low, size);
      high = Math.max(high, size);
    }
  });
  if (!(low <= high)) [low, high] = log ? [0.1, 1] : [0, 1];
  const isOne = low === high;
  if (isOne)
    [low, high] = log
      ? [low / 1.5, high * 1.5]
      : [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
  const kind: TickKind = name === "created" ? "time" : name === "duration" ? "duration" : "number";
  return { name, title, isText, categories: [], values, log, low, high, isOne, missing, nonfinite, nonPositive, kind };
}

/** How far along the axis a value lies, 0 to 1. */
export function toFraction({ log, low, high }: Dimension, value: number): number {
  return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
}

export function fromFraction({ log, low, high }: Dimension, part: number): number {
  return log ? low * (high / low) ** part : low + part * (high - low);
}

export function formatOnAxis(dimension: Dimension, value: number): string {
  if (Number.isNaN(value)) return "–";
  if (dimension.isText) return dimension.categories[value] ?? "–";
  return dimension.kind === "time" ? moment(value) : number(value);
}

/** Where the axis has its labels: of parts of it. */
export function labelsOf(dimension: Dimension, length: number, apart: number): { part: number; label: string }[] {
  if (dimension.isText) {
    const every = Math.max(1, Math.ceil((dimension.categories.length * apart) / length));
    return dimension.categories.map((label, at) => ({
      part: toFraction(dimension, at),
      label: at % every === 0 ? label : "",
    }));
  }
  if (dimension.isOne) {
    const only = dimension.values.find((value) => !Number.isNaN(value)) ?? NaN;
    return [{ part: toFraction(dimension, only), label: formatOnAxis(dimension, only) }];
  }
  const { at, labels } = makeTicks(
    { min: dimension.low, max: dimension.high, log: dimension.log },
    dimension.kind,
    length,
    apart,
  );
  return at.map((place, number) => ({ part: toFraction(dimension, place), label: labels[number]! }));
}

// -- how two go together -------------------------------------------------------------------------------------------

export interface Correlation {
  rho: number; // Spearman's
  count: number; // runs that have both
  low: number; // 95% interval
  high: number;
}

/** Ranks from 1, equal values with the mean of theirs. */
function ranks(values: readonly number[]): Float64Array {
  const order = values.map((_, at) => at).sort((one, other) => values[one]! - values[other]!);
  const found = new Float64Array(values.length);
  for (let first = 0; first < order.length; ) {
    let end = first + 1;
    while (end < order.length && values[order[end]!] === values[order[first]!]) end += 1;
    for (let at = first; at < end; at += 1) found[order[at]!] = (first + end + 1) / 2;
    first = end;
  }
  return found;
}

/**
 * Spearman's rank correlation of two numeric dimensions; null where it says nothing: texts, under four runs, or no variation.
 *
 * The interval is Fisher's with the standard error of Bonett and Wright (2000).
 */
export function correlate(one: Dimension, other: Dimension): Correlation | null {
  if (one.isText || other.isText) return null;
  const [left, right]: [number[], number[]] = [[], []];
  one.values.forEach((value, at) => {
    if (Number.isNaN(value) || Number.isNaN(other.values[at]!)) return;
    left.push(value);
    right.push(other.values[at]!);
  });
  const count = left.length;
  if (count < 4) return null;
  const [a, b] = [ranks(left), ranks(right)];
  const middle = (count + 1) / 2;
  let [both, own, others] = [0, 0, 0];
  for (let at = 0; at < count; at += 1) {
    both += (a[at]! - middle) * (b[at]! - middle);
    own += (a[at]! - middle) ** 2;
    others += (b[at]! - middle) ** 2;
  }
  if (own === 0 || others === 0) return null;
  const rho = both / Math.sqrt(own * others);
  const error = Math.sqrt((1 + rho ** 2 / 2) / (count - 3));
  const held = Math.max(-0.999999, Math.min(0.999999, rho));
  return {
    rho,
    count,
    low: Math.tanh(Math.atanh(held) - 1.96 * error),
    high: Math.tanh(Math.atanh(held) + 1.96 * error),
  };
}

export function formatSigned(rho: number): string {
  return `${rho < 0 ? "−" : "+"}${Math.abs(rho).toFixed(2)}`;
}

/** What a correlation says, and what it does not. */
export function describeCorrelation(x: Dimension, y: Dimension): string {
  const found = correlate(x, y);
  if (found === null) {
    return x.isText || y.isText
      ? "No correlation: one of the two is a text."
      : "No correlation: under four runs have both, or one of them is the same in all.";
  }
  const { rho, count, low, high } = found;
  const runs = `${count.toLocaleString("en-US")} runs`;
  const told = `Spearman’s ρ = ${formatSigned(rho)} over ${runs} (95% interval ${formatSigned(low)} to ${formatSigned(high)})`;
  if (count < 10) return `${told}: too few runs to rely on.`;
  return low < 0 && high > 0
    ? `${told}: could be chance.`
    : `${told}. What goes together need not be cause and effect.`;
}
