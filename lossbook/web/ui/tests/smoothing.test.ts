import { describe, expect, test } from "vitest";
import { smooth as smoothed } from "../src/smoothing";

const ones = (length: number) => new Float64Array(length).fill(1);
const none = (length: number) => new Float64Array(length);
const smooth = (means: number[], how: string, counts = ones(means.length), nonfinite = none(means.length)) => [
  ...smoothed(Float64Array.from(means), counts, nonfinite, how),
];

test("an exponential average begins at the first value and is corrected for its beginning", () => {
  const [first, second] = smooth([4, 2], "ema:0.9");
  expect(first).toBeCloseTo(4);
  expect(second).toBeCloseTo((0.1 * 0.9 * 4 + 0.1 * 2) / (1 - 0.81));
});

test("a constant stays what it is under every smoothing", () => {
  for (const how of ["ema:0.99", "mean:3", "median:3", "gaussian:2"])
    for (const one of smooth([5, 5, 5, 5], how)) expect(one).toBeCloseTo(5);
});

test("a bucket of many rows weighs as its rows do", () => {
  const light = smooth([0, 1], "ema:0.9")[1]!;
  const heavy = smooth([0, 1], "ema:0.9", Float64Array.of(1, 50))[1]!;
  expect(heavy).toBeGreaterThan(light);
  expect(heavy).toBeCloseTo(1, 1);
});

test("a running mean and median are taken over neighbours on both sides", () => {
  expect(smooth([0, 3, 6], "mean:3")).toEqual([1.5, 3, 4.5]);
  expect(smooth([0, 100, 1], "median:3")).toEqual([50, 1, 50.5]);
});

test("what is not finite stays, and no neighbour is spoilt by it", () => {
  expect(smooth([1, NaN, 3], "mean:3")).toEqual([2, NaN, 2]);
});

describe("what is no smoothing", () => {
  test.each(["", "ema", "ema:x", "mean:0", "mean:-3"])("%j leaves the curve as it is", (how) => {
    expect(smooth([1, 5, 2], how)).toEqual([1, 5, 2]);
  });
});
