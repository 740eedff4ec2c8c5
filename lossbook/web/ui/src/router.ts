// Owns the page's address: everything that a person sets is in location.hash, so a link shows others the same page.

import { computed, type ReadonlySignal, signal } from "@preact/signals";

/** `#/`, `#/p/<project>/<view>`, `#/p/<project>/r/<run>/<view>`, each with `?settings`. */
export interface Route {
  project: string | null;
  run: string | null;
  view: string | null;
  settings: URLSearchParams;
}

type Target = Partial<Pick<Route, "project" | "run" | "view">>;

export function parseHash(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const words = path
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
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

export const route = signal<Route>(parseHash(location.hash));
addEventListener("hashchange", () => (route.value = parseHash(location.hash)));

/** The link to a page of the dashboard, with these settings and no others. */
export function linkTo(target: Target, settings: URLSearchParams | Record<string, string> = {}): string {
  const { project, run, view } = target;
  const parts =
    project == null ? [] : ["p", project, ...(run == null ? [] : ["r", run]), ...(view == null ? [] : [view])];
  const query = new URLSearchParams(settings).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

/** Changes settings in the address; null removes one. The browser's history does not grow with every key. */
export function setSettings(changes: Record<string, string | null>): void {
  const settings = new URLSearchParams(route.value.settings);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) settings.delete(name);
    else settings.set(name, value);
  }
  const { project, run, view } = route.value;
  history.replaceState(null, "", linkTo({ project, run, view }, settings));
  route.value = { project, run, view, settings };
}

/** Opens another page, as a step in the browser's history. Settings are kept unless others are given. */
export function navigate(
  target: Target,
  settings: URLSearchParams | Record<string, string> = route.value.settings,
): void {
  history.pushState(null, "", linkTo(target, settings));
  route.value = parseHash(location.hash);
}

/** One setting of the address. */
export function setting(name: string): ReadonlySignal<string | null> {
  return computed(() => route.value.settings.get(name));
}

/** Encodes a name for a comma-separated setting: a comma in the name must not end it. */
export function encodeItem(name: string): string {
  return name.replaceAll("%", "%25").replaceAll(",", "%2C");
}

export function decodeItem(part: string): string {
  return part.replaceAll("%2C", ",").replaceAll("%25", "%");
}
