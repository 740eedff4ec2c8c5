// All series of one run, in the sections and with the toolbar of the project's charts.

import { useEffect, useState } from "preact/hooks";

import { CurveChart } from "../charts/curve_chart";
import { EXAMPLE_METRIC } from "../constants";
import "../components/chart_panels.css";
import type { ChartSeries } from "../charts/types";
import { Dialog } from "../components/dialog";
import { LazyMount } from "../components/lazy_mount";
import { metricTest, type Section, searchFor, sectionsOf } from "../components/metric_sections";
import { Toolbar } from "../components/toolbar";
import { decodeItem, encodeItem, linkTo, route, setSettings } from "../router";
import { baseline, colorOf, setInitialAxes } from "../runs";
import { chartSettings } from "../settings";
import { bindShortcuts } from "../shortcuts";
import type { Metric, Name } from "../types";
import type { ViewProps } from "./view";

/** A section of more charts than that shows the first of them, and so many more with each "more". */
const AT_FIRST = 24;
const HEIGHTS: Record<string, number> = { 1: 360, 2: 300, 3: 240, 4: 200 };

function nameOf({ key, unit, goal, role }: Metric): Name {
  return { name: key, runs: 1, unit, goal, role, same_as: null };
}

function seriesOf({ page, row }: ViewProps, key: string): ChartSeries[] {
  return [
    {
      project: page.project,
      run: row.id,
      key,
      label: row.name,
      color: colorOf(row.id),
      group: row.group,
      state: row.state,
      created: row.created,
      emphasised: row.id === baseline.value,
    },
  ];
}

export function ChartsView(props: ViewProps) {
  const { page } = props;
  const { settings } = route.value;
  const find = settings.get("find") ?? "";
  const large = settings.get("large");
  useEffect(() => setInitialAxes(page.axes), [page.axes.join()]);
  useEffect(
    () =>
      bindShortcuts([
        {
          key: "/",
          description: "find charts",
          action: () => document.querySelector<HTMLInputElement>(".toolbar input")?.select(),
        },
      ]),
    [],
  );
  if (page.metrics.length === 0)
    return (
      <p class="empty">
        No series yet. <code>{`run.log({"${EXAMPLE_METRIC}": loss}, step=step)`}</code> begins one; it appears here by
        itself.
      </p>
    );
  const sections = sectionsOf(page.metrics.map(nameOf), find);
  const enlarged = page.metrics.find(({ key }) => key === large);
  return (
    <div class="run-charts">
      <Toolbar single />
      <div class="board" data-size={settings.get("size") ?? "auto"}>
        {sections.length === 0 && (
          <p class="empty">
            {metricTest(find) === null ? `${find} is no regular expression.` : `No series has “${find}” in its name.`}
          </p>
        )}
        {sections.map((section) => (
          <ChartSection key={section.name} section={section} view={props} />
        ))}
      </div>
      <Dialog title={large ?? ""} open={enlarged !== undefined} wide onClose={() => setSettings({ large: null })}>
        {enlarged !== undefined && (
          <CurveChart
            title={enlarged.key}
            series={seriesOf(props, enlarged.key)}
            settings={chartSettings.value}
            unit={enlarged.unit}
            goal={enlarged.goal}
            height={Math.max(260, Math.round(innerHeight * 0.64))}
            ownRange
          />
        )}
      </Dialog>
    </div>
  );
}

function ChartSection({ section, view }: { section: Section; view: ViewProps }) {
  const [count, setCount] = useState(AT_FIRST);
  const { settings } = route.value;
  const turned = new Set(
    (settings.get("sections") ?? "")
      .split(",")
      .filter((part) => part !== "")
      .map(decodeItem),
  );
  // As on the project's board: a link says which sections are not as they were at first.
  const open = !turned.has(section.name);
  const turn = (): void => {
    if (!turned.delete(section.name)) turned.add(section.name);
    setSettings({ sections: turned.size ? [...turned].map(encodeItem).join(",") : null });
  };
  const heatMap = (pattern: string): string => {
    const link = new URLSearchParams(settings);
    link.set("family", pattern);
    return linkTo({ project: view.page.project, run: view.row.id, view: "layers" }, link);
  };
  const height = HEIGHTS[settings.get("size") ?? "3"] ?? 240;
  const id = `section-${section.name}`;
  const layers = section.families.reduce((sum, { keys }) => sum + keys.length, 0);
  const rest = section.metrics.length - count;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>
        <button type="button" class="plain" aria-expanded={open} onClick={turn}>
          <span class={`fold ${open ? "open" : ""}`} aria-hidden="true">
            ›
          </span>
          <bdi>{section.name}</bdi>{" "}
          <span class="soft">{(section.metrics.length + layers).toLocaleString("en-US")}</span>
        </button>
      </h2>
      {open && (
        <>
          {section.families.length > 0 && (
            <ul class="families">
              {section.families.slice(0, 20).map(({ pattern, keys }) => (
                <li key={pattern}>
                  <code class="cut" title={pattern}>
                    <bdi>{pattern}</bdi>
                  </code>{" "}
                  <span class="soft">{keys.length.toLocaleString("en-US")} series of layers</span>
                  <a href={heatMap(pattern)}>Heat map</a>
                  <button type="button" class="plain" onClick={() => setSettings({ find: searchFor(pattern) })}>
                    As charts
                  </button>
                </li>
              ))}
            </ul>
          )}
          <div class="charts">
            {section.metrics.slice(0, count).map((metric) => (
              <div key={metric.name} class="card chart-card" data-metric={metric.name}>
                <LazyMount height={height + 60}>
                  {() => (
                    <CurveChart
                      title={metric.name}
                      series={seriesOf(view, metric.name)}
                      settings={chartSettings.value}
                      unit={metric.unit}
                      goal={metric.goal}
                      height={height}
                      onExpand={() => setSettings({ large: metric.name })}
                    />
                  )}
                </LazyMount>
              </div>
            ))}
          </div>
          {rest > 0 && (
            <p class="rest">
              <button type="button" onClick={() => setCount(count + AT_FIRST)}>
                {Math.min(AT_FIRST, rest)} more
              </button>{" "}
              <span class="soft">{rest.toLocaleString("en-US")} are not shown; the field above finds any of them</span>
            </p>
          )}
        </>
      )}
    </section>
  );
}
