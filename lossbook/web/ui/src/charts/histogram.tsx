// Draws distributions: one as bars, many over steps as a strip with a column for each. Areas stand for counts.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { number, short } from "../format";
import { isDark } from "../theme";

/** `counts[i]` values lie between `edges[i]` and `edges[i + 1]`. */
export interface Distribution {
  step: number;
  edges: readonly number[];
  counts: readonly number[];
  nonfinite: number;
}

function widthOf(box: HTMLElement | null, tell: (width: number) => void): () => void {
  if (box === null) return () => undefined;
  const watcher = new ResizeObserver(([entry]) => entry && tell(Math.round(entry.contentRect.width)));
  watcher.observe(box);
  return () => watcher.disconnect();
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** The mean and the standard deviation, as far as the bins tell. */
function moments({ edges, counts }: Distribution): { mean: number; deviation: number } {
  const all = total(counts);
  if (all === 0) return { mean: NaN, deviation: NaN };
  const middle = (at: number): number => (edges[at]! + edges[at + 1]!) / 2;
  const mean = counts.reduce((sum, count, at) => sum + count * middle(at), 0) / all;
  return {
    mean,
    deviation: Math.sqrt(counts.reduce((sum, count, at) => sum + count * (middle(at) - mean) ** 2, 0) / all),
  };
}

export function describe(one: Distribution): string {
  const { mean, deviation } = moments(one);
  const all = total(one.counts);
  return (
    `${all.toLocaleString("en-US")} ${all === 1 ? "value" : "values"} from ${number(one.edges[0], 4)} to ${number(one.edges.at(-1), 4)}, mean ${number(mean, 4)}, deviation ${number(deviation, 4)}` +
    (one.nonfinite > 0 ? `, ${one.nonfinite.toLocaleString("en-US")} not finite` : "")
  );
}

const MARGIN = { left: 54, right: 10, top: 8, bottom: 20 };

/** One distribution as bars. `range`: of the values, the same for several that are to be held against each other. */
export function HistogramBars(props: {
  of: Distribution;
  color: string;
  height?: number;
  range?: readonly [number, number];
  label: string;
}) {
  const { of, color } = props;
  const height = props.height ?? 180;
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [over, setOver] = useState<number | null>(null);
  useEffect(() => widthOf(box.current, setWidth), []);
  let [low, high] = props.range ?? [of.edges[0] ?? 0, of.edges.at(-1) ?? 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const inner = { width: Math.max(1, width - MARGIN.left - MARGIN.right), height: height - MARGIN.top - MARGIN.bottom };
  const x = (value: number): number => MARGIN.left + ((value - low) / (high - low)) * inner.width;
  const isPoint = of.edges.length === 2 && of.edges[0] === of.edges[1];
  // Bins may differ in width: the height is the count per width, so that the area is the count.
  const density = (at: number): number =>
    isPoint ? of.counts[at]! : of.counts[at]! / (of.edges[at + 1]! - of.edges[at]! || 1);
  const most = Math.max(...of.counts.map((_, at) => density(at)), 1e-300);
  const evenWidth = isPoint || of.counts.length === 0 ? 1 : (of.edges.at(-1)! - of.edges[0]!) / of.counts.length;
  const bar = over === null ? null : { from: of.edges[over]!, to: of.edges[over + 1]!, count: of.counts[over]! };
  return (
    <div ref={box} class="histogram" style={{ height: `${height}px` }}>
      {width > 0 && (
        <svg
          width={width}
          height={height}
          role="img"
          aria-label={`${props.label}: ${describe(of)}`}
          onPointerLeave={() => setOver(null)}
        >
          {[0, 0.5, 1].map((part) => (
            <g key={part}>
              <line
                class="grid"
                x1={MARGIN.left}
                x2={width - MARGIN.right}
                y1={MARGIN.top + inner.height * (1 - part)}
                y2={MARGIN.top + inner.height * (1 - part)}
              />
              <text class="axis" x={MARGIN.left - 6} y={MARGIN.top + inner.height * (1 - part) + 4} text-anchor="end">
                {short(Math.round(most * part * evenWidth))}
              </text>
            </g>
          ))}
          {of.counts.map((count, at) => {
            const [from, to] = isPoint
              ? [x(of.edges[0]!) - 3, x(of.edges[0]!) + 3]
              : [x(of.edges[at]!), x(of.edges[at + 1]!)];
            const high = (density(at) / most) * inner.height;
            return (
              <g key={at} onPointerEnter={() => setOver(at)}>
                <rect x={from} y={MARGIN.top} width={Math.max(1, to - from)} height={inner.height} fill="transparent" />
                {count > 0 && (
                  <rect
                    x={from + 0.5}
                    y={MARGIN.top + inner.height - high}
                    width={Math.max(0.8, to - from - 1)}
                    height={high}
                    fill={color}
                    opacity={over === null || over === at ? 1 : 0.55}
                  />
                )}
              </g>
            );
          })}
          {[0, 0.25, 0.5, 0.75, 1].map((part) => (
            <text
              key={part}
              class="axis"
              x={x(low + (high - low) * part)}
              y={height - 5}
              text-anchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}
            >
              {number(low + (high - low) * part, 3)}
            </text>
          ))}
        </svg>
      )}
      {bar !== null && (
        <p class="tip soft">
          {number(bar.from, 4)} to {number(bar.to, 4)}: <b>{bar.count.toLocaleString("en-US")}</b>
        </p>
      )}
    </div>
  );
}

const ROWS = 72;

/** The counts of one distribution in equal bins between `low` and `high`: what overlaps a bin in part counts in part. */
export function rebin(of: Distribution, low: number, high: number, bins: number): Float64Array {
  const counted = new Float64Array(bins);
  const wide = (high - low) / bins;
  of.counts.forEach((count, at) => {
    const [from, to] = [of.edges[at]!, of.edges[at + 1]!];
    const first = Math.max(0, Math.min(bins - 1, Math.floor((from - low) / wide)));
    const last = Math.max(first, Math.min(bins - 1, Math.ceil((to - low) / wide) - 1));
    for (let bin = first; bin <= last; bin += 1) {
      const overlap = Math.min(to, low + (bin + 1) * wide) - Math.max(from, low + bin * wide);
      counted[bin]! +=
        first === last || to === from ? count / (last - first + 1) : (count * Math.max(0, overlap)) / (to - from);
    }
  });
  return counted;
}

/** The least and the greatest edge of all. */
export function rangeOf(all: readonly Distribution[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const { edges, counts } of all) {
    if (total(counts) === 0) continue;
    low = Math.min(low, edges[0] ?? Infinity);
    high = Math.max(high, edges.at(-1) ?? -Infinity);
  }
  return low > high ? [0, 1] : low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Distributions over steps: darker where more values lie. A click chooses the nearest step. */
export function HistogramStrip(props: {
  all: readonly Distribution[];
  step: number;
  onStep: (step: number) => void;
  color: string;
  height?: number;
  label: string;
}) {
  const { all, step, color } = props;
  const height = props.height ?? 200;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => widthOf(box.current, setWidth), []);
  const [low, high] = rangeOf(all);
  const steps = all.map((one) => one.step);
  const [first, last] = [steps[0] ?? 0, steps.at(-1) ?? 1];
  const inner = { width: Math.max(1, width - MARGIN.left - MARGIN.right), height: height - MARGIN.top - MARGIN.bottom };
  const x = (at: number): number => MARGIN.left + (first === last ? 0.5 : (at - first) / (last - first)) * inner.width;

  useLayoutEffect(() => {
    const element = canvas.current;
    const pen = element?.getContext("2d");
    if (!element || !pen || width === 0) return;
    const scale = devicePixelRatio || 1;
    element.width = width * scale;
    element.height = height * scale;
    pen.scale(scale, scale);
    pen.fillStyle = color;
    all.forEach((one, at) => {
      // A column reaches half way to its neighbours.
      const from = at === 0 ? MARGIN.left : (x(steps[at - 1]!) + x(steps[at]!)) / 2;
      const to = at === all.length - 1 ? MARGIN.left + inner.width : (x(steps[at]!) + x(steps[at + 1]!)) / 2;
      const bins = rebin(one, low, high, ROWS);
      const most = Math.max(...bins, 1e-300);
      bins.forEach((count, bin) => {
        if (count <= 0) return;
        // The root, for tails would not be seen otherwise.
        pen.globalAlpha = Math.max(0.05, Math.sqrt(count / most));
        const top = MARGIN.top + inner.height * (1 - (bin + 1) / ROWS);
        pen.fillRect(from, top, Math.max(0.6, to - from + 0.3), inner.height / ROWS + 0.3);
      });
    });
    pen.globalAlpha = 1;
  }, [all, width, height, color, isDark.value]);

  const choose = (clientX: number): void => {
    const left = box.current!.getBoundingClientRect().left;
    const nearest = steps.reduce(
      (best, one) => (Math.abs(x(one) - (clientX - left)) < Math.abs(x(best) - (clientX - left)) ? one : best),
      first,
    );
    props.onStep(nearest);
  };
  return (
    <div ref={box} class="histogram strip" style={{ height: `${height}px` }}>
      <canvas
        ref={canvas}
        style={{ width: `${width}px`, height: `${height}px` }}
        role="img"
        aria-label={`${props.label}: ${all.length} distributions from step ${first} to ${last}, values from ${number(low, 4)} to ${number(high, 4)}`}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          choose(event.clientX);
        }}
        onPointerMove={(event) => event.buttons === 1 && choose(event.clientX)}
      />
      {width > 0 && (
        <svg class="over" width={width} height={height} aria-hidden="true">
          {[0, 0.5, 1].map((part) => (
            <text
              key={part}
              class="axis"
              x={MARGIN.left - 6}
              y={MARGIN.top + inner.height * (1 - part) + 4}
              text-anchor="end"
            >
              {number(low + (high - low) * part, 2)}
            </text>
          ))}
          {[0, 0.5, 1].map((part) => (
            <text
              key={part}
              class="axis"
              x={MARGIN.left + inner.width * part}
              y={height - 5}
              text-anchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}
            >
              {number(Math.round(first + (last - first) * part))}
            </text>
          ))}
          <line class="chosen" x1={x(step)} x2={x(step)} y1={MARGIN.top} y2={height - MARGIN.bottom} />
        </svg>
      )}
    </div>
  );
}
