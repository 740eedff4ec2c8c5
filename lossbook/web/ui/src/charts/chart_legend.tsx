// Lists the runs of a chart with their values at the cursor, and shows the same as a table.

import { useComputed } from "@preact/signals";
import { useState } from "preact/hooks";

import { axisTitle, axisValue, moment, number } from "../format";
import type { ChartModel } from "./chart_model";
import { cursor, hover, hovered, sameRun } from "./cursor";
import { lastReading, readingAt } from "./lines";
import { MARK_KINDS } from "./marks";
import { amount } from "./ticks";
import type { ChartSeries, Line, MarkGroup } from "./types";

const SHOWN_AT_FIRST = 8;

function lastOf(line: Line): number | null {
  return lastReading(line)?.value ?? (line.length > 0 ? NaN : null);
}

function notFinite(line: Line): number {
  let sum = 0;
  if (line.curve !== null) for (let at = 0; at < line.curve.length; at += 1) sum += line.curve.nonfinite[at]!;
  return sum;
}

export function Legend(props: { model: ChartModel; series: readonly ChartSeries[]; unit: string | null }) {
  const { model, unit } = props;
  const [all, setAll] = useState(false);
  const lines = model.state.value.lines;
  const at = useComputed(() =>
    cursor.value !== null && cursor.value.axis === model.axis ? cursor.value.x : null,
  ).value;
  // As many places from the beginning as there will be lines, so that nothing moves when they come.
  const expected = lines.length > 0 ? lines.length : Math.min(props.series.length, SHOWN_AT_FIRST);
  const shown = all ? lines : lines.slice(Math.max(0, lines.length - SHOWN_AT_FIRST)).reverse();
  const standing = hovered.value;
  return (
    <ul class={`legend${all ? " all" : ""}`} aria-label="Legend" onMouseLeave={() => hover(null)}>
      {lines.length === 0 &&
        Array.from({ length: expected }, (_, number) => (
          <li key={number} class="soft">
            <i />…
          </li>
        ))}
      {(all ? [...shown].reverse() : shown).map((line) => {
        const value = at === null ? lastOf(line) : (readingAt(line, at, reachOf(model, at))?.value ?? null);
        const bad = notFinite(line);
        const name = line.run === null ? null : { project: line.project, run: line.run };
        return (
          <li
            key={line.id}
            class={`${sameRun(name, standing) ? "standing" : ""}${line.emphasised ? " emphasised" : ""}`}
            onMouseEnter={() => hover(name)}
            title={line.label}
          >
            <i style={{ background: line.color }} />
            <span class="cut">{line.label}</span> <b>{amount(value, unit)}</b>
            {bad > 0 && (
              <span class="bad" title={`${number(bad)} values are not finite`}>
                ✕{number(bad)}
              </span>
            )}
          </li>
        );
      })}
      {lines.length > SHOWN_AT_FIRST && (
        <li>
          <button type="button" class="plain small" onClick={() => setAll(!all)}>
            {all ? "fewer" : `${lines.length - SHOWN_AT_FIRST} more`}
          </button>
        </li>
      )}
    </ul>
  );
}

function reachOf(model: ChartModel, x: number): number {
  const { frame } = model.canvas;
  return frame.x.log ? Math.abs(x) * 0.05 : (12 * frame.ratio * (frame.x.max - frame.x.min)) / frame.width;
}

/** So many marks are listed. */
const MOST_MARKS = 200;

/** The chart for those who cannot see it: what each line comes to, and what happened. */
export function TableOfLines(props: {
  lines: readonly Line[];
  marks: readonly MarkGroup[];
  axis: string;
  title: string;
  unit: string | null;
}) {
  const { lines, axis, unit } = props;
  const marks = props.marks.flatMap((group) => group.marks).sort((one, other) => one.x - other.x);
  return (
    <div class="as-table">
      <table class="plain" aria-label={`${props.title} as a table`}>
        <thead>
          <tr>
            <th>Run</th>
            <th class="number">Last</th>
            <th class="number">at</th>
            <th class="number">Min</th>
            <th class="number">at</th>
            <th class="number">Max</th>
            <th class="number">at</th>
          </tr>
        </thead>
        <tbody>
          {lines.map((line) => {
            const { low, high, last } = extremes(line);
            return (
              <tr key={line.id}>
                <td>
                  <i class="swatch" style={{ background: line.color }} />
                  {line.label}
                </td>
                {[last, low, high].map((place, at) => [
                  <td key={`${at} value`} class="number">
                    {amount(place?.value ?? null, unit)}
                  </td>,
                  <td key={`${at} place`} class="number soft">
                    {place === null ? "–" : axisValue(axis, place.x)}
                  </td>,
                ])}
              </tr>
            );
          })}
        </tbody>
      </table>
      {marks.length > 0 && (
        <table class="plain" aria-label={`Marks of ${props.title}`}>
          <thead>
            <tr>
              <th>Mark</th>
              <th>Run</th>
              <th class="number">{axisTitle(axis)}</th>
              <th>Time</th>
              <th>Text</th>
            </tr>
          </thead>
          <tbody>
            {marks.slice(0, MOST_MARKS).map((mark, at) => (
              <tr key={at}>
                <td>{mark.title || MARK_KINDS[mark.kind]?.[0] || mark.kind}</td>
                <td>
                  <i class="swatch" style={{ background: mark.color }} />
                  {mark.label}
                </td>
                <td class="number">{axisValue(axis, mark.x)}</td>
                <td>{moment(mark.time)}</td>
                <td>{mark.text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {marks.length > MOST_MARKS && <p class="soft">and {number(marks.length - MOST_MARKS)} more marks</p>}
    </div>
  );
}

interface At {
  value: number;
  x: number;
}

export function extremes(line: Line): { low: At | null; high: At | null; last: At | null } {
  const found: { low: At | null; high: At | null; last: At | null } = { low: null, high: null, last: null };
  const { curve, band } = line;
  const [lows, highs, lasts] = band !== null ? [band.low, band.high, band.mean] : [curve!.min, curve!.max, curve!.last];
  const [lowXs, highXs, lastXs] = band !== null ? [band.x, band.x, band.x] : [curve!.min_x, curve!.max_x, curve!.x_end];
  for (let at = 0; at < lows.length; at += 1) {
    if (Number.isFinite(lows[at]!) && (found.low === null || lows[at]! < found.low.value))
      found.low = { value: lows[at]!, x: lowXs[at]! };
    if (Number.isFinite(highs[at]!) && (found.high === null || highs[at]! > found.high.value))
      found.high = { value: highs[at]!, x: highXs[at]! };
    if (!Number.isNaN(lasts[at]!)) found.last = { value: lasts[at]!, x: lastXs[at]! };
  }
  return found;
}
