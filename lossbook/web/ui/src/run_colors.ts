// The colours of runs: a palette for each theme, and the chosen ones, as the address has them.

// Sixteen hues told apart side by side, each with 3:1 contrast to its background.
export const LIGHT_PALETTE: readonly string[] = [
  "#2f6bd0",
  "#c8501e",
  "#1e8a4c",
  "#a8327f",
  "#7a5cc4",
  "#8a6d00",
  "#0e8291",
  "#c2334d",
  "#4f7a1c",
  "#8250a0",
  "#b0631a",
  "#2c7a70",
  "#5566b8",
  "#a0522d",
  "#6b7280",
  "#b03a9a",
];
export const DARK_PALETTE: readonly string[] = [
  "#6ea8ff",
  "#ff9a62",
  "#5fcf8d",
  "#f07fc6",
  "#b39dff",
  "#e3c04b",
  "#4fd0de",
  "#ff7d92",
  "#a8d465",
  "#cf9cf0",
  "#f0b070",
  "#6fd3c4",
  "#9fb0ff",
  "#e0a080",
  "#b6bec9",
  "#f092e0",
];

/** `<run>~<rrggbb>,...`: six digits without a `#`, which would end the address. What is none is left out. */
export function parseColors(text: string): Map<string, string> {
  const pairs = text.split(",").map((pair) => pair.split("~"));
  return new Map(pairs.filter(([id, color]) => id && /^[0-9a-f]{6}$/i.test(color ?? "")) as [string, string][]);
}

export function formatColors(colors: ReadonlyMap<string, string>): string | null {
  return colors.size === 0 ? null : [...colors].map((pair) => pair.join("~")).join(",");
}
