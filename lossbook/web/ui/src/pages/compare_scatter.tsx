// Compares any column with any other: each run is a point.

import { useMemo, useState } from "preact/hooks";
import { saveCanvases } from "../charts/canvas_size";
import { ColorLegend } from "../charts/color_legend";
import { type Dimension, describeCorrelation, formatOnAxis } from "../charts/dimension";
import { fileName, save } from "../charts/export";
import { ScatterPlot, type ScatterRun } from "../charts/scatter_plot";
import { NamePicker } from "../components/name_picker";
import { asCsv } from "../components/table_text";
import { VirtualGrid } from "../components/virtual_grid";
import { navigate, route, setSettings } from "../router";
import { colorOf, drawnIds, names, palette } from "../runs";
import type { RunRow } from "../types";
import { runHead } from "./compare_config";
import {
  axisOptions,
  categoryColor,
  differingSettings,
  logSetting,
  mainSetting,
  titleOf,
  useColumns,
  useDimension,
  usualMetric,
} from "./compare_dimensions";
import { PlotSelection } from "./compare_selection";

export function ScatterView(props: { rows: readonly RunRow[] }) {
  const { rows } = props;
  const { settings } = route.value;
  const options = useMemo(axisOptions, [names.value]);
  const y = settings.get("sy") ?? usualMetric() ?? "duration";
  const some = differingSettings().slice(0, 8);
  const x = settings.get("sx") ?? mainSetting(some) ?? "created";
  const colored = settings.get("sc");
  const isReady = useColumns([x, y, colored ?? "", ...(settings.get("sx") === null ? some : [])]);
  const [logX, logY, logC] = [
    logSetting(settings.get("slx")),
    logSetting(settings.get("sly")),
    logSetting(settings.get("slc")),
  ];
  const [onX, onY, onColor] = [
    useDimension(x, rows, logX)!,
    useDimension(y, rows, logY)!,
    useDimension(colored, rows, logC),
  ];
  const drawn = drawnIds.value;
  const colors = palette.value;
  const runs = useMemo(
    () =>
      rows.map(
        (row): ScatterRun => ({
          id: row.id,
          name: row.name,
          color: drawn.has(row.id) || rows.length <= 60 ? colorOf(row.id) : null,
        }),
      ),
    [rows, drawn, colors],
  );
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [asTable, setAsTable] = useState(false);
  const choice = (
    name: string,
    label: string,
    setting: string,
    current: string | null,
    log: Dimension | null,
    logName: string,
  ) => (
    <span class="choice">
      <span class="soft" aria-hidden="true">
        {name}
      </span>
      <NamePicker
        label={label}
        current={current ?? ""}
        options={options}
        titleOf={(one) => (one === "" ? "runs as drawn" : titleOf(one))}
        onChoose={(one) => setSettings({ [setting]: one || null, [logName]: null })}
        {...(setting === "sc" ? { first: [{ name: "", title: "Runs as drawn" }] } : {})}
      />
      {log !== null && !log.isText && (
        <button
          type="button"
          aria-pressed={log.log}
          aria-label={`Logarithmic ${name}`}
          onClick={() => setSettings({ [logName]: log.log ? "0" : "1" })}
        >
          log
        </button>
      )}
    </span>
  );
  const both = rows.map((_, at) => at).filter((at) => !Number.isNaN(onX.values[at]!) && !Number.isNaN(onY.values[at]!));
  const shownColumns = [onX, onY, ...(onColor === null ? [] : [onColor])];
  const left = rows.length - both.length;
  const reasons = [onX, onY]
    .flatMap(({ title, missing, nonfinite, nonPositive }) => [
      missing > 0 && `${missing.toLocaleString("en-US")} without ${title}`,
      nonfinite > 0 && `${nonfinite.toLocaleString("en-US")} with ${title} not finite`,
      nonPositive > 0 && `${nonPositive.toLocaleString("en-US")} with ${title} not above 0 (log)`,
    ])
    .filter((reason) => reason !== false);
  return (
    <>
      <div class="compare-bar" role="toolbar" aria-label="Scatter plot">
        {choice("x", "Horizontal axis", "sx", x, onX, "slx")}
        {choice("y", "Vertical axis", "sy", y, onY, "sly")}
        {choice("colour", "Colour", "sc", colored, onColor, "slc")}
        <button
          type="button"
          title="Change x and y over"
          onClick={() => setSettings({ sx: y, sy: x, slx: settings.get("sly"), sly: settings.get("slx") })}
        >
          Swap x and y
        </button>
        <span class="space" />
        <button type="button" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
          As a table
        </button>
        <button
          type="button"
          disabled={asTable || !isReady}
          onClick={(event) =>
            void saveCanvases(
              event.currentTarget.closest("main")!.querySelector(".scatter")!,
              `${onY.title}-${onX.title}`,
            )
          }
        >
          Save PNG
        </button>
        <button
          type="button"
          onClick={() =>
            save(
              fileName(`${onY.title}-${onX.title}`, "csv"),
              asCsv([
                ["run", "id", ...shownColumns.map(({ name }) => name)],
                ...rows.map((row, at) => [row.name, row.id, ...shownColumns.map((one) => rawText(one, at))]),
              ]),
              "text/csv",
            )
          }
        >
          Save CSV
        </button>
      </div>
      {onColor !== null && (
        <div class="compare-key">
          <ColorLegend color={onColor} categoryColor={categoryColor} />
        </div>
      )}
      {asTable ? (
        <VirtualGrid
          label={`${onY.title} and ${onX.title} of ${both.length} runs`}
          count={both.length}
          lineKey={(line) => rows[both[line]!]!.id}
          onEnter={(line) => navigate({ project: route.value.project, run: rows[both[line]!]!.id })}
          columns={[
            { name: "name", head: "Run", width: 240 },
            ...shownColumns.map(({ name, title }, at) => ({
              name: `${at} ${name}`,
              head: title,
              width: 170,
              class: "number",
            })),
          ]}
          cell={(line, column) =>
            column === 0
              ? { text: runHead(rows[both[line]!]!.id, rows[both[line]!]!.name) }
              : {
                  text: formatOnAxis(shownColumns[column - 1]!, shownColumns[column - 1]!.values[both[line]!]!),
                  class: "number",
                }
          }
        />
      ) : !isReady ? (
        <p class="empty" role="status">
          Reading the columns …
        </p>
      ) : (
        <ScatterPlot
          runs={runs}
          x={onX}
          y={onY}
          color={onColor}
          categoryColor={categoryColor}
          selected={selected}
          onSelect={setSelected}
          onOpen={(id) => navigate({ project: route.value.project, run: id })}
          label={`${onY.title} against ${onX.title}, ${both.length} runs`}
        />
      )}
      <div class="compare-foot">
        <p role="status">
          {describeCorrelation(onX, onY)}
          {left > 0 && (
            <span class="soft">
              {" "}
              {left.toLocaleString("en-US")} of {rows.length.toLocaleString("en-US")} runs are not shown:{" "}
              {reasons.join(", ")}.
            </span>
          )}
        </p>
        <PlotSelection
          ids={[...selected]}
          what="selected"
          onClear={() => setSelected(new Set())}
          hint="Drag over points to select runs; a click opens one."
        />
      </div>
    </>
  );
}

function rawText(dimension: Dimension, at: number): string {
  const value = dimension.values[at]!;
  return Number.isNaN(value) ? "" : dimension.isText ? (dimension.categories[value] ?? "") : String(value);
}
