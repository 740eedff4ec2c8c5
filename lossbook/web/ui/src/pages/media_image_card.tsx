// Images of one key at one step, with a viewer that goes to the next and the previous.

import { useEffect, useState } from "preact/hooks";
import { Dialog } from "../components/dialog";
import { HighlightedText } from "../components/highlighted_text";
import { number } from "../format";
import { route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";
import type { RunPage } from "../types";
import { type CardProps, eventsAt } from "./media_events";
import { addressOf, captionOf, Frame, Picture } from "./media_picture";

export function ImageCard({ page, media, step }: CardProps) {
  const shown = eventsAt(media, step);
  const name = `image:${media.key}`;
  const { settings } = route.value;
  // The lightbox stands in the link: which key, and which of its pictures.
  const open =
    settings.get("look") === name
      ? Math.min(media.events.length - 1, Math.max(0, Number(settings.get("picture") ?? 0) || 0))
      : null;
  const look = (at: number | null): void =>
    setSettings(at === null ? { look: null, picture: null } : { look: name, picture: String(at) });
  const [strip, setStrip] = useState(false);
  const listed = strip ? media.events : shown;
  return (
    <Frame
      media={media}
      shown={shown[0]}
      acts={
        media.events.length > 1 && (
          <button type="button" class="plain" aria-pressed={strip} onClick={() => setStrip(!strip)}>
            All {media.events.length.toLocaleString("en-US")}
          </button>
        )
      }
    >
      <div class={`pictures ${strip ? "strip" : ""}`}>
        {listed.slice(0, 300).map((event) => (
          <figure key={`${event.rank} ${event.row}`}>
            <button
              type="button"
              class="picture"
              onClick={() => look(media.events.indexOf(event))}
              aria-label={`Look at ${media.key}${event.step === null ? "" : ` at step ${event.step}`}`}
            >
              <Picture
                page={page}
                file={event.value.file}
                alt={captionOf(event) || `${media.key}${event.step === null ? "" : ` at step ${event.step}`}`}
                width={event.value.width}
                height={event.value.height}
              />
            </button>
            {(strip || captionOf(event) !== "") && (
              <figcaption class="soft">
                {strip && event.step !== null && <b>{number(event.step)} </b>}
                <HighlightedText text={captionOf(event)} />
              </figcaption>
            )}
          </figure>
        ))}
      </div>
      {open !== null && <Lightbox page={page} media={media} at={open} onLook={look} />}
    </Frame>
  );
}

function Lightbox(props: {
  page: RunPage;
  media: CardProps["media"];
  at: number;
  onLook: (at: number | null) => void;
}) {
  const { page, media, at, onLook } = props;
  const event = media.events[at]!;
  const go = (by: number): void => onLook(Math.max(0, Math.min(media.events.length - 1, at + by)));
  const address = addressOf(page, event.value.file);
  useEffect(
    () =>
      bindShortcuts([
        { key: "ArrowLeft", description: "", action: () => go(-1) },
        { key: "ArrowRight", description: "", action: () => go(1) },
      ]),
    [at, media.events.length],
  );
  return (
    <Dialog title={media.key} open wide onClose={() => onLook(null)}>
      <div class="lightbox">
        <div class="stage">
          <Picture page={page} file={event.value.file} alt={captionOf(event) || media.key} lazy={false} />
        </div>
        <p>
          <HighlightedText text={captionOf(event)} />
        </p>
        <div class="bar">
          <button type="button" onClick={() => go(-1)} disabled={at === 0} aria-label="The picture before">
            ‹ before
          </button>
          <span class="soft" role="status">
            {event.step === null ? "" : `step ${number(event.step)} · `}
            {(at + 1).toLocaleString("en-US")} of {media.events.length.toLocaleString("en-US")}
            {typeof event.value.width === "number" ? ` · ${event.value.width} × ${event.value.height}` : ""}
          </span>
          <button
            type="button"
            onClick={() => go(1)}
            disabled={at === media.events.length - 1}
            aria-label="The next picture"
          >
            next ›
          </button>
          <span class="space" />
          {address !== null && (
            <a
              class="button"
              href={address}
              download={`${media.key.replaceAll("/", "-")}-${event.step ?? event.row}.${String(event.value.file).split(".").at(-1)}`}
            >
              Save
            </a>
          )}
        </div>
      </div>
    </Dialog>
  );
}
