// Compares runs: configuration, metrics, scatter plot, parallel coordinates.

import "./compare.css";

import { useEffect } from "preact/hooks";

import { visibleRuns } from "../components/visible_runs";
import { linkTo, route, setSettings } from "../router";
import { baseline, drawnRuns, runById, setBaseline } from "../runs";
import { bindShortcuts } from "../shortcuts";
import { ConfigView } from "./compare_config";
import { MetricsView } from "./compare_metrics";
import { ParallelView } from "./compare_parallel";
import { runsOf, type Scope, scopeOf } from "./compare_runs";
import { ScatterView } from "./compare_scatter";

const VIEWS = [
  ["config", "Configuration"],
  ["metrics", "Metrics"],
  ["scatter", "Scatter"],
  ["parallel", "Parallel coordinates"],
] as const;
type View = (typeof VIEWS)[number][0];

export function ComparePage() {
  const { project, settings } = route.value;
  const said = settings.get("compare");
  const view: View = VIEWS.find(([name]) => name === said)?.[0] ?? "config";
  // A table of a few runs is read; a picture lives on all of them.
  const scope = scopeOf(view === "config" || view === "metrics" ? "drawn" : "shown");
  const rows = runsOf(scope);
  const held = baseline.value === null ? undefined : runById(baseline.value);
  useEffect(
    () =>
      bindShortcuts([
        {
          key: "v",
          description: "next way to compare",
          action: () => {
            const at = VIEWS.findIndex(([name]) => name === (route.peek().settings.get("compare") ?? "config"));
            setSettings({ compare: VIEWS[(at + 1) % VIEWS.length]![0] });
          },
        },
      ]),
    [],
  );
  return (
    <main class="compare-page" aria-label="Runs compared">
      <div class="compare-head">
        <div class="joined" role="group" aria-label="Way to compare">
          {VIEWS.map(([name, title]) => (
            <button
              type="button"
              key={name}
              aria-pressed={view === name}
              onClick={() => setSettings({ compare: name === "config" ? null : name })}
            >
              {title}
            </button>
          ))}
        </div>
        <label>
          <span class="soft">of</span>
          <select
            aria-label="Which runs"
            value={scope}
            onChange={(event) => setSettings({ of: event.currentTarget.value as Scope })}
          >
            <option value="drawn">drawn runs ({drawnRuns.value.length.toLocaleString("en-US")})</option>
            <option value="shown">all runs of the table ({visibleRuns.value.length.toLocaleString("en-US")})</option>
          </select>
        </label>
        <span class="space" />
        {held === undefined ? (
          <span class="soft">no baseline pinned</span>
        ) : (
          <span class="against">
            <span class="soft">against</span>{" "}
            <b class="cut" title={held.name}>
              <bdi>{held.name}</bdi>
            </b>{" "}
            <button
              type="button"
              class="plain"
              aria-label="No baseline"
              title="No baseline"
              onClick={() => setBaseline(null)}
            >
              ✕
            </button>
          </span>
        )}
      </div>
      {rows.length === 0 ? (
        <p class="empty">
          {scope === "drawn" ? (
            <>
              No run is drawn. Choose some in the <a href={linkTo({ project, view: "table" }, settings)}>table</a>, or
              compare all of it.
            </>
          ) : (
            "No run fits what was searched for."
          )}
        </p>
      ) : view === "config" ? (
        <ConfigView rows={rows} />
      ) : view === "metrics" ? (
        <MetricsView rows={rows} />
      ) : view === "scatter" ? (
        <ScatterView rows={rows} />
      ) : (
        <ParallelView rows={rows} />
      )}
    </main>
  );
}
