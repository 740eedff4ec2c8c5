// The columns of the run table: their titles, formats, widths, and which are shown.

import { computed, signal } from "@preact/signals";

import { asNumber, duration, moment, number, value } from "../format";
import { decodeItem, encodeItem, setSettings, setting } from "../router";
import { baseline, columnOf, names } from "../runs";
import { readPreference, writePreference } from "../settings";
import type { Names, RunRow } from "../types";

export interface Column {
  name: string; // as the link and the server have it: created, config.lr, val/loss, val/loss.min
  title: string;
  kind: "moment" | "seconds" | "number" | "text" | "tags" | "any";
  metric: boolean; // differences to the baseline mean something
}

const FIELDS: readonly Column[] = [
  { name: "created", title: "Created", kind: "moment", metric: false },
  { name: "duration", title: "Duration", kind: "seconds", metric: false },
  { name: "last_step", title: "Last step", kind: "number", metric: false },
  { name: "state", title: "State", kind: "text", metric: false },
  { name: "group", title: "Group", kind: "text", metric: false },
  { name: "tags", title: "Tags", kind: "tags", metric: false },
  { name: "host", title: "Host", kind: "text", metric: false },
  { name: "user", title: "User", kind: "text", metric: false },
  { name: "notes", title: "Notes", kind: "text", metric: false },
  { name: "attempts", title: "Attempts", kind: "number", metric: false },
  { name: "alerts", title: "Alerts", kind: "number", metric: false },
  { name: "error", title: "Error", kind: "text", metric: false },
  { name: "id", title: "Id", kind: "text", metric: false },
];
const FIELD = new Map(FIELDS.map((field) => [field.name, field]));
const STATISTICS = /\.(last|min|max|mean|count|last_step|min_step|max_step|nonfinite)$/;

export function columnNamed(name: string): Column {
  const field = FIELD.get(name);
  if (field) return field;
  const setting = name.startsWith("config.") ? name.slice(7) : name.startsWith("summary.") ? name.slice(8) : null;
  if (setting !== null) return { name, title: setting, kind: "any", metric: false };
  return { name, title: name.replace(STATISTICS, " $1"), kind: "any", metric: true };
}

/** Whether the rows themselves have it, so that it need not be asked for. */
export function isField(name: string): boolean {
  return FIELD.has(name) || name === "name";
}

/** What a run has in a column; undefined where it has nothing. */
export function cell(name: string, row: RunRow): unknown {
  if (name === "name") return row.name;
  if (FIELD.has(name)) return (row as unknown as Record<string, unknown>)[name] ?? undefined;
  return columnOf(name)?.get(row.id);
}

/** A value as it stands in the table. */
export function formatCell(column: Column, any: unknown): string {
  if (any === undefined || any === null) return "";
  if (column.kind === "moment") return moment(asNumber(any));
  if (column.kind === "seconds") return duration(asNumber(any));
  if (column.kind === "tags") return (any as string[]).join(", ");
  return value(any);
}

/** Whether a column is one of numbers, as far as its first value tells. */
export function isNumeric(column: Column): boolean {
  if (column.metric || column.kind === "number" || column.kind === "seconds") return true;
  if (column.kind !== "any") return false;
  for (const any of columnOf(column.name)?.values() ?? []) if (any !== undefined) return asNumber(any) !== null;
  return false;
}

/** How far a number is from the baseline's, with its sign. */
export function difference(own: unknown, other: unknown): string {
  const [one, two] = [asNumber(own), asNumber(other)];
  if (one === null || two === null || !Number.isFinite(one - two)) return "";
  const apart = one - two;
  return apart === 0 ? "±0" : `${apart > 0 ? "+" : "−"}${number(Math.abs(apart), 2)}`;
}

// -- which are shown -------------------------------------------------------------------------------------------

const colsText = setting("cols");

/** Losses by the names they have here, when a run was made, how long it took, and the settings that differ. */
const usualColumns = computed<readonly string[]>(() => {
  const known = names.value;
  if (known === null) return ["created", "duration", "last_step"];
  const losses = [...known.usual].reverse(); // validation before training
  return [...losses, "created", "duration", "last_step", "tags", ...known.differing.slice(0, 6)];
});

export const columnNames = computed<readonly string[]>(() => {
  const text = colsText.value;
  return text === null
    ? usualColumns.value
    : text
        .split(",")
        .filter((part) => part !== "")
        .map(decodeItem);
});

/** The columns beside the run's name. */
export const columns = computed<readonly Column[]>(() => columnNames.value.map(columnNamed));

/** The metric that small curves are drawn of. */
export const mainMetric = computed(() => names.value?.usual[0] ?? null);

/** Everything that a column could be made of, in the order in which people look for it. */
export const possibleColumns = computed<readonly string[]>(() => {
  const known = names.value;
  const fields = FIELDS.map(({ name }) => name);
  if (known === null) return fields;
  const usual = new Set(known.usual);
  const metrics = known.metrics.map(({ name }) => name);
  return [
    ...fields,
    ...[...usual].flatMap((name) => [name, bestOf(name, known)]),
    ...known.config.map(({ name }) => name),
    ...known.summary.map(({ name }) => name),
    ...metrics.filter((name) => !usual.has(name)),
  ];
});

/** The column of a metric's best value. */
export function bestOf(name: string, known: Names): string {
  return `${name}.${known.metrics.find((metric) => metric.name === name)?.goal === "maximize" ? "max" : "min"}`;
}

export function showColumns(chosen: readonly string[] | null): void {
  setSettings({ cols: chosen === null ? null : [...new Set(chosen)].map(encodeItem).join(",") });
}

export function moveColumn(name: string, before: number): void {
  const rest = columnNames.value.filter((one) => one !== name);
  showColumns([...rest.slice(0, before), name, ...rest.slice(before)]);
}

// -- widths: this browser's, not the link's ----------------------------------------------------------------------

const WIDTHS = { moment: 142, seconds: 96, number: 96, text: 110, tags: 130, any: 104 };
const WIDTHS_KEPT = "lossbook.widths";

function readWidths(): Record<string, number> {
  try {
    return JSON.parse(readPreference(WIDTHS_KEPT) ?? "{}") as Record<string, number>;
  } catch {
    return {};
  }
}

const widths = signal<Record<string, number>>(readWidths());

export function widthOf(name: string): number {
  const own = widths.value[name];
  if (typeof own === "number" && own >= 40 && own <= 1200) return own;
  if (name === "name") return 280;
  if (name === "name of list") return 164;
  const column = columnNamed(name);
  const least = column.metric ? (baseline.value === null ? 104 : 136) : WIDTHS[column.kind];
  return Math.min(Math.max(least, 26 + 7.2 * column.title.length), 200);
}

export function setWidth(name: string, width: number): void {
  widths.value = { ...widths.value, [name]: Math.round(Math.min(Math.max(width, 48), 1000)) };
  writePreference(WIDTHS_KEPT, JSON.stringify(widths.value));
}
