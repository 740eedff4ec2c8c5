// The charts of the drawn runs, in sections by the prefix of the metrics' names.

import { computed, signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { AnswerError, api } from "../api";
import { CurveChart } from "../charts/curve_chart";
import { firstCurveLoaded, poll } from "../polling";
import { linkTo, route, setSettings, setting } from "../router";
import { DRAWN_AT_FIRST, drawnRuns, loaded, rows, runById, setInitialAxes } from "../runs";
import { chartSettings } from "../settings";
import type { Name } from "../types";
import { Dialog } from "./dialog";
import { metricTest, type Section, searchFor, sectionsOf } from "./metric_sections";
import { chartRuns, groupText, MOST_DRAWN } from "./visible_runs";
import "./chart_panels.css";
import type { ChartSeries } from "../charts/types";
import { decodeItem, encodeItem } from "../router";

const AT_FIRST = 12; // charts of a section, and with each "more"
const AT_ONCE = 4; // until the first curve has come: what is in sight then
const OPEN_AT_FIRST = 8; // sections
const SEVERAL = 5; // families with a line each; more of them share one

const findText = setting("find");
const sizeText = setting("size");
const largeText = setting("large");
const turnedText = setting("sections");

/** The metrics that the drawn runs have; null until they have been heard of. */
const metrics = signal<{ project: string | null; found: readonly Name[] } | null>(null);
let heardAt = -Infinity; // ms as of performance.now(), when they came before the list of runs
const boardFailure = signal<string | null>(null);

const askedIds = computed(() =>
  drawnRuns.value
    .slice(0, MOST_DRAWN)
    .map(({ id }) => id)
    .sort()
    .join(","),
);
const someRuns = computed(() => drawnRuns.value.some(({ state }) => state === "running"));
/** Where the ended ones among them stand: another tracker's runs are read one after the other, and have steps only then. */
const endedAt = computed(() =>
  drawnRuns.value
    .slice(0, MOST_DRAWN)
    .map(({ id, state }) => (state === "running" ? "" : `${id} ${runById(id)?.last_step ?? ""}`))
    .sort()
    .join(","),
);
const sections = computed(() => sectionsOf(metrics.value?.found ?? [], findText.value ?? ""));
/** Sections that a person opened or closed: the others than those that are so by themselves. */
const turned = computed(
  () =>
    new Set(
      (turnedText.value ?? "")
        .split(",")
        .filter((part) => part !== "")
        .map(decodeItem),
    ),
);

function useMetrics(): void {
  const { project } = route.value;
  const ids = askedIds.value;
  const isLiving = someRuns.value;
  const ended = endedAt.value;
  useEffect(() => {
    if (project === null || loaded.peek()) return undefined;
    // What will be drawn is known before the list of runs has come: both are asked for at once.
    const stop = new AbortController();
    const linked = route
      .peek()
      .settings.get("runs")
      ?.split(",")
      .filter((id) => id !== "");
    api
      .names(
        { project, ...(linked?.length ? { run: linked.slice(0, MOST_DRAWN) } : { newest: DRAWN_AT_FIRST }) },
        stop.signal,
      )
      .then(
        (answer) => {
          setInitialAxes(answer.axes);
          if (metrics.peek()?.project === project) return;
          metrics.value = { project, found: answer.metrics };
          heardAt = performance.now();
        },
        () => undefined, // asked again, and told, below
      );
    return () => stop.abort();
  }, [project]);
  useEffect(() => {
    if (project === null || ids === "") return undefined;
    // Metrics that a run begins to log while one looks are seen within seconds.
    const stop = poll(3000, async (signal) => {
      if (metrics.peek()?.project === project && performance.now() - heardAt < 1000) return; // just now, with the list
      try {
        const answer = await api.names({ project, run: ids.split(",") }, signal);
        const before = metrics.peek();
        if (before?.project !== project || JSON.stringify(before.found) !== JSON.stringify(answer.metrics))
          metrics.value = { project, found: answer.metrics };
        boardFailure.value = null;
        if (!isLiving) stop();
      } catch (error) {
        if (error instanceof AnswerError && error.status !== 0) boardFailure.value = error.message;
        throw error;
      }
    });
    return stop;
  }, [project, ids, isLiving, ended]);
}

export function ChartPanels() {
  useMetrics();
  const runs = chartRuns.value;
  const find = findText.value ?? "";
  const { project } = route.value;
  if (!loaded.value)
    return (
      <div class="board">
        <p class="empty" role="status">
          Reading the runs …
        </p>
      </div>
    );
  if (runs.length === 0) {
    return (
      <div class="board">
        <p class="empty">
          {rows.value.length === 0
            ? "No run yet."
            : "No run is drawn. Choose some in the list: the eye beside a name, or space."}
        </p>
      </div>
    );
  }
  const isHere = metrics.value !== null && metrics.value.project === project;
  const all = isHere ? sections.value : [];
  return (
    <div class="board" data-size={sizeText.value ?? "auto"}>
      {boardFailure.value !== null && (
        <p class="notice bad" role="alert">
          {boardFailure.value}
        </p>
      )}
      {!isHere && boardFailure.value === null && (
        <p class="empty" role="status">
          Reading what they logged …
        </p>
      )}
      {isHere && all.length === 0 && (
        <p class="empty">
          {metrics.value!.found.length === 0
            ? "The runs that are drawn have logged no number yet."
            : metricTest(find) === null
              ? `${find} is no regular expression.`
              : `No metric of the drawn runs is called like “${find}”.`}
        </p>
      )}
      {all.slice(0, firstCurveLoaded.value ? all.length : 1).map((section, at) => (
        <BoardSection
          key={section.name}
          section={section}
          isOpenAtFirst={find !== "" || (!section.isMachine && at < OPEN_AT_FIRST)}
        />
      ))}
      <LargeChart />
    </div>
  );
}

function useSeries(key: string): ChartSeries[] {
  const runs = chartRuns.value;
  return runs.map(
    (run): ChartSeries => ({
      project: run.project,
      run: run.id,
      key,
      label: run.name,
      color: run.color,
      group: run.group,
      state: run.state,
      created: run.created,
      emphasised: run.id === route.value.settings.get("baseline"),
    }),
  );
}

function BoardSection(props: { section: Section; isOpenAtFirst: boolean }) {
  const { section } = props;
  const [count, setCount] = useState(AT_FIRST);
  const isOpen = props.isOpenAtFirst !== turned.value.has(section.name);
  const id = `section-${section.name}`;
  const turn = (): void => {
    const next = new Set(turned.value);
    if (!next.delete(section.name)) next.add(section.name);
    setSettings({ sections: next.size ? [...next].map(encodeItem).join(",") : null });
  };
  const layers = section.families.reduce((sum, { keys }) => sum + keys.length, 0);
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>
        <button type="button" class="plain" aria-expanded={isOpen} onClick={turn}>
          <span class={`fold ${isOpen ? "open" : ""}`} aria-hidden="true">
            ›
          </span>
          <bdi>{section.name}</bdi>{" "}
          <span class="soft">{(section.metrics.length + layers).toLocaleString("en-US")}</span>
        </button>
      </h2>
      {isOpen && (
        <>
          {section.families.length > 0 && <Layers section={section} />}
          <div class={section.isFirst ? "charts first" : "charts"}>
            {section.metrics.slice(0, firstCurveLoaded.value ? count : AT_ONCE).map((metric) => (
              <BoardChart key={metric.name} metric={metric} isFirst={section.isFirst} />
            ))}
          </div>
          {section.metrics.length > count && (
            <p class="rest">
              <button type="button" onClick={() => setCount(count + AT_FIRST)}>
                {Math.min(AT_FIRST, section.metrics.length - count)} more
              </button>
              <span class="soft">
                {(section.metrics.length - count).toLocaleString("en-US")} of {section.name} are not shown; the field
                above finds any of them
              </span>
            </p>
          )}
        </>
      )}
    </section>
  );
}

