// Owns how charts are drawn, as the address says it, and the preferences that this browser remembers.

import { computed } from "@preact/signals";

import { route, setSettings } from "./router";

export interface ChartSettings {
  x: string;
  logX: boolean;
  logY: boolean;
  smoothing: string | null; // "ema:0.9", ...
  outliers: "all" | "robust"; // robust: the y axis leaves far outliers out of its range, and says how many
  bands: boolean; // one line with a band for each group, in place of a line for each run
  marks: boolean; // attempts, checkpoints, stages, alerts
  range: [number, number] | null; // zoom on x, the same in all charts
}

export function parseChartSettings(settings: URLSearchParams): ChartSettings {
  const [from = NaN, to = NaN] = (settings.get("range") ?? "").split(",").map(Number);
  return {
    x: settings.get("x") ?? "step",
    logX: settings.get("logx") === "1",
    logY: settings.get("logy") === "1",
    smoothing: settings.get("smooth"),
    outliers: settings.get("outliers") === "robust" ? "robust" : "all",
    bands: settings.get("bands") === "1",
    marks: settings.get("marks") !== "0",
    range: settings.get("range") && Number.isFinite(from) && Number.isFinite(to) && from < to ? [from, to] : null,
  };
}

/** What changes of chart settings are in the address; a default leaves no trace there. */
export function formatChartSettings(changes: Partial<ChartSettings>): Record<string, string | null> {
  const wanted: Record<string, string | null> = {};
  // Another axis has other units: a zoom on the old one means nothing there.
  if (changes.x !== undefined) Object.assign(wanted, { x: changes.x === "step" ? null : changes.x, range: null });
  if (changes.logX !== undefined) wanted.logx = changes.logX ? "1" : null;
  if (changes.logY !== undefined) wanted.logy = changes.logY ? "1" : null;
  if (changes.smoothing !== undefined) wanted.smooth = changes.smoothing;
  if (changes.outliers !== undefined) wanted.outliers = changes.outliers === "robust" ? "robust" : null;
  if (changes.bands !== undefined) wanted.bands = changes.bands ? "1" : null;
  if (changes.marks !== undefined) wanted.marks = changes.marks ? null : "0";
  if (changes.range !== undefined) wanted.range = changes.range === null ? null : changes.range.join(",");
  return wanted;
}

export const chartSettings = computed<ChartSettings>(() => parseChartSettings(route.value.settings));

export function setChart(changes: Partial<ChartSettings>): void {
  setSettings(formatChartSettings(changes));
}

/** The steps that `[` and `]` go through. */
export const SMOOTHINGS: readonly (string | null)[] = [
  null,
  "ema:0.6",
  "ema:0.9",
  "ema:0.97",
  "ema:0.99",
  "ema:0.997",
  "ema:0.999",
];

// -- preferences of this browser, not of the address ---------------------------------------------------------------

export function readPreference(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // a page opened from a file may have no storage
  }
}

export function writePreference(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Nothing is lost but the choice.
  }
}
