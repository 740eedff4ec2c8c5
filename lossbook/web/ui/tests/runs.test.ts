import { beforeEach, describe, expect, test } from "vitest";
import { navigate } from "../src/router";
import { DARK_PALETTE, formatColors, LIGHT_PALETTE, parseColors } from "../src/run_colors";
import { mergeRows, type RunRows } from "../src/run_rows";
import {
  baseline,
  colorOf,
  drawnIds,
  drawnRuns,
  rows,
  setBaseline,
  setColor,
  setDrawn,
  toggleDrawn,
} from "../src/runs";
import { theme } from "../src/theme";
import { row } from "./make";

const NOTHING: RunRows = { byId: new Map(), columns: new Map() };
const answer = (changes: Partial<Parameters<typeof mergeRows>[1]>) => ({
  whole: false,
  rows: [],
  removed: [],
  columns: {},
  total: 0,
  ...changes,
});
const first = mergeRows(
  NOTHING,
  answer({
    whole: true,
    rows: [row("old", { created: 1 }), row("new", { created: 2 })],
    columns: { "config.lr": [0.1, 0.2] },
  }),
);

describe("rows of a project", () => {
  test("stand with the newest first, the id deciding among those of one moment", () => {
    expect(first.rows.map(({ id }) => id)).toEqual(["new", "old"]);
    expect(mergeRows(NOTHING, answer({ whole: true, rows: [row("b"), row("a")] })).rows.map(({ id }) => id)).toEqual([
      "a",
      "b",
    ]);
  });

  test("that changed are replaced, with their columns, and the others stay", () => {
    const next = mergeRows(
      first,
      answer({ rows: [row("old", { created: 1, state: "failed" })], columns: { "config.lr": [0.3] } }),
    );
    expect(next.byId.get("old")!.state).toBe("failed");
    expect(next.byId.get("new")).toBe(first.byId.get("new"));
    expect([...next.columns.get("config.lr")!]).toEqual([
      ["old", 0.3],
      ["new", 0.2],
    ]);
  });

  test("that were removed are gone", () => {
    expect(mergeRows(first, answer({ removed: ["old"] })).rows.map(({ id }) => id)).toEqual(["new"]);
  });

  test("of a whole answer are all there are, whatever was known", () => {
    const next = mergeRows(first, answer({ whole: true, rows: [row("other")], columns: { "config.lr": [null] } }));
    expect(next.rows.map(({ id }) => id)).toEqual(["other"]);
    expect([...next.columns.get("config.lr")!]).toEqual([["other", undefined]]);
  });

  test("keep their positions when a newer run comes, also while only the first rows are here", () => {
    const next = mergeRows(first, answer({ rows: [row("newest", { created: 3 })] }));
    expect(next.positions.get("old")).toBe(first.positions.get("old"));
    const some = mergeRows(NOTHING, answer({ whole: true, rows: [row("newest", { created: 3 })], total: 3 }));
    expect(some.positions.get("newest")).toBe(next.positions.get("newest"));
    expect(some.total).toBe(3);
  });
});

describe("which runs are drawn", () => {
  beforeEach(() => {
    navigate({ project: "p" }, {});
    rows.value = Array.from({ length: 12 }, (_, at) => row(`r${at}`));
  });

  test("are the ten newest until somebody chooses", () => {
    expect(drawnIds.value.size).toBe(10);
    expect(drawnIds.value.has("r11")).toBe(false);
  });

  test("change by one when one is toggled, and stand in the address", () => {
    setDrawn(["r1", "r2"]);
    toggleDrawn("r2");
    toggleDrawn("r11");
    expect([...drawnIds.value]).toEqual(["r1", "r11"]);
    expect(location.hash).toContain("runs=r1%2Cr11");
  });

  test("may be none at all", () => {
    setDrawn([]);
    expect(drawnIds.value.size).toBe(0);
  });

  test("are listed in the table's order, a baseline that is not of this project left out", () => {
    setDrawn(["r5", "r1"]);
    setBaseline("gone");
    expect(baseline.value).toBe("gone");
    expect(drawnRuns.value.map(({ id }) => id)).toEqual(["r1", "r5"]);
    setBaseline(null);
    expect(location.hash).not.toContain("baseline");
  });
});

describe("colours of runs", () => {
  beforeEach(() => navigate({ project: "p" }, {}));

  test("are told apart: no palette has one twice, and both have as many", () => {
    expect(new Set(LIGHT_PALETTE).size).toBe(LIGHT_PALETTE.length);
    expect(new Set(DARK_PALETTE).size).toBe(LIGHT_PALETTE.length);
  });

  test("follow the theme until one is chosen, which holds in both", () => {
    theme.value = "light";
    expect(colorOf("x")).toBe(LIGHT_PALETTE[0]);
    theme.value = "dark";
    expect(colorOf("x")).toBe(DARK_PALETTE[0]);
    setColor("x", "#123abc");
    expect(colorOf("x")).toBe("#123abc");
    expect(location.hash).toContain("colors=x%7E123abc");
    setColor("x", null);
    expect(location.hash).not.toContain("colors");
  });

  test("come back from the address; what is no colour is left out", () => {
    expect(formatColors(parseColors("a~112233,b~nonsense,d~zzzzzz,~445566,c~AABBCC"))).toBe("a~112233,c~AABBCC");
    expect(formatColors(new Map())).toBeNull();
  });
});
