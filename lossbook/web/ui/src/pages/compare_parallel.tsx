// Compares many columns at once over parallel axes, with their correlation to the metric.

import { useEffect, useMemo, useState } from "preact/hooks";
import { saveCanvases } from "../charts/canvas_size";
import { ColorLegend } from "../charts/color_legend";
import { type Correlation, correlate, type Dimension, formatSigned } from "../charts/dimension";
import {
  type Brush,
  brushedRuns,
  brushOf,
  brushTexts,
  ParallelCoordinates,
  type ParallelRun,
} from "../charts/parallel_coordinates";
import { colorsBy } from "../charts/scatter_plot";
import { Menu } from "../components/menu";
import { NamePicker } from "../components/name_picker";
import { decodeItem, encodeItem, navigate, route, setSettings } from "../router";
import { columnOf, names } from "../runs";
import { isDark } from "../theme";
import type { RunRow } from "../types";
import {
  axisOptions,
  categoryColor,
  differingSettings,
  dimension,
  rankSettings,
  titleOf,
  useColumns,
  usualMetric,
} from "./compare_dimensions";
import { PlotSelection } from "./compare_selection";

const AT_FIRST = 6; // settings beside the metric
const MOST_AXES = 16;
const MOST_BARS = 12;

const pack = (text: string): string => encodeItem(text).replaceAll("~", "%7E");
const unpack = (text: string): string => decodeItem(text.replaceAll("%7E", "~"));

function listOf(text: string | null): string[] {
  return (text ?? "")
    .split(",")
    .filter((part) => part !== "")
    .map(unpack);
}

/** The brushes that the link has: from and to, by column. */
function brushesIn(text: string | null): Map<string, readonly [string, string]> {
  const parts = (text ?? "").split(",").map((part) => part.split("~").map(unpack));
  return new Map(parts.filter((part) => part.length === 3).map(([name, from, to]) => [name!, [from!, to!]]));
}

