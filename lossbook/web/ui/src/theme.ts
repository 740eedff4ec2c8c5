// Owns light and dark: the theme chosen in this browser, else the system's.

import { computed, effect, signal } from "@preact/signals";

import { readPreference, writePreference } from "./settings";

export type Theme = "light" | "dark" | "system";

const PREFERENCE = "lossbook.theme";

const systemQuery = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(systemQuery.matches);
systemQuery.addEventListener("change", (event) => (systemIsDark.value = event.matches));

const chosen = readPreference(PREFERENCE);
export const theme = signal<Theme>(chosen === "light" || chosen === "dark" ? chosen : "system");
export const isDark = computed(() => theme.value === "dark" || (theme.value === "system" && systemIsDark.value));

effect(() => {
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
  writePreference(PREFERENCE, theme.value);
});
