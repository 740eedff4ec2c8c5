// The canvases of one chart: the layout of the plot, its axes, and the overlay for the cursor.

import { axisTitle } from "../format";
import { type RunName, sameRun } from "./cursor";
import { indexBefore, readingAt } from "./lines";
import { createBitmap, pixelOf, showBitmap, span } from "./rasterizer";
import { type Colors, colorsOf, paintGrid, paintLines, paintOutliers, toPixelX, toPixelY } from "./render";
import { makeTicks, type TickKind, type Ticks } from "./ticks";
import type { Frame, Line, MarkGroup, Outliers, Reading, Scale } from "./types";

/** All that a picture of a chart is made of. */
export interface Drawing {
  lines: readonly Line[];
  x: Scale;
  y: Scale;
  kindX: TickKind;
  kindY: TickKind;
  axis: string;
  beyond: Outliers | null;
  marks: readonly MarkGroup[];
}

/** A drawing's place on a canvas, in pixels of the device. */
export interface Layout {
  left: number;
  top: number;
  frame: Frame;
  ticksX: Ticks;
  ticksY: Ticks;
}

export const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif";
const LABEL = 11;

export function fontAt(ratio: number): string {
  return FONT.replace(/^11px/, `${LABEL * ratio}px`);
}

/** Where everything goes; sizes in pixels of the device. */
export function layOut(
  drawing: Drawing,
  width: number,
  height: number,
  ratio: number,
  measure: (text: string) => number,
): Layout {
  const top = Math.round((drawing.marks.length > 0 ? 16 : 8) * ratio);
  const bottom = Math.round(34 * ratio);
  const inner = Math.max(10, height - top - bottom);
  const ticksY = makeTicks(drawing.y, drawing.kindY, inner, 28 * ratio);
  const widest = Math.max(18 * ratio, ...ticksY.labels.map(measure));
  const left = Math.round(widest + 10 * ratio);
  const across = Math.max(10, width - left - Math.round(10 * ratio));
  const apart = (drawing.kindX === "duration" ? 84 : 68) * ratio;
  const ticksX = makeTicks(drawing.x, drawing.kindX, across, apart);
  return { left, top, frame: { x: drawing.x, y: drawing.y, width: across, height: inner, ratio }, ticksX, ticksY };
}

/** The plot itself, without what stands beside it. */
export function paintPlot(
  context: CanvasRenderingContext2D,
  layout: Layout,
  drawing: Drawing,
  colors: Colors,
  envelopes = true,
): void {
  const { frame, left, top } = layout;
  const picture = createBitmap(frame.width, frame.height, colors.background);
  paintGrid(picture, frame, layout.ticksX, layout.ticksY, colors);
  const markColor = pixelOf(colors.line);
  for (const mark of drawing.marks) {
    const column = Math.round(toPixelX(frame, mark.x));
    for (let across = 0; across < Math.max(1, Math.round(frame.ratio)); across += 1)
      span(picture, column + across, 0, frame.height, markColor, mark.kind === "checkpoint" ? 80 : 170);
  }
  paintLines(picture, frame, drawing.lines, envelopes);
  if (drawing.beyond !== null) paintOutliers(picture, frame, drawing.beyond);
  showBitmap(picture, context, left, top);
}

/** Labels and lines beside the plot. */
export function paintAxes(context: CanvasRenderingContext2D, layout: Layout, drawing: Drawing, colors: Colors): void {
  const { frame, left, top, ticksX, ticksY } = layout;
  const { ratio } = frame;
  context.font = fontAt(ratio);
  context.fillStyle = colors.axis;
  context.textBaseline = "middle";
  context.textAlign = "right";
  ticksY.at.forEach((value, at) => {
    const place = top + toPixelY(frame, value);
    if (place > top - 4 && place < top + frame.height + 4)
      context.fillText(ticksY.labels[at]!, left - 6 * ratio, place);
  });
  context.textBaseline = "top";
  context.textAlign = "center";
  const row = top + frame.height + 5 * ratio;
  ticksX.at.forEach((value, at) => {
    const half = context.measureText(ticksX.labels[at]!).width / 2;
    const place = Math.min(left + toPixelX(frame, value), left + frame.width + 9 * ratio - half);
    context.fillText(ticksX.labels[at]!, place, row);
  });
  context.fillText(axisTitle(drawing.axis), left + frame.width / 2, row + 14 * ratio);
  context.fillStyle = colors.line;
  context.fillRect(left, top + frame.height, frame.width, Math.max(1, Math.round(ratio)));
}

