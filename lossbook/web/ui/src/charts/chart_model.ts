// The state of one chart: which curves it requests, which part of them is in view, and what is painted.

import { effect, signal, untracked } from "@preact/signals";

import { setChart } from "../settings";
import { BandSubscription } from "./bands";
import { ChartCanvas } from "./chart_canvas";
import { BESIDE, headOf, queriesOf, type SeriesQueries, splitGroups } from "./chart_queries";
import { cursor, hovered, moving } from "./cursor";
import { type CurveQuery, CurveSubscription } from "./curve_cache";
import { bandLine, lineOf, stepAlong } from "./lines";
import { MarkSubscription } from "./marks";
import { kindOfAxis, kindOfUnit } from "./ticks";
import type { ChartSeries, ChartSpec, ChartState, Line, Range, Scale } from "./types";
import { clampZoom, extentOf, findOutliers, measureValues, padRange } from "./viewport";

const NOTHING: ChartState = {
  lines: [],
  missing: [],
  loading: true,
  failure: null,
  range: null,
  extent: null,
  beyond: null,
  nonPositive: 0,
  nonPositiveAtLeast: false,
  nonPositiveX: false,
};
/** So long a zoom rests before it is put into the link and asked for. */
const REST_MS = 120;
export class ChartModel {
  readonly state = signal<ChartState>(NOTHING);
  /** Range on y that somebody has drawn; null: what fits. */
  readonly ownY = signal<Range | null>(null);
  /** Outliers are shown in this chart though the others leave them out. */
  readonly showAll = signal(false);
  /** Rows that later attempts have replaced are drawn too. */
  readonly hiddenRows = signal(false);
  readonly canvas = new ChartCanvas();
  readonly marks = new MarkSubscription(() => this.repaint());
  private spec: ChartSpec | null = null;
  private readonly range = signal<Range | null>(null); // where `ownRange`
  private readonly moved = signal<Range | null>(null); // the same, on its way
  private readonly curves = new CurveSubscription(() => this.update());
  private readonly bands = new BandSubscription(() => this.update());
  private lines: readonly Line[] = [];
  private wide: ReadonlyMap<string, Line> = new Map(); // over all of x, by line
  private extent: Range | null = null;
  private frameAsked = 0;
  private heldY: Scale | null = null; // while somebody drags
  private resting: ReturnType<typeof setTimeout> | undefined;
  private readonly stops: (() => void)[] = [];

  begin(): void {
    this.stops.push(
      effect(() => {
        void [moving.value, this.moved.value, this.ownY.value, this.showAll.value];
        this.repaint();
      }),
      effect(() => {
        void [cursor.value, hovered.value];
        untracked(() => this.drawOver());
      }),
    );
  }

  close(): void {
    for (const stop of this.stops) stop();
    this.curves.close();
    this.bands.close();
    this.marks.close();
    clearTimeout(this.resting);
    cancelAnimationFrame(this.frameAsked);
    this.canvas.close();
  }

  // -- what is wanted --------------------------------------------------------------------------------------------

  set(spec: ChartSpec): void {
    const before = this.spec;
    this.spec = spec;
    if (before !== null && before.settings.x !== spec.settings.x) {
      this.range.value = null;
      this.ownY.value = null;
    }
    if (before !== null && before.settings.logY !== spec.settings.logY) this.ownY.value = null;
    this.ask();
  }

  setVisible(visible: boolean): void {
    this.curves.visible = visible;
    if (visible) this.ask();
    else this.bands.want(null, [], false, false);
  }

  get axis(): string {
    return this.spec?.settings.x ?? "step";
  }

  get goal(): string | null {
    return this.spec?.goal ?? null;
  }

  /** The zoom that stands, not one on its way. */
  private restingRange(): Range | null {
    const spec = this.spec!;
    return spec.ownRange ? this.range.peek() : spec.settings.range;
  }

  /** The zoom as it is this moment. */
  private currentRange(): Range | null {
    const spec = this.spec!;
    if (spec.ownRange) return this.moved.peek() ?? this.range.peek();
    const shared = moving.peek();
    return shared !== null && shared.axis === spec.settings.x ? shared.range : spec.settings.range;
  }

