// Draws runs as lines over parallel axes; a brush on an axis filters them.

import "./parallel_coordinates.css";

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { isDark } from "../theme";
import { plainFont, prepareCanvas, shortened, useSize } from "./canvas_size";
import { type Dimension, formatOnAxis, fromFraction, labelsOf, toFraction } from "./dimension";
import { colorsOf } from "./render";

export type Brush = readonly [number, number]; // parts of the axis, low to high

export interface ParallelRun {
  id: string;
  name: string;
  color: string;
  isPlain: boolean; // without a value to be coloured by: behind the others
}

const TOP = 40;
const BOTTOM = 30; // where lines go that have no value
const REACH = 14; // px beside an axis at which it is meant
const NEAR = 12; // px from a line
const AT_ONCE = 1200; // lines between two looks at the clock
const FRAME = 12; // ms of drawing in one go

/** Which runs cross every brushed axis within its brush. */
export function brushedRuns(
  axes: readonly Dimension[],
  brushes: ReadonlyMap<string, Brush>,
  count: number,
): Uint8Array {
  const passes = new Uint8Array(count).fill(1);
  for (const axis of axes) {
    const brush = brushes.get(axis.name);
    if (brush === undefined) continue;
    for (let at = 0; at < count; at += 1) {
      const part = toFraction(axis, axis.values[at]!);
      if (!(part >= brush[0] - 1e-9 && part <= brush[1] + 1e-9)) passes[at] = 0;
    }
  }
  return passes;
}

