// Answers from the data that `lossbook export --html` packs into the page (lossbook/web/html_export.py): no server is
// asked.

import { AnswerError, type Query, type Transport } from "./api";
import { BAND_FIELDS, CURVE_FIELDS as FIELDS } from "./constants";
import { smooth } from "./smoothing";
import type {
  BandHeader,
  BandsRequest,
  Compared,
  Console,
  CurveHeader,
  CurvesRequest,
  Events,
  Marks,
  MarksRequest,
  MatrixRequest,
  Name,
  Names,
  RunPage,
  Runs,
  Store,
} from "./types";

/** The element whose text is the copy: gzip in base64 of a frame. */
const PLACE = "lossbook-copy";

interface PackedCurve {
  found: string;
  length: number;
  attempts: number;
  arrays: number[]; // for each of FIELDS where its array begins, in numbers; equal arrays are kept once
}

interface PackedMatrix {
  keys: string[];
  columns: number;
  beyond: number;
  arrays: number[]; // edges, mean, min, max, count, nonfinite
}

export interface Packed {
  store: Store;
  runs: Record<string, Runs>; // by project, with every column
  names: Record<string, Names>; // by project
  metrics: Record<string, string[]>; // by run
  compared: Record<string, Compared>; // by project
  curves: Record<string, PackedCurve>; // by "run\nkey\naxis"
  marks: Record<string, Marks>; // by "run axis"
  pages: Record<string, RunPage>; // by run
  answers: Record<string, Record<string, unknown>>; // by path, by run (console: and rank; table: and rank and row)
  files: Record<string, string>; // "run path": data address
  matrices: Record<string, PackedMatrix>; // by run
}

const NOT_HERE =
  "This page is a copy of runs and has no more than what was put in; `lossbook serve` on the store itself answers this.";

export class ExportedPage implements Transport {
  readonly live = false;

  constructor(
    private readonly packed: Packed,
    private readonly numbers: Float64Array,
  ) {}

  address(path: string, query: Query): string {
    return (path === "/api/run/file" ? this.packed.files[`${query.run} ${query.path}`] : undefined) ?? "about:blank";
  }

  async json(path: string, query: Query, body: unknown): Promise<unknown> {
    const { packed } = this;
    const project = String(query.project ?? "");
    const run = String(query.run ?? "");
    switch (path) {
      case "/api/store":
        return packed.store;
      case "/api/runs":
        return this.runs(known(packed.runs[project], `There is no project ${project} in this copy.`), query);
      case "/api/names":
        return this.names(project, query);
      case "/api/compare":
        return this.compare(body as { project: string; runs: string[] });
      case "/api/marks":
        return this.marks(body as MarksRequest);
      case "/api/run":
        return known(packed.pages[run], `There is no run ${run} in this copy.`);
      case "/api/run/events":
        return this.events(known(packed.answers[path]?.[run]) as Events, query);
      case "/api/run/console":
        return this.console(`${run} ${query.rank ?? 0}`, query);
      case "/api/run/console/search": {
        const { lines } = this.console(`${run} ${query.rank ?? 0}`, {});
        const text = String(query.text ?? "").toLowerCase();
        const from = Number(query.start ?? -Infinity);
        return {
          lines: lines.filter((line) => line.number >= from && line.text.toLowerCase().includes(text)),
          next: null,
        };
      }
      case "/api/run/table": {
        const page = known(packed.answers[path]?.[`${run} ${query.rank ?? 0} ${query.row}`]) as { rows: unknown[] };
        const start = Number(query.start ?? 0);
        return { ...page, rows: page.rows.slice(start, start + Number(query.limit ?? 200)) };
      }
      default:
        return known(packed.answers[path]?.[run]);
    }
  }

  async binary(path: string, body: unknown): Promise<ArrayBuffer> {
    if (path === "/api/curves") return this.curves(body as CurvesRequest);
    if (path === "/api/bands") return this.bands(body as BandsRequest);
    if (path === "/api/run/matrix") return this.matrix(body as MatrixRequest);
    throw new AnswerError(NOT_HERE, 404);
  }

  // -- curves ----------------------------------------------------------------------------------------------------

  private array(at: number, length: number): Float64Array {
    return this.numbers.subarray(at, at + length);
  }

