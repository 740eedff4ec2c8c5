// Compares results: a row for each run, the best marked, with the change from the baseline.

import { useEffect, useMemo, useState } from "preact/hooks";

import { fileName, save } from "../charts/export";
import { CopyButton } from "../components/copy_button";
import { NamePicker } from "../components/name_picker";
import { asCsv, asMarkdown } from "../components/table_text";
import { type GridCell, type GridColumn, VirtualGrid } from "../components/virtual_grid";
import { sortValues } from "../components/visible_runs";
import { asNumber, duration, moment, number, short, value as valueText } from "../format";
import { navigate, route, setSettings } from "../router";
import { names } from "../runs";
import type { Compared, ComparedColumn, RunRow } from "../types";
import { runHead } from "./compare_config";
import { useCompared } from "./compare_runs";

const TARGET = /^(seconds_to|tokens_to|step_of)_/;
const MOST_LOSSES = 10;

/** Numbers of a text, whatever stands between them. Null where something of it is none. */
export function parseTargets(text: string): number[] | null {
  const words = text.split(/[\s,;]+/).filter((word) => word !== "");
  const found = words.map(Number);
  return found.some((one) => !Number.isFinite(one)) || found.length > MOST_LOSSES ? null : [...new Set(found)];
}

export function formatCell(kind: string, any: unknown): string {
  const size = asNumber(any);
  if (size === null) return any === null || any === undefined ? "–" : valueText(any);
  switch (kind) {
    case "seconds":
      return duration(size);
    case "percent":
      return `${number(size, 3)} %`;
    case "gibibytes":
      return number(size, 3);
    case "moment":
      return moment(size);
    case "rate":
    case "count":
      return Math.abs(size) >= 1e4 ? short(size) : number(size);
    default:
      return number(size);
  }
}

/** A change from the baseline: of what has a natural zero in percent of it, of all else as it is. */
function changeReads(kind: string, change: number, own: number): string {
  if (change === 0) return "±0";
  const sign = change > 0 ? "+" : "−";
  const before = own - change;
  if ((kind === "seconds" || kind === "rate" || kind === "count") && before > 0)
    return `${sign}${number(Math.abs((100 * change) / before), 2)}%`;
  return `${sign}${number(Math.abs(change), 2)}`;
}

/** Whether less of a column is better; null where neither is. */
function lessIsBetter({ goal }: ComparedColumn): boolean | null {
  return goal === null ? null : goal === "minimize";
}

function bestOf(column: ComparedColumn, compared: Compared): number | null {
  const less = lessIsBetter(column);
  if (less === null || compared.runs.length < 2) return null;
  const found = compared.runs
    .map((run) => asNumber(run[column.name]))
    .filter((size) => size !== null && Number.isFinite(size)) as number[];
  if (found.length < 2) return null;
  return found.reduce((best, one) => (less ? Math.min(best, one) : Math.max(best, one)));
}