export function ParallelCoordinates(props: {
  runs: readonly ParallelRun[];
  axes: readonly Dimension[];
  brushes: ReadonlyMap<string, Brush>;
  passes: Uint8Array;
  onBrush: (name: string, brush: Brush | null) => void;
  onMove: (name: string, to: number) => void;
  onOpen: (id: string) => void;
  head: (axis: Dimension, at: number) => ComponentChildren;
  label: string;
}) {
  const { runs, axes, brushes, passes } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const [at, setAt] = useState<{ run: number; x: number; y: number } | null>(null);
  const [drag, setDrag] = useState<{ name: string; brush: Brush } | null>(null);
  const press = useRef<{ axis: number; y: number } | null>(null);
  const [dropAt, setDropAt] = useState<number | null>(null);
  const dark = isDark.value;

  const side = Math.max(48, Math.min(90, size.width / (axes.length * 2 + 1)));
  const placeX = (axis: number): number =>
    axes.length < 2 ? size.width / 2 : side + (axis * (size.width - 2 * side)) / (axes.length - 1);
  const tall = Math.max(1, size.height - TOP - BOTTOM - 14);
  const placeOfPart = (part: number): number => TOP + (1 - part) * tall;
  // For each axis and run how far down; runs without a value below the axis.
  const places = useMemo(
    () =>
      axes.map((axis) =>
        Float32Array.from(axis.values, (value) => {
          const part = toFraction(axis, value);
          return Number.isFinite(part) ? TOP + (1 - part) * tall : TOP + tall + 18;
        }),
      ),
    [axes, tall],
  );
  const hasMissing = useMemo(() => axes.map(({ values }) => values.some(Number.isNaN)), [axes]);

  useLayoutEffect(() => {
    const element = canvas.current;
    if (element === null || size.width === 0) return undefined;
    const context = prepareCanvas(element, size);
    const tokens = colorsOf(element);
    context.lineJoin = "round";
    const order: number[] = [];
    for (let one = 0; one < runs.length; one += 1) if (passes[one] === 0) order.push(one);
    const firstBright = order.length;
    for (const isPlain of [true, false])
      for (let one = 0; one < runs.length; one += 1)
        if (passes[one] === 1 && runs[one]!.isPlain === isPlain) order.push(one);
    const bright = order.length - firstBright;
    const colored = runs.reduce((sum, run, one) => sum + (passes[one] === 1 && !run.isPlain ? 1 : 0), 0);
    const alphaOf = (count: number): number => (count > 3000 ? 0.28 : count > 500 ? 0.5 : count > 100 ? 0.7 : 0.9);
    let next = 0;
    let frame = 0;
    const some = (): void => {
      const begun = performance.now();
      while (next < order.length && performance.now() - begun < FRAME) {
        const end = Math.min(order.length, next + AT_ONCE);
        for (; next < end; next += 1) {
          const one = order[next]!;
          const isBright = next >= firstBright;
          context.globalAlpha = isBright
            ? alphaOf(runs[one]!.isPlain ? 2 * bright : colored)
            : runs.length > 2000
              ? 0.06
              : 0.16;
          context.strokeStyle = isBright ? runs[one]!.color : tokens.line;
          context.lineWidth = isBright && !runs[one]!.isPlain && colored <= 100 ? 1.6 : 1;
          context.beginPath();
          for (let axis = 0; axis < axes.length; axis += 1) context.lineTo(placeX(axis), places[axis]![one]!);
          context.stroke();
        }
      }
      if (next < order.length) frame = requestAnimationFrame(some);
    };
    some();
    return () => cancelAnimationFrame(frame);
  }, [runs, places, passes, size, dark]);

  useLayoutEffect(() => {
    const element = over.current;
    if (element === null || size.width === 0) return;
    const context = prepareCanvas(element, size);
    const tokens = colorsOf(element);
    plainFont(context);
    const room = axes.length < 2 ? 200 : (size.width - 2 * side) / (axes.length - 1) - 16;
    if (at !== null) {
      context.strokeStyle = tokens.text;
      context.lineWidth = 2.4;
      context.beginPath();
      for (let axis = 0; axis < axes.length; axis += 1) context.lineTo(placeX(axis), places[axis]![at.run]!);
      context.stroke();
    }
    axes.forEach((axis, place) => {
      const x = Math.round(placeX(place)) + 0.5;
      context.strokeStyle = tokens.axis;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, TOP + tall);
      context.stroke();
      const brush = drag?.name === axis.name ? drag.brush : brushes.get(axis.name);
      if (brush !== undefined) {
        context.fillStyle = tokens.text;
        context.globalAlpha = 0.16;
        context.fillRect(x - 8, placeOfPart(brush[1]), 16, (brush[1] - brush[0]) * tall);
        context.globalAlpha = 1;
        context.strokeStyle = tokens.text;
        context.strokeRect(x - 8, placeOfPart(brush[1]), 16, Math.max(1, (brush[1] - brush[0]) * tall));
      }
      context.textBaseline = "middle";
      const isLast = place === axes.length - 1 && axes.length > 1;
      context.textAlign = isLast ? "right" : "left";
      const beside = isLast ? x - 9 : x + 9;
      for (const { part, label } of labelsOf(axis, tall, axis.isText ? 16 : 46)) {
        if (label === "") continue;
        const y = placeOfPart(part);
        const text = shortened(context, label, Math.max(36, Math.min(room, 130)));
        context.beginPath();
        context.moveTo(x - 3, y);
        context.lineTo(x + 3, y);
        context.strokeStyle = tokens.axis;
        context.stroke();
        // A halo, since lines run below it.
        context.lineWidth = 3;
        context.strokeStyle = tokens.background;
        context.strokeText(text, beside, y);
        context.lineWidth = 1;
        context.fillStyle = tokens.text;
        context.fillText(text, beside, y);
      }
      if (hasMissing[place]) {
        context.fillStyle = tokens.axis;
        context.textAlign = "center";
        context.fillText("none", x, TOP + tall + 31);
        context.beginPath();
        context.arc(x, TOP + tall + 18, 2, 0, 2 * Math.PI);
        context.fill();
      }
    });
  }, [axes, places, size, dark, brushes, drag, at?.run]);

  useEffect(() => setAt(null), [places, passes]);

  const placeOf = (event: PointerEvent): { x: number; y: number } => {
    const bounds = box.current!.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  };
  const axisAt = (x: number, y: number): number =>
    y < TOP - 6 ? -1 : axes.findIndex((_, axis) => Math.abs(placeX(axis) - x) <= REACH);
  const lineAt = (x: number, y: number): number | null => {
    let axis = 0;
    while (axis < axes.length - 2 && placeX(axis + 1) < x) axis += 1;
    if (axes.length < 2 || x < placeX(0) || x > placeX(axes.length - 1)) return null;
    const part = (x - placeX(axis)) / (placeX(axis + 1) - placeX(axis));
    let [best, distance] = [null as number | null, NEAR];
    for (let one = 0; one < runs.length; one += 1) {
      if (passes[one] === 0) continue;
      const apart = Math.abs(places[axis]![one]! * (1 - part) + places[axis + 1]![one]! * part - y);
      if (apart < distance) [best, distance] = [one, apart];
    }
    return best;
  };
  const partAt = (y: number): number => Math.max(0, Math.min(1, 1 - (y - TOP) / tall));
  const run = at === null ? undefined : runs[at.run];
  return (
    <div
      ref={box}
      class="parallel"
      role="group"
      aria-label={props.label}
      data-lines={runs.length}
      onPointerDown={(event) => {
        if (event.button !== 0 || (event.target as Element).closest(".axis-head, .menu")) return;
        const { x, y } = placeOf(event);
        const axis = axisAt(x, y);
        if (axis < 0) return;
        press.current = { axis, y };
        box.current!.setPointerCapture(event.pointerId);
        event.preventDefault();
      }}
      onPointerMove={(event) => {
        const { x, y } = placeOf(event);
        const from = press.current;
        if (from !== null) {
          const [one, other] = [partAt(from.y), partAt(y)];
          if (Math.abs(from.y - y) > 3)
            setDrag({ name: axes[from.axis]!.name, brush: [Math.min(one, other), Math.max(one, other)] });
          return;
        }
        if ((event.target as Element).closest(".axis-head, .menu")) return setAt(null);
        const found = axisAt(x, y) >= 0 ? null : lineAt(x, y);
        setAt(found === null ? null : { run: found, x, y });
      }}
      onPointerUp={(event) => {
        const from = press.current;
        press.current = null;
        if (from !== null) {
          const { name } = axes[from.axis]!;
          props.onBrush(name, drag?.brush ?? null);
          setDrag(null);
        } else if (at !== null && !(event.target as Element).closest(".axis-head, .menu"))
          props.onOpen(runs[at.run]!.id);
      }}
      onPointerCancel={() => {
        press.current = null;
        setDrag(null);
      }}
      onPointerLeave={() => setAt(null)}
    >
      <canvas ref={canvas} aria-hidden="true" />
      <canvas ref={over} aria-hidden="true" />
      {size.width > 0 &&
        axes.map((axis, place) => (
          <div
            key={axis.name}
            class={`axis-head ${dropAt === place ? "over" : ""}`}
            draggable
            style={{
              left: `${placeX(place)}px`,
              maxWidth: `${Math.max(80, (size.width - 2 * side) / Math.max(1, axes.length - 1) - 6)}px`,
            }}
            onDragStart={(event) => event.dataTransfer?.setData("text/x-lossbook-axis", axis.name)}
            onDragOver={(event) => {
              event.preventDefault();
              setDropAt(place);
            }}
            onDragLeave={() => setDropAt(null)}
            onDrop={(event) => {
              event.preventDefault();
              setDropAt(null);
              const moved = event.dataTransfer?.getData("text/x-lossbook-axis");
              if (moved && moved !== axis.name && axes.some(({ name }) => name === moved)) props.onMove(moved, place);
            }}
            onKeyDown={(event) => {
              const isButton = (event.target as Element).getAttribute("aria-expanded") === "false";
              if (!isButton || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
              event.preventDefault();
              event.stopPropagation();
              const to = place + (event.key === "ArrowRight" ? 1 : -1);
              if (to >= 0 && to < axes.length) props.onMove(axis.name, to);
            }}
          >
            {props.head(axis, place)}
          </div>
        ))}
      {at !== null && run !== undefined && (
        <div
          class="scatter-tip"
          role="status"
          style={{
            ...(at.x > size.width / 2 ? { right: `${size.width - at.x + 14}px` } : { left: `${at.x + 14}px` }),
            ...(at.y > size.height / 2 ? { bottom: `${size.height - at.y}px` } : { top: `${at.y}px` }),
          }}
        >
          <b class="cut">
            <bdi>{run.name}</bdi>
          </b>
          <dl>
            {axes.map((axis) => (
              <div key={axis.name}>
                <dt class="cut">{axis.title}</dt>
                <dd class="cut">
                  <bdi>{formatOnAxis(axis, axis.values[at.run]!)}</bdi>
                </dd>
              </div>
            ))}
          </dl>
        </div>
      )}
    </div>
  );
}

