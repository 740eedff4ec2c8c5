// Many series as one picture: a row for each, columns along x, values as colours. Cells are painted one by one into an
// image; where there are more rows than pixels, neighbours share a line and the extreme of them is seen.

import "./heatmap.css";

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import type { MatrixAnswer } from "../api";
import { axisTitle, axisValue, number } from "../format";
import { isDark } from "../theme";
import { areaPalette, divergingPalette, percent, stepper, valueAt, along, type ColorScale, type Palette } from "./color_scale";
import { fileName, save } from "./export";
import { colorsOf, type Colors } from "./render";
import { beginCanvas, plainFont, shortened, useSize } from "./canvas_size";
import { kindOfAxis, ticksOf } from "./ticks";

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

const TOP = 6;
const BOTTOM = 38;
const RIGHT = 14;
const LABEL = 12; // px that a label needs
const DRAGGED = 5;
const MOST_DOTS = 40_000;
const BAR = 220; // px of the legend

const paletteFor = (scale: ColorScale, centred: boolean): Palette => (centred || scale.diverges ? divergingPalette(isDark.value) : areaPalette());

interface Layout {
  left: number;
  width: number;
  height: number; // of the cells
  top: number;
}

interface Bitmap {
  pixels: Uint32Array; // columns × lines
  lines: number;
  ill: Uint8Array; // 1: some rows of the cell were not finite; 2: all
}