function Layers(props: { section: Section }) {
  const { families, name } = props.section;
  const newest = chartRuns.value[0];
  const count = families.reduce((sum, { keys }) => sum + keys.length, 0);
  const shown = families.length <= SEVERAL ? families : [];
  const target = (pattern: string): string => {
    const settings = new URLSearchParams(route.value.settings);
    settings.set("family", pattern);
    return newest === undefined ? "" : linkTo({ project: newest.project, run: newest.id, view: "layers" }, settings);
  };
  return (
    <ul class="families">
      {shown.map(({ pattern, keys }) => (
        <li key={pattern}>
          <code class="cut" title={pattern}>
            <bdi>{pattern}</bdi>
          </code>{" "}
          <span class="soft">{keys.length.toLocaleString("en-US")} series of layers</span>
          {newest !== undefined && (
            <a href={target(pattern)} title={`Of ${newest.name}, the newest of those that are drawn`}>
              Heat map
            </a>
          )}
          <button type="button" class="plain" onClick={() => setSettings({ find: searchFor(pattern) })}>
            As charts
          </button>
        </li>
      ))}
      {shown.length === 0 && (
        <li>
          <code>
            <bdi>{name}</bdi>
          </code>{" "}
          <span class="soft">
            {count.toLocaleString("en-US")} series of layers, {families.length.toLocaleString("en-US")} of each
          </span>
          {newest !== undefined && (
            <a href={target(families[0]!.pattern)} title={`Of ${newest.name}, the newest of those that are drawn`}>
              Heat map
            </a>
          )}
        </li>
      )}
    </ul>
  );
}

const HEIGHTS: Record<string, number> = { 1: 360, 2: 300, 3: 240, 4: 200 };

function BoardChart(props: { metric: Name; isFirst: boolean }) {
  const { metric } = props;
  const expand = (): void => setSettings({ large: metric.name });
  return (
    <div
      class="card chart-card"
      tabIndex={0}
      role="group"
      aria-label={`Chart of ${metric.name}; Enter shows it large`}
      data-metric={metric.name}
      onKeyDown={(event) => {
        if (event.key !== "Enter" || event.target !== event.currentTarget) return;
        event.preventDefault();
        expand();
      }}
    >
      <CurveChart
        title={metric.name}
        series={useSeries(metric.name)}
        settings={chartSettings.value}
        unit={metric.unit}
        goal={metric.goal}
        height={HEIGHTS[sizeText.value ?? (props.isFirst ? "2" : "3")] ?? 240}
        onExpand={expand}
      />
    </div>
  );
}

function LargeChart() {
  const key = largeText.value;
  return (
    <Dialog
      title={key ?? ""}
      open={key !== null}
      wide
      onClose={() => largeText.peek() !== null && setSettings({ large: null })}
    >
      {key !== null && <LargeCurve name={key} />}
    </Dialog>
  );
}

function LargeCurve(props: { name: string }) {
  const metric = metrics.value?.found.find(({ name }) => name === props.name);
  return (
    <CurveChart
      title={props.name}
      series={useSeries(props.name)}
      settings={chartSettings.value}
      unit={metric?.unit ?? null}
      goal={metric?.goal ?? null}
      height={Math.max(260, Math.round(innerHeight * 0.64))}
      ownRange
    />
  );
}

/** Whether bands stand for something: the groups of the table, or those of the runs. */
export function hasGroups(): boolean {
  return Boolean(groupText.value) || drawnRuns.value.some(({ group }) => group !== null);
}
