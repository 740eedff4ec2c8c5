// One row of the run table: a run, or the header of a group.

import { useRef } from "preact/hooks";

import { Sparkline, type SparklineProps } from "../charts/sparkline";
import { asNumber, moment, number } from "../format";
import { linkTo, route } from "../router";
import { baseline, colorOf, drawnIds, runById, setBaseline } from "../runs";
import type { RunRow } from "../types";
import { openColorPicker } from "./color_picker";
import { focusOn, lineId, linkQuery, scrolling, toggleGroup, toggleRun } from "./row_focus";
import { type Column, cell, difference, formatCell, mainMetric } from "./table_columns";
import { collapseGroup, type Group } from "./visible_runs";

export const LINE = 28; // px, as in run_table.css

/** Where a line stands: each by itself, so that scrolling paints only those that come into sight. */
const placeOf = (index: number): { top: string } => ({ top: `${(index - 2) * LINE}px` });

export function RunTableRow(props: {
  row: RunRow;
  columns: readonly Column[];
  index: number;
  isFocused: boolean;
  pinned: boolean;
}) {
  const { row, pinned } = props;
  const isDrawn = drawnIds.value.has(row.id);
  const color = colorOf(row.id);
  const isBaseline = baseline.value === row.id;
  const held = !isBaseline && baseline.value !== null ? runById(baseline.value) : undefined;
  const metric = mainMetric.value;
  const line = { id: row.id, group: null } as const;
  const project = route.value.project ?? "";
  return (
    <div
      id={pinned ? undefined : lineId(line)}
      role="row"
      aria-rowindex={props.index}
      aria-selected={isDrawn}
      class={`run-line ${props.isFocused ? "focused" : ""} ${pinned ? "held" : ""} ${isDrawn ? "drawn" : ""}`}
      style={pinned ? undefined : placeOf(props.index)}
      onClick={() => focusOn(line)}
    >
      <div role="gridcell" class="run-cell first">
        <button
          type="button"
          class="plain sign"
          tabIndex={-1}
          role="checkbox"
          aria-checked={isDrawn}
          aria-label={`Draw ${row.name}`}
          title="Draw it or not (space). Shift: all in between. Alt or double-click: only this one"
          onClick={(event) =>
            event.detail < 2 && toggleRun(row.id, event.shiftKey ? "range" : event.altKey ? "only" : "one")
          }
          onDblClick={() => toggleRun(row.id, "only")}
        >
          <span class={isDrawn ? "eye" : "eye closed"} aria-hidden="true" />
        </button>
        <button
          type="button"
          class="plain swatch"
          tabIndex={-1}
          aria-label={`Colour of ${row.name}`}
          title="Colour (c)"
          onClick={() => openColorPicker(row.id, row.name)}
        >
          <span style={isDrawn ? { background: color, borderColor: color } : { borderColor: color }} />
        </button>
        <span class={`state ${row.state}`} title={row.error === null ? row.state : `${row.state}: ${row.error}`}>
          <span class="unseen">{row.state}</span>
        </span>
        <a class="cut name" tabIndex={-1} href={linkTo({ project, run: row.id }) + linkQuery.value} title={row.name}>
          <bdi>{row.name}</bdi>
        </a>
        {isBaseline && (
          <span class="tag" title="The others are held against this run">
            baseline
          </span>
        )}
        <button
          type="button"
          class={`plain sign pin ${isBaseline ? "on" : ""}`}
          tabIndex={-1}
          aria-pressed={isBaseline}
          aria-label={`Baseline: ${row.name}`}
          title={isBaseline ? "No baseline (b)" : "Hold the others against this run (b)"}
          onClick={() => setBaseline(isBaseline ? null : row.id)}
        >
          <span class="needle" aria-hidden="true" />
        </button>
      </div>
      <div role="gridcell" class="run-cell curve">
        {metric !== null && (
          <Curve
            project={project}
            run={row.id}
            metric={metric}
            color={color}
            width={64}
            height={20}
            created={row.created}
            state={row.state}
          />
        )}
      </div>
      {props.columns.map((column) => {
        const any = cell(column.name, row);
        const text = formatCell(column, any);
        const apart = held !== undefined && column.metric ? difference(any, cell(column.name, held)) : "";
        const isNumber = asNumber(any) !== null;
        return (
          <div
            key={column.name}
            role="gridcell"
            class={`run-cell cut ${isNumber ? "number" : ""}`}
            title={column.kind === "moment" ? moment(asNumber(any), true) : text}
          >
            {column.kind === "tags" ? (
              row.tags.map((tag) => (
                <span key={tag} class="tag">
                  <bdi>{tag}</bdi>
                </span>
              ))
            ) : isNumber ? (
              text
            ) : (
              <bdi>{text}</bdi>
            )}
            {apart !== "" && <span class="soft apart"> {apart}</span>}
          </div>
        );
      })}
    </div>
  );
}