  private curve(project: string, run: string, key: string, x: string): PackedCurve | undefined {
    const { curves, names } = this.packed;
    const direct = curves[`${run}\n${key}\n${x}`];
    if (direct !== undefined) return direct;
    // Another run of the project may call the same quantity otherwise.
    const quantity = (name: Name): string => name.same_as ?? name.name;
    const all = names[project]?.metrics ?? [];
    const asked = all.find(({ name }) => name === key);
    for (const other of asked === undefined ? [] : all) {
      const found = quantity(other) === quantity(asked!) ? curves[`${run}\n${other.name}\n${x}`] : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  }

  private curves(request: CurvesRequest): ArrayBuffer {
    const x = request.x ?? "step";
    const arrays: Float64Array[] = [];
    const curves = request.series.map((series): CurveHeader => {
      const { project, run, key } = series;
      const packed = series.attempt == null ? this.curve(project, run, key, x) : undefined;
      const about = { project, run, key, state: this.packed.pages[run]?.row.state ?? "finished" };
      if (packed === undefined) {
        const error = this.packed.metrics[run]?.includes(key) ? NOT_HERE : `The run never logged ${key}.`;
        return { ...about, found: null, length: 0, attempts: 1, error };
      }
      const whole = packed.arrays.map((at) => this.array(at, packed.length));
      if (request.smoothing) {
        const line = smooth(whole[8]!, whole[9]!, whole[10]!, request.smoothing);
        for (const field of [2, 3, 4, 5, 8]) whole[field] = line;
      }
      const low = series.start ?? request.start ?? -Infinity;
      const high = request.end ?? Infinity;
      let first = 0;
      let last = packed.length;
      while (first < last && whole[1]![first]! < low) first += 1;
      while (last > first && whole[0]![last - 1]! > high) last -= 1;
      arrays.push(...whole.map((array) => array.subarray(first, last)));
      return { ...about, found: packed.found, length: last - first, attempts: packed.attempts, error: null };
    });
    return frame({ fields: FIELDS, x, curves }, arrays);
  }

  /** Mean and range over runs, on a common grid, as `lossbook.analysis.seed_bands` does it. */
  private bands(request: BandsRequest): ArrayBuffer {
    const x = request.x ?? "step";
    const points = request.points ?? 1000;
    const arrays: Float64Array[] = [];
    const bands = request.groups.map((group): BandHeader => {
      const lines = group.runs.flatMap((run) => {
        const packed = this.curve(group.project, run, request.key, x);
        if (packed === undefined) return [];
        const [from, to, mean, count, nonfinite] = [0, 1, 8, 9, 10].map((field) =>
          this.array(packed.arrays[field]!, packed.length),
        ) as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
        const value = request.smoothing ? smooth(mean, count, nonfinite, request.smoothing) : mean;
        const at = from.map((one, position) => (one + to[position]!) / 2);
        const kept = [...at.keys()].filter(
          (one) =>
            Number.isFinite(value[one]!) &&
            at[one]! >= (request.start ?? -Infinity) &&
            at[one]! <= (request.end ?? Infinity),
        );
        return kept.length ? [{ at: kept.map((one) => at[one]!), value: kept.map((one) => value[one]!) }] : [];
      });
      let grid = [...new Set(lines.flatMap(({ at }) => at))].sort((one, other) => one - other);
      if (grid.length > points) {
        const [low, high] = [grid[0]!, grid.at(-1)!];
        grid = Array.from({ length: points }, (_, at) => low + ((high - low) * at) / (points - 1));
      }
      const found = {
        mean: new Float64Array(grid.length),
        low: new Float64Array(grid.length).fill(NaN),
        high: new Float64Array(grid.length).fill(NaN),
        count: new Float64Array(grid.length),
      };
      for (const { at, value } of lines) {
        let before = 0;
        grid.forEach((place, position) => {
          if (place < at[0]! || place > at.at(-1)!) return;
          while (before < at.length - 2 && at[before + 1]! <= place) before += 1;
          const next = Math.min(before + 1, at.length - 1);
          const width = at[next]! - at[before]!;
          const shown =
            width > 0
              ? value[before]! + ((value[next]! - value[before]!) * (place - at[before]!)) / width
              : value[before]!;
          found.mean[position]! += shown;
          found.count[position]! += 1;
          found.low[position] = Number.isNaN(found.low[position]!) ? shown : Math.min(found.low[position]!, shown);
          found.high[position] = Number.isNaN(found.high[position]!) ? shown : Math.max(found.high[position]!, shown);
        });
      }
      for (const [position, sum] of found.mean.entries()) found.mean[position] = sum / found.count[position]!;
      arrays.push(Float64Array.from(grid), found.mean, found.low, found.high, found.count);
      return {
        name: group.name,
        length: grid.length,
        runs: lines.length,
        error: lines.length ? null : `No run of ${group.name} logged ${request.key}.`,
      };
    });
    return frame({ fields: BAND_FIELDS, x, bands }, arrays);
  }

  private matrix(request: MatrixRequest): ArrayBuffer {
    const packed = this.packed.matrices[request.run];
    if (packed === undefined || (request.x ?? "step") !== "step") throw new AnswerError(NOT_HERE, 404);
    const edges = this.array(packed.arrays[0]!, packed.columns + 1);
    let first = 0;
    let last = packed.columns;
    while (first < last - 1 && edges[first + 1]! <= (request.start ?? -Infinity)) first += 1;
    while (last > first + 1 && edges[last - 1]! >= (request.end ?? Infinity)) last -= 1;
    const rows = request.keys.map((key) => packed.keys.indexOf(key));
    if (rows.includes(-1)) throw new AnswerError(NOT_HERE, 404);
    const cells = packed.arrays
      .slice(1)
      .flatMap((at) => rows.map((row) => this.array(at + row * packed.columns + first, last - first)));
    const header = { keys: request.keys, columns: last - first, x: "step", beyond: packed.beyond };
    return frame(header, [edges.subarray(first, last + 1), ...cells]);
  }

  // -- the rest --------------------------------------------------------------------------------------------------

  private runs(whole: Runs, query: Query): Runs {
    if (query.since === whole.revision) return { ...whole, whole: false, rows: [], columns: {} };
    const columns = (query.column ?? []) as readonly string[];
    const asked = query.run as readonly string[] | undefined;
    const places = [...whole.rows.keys()]
      .filter((at) => !asked?.length || asked.includes(whole.rows[at]!.id))
      .slice(0, Number(query.limit ?? Infinity));
    return {
      ...whole,
      rows: places.map((at) => whole.rows[at]!),
      columns: Object.fromEntries(columns.map((name) => [name, places.map((at) => whole.columns[name]?.[at] ?? null)])),
    };
  }

  private names(project: string, query: Query): Names {
    const newest =
      query.newest == null
        ? undefined
        : this.packed.runs[project]?.rows.slice(0, Number(query.newest)).map(({ id }) => id);
    const asked = (query.run as readonly string[] | undefined) ?? newest;
    const whole = known(this.packed.names[project]);
    if (!asked?.length) return whole;
    const present = new Set(asked.flatMap((run) => this.packed.metrics[run] ?? []));
    return { ...whole, metrics: whole.metrics.filter(({ name }) => present.has(name)) };
  }

  private compare(request: { project: string; runs: string[] }): Compared {
    const compared = known(this.packed.compared[request.project]);
    const chosen = compared.runs
      .map((run, at) => [run, compared.config[at] ?? {}] as const)
      .filter(([run]) => request.runs.includes(String(run.id)));
    return { ...compared, runs: chosen.map(([run]) => run), config: chosen.map(([, config]) => config) };
  }

  private marks(request: MarksRequest): Marks {
    return { marks: request.runs.flatMap((run) => this.packed.marks[`${run} ${request.x ?? "step"}`]?.marks ?? []) };
  }

  private events(whole: Events, query: Query): Events {
    const kinds = query.kind as readonly string[] | undefined;
    const after = Number(query.after ?? -Infinity);
    const chosen = whole.events.filter(
      ({ kind, key, time }) =>
        (!kinds?.length || kinds.includes(kind)) && (query.key == null || key === query.key) && time > after,
    );
    return { ...whole, events: chosen.slice(-Number(query.limit ?? 1000)), total: chosen.length };
  }

  private console(name: string, query: Query): Console {
    const whole = known(this.packed.answers["/api/run/console"]?.[name]) as Console;
    if (query.offset != null) return { ...whole, lines: [], at_end: true };
    const limit = Number(query.limit ?? whole.lines.length);
    const start = query.start == null ? -limit : Number(query.start);
    if (start < 0) return { ...whole, lines: whole.lines.slice(start) };
    return { ...whole, lines: whole.lines.filter(({ number }) => number >= start).slice(0, limit) };
  }
}

function known<T>(answer: T | undefined, otherwise: string = NOT_HERE): T {
  if (answer === undefined) throw new AnswerError(otherwise, 404);
  return answer;
}

function frame(header: unknown, arrays: readonly Float64Array[]): ArrayBuffer {
  const encoder = new TextEncoder();
  const text = JSON.stringify(header);
  const encoded = encoder.encode(text + " ".repeat((8 - ((4 + encoder.encode(text).length) % 8)) % 8));
  const answer = new ArrayBuffer(4 + encoded.length + 8 * arrays.reduce((sum, array) => sum + array.length, 0));
  new DataView(answer).setUint32(0, encoded.length, true);
  new Uint8Array(answer, 4).set(encoded);
  let at = 4 + encoded.length;
  for (const array of arrays) {
    new Float64Array(answer, at, array.length).set(array);
    at += 8 * array.length;
  }
  return answer;
}

/** The copy that this page carries; null where it is served. */
export async function openExportedPage(): Promise<Transport | null> {
  const text = document.getElementById(PLACE)?.textContent?.trim();
  if (!text) return null;
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const whole = await new Response(stream).arrayBuffer();
  const length = new DataView(whole).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length))) as Packed;
  return new ExportedPage(header, new Float64Array(whole, 4 + length));
}
