// Renders a chart's plot: grid, envelopes, lines, extremes and markers.

import { type Bitmap, CROSS, DOWN, drawArea, drawDot, drawLine, drawSign, pixelOf, span, UP } from "./rasterizer";
import type { Ticks } from "./ticks";
import type { Frame, Line, Outliers, Range, Scale } from "./types";
import { bucketsWithin } from "./viewport";

export interface Colors {
  background: string;
  grid: string;
  axis: string;
  text: string;
  line: string;
}

const plain = (value: number): number => value;

export function toPixelX(frame: Frame, value: number): number {
  const to = frame.x.log ? Math.log10 : plain;
  return (frame.width * (to(value) - to(frame.x.min))) / (to(frame.x.max) - to(frame.x.min));
}

export function toPixelY(frame: Frame, value: number): number {
  const to = frame.y.log ? Math.log10 : plain;
  return frame.height - (frame.height * (to(value) - to(frame.y.min))) / (to(frame.y.max) - to(frame.y.min));
}

export function fromPixelX(frame: Frame, place: number): number {
  const { min, max, log } = frame.x;
  const part = place / frame.width;
  return log ? min * (max / min) ** part : min + (max - min) * part;
}

export function fromPixelY(frame: Frame, place: number): number {
  const { min, max, log } = frame.y;
  const part = 1 - place / frame.height;
  return log ? min * (max / min) ** part : min + (max - min) * part;
}

/** Places of values in pixels. Far beyond the picture is far enough: numbers must stay numbers. */
function places(
  values: Float64Array,
  first: number,
  end: number,
  scale: Scale,
  length: number,
  upwards: boolean,
  into: Float64Array,
): void {
  const { log } = scale;
  const min = log ? Math.log10(scale.min) : scale.min;
  const max = log ? Math.log10(scale.max) : scale.max;
  const factor = length / (max - min);
  const most = 8 * length + 4096;
  for (let at = first; at < end; at += 1) {
    const value = values[at]!;
    let place = ((log ? (value > 0 ? Math.log10(value) : NaN) : value) - min) * factor;
    if (place > most) place = most;
    else if (place < -most) place = -most;
    into[at - first] = upwards ? length - place : place;
  }
}

const room: Float64Array[] = [];

/** Arrays to work in: the same ones for each line. */
function arrays(length: number): Float64Array[] {
  if ((room[0]?.length ?? 0) < length) for (let at = 0; at < 4; at += 1) room[at] = new Float64Array(length + 256);
  return room;
}

export function paintGrid(picture: Bitmap, frame: Frame, ticksX: Ticks, ticksY: Ticks, colors: Colors): void {
  const color = pixelOf(colors.grid);
  const thick = Math.max(1, Math.round(frame.ratio));
  ticksX.at.forEach((value, at) => {
    const left = Math.round(toPixelX(frame, value));
    for (let across = 0; across < thick; across += 1)
      span(picture, left + across, 0, frame.height, color, ticksX.labels[at] === "" ? 110 : 256);
  });
  ticksY.at.forEach((value, at) => {
    const top = Math.round(toPixelY(frame, value));
    for (let column = 0; column < frame.width; column += 1)
      span(picture, column, top, top + thick, color, ticksY.labels[at] === "" ? 110 : 256);
  });
}

/** `envelopes`: the areas between minima and maxima too, which are half of the work. */
export function paintLines(picture: Bitmap, frame: Frame, lines: readonly Line[], envelopes = true): void {
  const range: Range = [frame.x.min, frame.x.max];
  const shade = lines.length <= 3 ? 52 : lines.length <= 12 ? 38 : 24;
  const usual = (lines.length > 24 ? 1.15 : 1.5) * frame.ratio;
  for (const line of lines) if (envelopes || line.band !== null) paintEnvelope(picture, frame, range, line, shade);
  for (const line of lines) {
    const color = pixelOf(line.color);
    const thick = line.emphasised ? Math.max(2.4 * frame.ratio, usual) : usual;
    if (line.smoothed)
      paintValues(
        picture,
        frame,
        range,
        line.curve!.mean,
        line.curve!.x,
        line.curve!.x_end,
        line.curve!.length,
        color,
        frame.ratio,
        70,
        0,
      );
    const dash = line.attempt === null ? 0 : Math.round(4 * frame.ratio);
    paintValues(picture, frame, range, line.y, line.x, line.x, line.length, color, thick, dash > 0 ? 140 : 256, dash);
    for (const { x, y } of dotsOf(frame, line)) drawDot(picture, x, y, Math.max(thick, DOT * frame.ratio), color);
  }
  for (const line of lines) paintSpikes(picture, frame, range, line);
  const unit = Math.max(1, Math.round(frame.ratio));
  for (const line of lines)
    for (const { kind, x, y } of markersOf(frame, line))
      drawSign(picture, SIGNS[kind], x, y, unit, pixelOf(line.color));
}

