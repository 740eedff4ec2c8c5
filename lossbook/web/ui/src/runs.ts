// The runs of the open project: their rows and columns as they change, which are drawn, and their colours.

import { batch, computed, effect, type ReadonlySignal, signal } from "@preact/signals";

import { AnswerError, api, isLive } from "./api";
import { afterFirstCurve, poll } from "./polling";
import { route, setSettings, setting } from "./router";
import { DARK_PALETTE, formatColors, LIGHT_PALETTE, parseColors } from "./run_colors";
import { mergeRows, type RunChanges } from "./run_rows";
import { isDark } from "./theme";
import type { Names, RunRow } from "./types";

/** A run as a chart draws it. */
export interface DrawnRun {
  project: string;
  id: string;
  name: string;
  state: string;
  created: number;
  group: string | null;
  color: string;
}

/** So many of the newest runs are drawn where nobody has chosen any. */
export const DRAWN_AT_FIRST = 10;
/** So many rows are asked for before all of them. */
const FIRST_ROWS = 60;
const CHARTS_FIRST = 1000; // ms that they have for their own questions

const rowsById = signal<ReadonlyMap<string, RunRow>>(new Map());
const columnValues = signal<ReadonlyMap<string, ReadonlyMap<string, unknown>>>(new Map());
const wantedColumns = signal<readonly string[]>([]);
/** Columns that another view than the table needs while it is open. */
export const alsoWanted = signal<readonly string[]>([]);
const positions = signal<ReadonlyMap<string, number>>(new Map());

/** All runs of the project, the newest first. */
export const rows = signal<readonly RunRow[]>([]);
/** Whether they have been heard of at all. */
export const loaded = signal(false);
/** Why not, where there was an answer and it was no. */
export const failure = signal<string | null>(null);
/** How many runs the project has; more than there are rows while the first of them are shown. */
export const total = signal(0);
/** Every column that could be shown. */
export const names = signal<Names | null>(null);
const firstAxes = signal<readonly string[]>(["step"]);
/** What curves can be drawn against here; of the runs that are drawn first, until all have been asked. */
export const axes = computed(() => names.value?.axes ?? firstAxes.value);

/** Tell the axes of the runs that are drawn first: charts do not wait for the names of a whole project. */
export function setInitialAxes(known: readonly string[]): void {
  firstAxes.value = known;
}

export function runById(id: string): RunRow | undefined {
  return rowsById.value.get(id);
}

/** What is known of a column, by run; a computed signal that reads it follows it. */
export function columnOf(column: string): ReadonlyMap<string, unknown> | undefined {
  return columnValues.value.get(column);
}

/** Say which columns (`config.lr`, `val/loss`) are shown: their values come with the next answer. */
export function wantColumns(columns: readonly string[]): void {
  if (columns.length !== wantedColumns.value.length || columns.some((one, at) => one !== wantedColumns.value[at])) {
    wantedColumns.value = [...columns];
  }
}

// -- live --------------------------------------------------------------------------------------------------------

const project = computed(() => route.value.project);

/** Keep the rows of the project at hand as they are; called once, when it is known who answers. */
export function followProject(): void {
  effect(() => {
    const current = project.value;
    rows.value = [];
    total.value = 0;
    rowsById.value = new Map();
    columnValues.value = new Map();
    loaded.value = false;
    failure.value = null;
    names.value = null;
    if (current === null) return;
    let since: string | null = null;
    let known: readonly string[] = [];
    let stopAsking = (): void => undefined;

    const stopWatching = effect(() => {
      const columns = [...new Set([...wantedColumns.value, ...alsoWanted.value])];
      stopAsking();
      // A column that nobody has seen needs a value for every run, changed or not.
      if (columns.some((one) => !known.includes(one))) since = null;
      stopAsking = poll(1500, async (signal) => {
        try {
          if (isLive() && rows.peek().length === 0) {
            // Thousands of rows take longer than the few that are drawn at first.
            const run = (route.peek().settings.get("runs") ?? "")
              .split(",")
              .filter((id) => id !== "")
              .slice(0, FIRST_ROWS);
            const first = await api.runs({ project: current, limit: FIRST_ROWS, run }, signal);
            takeIn({ ...first, whole: true, removed: [] });
            failure.value = null;
            loaded.value = true;
            // Charts first; the table's columns after them.
            if (route.peek().view !== "table") await afterFirstCurve(CHARTS_FIRST);
            if (signal.aborted) return;
            // The names tell which columns are wanted, and those begin this anew.
            await askNames(current, signal);
            if (signal.aborted) return;
          }
          const answer = await api.runs({ project: current, since, column: columns }, signal);
          if (answer.revision !== since || answer.whole) takeIn(answer);
          if (answer.whole || answer.rows.length > 0) void askNames(current, signal);
          since = answer.revision;
          known = columns;
          failure.value = null;
          loaded.value = true;
        } catch (error) {
          if (error instanceof AnswerError && error.status !== 0) failure.value = error.message;
          throw error;
        }
      });
    });
    return () => {
      stopWatching();
      stopAsking();
    };
  });
}