/** The colours of cells; line `l` stands for rows `first + floor(l * count / lines)` up to the next one's. */
export function paintCells(values: Float64Array, nonfinite: Float64Array, columns: number, first: number, last: number, lines: number, scale: ColorScale, palette: Palette, bad: number): Bitmap {
  const pixels = new Uint32Array(columns * lines);
  const ill = new Uint8Array(columns * lines);
  const count = last - first + 1;
  const step = stepper(scale);
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

export function Heatmap(props: HeatmapProps & { height: number; centred: boolean; action?: (saves: { png: () => void }) => preact.ComponentChildren }) {
  const { labels, matrix, values, scale, rows, chosen, centred } = props;
  const [firstRow, lastRow] = rows;
  const count = lastRow - firstRow + 1;
  const { columns, edges } = matrix;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const [cursor, setCursor] = useState<{ row: number; column: number } | null>(null);
  const [pointed, setPointed] = useState(false);
  const [drag, setDrag] = useState<{ fromX: number; fromY: number; toX: number; toY: number } | null>(null);
  const press = useRef<{ x: number; y: number } | null>(null);
  const dark = isDark.value;
  const palette = paletteFor(scale, centred);

  const left = useMemo(() => {
    const longest = labels.slice(firstRow, lastRow + 1).reduce((most, label) => Math.max(most, label.length), 0);
    return Math.max(44, Math.min(220, 18 + 6.2 * longest));
  }, [labels, firstRow, lastRow]);
  const layout: Layout = { left, top: TOP, width: Math.max(1, size.width - left - RIGHT), height: Math.max(1, size.height - TOP - BOTTOM) };
  const lines = Math.min(count, Math.max(1, Math.floor(layout.height * size.ratio)));
  const picture = useMemo(
    () => paintCells(values, matrix.nonfinite, columns, firstRow, lastRow, lines, scale, palette, dark ? 0xff808aff : 0xff1e26b3),
    [values, matrix, firstRow, lastRow, lines, scale, palette, dark],
  );

  useLayoutEffect(() => {
    if (canvas.current === null || size.width === 0) return;
    const context = beginCanvas(canvas.current, size);
    paintMap(context, props, layout, picture, colorsOf(canvas.current), dark ? "#ff8a80" : "#b3261e");
  }, [picture, size, chosen, labels, left, dark]);

  useEffect(() => setCursor((before) => (before === null ? null : { row: Math.max(firstRow, Math.min(lastRow, before.row)), column: Math.min(columns - 1, before.column) })), [firstRow, lastRow, columns]);

  const rowAt = (y: number): number => firstRow + Math.floor(((y - layout.top) / layout.height) * count);
  const columnAt = (x: number): number => Math.floor(((x - layout.left) / layout.width) * columns);
  const held = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));
  const xAt = (x: number): number => edges[0]! + held((x - layout.left) / layout.width, 0, 1) * (edges[columns]! - edges[0]!);
  const placeOf = (event: PointerEvent): { x: number; y: number } => {
    const bounds = box.current!.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  };
  const isInside = ({ x, y }: { x: number; y: number }): boolean => x >= layout.left && x < layout.left + layout.width && y >= layout.top && y < layout.top + layout.height;

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { row, column } = cursor ?? { row: firstRow, column: 0 };
    const page = Math.max(1, Math.round(count / 10));
    const moves: Record<string, [number, number]> = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      PageUp: [row - page, column], PageDown: [row + page, column], Home: [row, 0], End: [row, columns - 1],
    };
    const to = moves[event.key];
    if (to !== undefined) {
      setPointed(false);
      setCursor(cursor === null ? { row, column } : { row: held(to[0], firstRow, lastRow), column: held(to[1], 0, columns - 1) });
    } else if (event.key === "Enter" && cursor !== null) props.onChoose(cursor.row);
    else if (event.key === "0") props.onZoom(null, null);
    else if ((event.key === "+" || event.key === "=") && cursor !== null) {
      const [wide, tall] = [Math.max(1, columns / 4), Math.max(1, Math.floor(count / 4))];
      const x = (at: number): number => edges[Math.round(held(at, 0, columns))]!;
      props.onZoom([x(column - wide), x(column + 1 + wide)], [held(row - tall, firstRow, lastRow), held(row + tall, firstRow, lastRow)]);
    } else if (event.key === "Escape" && cursor !== null) setCursor(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const told = cursor === null ? "" : props.describe(cursor.row, cursor.column);
  const cellLeft = cursor === null ? 0 : layout.left + (cursor.column / columns) * layout.width;
  const cellTop = cursor === null ? 0 : layout.top + ((cursor.row - firstRow) / count) * layout.height;
  const [cellWidth, cellHeight] = [Math.max(3, layout.width / columns), Math.max(3, layout.height / count)];
  const savePicture = (): void => void savePng(props, layout, size, picture, palette, dark);
  return (
    <div class="heat-map">
      <div
        ref={box} class="cells" style={{ height: `${props.height}px` }} tabIndex={0} role="grid" aria-rowcount={count} aria-colcount={columns} aria-activedescendant={cursor === null ? undefined : "heat-cell"}
        aria-label={`${props.title}: ${count.toLocaleString("en-US")} layers by ${axisTitle(matrix.x)} from ${axisValue(matrix.x, edges[0]!)} to ${axisValue(matrix.x, edges[columns]!)}. Arrows go from cell to cell, Enter shows a layer’s curve, 0 shows all.`}
        data-rows={count} data-columns={columns} onKeyDown={onKeyDown}
        onPointerDown={(event) => {
          const place = placeOf(event);
          if (event.button !== 0) return;
          if (!isInside(place) && !(place.x < layout.left && place.y >= layout.top && place.y < layout.top + layout.height)) return;
          press.current = place;
          box.current!.setPointerCapture(event.pointerId);
        }}
        onPointerMove={(event) => {
          const place = placeOf(event);
          const from = press.current;
          if (from === null) {
            setPointed(true);
            setCursor(isInside(place) ? { row: held(rowAt(place.y), firstRow, lastRow), column: held(columnAt(place.x), 0, columns - 1) } : null);
          } else if (drag !== null || Math.hypot(place.x - from.x, place.y - from.y) > DRAGGED) {
            // A drag mostly along one direction zooms in that alone.
            const [wide, tall] = [Math.abs(place.x - from.x), Math.abs(place.y - from.y)];
            const onlyX = tall < 12 || wide > 12 * tall;
            const onlyRows = wide < 12 || tall > 12 * wide || from.x < layout.left;
            setDrag({
              fromX: onlyRows ? layout.left : held(Math.min(from.x, place.x), layout.left, layout.left + layout.width), toX: onlyRows ? layout.left + layout.width : held(Math.max(from.x, place.x), layout.left, layout.left + layout.width),
              fromY: onlyX && !onlyRows ? layout.top : held(Math.min(from.y, place.y), layout.top, layout.top + layout.height), toY: onlyX && !onlyRows ? layout.top + layout.height : held(Math.max(from.y, place.y), layout.top, layout.top + layout.height),
            });
          }
        }}
        onPointerUp={(event) => {
          const from = press.current;
          press.current = null;
          if (from === null) return;
          if (drag === null) {
            props.onChoose(held(rowAt(placeOf(event).y), firstRow, lastRow));
            return;
          }
          setDrag(null);
          const wholeX = drag.toX - drag.fromX > layout.width - 1;
          const wholeRows = drag.toY - drag.fromY > layout.height - 1;
          const x: readonly [number, number] = [xAt(drag.fromX), xAt(drag.toX)];
          props.onZoom(wholeX ? [edges[0]!, edges[columns]!] : x, wholeRows ? [firstRow, lastRow] : [held(rowAt(drag.fromY), firstRow, lastRow), held(rowAt(drag.toY - 0.5), firstRow, lastRow)]);
        }}
        onPointerCancel={() => {
          press.current = null;
          setDrag(null);
        }}
        onPointerLeave={() => press.current === null && pointed && setCursor(null)}
        onDblClick={() => props.onZoom(null, null)}
      >
        <canvas ref={canvas} aria-hidden="true" />
        {cursor !== null && (
          <div role="row" aria-rowindex={cursor.row - firstRow + 1}>
            <div id="heat-cell" role="gridcell" aria-colindex={cursor.column + 1} class="cell-mark" style={{ left: `${cellLeft - 1}px`, top: `${cellTop - 1}px`, width: `${cellWidth + 2}px`, height: `${cellHeight + 2}px` }}><span class="unseen">{told}</span></div>
          </div>
        )}
        {drag !== null && <div class="scatter-selection" style={{ left: `${drag.fromX}px`, top: `${drag.fromY}px`, width: `${drag.toX - drag.fromX}px`, height: `${drag.toY - drag.fromY}px` }} />}
        {cursor !== null && drag === null && (
          <div class="heat-tip" style={{ ...(cellLeft > size.width / 2 ? { right: `${size.width - cellLeft + 10}px` } : { left: `${cellLeft + cellWidth + 10}px` }), ...(cellTop > size.height / 2 ? { bottom: `${size.height - cellTop + 4}px` } : { top: `${cellTop + cellHeight + 4}px` }) }}>
            <CellFacts labels={labels} matrix={matrix} values={values} row={cursor.row} column={cursor.column} reads={props.reads} />
          </div>
        )}
      </div>
      <div class="foot">
        <Legend scale={scale} palette={palette} reads={props.reads} />
        <p class="soft" role="status">
          {count > lines ? `${count.toLocaleString("en-US")} rows on ${lines.toLocaleString("en-US")} lines of pixels: each shows the ${scale.diverges || centred ? "furthest from 0" : "greatest"} of its rows. ` : ""}
          {matrix.beyond > 0 ? `Made of rollup buckets: a row may stand up to ${number(matrix.beyond, 2)} (${axisTitle(matrix.x)}) beside its cell. ` : ""}
        </p>
        <span class="space" />
        {props.action?.({ png: savePicture })}
      </div>
    </div>
  );
}

