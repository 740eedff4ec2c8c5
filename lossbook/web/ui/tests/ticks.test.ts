import { describe, expect, test } from "vitest";
import { amount, kindOfAxis, kindOfUnit, makeTicks } from "../src/charts/ticks";

const linear = (min: number, max: number) => ({ min, max, log: false });
const logarithmic = (min: number, max: number) => ({ min, max, log: true });

describe("a linear axis", () => {
  test("ticks stand at round steps within the axis", () => {
    expect(makeTicks(linear(0, 10), "number", 500, 100)).toEqual({
      at: [0, 2, 4, 6, 8, 10],
      labels: ["0", "2", "4", "6", "8", "10"],
    });
  });

  test("labels have as many digits as tell neighbours apart", () => {
    expect(makeTicks(linear(3.2, 3.21), "number", 300, 60).labels).toEqual([
      "3.2",
      "3.202",
      "3.204",
      "3.206",
      "3.208",
      "3.21",
    ]);
  });

  test("more room between labels gives fewer ticks", () => {
    expect(makeTicks(linear(0, 100), "number", 400, 200).at.length).toBeLessThan(
      makeTicks(linear(0, 100), "number", 400, 40).at.length,
    );
  });

  test("whole numbers never have ticks between them", () => {
    expect(makeTicks(linear(0, 3), "whole", 900, 60).at).toEqual([0, 1, 2, 3]);
    expect(makeTicks(linear(0, 1000), "whole", 500, 100).at).toEqual([0, 200, 400, 600, 800, 1000]);
  });

  test("thousands have letters, and negative numbers a minus sign", () => {
    expect(makeTicks(linear(-50_000, 50_000), "number", 300, 60).labels).toEqual(["−40k", "−20k", "0", "20k", "40k"]);
  });

  test("durations step by what a clock has", () => {
    expect(makeTicks(linear(0, 7200), "duration", 400, 100).labels).toEqual([
      "0",
      "30 min",
      "1 h",
      "1 h 30 min",
      "2 h",
    ]);
  });

  test("bytes step by powers of two", () => {
    expect(makeTicks(linear(0, 4 * 2 ** 30), "bytes", 400, 100).labels).toEqual([
      "0",
      "1 GiB",
      "2 GiB",
      "3 GiB",
      "4 GiB",
    ]);
  });

  test("a time of day shows the clock, and midnight its date", () => {
    const midnight = Date.UTC(2025, 10, 21) / 1000;
    expect(makeTicks(linear(midnight - 7200, midnight + 7200), "time", 400, 100).labels).toContain("Nov 21");
    expect(makeTicks(linear(midnight - 7200, midnight + 7200), "time", 400, 100).labels).toContain("23:00");
  });

  test("an axis without width or with an infinite end has no ticks", () => {
    expect(makeTicks(linear(1, 1), "number", 400, 100).at).toEqual([]);
    expect(makeTicks(linear(0, Infinity), "number", 400, 100).at).toEqual([]);
  });
});

describe("a logarithmic axis", () => {
  test("powers of ten are labelled, what lies between has a line alone", () => {
    const { at, labels } = makeTicks(logarithmic(1, 1e4), "number", 300, 60);
    expect(labels.filter((label) => label !== "")).toEqual(["1", "10", "100", "1k", "10k"]);
    expect(at).toContain(20);
  });

  test("of many decades only some are labelled", () => {
    const labels = makeTicks(logarithmic(1e-12, 1e12), "number", 300, 60).labels.filter((label) => label !== "");
    expect(labels.length).toBeLessThanOrEqual(6);
  });

  test("less than a decade has the ticks of a linear axis", () => {
    expect(makeTicks(logarithmic(2, 4), "number", 300, 60).labels).toEqual(["2", "2.5", "3", "3.5", "4"]);
  });
});

test("the kind of ticks follows from the axis or the unit", () => {
  expect(["step", "tokens", "wallclock", "time", "my/own"].map(kindOfAxis)).toEqual([
    "whole",
    "whole",
    "duration",
    "time",
    "number",
  ]);
  expect(["s", "bytes", "nats", null].map(kindOfUnit)).toEqual(["duration", "bytes", "number", "number"]);
});

test("a value has its unit with it only where the unit changes with the size", () => {
  expect([amount(90, "s"), amount(90, "nats")]).toEqual(["1 min 30 s", "90"]);
});
