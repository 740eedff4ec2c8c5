// Chooses the colour of a run: from the palette, any other, or back to its own.

import { batch, signal } from "@preact/signals";
import { route } from "../router";
import { colorOf, palette, setColor } from "../runs";
import { Dialog } from "./dialog";
import "./color_picker.css";

const asked = signal<{ id: string; name: string } | null>(null);

/** Let the colour of a run be chosen. */
export function openColorPicker(id: string, name: string): void {
  batch(() => (asked.value = { id, name }));
}

export function ColorPicker() {
  const run = asked.value;
  const close = (): void => {
    asked.value = null;
  };
  const now = run === null ? "" : colorOf(run.id);
  const isOwn =
    run !== null && (route.value.settings.get("colors") ?? "").split(",").some((pair) => pair.startsWith(`${run.id}~`));
  return (
    <Dialog title="Colour" open={run !== null} onClose={close}>
      {run !== null && (
        <div class="color-picker">
          <p class="cut" title={run.name}>
            {run.name}
          </p>
          <div class="palette" role="group" aria-label="Palette">
            {palette.value.map((color, at) => (
              <button
                key={color}
                type="button"
                style={{ background: color }}
                aria-label={`Colour ${at + 1}, ${color}`}
                aria-pressed={color === now}
                onClick={() => {
                  setColor(run.id, color);
                  close();
                }}
              />
            ))}
          </div>
          <div class="row">
            <label>
              Any other{" "}
              <input type="color" value={now} onChange={(event) => setColor(run.id, event.currentTarget.value)} />
            </label>
            <button
              type="button"
              disabled={!isOwn}
              onClick={() => {
                setColor(run.id, null);
                close();
              }}
            >
              Its own again
            </button>
          </div>
        </div>
      )}
    </Dialog>
  );
}
