// Paints a heatmap: its cells into an image, its labels and its axis.

import type { MatrixAnswer } from "../api";
import { axisTitle } from "../format";
import { plainFont, shortened } from "./canvas_size";
import { type ColorScale, colorStepper, type Palette } from "./color_scale";
import type { Colors } from "./render";
import { kindOfAxis, makeTicks } from "./ticks";

export interface HeatmapProps {
  title: string;
  labels: readonly string[]; // of all rows
  matrix: MatrixAnswer;
  values: Float64Array; // what is coloured: row * columns + column
  scale: ColorScale;
  rows: readonly [number, number]; // first and last that are shown, both included
  chosen: ReadonlyMap<number, string>; // rows whose curves are shown, and their colours
  onChoose: (row: number) => void;
  onZoom: (x: readonly [number, number] | null, rows: readonly [number, number] | null) => void;
  reads: string; // what a colour stands for: "mean", "mean, z-score of its row"
  describe: (row: number, column: number) => string; // a cell in words
}

export const TOP = 6;

export const BOTTOM = 38;

export const RIGHT = 14;

const LABEL = 12; // px that a label needs

const MOST_DOTS = 40_000;

export interface Layout {
  left: number;
  width: number;
  height: number; // of the cells
  top: number;
}

export interface Bitmap {
  pixels: Uint32Array; // columns × lines
  lines: number;
  ill: Uint8Array; // 1: some rows of the cell were not finite; 2: all
}

/** The colours of cells; line `l` stands for rows `first + floor(l * count / lines)` up to the next one's. */
export function paintCells(
  values: Float64Array,
  nonfinite: Float64Array,
  columns: number,
  first: number,
  last: number,
  lines: number,
  scale: ColorScale,
  palette: Palette,
  bad: number,
): Bitmap {
  const pixels = new Uint32Array(columns * lines);
  const ill = new Uint8Array(columns * lines);
  const count = last - first + 1;
  const step = colorStepper(scale);
  const middle = scale.diverges ? 0 : -Infinity;
  for (let line = 0; line < lines; line += 1) {
    const from = first + Math.floor((line * count) / lines);
    const end = Math.max(from + 1, first + Math.floor(((line + 1) * count) / lines));
    for (let column = 0; column < columns; column += 1) {
      let best = NaN;
      let hasIll = false;
      for (let row = from; row < end; row += 1) {
        const at = row * columns + column;
        const value = values[at]!;
        if (nonfinite[at]! > 0) hasIll = true;
        if (Number.isNaN(value)) continue;
        if (Number.isNaN(best) || (middle === 0 ? Math.abs(value) > Math.abs(best) : value > best)) best = value;
      }
      const place = step(best);
      const to = line * columns + column;
      if (place >= 0) pixels[to] = palette.pixels[place]!;
      if (hasIll) {
        ill[to] = Number.isNaN(best) ? 2 : 1;
        if (Number.isNaN(best)) pixels[to] = bad;
      }
    }
  }
  return { pixels, lines, ill };
}

/** Cells, labels, axis. */
export function paintMap(
  context: CanvasRenderingContext2D,
  props: HeatmapProps,
  layout: Layout,
  { pixels, lines, ill }: Bitmap,
  colors: Colors,
  bad: string,
): void {
  const {
    labels,
    matrix,
    rows: [first, last],
    chosen,
  } = props;
  const { columns, edges } = matrix;
  const count = last - first + 1;
  const { left, top, width, height } = layout;
  const image = document.createElement("canvas");
  image.width = columns;
  image.height = lines;
  image
    .getContext("2d")!
    .putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer as ArrayBuffer), columns, lines), 0, 0);
  context.fillStyle = colors.grid;
  context.fillRect(left, top, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(image, left, top, width, height);
  // Where only some rows of a cell were not finite, a dot stands on its colour.
  const [wide, tall] = [width / columns, height / lines];
  const dot = Math.max(3, Math.min(5, wide * 0.6, tall * 0.6));
  let dots = 0;
  context.fillStyle = bad;
  for (let at = 0; at < ill.length && dots < MOST_DOTS; at += 1) {
    if (ill[at] === 0) continue;
    dots += 1;
    const [x, y] = [left + ((at % columns) + 0.5) * wide, top + (Math.floor(at / columns) + 0.5) * tall];
    if (ill[at] === 1) context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
    else if (wide > 7 && tall > 7) {
      context.strokeStyle = colors.background;
      context.beginPath();
      context.moveTo(x - wide / 3, y + tall / 3);
      context.lineTo(x + wide / 3, y - tall / 3);
      context.stroke();
    }
  }
  plainFont(context);
  context.textBaseline = "middle";
  context.textAlign = "right";
  const perRow = height / count;
  const every = Math.max(1, Math.ceil(LABEL / perRow));
  for (let row = first; row <= last; row += 1) {
    const isChosen = chosen.has(row);
    if ((row - first) % every !== 0 && !isChosen) continue;
    const y = top + (row - first + 0.5) * perRow;
    context.fillStyle = isChosen ? chosen.get(row)! : colors.axis;
    if (isChosen) context.fillRect(left - 4, y - Math.max(1, perRow / 2), 3, Math.max(2, perRow));
    if ((row - first) % every === 0) context.fillText(shortened(context, labels[row] ?? "", left - 14), left - 8, y);
  }
  context.fillStyle = colors.axis;
  context.strokeStyle = colors.line;
  context.textAlign = "center";
  context.textBaseline = "top";
  const span = edges[columns]! - edges[0]!;
  const ticks = makeTicks({ min: edges[0]!, max: edges[columns]!, log: false }, kindOfAxis(matrix.x), width, 84);
  context.beginPath();
  ticks.at.forEach((value, at) => {
    const x = left + ((value - edges[0]!) / span) * width;
    context.moveTo(x, top + height);
    context.lineTo(x, top + height + 4);
    const half = context.measureText(ticks.labels[at]!).width / 2;
    context.fillText(ticks.labels[at]!, Math.min(x, left + width + RIGHT - half), top + height + 6);
  });
  context.stroke();
  context.fillText(axisTitle(matrix.x), left + width / 2, top + height + 21);
}
