import { describe, expect, test } from "vitest";
import type { MatrixAnswer } from "../src/api";
import { splitMatches } from "../src/components/highlighted_text";
import { visibleEvents } from "../src/components/use_query";
import { compareSettings } from "../src/pages/compare_config";
import { formatCell, parseTargets } from "../src/pages/compare_metrics";
import { keyFigures } from "../src/pages/key_figures";
import { normaliseRows } from "../src/pages/layer_values";
import { eventsAt, mediaKeys } from "../src/pages/media_events";
import type { Attempt, Compared, Event, KeyMetric, Metric } from "../src/types";

const series = (key: string, more: Partial<Metric>): Metric => ({
  key,
  last: 1,
  last_step: 9,
  min: 1,
  min_step: 8,
  max: 3,
  max_step: 0,
  mean: 2,
  count: 10,
  nonfinite: 0,
  unit: null,
  goal: null,
  role: null,
  ...more,
});
const stands = (role: KeyMetric["role"], key: string, percent_factor = 1): KeyMetric => ({ role, key, percent_factor });
const figures = (metrics: Metric[], key_metrics: KeyMetric[], gpus = 0) =>
  Object.fromEntries(
    keyFigures({ metrics, key_metrics, gpus }, { duration: 7200, last_step: 9 }).map(({ title, value }) => [
      title,
      value,
    ]),
  );

describe("key figures", () => {
  test("are found by roles, whatever the metrics are called", () => {
    expect(
      figures(
        [series("training_loss", { last: 2.5 }), series("x", { last: 2.6 })],
        [stands("train-loss", "training_loss"), stands("val-loss", "x")],
      ),
    ).toMatchObject({
      "Training loss": "2.5",
      "Best training loss": "1",
      "Validation loss": "2.6",
    });
  });

  test("a utilisation reads in percent, as the server says it was logged", () => {
    expect(figures([series("throughput/mfu", { last: 0.9 })], [stands("utilisation", "throughput/mfu")]).MFU).toBe(
      "0.9 %",
    );
    expect(figures([series("mfu", { last: 0.46 })], [stands("utilisation", "mfu", 100)]).MFU).toBe("46 %");
  });

  test("the best value follows the goal that the run defined", () => {
    expect(
      figures([series("val/reward_loss", { goal: "maximize" })], [stands("val-loss", "val/reward_loss")])[
        "Best validation loss"
      ],
    ).toBe("3");
  });

  test("a speed is titled by its unit, and a figure that is not there has no title", () => {
    const found = figures(
      [series("samples_per_second", { unit: "samples/s", last: 1500 })],
      [stands("speed", "samples_per_second")],
      2,
    );
    expect(found).toEqual({ "Samples/s": "1.5k", "GPU hours": "4", Steps: "9" });
  });
});

describe("events of a run of several attempts", () => {
  const event = (step: number | null, attempt: number): Event => ({
    row: 0,
    step,
    time: 0,
    kind: "image",
    key: "k",
    rank: 0,
    attempt,
    value: {},
    cut: false,
  });
  const attempt = (number: number, resume_step: number | null): Attempt => ({
    number,
    resume_step,
    started: 0,
    host: null,
    world_size: 1,
    command: null,
  });

  test("are all there where there was one attempt", () => {
    expect(visibleEvents([event(1, 0)], [attempt(0, null)])).toHaveLength(1);
  });

  test("behind the checkpoint that a later attempt began from are replaced", () => {
    const found = visibleEvents([event(5, 0), event(15, 0), event(15, 1)], [attempt(0, null), attempt(1, 10)]);
    expect(found.map(({ step, attempt: number }) => [step, number])).toEqual([
      [5, 0],
      [15, 1],
    ]);
  });

  test("are replaced from a later attempt's first step where it had no checkpoint; those without a step stay", () => {
    const found = visibleEvents(
      [event(5, 0), event(15, 0), event(null, 0), event(10, 1)],
      [attempt(0, null), attempt(1, null)],
    );
    expect(found.map(({ step }) => step)).toEqual([5, null, 10]);
  });
});

