// The columns that scatter plots and parallel coordinates use: requested while shown, and as axes.

import { useEffect, useMemo } from "preact/hooks";

import { type Dimension, dimensionOf } from "../charts/dimension";
import { bestOf, cell, columnNamed, isField, possibleColumns } from "../components/table_columns";
import { asNumber } from "../format";
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
  return bestOf(name, known);
}

/** Ask for columns as long as the view is open; whether all of them are there. */
export function useColumns(wanted: readonly string[]): boolean {
  const asked = [...new Set(wanted)]
    .filter((name) => name !== "" && !isField(name))
    .slice(0, 100)
    .sort();
  const key = asked.join("\n");
  useEffect(() => {
    alsoWanted.value = asked;
  }, [key]);
  useEffect(
    () => () => {
      alsoWanted.value = [];
    },
    [],
  );
  // Without the names it is not known yet what is wanted.
  return names.value !== null && asked.every((name) => columnOf(name) !== undefined);
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
export function dimension(name: string, rows: readonly RunRow[], log: boolean | null): Dimension {
  const values = rows.map((row) => cell(name, row));
  return dimensionOf(
    name,
    titleOf(name),
    values,
    log ?? (name !== "created" && name !== "last_step" && spreads(values)),
  );
}

/** As `dimension`, worked out again only when something of it changed. */
export function useDimension(name: string | null, rows: readonly RunRow[], log: boolean | null): Dimension | null {
  const column = name === null || isField(name) ? null : columnOf(name);
  return useMemo(() => (name === null ? null : dimension(name, rows, log)), [name, rows, column, log]);
}

export const categoryColor = (at: number): string => paletteColor(at);

/** What the link says of a logarithmic axis. */
export function logSetting(text: string | null): boolean | null {
  return text === "1" ? true : text === "0" ? false : null;
}

const SEED = /(^|[._])seed$/;

interface Character {
  isOne: boolean; // the same wherever it is
  isNumeric: boolean;
  spreads: boolean;
}

/** What the values of a column are like; worked out once for each answer. */
const characters = new WeakMap<ReadonlyMap<string, unknown>, Character>();

function characterOf(name: string): Character | null {
  const column = columnOf(name);
  if (column === undefined) return null;
  let character = characters.get(column);
  if (character === undefined) {
    const values = [...column.values()].filter((any) => any !== undefined);
    const isNumeric = values.length > 0 && values.every((any) => asNumber(any) !== null);
    character = {
      isOne: values.length > 0 && values.every((any) => any === values[0]),
      isNumeric,
      spreads: isNumeric && spreads(values),
    };
    characters.set(column, character);
  }
  return character;
}

const MOST_ASKED = 40;

/** Settings that differ, as many as are asked for. Always the same ones: what is asked must not follow from what was answered. */
export function differingSettings(): readonly string[] {
  return (names.value?.differing ?? []).slice(0, MOST_ASKED);
}

/** Those that could explain something first: a seed is chance, and what is only there or not says little. */
export function rankSettings(settings: readonly string[]): string[] {
  const rank = (name: string): number => (characterOf(name)?.isOne ? 2 : 0) + (SEED.test(name) ? 1 : 0);
  return [...settings].sort((one, other) => rank(one) - rank(other));
}

/** The setting that a metric is most likely looked at against: numbers that spread far, then any numbers. */
export function mainSetting(settings: readonly string[]): string | null {
  const some = rankSettings(settings);
  return (
    some.find((name) => characterOf(name)?.spreads) ??
    some.find((name) => characterOf(name)?.isNumeric) ??
    some[0] ??
    null
  );
}
