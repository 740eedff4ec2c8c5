import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AnswerError, api, setTransport, type Transport } from "../src/api";
import { ExportedPage, type Packed } from "../src/html_export";
import { connection, poll } from "../src/polling";

/** Answers from a list, and notes what was asked. */
class Recorded implements Transport {
  readonly live = true;
  readonly asked: unknown[] = [];
  constructor(private readonly answer: (path: string) => unknown) {}
  async json(path: string, query: object, body: unknown): Promise<unknown> {
    this.asked.push({ path, query, body });
    return this.answer(path);
  }
  async binary(path: string, body: unknown): Promise<ArrayBuffer> {
    this.asked.push({ path, body });
    return this.answer(path) as ArrayBuffer;
  }
  address = (path: string) => path;
}

function frame(header: unknown, numbers: readonly number[]): ArrayBuffer {
  const text = JSON.stringify(header);
  const padded = new TextEncoder().encode(text + " ".repeat((8 - ((4 + text.length) % 8)) % 8));
  const bytes = new ArrayBuffer(4 + padded.length + 8 * numbers.length);
  new DataView(bytes).setUint32(0, padded.length, true);
  new Uint8Array(bytes, 4).set(padded);
  new Float64Array(bytes, 4 + padded.length).set(numbers);
  return bytes;
}

describe("a binary answer", () => {
  test("is split into the arrays of each curve, in the order that its header says", async () => {
    const about = { project: "p", run: "r", key: "k", found: "k", attempts: 1, state: "finished", error: null };
    setTransport(
      new Recorded(() =>
        frame(
          {
            fields: ["x", "mean"],
            x: "step",
            curves: [
              { ...about, length: 2 },
              { ...about, length: 1 },
            ],
          },
          [0, 1, 5, 6, 9, 7],
        ),
      ),
    );
    const [first, second] = await api.curves({ series: [] });
    expect([[...first!.x], [...first!.mean], [...second!.x], [...second!.mean]]).toEqual([[0, 1], [5, 6], [9], [7]]);
  });
});

describe("polling", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    setTransport(new Recorded(() => ({})));
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  test("asks at once, then again after the pause, until it is stopped", async () => {
    const ask = vi.fn(async () => undefined);
    const stop = poll(1000, ask);
    await vi.advanceTimersByTimeAsync(2500);
    expect(ask).toHaveBeenCalledTimes(3);
    stop();
    await vi.advanceTimersByTimeAsync(5000);
    expect(ask).toHaveBeenCalledTimes(3);
  });

  test("asks more and more seldom where it is refused, and as often as before once there is an answer", async () => {
    let refused = true;
    const times: number[] = [];
    const stop = poll(1000, async () => {
      times.push(Date.now());
      if (refused) throw new AnswerError("no", 400);
    });
    await vi.advanceTimersByTimeAsync(8000);
    const pauses = times.slice(1).map((time, at) => time - times[at]!);
    expect(pauses).toEqual([2000, 4000]);
    refused = false;
    await vi.advanceTimersByTimeAsync(8000);
    expect(times.at(-1)! - times.at(-2)!).toBe(1000);
    stop();
  });

  test("says that the server is gone, and that it is back", async () => {
    let gone = true;
    const stop = poll(1000, async () => {
      if (gone) throw new AnswerError("gone", 0);
    });
    await vi.advanceTimersByTimeAsync(10);
    expect(connection.value).toBe("lost");
    gone = false;
    await vi.advanceTimersByTimeAsync(3000);
    expect(connection.value).toBe("live");
    stop();
  });
});

describe("an exported page", () => {
  const FIELDS = 11;
  const arrays = Array.from({ length: FIELDS }, () => 0);
  const packed = {
    runs: {
      p: {
        revision: "1",
        whole: true,
        rows: [{ id: "a" }, { id: "b" }],
        removed: [],
        columns: { "config.lr": [1, 2] },
        total: 2,
      },
    },
    names: {
      p: {
        metrics: [
          { name: "train/loss", same_as: null },
          { name: "loss", same_as: "train/loss" },
        ],
        config: [],
        summary: [],
        axes: ["step"],
        usual: [],
        differing: [],
      },
    },
    metrics: { a: ["loss"] },
    curves: { "a\nloss\nstep": { found: "loss", length: 2, attempts: 1, arrays } },
    pages: { a: { row: { state: "finished" } } },
    answers: {
      "/api/run/console": {
        "a 0": {
          lines: [1, 2, 3].map((number) => ({ number, text: number === 2 ? "Loss is NaN" : "step" })),
          total: 3,
        },
      },
    },
    files: { "a img.png": "data:image/png;base64,AA" },
  } as unknown as Packed;
  const page = new ExportedPage(packed, Float64Array.of(3, 4));

  beforeEach(() => setTransport(page));

  test("answers for a curve under the name that other runs have for it", async () => {
    const [found] = await api.curves({ series: [{ project: "p", run: "a", key: "train/loss" }] });
    expect(found).toMatchObject({ found: "loss", length: 2, error: null });
    expect([...found!.mean]).toEqual([3, 4]);
  });

  test("says what is missing in a sentence", async () => {
    const [found] = await api.curves({ series: [{ project: "p", run: "a", key: "val/loss" }] });
    expect(found!.error).toContain("never logged val/loss");
    await expect(api.run({ project: "p", run: "gone" })).rejects.toThrow("There is no run gone");
  });

  test("searches its console without a server", async () => {
    const found = await api.searchConsole({ project: "p", run: "a", rank: 0, text: "nan" });
    expect(found.lines.map(({ number }) => number)).toEqual([2]);
  });

  test("has the pictures that were put in, and no address for what was not", () => {
    expect(api.fileAddress({ project: "p", run: "a", path: "img.png" })).toMatch(/^data:image/);
    expect(api.fileAddress({ project: "p", run: "a", path: "other.png" })).toBe("about:blank");
  });
});
