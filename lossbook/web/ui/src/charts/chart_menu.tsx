// The menu of a chart: save it, copy its link, show it as a table.

import { useEffect, useRef, useState } from "preact/hooks";

import { copyText } from "../components/copy_button";
import type { ChartModel } from "./chart_model";
import { saveCsv, savePng, saveSvg } from "./export";

export function Menu(props: { model: ChartModel; title: string; asTable: boolean; onTable: (shown: boolean) => void }) {
  const { model, title } = props;
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return undefined;
    const stop = new AbortController();
    addEventListener("pointerdown", (event) => !box.current?.contains(event.target as Node) && setOpen(false), {
      signal: stop.signal,
    });
    box.current?.querySelector<HTMLButtonElement>(".menu button")?.focus();
    return () => stop.abort();
  }, [open]);
  const does = (act: () => unknown) => () => {
    setOpen(false);
    button.current?.focus();
    void act();
  };
  return (
    <div
      ref={box}
      class="menu-of-chart"
      onKeyDown={(event) => {
        if (event.key === "Escape" && open) {
          event.stopPropagation();
          setOpen(false);
          button.current?.focus();
        } else if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
          event.preventDefault();
          const items = [...box.current!.querySelectorAll<HTMLButtonElement>(".menu button")];
          const at = items.indexOf(document.activeElement as HTMLButtonElement);
          items[(at + (event.key === "ArrowDown" ? 1 : items.length - 1)) % items.length]?.focus();
        }
      }}
    >
      <button
        type="button"
        ref={button}
        class="plain small"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={`More for ${title}`}
        title="More"
        onClick={() => setOpen(!open)}
      >
        ⋯
      </button>
      {open && (
        <div class="menu" role="menu">
          <button type="button" role="menuitem" onClick={does(() => savePng(model.canvas, title))}>
            Save as PNG
          </button>
          <button type="button" role="menuitem" onClick={does(() => saveSvg(model.canvas, title))}>
            Save as SVG
          </button>
          <button type="button" role="menuitem" onClick={does(() => saveCsv(model.canvas, title))}>
            Save as CSV
          </button>
          <button type="button" role="menuitem" onClick={does(() => copyText(location.href))}>
            Copy link
          </button>
          <button type="button" role="menuitem" onClick={does(() => props.onTable(!props.asTable))}>
            {props.asTable ? "Hide the table" : "Show as a table"}
          </button>
        </div>
      )}
    </div>
  );
}