  private queries(series: ChartSeries, range: Range | null): SeriesQueries {
    return queriesOf(series, this.spec!.settings, this.canvas.points, range);
  }

  private ask(): void {
    const { spec } = this;
    if (spec === null || this.canvas.points === 0) return;
    const { alone, groups } = splitGroups(this.spec!);
    const range = this.restingRange();
    const wanted: CurveQuery[] = [];
    for (const series of alone) {
      const { whole, smooth, detail, smoothDetail } = this.queries(series, range);
      wanted.push(whole);
      for (const more of [smooth, detail, smoothDetail]) if (more !== null) wanted.push(more);
    }
    for (const series of this.hiddenSeries()) wanted.push(this.queries(series, null).whole);
    this.curves.want(wanted, new Set(spec.series.filter(({ state }) => state === "running").map(({ run }) => run)));
    const members = [...groups.values()];
    const request =
      members.length === 0
        ? null
        : {
            groups: [...groups].map(([name, runs]) => ({
              name,
              project: runs[0]!.project,
              runs: runs.map(({ run }) => run),
            })),
            key: members[0]![0]!.key,
            x: spec.settings.x,
            points: Math.min(this.canvas.points, 600),
            start: range?.[0] ?? null,
            end: range?.[1] ?? null,
            smoothing: spec.settings.smoothing,
          };
    this.bands.want(
      request,
      members.flat().map(({ created }) => created ?? 0),
      members.some((runs) => runs.some(({ state }) => state === "running")),
      this.curves.visible,
    );
    this.marks.want(spec.settings.marks && this.curves.visible ? spec.series : [], spec.settings.x);
    this.update();
  }

  setHiddenRows(shown: boolean): void {
    this.hiddenRows.value = shown;
    this.ask();
  }

  /** Series of single attempts, where somebody wants to see what was replaced. */
  private hiddenSeries(): ChartSeries[] {
    if (!this.hiddenRows.peek() || this.spec === null) return [];
    return splitGroups(this.spec!)
      .alone.filter(({ attempt }) => attempt === undefined)
      .flatMap((series) => {
        const attempts = this.curves.known(this.queries(series, null).whole)?.curve?.attempts ?? 1;
        return attempts < 2
          ? []
          : Array.from({ length: Math.min(attempts - 1, 20) }, (_, at) => ({
              ...series,
              attempt: at + 1,
              label: `${series.label}, attempt ${at + 1}`,
            }));
      });
  }

  // -- what has come ---------------------------------------------------------------------------------------------

  private update(): void {
    if (this.spec === null) return;
    const { settings } = this.spec;
    const { alone, groups } = splitGroups(this.spec!);
    const range = this.restingRange();
    const lines: Line[] = [];
    const wholes: Line[] = [];
    const missing: { label: string; error: string }[] = [];
    let loading = groups.size > 0 && !this.bands.asked;
    for (const series of [...this.hiddenSeries(), ...alone]) {
      const { whole, smooth, detail, smoothDetail } = this.queries(series, series.attempt === undefined ? range : null);
      const known = this.curves.known(whole);
      const head = headOf(series);
      if (known === null || (known.curve === null && known.error === null)) {
        loading ||= series.attempt === undefined;
        continue;
      }
      if (known.curve === null || known.curve.length === 0) {
        if (series.attempt === undefined)
          missing.push({ label: series.label, error: known.error ?? "no rows on this axis" });
        continue;
      }
      const fine = detail === null ? null : (this.curves.known(detail)?.curve ?? null);
      const smoothed =
        smooth === null
          ? null
          : ((smoothDetail !== null && fine !== null ? this.curves.known(smoothDetail)?.curve : null) ??
            this.curves.known(smooth)?.curve ??
            null);
      if (smooth !== null && smoothed === null && this.curves.known(smooth)?.error == null) loading = true;
      wholes.push(lineOf(head, known.curve, smooth === null ? null : (this.curves.known(smooth)?.curve ?? null)));
      lines.push(lineOf(head, fine !== null && fine.length > 0 ? fine : known.curve, smoothed));
    }
    for (const [name, runs] of groups) {
      const band = this.bands.bands.find((one) => one.name === name);
      if (band === undefined) continue;
      const first = runs[0]!;
      if (band.error !== null || band.length === 0) {
        missing.push({ label: first.group ?? "", error: band.error ?? "no rows on this axis" });
        continue;
      }
      const line = bandLine(
        {
          ...headOf(first),
          id: name,
          run: null,
          label: `${first.group} (${runs.length} ${runs.length === 1 ? "run" : "runs"})`,
          runs: runs.length,
          emphasised: runs.some(({ emphasised }) => emphasised),
        },
        band,
      );
      lines.push(line);
      if (range === null) wholes.push(line);
    }
    this.wide = new Map(wholes.map((line) => [line.id, line]));
    this.lines = [...lines].sort((one, other) => Number(one.emphasised) - Number(other.emphasised));
    this.extent = extentOf(wholes.length > 0 ? wholes : lines, settings.logX) ?? this.extent;
    if (wholes.length === 0 && lines.length === 0) this.extent = null;
    this.summary = { missing, loading, failure: this.bands.failure };
    this.repaint();
  }

