// Copies a text to the clipboard and confirms it.

import { useEffect, useState } from "preact/hooks";

/** Also where the page has no right to the clipboard: over plain HTTP from another machine. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.style.position = "fixed";
    field.style.opacity = "0";
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

export function CopyButton(props: { text: string; label: string; children?: string; title?: string; class?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      class={props.class ?? "plain"}
      title={props.title ?? props.label}
      aria-label={props.children ? undefined : props.label}
      onClick={() => void copyText(props.text).then(() => setCopied(true))}
    >
      {props.children ?? <CopySign done={copied} />}
      <span role="status" class={props.children ? "" : "unseen"}>
        {copied ? (props.children ? " ✓" : "copied") : ""}
      </span>
    </button>
  );
}

function CopySign(props: { done: boolean }) {
  return (
    <svg
      width="13"
      height="13"
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.5"
      aria-hidden="true"
    >
      {props.done ? (
        <path d="M3 8.5l3.5 3.5L13 4.5" />
      ) : (
        <>
          <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
          <path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />
        </>
      )}
    </svg>
  );
}
