// A logged picture, and the frame around every media card.

import { useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { HighlightedText } from "../components/highlighted_text";
import { moment, number } from "../format";
import type { Event, RunPage } from "../types";
import type { CardProps } from "./media_events";

export function Frame(props: {
  media: CardProps["media"];
  shown: Event | undefined;
  children: preact.ComponentChildren;
  acts?: preact.ComponentChildren;
}) {
  const { media, shown } = props;
  const title = media.key === "" ? media.kind : media.key;
  return (
    <section class="card media-card" aria-label={title}>
      <header>
        <h3 class="cut mono" title={title}>
          <HighlightedText text={title} />
        </h3>
        <span class="soft">
          {shown?.step != null ? `step ${number(shown.step)}` : shown === undefined ? "" : moment(shown.time)}
          {shown !== undefined && shown.rank > 0 ? `, rank ${shown.rank}` : ""}
        </span>
        {props.acts}
      </header>
      {props.children}
    </section>
  );
}

export function addressOf(page: RunPage, file: unknown): string | null {
  return typeof file === "string" && file !== ""
    ? api.fileAddress({ project: page.project, run: page.row.id, path: file })
    : null;
}

/** A picture; where its file is missing or no picture, a sentence that says so. */
export function Picture(props: {
  page: RunPage;
  file: unknown;
  alt: string;
  width?: unknown;
  height?: unknown;
  lazy?: boolean;
}) {
  const [broken, setBroken] = useState(false);
  const address = addressOf(props.page, props.file);
  useEffect(() => setBroken(false), [address]);
  if (address === null || broken)
    return (
      <span class="broken">
        {address === null
          ? "No picture was kept here."
          : `The file of this picture is missing or damaged: ${String(props.file)}`}
      </span>
    );
  const size = (value: unknown): string | undefined => (typeof value === "number" ? String(value) : undefined);
  return (
    <img
      src={address}
      alt={props.alt}
      loading={props.lazy === false ? "eager" : "lazy"}
      width={size(props.width)}
      height={size(props.height)}
      onError={() => setBroken(true)}
    />
  );
}

export function captionOf(event: Event): string {
  return typeof event.value.caption === "string" ? event.value.caption : "";
}
