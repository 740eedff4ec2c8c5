// The rows of the run table: searched, filtered, sorted and grouped. Computed once for each change.

import { computed, effect, type ReadonlySignal, signal, untracked } from "@preact/signals";

import { AnswerError, api } from "../api";
import { asNumber, value } from "../format";
import { decodeItem, encodeItem, route, setSettings, setting } from "../router";
import { columnOf, type DrawnRun, drawnRuns, names, paletteColor, rows, wantColumns } from "../runs";
import type { RunRow } from "../types";
import { isComplete } from "./filter_text";
import { cell, columnNames, isField } from "./table_columns";

export interface Group {
  name: string;
  ids: readonly string[];
  folded: boolean;
}
/** A line of the table: a run, or the head of a group of runs. */
export type TableRow = { id: string; group: null } | { id: null; group: Group };

/** At so many runs `Draw all` ends: more curves than colours tell nothing. */
export const MOST_DRAWN = 100;

export const searchText = setting("q");
export const filterText = setting("where");
export const sortText = setting("sort");
export const groupText = setting("group");
const foldedText = setting("folded");
const bandsText = setting("bands");

// -- filter: the server evaluates it, again when runs change -------------------------------------------------------

const FILTER_WAIT = 250; // ms after the last key
const HALF_WAIT = 2500; // where the expression does not look as if it ended there
const FILTER_PAUSE = 3000; // ms between looks at runs that change

/** The ids that fit, null where nothing is filtered. */
const fitting = signal<ReadonlySet<string> | null>(null);
/** Why the expression cannot be understood. */
export const filterFailure = signal<string | null>(null);

let filterAsked = { question: "", at: 0 };
const projectName = computed(() => route.value.project);

effect(() => {
  const where = (filterText.value ?? "").trim();
  const project = projectName.value;
  const isEmpty = rows.value.length === 0; // and runs that change begin this anew
  const question = `${project}\n${where}`;
  if (where === "" || project === null) {
    fitting.value = null;
    filterFailure.value = null;
    filterAsked = { question, at: 0 };
    return undefined;
  }
  if (isEmpty) return undefined;
  const stop = new AbortController();
  const since = performance.now() - filterAsked.at;
  const wait =
    filterAsked.at === 0 && untracked(() => fitting.value) === null
      ? 0
      : question === filterAsked.question
        ? Math.max(FILTER_PAUSE - since, 0)
        : isComplete(where)
          ? FILTER_WAIT
          : HALF_WAIT;
  const timer = setTimeout(async () => {
    filterAsked = { question, at: performance.now() };
    try {
      const { ids } = await api.where({ project, where }, stop.signal);
      fitting.value = new Set(ids);
      filterFailure.value = null;
    } catch (error) {
      if (stop.signal.aborted) return;
      if (error instanceof AnswerError) filterFailure.value = error.message;
      else throw error;
    }
  }, wait);
  return () => {
    clearTimeout(timer);
    stop.abort();
  };
});

// -- search ----------------------------------------------------------------------------------------------------------

const haystacks = computed(() =>
  rows.value.map((row) =>
    `${row.name}\n${row.id}\n${row.tags.join("\n")}\n${row.group ?? ""}\n${row.notes ?? ""}`.toLowerCase(),
  ),
);

const found = computed<readonly RunRow[]>(() => {
  const words = (searchText.value ?? "")
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const fits = fitting.value;
  if (words.length === 0 && fits === null) return rows.value;
  const texts = words.length === 0 ? [] : haystacks.value;
  return rows.value.filter(
    (row, at) => (fits === null || fits.has(row.id)) && words.every((word) => texts[at]!.includes(word)),
  );
});

// -- order -----------------------------------------------------------------------------------------------------------

export interface Sort {
  name: string;
  descending: boolean;
}

export const sort = computed<Sort | null>(() => {
  const text = sortText.value;
  if (text === null || text === "" || text === "-") return null;
  return text.startsWith("-") ? { name: text.slice(1), descending: true } : { name: text, descending: false };
});

/** Ascending, then descending, then as they were: the newest first. */
export function sortBy(name: string): void {
  const now = sort.value;
  if (now?.name !== name) setSettings({ sort: name });
  else setSettings({ sort: now.descending ? null : `-${name}` });
}

/** The same column the other way round. */
export function sortReversed(): void {
  const now = sort.value;
  if (now !== null) setSettings({ sort: now.descending ? now.name : `-${now.name}` });
}

/** The columns one after the other, each in both directions. */
export function sortNext(): void {
  const [all, now] = [["name", ...columnNames.value], sort.value];
  if (now === null) setSettings({ sort: all[1] ?? all[0]! });
  else if (!now.descending) setSettings({ sort: `-${now.name}` });
  else setSettings({ sort: all[all.indexOf(now.name) + 1] ?? null });
}