function CellFacts(props: { labels: readonly string[]; matrix: MatrixAnswer; values: Float64Array; row: number; column: number; reads: string }) {
  const { labels, matrix, row, column } = props;
  const at = row * matrix.columns + column;
  const value = props.values[at]!;
  const ill = matrix.nonfinite[at]!;
  const own = props.reads !== "mean" && props.reads !== "minimum" && props.reads !== "maximum";
  return (
    <>
      <b class="cut"><bdi>{labels[row]}</bdi></b>
      <span class="soft">{axisTitle(matrix.x)} {axisValue(matrix.x, matrix.edges[column]!)} – {axisValue(matrix.x, matrix.edges[column + 1]!)}</span>
      {matrix.count[at] === 0 && ill === 0 ? <span class="soft">no row here</span> : (
        <dl>
          {own && <div><dt>{props.reads}</dt><dd>{number(value, 4)}</dd></div>}
          <div><dt>mean</dt><dd>{number(matrix.mean[at])}</dd></div>
          <div><dt>min</dt><dd>{number(matrix.min[at])}</dd></div>
          <div><dt>max</dt><dd>{number(matrix.max[at])}</dd></div>
          <div><dt>rows</dt><dd>{number(matrix.count[at])}</dd></div>
          {ill > 0 && <div class="bad"><dt>not finite</dt><dd>{number(ill)}</dd></div>}
        </dl>
      )}
    </>
  );
}

function legendTicks(scale: ColorScale): number[] {
  const [low, high] = [along(scale, scale.low), along(scale, scale.high)];
  return [0, 0.5, 1].map((part) => valueAt(scale, low + part * (high - low)));
}

