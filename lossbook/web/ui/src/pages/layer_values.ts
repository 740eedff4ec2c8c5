// The values of a layer heatmap: which statistic is coloured, and how rows are normalised.

import type { MatrixAnswer } from "../api";

export type Statistic = "mean" | "min" | "max";
export type Normal = "none" | "z" | "first";

export function statisticOf(matrix: MatrixAnswer, statistic: Statistic): Float64Array {
  return matrix[statistic];
}

/** Each row minus its mean in its own deviations ("z"), or divided by its first value ("first"). */
export function normaliseRows(matrix: MatrixAnswer, values: Float64Array, normal: Normal): Float64Array {
  if (normal === "none") return values;
  const { columns } = matrix;
  const found = new Float64Array(values.length).fill(NaN);
  for (let row = 0; row * columns < values.length; row += 1) {
    const own = values.subarray(row * columns, (row + 1) * columns);
    let [count, sum] = [0, 0];
    let first = NaN;
    for (const value of own) {
      if (!Number.isFinite(value)) continue;
      if (count === 0) first = value;
      count += 1;
      sum += value;
    }
    if (count === 0) continue;
    const mean = sum / count;
    let squares = 0;
    for (const value of own) if (Number.isFinite(value)) squares += (value - mean) ** 2;
    const deviation = Math.sqrt(squares / count);
    for (let at = 0; at < columns; at += 1) {
      const value = own[at]!;
      if (!Number.isFinite(value)) continue;
      // A row that never changes lies on its mean.
      if (normal === "z") found[row * columns + at] = deviation > 0 ? (value - mean) / deviation : 0;
      else if (first !== 0) found[row * columns + at] = value / first;
    }
  }
  return found;
}

/** What a colour stands for. */
export function describeStatistic(statistic: Statistic, normal: Normal): string {
  const names = { mean: "mean", min: "minimum", max: "maximum" };
  if (normal === "z") return `${names[statistic]}, z-score of its row`;
  if (normal === "first") return `${names[statistic]} / first of its row`;
  return names[statistic];
}
