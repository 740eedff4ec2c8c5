// Draws runs as points: one column against another, a third as colour. Handles thousands on one canvas.

import "./scatter_plot.css";

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { isDark } from "../theme";
import { plainFont, prepareCanvas, shortened, useSize } from "./canvas_size";
import { linePalette } from "./color_scale";
import { type Dimension, formatOnAxis, labelsOf, toFraction } from "./dimension";
import { colorsOf } from "./render";

export interface ScatterRun {
  id: string;
  name: string;
  color: string | null; // of its own; null: one of the many
}

const NEAR = 14; // px from a point at which it is meant
const DRAGGED = 5; // px after which a press is a selection
const ROOM = 10; // px
const JITTER = 0.56; // of the room of a text

/** The same for a run at any time: -0.5 to 0.5. */
function scattered(id: string, salt: number): number {
  let hash = 2166136261 ^ salt;
  for (let at = 0; at < id.length; at += 1) hash = Math.imul(hash ^ id.charCodeAt(at), 16777619);
  hash ^= hash >>> 15;
  return ((Math.imul(hash, 2246822519) >>> 0) % 10_000) / 10_000 - 0.5;
}

function placesOf(dimension: Dimension, runs: readonly ScatterRun[], salt: number): Float64Array {
  return dimension.values.map((value, at) =>
    dimension.isText && !Number.isNaN(value)
      ? toFraction(dimension, value + JITTER * scattered(runs[at]!.id, salt))
      : toFraction(dimension, value),
  );
}

/** The colour of each run, by the third dimension or its own. */
export function colorsBy(
  color: Dimension | null,
  runs: readonly ScatterRun[],
  others: string,
  categories: (at: number) => string,
): string[] {
  if (color === null) return runs.map((run) => run.color ?? others);
  const palette = linePalette(isDark.value).css;
  return runs.map((_, at) => {
    const value = color.values[at]!;
    if (Number.isNaN(value)) return others;
    return color.isText
      ? categories(value)
      : palette[Math.round(Math.max(0, Math.min(1, toFraction(color, value))) * (palette.length - 1))]!;
  });
}

