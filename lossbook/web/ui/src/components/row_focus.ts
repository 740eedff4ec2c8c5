// The row of the table that shortcuts act on, and toggling which runs are drawn.

import { computed, effect, signal } from "@preact/signals";
import { route } from "../router";
import { drawnIds, setDrawn, toggleDrawn } from "../runs";
import { type TableRow, visibleRuns } from "./visible_runs";

/** The run or group that keys act on. */
export const focused = signal<{ id: string } | { group: string } | null>(null);

export function isAt(line: TableRow): boolean {
  const at = focused.value;
  return (
    at !== null && (line.id !== null ? "id" in at && at.id === line.id : "group" in at && at.group === line.group.name)
  );
}

export function focusOn(line: TableRow | undefined): void {
  if (line !== undefined) focused.value = line.id !== null ? { id: line.id } : { group: line.group.name };
}

/** Toggle one run; all from the one toggled before up to this one; or let it be the only one. */
let lastToggled: string | null = null;
export function toggleRun(id: string, how: "one" | "range" | "only"): void {
  const shown = visibleRuns.value;
  const from = how === "range" && lastToggled !== null ? shown.findIndex((row) => row.id === lastToggled) : -1;
  if (how === "only") setDrawn([id]);
  else if (from >= 0) {
    const to = shown.findIndex((row) => row.id === id);
    const between = shown.slice(Math.min(from, to), Math.max(from, to) + 1).map((row) => row.id);
    const ids = new Set(drawnIds.value);
    const draw = ids.has(lastToggled!);
    for (const one of between) draw ? ids.add(one) : ids.delete(one);
    setDrawn(ids);
  } else toggleDrawn(id);
  lastToggled = id;
}

/** Draw every run of a group, or none of them if all are. */
export function toggleGroup(ids: readonly string[]): void {
  const drawn = new Set(drawnIds.value);
  const all = ids.every((id) => drawn.has(id));
  for (const id of ids) all ? drawn.delete(id) : drawn.add(id);
  setDrawn(drawn);
}

/** Whether lines rush by: small curves wait until they stand. */
export const scrolling = signal(false);

/** What goes along in a link to a run. */
export const linkQuery = computed(() => {
  const settings = route.value.settings.toString();
  return settings === "" ? "" : `?${settings}`;
});

/** The id of a line in the page. */
export function lineId(line: TableRow): string {
  return line.id !== null ? `run-${line.id}` : `group-${line.group.name}`;
}

// Another project has other runs.
const projectName = computed(() => route.value.project);
effect(() => {
  void projectName.value;
  focused.value = null;
  lastToggled = null;
});