export function ParallelView(props: { rows: readonly RunRow[] }) {
  const { rows } = props;
  const { settings } = route.value;
  const known = names.value;
  const options = useMemo(axisOptions, [known]);
  const metric = settings.get("pm") ?? usualMetric();
  const asked = differingSettings();
  const differing = rankSettings(asked);
  const chosen =
    settings.get("pc") === null
      ? [...differing.slice(0, AT_FIRST), ...(metric === null ? [] : [metric])]
      : listOf(settings.get("pc"));
  const isReady = useColumns([...new Set([...chosen, ...(metric === null ? [] : [metric]), ...asked])]);
  // "a" is logarithmic, "!a" is not; what is not named decides by itself.
  const logs = listOf(settings.get("pl"));
  const logOf = (name: string): boolean | null =>
    logs.includes(name) ? true : logs.includes(`!${name}`) ? false : null;

  const columns = chosen.map(columnOf);
  const axes = useMemo(
    () => chosen.map((name) => dimension(name, rows, logOf(name))),
    [chosen.join("\n"), rows, settings.get("pl"), ...columns.slice(0, MOST_AXES)],
  );
  const metricColumn = metric === null ? undefined : columnOf(metric);
  const onColor = useMemo(
    () => (metric === null ? null : dimension(metric, rows, logOf(metric))),
    [metric, rows, metricColumn, settings.get("pl")],
  );
  const runs = useMemo(() => {
    const colors = colorsBy(
      onColor,
      rows.map(({ id, name }) => ({ id, name, color: null })),
      isDark.value ? "#7a8594" : "#8a93a0",
      categoryColor,
    );
    return rows.map(
      ({ id, name }, at): ParallelRun => ({
        id,
        name,
        color: colors[at]!,
        isPlain: onColor !== null && Number.isNaN(onColor.values[at]!),
      }),
    );
  }, [rows, onColor, isDark.value]);
  const inLink = settings.get("pb");
  const brushes = useMemo(() => {
    const found = new Map<string, Brush>();
    for (const [name, [from, to]] of brushesIn(inLink)) {
      const axis = axes.find((one) => one.name === name);
      const brush = axis === undefined ? null : brushOf(axis, from, to);
      if (brush !== null) found.set(name, brush);
    }
    return found;
  }, [axes, inLink]);
  const passes = useMemo(() => brushedRuns(axes, brushes, rows.length), [axes, brushes, rows.length]);
  const passed = useMemo(() => rows.filter((_, at) => passes[at] === 1).map(({ id }) => id), [rows, passes]);

  const setAxes = (next: readonly string[]): void =>
    setSettings({ pc: [...new Set(next)].slice(0, MOST_AXES).map(pack).join(",") });
  const setBrush = (name: string, texts: readonly [string, string] | null): void => {
    const next = brushesIn(inLink);
    if (texts === null) next.delete(name);
    else next.set(name, texts);
    setSettings({
      pb: next.size === 0 ? null : [...next].map(([one, [from, to]]) => [one, from, to].map(pack).join("~")).join(","),
    });
  };
  const move = (name: string, to: number): void => {
    const rest = chosen.filter((one) => one !== name);
    setAxes([...rest.slice(0, to), name, ...rest.slice(to)]);
  };
  const setLog = (name: string, log: boolean): void =>
    setSettings({
      pl: [...logs.filter((one) => one !== name && one !== `!${name}`), log ? name : `!${name}`].map(pack).join(","),
    });

  return (
    <>
      <div class="compare-bar" role="toolbar" aria-label="Parallel coordinates">
        <span class="choice">
          <span class="soft" aria-hidden="true">
            metric
          </span>
          <NamePicker
            label="Metric that colours the lines"
            current={metric ?? ""}
            options={options}
            titleOf={(name) => (name === "" ? "none" : titleOf(name))}
            onChoose={(name) => setSettings({ pm: name })}
          />
        </span>
        <NamePicker
          label="Add an axis"
          current=""
          options={options.filter((name) => !chosen.includes(name))}
          titleOf={(name) => (name === "" ? "Add an axis" : titleOf(name))}
          onChoose={(name) => setAxes([...chosen, name])}
        />
        {settings.get("pc") !== null && (
          <button type="button" onClick={() => setSettings({ pc: null, pl: null, pb: null })}>
            As at first
          </button>
        )}
        <span class="space" />
        {onColor !== null && <ColorLegend color={onColor} categoryColor={categoryColor} />}
        <button
          type="button"
          disabled={!isReady || axes.length === 0}
          onClick={(event) =>
            void saveCanvases(
              event.currentTarget.closest("main")!.querySelector(".parallel")!,
              `${route.value.project}-parallel`,
              ".axis-head .cut",
            )
          }
        >
          Save PNG
        </button>
      </div>
      {!isReady ? (
        <p class="empty" role="status">
          Reading the columns …
        </p>
      ) : axes.length === 0 ? (
        <p class="empty">No setting differs between the runs. Add an axis above.</p>
      ) : (
        <ParallelCoordinates
          runs={runs}
          axes={axes}
          brushes={brushes}
          passes={passes}
          label={`${rows.length} runs over ${axes.map(({ title }) => title).join(", ")}`}
          onBrush={(name, brush) =>
            setBrush(name, brush === null ? null : brushTexts(axes.find((one) => one.name === name)!, brush))
          }
          onMove={move}
          onOpen={(id) => navigate({ project: route.value.project, run: id })}
          head={(axis, at) => (
            <AxisMenu
              axis={axis}
              at={at}
              count={axes.length}
              texts={brushesIn(inLink).get(axis.name) ?? null}
              isColor={axis.name === metric}
              onBrush={(texts) => setBrush(axis.name, texts)}
              onMove={(to) => move(axis.name, to)}
              onLog={(log) => setLog(axis.name, log)}
              onColor={() => setSettings({ pm: axis.name })}
              onRemove={() => setAxes(chosen.filter((one) => one !== axis.name))}
            />
          )}
        />
      )}
      {isReady && onColor !== null && !onColor.isText && (
        <Importance metric={onColor} settings={differing.filter((name) => name !== metric)} rows={rows} />
      )}
      <div class="compare-foot">
        <p role="status">
          {brushes.size === 0
            ? `${rows.length.toLocaleString("en-US")} runs`
            : `${passed.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} runs pass`}
        </p>
        <PlotSelection
          ids={brushes.size === 0 ? [] : passed}
          what="pass"
          onClear={() => setSettings({ pb: null })}
          hint="Drag along an axis to filter; a click on it takes that back. Axes move with ← → or by dragging their names."
        />
      </div>
    </>
  );
}