export function ScatterPlot(props: {
  runs: readonly ScatterRun[];
  x: Dimension;
  y: Dimension;
  color: Dimension | null;
  categoryColor: (at: number) => string;
  selected: ReadonlySet<string>;
  onSelect: (ids: ReadonlySet<string>) => void;
  onOpen: (id: string) => void;
  label: string;
}) {
  const { runs, x, y, color, selected } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const [at, setAt] = useState<number | null>(null);
  const [dragged, setDragged] = useState<{ fromX: number; fromY: number; toX: number; toY: number } | null>(null);
  const press = useRef<{ x: number; y: number; adds: boolean } | null>(null);
  const dark = isDark.value;

  const left = y.isText ? 118 : 64;
  const plot = {
    left,
    top: 12,
    width: Math.max(1, size.width - left - 18),
    height: Math.max(1, size.height - 12 - 44),
  };
  const places = useMemo(() => [placesOf(x, runs, 1), placesOf(y, runs, 2)] as const, [x, y, runs]);
  const shown = useMemo(
    () => runs.map((_, one) => one).filter((one) => !Number.isNaN(places[0][one]!) && !Number.isNaN(places[1][one]!)),
    [places],
  );
  // A little room, so that no point stands on the edge.
  const onX = (part: number): number => plot.left + ROOM + part * (plot.width - 2 * ROOM);
  const onY = (part: number): number => plot.top + ROOM + (1 - part) * (plot.height - 2 * ROOM);
  const placeX = (one: number): number => onX(places[0][one]!);
  const placeY = (one: number): number => onY(places[1][one]!);

  useLayoutEffect(() => {
    const element = canvas.current;
    if (element === null || size.width === 0) return;
    const context = prepareCanvas(element, size);
    const tokens = colorsOf(element);
    plainFont(context);
    context.lineWidth = 1;
    const xLabels = labelsOf(x, plot.width, 76);
    const yLabels = labelsOf(y, plot.height, 46);
    context.strokeStyle = tokens.grid;
    context.beginPath();
    for (const { part } of xLabels) {
      const place = Math.round(onX(part)) + 0.5;
      context.moveTo(place, plot.top);
      context.lineTo(place, plot.top + plot.height);
    }
    for (const { part } of yLabels) {
      const place = Math.round(onY(part)) + 0.5;
      context.moveTo(plot.left, place);
      context.lineTo(plot.left + plot.width, place);
    }
    context.stroke();
    context.fillStyle = tokens.axis;
    context.textAlign = "center";
    context.textBaseline = "top";
    const apart = x.isText ? plot.width / Math.max(1, x.categories.length) : 76;
    for (const { part, label } of xLabels)
      context.fillText(shortened(context, label, Math.max(30, apart - 6)), onX(part), plot.top + plot.height + 6);
    context.fillText(
      shortened(context, `${x.title}${x.log ? " (log)" : ""}`, plot.width),
      plot.left + plot.width / 2,
      plot.top + plot.height + 24,
    );
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const { part, label } of yLabels)
      context.fillText(shortened(context, label, plot.left - 28), plot.left - 7, onY(part));
    context.save();
    context.translate(11, plot.top + plot.height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(shortened(context, `${y.title}${y.log ? " (log)" : ""}`, plot.height), 0, 0);
    context.restore();

    const colors = colorsBy(color, runs, tokens.line, props.categoryColor);
    const radius = shown.length > 3000 ? 2.5 : shown.length > 600 ? 3.2 : 4.2;
    // Those of a colour of their own last, on top of the many.
    const order = [...shown].sort(
      (one, other) => Number(runs[one]!.color !== null) - Number(runs[other]!.color !== null),
    );
    for (const one of order) {
      const isDrawn = runs[one]!.color !== null;
      context.globalAlpha =
        selected.size > 0 && !selected.has(runs[one]!.id) ? 0.22 : isDrawn ? 1 : shown.length > 600 ? 0.62 : 0.85;
      context.fillStyle = colors[one]!;
      context.beginPath();
      context.arc(placeX(one), placeY(one), isDrawn && shown.length > 60 ? radius + 1.2 : radius, 0, 2 * Math.PI);
      context.fill();
      if (isDrawn && shown.length > 60) {
        context.strokeStyle = tokens.text;
        context.lineWidth = 1.2;
        context.stroke();
      }
    }
    context.globalAlpha = 1;
  }, [places, shown, color, size, dark, selected, props.categoryColor]);

  useEffect(() => setAt(null), [places]);

  const nearest = (left: number, top: number): number | null => {
    let [best, distance] = [null as number | null, NEAR ** 2];
    for (const one of shown) {
      const apart = (placeX(one) - left) ** 2 + (placeY(one) - top) ** 2;
      if (apart < distance) [best, distance] = [one, apart];
    }
    return best;
  };
  const placeOf = (event: PointerEvent): { x: number; y: number } => {
    const bounds = box.current!.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  };
  const toggle = (one: number): void => {
    const next = new Set(selected);
    const { id } = runs[one]!;
    if (!next.delete(id)) next.add(id);
    props.onSelect(next);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey || shown.length === 0) return;
    const along =
      event.key === "ArrowLeft" || event.key === "ArrowRight"
        ? 0
        : event.key === "ArrowUp" || event.key === "ArrowDown"
          ? 1
          : null;
    if (along !== null) {
      const forward = event.key === "ArrowRight" || event.key === "ArrowUp";
      const order = [...shown].sort((one, other) => places[along][one]! - places[along][other]! || one - other);
      const next = at === null ? (forward ? 0 : order.length - 1) : order.indexOf(at) + (forward ? 1 : -1);
      setAt(order[Math.max(0, Math.min(order.length - 1, next))]!);
    } else if (event.key === "Enter" && at !== null) props.onOpen(runs[at]!.id);
    else if (event.key === " " && at !== null) toggle(at);
    else if (event.key === "Escape" && (at !== null || selected.size > 0)) {
      if (at !== null) setAt(null);
      else props.onSelect(new Set());
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const run = at === null ? undefined : runs[at];
  return (
    <div
      ref={box}
      class="scatter"
      tabIndex={0}
      role="application"
      aria-roledescription="scatter plot"
      aria-label={`${props.label}. Arrows go from point to point, Enter opens the run, space selects it.`}
      data-points={shown.length}
      onKeyDown={onKeyDown}
      onBlur={() => setAt(null)}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        press.current = { ...placeOf(event), adds: event.shiftKey };
        box.current!.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        const place = placeOf(event);
        const from = press.current;
        if (from === null) {
          setAt(nearest(place.x, place.y));
        } else if (dragged !== null || Math.hypot(place.x - from.x, place.y - from.y) > DRAGGED) {
          setAt(null);
          setDragged({
            fromX: Math.min(from.x, place.x),
            toX: Math.max(from.x, place.x),
            fromY: Math.min(from.y, place.y),
            toY: Math.max(from.y, place.y),
          });
        }
      }}
      onPointerUp={(event) => {
        const from = press.current;
        press.current = null;
        if (from === null) return;
        if (dragged !== null) {
          const inside = shown.filter(
            (one) =>
              placeX(one) >= dragged.fromX &&
              placeX(one) <= dragged.toX &&
              placeY(one) >= dragged.fromY &&
              placeY(one) <= dragged.toY,
          );
          props.onSelect(new Set([...(from.adds ? selected : []), ...inside.map((one) => runs[one]!.id)]));
          setDragged(null);
          return;
        }
        const place = placeOf(event);
        const one = nearest(place.x, place.y);
        if (one === null) props.onSelect(new Set());
        else if (from.adds) toggle(one);
        else props.onOpen(runs[one]!.id);
      }}
      onPointerCancel={() => {
        press.current = null;
        setDragged(null);
      }}
      onPointerLeave={() => press.current === null && setAt(null)}
    >
      <canvas ref={canvas} aria-hidden="true" class={at === null ? "" : "over-point"} />
      {dragged !== null && (
        <div
          class="scatter-selection"
          style={{
            left: `${dragged.fromX}px`,
            top: `${dragged.fromY}px`,
            width: `${dragged.toX - dragged.fromX}px`,
            height: `${dragged.toY - dragged.fromY}px`,
          }}
        />
      )}
      {at !== null && run !== undefined && (
        <>
          <i class="scatter-ring" style={{ left: `${placeX(at)}px`, top: `${placeY(at)}px` }} aria-hidden="true" />
          <div
            class="scatter-tip"
            role="status"
            style={{
              ...(placeX(at) > size.width / 2
                ? { right: `${size.width - placeX(at) + 12}px` }
                : { left: `${placeX(at) + 12}px` }),
              ...(placeY(at) > size.height / 2
                ? { bottom: `${size.height - placeY(at) + 8}px` }
                : { top: `${placeY(at) + 8}px` }),
            }}
          >
            <b class="cut">
              <bdi>{run.name}</bdi>
            </b>
            <dl>
              {[x, y, ...(color === null ? [] : [color])]
                .filter((one, place, all) => all.findIndex(({ name }) => name === one.name) === place)
                .map((dimension) => (
                  <div key={dimension.name}>
                    <dt class="cut">{dimension.title}</dt>
                    <dd class="cut">
                      <bdi>{formatOnAxis(dimension, dimension.values[at]!)}</bdi>
                    </dd>
                  </div>
                ))}
            </dl>
          </div>
        </>
      )}
      {shown.length === 0 && <p class="empty">No run has both.</p>}
    </div>
  );
}
