// A grid of any size in both directions, virtualised. One cell has the cursor, and arrows move it.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

const LINE = 27; // px
const BEYOND = 4; // lines and columns kept ready beyond the edges

export interface GridCell {
  text: ComponentChildren;
  title?: string;
  class?: string;
}

export interface GridColumn {
  name: string;
  head: ComponentChildren;
  width: number; // px
  sorted?: "ascending" | "descending" | "none";
  class?: string;
}

export function VirtualGrid(props: {
  label: string;
  columns: readonly GridColumn[]; // the first stays where it is
  count: number; // lines
  cell: (line: number, column: number) => GridCell;
  lineKey: (line: number) => string;
  lineClass?: (line: number) => string;
  headHeight?: number; // px
  onEnter?: (line: number, column: number) => void;
}) {
  const { columns, count } = props;
  const headHeight = props.headHeight ?? LINE + 1;
  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ left: 0, top: 0, width: 1200, height: 800 });
  const [cursor, setCursor] = useState<{ line: number; column: number } | null>(null);
  useLayoutEffect(() => {
    const element = box.current!;
    const look = (): void => {
      const next = {
        left: element.scrollLeft,
        top: element.scrollTop,
        width: element.clientWidth,
        height: element.clientHeight,
      };
      setSight((before) =>
        Object.entries(next).every(([name, value]) => before[name as keyof typeof next] === value) ? before : next,
      );
    };
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => {
      watcher.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  const starts: number[] = [];
  const whole = columns.reduce((left, { width }) => {
    starts.push(left);
    return left + width;
  }, 0);
  const fixed = columns[0]?.width ?? 0;
  let firstColumn = 1;
  while (firstColumn < columns.length - 1 && starts[firstColumn + 1]! < sight.left + fixed) firstColumn += 1;
  firstColumn = Math.max(1, firstColumn - BEYOND);
  let endColumn = firstColumn;
  while (endColumn < columns.length && starts[endColumn]! < sight.left + sight.width) endColumn += 1;
  endColumn = Math.min(columns.length, endColumn + BEYOND);
  const first = Math.max(0, Math.min(count, Math.floor(sight.top / LINE)) - BEYOND);
  const end = Math.min(count, Math.ceil((sight.top + sight.height) / LINE) + BEYOND);
  const seenColumns = [0, ...Array.from({ length: Math.max(0, endColumn - firstColumn) }, (_, at) => firstColumn + at)];

  const moveTo = (line: number, column: number): void => {
    const next = {
      line: Math.max(0, Math.min(count - 1, line)),
      column: Math.max(0, Math.min(columns.length - 1, column)),
    };
    setCursor(next);
    const element = box.current!;
    const top = next.line * LINE;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + LINE + headHeight > element.scrollTop + element.clientHeight)
      element.scrollTop = top + LINE + headHeight - element.clientHeight;
    if (next.column === 0) return;
    const left = starts[next.column]!;
    if (left - fixed < element.scrollLeft) element.scrollLeft = left - fixed;
    else if (left + columns[next.column]!.width > element.scrollLeft + element.clientWidth)
      element.scrollLeft = left + columns[next.column]!.width - element.clientWidth;
  };
  const page = Math.max(1, Math.floor((sight.height - headHeight) / LINE) - 1);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.target !== box.current || event.ctrlKey || event.altKey || event.metaKey || count === 0) return;
    const { line, column } = cursor ?? { line: 0, column: 0 };
    const moves: Record<string, [number, number]> = {
      ArrowDown: [line + 1, column],
      ArrowUp: [line - 1, column],
      ArrowRight: [line, column + 1],
      ArrowLeft: [line, column - 1],
      PageDown: [line + page, column],
      PageUp: [line - page, column],
      Home: [line, 0],
      End: [line, columns.length - 1],
    };
    const to = moves[event.key];
    if (to !== undefined) moveTo(cursor === null ? 0 : to[0], cursor === null ? 0 : to[1]);
    else if (event.key === "Enter" && cursor !== null && props.onEnter) props.onEnter(line, column);
    else if (event.key === "Escape" && cursor !== null) setCursor(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const isAt = (line: number, column: number): boolean => cursor?.line === line && cursor.column === column;
  const place = (column: number) => ({
    left: column === 0 ? 0 : `${starts[column]!}px`,
    width: `${columns[column]!.width}px`,
  });
  return (
    <div
      ref={box}
      class="compare-grid"
      role="grid"
      tabIndex={0}
      aria-label={props.label}
      aria-rowcount={count + 1}
      aria-colcount={columns.length}
      aria-activedescendant={cursor === null ? undefined : "grid-cursor"}
      onKeyDown={onKeyDown}
    >
      <div class="grid-head" role="row" aria-rowindex={1} style={{ width: `${whole}px`, height: `${headHeight}px` }}>
        {seenColumns.map((column) => {
          const { name, head, sorted, class: own } = columns[column]!;
          return (
            <div
              key={name}
              role="columnheader"
              aria-colindex={column + 1}
              aria-sort={sorted}
              class={`grid-cell ${column === 0 ? "first" : ""} ${own ?? ""}`}
              style={place(column)}
            >
              {head}
            </div>
          );
        })}
      </div>
      <div class="grid-lines" role="presentation" style={{ width: `${whole}px`, height: `${count * LINE}px` }}>
        {Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at).map((line) => (
          <div
            key={props.lineKey(line)}
            class={`grid-line ${props.lineClass?.(line) ?? ""}`}
            role="row"
            aria-rowindex={line + 2}
            style={{ top: `${line * LINE}px`, width: `${whole}px` }}
          >
            {seenColumns.map((column) => {
              const { text, title, class: own } = props.cell(line, column);
              return (
                // biome-ignore lint/a11y/useAriaPropsSupportedByRole: both roles have a column index
                <div
                  key={columns[column]!.name}
                  id={isAt(line, column) ? "grid-cursor" : undefined}
                  role={column === 0 ? "rowheader" : "gridcell"}
                  aria-colindex={column + 1}
                  title={title}
                  class={`grid-cell cut ${column === 0 ? "first" : ""} ${own ?? ""} ${isAt(line, column) ? "cursor" : ""}`}
                  style={place(column)}
                  onClick={() => setCursor({ line, column })}
                >
                  {text}
                </div>
              );
            })}
          </div>
        ))}
      </div>
    </div>
  );
}

// -- as a text -----------------------------------------------------------------------------------------------------
