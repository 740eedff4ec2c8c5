// A text field whose text is in the address, updated shortly after the last key: browsers limit how often it may
// change.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { route, setSettings } from "../router";
import { bindShortcuts } from "../shortcuts";

const WAIT = 150; // ms

export interface UrlText {
  text: string;
  type: (text: string) => void;
}

/** The text of a setting, as it is typed. */
export function useUrlText(setting: string): UrlText {
  const inLink = route.value.settings.get(setting) ?? "";
  const [typed, setTyped] = useState<string | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (text: string): void => {
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setSettings({ [setting]: text === "" ? null : text });
      setTyped(null);
    }, WAIT);
  };
  return { text: typed ?? inLink, type };
}

/** A field that `/` selects, if `enabled`. */
export function useSlashField(enabled: boolean | undefined, label: string): RefObject<HTMLInputElement | null> {
  const field = useRef<HTMLInputElement>(null);
  useEffect(
    () =>
      enabled
        ? bindShortcuts([{ key: "/", description: label.toLowerCase(), action: () => field.current?.select() }])
        : undefined,
    [enabled, label],
  );
  return field;
}

export function UrlTextField(props: {
  setting: string;
  label: string;
  placeholder: string;
  class?: string;
  slash?: boolean;
}) {
  const { text, type } = useUrlText(props.setting);
  const field = useSlashField(props.slash, props.label);
  return (
    <input
      ref={field}
      type="search"
      class={props.class}
      aria-label={props.label}
      placeholder={props.placeholder}
      spellcheck={false}
      autocomplete="off"
      value={text}
      onInput={(event) => type(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.preventDefault();
        if (text === "") field.current?.blur();
        else type("");
      }}
    />
  );
}
