// The media that a run logged, by kind and key, and which of them a step shows.

import type { Event } from "../types";
import type { ViewProps } from "./view";

/** What is shown here, in this order; `most`: so many events of a kind are asked for, evenly spread where there are more. */
export const MEDIA_KINDS: readonly { kind: string; title: string; most: number }[] = [
  { kind: "image", title: "Images", most: 3000 },
  { kind: "histogram", title: "Histograms", most: 1500 },
  { kind: "table", title: "Tables", most: 400 },
  { kind: "text", title: "Texts", most: 1000 },
  { kind: "file", title: "Files", most: 1000 },
];

export interface MediaKey {
  kind: string;
  key: string;
  events: readonly Event[]; // by step
}

export interface CardProps {
  page: ViewProps["page"];
  media: MediaKey;
  step: number | null; // the chosen one; null: the latest
  height?: number;
}

const byName = new Intl.Collator("en", { numeric: true });

/** The events of a kind, by key and step. */
export function mediaKeys(kind: string, events: readonly Event[]): MediaKey[] {
  const byKey = new Map<string, Event[]>();
  for (const event of events) {
    const key = event.key ?? String(event.value.path ?? "");
    const list = byKey.get(key);
    if (list === undefined) byKey.set(key, [event]);
    else list.push(event);
  }
  return [...byKey]
    .sort(([one], [other]) => byName.compare(one, other))
    .map(([key, list]) => ({
      kind,
      key,
      events: list.sort((one, other) => (one.step ?? -1) - (other.step ?? -1) || one.time - other.time),
    }));
}

/** The events of the last step at or before the chosen one; else of the first. */
export function eventsAt(media: MediaKey, step: number | null): readonly Event[] {
  const { events } = media;
  const at = step === null ? events.length - 1 : events.findLastIndex((event) => (event.step ?? -1) <= step);
  const shown = events[Math.max(0, at)];
  return shown === undefined
    ? []
    : events.filter((event) => event.step === shown.step && (shown.step !== null || event === shown));
}