  private summary: Pick<ChartState, "missing" | "loading" | "failure"> = { missing: [], loading: true, failure: null };

  // -- what is seen ----------------------------------------------------------------------------------------------

  /** Draw anew with the next frame. */
  repaint(): void {
    if (this.frameAsked !== 0) return;
    this.frameAsked = requestAnimationFrame(() => {
      this.frameAsked = 0;
      this.paint();
    });
  }

  private paint(): void {
    const { spec } = this;
    if (spec === null || !this.canvas.ready) return;
    const { settings } = spec;
    const zoom = this.extent === null ? null : this.currentRange();
    const range = zoom === null ? this.extent : clampZoom(zoom, this.extent!, settings.logX);
    // Known in detail, if that reaches; what lies beside it is drawn from the whole curve.
    const lines = range === null ? [] : this.lines.map((line) => this.reaching(line, range));
    const robust = settings.outliers === "robust" && !this.showAll.peek();
    const own = this.ownY.peek();
    let quiet = false;
    let state: ChartState = {
      ...NOTHING,
      ...this.summary,
      lines,
      range: zoom === null ? null : range,
      extent: this.extent,
    };
    if (range !== null) {
      const found = measureValues(lines, range, settings.logY, robust);
      const y = this.held(
        own !== null
          ? { min: own[0], max: own[1], log: settings.logY }
          : padRange(found.robustLow, found.robustHigh, settings.logY),
      );
      const out =
        robust && own === null && (found.low < y.min || found.high > y.max) ? findOutliers(lines, range, y) : null;
      const nonPositiveX = settings.logX && lines.some((line) => (line.curve?.x[0] ?? line.x[0] ?? 1) <= 0);
      state = {
        ...state,
        beyond: out,
        nonPositive: found.nonPositive,
        nonPositiveAtLeast: found.nonPositiveAtLeast,
        nonPositiveX,
      };
      const marks = this.marks.merged(range, settings.logX);
      // Words beside the picture wait until it rests, but for flags, which move with it.
      quiet = this.isMoving && marks.length === 0;
      this.canvas.paint(
        {
          lines,
          x: { min: range[0], max: range[1], log: settings.logX },
          y,
          kindX: kindOfAxis(settings.x),
          kindY: kindOfUnit(spec.unit),
          axis: settings.x,
          beyond: out,
          marks,
        },
        this.isMoving,
      );
    } else this.canvas.clear();
    const before = this.state.peek();
    if (!quiet || before.lines.length !== lines.length || (before.range === null) !== (state.range === null))
      this.state.value = state;
    this.drawOver();
  }

  private get isMoving(): boolean {
    return this.moved.peek() !== null || (!this.spec!.ownRange && moving.peek()?.axis === this.axis);
  }