function Legend(props: { scale: ColorScale; palette: Palette; reads: string }) {
  const { scale, palette } = props;
  const stops = Array.from({ length: 17 }, (_, at) => palette.css[Math.round((at * 255) / 16)]).join(", ");
  const notes = [scale.below > 0 && `${percent(scale.below)} below`, scale.above > 0 && `${percent(scale.above)} above`].filter((note) => note !== false).join(", ");
  return (
    <div class="heat-legend" role="img" aria-label={`Colour scale of ${props.reads}, ${scale.kind}, from ${number(scale.low, 3)} to ${number(scale.high, 3)}${notes === "" ? "" : `; ${notes}`}`}>
      <span class={`clip ${scale.below > 0 ? "" : "none"}`} style={{ background: palette.css[0] }} title={scale.below > 0 ? `${percent(scale.below)} of the cells lie below` : ""}>{scale.below > 0 ? "◂" : ""}</span>
      <span class="ramp">
        <i style={{ background: `linear-gradient(to right, ${stops})`, width: `${BAR}px` }} />
        <span class="ticks">{legendTicks(scale).map((value, at) => <span key={at}>{number(value, 3)}</span>)}</span>
      </span>
      <span class={`clip ${scale.above > 0 ? "" : "none"}`} style={{ background: palette.css.at(-1) }} title={scale.above > 0 ? `${percent(scale.above)} of the cells lie above` : ""}>{scale.above > 0 ? "▸" : ""}</span>
      <span class="notes">
        <span>{props.reads}{scale.kind === "linear" ? "" : scale.kind === "log" ? ", logarithmic" : ", symmetric logarithmic"}</span>
        {notes !== "" && <span class="soft">{notes}</span>}
        {scale.unseen > 0 && <span class="soft">{scale.unseen.toLocaleString("en-US")} cells are 0 or less</span>}
      </span>
      <span class="ill"><i aria-hidden="true" /> not finite</span>
    </div>
  );
}

/** Cells, labels, axis. */
function paintMap(context: CanvasRenderingContext2D, props: HeatmapProps, layout: Layout, { pixels, lines, ill }: Bitmap, colors: Colors, bad: string): void {
  const { labels, matrix, rows: [first, last], chosen } = props;
  const { columns, edges } = matrix;
  const count = last - first + 1;
  const { left, top, width, height } = layout;
  const image = document.createElement("canvas");
  image.width = columns;
  image.height = lines;
  image.getContext("2d")!.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer as ArrayBuffer), columns, lines), 0, 0);
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
  const ticks = ticksOf({ min: edges[0]!, max: edges[columns]!, log: false }, kindOfAxis(matrix.x), width, 84);
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

async function savePng(props: HeatmapProps, layout: Layout, size: { width: number; height: number }, picture: Bitmap, palette: Palette, dark: boolean): Promise<void> {
  const scale = 2;
  const [head, foot] = [28, 40];
  const canvas = document.createElement("canvas");
  canvas.width = size.width * scale;
  canvas.height = (size.height + head + foot) * scale;
  const context = canvas.getContext("2d")!;
  const colors = colorsOf(document.documentElement);
  context.scale(scale, scale);
  context.fillStyle = colors.background;
  context.fillRect(0, 0, size.width, size.height + head + foot);
  context.fillStyle = colors.text;
  plainFont(context);
  context.font = context.font.replace("11px", "600 13px");
  context.textBaseline = "middle";
  context.fillText(shortened(context, props.title, size.width - 24), 12, 16);
  context.translate(0, head);
  paintMap(context, props, layout, picture, colors, dark ? "#ff8a80" : "#b3261e");
  const y = size.height + 6;
  palette.css.forEach((color, at) => {
    context.fillStyle = color;
    context.fillRect(layout.left + (at * BAR) / 256, y, BAR / 256 + 0.5, 10);
  });
  context.fillStyle = colors.text;
  context.textBaseline = "top";
  legendTicks(props.scale).forEach((value, at) => {
    context.textAlign = at === 0 ? "left" : at === 1 ? "center" : "right";
    context.fillText(number(value, 3), layout.left + (at * BAR) / 2, y + 14);
  });
  context.textAlign = "left";
  const clipped = [props.scale.below > 0 && `${percent(props.scale.below)} below`, props.scale.above > 0 && `${percent(props.scale.above)} above`].filter((note) => note !== false);
  context.fillText([`${props.reads} (${props.scale.kind})`, ...clipped].join(", "), layout.left + BAR + 16, y);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (blob !== null) save(fileName(props.title, "png"), blob, "image/png");
}
