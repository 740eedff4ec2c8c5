// One line of a console, coloured as in a terminal.

import { HighlightedText, splitMatches } from "../components/highlighted_text";
import { linkTo, route, setSettings } from "../router";
import type { ConsoleLine } from "../types";

export const LINE = 18;

export function ConsoleRow(props: {
  number: number;
  line: ConsoleLine | null;
  find: string;
  marked: boolean;
  high: boolean;
}) {
  const { project, run, view, settings } = route.value;
  const link = new URLSearchParams(settings);
  link.set("line", String(props.number + 1));
  return (
    <div
      id={`console-${props.number}`}
      class={`line ${props.marked ? "marked" : ""}`}
      style={props.high ? { height: `${LINE}px` } : {}}
    >
      <a
        class="line-number"
        href={linkTo({ project, run, view }, link)}
        aria-label={`Line ${props.number + 1}`}
        onClick={(event) => {
          event.preventDefault();
          setSettings({ line: String(props.number + 1) });
        }}
      >
        {props.number + 1}
      </a>
      <span class="text">
        {props.line === null ? <span class="soft">…</span> : <Printed line={props.line} find={props.find} />}
      </span>
    </div>
  );
}

/** A line as a terminal would colour it; where it has what was searched for, that is what stands out. */
function Printed({ line, find }: { line: ConsoleLine; find: string }) {
  const more = line.cut && <span class="soft"> … the line goes on</span>;
  if (line.spans.length === 0 || splitMatches(line.text, find).length > 1)
    return (
      <>
        <HighlightedText text={line.text} find={find} />
        {more}
      </>
    );
  const letters = [...line.text]; // spans count characters, not UTF-16 units
  const piece = (start: number, end?: number): preact.JSX.Element => (
    <HighlightedText text={letters.slice(start, end).join("")} />
  );
  const parts: preact.ComponentChildren[] = [];
  let at = 0;
  for (const { start, end, style } of line.spans) {
    if (start > at) parts.push(piece(at, start));
    const words = style
      .split(" ")
      .filter((word) => /^[a-z-]+$/.test(word))
      .map((word) => `ansi-${word}`)
      .join(" ");
    parts.push(<span class={words}>{piece(Math.max(at, start), end)}</span>);
    at = Math.max(at, end);
  }
  return (
    <>
      {parts}
      {piece(at)}
      {more}
    </>
  );
}
