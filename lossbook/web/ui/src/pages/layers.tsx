// One quantity of many layers over steps, as a heatmap.

import "./layers.css";
import { useMemo } from "preact/hooks";
import { api } from "../api";
import { type ColorScale, fitScale, type ScaleKind } from "../charts/color_scale";
import { CurveChart } from "../charts/curve_chart";
import { fileName, save } from "../charts/export";
import { Heatmap } from "../charts/heatmap";
import type { ChartSeries } from "../charts/types";
import { NamePicker } from "../components/name_picker";
import { asCsv } from "../components/table_text";
import { useQuery } from "../components/use_query";
import { axisTitle, axisValue, number } from "../format";
import { decodeItem, encodeItem, route, setSettings } from "../router";
import { names, palette, runById } from "../runs";
import { chartSettings, setChart } from "../settings";
import type { Family } from "../types";
import { describeStatistic, type Normal, normaliseRows, statisticOf } from "./layer_values";
import { useMatrix } from "./use_matrix";

const MOST_ROWS = 5000;

const MOST_CHOSEN = 12;

const AXES = ["step", "wallclock", "elapsed", "time"];

/** What stands in the link under names of our own. */
function useLayerSettings() {
  const { settings } = route.value;
  const kind = settings.get("lscale");
  const normal = settings.get("lnorm");
  const [first = NaN, last = NaN] = (settings.get("rows") ?? "").split(",").map(Number);
  return {
    family: settings.get("family"),
    statistic: (["mean", "min", "max"] as const).find((one) => one === settings.get("lstat")) ?? "mean",
    scale: (["linear", "log", "symlog"] as const).find((one) => one === kind) ?? null,
    normal: (["z", "first"] as const).find((one) => one === normal) ?? ("none" as Normal),
    share: settings.get("lrange") === "all" ? 1 : 0.98,
    rows:
      Number.isInteger(first) && Number.isInteger(last) && first >= 0 && first <= last
        ? ([first, last] as const)
        : null,
    chosen: (settings.get("layer") ?? "")
      .split(",")
      .filter((part) => part !== "")
      .map(decodeItem),
  };
}

export function LayersView(props: { project: string; run: string }) {
  const { project, run } = props;
  const state = runById(run)?.state ?? "finished";
  const live = state === "running";
  const { answer, failure } = useQuery(
    `families ${project}/${run}`,
    (signal) => api.families({ project, run }, signal),
    live,
    15_000,
  );
  if (answer === null)
    return (
      <p class={failure === null ? "empty" : "notice bad"} role="status">
        {failure ?? "Looking for layers …"}
      </p>
    );
  if (answer.families.length === 0) {
    return (
      <div class="empty">
        <p>
          No series of this run is one of many layers. Log one for each layer, as in{" "}
          <code>{'run.log({f"layers/{i}/grad_norm": norm for i, norm in enumerate(norms)}, step=step)'}</code>, or let{" "}
          <code>lossbook.lm.ExperimentTracker</code> log them; they appear here by themselves.
        </p>
      </div>
    );
  }
  return <Families project={project} run={run} live={live} state={state} families={answer.families} />;
}

