// One run: its header and its tabs. Only the open tab requests more.

import "./run.css";

import { useEffect, useState } from "preact/hooks";

import { api } from "../api";
import { CopyButton } from "../components/copy_button";
import { type Tab, Tabs } from "../components/tabs";
import { useQuery } from "../components/use_query";
import { ago, duration, moment } from "../format";
import { linkTo, route } from "../router";
import { baseline, drawnIds, runById, setBaseline } from "../runs";
import { bindShortcuts } from "../shortcuts";
import type { RunPage as RunAnswer, RunRow } from "../types";
import { LayersView } from "./layers";
import { MEDIA_KINDS } from "./media_events";
import { AlertsView } from "./run_alerts";
import { ChartsView } from "./run_charts";
import { CodeView } from "./run_code";
import { ConsoleView } from "./run_console";
import { FilesView } from "./run_files";
import { GpusView } from "./run_gpus";
import { MediaView } from "./run_media";
import { OverviewView } from "./run_overview";
import type { ViewProps } from "./view";

/** A run of so many series is asked for less often: its answer is large. */
const MANY_SERIES = 1000;

export function RunPage() {
  const project = route.value.project ?? "";
  const run = route.value.run ?? "";
  const view = route.value.view ?? "overview";
  const [edited, setEdited] = useState<RunRow | null>(null);
  const [many, setMany] = useState(false);
  const listed = runById(run);
  const [seemsLive, setSeemsLive] = useState(true);
  const { answer: page, failure } = useQuery(
    `${project}/${run}`,
    (signal) => api.run({ project, run }, signal),
    seemsLive,
    many ? 6000 : 2000,
  );
  const row = edited ?? listed ?? page?.row ?? null;
  const live = (page?.row.state ?? listed?.state ?? "running") === "running" || listed?.state === "running";

  // The list knows of an edit by itself after a moment.
  useEffect(() => setEdited(null), [listed]);
  useEffect(() => setSeemsLive(live), [live]);
  useEffect(() => setMany((page?.metrics.length ?? 0) > MANY_SERIES), [page?.metrics.length]);
  useEffect(
    () =>
      bindShortcuts([
        {
          key: "b",
          description: "make this run the baseline",
          action: () => setBaseline(baseline.value === run ? null : run),
        },
      ]),
    [run],
  );

  if (page === null || row === null) {
    return (
      <main class="main">
        <div class="empty" role="status">
          {failure === null ? (
            "Opening the run …"
          ) : (
            <>
              <p>{failure}</p>
              <p style={{ marginTop: "12px" }}>
                <a href={linkTo({ project })}>All runs of {project}</a>
              </p>
            </>
          )}
        </div>
      </main>
    );
  }
  const views: Record<string, () => preact.JSX.Element> = {
    overview: () => <OverviewView page={page} row={row} live={live} onEdited={setEdited} />,
    charts: () => <ChartsView page={page} row={row} live={live} />,
    gpus: () => <GpusView page={page} row={row} live={live} />,
    console: () => <ConsoleView page={page} row={row} live={live} />,
    alerts: () => <AlertsView page={page} row={row} live={live} />,
    media: () => <MediaView page={page} row={row} live={live} />,
    layers: () => <LayersView project={project} run={run} />,
    code: () => <CodeView page={page} row={row} live={live} />,
    files: () => <FilesView page={page} row={row} live={live} />,
  };
  const current = view in views ? view : "overview";
  return (
    <>
      <Head page={page} row={row} live={live} />
      {failure !== null && (
        <p class="notice warning" role="status" style={{ margin: "8px 12px" }}>
          {failure}
        </p>
      )}
      <Tabs tabs={tabsOf(page)} current={current} />
      <main class="main run-view" key={current}>
        {views[current]!()}
      </main>
    </>
  );
}

function tabsOf(page: RunAnswer): Tab[] {
  // Of several attempts some rows are replaced: how many is known once they are asked for, and a wrong number is worse than none.
  const media =
    page.attempts.length > 1 ? 0 : MEDIA_KINDS.reduce((sum, { kind }) => sum + (page.event_kinds[kind] ?? 0), 0);
  return [
    { view: "overview", title: "Overview" },
    { view: "charts", title: "Charts", count: page.metrics.length },
    { view: "gpus", title: "GPUs", count: page.gpus },
    { view: "console", title: "Console" },
    { view: "alerts", title: "Alerts", count: page.event_kinds.alert ?? 0 },
    { view: "media", title: "Media", count: media },
    { view: "layers", title: "Layers" },
    { view: "code", title: "Code" },
    { view: "files", title: "Files" },
  ];
}

function Head({ page, row, live }: ViewProps) {
  const { settings } = route.value;
  const isBaseline = baseline.value === row.id;
  const withOthers = new URLSearchParams(settings);
  withOthers.set("runs", [...new Set([...drawnIds.value, row.id])].join(","));
  const facts = [
    row.group !== null && (
      <span>
        group <b>{row.group}</b>
      </span>
    ),
    <span title={moment(row.created, true)}>started {ago(row.created)}</span>,
    <span>
      {live ? "running for" : "ran"} <b>{duration(row.duration)}</b>
    </span>,
    row.last_step !== null && (
      <span>
        step <b>{row.last_step.toLocaleString("en-US")}</b>
      </span>
    ),
    row.attempts > 1 && (
      <span>
        <b>{row.attempts}</b> attempts
      </span>
    ),
    row.host !== null && (
      <span>
        on <b>{row.host}</b>
      </span>
    ),
  ].filter((fact) => fact !== false);
  return (
    <header class="run-head">
      <div class="line">
        <span class={`state ${row.state}`}>{row.state}</span>
        <h1 class="cut" title={row.name}>
          {row.name}
        </h1>
        <span class="tags">
          {row.tags.map((tag) => (
            <span key={tag} class="tag">
              {tag}
            </span>
          ))}
        </span>
        <span class="acts">
          <a
            class="button"
            href={linkTo({ project: page.project, view: "charts" }, withOthers)}
            title="Open the project with this run drawn"
          >
            Draw with others
          </a>
          <button
            type="button"
            aria-pressed={isBaseline}
            onClick={() => setBaseline(isBaseline ? null : row.id)}
            title="Hold other runs against this one (b)"
          >
            Baseline
          </button>
          <CopyButton class="" text={row.id} label="Copy the run's id" title={`Copy ${row.id}`}>
            Copy id
          </CopyButton>
          <CopyButton
            class=""
            text={`lossbook show ${row.id}`}
            label="Copy the command"
            title={`Copy: lossbook show ${row.id}`}
          >
            Copy command
          </CopyButton>
        </span>
      </div>
      <div class="facts soft">
        {facts.map((fact, at) => (
          <span key={at}>{fact}</span>
        ))}
      </div>
      {row.error !== null && (
        <p class="notice bad error" role="alert">
          {row.error}
        </p>
      )}
    </header>
  );
}
