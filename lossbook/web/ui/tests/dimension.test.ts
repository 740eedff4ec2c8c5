import { describe, expect, test } from "vitest";
import {
  correlate,
  describeCorrelation,
  dimensionOf,
  formatOnAxis,
  formatSigned,
  fromFraction,
  labelsOf,
  toFraction,
} from "../src/charts/dimension";
import { brushedRuns, brushOf, brushTexts } from "../src/charts/parallel_coordinates";

const numbers = (values: readonly unknown[], log = false) => dimensionOf("config.x", "x", values, log);

describe("a column as an axis", () => {
  test("of numbers reaches from the least to the greatest, and counts what has no place", () => {
    expect(numbers([1, null, "NaN", 5])).toMatchObject({
      isText: false,
      low: 1,
      high: 5,
      missing: 1,
      nonfinite: 1,
      nonPositive: 0,
    });
    expect(numbers([0, 10, 1000], true)).toMatchObject({ low: 10, high: 1000, nonPositive: 1 });
  });

  test("of texts has them side by side, numbers in them as people count", () => {
    const texts = numbers(["layer10", "layer2", null, "layer2"]);
    expect(texts).toMatchObject({ isText: true, categories: ["layer2", "layer10"], missing: 1 });
    expect([...texts.values]).toEqual([1, 0, NaN, 0]);
  });

  test("of very many texts keeps the common ones and puts the rest together", () => {
    const texts = numbers(Array.from({ length: 100 }, (_, at) => `t${at}`));
    expect(texts.categories).toHaveLength(40);
    expect(texts.categories.at(-1)).toBe("61 others");
  });

  test("of one value has a width all the same", () => {
    expect(numbers([4, 4])).toMatchObject({ isOne: true, low: 3.8, high: 4.2 });
    expect(numbers([0])).toMatchObject({ low: -0.5, high: 0.5 });
    expect(numbers([])).toMatchObject({ low: 0, high: 1 });
  });

  test("leads from a value to its place and back, on either scale", () => {
    for (const axis of [numbers([1, 100]), numbers([1, 100], true)])
      expect(fromFraction(axis, toFraction(axis, 10))).toBeCloseTo(10);
    expect(toFraction(numbers([1, 100], true), 10)).toBeCloseTo(0.5);
  });

  test("has labels that fit: every text, or every second one", () => {
    const texts = numbers(["a", "b", "c", "d"]);
    expect(labelsOf(texts, 400, 40).map(({ label }) => label)).toEqual(["a", "b", "c", "d"]);
    expect(labelsOf(texts, 100, 40).map(({ label }) => label)).toEqual(["a", "", "c", ""]);
    expect([formatOnAxis(texts, 2), formatOnAxis(texts, NaN), formatOnAxis(numbers([1, 2]), 1.5)]).toEqual([
      "c",
      "–",
      "1.5",
    ]);
  });
});

describe("a correlation", () => {
  const up = numbers([1, 2, 3, 4, 5]);

  test("is 1 for any rising relation and −1 for any falling one", () => {
    expect(correlate(up, numbers([1, 10, 100, 1000, 10_000]))!.rho).toBeCloseTo(1);
    expect(correlate(up, numbers([5, 4, 3, 2, 1]))!.rho).toBeCloseTo(-1);
  });

  test("gives equal values the mean of their ranks", () => {
    expect(correlate(up, numbers([1, 1, 2, 2, 3]))!.rho).toBeCloseTo(0.9487, 3);
  });

  test("leaves out runs that lack one of the two, and needs four", () => {
    expect(correlate(up, numbers([1, 2, 3, 4, null]))!.count).toBe(4);
    expect(correlate(up, numbers([1, 2, 3, null, null]))).toBeNull();
  });

  test("says nothing of texts and of what never varies", () => {
    expect(correlate(up, numbers(["a", "b", "c", "d", "e"]))).toBeNull();
    expect(correlate(up, numbers([1, 1, 1, 1, 1]))).toBeNull();
    expect(describeCorrelation(up, numbers(["a", "b", "c", "d", "e"]))).toContain("text");
  });

  test("of few runs is told as too few, of many with its interval", () => {
    expect(describeCorrelation(up, up)).toContain("too few runs");
    const many = numbers(Array.from({ length: 40 }, (_, at) => at));
    expect(describeCorrelation(many, many)).toMatch(/ρ = \+1\.00 over 40 runs/);
    const chance = numbers(Array.from({ length: 40 }, (_, at) => (at * 17) % 41));
    expect(describeCorrelation(many, chance)).toContain("could be chance");
    expect([formatSigned(-0.456), formatSigned(0)]).toEqual(["−0.46", "+0.00"]);
  });
});

describe("a brush on parallel axes", () => {
  const [lr, optimizer] = [
    dimensionOf("lr", "lr", [1, 2, 3, null], false),
    dimensionOf("opt", "opt", ["a", "b", "c", "a"], false),
  ];

  test("lets those through that cross every axis within it; what has no value passes none", () => {
    expect([...brushedRuns([lr, optimizer], new Map([["lr", [0.4, 1] as const]]), 4)]).toEqual([0, 1, 1, 0]);
    const both = new Map([
      ["lr", [0, 1] as const],
      ["opt", brushOf(optimizer, "a", "b")!],
    ]);
    expect([...brushedRuns([lr, optimizer], both, 4)]).toEqual([1, 1, 0, 0]);
  });

  test("comes back from the texts that stand for it", () => {
    const texts = brushTexts(optimizer, brushOf(optimizer, "b", "c")!);
    expect(texts).toEqual(["b", "c"]);
    expect(brushTexts(lr, [0, 0.5])).toEqual(["1", "2"]);
    expect(brushOf(optimizer, "gone", "c")).toBeNull();
  });
});
