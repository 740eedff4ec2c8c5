import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { setTransport, type Transport } from "../src/api";
import { BandSubscription } from "../src/charts/bands";
import { type CurveQuery, CurveSubscription } from "../src/charts/curve_cache";
import { watchSparkline } from "../src/charts/sparkline_data";
import { CURVE_FIELDS } from "../src/constants";
import type { CurvesRequest } from "../src/types";

/** A server that answers each request for curves when it is told to. */
class Server implements Transport {
  readonly live = true;
  readonly requests: { body: CurvesRequest; signal: AbortSignal | undefined; answer: () => void }[] = [];
  json = async () => ({});
  address = (path: string) => path;

  binary(_path: string, body: unknown, signal?: AbortSignal): Promise<ArrayBuffer> {
    const request = body as CurvesRequest;
    return new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
      this.requests.push({ body: request, signal, answer: () => resolve(frame(request)) });
    });
  }
}

/** One point for each series: its mean is 7. */
function frame({ series, x = "step" }: CurvesRequest): ArrayBuffer {
  const curves = series.map((one) => ({
    ...one,
    found: one.key,
    length: 1,
    attempts: 1,
    state: "finished",
    error: null,
  }));
  const text = JSON.stringify({ fields: CURVE_FIELDS, x, curves });
  const header = new TextEncoder().encode(text + " ".repeat((8 - ((4 + text.length) % 8)) % 8));
  const numbers = curves.flatMap(() => CURVE_FIELDS.map((field) => (field === "mean" ? 7 : 1)));
  const bytes = new ArrayBuffer(4 + header.length + 8 * numbers.length);
  new DataView(bytes).setUint32(0, header.length, true);
  new Uint8Array(bytes, 4).set(header);
  new Float64Array(bytes, 4 + header.length).set(numbers);
  return bytes;
}

let project = 0; // another one for each test: the cache is one for the whole page
const query = (key: string, more: Partial<CurveQuery> = {}): CurveQuery => ({
  project: `p${project}`,
  run: "r",
  key,
  attempt: null,
  x: "step",
  points: 100,
  start: null,
  end: null,
  smoothing: null,
  ...more,
});
const settle = () => vi.advanceTimersByTimeAsync(0);

let server: Server;
let open: CurveSubscription[];

function chart(...queries: CurveQuery[]): { subscription: CurveSubscription; changed: ReturnType<typeof vi.fn> } {
  const changed = vi.fn();
  const subscription = new CurveSubscription(changed);
  subscription.visible = true;
  subscription.want(queries, new Set());
  open.push(subscription);
  return { subscription, changed };
}

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
  setTransport(server);
  project += 1;
  open = [];
});
afterEach(async () => {
  for (const one of open) one.close();
  await settle();
  vi.useRealTimers();
});

describe("curves of the page's charts", () => {
  test("that several charts draw are requested once, and every chart hears of them", async () => {
    const [one, other] = [chart(query("loss")), chart(query("loss"))];
    await settle();
    expect(server.requests).toHaveLength(1);
    server.requests[0]!.answer();
    await settle();
    expect([one.changed.mock.calls.length, other.changed.mock.calls.length]).toEqual([1, 1]);
    expect([...other.subscription.known(query("loss"))!.curve!.mean]).toEqual([7]);
  });

  test("of a run that was recorded again under its id are requested anew", async () => {
    const { subscription } = chart(query("loss", { created: 1 }));
    await settle();
    server.requests[0]!.answer();
    await settle();
    subscription.want([query("loss", { created: 1 })], new Set());
    await settle();
    expect(server.requests).toHaveLength(1);
    subscription.want([query("loss", { created: 2 })], new Set());
    await settle();
    expect(server.requests).toHaveLength(2);
    expect(subscription.known(query("loss", { created: 2 }))!.curve).toBeNull();
  });

  test("and so are its sparkline and the bands of its group", async () => {
    for (const created of [1, 1, 2]) {
      const release = watchSparkline(`p${project}`, "r", "loss", created, "finished", () => {});
      await vi.advanceTimersByTimeAsync(1000);
      for (const request of server.requests) request.answer();
      await settle();
      release();
    }
    expect(server.requests).toHaveLength(2);
    const bands = new BandSubscription(() => {});
    const asked = {
      groups: [{ name: "g", project: `p${project}`, runs: ["r"] }],
      key: "loss",
      x: "step",
      points: 100,
      start: null,
      end: null,
      smoothing: null,
    };
    for (const created of [1, 1, 2]) {
      bands.want(asked, [created], false, true);
      await settle();
    }
    bands.close();
    expect(server.requests).toHaveLength(4);
  });

  test("of charts that appear together go in one request", async () => {
    chart(query("first")); // the page's first chart goes by itself
    await settle();
    server.requests[0]!.answer();
    await settle();
    chart(query("a"));
    chart(query("b"));
    await settle();
    expect(server.requests.slice(1).map(({ body }) => body.series.map(({ key }) => key))).toEqual([["a", "b"]]);
  });

  test("of a chart out of view are not requested until it comes into view", async () => {
    const hidden = new CurveSubscription(() => undefined);
    open.push(hidden);
    hidden.want([query("loss")], new Set());
    await settle();
    expect(server.requests).toHaveLength(0);
    hidden.visible = true;
    await settle();
    expect(server.requests).toHaveLength(1);
  });

  test("that nobody waits for any more are not loaded to the end", async () => {
    const { subscription } = chart(query("loss"));
    await settle();
    subscription.close();
    expect(server.requests[0]!.signal!.aborted).toBe(true);
  });

  test("on different axes are at most three requests at a time", async () => {
    chart(...["step", "tokens", "time", "elapsed", "wallclock"].map((x) => query("loss", { x })));
    await settle();
    expect(server.requests).toHaveLength(3);
    server.requests[0]!.answer();
    await settle();
    expect(server.requests).toHaveLength(4);
  });

  test("as they were logged come before the smoothed ones", async () => {
    chart(query("loss", { smoothing: "ema:0.9" }), query("loss"));
    await settle();
    expect(server.requests.map(({ body }) => body.smoothing)).toEqual([null, "ema:0.9"]);
  });

  test("are kept for the way back: a chart that opens again has them at once", async () => {
    const first = chart(query("loss"));
    await settle();
    server.requests[0]!.answer();
    await settle();
    first.subscription.close();
    const again = chart(query("loss"));
    await settle();
    expect(again.subscription.known(query("loss"))!.curve).not.toBeNull();
    expect(server.requests).toHaveLength(1);
  });
});
