// The table of a project's runs, virtualised: of ten thousand rows only those in view are in the page. The list beside
// the
// charts and the table view are both this component.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { navigate, route } from "../router";
import { baseline, runById, setBaseline } from "../runs";
import { bindShortcuts } from "../shortcuts";
import { openColorPicker } from "./color_picker";
import { focused, focusOn, isAt, lineId, scrolling, toggleGroup, toggleRun } from "./row_focus";
import { GroupTableRow, LINE, RunTableRow } from "./run_table_row";
import { columns, widthOf } from "./table_columns";
import { TableHeader } from "./table_header";
import { arrangement, folding, lines, sortNext, sortReversed, type TableRow } from "./visible_runs";
import "./run_table.css";

const CURVE = 72; // px, the small curve's column
const BEYOND = 8; // lines kept ready above and below
const STANDING = 120; // ms after the last scroll
const SETTLED = 2500; // ms after which a pointer that lies still holds nothing

/** The lines to show: while a pointer moves over them they stay where they are. */
function useHeldLines(): { shown: readonly TableRow[]; hold: () => void; release: () => void } {
  const [held, setHeld] = useState<{ lines: readonly TableRow[]; arrangement: string } | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const release = (): void => {
    clearTimeout(timer.current);
    setHeld(null);
  };
  const hold = (): void => {
    clearTimeout(timer.current);
    timer.current = setTimeout(release, SETTLED);
    setHeld((before) => before ?? { lines: lines.peek(), arrangement: folding.value });
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  // Runs that are held and the same in number are only out of order; what a person sets counts at once.
  const current = lines.value;
  const shown = held !== null && held.arrangement === folding.value ? held.lines : current;
  return { shown, hold, release };
}

export function RunTable(props: { compact: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const { shown, hold, release } = useHeldLines();
  const [sight, setSight] = useState({ first: 0, count: 40 });
  const held = baseline.value === null ? undefined : runById(baseline.value);
  const above = LINE * (held ? 2 : 1);

  useLayoutEffect(() => {
    const element = box.current!;
    let standing: ReturnType<typeof setTimeout> | undefined;
    const rush = (): void => {
      clearTimeout(standing);
      scrolling.value = true;
      standing = setTimeout(() => (scrolling.value = false), STANDING);
      look();
    };
    const look = (): void => {
      const first = Math.max(0, Math.floor(element.scrollTop / LINE) - BEYOND);
      const count = Math.ceil(element.clientHeight / LINE) + 2 * BEYOND;
      setSight((before) => (before.first === first && before.count === count ? before : { first, count }));
    };
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    element.addEventListener("scroll", rush, { passive: true });
    return () => {
      watcher.disconnect();
      clearTimeout(standing);
      scrolling.value = false;
      element.removeEventListener("scroll", rush);
    };
  }, []);

  // What a person looks at stays where it is when lines come or go above it; a new arrangement begins at its top.
  const before = useRef<{ lines: readonly TableRow[]; arrangement: string }>({ lines: [], arrangement: "" });
  useLayoutEffect(() => {
    const element = box.current!;
    const was = before.current;
    before.current = { lines: shown, arrangement: arrangement.value };
    if (was.lines === shown || was.lines.length === 0) return;
    if (was.arrangement !== arrangement.value) {
      element.scrollTop = 0;
      return;
    }
    const top = Math.floor(element.scrollTop / LINE);
    const seen = was.lines[top];
    if (top === 0 || seen === undefined || seen.id === null || shown[top]?.id === seen.id) return;
    const now = shown.findIndex((line) => line.id === seen.id);
    if (now >= 0) element.scrollTop += (now - top) * LINE;
  }, [shown]);

  const at = useMemo(() => shown.findIndex(isAt), [shown, focused.value]);
  const show = (to: number): void => {
    const element = box.current!;
    const line = Math.max(0, Math.min(to, shown.length - 1));
    focusOn(shown[line]);
    const top = line * LINE;
    const height = element.clientHeight - above;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + LINE > element.scrollTop + height) element.scrollTop = top + LINE - height;
  };
  const act = useRef({ show, at, shown });
  act.current = { show, at, shown };

  useEffect(() => {
    const line = (): TableRow | undefined => act.current.shown[act.current.at];
    const run = (): string | null => line()?.id ?? null;
    return bindShortcuts([
      { key: "j", description: "next run", action: () => act.current.show(act.current.at + 1) },
      {
        key: "k",
        description: "run before",
        action: () => act.current.show(act.current.at < 0 ? 0 : act.current.at - 1),
      },
      {
        key: " ",
        description: "draw the focused run, or not",
        action: () => {
          const now = line();
          if (now?.id != null) toggleRun(now.id, "one");
          else if (now?.group) toggleGroup(now.group.ids);
        },
      },
      {
        key: "o",
        description: "draw only the focused run",
        action: () => {
          const id = run();
          if (id !== null) toggleRun(id, "only");
        },
      },
      {
        key: "b",
        description: "hold the others against the focused run (baseline)",
        action: () => {
          const id = run();
          if (id !== null) setBaseline(baseline.peek() === id ? null : id);
        },
      },
      {
        key: "c",
        description: "colour of the focused run",
        action: () => {
          const id = run();
          if (id !== null) openColorPicker(id, runById(id)?.name ?? id);
        },
      },
      { key: "s", description: "sort by the next column", action: sortNext },
      { key: "S", description: "sort the other way round", action: sortReversed },
    ]);
  }, []);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== event.currentTarget) return;
    const page = Math.max(1, Math.floor((box.current!.clientHeight - above) / LINE) - 1);
    const line = shown[at];
    const moves: Record<string, () => void> = {
      ArrowDown: () => show(at + 1),
      ArrowUp: () => show(at < 0 ? 0 : at - 1),
      PageDown: () => show(Math.max(at, 0) + page),
      PageUp: () => show(at - page),
      Home: () => show(0),
      End: () => show(shown.length - 1),
      Enter: () => line?.id != null && navigate({ project: route.peek().project, run: line.id }),
      ArrowRight: () => box.current!.scrollBy({ left: 80 }),
      ArrowLeft: () => box.current!.scrollBy({ left: -80 }),
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    move();
  };

  const shownColumns = columns.value;
  const widths = [
    widthOf(props.compact ? "name of list" : "name"),
    CURVE,
    ...shownColumns.map(({ name }) => widthOf(name)),
  ];
  const whole = widths.reduce((sum, width) => sum + width, 0);
  const first = Math.max(0, Math.min(sight.first, shown.length - sight.count));
  const inSight = shown.slice(first, first + sight.count);
  const focusedLine = shown[at];
  return (
    <div
      ref={box}
      class={`run-table ${props.compact ? "compact" : ""}`}
      role="grid"
      aria-label="Runs"
      tabIndex={0}
      aria-rowcount={shown.length + 1}
      aria-colcount={shownColumns.length + 2}
      aria-multiselectable={true}
      aria-activedescendant={focusedLine === undefined ? undefined : lineId(focusedLine)}
      style={{ "--columns": widths.map((width) => `${width}px`).join(" "), "--whole": `${whole}px` }}
      onKeyDown={onKeyDown}
      onPointerMove={hold}
      onPointerLeave={release}
      onFocus={(event) => event.target === event.currentTarget && focused.value === null && focusOn(shown[0])}
    >
      <TableHeader columns={shownColumns} compact={props.compact} />
      {held && <RunTableRow key="baseline" row={held} columns={shownColumns} index={1} isFocused={false} pinned />}
      <div class="run-lines" role="rowgroup" style={{ height: `${shown.length * LINE}px` }}>
        {inSight.map((line, nth) => {
          const index = first + nth + 2;
          if (line.id === null)
            return (
              <GroupTableRow
                key={`group ${line.group.name}`}
                group={line.group}
                columns={shownColumns}
                index={index}
                isFocused={line === focusedLine}
              />
            );
          const row = runById(line.id);
          return (
            row && (
              <RunTableRow
                key={line.id}
                row={row}
                columns={shownColumns}
                index={index}
                isFocused={line === focusedLine}
                pinned={false}
              />
            )
          );
        })}
      </div>
    </div>
  );
}
