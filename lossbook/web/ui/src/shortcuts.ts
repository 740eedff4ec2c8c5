// Owns the keyboard shortcuts: components bind them while they are mounted, and `?` lists them.

import { type ReadonlySignal, signal } from "@preact/signals";

export interface Shortcut {
  key: string; // as KeyboardEvent.key has it: "/", "L", "Escape"
  description: string; // for the list; "" leaves it out
  action: () => void;
}

const bindings = signal<readonly Shortcut[]>([]);
export const shortcuts: ReadonlySignal<readonly Shortcut[]> = bindings;

/** Binds keys until the returned function is called; the newest binding of a key wins. */
export function bindShortcuts(added: readonly Shortcut[]): () => void {
  bindings.value = [...added, ...bindings.value];
  return () => (bindings.value = bindings.value.filter((one) => !added.includes(one)));
}

const TEXT_FIELDS = "input:not([type=checkbox]):not([type=color]):not([type=range]), textarea, select";

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const target = event.target;
  if (target instanceof HTMLElement && event.key !== "Escape") {
    if (target.isContentEditable || target.matches(TEXT_FIELDS)) return;
    if (event.key === " " && target.matches("button, a, input, summary")) return;
  }
  const bound = bindings.value.find((one) => one.key === event.key);
  if (bound) {
    event.preventDefault();
    bound.action();
  }
});