function paintValues(
  picture: Bitmap,
  frame: Frame,
  range: Range,
  values: Float64Array,
  starts: Float64Array,
  ends: Float64Array,
  length: number,
  color: number,
  thick: number,
  strength: number,
  dash: number,
): void {
  const [first, end] = around(starts, ends, length, range);
  if (end <= first) return;
  const [xs, ys] = arrays(end - first) as [Float64Array, Float64Array];
  places(starts, first, end, frame.x, frame.width, false, xs);
  places(values, first, end, frame.y, frame.height, true, ys);
  drawLine(picture, end - first, xs, ys, color, thick, strength, dash);
}

/** One bucket more on each side, so that lines go on to the edge. */
function around(starts: Float64Array, ends: Float64Array, length: number, range: Range): [number, number] {
  const [first, end] = bucketsWithin(starts, ends, length, range);
  return [Math.max(0, first - 1), Math.min(length, end + 1)];
}

function paintEnvelope(picture: Bitmap, frame: Frame, range: Range, line: Line, shade: number): void {
  const { curve, band } = line;
  const strength = line.attempt === null ? shade : shade / 2;
  const [starts, ends, length] =
    band !== null ? [band.x, band.x, band.length] : [curve!.x, curve!.x_end, curve!.length];
  const [first, end] = around(starts, ends, length, range);
  if (end - first < 1) return;
  const [lowXs, lows, highXs, highs] = arrays(end - first) as [Float64Array, Float64Array, Float64Array, Float64Array];
  places(band?.x ?? curve!.min_x, first, end, frame.x, frame.width, false, lowXs);
  places(band?.x ?? curve!.max_x, first, end, frame.x, frame.width, false, highXs);
  places(band?.low ?? curve!.min, first, end, frame.y, frame.height, true, lows);
  places(band?.high ?? curve!.max, first, end, frame.y, frame.height, true, highs);
  // On a log axis a bucket may reach below what can be drawn, though its maximum can be.
  if (frame.y.log)
    for (let at = 0; at < end - first; at += 1)
      if (Number.isNaN(lows[at]!) && !Number.isNaN(highs[at]!)) lows[at] = frame.height + 1;
  drawArea(
    picture,
    end - first,
    lowXs,
    lows,
    highXs,
    highs,
    pixelOf(line.color),
    band === null ? strength : Math.max(strength, 44),
  );
}

/** So few points in sight are drawn one by one. */
const MOST_DOTS = 3000;
/** Half their width, in pixels of the page. */
export const DOT = 1.9;

/** Where rows are drawn as dots, in pixels: where few are in sight, and where a row has no neighbours. */
export function dotsOf(frame: Frame, line: Line): { x: number; y: number }[] {
  const drawn = line.smooth ?? line.curve;
  if (drawn === null) return [];
  const [first, end] = bucketsWithin(drawn.x, drawn.x_end, drawn.length, [frame.x.min, frame.x.max]);
  if (end - first > MOST_DOTS) return [];
  const wide = Math.abs(
    toPixelX(frame, Math.min(drawn.x[end - 1] ?? 0, frame.x.max)) -
      toPixelX(frame, Math.max(drawn.x[first] ?? 0, frame.x.min)),
  );
  const sparse = end - first === 1 || wide / Math.max(1, end - first - 1) > 8 * frame.ratio;
  const dots: { x: number; y: number }[] = [];
  for (let at = first; at < end; at += 1) {
    const y = line.y[at]!;
    if (!Number.isFinite(y) || (frame.y.log && y <= 0)) continue;
    // A row whose neighbours are not finite has no line: without a dot it would not be seen.
    const alone = !Number.isFinite(line.y[at - 1] ?? NaN) && !Number.isFinite(line.y[at + 1] ?? NaN);
    if ((sparse && drawn.count[at]! === 1) || alone)
      dots.push({ x: toPixelX(frame, line.x[at]!), y: toPixelY(frame, y) });
  }
  return dots;
}

