// A virtualised list of rows of one height.

import type { ComponentChildren, RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

/** Lines kept ready above and below those in sight. */
export const LINES_BEYOND = 12;

/** What a list can be told. */
export interface VirtualListHandle {
  show: (line: number, where?: "middle" | "start") => void;
  toEnd: () => void;
}

export function VirtualList(props: {
  count: number;
  lineHeight: number; // px
  line: (at: number) => ComponentChildren;
  label: string;
  class?: string;
  role?: "list" | "grid" | "log";
  handle?: RefObject<VirtualListHandle | null>;
  onSight?: (first: number, end: number) => void; // after each drawing
  onScroll?: (atEnd: boolean) => void; // a person has scrolled, not `handle`
  maxHeight?: number; // px; absent: as high as its place
  head?: ComponentChildren;
}) {
  const { count, lineHeight } = props;
  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ top: 0, height: 600 });
  const [first, end] = linesIn(sight, lineHeight, count);
  const ownTop = useRef<number | null>(null); // where `handle` has scrolled to
  const scrolled = useRef(props.onScroll);
  scrolled.current = props.onScroll;

  useLayoutEffect(() => {
    const element = box.current!;
    const look = (): void =>
      setSight((before) =>
        before.top === element.scrollTop && before.height === element.clientHeight
          ? before
          : { top: element.scrollTop, height: element.clientHeight },
      );
    const scroll = (): void => {
      look();
      // The event of a scroll by `handle` may come after the list has grown: it says nothing about what a person wants.
      if (ownTop.current !== null && Math.abs(element.scrollTop - ownTop.current) < 2) return;
      ownTop.current = null;
      scrolled.current?.(element.scrollHeight - element.clientHeight - element.scrollTop < 2 * lineHeight);
    };
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    element.addEventListener("scroll", scroll, { passive: true });
    look();
    return () => {
      watcher.disconnect();
      element.removeEventListener("scroll", scroll);
    };
  }, [lineHeight]);

  const scrollTo = (top: number): void => {
    const element = box.current;
    if (element === null) return;
    element.scrollTo({ top });
    ownTop.current = element.scrollTop;
  };
  if (props.handle) {
    props.handle.current = {
      toEnd: () => scrollTo(Number.MAX_SAFE_INTEGER),
      show: (line, where = "middle") =>
        scrollTo(
          where === "start" ? line * lineHeight : line * lineHeight - (box.current?.clientHeight ?? 0) / 2 + lineHeight,
        ),
    };
  }
  useLayoutEffect(() => props.onSight?.(first, end));

  return (
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: every role that is given to it has a label
    <div
      ref={box}
      class={`long-list ${props.class ?? ""}`}
      role={props.role ?? "list"}
      aria-label={props.label}
      tabIndex={0}
      style={props.maxHeight === undefined ? {} : { maxHeight: `${props.maxHeight}px` }}
    >
      {props.head}
      <div class="whole" role="presentation" style={{ height: `${count * lineHeight}px` }}>
        <div class="seen" role="presentation" style={{ transform: `translateY(${first * lineHeight}px)` }}>
          {Array.from({ length: Math.max(0, end - first) }, (_, at) => props.line(first + at))}
        </div>
      </div>
    </div>
  );
}

function linesIn(sight: { top: number; height: number }, lineHeight: number, count: number): [number, number] {
  const first = Math.max(0, Math.min(count, Math.floor(sight.top / lineHeight)) - LINES_BEYOND);
  return [first, Math.min(count, Math.ceil((sight.top + sight.height) / lineHeight) + LINES_BEYOND)];
}
