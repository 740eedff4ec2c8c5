import { describe, expect, test } from "vitest";
import { metricTest, searchFor, sectionsOf } from "../src/components/metric_sections";
import { metric } from "./make";

const layout = (metrics: ReturnType<typeof metric>[], find = "") =>
  sectionsOf(metrics, find).map(({ name, metrics: charts }) => [name, charts.map((one) => one.name)]);

describe("sections", () => {
  test("losses by any name stand together and first, because their role says so", () => {
    const metrics = [
      metric("training_loss", "train-loss"),
      metric("validation_loss", "val-loss"),
      metric("training_speed", "speed"),
    ];
    expect(layout(metrics)[0]).toEqual(["loss", ["training_loss", "validation_loss"]]);
    expect(sectionsOf(metrics, "")[0]!.isFirst).toBe(true);
  });

  test("one loss alone, or more than four, stay in their sections", () => {
    expect(layout([metric("train/loss", "train-loss")])).toEqual([["train", ["train/loss"]]]);
    const many = ["a", "b", "c", "d", "e"].map((name) => metric(`train/${name}_loss`, "loss"));
    expect(layout(many).map(([name]) => name)).toEqual(["train"]);
  });

  test("the loss of a part of the model is none of the model's", () => {
    const metrics = [
      metric("moe/aux_loss", "loss"),
      metric("train/loss", "train-loss"),
      metric("val/loss", "val-loss"),
    ];
    expect(layout(metrics)).toEqual([
      ["loss", ["train/loss", "val/loss"]],
      ["moe", ["moe/aux_loss"]],
    ]);
  });

  test("training comes before validation, throughput after both, the machine last", () => {
    const metrics = [
      metric("cpu_percent", "machine"),
      metric("throughput/x"),
      metric("val/x"),
      metric("custom/x"),
      metric("train/x"),
      metric("x"),
    ];
    expect(layout(metrics).map(([name]) => name)).toEqual([
      "train",
      "val",
      "metrics",
      "custom",
      "throughput",
      "machine",
    ]);
  });

  test("within a section losses and quality lead, and numbers sort as people count", () => {
    const metrics = [
      metric("train/z10"),
      metric("train/z2"),
      metric("train/accuracy", "quality"),
      metric("train/loss", "train-loss"),
    ];
    expect(layout(metrics)).toEqual([["train", ["train/loss", "train/accuracy", "train/z2", "train/z10"]]]);
  });

  test("a metric that other runs call otherwise has one chart", () => {
    expect(
      layout([metric("train/loss", "train-loss"), metric("loss", "train-loss", { same_as: "train/loss" })]),
    ).toEqual([["train", ["train/loss"]]]);
  });
});

describe("layers", () => {
  const layers = (count: number, name: (at: number) => string) =>
    Array.from({ length: count }, (_, at) => metric(name(at)));

  test("six series that differ in one number are a family, five are charts", () => {
    expect(
      sectionsOf(
        layers(6, (at) => `layers/${at}/grad_norm`),
        "",
      )[0],
    ).toMatchObject({ metrics: [], families: [{ pattern: "layers/*/grad_norm" }] });
    expect(
      sectionsOf(
        layers(5, (at) => `layers/${at}/grad_norm`),
        "",
      )[0]!.families,
    ).toEqual([]);
  });

  test("the number that varies over most names is the layer's", () => {
    const names = Array.from({ length: 8 }, (_, layer) =>
      [0, 1].map((head) => metric(`h/${layer}/head/${head}`)),
    ).flat();
    expect(sectionsOf(names, "")[0]!.families.map(({ pattern }) => pattern)).toEqual(["h/*/head/0", "h/*/head/1"]);
  });

  test("the paths of parameters are one family", () => {
    const names = Array.from({ length: 6 }, (_, at) => metric(`gradient/h.${at}.mlp.weight`));
    expect(sectionsOf(names, "")[0]!.families.map(({ pattern }) => pattern)).toEqual(["gradient/**"]);
  });

  test("what is searched for is shown chart by chart", () => {
    expect(
      sectionsOf(
        layers(6, (at) => `layers/${at}/x`),
        "layers",
      )[0],
    ).toMatchObject({ families: [] });
    expect(
      sectionsOf(
        layers(6, (at) => `layers/${at}/x`),
        "layers",
      )[0]!.metrics,
    ).toHaveLength(6);
  });

  test("the search for a family finds its series and no other", () => {
    const finds = metricTest(searchFor("layers/*/x.y"))!;
    expect([finds("layers/12/x.y"), finds("layers/a/x.y"), finds("layers/1/xzy"), finds("my/layers/1/x.y")]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect(metricTest(searchFor("gradient/**"))!("gradient/h.0.weight")).toBe(true);
  });
});

describe("the search for metrics", () => {
  test("every word must be there, in any order and case", () => {
    expect(metricTest("LOSS train")!("train/loss")).toBe(true);
    expect(metricTest("loss val")!("train/loss")).toBe(false);
  });

  test("between slashes stands a regular expression; one that is none finds nothing", () => {
    expect(metricTest("/^val/")!("val/loss")).toBe(true);
    expect(metricTest("/^val/")!("my/val")).toBe(false);
    expect(metricTest("/(/")).toBeNull();
  });
});
