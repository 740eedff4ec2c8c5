import { describe, expect, test } from "vitest";
import type { Drawing } from "../src/charts/chart_canvas";
import { STEPS } from "../src/charts/color_scale";
import { csvOf, fileName, svgOf } from "../src/charts/export";
import { paintCells } from "../src/charts/heatmap_render";
import { createBitmap, drawArea, drawDot, drawLine, pixelOf, span } from "../src/charts/rasterizer";
import { dotsOf, fromPixelX, fromPixelY, markersOf, outlierMarkers, toPixelX, toPixelY } from "../src/charts/render";
import type { Frame } from "../src/charts/types";
import { curve, line } from "./make";

const frame = (more: Partial<Frame> = {}): Frame => ({
  x: { min: 0, max: 10, log: false },
  y: { min: 0, max: 100, log: false },
  width: 200,
  height: 100,
  ratio: 1,
  ...more,
});

describe("places in a picture", () => {
  test("x goes to the right and y upwards", () => {
    expect([toPixelX(frame(), 5), toPixelY(frame(), 0), toPixelY(frame(), 100)]).toEqual([100, 100, 0]);
  });

  test("a value and its place lead to each other, on logarithmic axes too", () => {
    const log = frame({ x: { min: 1, max: 1000, log: true }, y: { min: 0.01, max: 1, log: true } });
    for (const one of [frame(), log]) {
      expect(fromPixelX(one, toPixelX(one, 7))).toBeCloseTo(7);
      expect(fromPixelY(one, toPixelY(one, 0.5))).toBeCloseTo(0.5);
    }
  });

  test("a row without neighbours has a dot, for it has no line", () => {
    expect(dotsOf(frame(), line([NaN, 50, NaN]))).toEqual([{ x: 20, y: 50 }]);
  });

  test("few rows have dots, rows close together none", () => {
    expect(dotsOf(frame(), line([10, 20, 30]))).toHaveLength(3);
    expect(dotsOf(frame({ x: { min: 0, max: 999, log: false } }), line(Array.from({ length: 1000 }, () => 1)))).toEqual(
      [],
    );
  });

  test("values that are not finite have signs: arrows for infinities, a cross for NaN", () => {
    expect(markersOf(frame(), line([Infinity, 1, NaN, 1, -Infinity])).map(({ kind }) => kind)).toEqual([
      "up",
      "cross",
      "down",
    ]);
  });

  test("points beyond the edge have one arrow where many are close", () => {
    const one = line([1]);
    const places = [1, 1.01, 8].map((x) => ({ x, above: true, line: one }));
    expect(
      outlierMarkers(frame(), { atLeast: false, above: 3, highest: null, below: 0, lowest: null, places }),
    ).toHaveLength(2);
  });
});

describe("pixels", () => {
  const WHITE = pixelOf("#ffffff");
  const RED = pixelOf("#f00");
  const column = (pixels: Uint32Array, at: number, height: number) => [...pixels.slice(at * height, (at + 1) * height)];

  test("a colour of three or six digits is a little-endian pixel", () => {
    expect(pixelOf("#102030")).toBe(0xff302010);
    expect(pixelOf("#f00")).toBe(pixelOf("#ff0000"));
  });

  test("a span covers whole pixels fully and a part of one by its share", () => {
    const picture = createBitmap(1, 4, "#ffffff");
    span(picture, 0, 1, 2.5, RED, 256);
    const [above, whole, half, below] = column(picture.pixels, 0, 4);
    expect([above, whole, below]).toEqual([WHITE, RED, WHITE]);
    expect(half! & 0xff).toBe(255);
    expect((half! >> 8) & 0xff).toBeGreaterThan(100);
    expect((half! >> 8) & 0xff).toBeLessThan(150);
  });

  test("what lies outside of the picture changes nothing", () => {
    const picture = createBitmap(2, 2, "#ffffff");
    span(picture, -1, 0, 2, RED, 256);
    span(picture, 5, 0, 2, RED, 256);
    span(picture, 0, 7, 9, RED, 256);
    expect([...picture.pixels].every((pixel) => pixel === WHITE)).toBe(true);
  });

  test("a line covers the extreme of every column that it crosses", () => {
    const picture = createBitmap(3, 100, "#ffffff");
    drawLine(picture, 3, Float64Array.of(0.5, 1.5, 2.5), Float64Array.of(90, 5, 90), RED, 1.5, 256, 0);
    expect(column(picture.pixels, 1, 100).indexOf(RED)).toBeLessThanOrEqual(6);
    expect(column(picture.pixels, 1, 100).indexOf(RED)).toBeGreaterThanOrEqual(0);
  });

  test("a line is broken where a value is missing", () => {
    const picture = createBitmap(40, 20, "#ffffff");
    drawLine(picture, 4, Float64Array.of(0, 10, 20, 39), Float64Array.of(10, 10, NaN, 10), RED, 1.5, 256, 0);
    const isDrawn = (at: number) => column(picture.pixels, at, 20).some((pixel) => pixel !== WHITE);
    expect([isDrawn(5), isDrawn(15), isDrawn(30)]).toEqual([true, false, false]);
  });

  test("an area fills what lies between its two edges", () => {
    const picture = createBitmap(10, 20, "#ffffff");
    const xs = Float64Array.of(0, 10);
    drawArea(picture, 2, xs, Float64Array.of(15, 15), xs, Float64Array.of(5, 5), RED, 256);
    expect(column(picture.pixels, 5, 20)[10]).toBe(RED);
    expect(column(picture.pixels, 5, 20)[2]).toBe(WHITE);
    expect(column(picture.pixels, 5, 20)[18]).toBe(WHITE);
  });

  test("a dot is round", () => {
    const picture = createBitmap(11, 11, "#ffffff");
    drawDot(picture, 5.5, 5.5, 4, RED);
    expect(column(picture.pixels, 5, 11)[5]).toBe(RED);
    expect(column(picture.pixels, 1, 11)[1]).toBe(WHITE);
  });
});

