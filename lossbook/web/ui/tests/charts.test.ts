import { describe, expect, test } from "vitest";
import { headOf, queriesOf, splitGroups } from "../src/charts/chart_queries";
import { colorStepper, fitScale, fromScale, percent, STEPS, toScale } from "../src/charts/color_scale";
import { rangeOf, rebin } from "../src/charts/histogram";
import { stepOf } from "../src/charts/interaction";
import { mergeMarks } from "../src/charts/marks";
import type { ChartSeries, DrawnMark } from "../src/charts/types";
import { parseChartSettings } from "../src/settings";

const mark = (kind: string, x: number, level = "info"): DrawnMark => ({
  run: "r",
  kind,
  x,
  step: x,
  time: 0,
  title: "",
  text: "",
  level,
  label: "r",
  color: "#000000",
});

describe("marks", () => {
  test("of one kind that nearly touch are one, at their middle", () => {
    const merged = mergeMarks(
      [mark("checkpoint", 10), mark("checkpoint", 10.4), mark("checkpoint", 80)],
      [0, 100],
      false,
      50,
    );
    expect(merged.map(({ x, marks }) => [x, marks.length])).toEqual([
      [10.2, 2],
      [80, 1],
    ]);
  });

  test("of different kinds stay apart, in the order of their places", () => {
    expect(
      mergeMarks([mark("stage", 50), mark("alert", 50), mark("fork", 2)], [0, 100], false, 50).map(({ kind }) => kind),
    ).toEqual(["fork", "stage", "alert"]);
  });

  test("have the worst level among them", () => {
    const levels = (...all: string[]) =>
      mergeMarks(
        all.map((level) => mark("alert", 5, level)),
        [0, 100],
        false,
        10,
      )[0]!.level;
    expect([levels("info", "error", "warning"), levels("info", "warning"), levels("info")]).toEqual([
      "error",
      "warning",
      "info",
    ]);
  });

  test("outside of the view, or at zero on a logarithmic axis, are left out", () => {
    expect(mergeMarks([mark("stage", -1), mark("stage", 101)], [0, 100], false, 50)).toEqual([]);
    expect(mergeMarks([mark("stage", 0)], [0, 100], true, 50)).toEqual([]);
  });
});

describe("what a chart asks for", () => {
  const series: ChartSeries = {
    project: "p",
    run: "r",
    key: "k",
    label: "r",
    color: "#000000",
    group: "g",
    state: "finished",
  };
  const ask = (text: string, range: [number, number] | null) =>
    queriesOf(series, parseChartSettings(new URLSearchParams(text)), 500, range);

  test("is the whole curve, and no more without smoothing and zoom", () => {
    expect(ask("x=tokens", null)).toMatchObject({
      whole: { x: "tokens", points: 500, start: null, smoothing: null },
      smooth: null,
      detail: null,
      smoothDetail: null,
    });
  });

  test("is more than the zoom on each side, so that small steps aside are there", () => {
    expect(ask("", [100, 200]).detail).toMatchObject({ start: 85, end: 215 });
  });

  test("is everything smoothed as well where charts are smoothed", () => {
    const { smooth, smoothDetail } = ask("smooth=ema:0.9", [0, 10]);
    expect([smooth?.smoothing, smoothDetail?.smoothing, smooth?.start]).toEqual(["ema:0.9", "ema:0.9", null]);
  });

  test("with bands is one line a group, and one for each run without a group", () => {
    const all = [series, { ...series, run: "s" }, { ...series, run: "t", group: null }];
    const bands = splitGroups({ series: all, settings: parseChartSettings(new URLSearchParams("bands=1")) });
    expect(bands.alone.map(({ run }) => run)).toEqual(["t"]);
    expect([...bands.groups.values()].map((runs) => runs.map(({ run }) => run))).toEqual([["r", "s"]]);
    expect(splitGroups({ series: all, settings: parseChartSettings(new URLSearchParams()) }).alone).toHaveLength(3);
  });

  test("tells attempts of a run apart", () => {
    expect(headOf({ ...series, attempt: 1 }).id).not.toBe(headOf(series).id);
  });
});

describe("colours of numbers", () => {
  test("a scale leaves the rarest values at both ends out, and says which share", () => {
    const values = Float64Array.from({ length: 1000 }, (_, at) => (at === 500 ? 1e6 : at / 1000));
    const scale = fitScale(values, "linear", 0.98);
    expect(scale.high).toBeLessThan(1.1);
    expect(fitScale(values, "linear", 1).high).toBe(1e6);
  });

  test("a value and its place on the scale lead to each other", () => {
    for (const kind of ["linear", "log", "symlog"] as const) {
      expect(fromScale({ kind, threshold: 0.1 }, toScale({ kind, threshold: 0.1 }, 42))).toBeCloseTo(42);
    }
    expect(toScale({ kind: "log", threshold: 1 }, -1)).toBeNaN();
  });

  test("steps go from the first colour to the last, and NaN has none", () => {
    const step = colorStepper({ ...fitScale(Float64Array.of(0, 1), "linear", 1), low: 0, high: 1 });
    expect([step(0), step(1), step(-5), step(7), step(NaN)]).toEqual([0, STEPS - 1, 0, STEPS - 1, -1]);
  });

  test("a share that is left out is never told as nothing", () => {
    expect([percent(0.0001), percent(0.015), percent(0.5)]).toEqual(["<0.1%", "1.5%", "50%"]);
  });
});

describe("distributions", () => {
  const distribution = { edges: [0, 1, 2, 4], counts: [2, 0, 4], nonfinite: 0, step: 0 };

  test("keep their counts when bins are made anew", () => {
    const bins = rebin(distribution, 0, 4, 4);
    expect([...bins].reduce((sum, one) => sum + one, 0)).toBeCloseTo(6);
    expect(bins[0]).toBeCloseTo(2);
    expect(bins[2]).toBeCloseTo(2);
  });

  test("share one range, to which an empty one adds nothing", () => {
    expect(rangeOf([distribution, { ...distribution, edges: [-100, 100], counts: [0] }])).toEqual([0, 4]);
  });
});

test("keys step by one bucket, with shift by ten", () => {
  expect([",", ".", "<", ">", "x"].map(stepOf)).toEqual([-1, 1, -10, 10, 0]);
});