/** The ends of a brush as a link has them: numbers, or the texts of the first and the last category. */
export function brushTexts(axis: Dimension, [low, high]: Brush): [string, string] | null {
  if (!axis.isText)
    return [low, high].map((part) => String(Number(fromFraction(axis, part).toPrecision(6)))) as [string, string];
  const inside = axis.categories
    .map((_, at) => at)
    .filter((at) => toFraction(axis, at) >= low && toFraction(axis, at) <= high);
  return inside.length === 0 ? null : [axis.categories[inside[0]!]!, axis.categories[inside.at(-1)!]!];
}

export function brushOf(axis: Dimension, from: string, to: string): Brush | null {
  if (axis.isText) {
    const [first, last] = [axis.categories.indexOf(from), axis.categories.indexOf(to)];
    return first < 0 || last < 0
      ? null
      : [toFraction(axis, Math.min(first, last) - 0.5), toFraction(axis, Math.max(first, last) + 0.5)];
  }
  const [low, high] = [from === "" ? axis.low : Number(from), to === "" ? axis.high : Number(to)];
  if (!Number.isFinite(low) || !Number.isFinite(high)) return null;
  const [one, other] = [toFraction(axis, low), toFraction(axis, high)].map((part) =>
    Number.isNaN(part) ? 0 : Math.max(0, Math.min(1, part)),
  ) as [number, number];
  // The link keeps six digits: an end that is the axis's own must not leave out the run that stands there.
  const wide = 1e-6;
  return [Math.max(0, Math.min(one, other) - wide), Math.min(1, Math.max(one, other) + wide)];
}