/** Extremes of single rows: solid, on top of everything, as far as they reach. */
function paintSpikes(picture: Bitmap, frame: Frame, range: Range, line: Line): void {
  const { curve, spikes } = line;
  if (curve === null) return;
  const color = pixelOf(line.color);
  const thick = Math.max(1, Math.round(frame.ratio));
  for (const spike of spikes) {
    const isHigh = spike >= 0;
    const at = isHigh ? spike : -1 - spike;
    const x = isHigh ? curve.max_x[at]! : curve.min_x[at]!;
    if (x < range[0] || x > range[1]) continue;
    const value = isHigh ? curve.max[at]! : curve.min[at]!;
    const mean = curve.mean[at]!;
    const from = frame.y.log && mean <= 0 ? frame.height : toPixelY(frame, mean);
    const to = frame.y.log && value <= 0 ? frame.height : toPixelY(frame, value);
    if (Math.abs(to - from) < 2) continue;
    const left = Math.min(frame.width - thick, Math.floor(toPixelX(frame, x)));
    for (let across = 0; across < thick; across += 1)
      span(picture, left + across, Math.min(from, to), Math.max(from, to), color, line.attempt === null ? 256 : 140);
  }
}

export type MarkerKind = "up" | "down" | "cross";

export interface Marker {
  kind: MarkerKind;
  x: number; // its middle, in pixels
  y: number;
}

const SIGNS: Record<MarkerKind, readonly number[]> = { up: UP, down: DOWN, cross: CROSS };

/** Signs of what is not finite: arrows for infinities, crosses for the rest, side by side and never on top of each other. */
export function markersOf(frame: Frame, { curve }: Line): Marker[] {
  if (curve === null) return [];
  const unit = Math.max(1, Math.round(frame.ratio));
  const [first, end] = bucketsWithin(curve.x, curve.x_end, curve.length, [frame.x.min, frame.x.max]);
  const signs: Marker[] = [];
  let before = -Infinity;
  for (let at = first; at < end; at += 1) {
    if (curve.nonfinite[at]! === 0) continue;
    const x = toPixelX(frame, (curve.x[at]! + curve.x_end[at]!) / 2);
    if (x - before < 8 * unit) continue;
    before = x;
    const kinds = [curve.first[at]!, curve.last[at]!];
    const kind = kinds.includes(Infinity) ? "up" : kinds.includes(-Infinity) ? "down" : "cross";
    signs.push({ kind, x, y: kind === "up" ? 5 * unit : frame.height - 5 * unit });
  }
  return signs;
}

/** Small arrows at the edge where points lie beyond it. */
export function outlierMarkers(frame: Frame, { places: found }: Outliers): (Marker & { color: string })[] {
  const unit = Math.max(1, Math.round(frame.ratio));
  const taken = new Set<number>();
  const signs: (Marker & { color: string })[] = [];
  for (const { x, above, line } of found) {
    const place = toPixelX(frame, x);
    const column = (Math.round(place / (8 * unit)) + 1) * (above ? 1 : -1);
    if (taken.has(column)) continue;
    taken.add(column);
    signs.push({
      kind: above ? "up" : "down",
      x: place,
      y: above ? 5 * unit : frame.height - 5 * unit,
      color: line.color,
    });
  }
  return signs;
}

export function paintOutliers(picture: Bitmap, frame: Frame, beyond: Outliers): void {
  const unit = Math.max(1, Math.round(frame.ratio));
  for (const { kind, x, y, color } of outlierMarkers(frame, beyond))
    drawSign(picture, SIGNS[kind], x, y, unit, pixelOf(color));
}

export function colorsOf(element: Element): Colors {
  const style = getComputedStyle(element);
  const token = (name: string): string => style.getPropertyValue(name).trim();
  return {
    background: token("--raised"),
    grid: token("--grid"),
    axis: token("--axis"),
    text: token("--text"),
    line: token("--line-strong"),
  };
}
