// The tabs of a page, as links; the keys 1 to 9 open them.

import { useEffect } from "preact/hooks";

import { linkTo, navigate, route } from "../router";
import { bindShortcuts } from "../shortcuts";

export interface Tab {
  view: string;
  title: string;
  count?: number; // how many things there are to see
}

export function Tabs(props: { tabs: readonly Tab[]; current: string }) {
  const { project, run, settings } = route.value;
  const views = props.tabs.map(({ view }) => view).join(" ");
  useEffect(
    () =>
      bindShortcuts(
        props.tabs.slice(0, 9).map(({ view, title }, at) => ({
          key: String(at + 1),
          description: title,
          action: () => navigate({ project, run, view }),
        })),
      ),
    [project, run, views],
  );
  return (
    <nav class="tabs" aria-label="Views">
      {props.tabs.map(({ view, title, count }) => (
        <a
          key={view}
          href={linkTo({ project, run, view }, settings)}
          aria-current={view === props.current ? "page" : undefined}
        >
          {title}
          {count !== undefined && count > 0 && <span class="soft"> {count.toLocaleString("en-US")}</span>}
        </a>
      ))}
    </nav>
  );
}
