// Handles pointer and keys on a chart: drag to zoom, Shift+drag to pan, Ctrl+wheel, double click, and its shortcuts.
// The
// wheel alone scrolls the page.

import type { ChartModel } from "./chart_model";
import { cursor, hover } from "./cursor";
import { fromPixelX, fromPixelY, toPixelY } from "./render";

export interface Selection {
  left: number; // pixels of the page, from the plot's corner
  top: number;
  width: number;
  height: number;
}

export interface PointerCalls {
  onSelection: (selection: Selection | null) => void;
  onPoint: (point: { left: number; top: number } | null) => void; // where the pointer is, over the plot
  onClick: () => void;
}

/** Drags shorter than this are clicks. */
const SHORT = 5;
const NEAR = 14;

export function watchPointer(element: HTMLElement, model: ChartModel, calls: PointerCalls): () => void {
  const stop = new AbortController();
  const options = { signal: stop.signal };
  let begun: {
    left: number;
    top: number;
    pans: boolean;
    id: number;
    view: [number, number] | null;
    clientX: number;
  } | null = null;

  const placeOf = (event: MouseEvent): { left: number; top: number } => {
    const box = element.getBoundingClientRect();
    return { left: event.clientX - box.left, top: event.clientY - box.top };
  };

  const point = (event: PointerEvent): void => {
    const { left, top } = placeOf(event);
    const { canvas } = model;
    const place = canvas.plotPlace(left, top);
    if (!place.inside) {
      leave();
      return;
    }
    const { frame } = canvas;
    const x = fromPixelX(frame, place.left);
    cursor.value = { axis: model.axis, x };
    let nearest: { distance: number; line: { project: string; run: string | null } } | null = null;
    for (const { line, value } of canvas.readings(x)) {
      const distance = Math.abs(toPixelY(frame, value) - place.top);
      if (nearest === null || distance < nearest.distance) nearest = { distance, line };
    }
    const near =
      nearest !== null && nearest.distance < NEAR * frame.ratio && nearest.line.run !== null
        ? { project: nearest.line.project, run: nearest.line.run }
        : null;
    hover(near);
    calls.onPoint({ left, top });
  };

  const leave = (): void => {
    if (cursor.peek() !== null) cursor.value = null;
    hover(null);
    calls.onPoint(null);
  };

  const selectionTo = (event: PointerEvent): Selection | null => {
    const { left, top } = placeOf(event);
    const { canvas } = model;
    const { layout, frame } = canvas;
    if (begun === null || layout === null) return null;
    const [wide, high] = [Math.abs(left - begun.left), Math.abs(top - begun.top)];
    const plot = {
      left: layout.left / frame.ratio,
      top: layout.top / frame.ratio,
      width: frame.width / frame.ratio,
      height: frame.height / frame.ratio,
    };
    const [l, r] = [
      Math.max(plot.left, Math.min(left, begun.left)),
      Math.min(plot.left + plot.width, Math.max(left, begun.left)),
    ];
    const [t, b] = [
      Math.max(plot.top, Math.min(top, begun.top)),
      Math.min(plot.top + plot.height, Math.max(top, begun.top)),
    ];
    if (Math.max(wide, high) < SHORT) return null;
    // Mostly aside: a zoom on x; mostly up or down: on y; clearly both: both.
    const both = wide > 30 && high > 30;
    if (both) return { left: l, top: t, width: r - l, height: b - t };
    return wide >= high
      ? { left: l, top: plot.top, width: r - l, height: plot.height }
      : { left: plot.left, top: t, width: plot.width, height: b - t };
  };

  element.addEventListener(
    "pointerdown",
    (event) => {
      if (
        event.button !== 0 ||
        event.ctrlKey ||
        event.metaKey ||
        (event.target as Element).closest("button, a, .chart-tip")
      )
        return;
      const place = placeOf(event);
      if (!model.canvas.plotPlace(place.left, place.top).inside) return;
      begun = { ...place, pans: event.shiftKey, id: event.pointerId, view: model.view, clientX: event.clientX };
      element.setPointerCapture(event.pointerId);
      if (event.shiftKey) event.preventDefault();
    },
    options,
  );

  element.addEventListener(
    "pointermove",
    (event) => {
      if (begun === null) {
        if (!(event.target as Element).closest(".chart-tip")) point(event);
        return;
      }
      if (begun.pans) {
        if (begun.view === null) return;
        leave();
        const { frame } = model.canvas;
        const part = ((begun.clientX - event.clientX) * frame.ratio) / frame.width;
        const { view } = begun;
        if (frame.x.log) model.zoom([view[0] * (view[1] / view[0]) ** part, view[1] * (view[1] / view[0]) ** part]);
        else model.zoom([view[0] + part * (view[1] - view[0]), view[1] + part * (view[1] - view[0])]);
      } else {
        const selection = selectionTo(event);
        if (selection !== null) leave();
        calls.onSelection(selection);
      }
    },
    options,
  );

  element.addEventListener(
    "pointerup",
    (event) => {
      if (begun === null) return;
      const selection = begun.pans ? null : selectionTo(event);
      const { pans } = begun;
      begun = null;
      calls.onSelection(null);
      if (selection === null) {
        if (!pans) calls.onClick();
        return;
      }
      const { canvas } = model;
      const { frame } = canvas;
      const from = canvas.plotPlace(selection.left, selection.top);
      const to = canvas.plotPlace(selection.left + selection.width, selection.top + selection.height);
      if (to.left - from.left < frame.width - 1) model.zoom([fromPixelX(frame, from.left), fromPixelX(frame, to.left)]);
      if (to.top - from.top < frame.height - 1)
        model.ownY.value = [fromPixelY(frame, to.top), fromPixelY(frame, from.top)];
    },
    options,
  );

  element.addEventListener(
    "pointercancel",
    () => {
      begun = null;
      calls.onSelection(null);
    },
    options,
  );
  element.addEventListener("pointerleave", () => begun === null && leave(), options);
  element.addEventListener(
    "dblclick",
    (event) => !(event.target as Element).closest("button, a, .chart-tip") && model.reset(),
    options,
  );

  element.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
      event.preventDefault();
      const { left, top } = placeOf(event);
      const { frame } = model.canvas;
      const amount = event.deltaY !== 0 ? event.deltaY : event.deltaX;
      if (event.shiftKey) model.pan(amount / 800);
      else
        model.zoomBy(
          Math.exp(Math.max(-1, Math.min(1, amount / 300))),
          Math.min(1, Math.max(0, model.canvas.plotPlace(left, top).left / frame.width)),
        );
    },
    { ...options, passive: false },
  );

  return () => {
    stop.abort();
    leave();
  };
}

/** By how many buckets a key moves the cursor of a focused chart; 0: it is no such key. */
export function stepOf(key: string): number {
  return { ",": -1, ".": 1, "<": -10, ">": 10 }[key] ?? 0;
}

/** Keys of a focused chart that move and zoom it; whether the key was one. */
export function pressKey(key: string, model: ChartModel): boolean {
  switch (key) {
    case "ArrowLeft":
      model.pan(-0.1);
      break;
    case "ArrowRight":
      model.pan(0.1);
      break;
    case "ArrowUp":
      model.panY(0.1);
      break;
    case "ArrowDown":
      model.panY(-0.1);
      break;
    case "+":
    case "=":
      model.zoomBy(0.7);
      break;
    case "-":
    case "_":
      model.zoomBy(1 / 0.7);
      break;
    case "0":
      model.reset();
      break;
    default:
      return false;
  }
  return true;
}
