// The columns that points and lines are made of: asked for while they are shown, and as places on axes.

import { useEffect, useMemo } from "preact/hooks";

import { quantityOf, type Quantity } from "../charts/quantity";
import { asNumber } from "../format";
import { cell, columnNamed, isField, possibleColumns } from "../parts/table_columns";
import { alsoWanted, columnOf, names, paletteColor } from "../runs";
import type { RunRow } from "../types";

/** Fields of a run that are worth an axis. */
const FIELDS = new Set(["created", "duration", "last_step", "state", "group", "host", "user", "attempts", "alerts"]);

export function titleOf(name: string): string {
  return columnNamed(name).title;
}

/** Everything that an axis could be: what is usual first, of each metric its last, least and greatest value. */
export function axisOptions(): string[] {
  const found = possibleColumns.value.filter((name) => !isField(name) || FIELDS.has(name));
  const fields = found.filter(isField);
  const metrics = (names.value?.metrics ?? []).flatMap(({ name }) => [name, `${name}.min`, `${name}.max`]);
  return [...new Set([...found.filter((name) => !isField(name)), ...fields, ...metrics])];
}

/** The loss that runs are judged by here: its least value. */
export function usualMetric(): string | null {
  const known = names.value;
  if (known === null) return null;
  const countOf = (metric: string): number => known.metrics.find(({ name }) => name === metric)?.runs ?? 0;
  // The validation loss, unless hardly any run has one.
  const most = Math.max(0, ...known.usual.map(countOf));
  const name = known.usual.findLast((one) => countOf(one) >= most / 10) ?? known.metrics[0]?.name;
  if (name === undefined) return null;
  return `${name}.${known.metrics.find((metric) => metric.name === name)?.goal === "maximize" ? "max" : "min"}`;
}

/** Ask for columns as long as the view is open; whether all of them are there. */
export function useColumns(wanted: readonly string[]): boolean {
  const asked = wanted.filter((name) => name !== "" && !isField(name)).slice(0, 100);
  const key = asked.join("\n");
  useEffect(() => {
    alsoWanted.value = asked;
  }, [key]);
  useEffect(() => () => void (alsoWanted.value = []), []);
  return asked.every((name) => columnOf(name) !== undefined);
}

/** Whether numbers spread so far that a logarithmic axis shows them better. */
function spreads(values: readonly unknown[]): boolean {
  let [low, high] = [Infinity, -Infinity];
  for (const any of values) {
    const size = asNumber(any);
    if (size === null || !Number.isFinite(size)) continue;
    if (size <= 0) return false;
    low = Math.min(low, size);
    high = Math.max(high, size);
  }
  return high / low >= 50;
}

/** A column of some runs; `log`: null where the values decide. */
export function quantity(name: string, rows: readonly RunRow[], log: boolean | null): Quantity {
  const values = rows.map((row) => cell(name, row));
  return quantityOf(name, titleOf(name), values, log ?? (name !== "created" && name !== "last_step" && spreads(values)));
}

/** As `quantity`, worked out again only when something of it changed. */
export function useQuantity(name: string | null, rows: readonly RunRow[], log: boolean | null): Quantity | null {
  const column = name === null || isField(name) ? null : columnOf(name);
  return useMemo(() => (name === null ? null : quantity(name, rows, log)), [name, rows, column, log]);
}

export const categoryColor = (at: number): string => paletteColor(at);

/** What the link says of a logarithmic axis. */
export function logSetting(text: string | null): boolean | null {
  return text === "1" ? true : text === "0" ? false : null;
}

const SEED = /(^|[._])seed$/;

/** Settings that differ, those that could explain something first: a seed is chance, and what is only there or not says little. */
export function telling(): string[] {
  const rank = (name: string): number => {
    const values = [...(columnOf(name)?.values() ?? [])].filter((any) => any !== undefined);
    const isOne = values.length > 0 && values.every((any) => any === values[0]);
    return (isOne ? 2 : 0) + (SEED.test(name) ? 1 : 0);
  };
  return [...(names.value?.differing ?? [])].sort((one, other) => rank(one) - rank(other));
}

/** The setting that a metric is most likely looked at against: numbers that spread far, then any numbers. */
export function mainSetting(): string | null {
  const some = telling().slice(0, 8);
  const valuesOf = (name: string): unknown[] => [...(columnOf(name)?.values() ?? [])].filter((any) => any !== undefined);
  const numeric = some.filter((name) => valuesOf(name).length > 0 && valuesOf(name).every((any) => asNumber(any) !== null));
  return numeric.find((name) => spreads(valuesOf(name))) ?? numeric[0] ?? some[0] ?? null;
}
