// How each kind of what a run logged is looked at: a picture, a distribution, a table, a text, a file.

import { useEffect, useState } from "preact/hooks";

import { api } from "../api";
import { describe, HistogramBars, HistogramStrip, rangeOf, type Distribution } from "../charts/histogram";
import { asNumber, bytes, moment, number, value as valueText } from "../format";
import { useQuery } from "../components/use_query";
import { CopyButton } from "../components/copy_button";
import { Dialog } from "../components/dialog";
import { HighlightedText } from "../components/highlighted_text";
import { colorOf } from "../runs";
import { route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";
import type { Event, RunPage } from "../types";
import { eventsAt, type CardProps } from "./media_events";

function Frame(props: { media: CardProps["media"]; shown: Event | undefined; children: preact.ComponentChildren; acts?: preact.ComponentChildren }) {
  const { media, shown } = props;
  const title = media.key === "" ? media.kind : media.key;
  return (
    <section class="card media-card" aria-label={title}>
      <header>
        <h3 class="cut mono" title={title}><HighlightedText text={title} /></h3>
        <span class="soft">{shown?.step != null ? `step ${number(shown.step)}` : shown === undefined ? "" : moment(shown.time)}{shown !== undefined && shown.rank > 0 ? `, rank ${shown.rank}` : ""}</span>
        {props.acts}
      </header>
      {props.children}
    </section>
  );
}

// -- pictures --------------------------------------------------------------------------------------------------------

function addressOf(page: RunPage, file: unknown): string | null {
  return typeof file === "string" && file !== "" ? api.fileAddress({ project: page.project, run: page.row.id, path: file }) : null;
}

/** A picture; where its file is missing or no picture, a sentence that says so. */
export function Picture(props: { page: RunPage; file: unknown; alt: string; width?: unknown; height?: unknown; lazy?: boolean }) {
  const [broken, setBroken] = useState(false);
  const address = addressOf(props.page, props.file);
  useEffect(() => setBroken(false), [address]);
  if (address === null || broken) return <span class="broken">{address === null ? "No picture was kept here." : `The file of this picture is missing or damaged: ${String(props.file)}`}</span>;
  const size = (value: unknown): string | undefined => (typeof value === "number" ? String(value) : undefined);
  return <img src={address} alt={props.alt} loading={props.lazy === false ? "eager" : "lazy"} width={size(props.width)} height={size(props.height)} onError={() => setBroken(true)} />;
}

function captionOf(event: Event): string {
  return typeof event.value.caption === "string" ? event.value.caption : "";
}

export function ImageCard({ page, media, step }: CardProps) {
  const shown = eventsAt(media, step);
  const name = `image:${media.key}`;
  const { settings } = route.value;
  // The lightbox stands in the link: which key, and which of its pictures.
  const open = settings.get("look") === name ? Math.min(media.events.length - 1, Math.max(0, Number(settings.get("picture") ?? 0) || 0)) : null;
  const look = (at: number | null): void => setSettings(at === null ? { look: null, picture: null } : { look: name, picture: String(at) });
  const [strip, setStrip] = useState(false);
  const listed = strip ? media.events : shown;
  return (
    <Frame media={media} shown={shown[0]} acts={media.events.length > 1 && <button class="plain" aria-pressed={strip} onClick={() => setStrip(!strip)}>All {media.events.length.toLocaleString("en-US")}</button>}>
      <div class={`pictures ${strip ? "strip" : ""}`}>
        {listed.slice(0, 300).map((event) => (
          <figure key={`${event.rank} ${event.row}`}>
            <button class="picture" onClick={() => look(media.events.indexOf(event))} aria-label={`Look at ${media.key}${event.step === null ? "" : ` at step ${event.step}`}`}>
              <Picture page={page} file={event.value.file} alt={captionOf(event) || `${media.key}${event.step === null ? "" : ` at step ${event.step}`}`} width={event.value.width} height={event.value.height} />
            </button>
            {(strip || captionOf(event) !== "") && <figcaption class="soft">{strip && event.step !== null && <b>{number(event.step)} </b>}<HighlightedText text={captionOf(event)} /></figcaption>}
          </figure>
        ))}
      </div>
      {open !== null && <Lightbox page={page} media={media} at={open} onLook={look} />}
    </Frame>
  );
}

function Lightbox(props: { page: RunPage; media: CardProps["media"]; at: number; onLook: (at: number | null) => void }) {
  const { page, media, at, onLook } = props;
  const event = media.events[at]!;
  const go = (by: number): void => onLook(Math.max(0, Math.min(media.events.length - 1, at + by)));
  const address = addressOf(page, event.value.file);
  useEffect(() => bindShortcuts([
    { key: "ArrowLeft", description: "", action: () => go(-1) },
    { key: "ArrowRight", description: "", action: () => go(1) },
  ]), [at, media.events.length]);
  return (
    <Dialog title={media.key} open wide onClose={() => onLook(null)}>
      <div class="lightbox">
        <div class="stage"><Picture page={page} file={event.value.file} alt={captionOf(event) || media.key} lazy={false} /></div>
        <p><HighlightedText text={captionOf(event)} /></p>
        <div class="bar">
          <button onClick={() => go(-1)} disabled={at === 0} aria-label="The picture before">‹ before</button>
          <span class="soft" role="status">{event.step === null ? "" : `step ${number(event.step)} · `}{(at + 1).toLocaleString("en-US")} of {media.events.length.toLocaleString("en-US")}{typeof event.value.width === "number" ? ` · ${event.value.width} × ${event.value.height}` : ""}</span>
          <button onClick={() => go(1)} disabled={at === media.events.length - 1} aria-label="The next picture">next ›</button>
          <span class="space" />
          {address !== null && <a class="button" href={address} download={`${media.key.replaceAll("/", "-")}-${event.step ?? event.row}.${String(event.value.file).split(".").at(-1)}`}>Save</a>}
        </div>
      </div>
    </Dialog>
  );
}

// -- distributions ---------------------------------------------------------------------------------------------------

function distributionOf(event: Event): Distribution | null {
  const numbers = (list: unknown): number[] => (Array.isArray(list) ? list.map((one) => asNumber(one) ?? NaN) : []);
  const edges = numbers(event.value.edges);
  const counts = numbers(event.value.counts);
  if (counts.length === 0 || edges.length !== counts.length + 1 || edges.some((edge) => !Number.isFinite(edge))) return null;
  return { step: event.step ?? 0, edges, counts, nonfinite: asNumber(event.value.nonfinite) ?? 0 };
}

export function HistogramCard({ page, media, step, height }: CardProps) {
  const shown = eventsAt(media, step).at(-1);
  const all = media.events.map(distributionOf).filter((one) => one !== null);
  const one = shown === undefined ? null : distributionOf(shown);
  const color = colorOf(page.row.id);
  return (
    <Frame media={media} shown={shown}>
      {one === null
        ? <p class="broken">This histogram is not whole: its edges and counts do not fit each other.</p>
        : (
          <>
            {all.length > 1 && <HistogramStrip all={all} step={one.step} onStep={(chosen) => setSettings({ at: String(chosen) })} color={color} height={height ?? 180} label={media.key} />}
            <HistogramBars of={one} color={color} height={Math.round((height ?? 180) * 0.75)} range={all.length > 1 ? rangeOf(all) : rangeOf([one])} label={media.key} />
            <p class="soft hint">{describe(one)}</p>
            <details class="folder"><summary>As a table</summary>
              <div class="wide-table short">
                <table class="plain"><thead><tr><th class="number">From</th><th class="number">To</th><th class="number">Count</th></tr></thead>
                  <tbody>{one.counts.map((count, at) => <tr key={at}><td class="number">{number(one.edges[at])}</td><td class="number">{number(one.edges[at + 1])}</td><td class="number">{number(count)}</td></tr>)}</tbody>
                </table>
              </div>
            </details>
          </>
        )}
    </Frame>
  );
}

// -- tables ----------------------------------------------------------------------------------------------------------

const TABLE_PAGE = 50;

function isPicture(cell: unknown): cell is { file: string; width?: number; height?: number; caption?: string } {
  return typeof cell === "object" && cell !== null && "file" in cell && (cell as { kind?: unknown }).kind === "image";
}

function compareCells(one: unknown, other: unknown): number {
  const [first, second] = [asNumber(one), asNumber(other)];
  if (first !== null && second !== null) return first - second;
  if (first !== null || one == null) return one == null && other == null ? 0 : one == null ? 1 : -1;
  if (second !== null || other == null) return other == null ? -1 : 1;
  return valueText(one).localeCompare(valueText(other), "en", { numeric: true });
}

export function TableCard({ page, media, step }: CardProps) {
  const shown = eventsAt(media, step).at(-1);
  const [start, setStart] = useState(0);
  const [order, setOrder] = useState<{ column: number; down: boolean } | null>(null);
  useEffect(() => setStart(0), [shown?.row]);
  const query = { project: page.project, run: page.row.id, rank: shown?.rank ?? 0, row: shown?.row ?? 0, start, limit: TABLE_PAGE };
  const { answer, failure } = useQuery(JSON.stringify(query), (signal) => api.table(query, signal), false);
  const rows = answer === null ? [] : order === null ? answer.rows : [...answer.rows].sort((one, other) => compareCells(one[order.column], other[order.column]) * (order.down ? -1 : 1));
  return (
    <Frame media={media} shown={shown}>
      {answer === null ? <p class={failure === null ? "soft hint" : "broken"} role="status">{failure ?? "Asking for the table …"}</p> : (
        <>
          <div class="wide-table">
            <table class="plain cells">
              <thead>
                <tr>
                  {answer.columns.map((column, at) => (
                    <th key={at} aria-sort={order?.column === at ? (order.down ? "descending" : "ascending") : "none"}>
                      <button class="plain" title="Sort these rows" onClick={() => setOrder(order?.column !== at ? { column: at, down: false } : order.down ? null : { column: at, down: true })}><HighlightedText text={column} />{order?.column === at ? (order.down ? " ↓" : " ↑") : ""}</button>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>{rows.map((row, at) => <tr key={at}>{row.map((cell, column) => <Cell key={column} page={page} cell={cell} />)}</tr>)}</tbody>
            </table>
          </div>
          {answer.count > TABLE_PAGE && (
            <div class="bar">
              <button onClick={() => setStart(Math.max(0, start - TABLE_PAGE))} disabled={start === 0} aria-label="The rows before">‹</button>
              <span class="soft" role="status">rows {number(start + 1)} to {number(Math.min(answer.count, start + TABLE_PAGE))} of {number(answer.count)}</span>
              <button onClick={() => setStart(start + TABLE_PAGE)} disabled={start + TABLE_PAGE >= answer.count} aria-label="The next rows">›</button>
            </div>
          )}
          {answer.count === 0 && <p class="soft hint">This table has no rows.</p>}
        </>
      )}
    </Frame>
  );
}

function Cell({ page, cell }: { page: RunPage; cell: unknown }) {
  if (isPicture(cell)) return <td><Picture page={page} file={cell.file} alt={cell.caption ?? "a picture of the table"} /></td>;
  const text = typeof cell === "string" ? cell : valueText(cell);
  return <td class={asNumber(cell) !== null ? "number" : ""} title={text.length > 80 ? text.slice(0, 4000) : undefined}><span class="cell"><HighlightedText text={text} /></span></td>;
}

// -- texts -----------------------------------------------------------------------------------------------------------

const TEXTS_AT_FIRST = 12;

function textOf(event: Event): string {
  return typeof event.value.text === "string" ? event.value.text : "";
}

export function TextCard({ media, step }: CardProps) {
  const [count, setCount] = useState(TEXTS_AT_FIRST);
  const shown = eventsAt(media, step);
  // The newest first, from the chosen step back.
  const last = shown.at(-1);
  const listed = (last === undefined ? [] : media.events.slice(0, media.events.indexOf(last) + 1)).reverse();
  return (
    <Frame media={media} shown={shown[0]}>
      <ol class="texts">
        {listed.slice(0, count).map((event) => (
          <li key={`${event.rank} ${event.row}`}>
            <p class="soft facts"><span>{event.step === null ? moment(event.time, true) : `step ${number(event.step)}`}</span>{event.rank > 0 && <span>rank {event.rank}</span>}<CopyButton text={textOf(event)} label="Copy the text" /></p>
            <pre dir="auto"><HighlightedText text={textOf(event)} />{event.cut && <span class="soft"> … the text goes on</span>}</pre>
          </li>
        ))}
      </ol>
      {listed.length > count && <p class="hint"><button onClick={() => setCount(count + 50)}>{Math.min(50, listed.length - count)} earlier</button></p>}
    </Frame>
  );
}

// -- files -----------------------------------------------------------------------------------------------------------

/** A sound, a film, a page: to save, never to run here. */
export function FileCard({ page, media, step }: CardProps) {
  const shown = eventsAt(media, step);
  return (
    <Frame media={media} shown={shown[0]}>
      <ul class="saved-files">
        {shown.map((event) => {
          const file = event.value.file;
          const address = addressOf(page, file);
          const name = String(event.value.path ?? file ?? media.key);
          return (
            <li key={`${event.rank} ${event.row}`}>
              <span class="mono"><HighlightedText text={name} /></span> <span class="soft">{bytes(asNumber(event.value.bytes))}</span>
              {address !== null && <a href={address} download={name.split("/").at(-1)}>Save</a>}
            </li>
          );
        })}
      </ul>
    </Frame>
  );
}
