// The queries of a chart: for each series the whole curve, the smoothed curve, and the zoomed part.

import type { ChartSettings } from "../settings";
import type { CurveQuery } from "./curve_cache";
import type { ChartSeries, ChartSpec, LineHead, Range } from "./types";

/** How much more than a zoom is asked for on each side, as a share of its width, for small steps aside. */
export const BESIDE = 0.15;

export interface SeriesQueries {
  whole: CurveQuery;
  smooth: CurveQuery | null;
  detail: CurveQuery | null;
  smoothDetail: CurveQuery | null;
}

export function queriesOf(
  series: ChartSeries,
  settings: Pick<ChartSettings, "x" | "smoothing">,
  points: number,
  range: Range | null,
): SeriesQueries {
  const whole: CurveQuery = {
    project: series.project,
    run: series.run,
    key: series.key,
    attempt: series.attempt ?? null,
    x: settings.x,
    points,
    start: null,
    end: null,
    smoothing: null,
    created: series.created ?? 0,
  };
  const smooth = settings.smoothing === null ? null : { ...whole, smoothing: settings.smoothing };
  if (range === null) return { whole, smooth, detail: null, smoothDetail: null };
  const beside = (range[1] - range[0]) * BESIDE;
  const detail = { ...whole, start: range[0] - beside, end: range[1] + beside };
  return { whole, smooth, detail, smoothDetail: smooth === null ? null : { ...detail, smoothing: settings.smoothing } };
}

/** The runs that are lines of their own, and with bands the groups that are one line each. */
export function splitGroups({ series, settings }: Pick<ChartSpec, "series" | "settings">): {
  alone: ChartSeries[];
  groups: Map<string, ChartSeries[]>;
} {
  const groups = new Map<string, ChartSeries[]>();
  if (!settings.bands) return { alone: [...series], groups };
  const alone: ChartSeries[] = [];
  for (const one of series) {
    if (one.group === null) alone.push(one);
    else {
      const name = JSON.stringify([one.project, one.group]);
      groups.set(name, [...(groups.get(name) ?? []), one]);
    }
  }
  return { alone, groups };
}

export function headOf(series: ChartSeries): LineHead {
  return {
    id: JSON.stringify([series.project, series.run, series.key, series.attempt ?? null]),
    project: series.project,
    run: series.run,
    key: series.key,
    label: series.label,
    color: series.color,
    runs: 1,
    state: series.state,
    attempt: series.attempt ?? null,
    emphasised: series.emphasised ?? false,
  };
}
