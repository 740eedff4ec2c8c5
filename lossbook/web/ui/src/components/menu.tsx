// A popup menu: arrows move in it, Escape or a click outside closes it.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import "./menu.css";

const CONTROLS = "button:not(:disabled), input, a, select";

export function Menu(props: {
  label: string; // for those who do not see the button
  button: ComponentChildren;
  class?: string;
  title?: string;
  tabIndex?: number;
  children: (close: () => void) => ComponentChildren;
}) {
  const [place, setPlace] = useState<{ left: number; right: number; top: number; bottom: number } | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const close = (): void => {
    setPlace(null);
    button.current?.focus({ preventScroll: true });
  };
  useLayoutEffect(() => {
    const element = box.current;
    if (place === null || element === null) return;
    // In the top layer, so that no table cuts it off; and never beyond the window's edge.
    element.showPopover();
    const { width, height } = element.getBoundingClientRect();
    element.style.left = `${Math.max(8, Math.min(place.left, innerWidth - width - 8))}px`;
    element.style.top = `${place.bottom + height + 8 > innerHeight && place.top > height ? place.top - height - 4 : Math.min(place.bottom + 4, Math.max(8, innerHeight - height - 8))}px`;
    element.querySelector<HTMLElement>(`[autofocus], ${CONTROLS}`)?.focus({ preventScroll: true });
  }, [place]);
  useEffect(() => {
    if (place === null) return;
    const outside = (event: Event): void => {
      const target = event.target as Node;
      if (!box.current?.contains(target) && !button.current?.contains(target)) setPlace(null);
    };
    addEventListener("pointerdown", outside, true);
    addEventListener("wheel", outside, { capture: true, passive: true });
    return () => {
      removeEventListener("pointerdown", outside, true);
      removeEventListener("wheel", outside, true);
    };
  }, [place]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const all = [...(box.current?.querySelectorAll<HTMLElement>(CONTROLS) ?? [])];
      const at = all.indexOf(document.activeElement as HTMLElement);
      all[(at + (event.key === "ArrowDown" ? 1 : -1) + all.length) % all.length]?.focus();
    } else if (event.key === "Tab" && box.current !== null) {
      setPlace(null);
      return;
    } else {
      event.stopPropagation();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class={props.class ?? "plain"}
        aria-haspopup="dialog"
        aria-expanded={place !== null}
        aria-label={props.label}
        title={props.title ?? props.label}
        tabIndex={props.tabIndex}
        onClick={(event) => {
          event.stopPropagation();
          setPlace(place === null ? event.currentTarget.getBoundingClientRect() : null);
        }}
      >
        {props.button}
      </button>
      {place !== null && (
        <div
          ref={box}
          class="menu popped"
          popover="manual"
          role="dialog"
          aria-label={props.label}
          onKeyDown={onKeyDown}
          onClick={(event) => event.stopPropagation()}
        >
          {props.children(close)}
        </div>
      )}
    </>
  );
}
