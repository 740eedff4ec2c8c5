// The cards of logged media: histograms, texts, files.

import { useState } from "preact/hooks";
import { type Distribution, describe, HistogramBars, HistogramStrip, rangeOf } from "../charts/histogram";
import { CopyButton } from "../components/copy_button";
import { HighlightedText } from "../components/highlighted_text";
import { asNumber, bytes, moment, number } from "../format";
import { setSettings } from "../router";
import { colorOf } from "../runs";
import type { Event } from "../types";
import { type CardProps, eventsAt } from "./media_events";
import { addressOf, Frame } from "./media_picture";

function distributionOf(event: Event): Distribution | null {
  const numbers = (list: unknown): number[] => (Array.isArray(list) ? list.map((one) => asNumber(one) ?? NaN) : []);
  const edges = numbers(event.value.edges);
  const counts = numbers(event.value.counts);
  if (counts.length === 0 || edges.length !== counts.length + 1 || edges.some((edge) => !Number.isFinite(edge)))
    return null;
  return { step: event.step ?? 0, edges, counts, nonfinite: asNumber(event.value.nonfinite) ?? 0 };
}

export function HistogramCard({ page, media, step, height }: CardProps) {
  const shown = eventsAt(media, step).at(-1);
  const all = media.events.map(distributionOf).filter((one) => one !== null);
  const one = shown === undefined ? null : distributionOf(shown);
  const color = colorOf(page.row.id);
  return (
    <Frame media={media} shown={shown}>
      {one === null ? (
        <p class="broken">This histogram is not whole: its edges and counts do not fit each other.</p>
      ) : (
        <>
          {all.length > 1 && (
            <HistogramStrip
              all={all}
              step={one.step}
              onStep={(chosen) => setSettings({ at: String(chosen) })}
              color={color}
              height={height ?? 180}
              label={media.key}
            />
          )}
          <HistogramBars
            of={one}
            color={color}
            height={Math.round((height ?? 180) * 0.75)}
            range={all.length > 1 ? rangeOf(all) : rangeOf([one])}
            label={media.key}
          />
          <p class="soft hint">{describe(one)}</p>
          <details class="folder">
            <summary>As a table</summary>
            <div class="wide-table short">
              <table class="plain">
                <thead>
                  <tr>
                    <th class="number">From</th>
                    <th class="number">To</th>
                    <th class="number">Count</th>
                  </tr>
                </thead>
                <tbody>
                  {one.counts.map((count, at) => (
                    <tr key={at}>
                      <td class="number">{number(one.edges[at])}</td>
                      <td class="number">{number(one.edges[at + 1])}</td>
                      <td class="number">{number(count)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </details>
        </>
      )}
    </Frame>
  );
}

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
            <p class="soft facts">
              <span>{event.step === null ? moment(event.time, true) : `step ${number(event.step)}`}</span>
              {event.rank > 0 && <span>rank {event.rank}</span>}
              <CopyButton text={textOf(event)} label="Copy the text" />
            </p>
            <pre dir="auto">
              <HighlightedText text={textOf(event)} />
              {event.cut && <span class="soft"> … the text goes on</span>}
            </pre>
          </li>
        ))}
      </ol>
      {listed.length > count && (
        <p class="hint">
          <button type="button" onClick={() => setCount(count + 50)}>
            {Math.min(50, listed.length - count)} earlier
          </button>
        </p>
      )}
    </Frame>
  );
}

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
              <span class="mono">
                <HighlightedText text={name} />
              </span>{" "}
              <span class="soft">{bytes(asNumber(event.value.bytes))}</span>
              {address !== null && (
                <a href={address} download={name.split("/").at(-1)}>
                  Save
                </a>
              )}
            </li>
          );
        })}
      </ul>
    </Frame>
  );
}
