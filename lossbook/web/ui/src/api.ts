// The only file that fetches: every request to the server, typed, and the decoding of binary answers.

import type {
  BandsHeader,
  BandsRequest,
  Change,
  Code,
  Compared,
  CompareRequest,
  Console,
  ConsoleFound,
  CurveHeader,
  CurvesHeader,
  CurvesRequest,
  Events,
  Families,
  Files,
  Gpus,
  Marks,
  MarksRequest,
  Matching,
  MatrixHeader,
  MatrixRequest,
  Names,
  RunPage,
  RunRow,
  Runs,
  Store,
  TablePage,
} from "./types";

/** What a query may hold: a list is given once for each value, null and undefined are left out. */
export type Query = Record<string, string | number | boolean | null | undefined | readonly string[]>;

/** How questions reach what answers them: a server, or the answers that a page carries with it. */
export interface Transport {
  readonly live: boolean;
  json(path: string, query: Query, body: unknown, signal?: AbortSignal): Promise<unknown>;
  binary(path: string, body: unknown, signal?: AbortSignal): Promise<ArrayBuffer>;
  /** An address that an <img> or <a> can have. */
  address(path: string, query: Query): string;
}

/** An answer that is a sentence: what was wrong with the question, or that nobody answers. */
export class AnswerError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(name, String(one));
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

class Server implements Transport {
  readonly live = true;

  address(path: string, query: Query): string {
    // Relative, so that the page works behind a proxy's prefix.
    return withQuery(path.replace(/^\//, ""), query);
  }

  async json(path: string, query: Query, body: unknown, signal?: AbortSignal): Promise<unknown> {
    const response = await this.send(this.address(path, query), body, signal);
    return response.json();
  }

  async binary(path: string, body: unknown, signal?: AbortSignal): Promise<ArrayBuffer> {
    return (await this.send(this.address(path, {}), body, signal)).arrayBuffer();
  }

  private async send(address: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(address, {
        method: body === undefined ? "GET" : "POST",
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
        ...(signal ? { signal } : {}),
        credentials: "same-origin",
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new AnswerError("The server does not answer: is `lossbook serve` still running?", 0);
    }
    if (!response.ok) {
      const told = await response.json().then(
        (answer: { error?: string }) => answer.error,
        () => undefined,
      );
      throw new AnswerError(told ?? `The server answered with status ${response.status}.`, response.status);
    }
    return response;
  }
}

let transport: Transport = new Server();

/** Answer from elsewhere: a page that carries its answers sets this before anything is asked. */
export function setTransport(other: Transport): void {
  transport = other;
}

/** Whether new points may come. */
export function isLive(): boolean {
  return transport.live;
}

async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await transport.json(path, query, undefined, signal)) as T;
}

async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return (await transport.json(path, {}, body, signal)) as T;
}

// -- binary answers ----------------------------------------------------------------------------------------------

function openFrame<T>(frame: ArrayBuffer): { header: T; at: number } {
  const length = new DataView(frame).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(frame, 4, length))) as T;
  return { header, at: 4 + length };
}

/** Arrays of one curve; the names are those of `lossbook.Curve`. */
export interface CurveArrays {
  x: Float64Array;
  x_end: Float64Array;
  first: Float64Array;
  last: Float64Array;
  min: Float64Array;
  max: Float64Array;
  min_x: Float64Array;
  max_x: Float64Array;
  mean: Float64Array;
  count: Float64Array;
  nonfinite: Float64Array;
}
export type CurveAnswer = CurveHeader & CurveArrays;

export interface BandAnswer {
  name: string;
  runs: number;
  length: number;
  error: string | null;
  x: Float64Array;
  mean: Float64Array;
  low: Float64Array;
  high: Float64Array;
  count: Float64Array;
}

/** Heat map: `values[row * columns + column]`. */
export interface MatrixAnswer extends MatrixHeader {
  edges: Float64Array;
  mean: Float64Array;
  min: Float64Array;
  max: Float64Array;
  count: Float64Array;
  nonfinite: Float64Array;
}

