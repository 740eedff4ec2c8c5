// Merges the rows of a project's runs with answers that say what changed.

import type { RunRow, Runs } from "./types";

export type RunChanges = Pick<Runs, "whole" | "rows" | "removed" | "columns" | "total">;

export interface RunRows {
  byId: ReadonlyMap<string, RunRow>;
  columns: ReadonlyMap<string, ReadonlyMap<string, unknown>>; // by name, by run
}

export interface SortedRunRows extends RunRows {
  rows: readonly RunRow[]; // the newest first
  positions: ReadonlyMap<string, number>; // by run: 0 is the project's oldest, so that a new run changes no other's
  total: number; // more than `rows` while only the first of them have been asked for
}

/** The rows after an answer: all of them where it is `whole`, else those that it names are replaced or removed. */
export function mergeRows(
  before: RunRows,
  { whole, rows: changed, removed, columns, total: count }: RunChanges,
): SortedRunRows {
  const byId = whole ? new Map<string, RunRow>() : new Map(before.byId);
  for (const id of removed) byId.delete(id);
  for (const row of changed) byId.set(row.id, row);
  const values = new Map<string, Map<string, unknown>>();
  for (const [name, list] of Object.entries(columns)) {
    const column = new Map(whole ? [] : (before.columns.get(name) ?? []));
    for (const [at, row] of changed.entries()) column.set(row.id, list[at] ?? undefined);
    values.set(name, column);
  }
  const rows = [...byId.values()].sort((one, other) => other.created - one.created || (one.id < other.id ? -1 : 1));
  const total = Math.max(count, rows.length);
  return { byId, columns: values, rows, total, positions: new Map(rows.map((row, at) => [row.id, total - 1 - at])) };
}
