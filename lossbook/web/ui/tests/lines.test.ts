import { describe, expect, test } from "vitest";
import { appendPoints } from "../src/charts/append_points";
import { findSpikes, indexBefore, lastReading, lineOf, nearestIndex, readingAt, stepAlong } from "../src/charts/lines";
import { curve, line } from "./make";

const places = Float64Array.of(0, 10, 20);

test("the last place at or before, and the nearest one, are found", () => {
  expect([-1, 0, 9.9, 10, 99].map((x) => indexBefore(places, 3, x))).toEqual([-1, 0, 0, 1, 2]);
  expect([-5, 4, 6, 99].map((x) => nearestIndex(places, 3, x))).toEqual([0, 0, 1, 2]);
  expect(nearestIndex(places, 0, 5)).toBe(-1);
});

test("a line has its vertices in the middle of buckets, its ends at the first and the last row", () => {
  const buckets = curve([1, 2, 3], { x: [0, 10, 20], x_end: [9, 19, 29] });
  expect([...line([1, 2, 3], {}, { x: [0, 10, 20], x_end: [9, 19, 29] }).x]).toEqual([0, 14.5, 29]);
  expect(buckets.length).toBe(3);
});

test("a smoothed line has the smoothed values and the envelope of what was logged", () => {
  const head = {
    id: "a",
    project: "p",
    run: "r",
    key: "k",
    label: "r",
    color: "#fff",
    runs: 1,
    state: "finished",
    attempt: null,
    emphasised: false,
  };
  const both = lineOf(head, curve([1, 9]), curve([4, 5]));
  expect(both.smoothed).toBe(true);
  expect([...both.y.slice(0, 2)]).toEqual([4, 5]);
  expect([...both.curve!.max]).toEqual([1, 9]);
});

test("a bucket of several rows that reaches far beyond its neighbours stands out, one row does not", () => {
  const calm = Array.from({ length: 30 }, (_, at) => 1 + 0.01 * (at % 3));
  const max = calm.map((mean, at) => (at === 15 ? 50 : mean + 0.01));
  const min = calm.map((mean) => mean - 0.01);
  const rows = calm.map(() => 10);
  expect([...findSpikes(curve(calm, { max, min, count: rows }))]).toContain(15);
});

test("the last value is the last one that is a number", () => {
  expect(lastReading(line([1, 2, NaN]))).toEqual({ value: 2, x: 1 });
  expect(lastReading(line([NaN]))).toBeNull();
});

test("the value under the cursor is that of the nearest bucket, and none beyond the line's ends", () => {
  const one = line([5, 6, 7]);
  expect(readingAt(one, 1.2, 0.1)).toMatchObject({ value: 6, x: 1, count: 1 });
  expect(readingAt(one, 9, 0.1)).toBeNull();
});

describe("the cursor that keys move", () => {
  const one = line([5, 6, 7, 8]);

  test("begins at the first or the last bucket in view", () => {
    expect(stepAlong(one, [0.5, 2.5], null, 1)).toBe(1);
    expect(stepAlong(one, [0.5, 2.5], null, -1)).toBe(2);
  });

  test("goes from bucket to bucket and stays at the end", () => {
    expect(stepAlong(one, [0, 3], 1, 1)).toBe(2);
    expect(stepAlong(one, [0, 3], 1, -10)).toBe(0);
    expect(stepAlong(one, [0, 3], 3, 1)).toBe(3);
  });

  test("goes nowhere where the view has no bucket", () => {
    expect(stepAlong(one, [1.2, 1.4], null, 1)).toBeNull();
    expect(stepAlong(line([]), [0, 1], null, 1)).toBeNull();
  });
});

describe("new points of a run that goes on", () => {
  test("replace the last bucket, which may have grown, and stand behind it", () => {
    const joined = appendPoints(
      curve([1, 2, 3], {}, "running"),
      curve([3.5, 4], { x: [2, 3], x_end: [2, 3] }, "running"),
    );
    expect([...joined.mean]).toEqual([1, 2, 3.5, 4]);
    expect([...joined.x]).toEqual([0, 1, 2, 3]);
    expect(joined.length).toBe(4);
  });

  test("that say nothing new leave the curve as it is", () => {
    const known = curve([1, 2, 3]);
    expect(appendPoints(known, curve([3], { x: [2] }))).toBe(known);
    expect(appendPoints(known, curve([]))).toBe(known);
  });

  test("take over the state of the run", () => {
    expect(appendPoints(curve([1], {}, "running"), curve([1, 2], {}, "finished")).state).toBe("finished");
  });
});
