// A project: its runs beside their charts, its runs as a table, or a comparison.

import { useEffect, useRef, useState } from "preact/hooks";

import { api } from "../api";
import { ChartPanels } from "../components/chart_panels";
import { ColorPicker } from "../components/color_picker";
import { RunListHeader } from "../components/run_list_header";
import { RunTable } from "../components/run_table";
import { Tabs } from "../components/tabs";
import { Toolbar } from "../components/toolbar";
import { afterFirstCurve, firstCurveLoaded } from "../polling";
import { linkTo, route } from "../router";
import { failure, loaded, rows, total } from "../runs";
import { readPreference, writePreference } from "../settings";
import { bindShortcuts } from "../shortcuts";
import { ComparePage } from "./compare";
import "./project.css";

const LIST_WIDTH = "lossbook.list";
const NARROWEST = 240;
const WIDEST = 900;

export function ProjectPage() {
  const { project } = route.value;
  const [editable, setEditable] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    void afterFirstCurve(1000)
      .then(() => api.store(stop.signal))
      .then(
        (store) => setEditable(store.editable),
        () => undefined,
      );
    return () => stop.abort();
  }, []);
  const view = route.value.view === "table" || route.value.view === "compare" ? route.value.view : "charts";
  if (rows.value.length === 0 && failure.value !== null) {
    return (
      <main class="main">
        <div class="empty">
          <p role="alert">{failure.value}</p>
          <p>
            <a href={linkTo({})}>All projects</a>
          </p>
        </div>
      </main>
    );
  }
  if (loaded.value && rows.value.length === 0) {
    return (
      <main class="main">
        <div class="empty">
          <p>No run yet in {project}. The first that is begun here appears by itself.</p>
          <p>
            <a href={linkTo({})}>All projects</a>
          </p>
        </div>
      </main>
    );
  }
  return (
    <>
      <Tabs
        tabs={[
          { view: "charts", title: "Charts" },
          { view: "table", title: "Table", count: total.value },
          { view: "compare", title: "Compare" },
        ]}
        current={view}
      />
      {view === "compare" ? (
        <ComparePage />
      ) : view === "table" ? (
        <main class="project-page table" aria-label="Table of runs">
          <RunListHeader compact={false} editable={editable} />
          <RunTable compact={false} />
        </main>
      ) : (
        <ChartsView editable={editable} />
      )}
      <ColorPicker />
    </>
  );
}

function ChartsView(props: { editable: boolean }) {
  const [list, setList] = useState(() => {
    const [width, state] = (readPreference(LIST_WIDTH) ?? "").split(" ");
    return { width: Math.min(Math.max(Number(width) || 380, NARROWEST), WIDEST), isOpen: state !== "closed" };
  });
  const box = useRef<HTMLDivElement>(null);
  const change = (next: { width: number; isOpen: boolean }): void => {
    const fitting = { ...next, width: Math.round(Math.min(Math.max(next.width, NARROWEST), WIDEST)) };
    setList(fitting);
    writePreference(LIST_WIDTH, `${fitting.width} ${fitting.isOpen ? "open" : "closed"}`);
  };
  const now = useRef({ list, change });
  now.current = { list, change };
  useEffect(
    () =>
      bindShortcuts([
        {
          key: "\\",
          description: "list of runs, or only charts",
          action: () => now.current.change({ ...now.current.list, isOpen: !now.current.list.isOpen }),
        },
      ]),
    [],
  );
  return (
    <main class={`project-page charts ${list.isOpen ? "" : "only-charts"}`} style={{ "--list": `${list.width}px` }}>
      {list.isOpen && (
        <div class="list" ref={box} role="region" aria-label="Runs">
          <RunListHeader compact editable={props.editable} />
          {firstCurveLoaded.value && <RunTable compact />}
        </div>
      )}
      <div
        class="divider"
        role="separator"
        aria-orientation="vertical"
        aria-label="Width of the list"
        aria-valuenow={list.width}
        aria-valuemin={NARROWEST}
        aria-valuemax={WIDEST}
        tabIndex={list.isOpen ? 0 : -1}
        onKeyDown={(event) => {
          if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
          event.preventDefault();
          change({ ...list, width: list.width + (event.key === "ArrowRight" ? 16 : -16) });
        }}
        onPointerDown={(event) => {
          if (!list.isOpen || (event.target as HTMLElement).tagName === "BUTTON") return;
          event.preventDefault();
          const divider = event.currentTarget;
          const from = event.clientX;
          divider.setPointerCapture(event.pointerId);
          const move = (moved: PointerEvent): void =>
            change({ width: list.width + moved.clientX - from, isOpen: true });
          divider.addEventListener("pointermove", move);
          divider.addEventListener("lostpointercapture", () => divider.removeEventListener("pointermove", move), {
            once: true,
          });
        }}
      >
        <button
          type="button"
          class="plain"
          aria-expanded={list.isOpen}
          aria-label={list.isOpen ? "Hide the list of runs" : "Show the list of runs"}
          title={`${list.isOpen ? "Hide" : "Show"} the list (\\)`}
          onClick={() => change({ ...list, isOpen: !list.isOpen })}
        >
          {list.isOpen ? "‹" : "›"}
        </button>
      </div>
      <div class="side">
        <Toolbar />
        <ChartPanels />
      </div>
    </main>
  );
}