function Families(props: { project: string; run: string; live: boolean; state: string; families: readonly Family[] }) {
  const { families } = props;
  const settings = useLayerSettings();
  const largest = families.reduce((most, one) => (one.keys.length > most.keys.length ? one : most));
  const family = families.find(({ pattern }) => pattern === settings.family) ?? largest;
  const byPattern = new Map(families.map((one) => [one.pattern, one]));
  const titleOf = (pattern: string): string =>
    `${pattern} (${(byPattern.get(pattern)?.keys.length ?? 0).toLocaleString("en-US")})`;
  return (
    <div class="layers">
      <div class="layers-bar" role="toolbar" aria-label="Heat map">
        <NamePicker
          label="Layers"
          current={family.pattern}
          options={families.map(({ pattern }) => pattern)}
          titleOf={titleOf}
          onChoose={(pattern) => setSettings({ family: pattern, rows: null, layer: null })}
        />
        <label>
          <span class="soft">x</span>
          <select
            aria-label="X axis"
            value={chartSettings.value.x}
            onChange={(event) => setChart({ x: event.currentTarget.value })}
          >
            {[...new Set([...(names.value?.axes ?? AXES), chartSettings.value.x])].map((axis) => (
              <option key={axis} value={axis}>
                {axisTitle(axis)}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span class="soft">of each cell</span>
          <select
            aria-label="Statistic"
            value={settings.statistic}
            onChange={(event) =>
              setSettings({ lstat: event.currentTarget.value === "mean" ? null : event.currentTarget.value })
            }
          >
            <option value="mean">mean</option>
            <option value="min">minimum</option>
            <option value="max">maximum</option>
          </select>
        </label>
        <label>
          <span class="soft">rows</span>
          <select
            aria-label="Normalise each row"
            value={settings.normal}
            onChange={(event) =>
              setSettings({ lnorm: event.currentTarget.value === "none" ? null : event.currentTarget.value })
            }
          >
            <option value="none">as they are</option>
            <option value="z">z-score of each row</option>
            <option value="first">relative to each row’s first</option>
          </select>
        </label>
        <label>
          <span class="soft">colour</span>
          <select
            aria-label="Colour scale"
            value={settings.scale ?? ""}
            onChange={(event) => setSettings({ lscale: event.currentTarget.value || null })}
          >
            <option value="">fitting</option>
            <option value="linear">linear</option>
            <option value="log">logarithmic</option>
            <option value="symlog">symmetric log</option>
          </select>
        </label>
        <label>
          <span class="soft">range</span>
          <select
            aria-label="Range of the colours"
            value={settings.share === 1 ? "all" : ""}
            onChange={(event) => setSettings({ lrange: event.currentTarget.value || null })}
          >
            <option value="">98% of cells</option>
            <option value="all">all cells</option>
          </select>
        </label>
        {(chartSettings.value.range !== null || settings.rows !== null) && (
          <button
            type="button"
            class="primary"
            title="Show all (0, or double click)"
            onClick={() => setSettings({ range: null, rows: null })}
          >
            Reset zoom
          </button>
        )}
      </div>
      <FamilyMap key={family.pattern} {...props} family={family} />
    </div>
  );
}

/** The kind of scale that fits: logarithmic where values are positive and lie far apart. */
function fittingKind(values: Float64Array, normal: Normal): ScaleKind {
  if (normal === "z") return "linear";
  const positive = fitScale(values, "log", 0.98);
  if (positive.unseen === 0 && positive.high / positive.low > 30) return "log";
  return "linear";
}

function FamilyMap(props: { project: string; run: string; live: boolean; state: string; family: Family }) {
  const { project, run, live, family } = props;
  const settings = useLayerSettings();
  const keys = useMemo(() => family.keys.slice(0, MOST_ROWS), [family.keys.length, family.pattern]);
  const { matrix, failure, loading } = useMatrix(project, run, keys, live);
  const { statistic, normal, share } = settings;
  const values = useMemo(
    () => (matrix === null ? null : normaliseRows(matrix, statisticOf(matrix, statistic), normal)),
    [matrix, statistic, normal],
  );
  const rows: readonly [number, number] = [
    Math.min(settings.rows?.[0] ?? 0, keys.length - 1),
    Math.min(settings.rows?.[1] ?? keys.length - 1, keys.length - 1),
  ];
  const scale = useMemo((): ColorScale | null => {
    if (values === null || matrix === null) return null;
    const seen = values.subarray(rows[0] * matrix.columns, (rows[1] + 1) * matrix.columns);
    const fitted = fitScale(seen, settings.scale ?? fittingKind(seen, normal), share);
    // About a middle of 0 both sides are equally long.
    if (normal !== "z" || fitted.kind !== "linear") return fitted;
    const far = Math.max(-fitted.low, fitted.high);
    return { ...fitted, low: -far, high: far, diverges: true };
  }, [values, matrix, rows[0], rows[1], settings.scale, normal, share]);
  const colors = palette.value;
  const chosen = useMemo(
    () =>
      new Map(
        settings.chosen
          .map((key, at) => [keys.indexOf(key), colors[at % colors.length]!] as const)
          .filter(([row]) => row >= 0),
      ),
    [settings.chosen.join(","), keys, colors],
  );
  const series = useMemo(
    () =>
      [...chosen].map(
        ([row, color]): ChartSeries => ({
          project,
          run,
          key: keys[row]!,
          label: family.labels[row] ?? keys[row]!,
          color,
          group: null,
          state: props.state,
        }),
      ),
    [chosen, keys, props.state],
  );

  if (failure !== null && matrix === null)
    return (
      <p class="notice bad" role="alert">
        {failure}
      </p>
    );
  if (matrix === null || values === null || scale === null)
    return (
      <p class="empty" role="status">
        Reading {keys.length.toLocaleString("en-US")} series …
      </p>
    );
  const reads = describeStatistic(statistic, normal);
  const toggle = (row: number): void => {
    const key = keys[row]!;
    const next = settings.chosen.includes(key)
      ? settings.chosen.filter((one) => one !== key)
      : [...settings.chosen, key].slice(-MOST_CHOSEN);
    setSettings({ layer: next.length === 0 ? null : next.map(encodeItem).join(",") });
  };
  const describe = (row: number, column: number): string => {
    const at = row * matrix.columns + column;
    const where = `${family.labels[row]}, ${axisTitle(matrix.x)} ${axisValue(matrix.x, matrix.edges[column]!)} to ${axisValue(matrix.x, matrix.edges[column + 1]!)}`;
    if (matrix.count[at] === 0 && matrix.nonfinite[at] === 0) return `${where}: no row`;
    return `${where}: mean ${number(matrix.mean[at])}, min ${number(matrix.min[at])}, max ${number(matrix.max[at])}, ${number(matrix.count[at])} rows${matrix.nonfinite[at]! > 0 ? `, ${number(matrix.nonfinite[at])} not finite` : ""}`;
  };
  const saveCsv = (): void => {
    const lines: string[][] = [
      ["layer", "key", `${matrix.x}_from`, `${matrix.x}_to`, "mean", "min", "max", "count", "nonfinite"],
    ];
    for (let row = rows[0]; row <= rows[1]; row += 1) {
      for (let column = 0; column < matrix.columns; column += 1) {
        const at = row * matrix.columns + column;
        if (matrix.count[at] === 0 && matrix.nonfinite[at] === 0) continue;
        lines.push([
          family.labels[row]!,
          keys[row]!,
          ...[
            matrix.edges[column],
            matrix.edges[column + 1],
            matrix.mean[at],
            matrix.min[at],
            matrix.max[at],
            matrix.count[at],
            matrix.nonfinite[at],
          ].map(String),
        ]);
      }
    }
    save(fileName(family.pattern, "csv"), asCsv(lines), "text/csv");
  };
  const height = Math.max(180, Math.min(Math.max(320, innerHeight - 330), (rows[1] - rows[0] + 1) * 22 + 44));
  return (
    <>
      <section class={`layers-map card ${loading ? "loading" : ""}`} aria-label="Heat map" aria-busy={loading}>
        {failure !== null && (
          <p class="notice warning" role="status">
            {failure}
          </p>
        )}
        <Heatmap
          title={family.pattern}
          labels={family.labels}
          matrix={matrix}
          values={values}
          scale={scale}
          rows={rows}
          chosen={chosen}
          height={height}
          centred={normal === "z"}
          reads={reads}
          describe={describe}
          onChoose={toggle}
          onZoom={(x, to) => {
            const isAll = to === null || (to[0] === 0 && to[1] === keys.length - 1);
            const [from, end] = [matrix.edges[0]!, matrix.edges[matrix.columns]!];
            const same = x !== null && x[0] === from && x[1] === end;
            setSettings({
              rows: isAll ? null : to.join(","),
              ...(same ? {} : { range: x === null ? null : x.join(",") }),
            });
          }}
          action={({ png }) => (
            <>
              <button type="button" onClick={png}>
                Save PNG
              </button>
              <button type="button" onClick={saveCsv}>
                Save CSV
              </button>
            </>
          )}
        />
        {family.keys.length > keys.length && (
          <p class="soft">
            The first {MOST_ROWS.toLocaleString("en-US")} of {family.keys.length.toLocaleString("en-US")} series.
          </p>
        )}
      </section>
      {series.length === 0 ? (
        <p class="soft layers-hint">
          A click on a row shows its curve here; a drag zooms into steps and layers, a double click shows all again.
        </p>
      ) : (
        <section class="layers-curves card" aria-label="Curves of the chosen layers">
          <CurveChart title={family.pattern} series={series} settings={chartSettings.value} height={220} />
          <button type="button" class="plain" onClick={() => setSettings({ layer: null })}>
            Take them all away
          </button>
        </section>
      )}
    </>
  );
}