/** Lines that overlap so much that their envelopes tell little while they move; a frame has 16 ms. */
const MANY = 20;
const SLOW_MS = 6;

export class ChartCanvas {
  layout: Layout | null = null;
  drawing: Drawing | null = null;
  colors: Colors = { background: "#ffffff", grid: "#e8ebf0", axis: "#58616e", text: "#1b2027", line: "#b9c0cb" };
  private place: HTMLElement | null = null;
  private canvas: HTMLCanvasElement | null = null;
  private over: HTMLCanvasElement | null = null;
  private width = 0; // of the page
  private height = 0;
  private ratio = 1;
  private took = 0; // ms for the last whole picture

  get frame(): Frame {
    return (
      this.layout?.frame ?? {
        x: { min: 0, max: 1, log: false },
        y: { min: 0, max: 1, log: false },
        width: 1,
        height: 1,
        ratio: 1,
      }
    );
  }

  get ready(): boolean {
    return this.canvas !== null && this.width > 0;
  }

  /** How many points a curve needs to fill the width; 0 until it is known. */
  get points(): number {
    if (this.width === 0) return 0;
    return Math.min(2000, Math.max(100, Math.ceil((this.width * this.ratio) / 1.5 / 100) * 100));
  }

  /** Of the plot with its axes, in pixels of the page. */
  get size(): readonly [number, number] {
    return [this.width, this.height];
  }

  begin(place: HTMLElement): void {
    this.place = place;
    [this.canvas, this.over] = [...place.querySelectorAll("canvas")] as [HTMLCanvasElement, HTMLCanvasElement];
  }

