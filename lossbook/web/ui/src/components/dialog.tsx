// A modal dialog: Escape, its button or a click outside closes it, and the focus returns.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

export function Dialog(props: {
  title: string;
  open: boolean;
  onClose: () => void;
  wide?: boolean;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    if (dialog === null) return;
    if (props.open && !dialog.open) dialog.showModal();
    if (!props.open && dialog.open) dialog.close();
  }, [props.open]);
  return (
    <dialog
      ref={element}
      class={props.wide ? "wide" : undefined}
      aria-label={props.title}
      onClose={props.onClose}
      onClick={(event) => event.target === element.current && props.onClose()}
    >
      {props.open && (
        <>
          <header>
            <h2>{props.title}</h2>
            <button type="button" class="plain" onClick={props.onClose} aria-label="Close">
              ✕
            </button>
          </header>
          <div class="content">{props.children}</div>
        </>
      )}
    </dialog>
  );
}
