import { beforeEach, describe, expect, test } from "vitest";
import { decodeItem, encodeItem, linkTo, navigate, parseHash, route, setSettings } from "../src/router";
import { type ChartSettings, formatChartSettings, parseChartSettings } from "../src/settings";

describe("addresses", () => {
  test("an empty address is the list of projects", () => {
    expect(parseHash("")).toMatchObject({ project: null, run: null, view: null });
    expect(parseHash("#/nonsense/p")).toMatchObject({ project: null });
  });

  test("a project, its views and its runs have addresses", () => {
    expect(parseHash("#/p/gpt2/table")).toMatchObject({ project: "gpt2", run: null, view: "table" });
    expect(parseHash("#/p/gpt2/r/abc/console?line=3")).toMatchObject({ project: "gpt2", run: "abc", view: "console" });
    expect(parseHash("#/p/gpt2/r/abc/console?line=3").settings.get("line")).toBe("3");
  });

  test.each(["a/b", "50%", "ä ö", "r", "?x=1#"])("the project %j comes back from its own link", (project) => {
    expect(parseHash(linkTo({ project, run: "r", view: "charts" }))).toMatchObject({
      project,
      run: "r",
      view: "charts",
    });
  });

  test("settings come back from their link, question marks among them", () => {
    expect(parseHash(linkTo({ project: "p" }, { find: "/a?b/", x: "tokens" })).settings.get("find")).toBe("/a?b/");
  });

  test("a link that was cut off within a letter still opens", () => {
    expect(parseHash("#/p/100%/r/x")).toMatchObject({ project: "100%", run: "x" });
  });
});

describe("settings in the address", () => {
  beforeEach(() => navigate({ project: "p", view: "charts" }, {}));

  test("a change keeps the place and the other settings, null removes one", () => {
    setSettings({ x: "tokens", logy: "1" });
    setSettings({ logy: null });
    expect(location.hash).toBe("#/p/p/charts?x=tokens");
    expect(route.value).toMatchObject({ project: "p", view: "charts" });
  });

  test("settings go along to another page unless others are given", () => {
    setSettings({ x: "tokens" });
    navigate({ project: "p", run: "r" });
    expect(location.hash).toBe("#/p/p/r/r?x=tokens");
    navigate({ project: "p" }, {});
    expect(location.hash).toBe("#/p/p");
  });

  test("an item of a list may have commas and percent signs", () => {
    for (const name of ["a,b", "50%2C", "%", "plain"]) {
      expect(encodeItem(name)).not.toContain(",");
      expect(decodeItem(encodeItem(name))).toBe(name);
    }
  });
});

describe("chart settings", () => {
  const parse = (text: string): ChartSettings => parseChartSettings(new URLSearchParams(text));

  test("without settings charts have steps, marks, and neither zoom nor smoothing", () => {
    expect(parse("")).toEqual({
      x: "step",
      logX: false,
      logY: false,
      smoothing: null,
      outliers: "all",
      bands: false,
      marks: true,
      range: null,
    });
  });

  test.each([
    { x: "tokens" },
    { logX: true, logY: true },
    { smoothing: "ema:0.9" },
    { outliers: "robust" },
    { bands: true, marks: false },
    { range: [10, 20.5] },
  ] as Partial<ChartSettings>[])("%j comes back from the address", (changes) => {
    const text = new URLSearchParams(
      Object.entries(formatChartSettings(changes)).filter(([, one]) => one !== null) as [string, string][],
    );
    expect(parseChartSettings(text)).toMatchObject(changes);
  });

  test("a default leaves no trace in the address", () => {
    expect(
      Object.values(formatChartSettings({ x: "step", logY: false, marks: true, outliers: "all", range: null })),
    ).toEqual([null, null, null, null, null]);
  });

  test("another axis ends the zoom, whose units it does not have", () => {
    expect(formatChartSettings({ x: "tokens" })).toEqual({ x: "tokens", range: null });
  });

  test.each(["range=20,10", "range=a,b", "range=5", "range="])("%j is no zoom", (text) => {
    expect(parse(text).range).toBeNull();
  });
});