function arraysOf<H extends { length: number }>(
  frame: ArrayBuffer,
  at: number,
  fields: string[],
  headers: H[],
): (H & Record<string, Float64Array>)[] {
  return headers.map((header) => {
    const arrays: Record<string, Float64Array> = {};
    for (const field of fields) {
      arrays[field] = new Float64Array(frame, at, header.length);
      at += 8 * header.length;
    }
    return { ...header, ...arrays } as H & Record<string, Float64Array>;
  });
}

// -- the questions -----------------------------------------------------------------------------------------------

export const api = {
  store: (signal?: AbortSignal) => get<Store>("/api/store", {}, signal),
  runs: (
    query: {
      project: string;
      since?: string | null;
      column?: readonly string[];
      limit?: number;
      run?: readonly string[];
    },
    signal?: AbortSignal,
  ) => get<Runs>("/api/runs", query, signal),
  names: (query: { project: string; run?: readonly string[]; newest?: number }, signal?: AbortSignal) =>
    get<Names>("/api/names", query, signal),
  where: (query: { project: string; where: string }, signal?: AbortSignal) =>
    get<Matching>("/api/where", query, signal),

  async curves(request: CurvesRequest, signal?: AbortSignal): Promise<CurveAnswer[]> {
    const frame = await transport.binary("/api/curves", request, signal);
    const { header, at } = openFrame<CurvesHeader>(frame);
    return arraysOf(frame, at, header.fields, header.curves) as unknown as CurveAnswer[];
  },
  async bands(request: BandsRequest, signal?: AbortSignal): Promise<BandAnswer[]> {
    const frame = await transport.binary("/api/bands", request, signal);
    const { header, at } = openFrame<BandsHeader>(frame);
    return arraysOf(frame, at, header.fields, header.bands) as unknown as BandAnswer[];
  },
  marks: (request: MarksRequest, signal?: AbortSignal) => post<Marks>("/api/marks", request, signal),
  compare: (request: CompareRequest, signal?: AbortSignal) => post<Compared>("/api/compare", request, signal),

  run: (query: { project: string; run: string }, signal?: AbortSignal) => get<RunPage>("/api/run", query, signal),
  events: (
    query: {
      project: string;
      run: string;
      kind?: readonly string[];
      key?: string;
      after?: number;
      limit?: number;
      thin?: boolean;
    },
    signal?: AbortSignal,
  ) => get<Events>("/api/run/events", query, signal),
  table: (
    query: { project: string; run: string; rank: number; row: number; start?: number; limit?: number },
    signal?: AbortSignal,
  ) => get<TablePage>("/api/run/table", query, signal),
  console: (
    query: { project: string; run: string; rank: number; start?: number; limit?: number },
    signal?: AbortSignal,
  ) => get<Console>("/api/run/console", query, signal),
  searchConsole: (
    query: { project: string; run: string; rank: number; text: string; start?: number; limit?: number },
    signal?: AbortSignal,
  ) => get<ConsoleFound>("/api/run/console/search", query, signal),
  gpus: (query: { project: string; run: string }, signal?: AbortSignal) => get<Gpus>("/api/run/gpus", query, signal),
  code: (query: { project: string; run: string; attempt?: number }, signal?: AbortSignal) =>
    get<Code>("/api/run/code", query, signal),
  files: (query: { project: string; run: string }, signal?: AbortSignal) => get<Files>("/api/run/files", query, signal),
  families: (query: { project: string; run: string }, signal?: AbortSignal) =>
    get<Families>("/api/run/families", query, signal),
  /** Where one file of a run is to be had. */
  fileAddress: (query: { project: string; run: string; path: string; text?: boolean }) =>
    transport.address("/api/run/file", query),
  async matrix(request: MatrixRequest, signal?: AbortSignal): Promise<MatrixAnswer> {
    const frame = await transport.binary("/api/run/matrix", request, signal);
    const { header, at } = openFrame<MatrixHeader>(frame);
    const cells = header.keys.length * header.columns;
    const array = (number: number) => new Float64Array(frame, at + 8 * (header.columns + 1 + number * cells), cells);
    const edges = new Float64Array(frame, at, header.columns + 1);
    return { ...header, edges, mean: array(0), min: array(1), max: array(2), count: array(3), nonfinite: array(4) };
  },
  edit: (change: Change, signal?: AbortSignal) => post<RunRow>("/api/edit", change, signal),
};
