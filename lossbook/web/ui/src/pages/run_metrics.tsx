// The statistics of every series of a run: last, min, max, mean, count, and how many are not finite.

import { HighlightedText } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { VirtualList } from "../components/virtual_list";
import { EXAMPLE_METRIC } from "../constants";
import { asNumber, bytes, number } from "../format";
import { linkTo, route, setSettings } from "../router";
import type { Metric, RunPage } from "../types";

interface Column {
  name: keyof Metric;
  title: string;
  text: (metric: Metric) => string;
  value: (metric: Metric) => number | string | null;
}

const count = (value: number): string => value.toLocaleString("en-US");
/** Bytes in units that can be read; all else as it is. */
const amount = (value: Metric["last"], { unit }: Metric): string =>
  unit === "bytes" || unit === "B" ? bytes(asNumber(value)) : number(asNumber(value));
const at = (value: Metric["last"], step: number | null, metric: Metric): string =>
  step === null ? amount(value, metric) : `${amount(value, metric)} at ${count(step)}`;

const COLUMNS: readonly Column[] = [
  { name: "key", title: "Metric", text: ({ key }) => key, value: ({ key }) => key },
  { name: "last", title: "Last", text: (metric) => amount(metric.last, metric), value: ({ last }) => asNumber(last) },
  {
    name: "min",
    title: "Min",
    text: (metric) => at(metric.min, metric.min_step, metric),
    value: ({ min }) => asNumber(min),
  },
  {
    name: "max",
    title: "Max",
    text: (metric) => at(metric.max, metric.max_step, metric),
    value: ({ max }) => asNumber(max),
  },
  { name: "mean", title: "Mean", text: (metric) => amount(metric.mean, metric), value: ({ mean }) => asNumber(mean) },
  { name: "count", title: "Rows", text: (metric) => count(metric.count), value: (metric) => metric.count },
  {
    name: "nonfinite",
    title: "Not finite",
    text: ({ nonfinite }) => (nonfinite === 0 ? "–" : count(nonfinite)),
    value: ({ nonfinite }) => nonfinite,
  },
];

const LINE = 27;

/** Names with numbers in them in the order that a person counts: layer 2 before layer 10. */
const byName = new Intl.Collator("en", { numeric: true });

function sorted(metrics: readonly Metric[], order: string | null): Metric[] {
  const down = order?.startsWith("-") ?? false;
  const column = COLUMNS.find(({ name }) => name === order?.replace("-", "")) ?? COLUMNS[0]!;
  return [...metrics].sort((one, other) => {
    const [first, second] = [column.value(one), column.value(other)];
    // What has no value comes last, whichever way.
    const missing = Number(first === null || Number.isNaN(first)) - Number(second === null || Number.isNaN(second));
    if (missing !== 0) return missing;
    const difference =
      typeof first === "number" && typeof second === "number"
        ? first - second
        : byName.compare(String(first), String(second));
    return down ? -difference : difference;
  });
}

export function MetricsTable({ page }: { page: RunPage }) {
  const { settings } = route.value;
  const order = settings.get("metrics-sort");
  const find = settings.get("metrics") ?? "";
  const words = find
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const metrics = sorted(
    page.metrics.filter(({ key }) => words.every((word) => key.toLowerCase().includes(word))),
    order,
  );
  return (
    <section class="card" aria-label="Metrics">
      <header>
        <h2>
          Metrics <span class="soft">{count(page.metrics.length)}</span>
        </h2>
        {page.metrics.length > 0 && <SearchBox setting="metrics" label="Search the metrics" />}
      </header>
      {page.metrics.length === 0 ? (
        <p class="soft hint">{`None yet. run.log({"${EXAMPLE_METRIC}": loss}, step=step) begins a series.`}</p>
      ) : metrics.length === 0 ? (
        <p class="soft hint">No metric has “{find}” in its name.</p>
      ) : (
        <VirtualList
          count={metrics.length}
          lineHeight={LINE}
          label="Metrics"
          role="grid"
          class="metrics"
          maxHeight={Math.min(560, (metrics.length + 1) * LINE + 20)}
          head={
            <div role="row" class="metric head">
              {COLUMNS.map(({ name, title }) => {
                const isSorted = (order ?? "key").replace("-", "") === name;
                const down = isSorted && (order?.startsWith("-") ?? false);
                return (
                  <span
                    key={name}
                    role="columnheader"
                    aria-sort={isSorted ? (down ? "descending" : "ascending") : "none"}
                  >
                    <button
                      type="button"
                      class="plain"
                      onClick={() =>
                        setSettings({ "metrics-sort": isSorted && !down ? `-${name}` : name === "key" ? null : name })
                      }
                    >
                      {title}
                      {isSorted ? (down ? " ↓" : " ↑") : ""}
                    </button>
                  </span>
                );
              })}
            </div>
          }
          line={(index) => (
            <Line key={metrics[index]!.key} metric={metrics[index]!} page={page} find={words[0] ?? ""} />
          )}
        />
      )}
    </section>
  );
}

function Line({ metric, page, find }: { metric: Metric; page: RunPage; find: string }) {
  const link = new URLSearchParams(route.value.settings);
  link.set("find", metric.key);
  return (
    <div role="row" class="metric" style={{ height: `${LINE}px` }}>
      {COLUMNS.map(({ name, text }) => (
        <span
          key={name}
          role="gridcell"
          title={name === "key" ? metric.key : text(metric)}
          class={name === "nonfinite" && metric.nonfinite > 0 ? "failed" : ""}
        >
          {name === "key" ? (
            <a class="mono" href={linkTo({ project: page.project, run: page.row.id, view: "charts" }, link)}>
              <HighlightedText text={metric.key} find={find} />
            </a>
          ) : (
            text(metric)
          )}
        </span>
      ))}
    </div>
  );
}
