// The filter: an expression over runs, with completion for the names that it can use.

import { computed } from "@preact/signals";
import { useRef, useState } from "preact/hooks";

import { EXAMPLE_EVAL_METRIC, RUN_FIELDS } from "../constants";
import { setSettings } from "../router";
import { names } from "../runs";
import { completions, quoteName } from "./filter_text";
import { Menu } from "./menu";
import { useUrlText } from "./url_text_field";
import { filterFailure } from "./visible_runs";

const EXAMPLES: readonly [string, string][] = [
  [`${EXAMPLE_EVAL_METRIC} < 3.2`, "the last value of a metric"],
  [`${EXAMPLE_EVAL_METRIC}.min < 3 and state = 'finished'`, "its smallest, and the run's state"],
  ["config.lr >= 1e-4 and config.optimizer = 'adamw'", "configuration"],
  ["tags contains 'sweep' and not group = 'old'", "tags and groups"],
  ["name like 'gpt2-%' or notes is not null", "texts"],
  ["duration > 3600 and host in ('node1', 'node2')", "seconds, and one of several"],
];
const known = computed<readonly string[]>(() => {
  const all = names.value;
  if (all === null) return RUN_FIELDS;
  const usual = new Set(all.usual);
  return [
    ...usual,
    ...RUN_FIELDS,
    ...all.config.map(({ name }) => name),
    ...all.summary.map(({ name }) => name),
    ...all.metrics.map(({ name }) => name).filter((name) => !usual.has(name)),
  ];
});

export function FilterField() {
  const { text, type } = useUrlText("where");
  const [open, setOpen] = useState<{ from: number; found: string[]; at: number } | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const failure = text.trim() === "" ? null : filterFailure.value;

  const suggest = (): void => {
    const element = field.current!;
    const { from, found } = completions(element.value, element.selectionStart ?? element.value.length, known.value);
    setOpen(found.length === 0 ? null : { from, found, at: -1 });
  };
  const accept = (name: string): void => {
    const element = field.current!;
    const from = open?.from ?? element.value.length;
    const written = `${element.value.slice(0, from)}${quoteName(name)} `;
    // At once, not with the next frame: whoever goes on typing writes behind the name.
    element.value = written + element.value.slice(element.selectionStart ?? element.value.length).trimStart();
    element.setSelectionRange(written.length, written.length);
    element.focus();
    type(element.value);
    setOpen(null);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (open !== null && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const by = event.key === "ArrowDown" ? 1 : -1;
      setOpen({ ...open, at: (open.at + by + open.found.length) % open.found.length });
    } else if (open !== null && open.at >= 0 && (event.key === "Enter" || event.key === "Tab"))
      accept(open.found[open.at]!);
    else if (event.key === "Escape" && open !== null) setOpen(null);
    else if (event.key === "Escape" && text !== "") type("");
    else if (event.key === "Escape") field.current?.blur();
    else return;
    event.preventDefault();
  };
  return (
    <div class="filter-field">
      <div class="row">
        <input
          ref={field}
          type="text"
          role="combobox"
          aria-label="Filter by an expression"
          aria-expanded={open !== null}
          aria-controls="filter-names"
          aria-autocomplete="list"
          aria-activedescendant={open !== null && open.at >= 0 ? `filter-name-${open.at}` : undefined}
          aria-invalid={failure !== null}
          aria-describedby="filter-failure"
          placeholder={`Filter: ${EXAMPLE_EVAL_METRIC} < 3.2 and config.lr > 1e-4`}
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          class="mono"
          value={text}
          onKeyDown={onKeyDown}
          onBlur={() => setOpen(null)}
          onInput={(event) => {
            type(event.currentTarget.value);
            suggest();
          }}
        />
        <Menu label="Examples of filters" button="e.g." class="plain">
          {(close) => (
            <>
              <p class="title">Runs for which an expression is true. What a run does not have is null.</p>
              {EXAMPLES.map(([example, tells]) => (
                <button
                  key={example}
                  type="button"
                  onClick={() => {
                    setSettings({ where: example });
                    close();
                  }}
                >
                  <code>{example}</code>
                  <span class="soft">{tells}</span>
                </button>
              ))}
            </>
          )}
        </Menu>
      </div>
      {open !== null && (
        <ul id="filter-names" role="listbox" aria-label="Names" class="suggestions">
          {open.found.map((name, at) => (
            <li
              key={name}
              id={`filter-name-${at}`}
              role="option"
              aria-selected={at === open.at}
              title={name}
              class="cut"
              onPointerDown={(event) => {
                event.preventDefault();
                accept(name);
              }}
            >
              <bdi>{name}</bdi>
            </li>
          ))}
        </ul>
      )}
      <p id="filter-failure" class="failure" role="status">
        {failure ?? ""}
      </p>
    </div>
  );
}
