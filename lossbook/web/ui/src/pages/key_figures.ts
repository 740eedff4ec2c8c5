// The key figures of a run: losses, tokens, speed, utilisation, by the roles of its metrics.

import { asNumber, duration, number, short } from "../format";
import type { Metric, Role, RunPage, RunRow } from "../types";

const LOSSES = [
  ["Training loss", "train-loss"],
  ["Validation loss", "val-loss"],
  ["Test loss", "test-loss"],
] as const;

export interface Figure {
  title: string;
  value: string;
  more?: string | undefined;
}

/** What a run came to, by the roles of its metrics. */
export function keyFigures(
  page: Pick<RunPage, "metrics" | "key_metrics" | "gpus">,
  row: Pick<RunRow, "duration" | "last_step">,
): Figure[] {
  const byKey = new Map(page.metrics.map((metric) => [metric.key, metric]));
  const byRole = new Map(page.key_metrics.map((one) => [one.role, one]));
  const metricOf = (role: Role): Metric | undefined => byKey.get(byRole.get(role)?.key ?? "");
  const figures: Figure[] = [];
  for (const [title, role] of LOSSES) {
    const metric = metricOf(role);
    if (metric === undefined) continue;
    const [best, step] = metric.goal === "maximize" ? [metric.max, metric.max_step] : [metric.min, metric.min_step];
    figures.push({ title, value: number(asNumber(metric.last)), more: atStep(metric.last_step) });
    figures.push({ title: `Best ${title.toLowerCase()}`, value: number(asNumber(best)), more: atStep(step) });
  }
  const tokens = asNumber(metricOf("tokens")?.last);
  if (tokens !== null) figures.push({ title: "Tokens", value: short(tokens) });
  const speed = metricOf("speed");
  if (speed !== undefined)
    figures.push({
      title: capitalised(speed.unit ?? speed.key),
      value: short(asNumber(speed.last) ?? NaN),
      more: `mean ${short(asNumber(speed.mean) ?? NaN)}`,
    });
  const utilisation = asNumber(metricOf("utilisation")?.last);
  if (utilisation !== null)
    figures.push({
      title: "MFU",
      value: `${number(utilisation * (byRole.get("utilisation")?.percent_factor ?? 1), 3)} %`,
    });
  const { gpus } = page;
  if (gpus > 0)
    figures.push({
      title: "GPU hours",
      value: number((gpus * row.duration) / 3600, 3),
      more: `${gpus} ${gpus === 1 ? "GPU" : "GPUs"}`,
    });
  figures.push({
    title: "Steps",
    value: row.last_step === null ? "–" : row.last_step.toLocaleString("en-US"),
    more: duration(row.duration),
  });
  return figures;
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function atStep(step: number | null): string | undefined {
  return step === null ? undefined : `at step ${step.toLocaleString("en-US")}`;
}