describe("media", () => {
  const at = (step: number | null, key: string | null, time = 0): Event => ({
    row: time,
    step,
    time,
    kind: "image",
    key,
    rank: 0,
    attempt: 0,
    value: { path: "a.bin" },
    cut: false,
  });

  test("are gathered by key in the order of their steps, files by their path", () => {
    const keys = mediaKeys("image", [at(20, "b10"), at(10, "b10"), at(0, "b2"), at(0, null)]);
    expect(keys.map(({ key }) => key)).toEqual(["a.bin", "b2", "b10"]);
    expect(keys[2]!.events.map(({ step }) => step)).toEqual([10, 20]);
  });

  test("of a step are those of the last one at or before it, else the first", () => {
    const [media] = mediaKeys("image", [at(10, "k", 1), at(10, "k", 2), at(20, "k", 3)]);
    expect(eventsAt(media!, 15).map(({ time }) => time)).toEqual([1, 2]);
    expect(eventsAt(media!, null).map(({ time }) => time)).toEqual([3]);
    expect(eventsAt(media!, 5).map(({ step }) => step)).toEqual([10, 10]);
  });
});

describe("configurations side by side", () => {
  const compared = (baseline: string | null, config: Record<string, unknown>[]): Compared => ({
    metric: null,
    goal: null,
    baseline,
    columns: [],
    runs: [],
    settings: ["lr"],
    config,
  });

  test("the odd one out is marked against the majority", () => {
    expect(compareSettings(compared(null, [{ lr: 1 }, { lr: 1 }, { lr: 2 }]))[0]).toMatchObject({
      odd: [false, false, true],
      differs: true,
    });
    expect(compareSettings(compared(null, [{ lr: 1 }, { lr: 2 }]))[0]!.odd).toEqual([false, false]);
  });

  test("with a baseline, whatever differs from it is marked", () => {
    expect(compareSettings(compared("r", [{ lr: 1 }, { lr: 2 }, { lr: 2 }]))[0]!.odd).toEqual([false, true, true]);
  });

  test("a run without a setting differs from one that has it as null", () => {
    expect(compareSettings(compared(null, [{ lr: null }, {}]))[0]).toMatchObject({ texts: ["–", null], differs: true });
  });
});

describe("comparing metrics", () => {
  test("values to be reached are read from any list of numbers, each once", () => {
    expect(parseTargets("3.5, 3.2; 3.5")).toEqual([3.5, 3.2]);
    expect(parseTargets("")).toEqual([]);
    expect(parseTargets("3.5 x")).toBeNull();
    expect(parseTargets("1 2 3 4 5 6 7 8 9 10 11")).toBeNull();
  });

  test("a value reads as the kind of its column", () => {
    expect([
      formatCell("percent", 41.234),
      formatCell("seconds", 90),
      formatCell("rate", 123_456),
      formatCell("value", "NaN"),
      formatCell("value", null),
    ]).toEqual(["41.2 %", "1 min 30 s", "123.5k", "NaN", "–"]);
  });
});

describe("layers", () => {
  const matrix = { columns: 2 } as MatrixAnswer;

  test("rows of different sizes are made comparable", () => {
    expect([...normaliseRows(matrix, Float64Array.of(1, 3, 100, 300), "z")]).toEqual([-1, 1, -1, 1]);
    expect([...normaliseRows(matrix, Float64Array.of(2, 3, 100, 50), "first")]).toEqual([1, 1.5, 1, 0.5]);
  });

  test("a row that never changes lies on its mean; one without a value stays empty", () => {
    expect([...normaliseRows(matrix, Float64Array.of(7, 7, NaN, NaN), "z")]).toEqual([0, 0, NaN, NaN]);
  });
});

test("what was searched for is told apart in a text, signs and all", () => {
  expect(splitMatches("a.b A.B axb", "a.b")).toEqual(["", "a.b", " ", "A.B", " axb"]);
  expect(splitMatches("text", "")).toEqual(["text"]);
});
