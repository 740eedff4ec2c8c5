// Draws many series as a heatmap: a row for each, x in columns, values as colours. When rows outnumber pixels,
// neighbours
// share a line and its extreme is shown.

import "./heatmap.css";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { MatrixAnswer } from "../api";
import { axisTitle, axisValue, number } from "../format";
import { isDark } from "../theme";
import { plainFont, prepareCanvas, shortened, useSize } from "./canvas_size";
import { areaPalette, type ColorScale, divergingPalette, type Palette, percent } from "./color_scale";
import { fileName, save } from "./export";
import { BAR, Legend, legendTicks } from "./heatmap_legend";
import {
  type Bitmap,
  BOTTOM,
  type HeatmapProps,
  type Layout,
  paintCells,
  paintMap,
  RIGHT,
  TOP,
} from "./heatmap_render";
import { colorsOf } from "./render";

const DRAGGED = 5;

const paletteFor = (scale: ColorScale, centred: boolean): Palette =>
  centred || scale.diverges ? divergingPalette(isDark.value) : areaPalette();

export function Heatmap(
  props: HeatmapProps & {
    height: number;
    centred: boolean;
    action?: (saves: { png: () => void }) => preact.ComponentChildren;
  },
) {
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
  const layout: Layout = {
    left,
    top: TOP,
    width: Math.max(1, size.width - left - RIGHT),
    height: Math.max(1, size.height - TOP - BOTTOM),
  };
  const lines = Math.min(count, Math.max(1, Math.floor(layout.height * size.ratio)));
  const picture = useMemo(
    () =>
      paintCells(
        values,
        matrix.nonfinite,
        columns,
        firstRow,
        lastRow,
        lines,
        scale,
        palette,
        dark ? 0xff808aff : 0xff1e26b3,
      ),
    [values, matrix, firstRow, lastRow, lines, scale, palette, dark],
  );

  useLayoutEffect(() => {
    if (canvas.current === null || size.width === 0) return;
    const context = prepareCanvas(canvas.current, size);
    paintMap(context, props, layout, picture, colorsOf(canvas.current), dark ? "#ff8a80" : "#b3261e");
  }, [picture, size, chosen, labels, left, dark]);

  useEffect(
    () =>
      setCursor((before) =>
        before === null
          ? null
          : { row: Math.max(firstRow, Math.min(lastRow, before.row)), column: Math.min(columns - 1, before.column) },
      ),
    [firstRow, lastRow, columns],
  );

  const rowAt = (y: number): number => firstRow + Math.floor(((y - layout.top) / layout.height) * count);
  const columnAt = (x: number): number => Math.floor(((x - layout.left) / layout.width) * columns);
  const held = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));
  const xAt = (x: number): number =>
    edges[0]! + held((x - layout.left) / layout.width, 0, 1) * (edges[columns]! - edges[0]!);
  const placeOf = (event: PointerEvent): { x: number; y: number } => {
    const bounds = box.current!.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  };
  const isInside = ({ x, y }: { x: number; y: number }): boolean =>
    x >= layout.left && x < layout.left + layout.width && y >= layout.top && y < layout.top + layout.height;

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { row, column } = cursor ?? { row: firstRow, column: 0 };
    const page = Math.max(1, Math.round(count / 10));
    const moves: Record<string, [number, number]> = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      PageUp: [row - page, column],
      PageDown: [row + page, column],
      Home: [row, 0],
      End: [row, columns - 1],
    };
    const to = moves[event.key];
    if (to !== undefined) {
      setPointed(false);
      setCursor(
        cursor === null
          ? { row, column }
          : { row: held(to[0], firstRow, lastRow), column: held(to[1], 0, columns - 1) },
      );
    } else if (event.key === "Enter" && cursor !== null) props.onChoose(cursor.row);
    else if (event.key === "0") props.onZoom(null, null);
    else if ((event.key === "+" || event.key === "=") && cursor !== null) {
      const [wide, tall] = [Math.max(1, columns / 4), Math.max(1, Math.floor(count / 4))];
      const x = (at: number): number => edges[Math.round(held(at, 0, columns))]!;
      props.onZoom(
        [x(column - wide), x(column + 1 + wide)],
        [held(row - tall, firstRow, lastRow), held(row + tall, firstRow, lastRow)],
      );
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
        ref={box}
        class="cells"
        style={{ height: `${props.height}px` }}
        tabIndex={0}
        role="grid"
        aria-rowcount={count}
        aria-colcount={columns}
        aria-activedescendant={cursor === null ? undefined : "heat-cell"}
        aria-label={`${props.title}: ${count.toLocaleString("en-US")} layers by ${axisTitle(matrix.x)} from ${axisValue(matrix.x, edges[0]!)} to ${axisValue(matrix.x, edges[columns]!)}. Arrows go from cell to cell, Enter shows a layer’s curve, 0 shows all.`}
        data-rows={count}
        data-columns={columns}
        onKeyDown={onKeyDown}
        onPointerDown={(event) => {
          const place = placeOf(event);
          if (event.button !== 0) return;
          if (
            !isInside(place) &&
            !(place.x < layout.left && place.y >= layout.top && place.y < layout.top + layout.height)
          )
            return;
          press.current = place;
          box.current!.setPointerCapture(event.pointerId);
        }}
        onPointerMove={(event) => {
          const place = placeOf(event);
          const from = press.current;
          if (from === null) {
            setPointed(true);
            setCursor(
              isInside(place)
                ? { row: held(rowAt(place.y), firstRow, lastRow), column: held(columnAt(place.x), 0, columns - 1) }
                : null,
            );
          } else if (drag !== null || Math.hypot(place.x - from.x, place.y - from.y) > DRAGGED) {
            // A drag mostly along one direction zooms in that alone.
            const [wide, tall] = [Math.abs(place.x - from.x), Math.abs(place.y - from.y)];
            const onlyX = tall < 12 || wide > 12 * tall;
            const onlyRows = wide < 12 || tall > 12 * wide || from.x < layout.left;
            setDrag({
              fromX: onlyRows ? layout.left : held(Math.min(from.x, place.x), layout.left, layout.left + layout.width),
              toX: onlyRows
                ? layout.left + layout.width
                : held(Math.max(from.x, place.x), layout.left, layout.left + layout.width),
              fromY:
                onlyX && !onlyRows
                  ? layout.top
                  : held(Math.min(from.y, place.y), layout.top, layout.top + layout.height),
              toY:
                onlyX && !onlyRows
                  ? layout.top + layout.height
                  : held(Math.max(from.y, place.y), layout.top, layout.top + layout.height),
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
          props.onZoom(
            wholeX ? [edges[0]!, edges[columns]!] : x,
            wholeRows
              ? [firstRow, lastRow]
              : [held(rowAt(drag.fromY), firstRow, lastRow), held(rowAt(drag.toY - 0.5), firstRow, lastRow)],
          );
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
            <div
              id="heat-cell"
              role="gridcell"
              aria-colindex={cursor.column + 1}
              class="cell-mark"
              style={{
                left: `${cellLeft - 1}px`,
                top: `${cellTop - 1}px`,
                width: `${cellWidth + 2}px`,
                height: `${cellHeight + 2}px`,
              }}
            >
              <span class="unseen">{told}</span>
            </div>
          </div>
        )}
        {drag !== null && (
          <div
            class="scatter-selection"
            style={{
              left: `${drag.fromX}px`,
              top: `${drag.fromY}px`,
              width: `${drag.toX - drag.fromX}px`,
              height: `${drag.toY - drag.fromY}px`,
            }}
          />
        )}
        {cursor !== null && drag === null && (
          <div
            class="heat-tip"
            style={{
              ...(cellLeft > size.width / 2
                ? { right: `${size.width - cellLeft + 10}px` }
                : { left: `${cellLeft + cellWidth + 10}px` }),
              ...(cellTop > size.height / 2
                ? { bottom: `${size.height - cellTop + 4}px` }
                : { top: `${cellTop + cellHeight + 4}px` }),
            }}
          >
            <CellFacts
              labels={labels}
              matrix={matrix}
              values={values}
              row={cursor.row}
              column={cursor.column}
              reads={props.reads}
            />
          </div>
        )}
      </div>
      <div class="foot">
        <Legend scale={scale} palette={palette} reads={props.reads} />
        <p class="soft" role="status">
          {count > lines
            ? `${count.toLocaleString("en-US")} rows on ${lines.toLocaleString("en-US")} lines of pixels: each shows the ${scale.diverges || centred ? "furthest from 0" : "greatest"} of its rows. `
            : ""}
          {matrix.beyond > 0
            ? `Made of rollup buckets: a row may stand up to ${number(matrix.beyond, 2)} (${axisTitle(matrix.x)}) beside its cell. `
            : ""}
        </p>
        <span class="space" />
        {props.action?.({ png: savePicture })}
      </div>
    </div>
  );
}

function CellFacts(props: {
  labels: readonly string[];
  matrix: MatrixAnswer;
  values: Float64Array;
  row: number;
  column: number;
  reads: string;
}) {
  const { labels, matrix, row, column } = props;
  const at = row * matrix.columns + column;
  const value = props.values[at]!;
  const ill = matrix.nonfinite[at]!;
  const own = props.reads !== "mean" && props.reads !== "minimum" && props.reads !== "maximum";
  return (
    <>
      <b class="cut">
        <bdi>{labels[row]}</bdi>
      </b>
      <span class="soft">
        {axisTitle(matrix.x)} {axisValue(matrix.x, matrix.edges[column]!)} –{" "}
        {axisValue(matrix.x, matrix.edges[column + 1]!)}
      </span>
      {matrix.count[at] === 0 && ill === 0 ? (
        <span class="soft">no row here</span>
      ) : (
        <dl>
          {own && (
            <div>
              <dt>{props.reads}</dt>
              <dd>{number(value, 4)}</dd>
            </div>
          )}
          <div>
            <dt>mean</dt>
            <dd>{number(matrix.mean[at])}</dd>
          </div>
          <div>
            <dt>min</dt>
            <dd>{number(matrix.min[at])}</dd>
          </div>
          <div>
            <dt>max</dt>
            <dd>{number(matrix.max[at])}</dd>
          </div>
          <div>
            <dt>rows</dt>
            <dd>{number(matrix.count[at])}</dd>
          </div>
          {ill > 0 && (
            <div class="bad">
              <dt>not finite</dt>
              <dd>{number(ill)}</dd>
            </div>
          )}
        </dl>
      )}
    </>
  );
}

async function savePng(
  props: HeatmapProps,
  layout: Layout,
  size: { width: number; height: number },
  picture: Bitmap,
  palette: Palette,
  dark: boolean,
): Promise<void> {
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
  const clipped = [
    props.scale.below > 0 && `${percent(props.scale.below)} below`,
    props.scale.above > 0 && `${percent(props.scale.above)} above`,
  ].filter((note) => note !== false);
  context.fillText([`${props.reads} (${props.scale.kind})`, ...clipped].join(", "), layout.left + BAR + 16, y);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (blob !== null) save(fileName(props.title, "png"), blob, "image/png");
}