  /** Pixels of the page; whether anything is different now. */
  resize(width: number, height: number, ratio: number): boolean {
    if (width === this.width && height === this.height && ratio === this.ratio) return false;
    [this.width, this.height, this.ratio] = [width, height, ratio];
    for (const canvas of [this.canvas, this.over]) {
      if (canvas === null) continue;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    return true;
  }

  clear(): void {
    this.layout = null;
    this.drawing = null;
    for (const canvas of [this.canvas, this.over])
      canvas?.getContext("2d")?.clearRect(0, 0, canvas.width, canvas.height);
  }

  /** `moves`: one of many pictures while somebody drags; where they are slow, envelopes of many lines wait for the last. */
  paint(drawing: Drawing, moves = false): void {
    const { canvas, place } = this;
    const context = canvas?.getContext("2d");
    if (!canvas || !context || place === null) return;
    const begun = performance.now();
    const envelopes = !moves || drawing.lines.length <= MANY || this.took < SLOW_MS;
    if (!moves) this.colors = colorsOf(place);
    context.font = fontAt(this.ratio);
    this.drawing = drawing;
    this.layout = layOut(drawing, canvas.width, canvas.height, this.ratio, (text) => context.measureText(text).width);
    context.clearRect(0, 0, canvas.width, canvas.height);
    paintPlot(context, this.layout, drawing, this.colors, envelopes);
    paintAxes(context, this.layout, drawing, this.colors);
    if (envelopes) this.took = performance.now() - begun;
  }

  /** What each line has at a place on x. */
  readings(x: number): Reading[] {
    const { drawing, frame } = this;
    if (drawing === null) return [];
    const reach = frame.x.log ? Math.abs(x) * 0.05 : (12 * frame.ratio * (frame.x.max - frame.x.min)) / frame.width;
    return drawing.lines.map((line) => readingAt(line, x, reach)).filter((reading) => reading !== null);
  }

  /** A place on the page, from the plot's own corner, in pixels of the page. */
  pageX(x: number): number {
    return ((this.layout?.left ?? 0) + toPixelX(this.frame, x)) / this.ratio;
  }

  pageY(y: number): number {
    return ((this.layout?.top ?? 0) + toPixelY(this.frame, y)) / this.ratio;
  }

  /** From pixels of the page, counted from the canvas's corner, to pixels of the plot. */
  plotPlace(left: number, top: number): { left: number; top: number; inside: boolean } {
    const { layout, frame, ratio } = this;
    const place = { left: left * ratio - (layout?.left ?? 0), top: top * ratio - (layout?.top ?? 0) };
    return {
      ...place,
      inside:
        layout !== null && place.left >= 0 && place.left <= frame.width && place.top >= 0 && place.top <= frame.height,
    };
  }

  /** The cursor's line, and the run that stands out. */
  drawOver(x: number | null, hovered: RunName | null): void {
    const { over, layout, drawing, colors, ratio } = this;
    const context = over?.getContext("2d");
    if (!over || !context) return;
    context.clearRect(0, 0, over.width, over.height);
    if (layout === null || drawing === null) return;
    const { frame, left, top } = layout;
    context.save();
    context.beginPath();
    context.rect(left, top, frame.width, frame.height);
    context.clip();
    context.translate(left, top);
    const standing =
      hovered === null || drawing.lines.length < 2
        ? []
        : drawing.lines.filter(
            (line) => line.run !== null && sameRun({ project: line.project, run: line.run }, hovered),
          );
    if (standing.length > 0) {
      context.globalAlpha = 0.62;
      context.fillStyle = colors.background;
      context.fillRect(0, 0, frame.width, frame.height);
      context.globalAlpha = 1;
      for (const line of standing) strokeLine(context, frame, line);
    }
    if (x !== null && x >= frame.x.min && x <= frame.x.max) {
      const place = Math.round(toPixelX(frame, x)) + 0.5;
      context.strokeStyle = colors.axis;
      context.lineWidth = 1;
      context.setLineDash([3 * ratio, 3 * ratio]);
      context.beginPath();
      context.moveTo(place, 0);
      context.lineTo(place, frame.height);
      context.stroke();
      context.setLineDash([]);
      for (const reading of this.readings(x)) {
        if (!Number.isFinite(reading.value) || (frame.y.log && reading.value <= 0)) continue;
        if (standing.length > 0 && !standing.includes(reading.line)) continue;
        context.beginPath();
        context.arc(place, toPixelY(frame, reading.value), 2.5 * ratio, 0, 2 * Math.PI);
        context.fillStyle = reading.line.color;
        context.fill();
        context.strokeStyle = colors.background;
        context.stroke();
      }
    }
    context.restore();
  }

  close(): void {
    this.place = this.canvas = this.over = null;
    this.drawing = this.layout = null;
  }
}

/** One line by the canvas's own means: few are drawn so. */
function strokeLine(context: CanvasRenderingContext2D, frame: Frame, line: Line): void {
  const first = Math.max(0, indexBefore(line.x, line.length, frame.x.min));
  const end = Math.min(line.length, indexBefore(line.x, line.length, frame.x.max) + 2);
  const path = (values: Float64Array, xs: Float64Array, from: number, to: number): void => {
    context.beginPath();
    let open = false;
    for (let at = from; at < to; at += 1) {
      const y = values[at]!;
      const drawn = Number.isFinite(y) && (!frame.y.log || y > 0);
      if (drawn && open) context.lineTo(toPixelX(frame, xs[at]!), toPixelY(frame, y));
      else if (drawn) context.moveTo(toPixelX(frame, xs[at]!), toPixelY(frame, y));
      open = drawn;
    }
  };
  context.strokeStyle = line.color;
  context.lineJoin = "round";
  const { curve } = line;
  if (curve !== null) {
    context.globalAlpha = 0.35;
    context.lineWidth = 1;
    const from = Math.max(0, indexBefore(curve.x, curve.length, frame.x.min));
    const to = Math.min(curve.length, indexBefore(curve.x, curve.length, frame.x.max) + 2);
    for (const [values, xs] of [
      [curve.min, curve.min_x],
      [curve.max, curve.max_x],
    ] as const) {
      path(values, xs, from, to);
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  context.lineWidth = 2.2 * frame.ratio;
  path(line.y, line.x, first, end);
  context.stroke();
}