let namesAsked = 0;

async function askNames(current: string, signal: AbortSignal): Promise<void> {
  // New names are rare and the list is long: a run that logs each second must not ask for it each second.
  if (names.value !== null && performance.now() - namesAsked < 15_000) return;
  namesAsked = performance.now();
  try {
    const answer = await api.names({ project: current }, signal);
    if (route.value.project === current && JSON.stringify(answer) !== JSON.stringify(names.value)) names.value = answer;
  } catch {
    namesAsked = 0; // asked again with the next change
  }
}

function takeIn(answer: RunChanges): void {
  const next = mergeRows({ byId: rowsById.value, columns: columnValues.value }, answer);
  batch(() => {
    total.value = next.total;
    rowsById.value = next.byId;
    columnValues.value = next.columns;
    positions.value = next.positions;
    rows.value = next.rows;
  });
}

// -- which are drawn, and how --------------------------------------------------------------------------------------

const chosenText = setting("runs");
const chosen = computed(() => {
  const text = chosenText.value;
  return text === null ? null : new Set(text.split(",").filter((id) => id !== ""));
});

/** Ids of the runs that are drawn; the newest few until somebody chooses. */
export const drawnIds: ReadonlySignal<ReadonlySet<string>> = computed(
  () => chosen.value ?? new Set(rows.value.slice(0, DRAWN_AT_FIRST).map((row) => row.id)),
);

/** The run that others are held against. */
export const baseline = computed(() => route.value.settings.get("baseline"));

/** The runs that are drawn, with their colours, in the table's order; the baseline last, on top of the others. */
export const drawnRuns: ReadonlySignal<readonly DrawnRun[]> = computed(() => {
  const drawn = rows.value.filter((row) => drawnIds.value.has(row.id) && row.id !== baseline.value);
  const held = baseline.value === null ? undefined : rowsById.value.get(baseline.value);
  return [...drawn, ...(held ? [held] : [])].map(toDrawnRun);
});

export function toDrawnRun(row: RunRow): DrawnRun {
  return {
    project: route.value.project ?? "",
    id: row.id,
    name: row.name,
    state: row.state,
    created: row.created,
    group: row.group,
    color: colorOf(row.id),
  };
}

export function setDrawn(ids: Iterable<string>): void {
  setSettings({ runs: [...ids].join(",") });
}

export function toggleDrawn(id: string): void {
  const ids = new Set(drawnIds.value);
  if (!ids.delete(id)) ids.add(id);
  setDrawn(ids);
}

export function setBaseline(id: string | null): void {
  setSettings({ baseline: id });
}

const colorsText = setting("colors");
const chosenColors = computed(() => parseColors(colorsText.value ?? ""));

/** `#rrggbb`: what was chosen for the run, else by its place among the project's runs, for the theme at hand. */
export function colorOf(id: string): string {
  const own = chosenColors.value.get(id);
  if (own) return `#${own}`;
  return paletteColor(positions.value.get(id) ?? 0);
}

/** The colours that runs have by themselves, for the theme at hand. */
export const palette = computed<readonly string[]>(() => (isDark.value ? DARK_PALETTE : LIGHT_PALETTE));

export function paletteColor(at: number): string {
  return palette.value[at % palette.value.length]!;
}

export function setColor(id: string, color: string | null): void {
  const colors = new Map(chosenColors.value);
  if (color === null) colors.delete(id);
  else colors.set(id, color.replace("#", ""));
  setSettings({ colors: formatColors(colors) });
}
