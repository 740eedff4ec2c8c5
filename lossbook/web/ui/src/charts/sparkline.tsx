// Draws a curve the size of a word.

import { useEffect, useRef } from "preact/hooks";

import type { CurveAnswer } from "../api";
import { watchSparkline } from "./sparkline_data";

export interface SparklineProps {
  project: string;
  run: string;
  metric: string;
  created: number; // when the run began: one that is recorded under its id later on is another
  color: string;
  width?: number; // px
  height?: number;
  state: string;
}

export function Sparkline(props: SparklineProps) {
  const { project, run, metric, created, color, width = 64, height = 18, state } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const curve = useRef<CurveAnswer | null>(null);
  const look = useRef({ color, width, height });
  look.current = { color, width, height };
  useEffect(() => {
    const element = canvas.current!;
    let release: (() => void) | null = null;
    const sight = new IntersectionObserver(
      (entries) => {
        const isSeen = entries.at(-1)!.isIntersecting; // the last of several notes holds
        if (isSeen && release === null) {
          release = watchSparkline(project, run, metric, created, state, (answer) => {
            curve.current = answer;
            draw(element, answer, look.current);
          });
        } else if (!isSeen && release !== null) {
          release();
          release = null;
        }
      },
      { rootMargin: "100px" },
    );
    sight.observe(element);
    return () => {
      sight.disconnect();
      release?.();
    };
  }, [project, run, metric, created, state]);
  useEffect(() => draw(canvas.current!, curve.current, { color, width, height }), [color, width, height]);
  return (
    <canvas
      ref={canvas}
      class="sparkline"
      style={{ width: `${width}px`, height: `${height}px`, display: "block" }}
      aria-hidden="true"
    />
  );
}

/** Every extreme is kept: each bucket is a stroke from its minimum to its maximum. */
function draw(
  canvas: HTMLCanvasElement,
  curve: CurveAnswer | null,
  look: { color: string; width: number; height: number },
): void {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(look.width * ratio);
  canvas.height = Math.round(look.height * ratio);
  const context = canvas.getContext("2d");
  if (context === null || curve === null || curve.length === 0) return;
  const { x, x_end, min, max, mean, length } = curve;
  let [low, high] = [Infinity, -Infinity];
  for (let at = 0; at < length; at += 1) {
    if (min[at]! < low) low = min[at]!;
    if (max[at]! > high) high = max[at]!;
  }
  if (!Number.isFinite(low) || !Number.isFinite(high)) return;
  const [from, to] = [x[0]!, x_end[length - 1]!];
  const edge = 1.5 * ratio;
  const placeX = (value: number): number => edge + ((value - from) / (to - from || 1)) * (canvas.width - 2 * edge);
  const placeY = (value: number): number =>
    canvas.height - edge - (high > low ? (value - low) / (high - low) : 0.5) * (canvas.height - 2 * edge);
  context.strokeStyle = look.color;
  context.lineWidth = ratio;
  context.lineJoin = "round";
  context.beginPath();
  let open = false;
  for (let at = 0; at < length; at += 1) {
    const drawn = Number.isFinite(mean[at]!);
    if (drawn) {
      const place = placeX((x[at]! + x_end[at]!) / 2);
      if (open) context.lineTo(place, placeY(mean[at]!));
      else context.moveTo(place, placeY(mean[at]!));
      if (max[at]! > min[at]!) {
        context.lineTo(place, placeY(min[at]!));
        context.lineTo(place, placeY(max[at]!));
        context.lineTo(place, placeY(mean[at]!));
      }
    }
    open = drawn;
  }
  if (length === 1) context.lineTo(canvas.width - edge, placeY(mean[0]!));
  context.stroke();
}
