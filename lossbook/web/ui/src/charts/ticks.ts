// Chooses the ticks of an axis and their labels, with as many digits as tell neighbours apart.

import { bytes, duration, number, withUnit } from "../format";
import type { Scale } from "./types";

export interface Ticks {
  at: number[];
  labels: string[]; // "" for a line without a label
}

export type TickKind = "number" | "whole" | "duration" | "bytes" | "time";

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
const UNITS: readonly [number, string][] = [
  [1e18, "E"],
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const MOST = 60;

/** 1, 2 or 5 times a power of ten, at or above. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5]) if (factor * power >= least * 0.9999) return factor * power;
  return 10 * power;
}

function stepOf(kind: TickKind, least: number): number {
  switch (kind) {
    case "whole":
      return Math.max(1, niceStep(least));
    case "bytes":
      return 2 ** Math.ceil(Math.log2(Math.max(least, 1)));
    case "duration":
    case "time": {
      if (least <= 0.5) return niceStep(least);
      const found = SECONDS.find((step) => step >= least);
      return found ?? 86_400 * Math.ceil(niceStep(least / 86_400));
    }
    default:
      return niceStep(least);
  }
}

/** How a number reads beside others that are `step` apart. */
function label(value: number, step: number, largest: number): string {
  if (Math.abs(value) < step / 1e6) return "0";
  const [factor, letter] = UNITS.find(([size]) => largest >= size * 10 || (largest >= size && step >= size / 20)) ?? [
    1,
    "",
  ];
  if (letter === "" && largest < 1e-3) return number(value, Math.max(2, Math.ceil(Math.log10(largest / step)) + 2));
  const digits = Math.max(0, Math.min(12, Math.ceil(-Math.log10((step / factor) * 1.0001))));
  const text = (value / factor).toFixed(digits);
  return `${text.includes(".") ? text.replace(/\.?0+$/, "") : text}${letter}`.replace("-", "−");
}

function timeLabel(at: number, step: number): string {
  const date = new Date(at * 1000);
  const two = (part: number) => String(part).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
  const isMidnight = clock === "00:00" && date.getSeconds() === 0;
  if (step >= 86_400 || isMidnight) return date.toLocaleDateString("en-US", { month: "short", day: "numeric" });
  return step < 60 ? `${clock}:${two(date.getSeconds())}` : clock;
}

function logTicks({ min, max }: Scale, most: number): Ticks {
  const decades = Math.log10(max / min);
  const at: number[] = [];
  const labels: string[] = [];
  const every = Math.max(1, Math.ceil(decades / most));
  const withHalves = decades * 3 <= most * 1.3;
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max) && at.length < 400; power += 1) {
    for (const factor of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      const value = factor * 10 ** power;
      if (value < min * 0.9999 || value > max * 1.0001) continue;
      const main = factor === 1 && power % every === 0;
      if (!main && (every > 1 || decades > 8)) continue;
      at.push(value);
      const half = withHalves && (factor === 2 || factor === 5);
      labels.push(main || half ? powerLabel(value) : "");
    }
  }
  return { at, labels };
}

function powerLabel(value: number): string {
  if (value >= 1e-3 && value < 1e19) return label(value, value, value);
  return number(value, 3);
}

/** `length` and `apart` in pixels: how long the axis is, and how near two labels may come. */
export function makeTicks(scale: Scale, kind: TickKind, length: number, apart: number): Ticks {
  const { min, max } = scale;
  const most = Math.max(1, Math.floor(length / apart));
  if (!(max > min) || !Number.isFinite(max - min)) return { at: [], labels: [] };
  if (scale.log && Math.log10(max / min) >= 1) return logTicks(scale, most);
  const step = stepOf(kind, (max - min) / most);
  // Days begin at midnight where the reader is.
  const shift = kind === "time" && step > 1800 ? -60 * new Date(min * 1000).getTimezoneOffset() : 0;
  const first = Math.ceil((min + shift) / step - 1e-9) + 0; // + 0: not −0
  const at: number[] = [];
  for (let place = first; place * step - shift <= max + step * 1e-9 && at.length < MOST; place += 1)
    at.push(place * step - shift);
  const largest = Math.max(Math.abs(min), Math.abs(max));
  const labels = at.map((value) => {
    switch (kind) {
      case "time":
        return timeLabel(value, step);
      case "duration":
        return value === 0 ? "0" : duration(Number(value.toPrecision(12)));
      case "bytes":
        return value === 0 ? "0" : bytes(value);
      default:
        return label(value, step, largest);
    }
  });
  return { at, labels };
}

export function kindOfAxis(x: string): TickKind {
  if (x === "time") return "time";
  if (x === "wallclock" || x === "elapsed") return "duration";
  if (x === "step" || x === "gradient_step" || x === "tokens") return "whole";
  return "number";
}

export function kindOfUnit(unit: string | null | undefined): TickKind {
  if (unit === "B" || unit === "bytes") return "bytes";
  if (unit === "s" || unit === "seconds") return "duration";
  return "number";
}

/** A value beside others of its unit: the unit stands in the title, unless it changes with the size. */
export function amount(value: number | null, unit: string | null | undefined): string {
  return kindOfUnit(unit) === "number" ? number(value) : withUnit(value, unit);
}