function AxisMenu(props: {
  axis: Dimension;
  at: number;
  count: number;
  texts: readonly [string, string] | null;
  isColor: boolean;
  onBrush: (texts: readonly [string, string] | null) => void;
  onMove: (to: number) => void;
  onLog: (log: boolean) => void;
  onColor: () => void;
  onRemove: () => void;
}) {
  const { axis, at, count, texts } = props;
  const [from, to] = texts ?? ["", ""];
  const end = (label: string, current: string, change: (text: string) => void) =>
    axis.isText ? (
      <select
        aria-label={`${label} of ${axis.title}`}
        value={current}
        onChange={(event) => change(event.currentTarget.value)}
      >
        {current === "" && <option value="">any</option>}
        {axis.categories.map((category) => (
          <option key={category} value={category}>
            {category}
          </option>
        ))}
      </select>
    ) : (
      <input
        type="text"
        inputMode="decimal"
        aria-label={`${label} of ${axis.title}`}
        value={current}
        placeholder="any"
        onChange={(event) =>
          Number.isFinite(Number(event.currentTarget.value)) && change(event.currentTarget.value.trim())
        }
      />
    );
  const ends = axis.isText ? ([axis.categories[0] ?? "", axis.categories.at(-1) ?? ""] as const) : (["", ""] as const);
  const change = (low: string, high: string): void => props.onBrush(low === "" && high === "" ? null : [low, high]);
  return (
    <Menu
      label={`Axis ${axis.title}`}
      title={`${axis.title}${axis.log ? ", logarithmic" : ""}: ${axis.missing.toLocaleString("en-US")} runs have none`}
      class={`plain ${texts === null ? "" : "filtered"} ${props.isColor ? "colored" : ""}`}
      button={
        <>
          <span class="cut">
            <bdi>{axis.title}</bdi>
          </span>
          {axis.log && <small class="soft">log</small>}
        </>
      }
    >
      {(close) => (
        <>
          <span class="title">
            <bdi>{axis.name}</bdi>
          </span>
          <span class="axis-menu-row">
            <span class="soft">from</span>
            {end("From", from, (text) => change(text, to === "" ? ends[1] : to))}
            <span class="soft">to</span>
            {end("To", to, (text) => change(from === "" ? ends[0] : from, text))}
          </span>
          {texts !== null && (
            <button
              type="button"
              onClick={() => {
                close();
                props.onBrush(null);
              }}
            >
              No filter
            </button>
          )}
          <hr />
          {!axis.isText && (
            <button
              type="button"
              onClick={() => {
                close();
                props.onLog(!axis.log);
              }}
            >
              {axis.log ? "Linear" : "Logarithmic"}
            </button>
          )}
          {!props.isColor && (
            <button
              type="button"
              onClick={() => {
                close();
                props.onColor();
              }}
            >
              Colour the lines by it
            </button>
          )}
          <button type="button" disabled={at === 0} onClick={() => props.onMove(at - 1)}>
            Move left <span class="soft">←</span>
          </button>
          <button type="button" disabled={at === count - 1} onClick={() => props.onMove(at + 1)}>
            Move right <span class="soft">→</span>
          </button>
          <button
            type="button"
            onClick={() => {
              close();
              props.onRemove();
            }}
          >
            Remove
          </button>
        </>
      )}
    </Menu>
  );
}

/** How the order of runs by a setting goes together with their order by the metric. */
function Importance(props: { metric: Dimension; settings: readonly string[]; rows: readonly RunRow[] }) {
  const { metric, settings, rows } = props;
  const [found, setFound] = useState<readonly ({ name: string } & Correlation)[]>([]);
  // One after the other, with time between them for whoever drags a brush meanwhile.
  useEffect(() => {
    const all: ({ name: string } & Correlation)[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = (at: number): void => {
      const name = settings[at];
      if (name === undefined) {
        setFound(all.sort((one, other) => Math.abs(other.rho) - Math.abs(one.rho)).slice(0, MOST_BARS));
        return;
      }
      const correlation = correlate(dimension(name, rows, false), metric);
      if (correlation !== null) all.push({ name, ...correlation });
      timer = setTimeout(() => next(at + 1));
    };
    next(0);
    return () => clearTimeout(timer);
  }, [metric, rows, settings.join("\n")]);
  if (found.length === 0) return null;
  return (
    <section class="importance" aria-label="Correlation of settings with the metric">
      <h3>
        Settings and {metric.title}{" "}
        <span class="soft">
          rank correlation (Spearman’s ρ), one setting at a time; grey where it could be chance. Settings that vary
          together share it, and none of it is a cause.
        </span>
      </h3>
      <ul>
        {found.map(({ name, rho, count, low, high }) => {
          const isWeak = count < 10 || (low < 0 && high > 0);
          return (
            <li key={name} title={`95% interval ${formatSigned(low)} to ${formatSigned(high)}`}>
              <span class="cut">
                <bdi>{titleOf(name)}</bdi>
              </span>
              <span class={`bar ${isWeak ? "weak" : ""}`} aria-hidden="true">
                <i
                  style={rho < 0 ? { right: "50%", width: `${-50 * rho}%` } : { left: "50%", width: `${50 * rho}%` }}
                />
              </span>
              <span class="number">{formatSigned(rho)}</span>
              <span class="number soft">{count.toLocaleString("en-US")} runs</span>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
