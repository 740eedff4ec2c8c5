// The value of every run at the place under the pointer; a click pins it, with links to the runs.

import { useComputed } from "@preact/signals";

import { axisTitle, axisValue, number } from "../format";
import { amount } from "./ticks";
import { linkTo, place } from "../state";
import { cursor, hovered, sameRun } from "./cursor";
import type { Reading } from "./lines";
import type { ChartModel } from "./model";
import { valueX } from "./paint";

export interface TipPlace {
  left: number; // px from the plot's corner
  top: number;
  pinned: boolean;
  x?: number; // where it was pinned, in pixels of the plot
}

/** So many runs are listed while it follows the pointer; pinned, it scrolls. */
const FOLLOWING_ROWS = 16;

/** By value as the eye goes down the chart, or the best first where it is known which that is. */
export function sorted(readings: readonly Reading[], goal: string | null): Reading[] {
  const sign = goal === "minimize" ? 1 : -1;
  return [...readings].sort((one, other) => (Number.isNaN(one.value) ? 1 : Number.isNaN(other.value) ? -1 : sign * (one.value - other.value)));
}

export function Tip(props: { model: ChartModel; tip: TipPlace; unit: string | null; onClose: () => void }) {
  const { model, tip, unit } = props;
  const x = useComputed(() => cursor.value?.x ?? null);
  const at = tip.pinned && tip.x !== undefined ? valueX(model.sheet.frame, tip.x) : x.value;
  void model.seen.value;
  if (at === null) return null;
  const readings = sorted(model.sheet.readings(at), model.goal);
  if (readings.length === 0) return null;
  const standing = hovered.value;
  const highlighted = readings.findIndex(({ line }) => line.run !== null && sameRun({ project: line.project, run: line.run }, standing));
  const from = tip.pinned ? 0 : Math.max(0, Math.min(readings.length - FOLLOWING_ROWS, highlighted - FOLLOWING_ROWS / 2));
  const shown = tip.pinned ? readings : readings.slice(from, from + FOLLOWING_ROWS);
  const withRange = readings.some(({ count, low, high }) => count > 1 && high > low);
  const withRaw = readings.some(({ line }) => line.smoothed);
  const box = model.sheet.layout;
  const width = (box?.left ?? 0) / (box?.frame.ratio ?? 1) + (box?.frame.width ?? 0) / (box?.frame.ratio ?? 1);
  const toLeft = tip.left > width * 0.55;
  return (
    <div
      class={`chart-tip${tip.pinned ? " pinned" : ""}`} style={{ top: `${Math.max(0, tip.top - 20)}px`, ...(toLeft ? { right: `calc(100% - ${tip.left - 14}px)` } : { left: `${tip.left + 14}px` }) }}
      role={tip.pinned ? "dialog" : undefined} aria-label={tip.pinned ? "Values" : undefined}
    >
      <header>
        <span>{axisTitle(model.axis)} <b>{axisValue(model.axis, model.axis === "step" ? Math.round(at) : at)}</b></span>
        {tip.pinned && <button class="plain small" aria-label="Close" onClick={props.onClose}>✕</button>}
      </header>
      <table>
        {(withRange || withRaw) && <thead><tr><th /><th>{withRaw ? "smoothed" : "mean"}</th>{withRaw && <th>raw</th>}{withRange && <th>min … max</th>}</tr></thead>}
        <tbody>
          {shown.map(({ line, value, raw, low, high, count, nonfinite }) => (
            <tr key={line.id} class={line.run !== null && sameRun({ project: line.project, run: line.run }, standing) ? "standing" : undefined}>
              <td class="run"><i style={{ background: line.color }} />{tip.pinned && line.run !== null ? <a href={linkTo({ project: line.project, run: line.run }, place.value.settings)}>{line.label}</a> : <span class="cut">{line.label}</span>}</td>
              <td class="number">{amount(value, unit)}</td>
              {withRaw && <td class="number soft">{number(raw)}</td>}
              {withRange && <td class="number soft">{count > 1 && high > low ? `${number(low, 4)} … ${number(high, 4)}` : ""}{nonfinite > 0 ? ` ${nonfinite} not finite` : ""}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length < readings.length && <p class="soft">{readings.length - shown.length} more: click to see all</p>}
    </div>
  );
}