export function GroupTableRow(props: { group: Group; columns: readonly Column[]; index: number; isFocused: boolean }) {
  const { group } = props;
  const drawn = drawnIds.value;
  const count = group.ids.reduce((sum, id) => sum + (drawn.has(id) ? 1 : 0), 0);
  const line = { id: null, group };
  return (
    <div
      id={lineId(line)}
      role="row"
      aria-rowindex={props.index}
      aria-expanded={!group.folded}
      class={`run-line group ${props.isFocused ? "focused" : ""}`}
      style={placeOf(props.index)}
      onClick={() => focusOn(line)}
    >
      <div role="gridcell" class="run-cell first">
        <button
          type="button"
          class="plain sign"
          tabIndex={-1}
          role="checkbox"
          aria-checked={count === 0 ? "false" : count === group.ids.length ? "true" : "mixed"}
          aria-label={`Draw all of ${group.name}`}
          title="Draw the whole group or none of it (space)"
          onClick={() => toggleGroup(group.ids)}
        >
          <span class={count > 0 ? "eye" : "eye closed"} aria-hidden="true" />
        </button>
        <button
          type="button"
          class="plain sign"
          tabIndex={-1}
          aria-label={`${group.folded ? "Unfold" : "Fold"} ${group.name}`}
          title={group.folded ? "Unfold" : "Fold"}
          onClick={() => collapseGroup(group.name, !group.folded)}
        >
          <span class={`fold ${group.folded ? "" : "open"}`} aria-hidden="true">
            ›
          </span>
        </button>
        <span class="cut name" title={group.name}>
          <bdi>{group.name}</bdi>
        </span>
        <span class="soft">{group.ids.length.toLocaleString("en-US")}</span>
      </div>
      <div role="gridcell" class="run-cell curve" />
      {props.columns.map((column) => {
        const text =
          column.kind === "any" || column.kind === "number" || column.kind === "seconds"
            ? aggregate(group, column)
            : "";
        return (
          <div
            key={column.name}
            role="gridcell"
            class="run-cell cut number soft"
            title={text && `${column.title}: mean ± standard deviation; ${text}`}
          >
            {text}
          </div>
        );
      })}
    </div>
  );
}

const aggregates = new WeakMap<Group, Map<string, string>>(); // a group is made anew when its runs or their values change

/** Mean and standard deviation of what is finite. */
function aggregate(group: Group, column: Column): string {
  const { name } = column;
  const kept = aggregates.get(group) ?? new Map<string, string>();
  aggregates.set(group, kept);
  const known = kept.get(name);
  if (known !== undefined) return known;
  const values = group.ids.flatMap((id) => {
    const row = runById(id);
    const size = row === undefined ? null : asNumber(cell(column.name, row));
    return size !== null && Number.isFinite(size) ? [size] : [];
  });
  let text = "";
  if (values.length > 0) {
    const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
    const spread =
      values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (values.length - 1));
    text =
      column.kind === "seconds"
        ? formatCell(column, mean)
        : spread === 0
          ? number(mean, 4)
          : `${number(mean, 4)} ± ${number(spread, 2)}`;
  }
  kept.set(name, text);
  return text;
}

/** Drawn once the table stands still, and from then on. */
function Curve(props: SparklineProps) {
  const shown = useRef(false);
  if (!shown.current && !scrolling.value) shown.current = true;
  return shown.current ? <Sparkline {...props} /> : null;
}