  /** While somebody drags, the range on y only grows: what moves aside shall not jump up and down. */
  private held(y: Scale): Scale {
    const before = this.heldY ?? this.canvas.drawing?.y ?? null;
    if (!this.isMoving || before === null || before.log !== y.log || this.ownY.peek() !== null) this.heldY = null;
    else this.heldY = { min: Math.min(before.min, y.min), max: Math.max(before.max, y.max), log: y.log };
    return this.heldY ?? y;
  }

  private reaching(line: Line, range: Range): Line {
    const rest = this.restingRange();
    if (rest === null) return line;
    const beside = (rest[1] - rest[0]) * BESIDE;
    return range[0] >= rest[0] - beside && range[1] <= rest[1] + beside ? line : (this.wide.get(line.id) ?? line);
  }

  drawOver(): void {
    const place = cursor.peek();
    this.canvas.drawOver(place !== null && place.axis === this.axis ? place.x : null, hovered.peek());
  }

  /** Moves the cursor from bucket to bucket of the line that is highlighted, or the topmost; null where there is none. */
  stepCursor(by: number): { x: number; y: number } | null {
    const lines = this.canvas.drawing?.lines ?? [];
    const highlighted = hovered.peek();
    const line =
      lines.find((one) => one.run !== null && one.run === highlighted?.run && one.project === highlighted.project) ??
      lines.at(-1);
    if (line === undefined) return null;
    const { min, max } = this.canvas.frame.x;
    const before = cursor.peek();
    const at = stepAlong(line, [min, max], before !== null && before.axis === this.axis ? before.x : null, by);
    if (at === null) return null;
    const x = line.x[at]!;
    cursor.value = { axis: this.axis, x };
    return { x, y: line.y[at]! };
  }

  // -- zoom ------------------------------------------------------------------------------------------------------

  /** Show this part of x now; when it rests, it is asked for and put into the link. */
  zoom(range: Range | null): void {
    const { extent, spec } = this;
    if (spec === null || extent === null) return;
    const { logX, x } = spec.settings;
    let to = range === null ? null : clampZoom(range, extent, logX);
    if (to !== null && to[0] <= extent[0] && to[1] >= extent[1]) to = null;
    if (spec.ownRange) this.moved.value = to ?? extent;
    else moving.value = { axis: x, range: to };
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      if (spec.ownRange) {
        this.range.value = to;
        this.moved.value = null;
        this.ask();
      } else {
        setChart({ range: to });
        moving.value = null;
      }
    }, REST_MS);
  }

  get view(): Range | null {
    const zoom = this.currentRange();
    return zoom ?? this.extent;
  }

  /** Move the view by a part of its width; zoom it by a factor about a place (0 left, 1 right). */
  pan(part: number): void {
    this.change((low, high) => [low + part * (high - low), high + part * (high - low)]);
  }

  zoomBy(factor: number, about = 0.5): void {
    this.change((low, high) => {
      const middle = low + about * (high - low);
      return [middle - (middle - low) * factor, middle + (high - middle) * factor];
    });
  }

  private change(move: (low: number, high: number) => Range): void {
    const { view } = this;
    if (view === null) return;
    const { logX } = this.spec!.settings;
    const [low, high] = logX ? move(Math.log(view[0]), Math.log(view[1])) : move(view[0], view[1]);
    this.zoom(logX ? [Math.exp(low), Math.exp(high)] : [low, high]);
  }

  panY(part: number): void {
    const { y } = this.canvas.frame;
    const to = y.log ? Math.log : (value: number) => value;
    const from = y.log ? Math.exp : (value: number) => value;
    const by = part * (to(y.max) - to(y.min));
    this.ownY.value = [from(to(y.min) + by), from(to(y.max) + by)];
  }

  reset(): void {
    this.ownY.value = null;
    this.showAll.value = false;
    if (this.currentRange() !== null) this.zoom(null);
  }

  resized(): void {
    this.ask();
    this.repaint();
  }
}