/** Numbers before texts; what is missing, and NaN, last in either direction; equal ones stay as they were. */
export function sortValues<T>(things: readonly T[], cellOf: (thing: T) => unknown, descending: boolean): T[] {
  const keyed = things.map((thing, at) => {
    const any = cellOf(thing);
    const size = asNumber(any);
    if (size !== null) return { thing, at, rank: Number.isNaN(size) ? 2 : 0, size, text: "" };
    if (any === null || any === undefined || any === "" || (Array.isArray(any) && any.length === 0))
      return { thing, at, rank: 3, size: 0, text: "" };
    return { thing, at, rank: 1, size: 0, text: (Array.isArray(any) ? any.join(", ") : value(any)).toLowerCase() };
  });
  const sign = descending ? -1 : 1;
  keyed.sort(
    (one, other) =>
      one.rank - other.rank ||
      (one.rank === 0 && one.size !== other.size ? sign * (one.size < other.size ? -1 : 1) : 0) ||
      (one.rank === 1 && one.text !== other.text ? sign * (one.text < other.text ? -1 : 1) : 0) ||
      one.at - other.at,
  );
  return keyed.map(({ thing }) => thing);
}

/** The runs that were searched for, in the order that was asked for. */
export const visibleRuns: ReadonlySignal<readonly RunRow[]> = computed(() => {
  const order = sort.value;
  if (order === null) return found.value;
  const column = isField(order.name) ? undefined : columnOf(order.name);
  return sortValues(
    found.value,
    (row) => (isField(order.name) ? cell(order.name, row) : column?.get(row.id)),
    order.descending,
  );
});

// -- groups ----------------------------------------------------------------------------------------------------------

/** What a run is grouped by, as a text; null where nothing is. */
export function groupNameOf(row: RunRow): string | null {
  const by = groupText.value;
  if (by === null || by === "") return null;
  const any = cell(by, row);
  return any === undefined || any === null || any === "" || (Array.isArray(any) && any.length === 0)
    ? "(none)"
    : Array.isArray(any)
      ? any.join(", ")
      : value(any);
}

const foldedNames = computed(
  () =>
    new Set(
      (foldedText.value ?? "")
        .split(",")
        .filter((part) => part !== "")
        .map(decodeItem),
    ),
);

export const groups = computed<readonly Group[]>(() => {
  if (!groupText.value) return [];
  const members = new Map<string, string[]>();
  for (const row of visibleRuns.value) {
    const name = groupNameOf(row)!;
    const ids = members.get(name);
    if (ids) ids.push(row.id);
    else members.set(name, [row.id]);
  }
  return [...members].map(([name, ids]) => ({ name, ids, folded: foldedNames.value.has(name) }));
});

export function collapseGroup(name: string, folded: boolean): void {
  const next = new Set(foldedNames.value);
  if (folded) next.add(name);
  else next.delete(name);
  setSettings({ folded: next.size ? [...next].map(encodeItem).join(",") : null });
}

export const lines: ReadonlySignal<readonly TableRow[]> = computed(() => {
  if (!groupText.value) return visibleRuns.value.map((row): TableRow => ({ id: row.id, group: null }));
  return groups.value.flatMap((group): TableRow[] => [
    { id: null, group },
    ...(group.folded ? [] : group.ids.map((id): TableRow => ({ id, group: null }))),
  ]);
});

/** What the order follows from when a person sets it: a change of it begins the table at its top. */
export const arrangement = computed(() =>
  [searchText.value, filterText.value, sortText.value, groupText.value, projectName.value].join("\n"),
);

/** Which lines there are follows from this, as far as a person sets it. */
export const folding = computed(() => `${arrangement.value}\n${foldedText.value}`);

const groupPlaces = computed(() => {
  // By name, so that a group's colour does not change with the order of the table.
  const all = [...new Set(groups.value.map(({ name }) => name))].sort();
  return new Map(all.map((name, at) => [name, at]));
});

/** The runs that charts draw: grouped as the table is, and in their group's colour where bands stand for groups. */
export const chartRuns: ReadonlySignal<readonly DrawnRun[]> = computed(() => {
  const bands = bandsText.value === "1";
  const drawn = drawnRuns.value;
  if (!groupText.value) {
    if (!bands) return drawn;
    const all = [...new Set(drawn.map(({ group }) => group ?? ""))].sort();
    return drawn.map((run) => ({ ...run, color: paletteColor(all.indexOf(run.group ?? "")) }));
  }
  const byId = new Map(rows.value.map((row) => [row.id, row]));
  return drawn.map((run) => {
    const row = byId.get(run.id);
    const group = row === undefined ? run.group : groupNameOf(row);
    return { ...run, group, color: bands ? paletteColor(groupPlaces.value.get(group ?? "") ?? 0) : run.color };
  });
});

// -- what of it must be asked for --------------------------------------------------------------------------------

effect(() => {
  if (names.value === null) return;
  const wanted = [...columnNames.value, sort.value?.name ?? "name", groupText.value || "name"];
  wantColumns([...new Set(wanted)].filter((name) => !isField(name)).slice(0, 200));
});