describe("cells of a heatmap", () => {
  const palette = { pixels: Uint32Array.from({ length: STEPS }, (_, at) => at + 1), css: [] };
  const scale = {
    kind: "linear" as const,
    low: 0,
    high: 1,
    threshold: 1,
    diverges: false,
    below: 0,
    above: 0,
    unseen: 0,
  };
  const cells = (values: number[], ill: number[], lines: number, diverges = false) =>
    paintCells(
      Float64Array.from(values),
      Float64Array.from(ill),
      1,
      0,
      values.length - 1,
      lines,
      { ...scale, diverges },
      palette,
      999,
    );

  test("have the colour of their value, and none where no row is", () => {
    expect([...cells([0, 1, NaN], [0, 0, 0], 3).pixels]).toEqual([1, STEPS, 0]);
  });

  test("that share a line show the greatest of them, about a middle the one furthest from it", () => {
    expect([...cells([0, 1, 0], [0, 0, 0], 1).pixels]).toEqual([STEPS]);
    expect(cells([0.2, -0.9], [0, 0], 1, true).pixels[0]).toBe(1);
  });

  test("with rows that were not finite are marked, wholly or in part", () => {
    expect([...cells([NaN, 0.5], [3, 1], 2).ill]).toEqual([2, 1]);
    expect(cells([NaN], [1], 1).pixels[0]).toBe(999);
  });
});

describe("a chart as a file", () => {
  const drawing = (lines: Drawing["lines"]): Drawing => ({
    lines,
    x: { min: 0, max: 2, log: false },
    y: { min: 0, max: 10, log: false },
    kindX: "whole",
    kindY: "number",
    axis: "step",
    beyond: null,
    marks: [],
  });

  test("has a name that any file system takes", () => {
    expect([fileName("val/loss: α", "png"), fileName("..hidden", "csv"), fileName("///", "svg")]).toEqual([
      "val_loss.png",
      "hidden.csv",
      "chart.svg",
    ]);
  });

  test("is CSV with every digit of what is in view, names quoted where they must be", () => {
    const text = csvOf(drawing([line([1, 0.1 + 0.2, 3, 4], { label: 'a "b", c' })]));
    const [head, ...rows] = text.trimEnd().split("\r\n");
    expect(head).toBe("run,x,x_end,min,max,mean,last,count,nonfinite");
    expect(rows).toHaveLength(3);
    expect(rows[1]).toContain("0.30000000000000004");
    expect(rows[0]!.startsWith('"a ""b"", c",0,')).toBe(true);
  });

  test("is CSV with a column for what is smoothed", () => {
    const smoothed = line([1, 2, 3], { smoothed: true, smooth: curve([1.5, 2.5, 3.5]) });
    expect(
      csvOf(drawing([smoothed]))
        .split("\r\n")[1]!
        .endsWith(",1.5"),
    ).toBe(true);
  });

  test("is an SVG whose texts cannot become markup", () => {
    const colors = { background: "#fff", grid: "#eee", axis: "#666", text: "#000", line: "#ccc" };
    const text = svgOf(
      drawing([line([1, 2, 3], { label: "<b>&" })]),
      "a < b",
      [400, 200],
      colors,
      (words) => 6 * words.length,
    );
    expect(text).toContain("<title>a &#60; b</title>");
    expect(text).toContain("&#60;b&#62;&#38;");
    expect(text).not.toContain("<b>");
  });
});
