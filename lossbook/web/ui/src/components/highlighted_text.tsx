// Shows text as it is, never as markup: invisible characters get a visible sign, search matches are highlighted.

import type { ComponentChildren } from "preact";

// Control characters but tab and line feed, and those that turn the direction of what follows.
// biome-ignore lint/suspicious/noControlCharactersInRegex: to show them is what this is for
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/;
const EACH_UNSEEN = new RegExp(`(${UNSEEN.source})`, "u");

function mark(letter: string): string {
  const code = letter.codePointAt(0)!;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code); // the pictures of control characters
  if (code === 0x7f) return "␡";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

function visible(text: string): ComponentChildren {
  if (!UNSEEN.test(text)) return text;
  return text.split(EACH_UNSEEN).map((part, at) =>
    at % 2 === 1 ? (
      <span
        key={at}
        class="control"
        title={`control character U+${part.codePointAt(0)!.toString(16).padStart(4, "0")}`}
      >
        {mark(part)}
      </span>
    ) : (
      part
    ),
  );
}

/** Where `find` stands in a text, upper and lower case alike. */
export function splitMatches(text: string, find: string): string[] {
  if (find === "") return [text];
  return text.split(new RegExp(`(${find.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")})`, "giu"));
}

/** `find`: emphasised wherever it occurs. */
export function HighlightedText(props: { text: string; find?: string | null }) {
  const parts = splitMatches(props.text, props.find ?? "");
  if (parts.length === 1) return <>{visible(props.text)}</>;
  return <>{parts.map((part, at) => (at % 2 === 1 ? <mark key={at}>{visible(part)}</mark> : visible(part)))}</>;
}
