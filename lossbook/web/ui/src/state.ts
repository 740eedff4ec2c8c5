// What the page shows, and the link that says so: everything that a person sets stands in location.hash.

import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";

/** Where the page is: `#/`, `#/p/<project>/<view>`, `#/p/<project>/r/<run>/<view>`, each with `?settings`. */
export interface Place {
  project: string | null;
  run: string | null;
  view: string | null;
  settings: URLSearchParams;
}

function readHash(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter((part) => part !== "");
  const words = parts.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // a link that was cut off by a chat program
    }
  });
  const settings = new URLSearchParams(query);
  if (words[0] !== "p" || words[1] === undefined) return { project: null, run: null, view: null, settings };
  if (words[2] === "r" && words[3] !== undefined) {
    return { project: words[1], run: words[3], view: words[4] ?? null, settings };
  }
  return { project: words[1], run: null, view: words[2] ?? null, settings };
}

export const place = signal<Place>(readHash());
addEventListener("hashchange", () => (place.value = readHash()));

/** The link of a place; settings that are given replace those of the same name, null removes one. */
export function linkTo(where: { project?: string | null; run?: string | null; view?: string | null }, settings: URLSearchParams | Record<string, string> = {}): string {
  const path = where.project == null ? "/"
    : `/p/${encodeURIComponent(where.project)}` + (where.run == null ? "" : `/r/${encodeURIComponent(where.run)}`)
      + (where.view == null ? "" : `/${encodeURIComponent(where.view)}`);
  const query = new URLSearchParams(settings).toString();
  return `#${path}${query ? `?${query}` : ""}`;
}

/** Change settings in place: the link follows, the browser's history does not grow with every key. */
export function setSettings(changes: Record<string, string | null>): void {
  const settings = new URLSearchParams(place.value.settings);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) settings.delete(name);
    else settings.set(name, value);
  }
  const { project, run, view } = place.value;
  history.replaceState(null, "", linkTo({ project, run, view }, settings));
  place.value = { project, run, view, settings };
}

/** Go elsewhere: a step in the browser's history. Chart settings go along unless others are given. */
export function go(where: { project?: string | null; run?: string | null; view?: string | null }, settings: URLSearchParams | Record<string, string> = place.value.settings): void {
  history.pushState(null, "", linkTo(where, settings));
  place.value = readHash();
}

/** One setting of the link. */
export function setting(name: string): ReadonlySignal<string | null> {
  return computed(() => place.value.settings.get(name));
}

// -- what charts are drawn with ----------------------------------------------------------------------------------

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

export const chartSettings = computed<ChartSettings>(() => {
  const { settings } = place.value;
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
});

/** Change some chart settings; a default leaves no trace in the link. */
export function setChart(changes: Partial<ChartSettings>): void {
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
  setSettings(wanted);
}

/** The steps that `[` and `]` go through. */
export const SMOOTHINGS: readonly (string | null)[] = [null, "ema:0.6", "ema:0.9", "ema:0.97", "ema:0.99", "ema:0.997", "ema:0.999"];

// -- light and dark ----------------------------------------------------------------------------------------------

export type Theme = "light" | "dark" | "system";

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // a page opened from a file may have no storage
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Nothing is lost but the choice.
  }
}

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(darkSystem.matches);
darkSystem.addEventListener("change", (event) => (systemIsDark.value = event.matches));

const chosenTheme = remembered("lossbook.theme");
export const theme = signal<Theme>(chosenTheme === "light" || chosenTheme === "dark" ? chosenTheme : "system");
export const isDark = computed(() => theme.value === "dark" || (theme.value === "system" && systemIsDark.value));

effect(() => {
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
  remember("lossbook.theme", theme.value);
});

// -- keys --------------------------------------------------------------------------------------------------------

export interface KeyBinding {
  key: string; // as KeyboardEvent.key has it: "/", "L", "Escape"
  does: string; // for the list that `?` shows
  act: () => void;
}

const bindings = signal<readonly KeyBinding[]>([]);
export const keyBindings: ReadonlySignal<readonly KeyBinding[]> = bindings;

/** Let keys do something until the returned function is called; the newest binding of a key wins. */
export function bindKeys(added: readonly KeyBinding[]): () => void {
  bindings.value = [...added, ...bindings.value];
  return () => (bindings.value = bindings.value.filter((one) => !added.includes(one)));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const target = event.target;
  if (target instanceof HTMLElement && event.key !== "Escape") {
    if (target.isContentEditable || target.matches("input:not([type=checkbox]):not([type=color]):not([type=range]), textarea, select")) return;
    if (event.key === " " && target.matches("button, a, input, summary")) return;
  }
  const bound = bindings.value.find((one) => one.key === event.key);
  if (bound) {
    event.preventDefault();
    bound.act();
  }
});
