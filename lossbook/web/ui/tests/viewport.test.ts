import { describe, expect, test } from "vitest";
import { bucketsWithin, clampZoom, extentOf, findOutliers, measureValues, padRange } from "../src/charts/viewport";
import { line } from "./make";

describe("the extent", () => {
  test("reaches from the first row to the last of all lines", () => {
    expect(extentOf([line([1, 2, 3]), line([1], {}, { x: [7] })], false)).toEqual([0, 7]);
  });

  test("has a width where there is one row, and is null where there is none", () => {
    expect(extentOf([line([1])], false)).toEqual([-0.5, 0.5]);
    expect(extentOf([], false)).toBeNull();
  });

  test("begins above zero on a logarithmic axis", () => {
    expect(extentOf([line([1, 2, 3])], true)).toEqual([1, 2]);
    expect(extentOf([line([1])], true)).toBeNull();
  });
});

describe("a zoom", () => {
  test("within all there is stays as it is", () => {
    expect(clampZoom([20, 30], [0, 100], false)).toEqual([20, 30]);
  });

  test("is moved back where it leaves all there is by more than an edge", () => {
    expect(clampZoom([-50, -30], [0, 100], false)).toEqual([-5, 15]);
    expect(clampZoom([130, 150], [0, 100], false)).toEqual([85, 105]);
  });

  test("never goes further out than all there is and an edge", () => {
    const [low, high] = clampZoom([-1e6, 1e6], [0, 100], false);
    expect(high - low).toBeCloseTo(110);
  });

  test("never comes so near that numbers end", () => {
    const [low, high] = clampZoom([50, 50], [0, 100], false);
    expect(high).toBeGreaterThan(low);
  });

  test("on a logarithmic axis is bounded in decades", () => {
    const [low, high] = clampZoom([-5, 10], [1, 1000], true);
    expect(low).toBeCloseTo(1);
    expect(high).toBeCloseTo(10);
  });
});

describe("the values in view", () => {
  test("are those between the ends, extremes of buckets among them", () => {
    const spiky = line([1, 2, 3, 4], {}, { max: [1, 9, 3, 4] });
    expect(measureValues([spiky], [0, 2], false, false)).toMatchObject({ low: 1, high: 9 });
    expect(measureValues([spiky], [2, 3], false, false)).toMatchObject({ low: 3, high: 4 });
  });

  test("on a logarithmic axis those at or below zero are counted and left out", () => {
    expect(measureValues([line([-1, 0, 2, 5])], [0, 3], true, false)).toMatchObject({
      low: 2,
      high: 5,
      nonPositive: 2,
    });
  });

  test("are none where nothing is finite", () => {
    expect(measureValues([line([NaN, NaN])], [0, 1], false, false).low).toBeNaN();
  });

  test("robustly, leave a far outlier out but not the steady beginning of a loss", () => {
    const flat = Array.from({ length: 100 }, (_, at) => 3 + 0.01 * (at % 5));
    const spike = [...flat];
    spike[50] = 1000;
    expect(measureValues([line(spike)], [0, 99], false, true).robustHigh).toBeLessThan(4);
    const falling = Array.from({ length: 100 }, (_, at) => 3 + 7 * Math.exp(-at / 4));
    expect(measureValues([line(falling)], [0, 99], false, true).robustHigh).toBe(falling[0]);
  });
});

test("points beyond the range are counted, and the furthest are named", () => {
  const found = findOutliers([line([1, 50, -30, 2])], [0, 3], { min: 0, max: 10, log: false });
  expect(found).toMatchObject({
    above: 1,
    highest: { value: 50, x: 1 },
    below: 1,
    lowest: { value: -30, x: 2 },
    atLeast: false,
  });
});

test("the buckets that touch a range are found", () => {
  const [starts, ends] = [Float64Array.of(0, 10, 20), Float64Array.of(9, 19, 29)];
  expect(bucketsWithin(starts, ends, 3, [12, 18])).toEqual([1, 2]);
  expect(bucketsWithin(starts, ends, 3, [9.5, 9.7])).toEqual([1, 1]);
  expect(bucketsWithin(starts, ends, 3, [-5, 100])).toEqual([0, 3]);
});

test("a range has room above and below, also where all values are one", () => {
  expect(padRange(0, 100, false)).toEqual({ min: -6, max: 106, log: false });
  expect(padRange(5, 5, false)).toEqual({ min: 4.75, max: 5.25, log: false });
  expect(padRange(0, 0, false)).toEqual({ min: -1, max: 1, log: false });
  expect(padRange(NaN, NaN, true)).toEqual({ min: 0.1, max: 1, log: true });
  const { min, max } = padRange(1, 100, true);
  expect(min * max).toBeCloseTo(100);
});
