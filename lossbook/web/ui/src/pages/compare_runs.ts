// Chooses the runs to compare and requests the comparison.

import { api } from "../api";
import { type QueryState, useQuery } from "../components/use_query";
import { visibleRuns } from "../components/visible_runs";
import { route } from "../router";
import { baseline, drawnRuns, runById } from "../runs";
import type { Compared, RunRow } from "../types";

/** Tables hold no more runs than that. */
export const MOST_COMPARED = 500;

export type Scope = "drawn" | "shown";

/** `usual`: where the link does not say. */
export function scopeOf(usual: Scope): Scope {
  const said = route.value.settings.get("of");
  return said === "drawn" || said === "shown" ? said : usual;
}

/** The runs of a scope, in the table's order; the baseline first where there is one. */
export function runsOf(scope: Scope): readonly RunRow[] {
  if (scope === "shown") return visibleRuns.value;
  const rows = drawnRuns.value.map(({ id }) => runById(id)).filter((row) => row !== undefined);
  const held = baseline.value;
  return held === null ? rows : [...rows.filter(({ id }) => id === held), ...rows.filter(({ id }) => id !== held)];
}

export interface CompareOptions {
  metric?: string | null;
  losses?: readonly number[];
  everySetting?: boolean;
}

/** Runs held against one another; asked for again while one of them goes on. */
export function useCompared(
  rows: readonly RunRow[],
  { metric = null, losses = [], everySetting = false }: CompareOptions,
): QueryState<Compared> & { left: number } {
  const project = route.value.project ?? "";
  const chosen = rows.slice(0, MOST_COMPARED);
  const held = baseline.value;
  const known = held !== null && runById(held) !== undefined ? held : null;
  const request = {
    project,
    runs: chosen.map(({ id }) => id),
    metric,
    losses: [...losses],
    columns: [],
    baseline: known,
    every_setting: everySetting,
  };
  const isLive = chosen.some(({ state }) => state === "running");
  const asked = useQuery(JSON.stringify(request), (signal) => api.compare(request, signal), isLive, 5000);
  return { ...asked, left: rows.length - chosen.length };
}
