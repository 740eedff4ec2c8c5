// Shows the value of every run under the pointer; a click pins the tooltip and links the runs.

import { useComputed } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

import { axisTitle, axisValue, number } from "../format";
import { linkTo, route } from "../router";
import type { ChartModel } from "./chart_model";
import { cursor, hovered, sameRun } from "./cursor";
import { fromPixelX, toPixelY } from "./render";
import { amount } from "./ticks";
import { placeTooltip } from "./tooltip_position";
import type { Reading } from "./types";

export interface TooltipPosition {
  left: number; // px from the plot's corner
  top: number;
  pinned: boolean;
  x?: number; // where it was pinned, in pixels of the plot
}

/** So many runs are listed while it follows the pointer, those around it; pinned, it scrolls. */
const FOLLOWING_ROWS = 16;
/** So many are said aloud. */
const SPOKEN_ROWS = 8;

/** By value as the eye goes down the chart, or the best first where it is known which that is. */
export function sorted(readings: readonly Reading[], goal: string | null): Reading[] {
  const sign = goal === "minimize" ? 1 : -1;
  return [...readings].sort((one, other) =>
    Number.isNaN(one.value) ? 1 : Number.isNaN(other.value) ? -1 : sign * (one.value - other.value),
  );
}

/** The place and its values in one sentence. */
export function describeReadings(model: ChartModel, x: number, unit: string | null): string {
  const readings = sorted(model.canvas.readings(x), model.goal);
  const values = readings.slice(0, SPOKEN_ROWS).map(({ line, value }) => `${line.label} ${amount(value, unit)}`);
  const more = readings.length - values.length;
  return `${axisTitle(model.axis)} ${axisValue(model.axis, model.axis === "step" ? Math.round(x) : x)}: ${values.join(", ")}${more > 0 ? `, and ${more} more` : ""}`;
}

/** The number of the reading whose line is nearest to a height in pixels of the plot; -1 where there is none. */
function nearestTo(readings: readonly Reading[], model: ChartModel, top: number): number {
  const { frame } = model.canvas;
  const height = model.canvas.plotPlace(0, top).top;
  let [found, least] = [-1, Infinity];
  readings.forEach(({ value }, at) => {
    const distance = Math.abs(toPixelY(frame, value) - height);
    if (distance < least) [found, least] = [at, distance];
  });
  return found;
}

export function ChartTooltip(props: {
  model: ChartModel;
  tip: TooltipPosition;
  unit: string | null;
  onClose: () => void;
}) {
  const { model, tip, unit } = props;
  const x = useComputed(() => cursor.value?.x ?? null);
  const at = tip.pinned && tip.x !== undefined ? fromPixelX(model.canvas.frame, tip.x) : x.value;
  void model.state.value;
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (box.current !== null) placeTooltip(box.current, tip.left, tip.top);
  });
  // Pinned, all are listed: what was meant is to be in sight.
  useLayoutEffect(() => {
    const list = box.current;
    const row = list?.querySelector<HTMLElement>("tr.standing, tr.nearest");
    if (tip.pinned && list && row) list.scrollTop = row.offsetTop - list.clientHeight / 2;
  }, [tip.pinned]);
  if (at === null) return null;
  const readings = sorted(model.canvas.readings(at), model.goal);
  if (readings.length === 0) return null;
  const standing = hovered.value;
  const highlighted = readings.findIndex(
    ({ line }) => line.run !== null && sameRun({ project: line.project, run: line.run }, standing),
  );
  const nearest = highlighted >= 0 ? highlighted : nearestTo(readings, model, tip.top);
  const from = tip.pinned ? 0 : Math.max(0, Math.min(readings.length - FOLLOWING_ROWS, nearest - FOLLOWING_ROWS / 2));
  const shown = tip.pinned ? readings : readings.slice(from, from + FOLLOWING_ROWS);
  const withRange = readings.some(({ count, low, high }) => count > 1 && high > low);
  const withRaw = readings.some(({ line }) => line.smoothed);
  return (
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: a dialog once it is pinned, and labelled only then
    <div
      ref={box}
      class={`chart-tip${tip.pinned ? " pinned" : ""}`}
      role={tip.pinned ? "dialog" : undefined}
      aria-label={tip.pinned ? "Values" : undefined}
    >
      <header>
        <span>
          {axisTitle(model.axis)} <b>{axisValue(model.axis, model.axis === "step" ? Math.round(at) : at)}</b>
        </span>
        {tip.pinned && (
          <button type="button" class="plain small" aria-label="Close" onClick={props.onClose}>
            ✕
          </button>
        )}
      </header>
      <table>
        {(withRange || withRaw) && (
          <thead>
            <tr>
              <th />
              <th>{withRaw ? "smoothed" : "mean"}</th>
              {withRaw && <th>raw</th>}
              {withRange && <th>min … max</th>}
            </tr>
          </thead>
        )}
        <tbody>
          {shown.map(({ line, value, raw, low, high, count, nonfinite }, row) => (
            <tr
              key={line.id}
              class={from + row === highlighted ? "standing" : from + row === nearest ? "nearest" : undefined}
            >
              <td class="run">
                <i style={{ background: line.color }} />
                {tip.pinned && line.run !== null ? (
                  <a href={linkTo({ project: line.project, run: line.run }, route.value.settings)}>{line.label}</a>
                ) : (
                  <span class="cut">{line.label}</span>
                )}
              </td>
              <td class="number">{amount(value, unit)}</td>
              {withRaw && <td class="number soft">{number(raw)}</td>}
              {withRange && (
                <td class="number soft">
                  {count > 1 && high > low ? `${number(low, 4)} … ${number(high, 4)}` : ""}
                  {nonfinite > 0 ? ` ${nonfinite} not finite` : ""}
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < readings.length && <p class="soft">{readings.length - shown.length} more: click to see all</p>}
    </div>
  );
}