export function MetricsView(props: { rows: readonly RunRow[] }) {
  const { settings } = route.value;
  const metric = settings.get("metric");
  const losses = parseTargets(settings.get("losses") ?? "") ?? [];
  const { answer, failure, left } = useCompared(props.rows, { metric, losses });
  // While other losses are looked for, what is known stays.
  const [last, setLast] = useState<Compared | null>(null);
  useEffect(() => {
    if (answer !== null) setLast(answer);
  }, [answer]);
  const compared = answer ?? last;
  const shown = useMemo(
    () =>
      (compared?.columns ?? []).filter(
        ({ name }) =>
          !name.startsWith("config.") &&
          name !== "name" &&
          name !== "id" &&
          !(name.endsWith("_step") && name !== "last_step"),
      ),
    [compared],
  );
  const best = useMemo(
    () => new Map(compared === null ? [] : shown.map((column) => [column.name, bestOf(column, compared)])),
    [compared, shown],
  );
  const order = settings.get("order") ?? "";
  const lines = useMemo(() => {
    const runs = compared?.runs ?? [];
    const name = order.replace(/^-/, "");
    if (order === "") return runs;
    const held = runs.filter((run) => run.id === compared?.baseline);
    return [
      ...held,
      ...sortValues(
        runs.filter((run) => run.id !== compared?.baseline),
        (run) => run[name],
        order.startsWith("-"),
      ),
    ];
  }, [compared, order]);
  const sortBy = (name: string): void =>
    setSettings({ order: order === name ? `-${name}` : order === `-${name}` ? null : name });
  const sorted = (name: string) =>
    (order === name ? "ascending" : order === `-${name}` ? "descending" : "none") as
      | "ascending"
      | "descending"
      | "none";

  const columns: GridColumn[] = [{ name: "name", title: "Run", kind: "text" }, ...shown].map(
    (column): GridColumn => ({
      name: column.name,
      sorted: sorted(column.name),
      width:
        column.name === "name"
          ? 220
          : column.kind === "text"
            ? 96
            : Math.max(compared?.baseline ? 150 : 112, 30 + 7 * column.title.length),
      class: column.kind === "text" ? "" : "number",
      head: (
        <button
          type="button"
          class="plain sorter"
          title={`Sort by ${column.title}`}
          onClick={() => sortBy(column.name)}
        >
          <span class="cut">
            <bdi>{column.title}</bdi>
          </span>
          {sorted(column.name) !== "none" && (
            <span aria-hidden="true">{sorted(column.name) === "ascending" ? "↑" : "↓"}</span>
          )}
        </button>
      ),
    }),
  );

  const cell = (at: number, column: number): GridCell => {
    const run = lines[at]!;
    if (column === 0) return { text: runHead(String(run.id), String(run.name)), title: String(run.name) };
    const { name, kind, title } = shown[column - 1]!;
    const any = run[name];
    if (name === "state") return { text: <span class={`state ${String(any)}`}>{String(any)}</span> };
    if (any === null || any === undefined) {
      const isTarget = TARGET.test(name);
      const missing = isTarget
        ? name.startsWith("tokens_to") && asNumber(run[name.replace("tokens_to", "seconds_to")]) !== null
          ? "no token count"
          : "not reached"
        : "–";
      return {
        text: missing,
        class: "number soft",
        title: isTarget ? `${String(run.name)}: ${title}: ${missing}` : "",
      };
    }
    const size = asNumber(any);
    if (size === null) return { text: <bdi>{valueText(any)}</bdi>, title: valueText(any) };
    const change = (run.change as Record<string, number> | undefined)?.[name];
    const isBest = best.get(name) === size;
    const less = lessIsBetter(shown[column - 1]!);
    const step = asNumber(run[`${name}_step`]);
    return {
      text: (
        <>
          {isBest && (
            <span class="best-sign" title="The best of these runs">
              best
            </span>
          )}
          {formatCell(kind, any)}
          {change !== undefined && (
            <small class={change === 0 || less === null ? "soft" : change < 0 === less ? "good" : "bad"}>
              {" "}
              {changeReads(kind, change, size)}
            </small>
          )}
        </>
      ),
      title: `${title}: ${kind === "seconds" ? `${number(size)} s` : number(size, 10)}${step === null ? "" : ` at step ${number(step)}`}${change === undefined ? "" : `; ${change >= 0 ? "+" : "−"}${number(Math.abs(change))} from the baseline`}`,
      class: `number ${isBest ? "best" : ""} ${Number.isFinite(size) ? "" : "bad"}`,
    };
  };
  const asRows = (full: boolean): string[][] => [
    ["run", ...shown.map(({ title }) => title)],
    ...lines.map((run) => [
      String(run.name),
      ...shown.map(({ name, kind }) =>
        run[name] === null || run[name] === undefined ? "" : full ? String(run[name]) : formatCell(kind, run[name]),
      ),
    ]),
  ];
  return (
    <>
      <div class="compare-bar" role="toolbar" aria-label="Metrics">
        <span class="soft" id="compare-metric">
          best by
        </span>
        <NamePicker
          label="Metric that decides which is best"
          current={metric ?? compared?.metric ?? "a metric"}
          options={(names.value?.metrics ?? []).map(({ name }) => name)}
          onChoose={(name) => setSettings({ metric: name })}
        />
        <LossesField metric={compared?.metric ?? null} />
        <span class="soft" role="status">
          {answer === null && failure === null
            ? "Comparing …"
            : left > 0
              ? `${left.toLocaleString("en-US")} more runs are left out`
              : ""}
        </span>
        <span class="space" />
        {compared !== null && (
          <>
            <CopyButton class="" text={asMarkdown(asRows(false))} label="Copy as Markdown">
              Copy Markdown
            </CopyButton>
            <CopyButton class="" text={asCsv(asRows(true))} label="Copy as CSV">
              Copy CSV
            </CopyButton>
            <button
              type="button"
              onClick={() => save(fileName(`${route.value.project}-metrics`, "csv"), asCsv(asRows(true)), "text/csv")}
            >
              Save CSV
            </button>
          </>
        )}
      </div>
      {failure !== null && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
      {compared !== null && (
        <VirtualGrid
          label={`Metrics of ${lines.length} runs`}
          columns={columns}
          count={lines.length}
          cell={cell}
          lineKey={(line) => String(lines[line]!.id)}
          lineClass={(line) => (lines[line]!.id === compared.baseline ? "held" : "")}
          onEnter={(line) => navigate({ project: route.value.project, run: String(lines[line]!.id) })}
        />
      )}
      {compared !== null && (
        <p class="compare-foot soft">
          {compared.metric === null ? (
            "No run here has logged a loss; choose a metric above."
          ) : (
            <>
              The best first, by <code>{compared.metric}</code>
              {compared.goal === "maximize" ? " (more is better)" : ""}. Times are of training, without the gaps between
              attempts.
            </>
          )}
        </p>
      )}
    </>
  );
}

/** Losses of which it is asked when each run reached them. */
function LossesField(props: { metric: string | null }) {
  const inLink = route.value.settings.get("losses") ?? "";
  const [typed, setTyped] = useState(inLink);
  useEffect(() => setTyped(inLink), [inLink]);
  const isGood = parseTargets(typed) !== null;
  return (
    <form
      class="losses"
      onSubmit={(event) => {
        event.preventDefault();
        if (isGood) setSettings({ losses: typed.trim() === "" ? null : typed.trim() });
      }}
    >
      <label>
        <span class="soft">time and tokens to</span>
        <input
          type="text"
          inputMode="decimal"
          aria-label={`Values of ${props.metric ?? "the metric"} to be reached`}
          aria-invalid={!isGood}
          placeholder="3.5, 3.2"
          value={typed}
          spellcheck={false}
          autocomplete="off"
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
      <button type="submit" disabled={!isGood || typed.trim() === inLink}>
        Show
      </button>
      {!isGood && (
        <span class="bad" role="alert">
          up to {MOST_LOSSES} numbers, as in 3.5, 3.2
        </span>
      )}
    </form>
  );
}
