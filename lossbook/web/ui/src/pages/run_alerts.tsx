// The alerts of a run and the findings of the diagnosis, with links to the curves.

import { HighlightedText } from "../components/highlighted_text";
import { useEvents } from "../components/use_query";
import { moment, number, value as valueText } from "../format";
import { linkTo, route, setSettings } from "../router";
import type { Event } from "../types";
import type { ViewProps } from "./view";

const LEVELS = ["error", "warning", "info"] as const;
const MOST_ALERTS = 2000;

interface Finding {
  kind: string;
  key: string | null;
  first_step: number | null;
  last_step: number | null;
  value: unknown;
  threshold: unknown;
  sentence: string;
}

function findingOf(event: Event): Finding | null {
  const finding = event.value.finding;
  return typeof finding === "object" && finding !== null ? (finding as Finding) : null;
}

function levelOf(event: Event): string {
  const level = String(event.value.level ?? "warning");
  return (LEVELS as readonly string[]).includes(level) ? level : "warning";
}

export function AlertsView({ page, live }: ViewProps) {
  const { answer, failure } = useEvents(
    { project: page.project, run: page.row.id, kind: ["alert", "note", "warning"], limit: MOST_ALERTS },
    live,
  );
  const shown = route.value.settings.get("level");
  if (answer === null)
    return (
      <p class="empty" role="status">
        {failure ?? "Asking for the alerts …"}
      </p>
    );
  const alerts = answer.events.filter(({ kind }) => kind === "alert").reverse();
  const others = answer.events.filter(({ kind }) => kind !== "alert").reverse();
  if (alerts.length === 0 && others.length === 0) {
    return (
      <p class="empty">
        No alert. The diagnosis tells here what it finds wrong; <code>run.alert("Loss is high", level="warning")</code>{" "}
        adds one of your own.
      </p>
    );
  }
  const listed = shown === null ? alerts : alerts.filter((alert) => levelOf(alert) === shown);
  return (
    <div class="padded alerts">
      <div class="bar" role="group" aria-label="Levels">
        <button type="button" aria-pressed={shown === null} onClick={() => setSettings({ level: null })}>
          All {alerts.length.toLocaleString("en-US")}
        </button>
        {LEVELS.map((level) => {
          const many = alerts.filter((alert) => levelOf(alert) === level).length;
          return (
            <button
              type="button"
              key={level}
              aria-pressed={shown === level}
              disabled={many === 0 && shown !== level}
              onClick={() => setSettings({ level: shown === level ? null : level })}
            >
              {level === "error" ? "Errors" : level === "warning" ? "Warnings" : "Infos"} {many.toLocaleString("en-US")}
            </button>
          );
        })}
        {answer.total > answer.events.length && (
          <span class="soft">
            the newest {answer.events.length.toLocaleString("en-US")} of {answer.total.toLocaleString("en-US")}
          </span>
        )}
      </div>
      {failure !== null && (
        <p class="notice warning" role="alert">
          {failure}
        </p>
      )}
      <ul class="alert-list" aria-label="Alerts" aria-live="polite">
        {listed.map((alert) => (
          <Alert key={`${alert.rank} ${alert.row}`} event={alert} page={page} />
        ))}
      </ul>
      {listed.length === 0 && alerts.length > 0 && <p class="soft hint">No alert of this level.</p>}
      {others.length > 0 && (
        <section aria-label="Notes of the run">
          <h2>Said by the run</h2>
          <ul class="alert-list">
            {others.map((event) => (
              <li key={`${event.rank} ${event.row}`} class="card alert-card">
                <p>
                  <HighlightedText text={String(event.value.text ?? event.value.message ?? "")} />
                </p>
                <Facts
                  event={event}
                  page={page}
                  more={event.kind === "warning" ? "could not be recorded as asked" : "note"}
                />
              </li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

function Alert({ event, page }: { event: Event; page: ViewProps["page"] }) {
  const finding = findingOf(event);
  const level = levelOf(event);
  const text = String(event.value.text ?? "");
  return (
    <li class={`card alert-card ${level}`}>
      <p class="alert-title">
        <span class={`level ${level}`}>{level}</span>{" "}
        <b>
          <HighlightedText text={String(event.value.title ?? "")} />
        </b>
      </p>
      {text !== "" && (
        <pre class="prose">
          <HighlightedText text={text} />
        </pre>
      )}
      {finding !== null && finding.value != null && (
        <p class="soft">
          worst {valueText(finding.value)}
          {finding.threshold != null && <>, limit {valueText(finding.threshold)}</>}
        </p>
      )}
      <Facts
        event={event}
        page={page}
        more={finding === null ? null : `found by the diagnosis: ${finding.kind}`}
        curve={finding?.key ?? null}
      />
    </li>
  );
}

/** Where and when, with a link to the curves around that step. */
function Facts(props: { event: Event; page: ViewProps["page"]; more: string | null; curve?: string | null }) {
  const { event, page } = props;
  const link = new URLSearchParams(route.value.settings);
  link.delete("x");
  if (event.step !== null) {
    const around = Math.max(10, Math.round((page.row.last_step ?? event.step) * 0.1));
    link.set("range", `${Math.max(0, event.step - around)},${event.step + around}`);
  }
  if (props.curve) link.set("find", props.curve);
  return (
    <p class="soft facts">
      {event.step !== null && (
        <span>
          step{" "}
          <a
            href={linkTo({ project: page.project, run: page.row.id, view: "charts" }, link)}
            title="Show the curves around this step"
          >
            {number(event.step)}
          </a>
        </span>
      )}
      {props.curve && <span class="mono">{props.curve}</span>}
      <span>{moment(event.time, true)}</span>
      {event.rank > 0 && <span>rank {event.rank}</span>}
      {page.attempts.length > 1 && <span>attempt {event.attempt}</span>}
      {props.more !== null && <span>{props.more}</span>}
    </p>
  );
}
