// Draws the curves of one metric over many runs, with zoom, tooltip, legend and export.

import "./curve_chart.css";

import { useComputed } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { axisTitle, number } from "../format";
import type { ChartSettings } from "../settings";
import { bindShortcuts } from "../shortcuts";
import { isDark } from "../theme";
import { ChartFooter } from "./chart_footer";
import { Legend, TableOfLines } from "./chart_legend";
import { ChartMarks, focusMark } from "./chart_marks";
import { Menu } from "./chart_menu";
import { ChartModel } from "./chart_model";
import { ChartTooltip, describeReadings, type TooltipPosition } from "./chart_tooltip";
import { cursor } from "./cursor";
import { pressKey, type Selection, stepOf, watchPointer } from "./interaction";
import { kindOfUnit } from "./ticks";
import type { ChartSeries, ChartState } from "./types";

export interface CurveChartProps {
  title: string;
  series: readonly ChartSeries[];
  settings: ChartSettings;
  unit?: string | null;
  goal?: string | null;
  height?: number; // px of the plot with its axes
  onExpand?: () => void; // a button that shows it large; absent: none
  ownRange?: boolean; // zoom of its own, in place of the one in the link
}

/** Charts are made ready before they come into sight. */
const NEAR = "200px";

export function CurveChart(props: CurveChartProps) {
  const { title, series, settings, unit = null, goal = null, height = 240, ownRange = false } = props;
  const [model] = useState(() => new ChartModel());
  const figure = useRef<HTMLElement>(null);
  const place = useRef<HTMLDivElement>(null);
  const [selection, setSelection] = useState<Selection | null>(null);
  const [tip, setTip] = useState<TooltipPosition | null>(null);
  const [asTable, setAsTable] = useState(false);
  const [said, setSaid] = useState("");
  const pinned = useRef(false);
  const byKeys = useRef(false); // the cursor was put where it is by keys
  const state = model.state.value;
  const dark = isDark.value;

  useLayoutEffect(() => {
    const element = place.current!;
    model.canvas.begin(element);
    model.begin();
    const measure = (): void => {
      const { width, height: tall } = element.getBoundingClientRect();
      if (width > 0 && model.canvas.resize(Math.floor(width), Math.floor(tall), devicePixelRatio || 1)) model.resized();
    };
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    // Where the page is busy several notes come at once: the last one holds.
    const sight = new IntersectionObserver((entries) => model.setVisible(entries.at(-1)!.isIntersecting), {
      rootMargin: NEAR,
    });
    sight.observe(figure.current!);
    // Dragged to a screen of other pixels, or zoomed by the browser.
    addEventListener("resize", measure);
    measure();
    const release = watchPointer(element, model, {
      onSelection: setSelection,
      onPoint: (point) => {
        byKeys.current = false;
        if (!pinned.current) setTip(point === null ? null : { ...point, pinned: false });
      },
      onClick: () =>
        setTip((before) => {
          pinned.current = before !== null && !before.pinned;
          return before === null || before.pinned
            ? null
            : { ...before, pinned: true, x: model.canvas.plotPlace(before.left, before.top).left };
        }),
    });
    return () => {
      release();
      sizes.disconnect();
      sight.disconnect();
      removeEventListener("resize", measure);
      model.close();
    };
  }, []);
  useEffect(
    () => model.set({ title, series, settings, unit, goal, ownRange }),
    [title, series, settings, unit, goal, ownRange],
  );
  useEffect(() => model.repaint(), [dark, height]);
  const unpin = (): void => {
    pinned.current = false;
    setTip(null);
  };
  useEffect(
    () => (tip?.pinned ? bindShortcuts([{ key: "Escape", description: "", action: unpin }]) : undefined),
    [tip?.pinned],
  );

  const stepTo = (by: number): void => {
    const place = model.stepCursor(by);
    if (place === null) return;
    byKeys.current = true;
    setSaid(describeReadings(model, place.x, unit));
    const { frame } = model.canvas;
    const middle = frame.y.log ? Math.sqrt(frame.y.min * frame.y.max) : (frame.y.min + frame.y.max) / 2;
    if (!pinned.current)
      setTip({
        left: model.canvas.pageX(place.x),
        top: model.canvas.pageY(Number.isFinite(place.y) ? place.y : middle),
        pinned: false,
      });
  };
  const letCursorGo = (): boolean => {
    if (!byKeys.current) return false;
    byKeys.current = false;
    cursor.value = null;
    setSaid("");
    if (!pinned.current) setTip(null);
    return true;
  };

  const summary = useComputed(() => describe(title, model.state.value, goal, settings.x));
  const nothing = !state.loading && state.lines.length === 0;
  return (
    <figure
      ref={figure}
      class="curve-chart"
      tabIndex={0}
      aria-label={summary.value}
      data-drawn={state.lines.length}
      data-loading={state.loading ? "" : undefined}
      onKeyDown={(event) => {
        if (event.target !== figure.current || event.ctrlKey || event.altKey || event.metaKey) return;
        const by = stepOf(event.key);
        if (by !== 0) stepTo(by);
        else if (event.key === "m" || event.key === "M") {
          if (!focusMark(figure.current!, event.key === "m" ? 1 : -1)) return;
        } else if (!(event.key === "Escape" && letCursorGo()) && !pressKey(event.key, model)) return;
        event.preventDefault();
      }}
      onBlur={(event) => event.target === figure.current && letCursorGo()}
    >
      <figcaption>
        <span class="cut" title={title}>
          {title}
          {unit !== null && unit !== "" && kindOfUnit(unit) === "number" && <span class="unit"> {unit}</span>}
        </span>
        {(state.range !== null || model.ownY.value !== null) && (
          <button type="button" class="plain small" onClick={() => model.reset()} title="Show all (0, or double click)">
            Reset zoom
          </button>
        )}
        {props.onExpand !== undefined && (
          <button
            type="button"
            class="plain small"
            onClick={props.onExpand}
            aria-label={`Show ${title} large`}
            title="Show large"
          >
            ⤢
          </button>
        )}
        <Menu model={model} title={title} asTable={asTable} onTable={setAsTable} />
      </figcaption>
      <div ref={place} class="plot" style={{ height: `${height}px` }}>
        <canvas role="img" aria-label={summary.value} />
        <canvas class="over" aria-hidden="true" />
        {selection !== null && (
          <div
            class="selection"
            style={{
              left: `${selection.left}px`,
              top: `${selection.top}px`,
              width: `${selection.width}px`,
              height: `${selection.height}px`,
            }}
          />
        )}
        {settings.marks && <ChartMarks model={model} state={state} />}
        {state.lines.length === 0 && state.loading && <div class="skeleton" aria-hidden="true" />}
        {nothing && (
          <p class="nothing">
            {series.length === 0
              ? "No run is chosen."
              : (state.failure ?? "Nothing to draw: none of these runs logged it.")}
          </p>
        )}
        {tip !== null && state.lines.length > 0 && <ChartTooltip model={model} tip={tip} unit={unit} onClose={unpin} />}
      </div>
      <div class="unseen" role="status">
        {said}
      </div>
      <Legend model={model} series={series} unit={unit} />
      <ChartFooter model={model} state={state} axis={settings.x} />
      {asTable && (
        <TableOfLines
          lines={state.lines}
          marks={settings.marks ? (model.canvas.drawing?.marks ?? []) : []}
          axis={settings.x}
          title={title}
          unit={unit}
        />
      )}
    </figure>
  );
}

/** The figure in one sentence. */
function describe(title: string, { lines, loading }: ChartState, goal: string | null, x: string): string {
  if (lines.length === 0) return loading ? `${title}, loading` : `${title}, nothing to draw`;
  const lasts = lines
    .map((line) => ({ label: line.label, value: lastValue(line.y, line.length) }))
    .filter(({ value }) => Number.isFinite(value));
  const best =
    goal === null
      ? null
      : lasts.reduce<{ label: string; value: number } | null>(
          (before, one) =>
            before === null || (goal === "minimize" ? one.value < before.value : one.value > before.value)
              ? one
              : before,
          null,
        );
  const told = lasts
    .slice(0, 5)
    .map(({ label, value }) => `${label} ${number(value)}`)
    .join(", ");
  return `${title} against ${axisTitle(x)}, ${lines.length} ${lines.length === 1 ? "line" : "lines"}. Last values: ${told}${lasts.length > 5 ? `, and ${lasts.length - 5} more` : ""}.${best === null ? "" : ` Best: ${best.label} ${number(best.value)}.`}`;
}

function lastValue(values: Float64Array, length: number): number {
  for (let at = length - 1; at >= 0; at -= 1) if (Number.isFinite(values[at]!)) return values[at]!;
  return NaN;
}
