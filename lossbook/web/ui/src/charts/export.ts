// Exports a chart: PNG at twice the resolution, SVG with real lines and text, CSV of exactly what is drawn.

import { csvCell } from "../components/table_text";
import { axisTitle, number } from "../format";
import { type ChartCanvas, type Drawing, fontAt, type Layout, layOut, paintAxes, paintPlot } from "./chart_canvas";
import { lastReading, nearestIndex } from "./lines";
import { DOT, dotsOf, type Marker, markersOf, outlierMarkers, toPixelX, toPixelY } from "./render";
import type { Frame, Line } from "./types";
import { bucketsWithin } from "./viewport";

const SCALE = 2;
const TITLE = 28;
const LEGEND_ROW = 16;

export function save(name: string, content: BlobPart, type: string): void {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // The browser reads it after the click; a minute is enough for any.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

export function fileName(title: string, ending: string): string {
  return `${title.replace(/[^\w.-]+/g, "_").replace(/^[_.]+|_+$/g, "") || "chart"}.${ending}`;
}

interface LegendPlace {
  line: Line;
  text: string;
  left: number;
  row: number;
}

/** Legend entries in rows, for a given width in pixels of the page. */
function placeLegend(
  lines: readonly Line[],
  width: number,
  measure: (text: string) => number,
): { places: LegendPlace[]; rows: number } {
  const places: LegendPlace[] = [];
  let [left, row] = [12, 0];
  for (const line of lines) {
    const last = lastReading(line);
    const text = `${line.label}${last === null ? "" : `  ${number(last.value)}`}`;
    const wide = measure(text) + 30;
    if (left > 12 && left + wide > width) [left, row] = [12, row + 1];
    places.push({ line, text, left, row });
    left += wide;
  }
  return { places, rows: lines.length === 0 ? 0 : row + 1 };
}

export async function pngOf(chart: ChartCanvas, title: string): Promise<Blob | null> {
  const { drawing, colors } = chart;
  if (drawing === null) return null;
  const [width, height] = chart.size;
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  context.font = fontAt(1);
  const legend = placeLegend(drawing.lines, width, (text) => context.measureText(text).width);
  const whole = TITLE + height + legend.rows * LEGEND_ROW + 10;
  canvas.width = width * SCALE;
  canvas.height = whole * SCALE;
  context.fillStyle = colors.background;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = fontAt(SCALE);
  const layout = layOut(drawing, canvas.width, height * SCALE, SCALE, (text) => context.measureText(text).width);
  const below: Layout = { ...layout, top: layout.top + TITLE * SCALE };
  paintPlot(context, below, drawing, colors);
  paintAxes(context, below, drawing, colors);
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = colors.text;
  context.font = fontAt(SCALE).replace(/^/, "600 ").replace("22px", "26px");
  context.fillText(title, 12 * SCALE, (TITLE / 2) * SCALE);
  context.font = fontAt(SCALE);
  for (const { line, text, left, row } of legend.places) {
    const middle = (TITLE + height + LEGEND_ROW * (row + 0.5)) * SCALE;
    context.fillStyle = line.color;
    context.fillRect(left * SCALE, middle - 2 * SCALE, 12 * SCALE, 3 * SCALE);
    context.fillStyle = colors.text;
    context.fillText(text, (left + 17) * SCALE, middle);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

export async function savePng(canvas: ChartCanvas, title: string): Promise<void> {
  const blob = await pngOf(canvas, title);
  if (blob !== null) save(fileName(title, "png"), blob, "image/png");
}

// -- SVG ---------------------------------------------------------------------------------------------------------

/** Text that may stand in XML: what may not at all is left out. */
function escaped(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "")
    .replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

const short = (place: number): string => String(Math.round(place * 100) / 100);

function pathOf(frame: Frame, xs: Float64Array, ys: Float64Array, first: number, end: number): string {
  const parts: string[] = [];
  let open = false;
  for (let at = first; at < end; at += 1) {
    const y = ys[at]!;
    const drawn = Number.isFinite(y) && !(frame.y.log && y <= 0) && !(frame.x.log && xs[at]! <= 0);
    if (drawn) parts.push(`${open ? "L" : "M"}${short(toPixelX(frame, xs[at]!))} ${short(toPixelY(frame, y))}`);
    open = drawn;
  }
  return parts.join("");
}

/** The area between two lines, one closed piece for each stretch without a gap. */
function areaOf(
  frame: Frame,
  lowXs: Float64Array,
  lows: Float64Array,
  highXs: Float64Array,
  highs: Float64Array,
  first: number,
  end: number,
): string {
  const drawn = (at: number): boolean =>
    Number.isFinite(lows[at]!) &&
    Number.isFinite(highs[at]!) &&
    !(frame.y.log && highs[at]! <= 0) &&
    !(frame.x.log && lowXs[at]! <= 0);
  const yOf = (value: number): string => short(frame.y.log && value <= 0 ? frame.height + 1 : toPixelY(frame, value));
  const pieces: string[] = [];
  for (let at = first; at < end; at += 1) {
    if (!drawn(at)) continue;
    let to = at;
    while (to + 1 < end && drawn(to + 1)) to += 1;
    const there: string[] = [];
    const back: string[] = [];
    for (let point = at; point <= to; point += 1) {
      there.push(`${short(toPixelX(frame, highXs[point]!))} ${yOf(highs[point]!)}`);
      back.push(`${short(toPixelX(frame, lowXs[point]!))} ${yOf(lows[point]!)}`);
    }
    if (to > at) pieces.push(`M${there.join("L")}L${back.reverse().join("L")}Z`);
    at = to;
  }
  return pieces.join("");
}

/** The signs that the picture has, seven pixels wide. */
function svgSign({ kind, x, y }: Marker, color: string): string {
  if (kind === "cross")
    return `<path class="sign" d="M${short(x - 3)} ${short(y - 3)}l6 6m0 -6l-6 6" stroke="${color}" stroke-width="1.6"/>`;
  const up = kind === "up" ? 1 : -1;
  return `<path class="sign" d="M${short(x)} ${short(y - 3.5 * up)}l3.5 ${3.5 * up}h-2v${3.5 * up}h-3v${-3.5 * up}h-2Z" fill="${color}"/>`;
}

function svgLine(frame: Frame, line: Line): string {
  const { curve, band, spikes, color } = line;
  const range: [number, number] = [frame.x.min, frame.x.max];
  const around = (starts: Float64Array, ends: Float64Array, length: number): [number, number] => {
    const [first, end] = bucketsWithin(starts, ends, length, range);
    return [Math.max(0, first - 1), Math.min(length, end + 1)];
  };
  const parts: string[] = [`<title>${escaped(line.label)}</title>`];
  const [from, to] =
    band !== null ? around(band.x, band.x, band.length) : around(curve!.x, curve!.x_end, curve!.length);
  const area =
    band !== null
      ? areaOf(frame, band.x, band.low, band.x, band.high, from, to)
      : areaOf(frame, curve!.min_x, curve!.min, curve!.max_x, curve!.max, from, to);
  if (area !== "") parts.push(`<path d="${area}" fill="${color}" fill-opacity="0.16" stroke="none"/>`);
  if (line.smoothed)
    parts.push(
      `<path d="${pathOf(frame, curve!.x, curve!.mean, from, to)}" stroke="${color}" stroke-opacity="0.3" stroke-width="1"/>`,
    );
  const [first, end] = around(line.x, line.x, line.length);
  parts.push(
    `<path d="${pathOf(frame, line.x, line.y, first, end)}" stroke="${color}" stroke-width="${line.emphasised ? 2.4 : 1.5}"${line.attempt === null ? "" : ' stroke-dasharray="4 4" stroke-opacity="0.55"'}/>`,
  );
  for (const spike of spikes) {
    const at = spike >= 0 ? spike : -1 - spike;
    const x = spike >= 0 ? curve!.max_x[at]! : curve!.min_x[at]!;
    const [low, high] = [curve!.mean[at]!, spike >= 0 ? curve!.max[at]! : curve!.min[at]!];
    if (x < range[0] || x > range[1] || (frame.y.log && (low <= 0 || high <= 0))) continue;
    parts.push(
      `<path d="M${short(toPixelX(frame, x))} ${short(toPixelY(frame, low))}V${short(toPixelY(frame, high))}" stroke="${color}" stroke-width="1"/>`,
    );
  }
  for (const { x, y } of dotsOf(frame, line))
    parts.push(`<circle cx="${short(x)}" cy="${short(y)}" r="${DOT}" fill="${color}"/>`);
  for (const sign of markersOf(frame, line)) parts.push(svgSign(sign, color));
  return `<g fill="none" stroke-linejoin="round">${parts.join("")}</g>`;
}

export function svgOf(
  drawing: Drawing,
  title: string,
  size: readonly [number, number],
  colors: ChartCanvas["colors"],
  measure: (text: string) => number,
): string {
  const [width, height] = size;
  const layout = layOut(drawing, width, height, 1, measure);
  const { frame, left, ticksX, ticksY } = layout;
  const top = layout.top + TITLE;
  const legend = placeLegend(drawing.lines, width, measure);
  const whole = TITLE + height + legend.rows * LEGEND_ROW + 10;
  const text = (x: number, y: number, anchor: string, words: string, more = ""): string =>
    `<text x="${short(x)}" y="${short(y)}" text-anchor="${anchor}"${more}>${escaped(words)}</text>`;
  const bottom = top + frame.height;
  return [
    `<?xml version="1.0" encoding="UTF-8"?>`,
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${whole}" viewBox="0 0 ${width} ${whole}" font-family="system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif" font-size="11">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${whole}" fill="${colors.background}"/>`,
    `<clipPath id="plot"><rect x="0" y="0" width="${frame.width}" height="${frame.height}"/></clipPath>`,
    `<g stroke="${colors.grid}">`,
    ...ticksX.at.map((value) => `<path d="M${short(left + toPixelX(frame, value))} ${top}V${bottom}"/>`),
    ...ticksY.at.map((value) => `<path d="M${left} ${short(top + toPixelY(frame, value))}H${left + frame.width}"/>`),
    ...drawing.marks.map(
      ({ x }) => `<path d="M${short(left + toPixelX(frame, x))} ${top}V${bottom}" stroke="${colors.line}"/>`,
    ),
    `</g>`,
    `<g transform="translate(${left} ${top})" clip-path="url(#plot)">`,
    ...drawing.lines.map((line) => svgLine(frame, line)),
    ...(drawing.beyond === null ? [] : outlierMarkers(frame, drawing.beyond).map((sign) => svgSign(sign, sign.color))),
    `</g>`,
    `<path d="M${left} ${bottom}H${left + frame.width}" stroke="${colors.line}"/>`,
    `<g fill="${colors.axis}">`,
    ...ticksX.at.map((value, at) => text(left + toPixelX(frame, value), bottom + 14, "middle", ticksX.labels[at]!)),
    ...ticksY.at.map((value, at) => text(left - 6, top + toPixelY(frame, value) + 4, "end", ticksY.labels[at]!)),
    text(left + frame.width / 2, bottom + 29, "middle", axisTitle(drawing.axis)),
    `</g>`,
    `<g fill="${colors.text}">`,
    text(12, TITLE / 2 + 4, "start", title, ' font-weight="600" font-size="13"'),
    ...legend.places.map(({ line, text: words, left: x, row }) => {
      const middle = TITLE + height + LEGEND_ROW * (row + 0.5);
      return `<rect x="${short(x)}" y="${short(middle - 2)}" width="12" height="3" fill="${line.color}"/>${text(x + 17, middle + 4, "start", words)}`;
    }),
    `</g>`,
    `</svg>`,
  ].join("\n");
}

export function saveSvg(canvas: ChartCanvas, title: string): void {
  const { drawing } = canvas;
  if (drawing === null) return;
  const context = document.createElement("canvas").getContext("2d")!;
  context.font = fontAt(1);
  save(
    fileName(title, "svg"),
    svgOf(drawing, title, canvas.size, canvas.colors, (text) => context.measureText(text).width),
    "image/svg+xml",
  );
}

// -- CSV ---------------------------------------------------------------------------------------------------------

const exact = (value: number): string =>
  Number.isNaN(value) ? "nan" : value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(value);

export function csvOf(drawing: Drawing): string {
  const withSmoothed = drawing.lines.some(({ smoothed }) => smoothed);
  const rows = [`run,x,x_end,min,max,mean,last,count,nonfinite${withSmoothed ? ",smoothed" : ""}`];
  const range: [number, number] = [drawing.x.min, drawing.x.max];
  for (const { label, curve, band, smooth } of drawing.lines) {
    const name = csvCell(label);
    if (band !== null) {
      const [first, end] = bucketsWithin(band.x, band.x, band.length, range);
      for (let at = first; at < end; at += 1)
        rows.push(
          [
            name,
            ...[band.x, band.x, band.low, band.high, band.mean, band.mean].map((array) => exact(array[at]!)),
            String(band.count[at]!),
            "0",
            ...(withSmoothed ? [""] : []),
          ].join(","),
        );
      continue;
    }
    const { x, x_end, min, max, mean, last, count, nonfinite, length } = curve!;
    const [first, end] = bucketsWithin(x, x_end, length, range);
    for (let at = first; at < end; at += 1) {
      const cells = [x, x_end, min, max, mean, last, count, nonfinite].map((array) => exact(array[at]!));
      // Buckets of the two curves begin at the same rows, unless the finer one is not here yet.
      const same = smooth === null ? -1 : nearestIndex(smooth.x, smooth.length, x[at]!);
      if (withSmoothed) cells.push(same < 0 ? "" : exact(smooth!.mean[same]!));
      rows.push([name, ...cells].join(","));
    }
  }
  return `${rows.join("\r\n")}\r\n`;
}

export function saveCsv(canvas: ChartCanvas, title: string): void {
  if (canvas.drawing !== null) save(fileName(title, "csv"), csvOf(canvas.drawing), "text/csv");
}
