// Pictures, distributions, tables and texts that a run logged, by key, at one step for all of them.

import { useEffect } from "preact/hooks";
import { HighlightedText } from "../components/highlighted_text";
import { LazyMount } from "../components/lazy_mount";
import { SearchBox } from "../components/search_box";
import { type QueryState, useEvents, visibleEvents } from "../components/use_query";
import { number } from "../format";
import { route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";
import type { Events } from "../types";
import { type CardProps, MEDIA_KINDS, mediaKeys } from "./media_events";
import { ImageCard } from "./media_image_card";
import { TableCard } from "./media_table_card";
import { FileCard, HistogramCard, TextCard } from "./run_media_cards";
import type { ViewProps } from "./view";

function useKind(props: ViewProps, kind: string, most: number): QueryState<Events> {
  const { page, row, live } = props;
  const isThere = (page.event_kinds[kind] ?? 0) > 0;
  const asked = useEvents(
    { project: page.project, run: row.id, kind: isThere ? [kind] : ["none of these"], limit: most, thin: true },
    live && isThere,
  );
  return isThere ? asked : { answer: { events: [], total: 0, left_out: 0, problems: [] }, failure: null };
}

export function MediaView(props: ViewProps) {
  const { page } = props;
  const { settings } = route.value;
  const asked = [
    useKind(props, "image", MEDIA_KINDS[0]!.most),
    useKind(props, "histogram", MEDIA_KINDS[1]!.most),
    useKind(props, "table", MEDIA_KINDS[2]!.most),
    useKind(props, "text", MEDIA_KINDS[3]!.most),
    useKind(props, "file", MEDIA_KINDS[4]!.most),
  ];
  const failure = asked.find((one) => one.failure !== null)?.failure ?? null;
  const find = settings.get("media") ?? "";
  const chosen = settings.get("key");
  const all = asked.flatMap(({ answer }, at) =>
    mediaKeys(MEDIA_KINDS[at]!.kind, visibleEvents(answer?.events ?? [], page.attempts)),
  );
  const steps = [
    ...new Set(all.flatMap(({ events }) => events.map(({ step }) => step)).filter((step) => step !== null)),
  ].sort((one, other) => one - other);
  const wanted = Number(settings.get("at") ?? NaN);
  const step = Number.isFinite(wanted) ? wanted : null;
  const at =
    step === null
      ? steps.length - 1
      : Math.max(
          0,
          steps.findLastIndex((one) => one <= step),
        );
  const setAt = (place: number): void =>
    setSettings({ at: place >= steps.length - 1 ? null : String(steps[Math.max(0, place)]) });

  useEffect(
    () =>
      bindShortcuts([
        { key: "ArrowLeft", description: "the step before, in media", action: () => setAt(at - 1) },
        { key: "ArrowRight", description: "the next step, in media", action: () => setAt(at + 1) },
      ]),
    [at, steps.length],
  );

  if (asked.some(({ answer }) => answer === null))
    return (
      <p class="empty" role="status">
        {failure ?? "Asking for the media …"}
      </p>
    );
  if (all.length === 0) {
    return (
      <p class="empty">
        {props.live ? "Nothing yet." : "This run logged none."}{" "}
        <code>{'run.log({"sample": lossbook.Text(text)})'}</code> puts a text here; <code>lossbook.Image</code>,{" "}
        <code>lossbook.Histogram</code> and <code>lossbook.Table</code> their likes.
      </p>
    );
  }
  const found = all.filter(({ key }) => key.toLowerCase().includes(find.toLowerCase()));
  const shown = chosen === null ? found : all.filter(({ kind, key }) => `${kind}:${key}` === chosen || kind === chosen);
  const leftOut = asked.reduce((sum, { answer }) => sum + (answer?.left_out ?? 0), 0);
  return (
    <div class="media">
      <nav class="media-keys" aria-label="What was logged">
        <SearchBox setting="media" label="Search the media" slash />
        <ul>
          <li>
            <Choice name={null} chosen={chosen} title="Everything" count={found.length} />
          </li>
          {MEDIA_KINDS.map(({ kind, title }) => {
            const keys = found.filter((one) => one.kind === kind);
            if (keys.length === 0) return null;
            return (
              <li key={kind}>
                <Choice name={kind} chosen={chosen} title={title} count={keys.length} />
                <ul>
                  {keys.slice(0, 500).map((one) => (
                    <li key={one.key}>
                      <Choice
                        name={`${kind}:${one.key}`}
                        chosen={chosen}
                        title={one.key}
                        find={find}
                        count={one.events.length}
                      />
                    </li>
                  ))}
                </ul>
              </li>
            );
          })}
        </ul>
      </nav>
      <div class="media-main">
        {steps.length > 1 && (
          <div class="bar steps">
            <button type="button" onClick={() => setAt(at - 1)} disabled={at <= 0} aria-label="The step before">
              ‹
            </button>
            <input
              type="range"
              min="0"
              max={String(steps.length - 1)}
              value={String(at)}
              aria-label="Step"
              aria-valuetext={`step ${steps[at]}`}
              onInput={(event) => setAt(Number(event.currentTarget.value))}
            />
            <button
              type="button"
              onClick={() => setAt(at + 1)}
              disabled={at >= steps.length - 1}
              aria-label="The next step"
            >
              ›
            </button>
            <output>
              step <b>{number(steps[at])}</b>
              {step === null && <span class="soft"> (the latest)</span>}
            </output>
            {step !== null && (
              <button type="button" onClick={() => setSettings({ at: null })}>
                Latest
              </button>
            )}
            {leftOut > 0 && <span class="soft">{leftOut.toLocaleString("en-US")} between these are left out</span>}
          </div>
        )}
        {failure !== null && (
          <p class="notice warning" role="alert">
            {failure}
          </p>
        )}
        {asked
          .flatMap(({ answer }) => answer?.problems ?? [])
          .map((problem) => (
            <p key={problem} class="notice warning">
              {problem}
            </p>
          ))}
        {shown.length === 0 && (
          <p class="soft hint">
            {chosen === null ? `Nothing has “${find}” in its name.` : "The run has logged nothing of that name."}
          </p>
        )}
        <div class={`media-grid ${shown.length === 1 ? "one" : ""}`}>
          {shown.map((media) => (
            <LazyMount key={`${media.kind}:${media.key}`} height={260}>
              {() => <Card page={page} media={media} step={step} height={shown.length === 1 ? 320 : 180} />}
            </LazyMount>
          ))}
        </div>
      </div>
    </div>
  );
}

function Choice(props: { name: string | null; chosen: string | null; title: string; count: number; find?: string }) {
  return (
    <button
      type="button"
      class="plain choice"
      aria-pressed={props.name === props.chosen}
      onClick={() => setSettings({ key: props.name })}
      title={props.title}
    >
      <span class="cut">
        <HighlightedText text={props.title} find={props.find ?? null} />
      </span>
      <span class="soft">{props.count.toLocaleString("en-US")}</span>
    </button>
  );
}

function Card(props: CardProps) {
  switch (props.media.kind) {
    case "image":
      return <ImageCard {...props} />;
    case "histogram":
      return <HistogramCard {...props} />;
    case "table":
      return <TableCard {...props} />;
    case "text":
      return <TextCard {...props} />;
    default:
      return <FileCard {...props} />;
  }
}
