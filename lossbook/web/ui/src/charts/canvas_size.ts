// Measures elements as they resize, and sizes canvases in device pixels.

import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

import { fileName, save } from "./export";

export interface Size {
  width: number; // px of the page
  height: number;
  ratio: number; // pixels of the screen in each
}

export function useSize(box: RefObject<HTMLElement | null>): Size {
  const [size, setSize] = useState<Size>({ width: 0, height: 0, ratio: 1 });
  useLayoutEffect(() => {
    const measure = (): void => {
      const element = box.current;
      if (element === null) return;
      const next = { width: element.clientWidth, height: element.clientHeight, ratio: devicePixelRatio || 1 };
      setSize((before) =>
        before.width === next.width && before.height === next.height && before.ratio === next.ratio ? before : next,
      );
    };
    const watcher = new ResizeObserver(measure);
    if (box.current !== null) watcher.observe(box.current);
    // Another screen, or the browser's zoom.
    addEventListener("resize", measure);
    measure();
    return () => {
      watcher.disconnect();
      removeEventListener("resize", measure);
    };
  }, []);
  return size;
}

/** The canvas's context, empty, in px of the page. */
export function prepareCanvas(canvas: HTMLCanvasElement, { width, height, ratio }: Size): CanvasRenderingContext2D {
  const [wide, tall] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== tall) canvas.height = tall;
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

let font: string | null = null; // the page's own, looked up with the first canvas

export function plainFont(context: CanvasRenderingContext2D): void {
  font ??= `11px ${getComputedStyle(document.documentElement).getPropertyValue("--font") || "sans-serif"}`;
  context.font = font;
}

/** A text no wider than `most` px. */
export function shortened(context: CanvasRenderingContext2D, text: string, most: number): string {
  if (context.measureText(text).width <= most) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (context.measureText(`${text.slice(0, middle)}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/** What the canvases of an element show, one on top of the other, with the texts of `labels` above them, as a PNG. */
export async function saveCanvases(box: Element, title: string, labels = ""): Promise<void> {
  const layers = [...box.querySelectorAll("canvas")];
  const [first] = layers;
  if (first === undefined) return;
  const style = getComputedStyle(document.documentElement);
  const canvas = document.createElement("canvas");
  const bounds = box.getBoundingClientRect();
  const ratio = first.width / bounds.width;
  canvas.width = first.width;
  canvas.height = first.height;
  const context = canvas.getContext("2d")!;
  context.fillStyle = style.getPropertyValue("--background");
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const layer of layers) context.drawImage(layer, 0, 0);
  context.scale(ratio, ratio);
  plainFont(context);
  context.fillStyle = style.getPropertyValue("--text");
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const label of labels === "" ? [] : box.querySelectorAll(labels)) {
    const { left, width, top, height } = label.getBoundingClientRect();
    context.fillText(label.textContent ?? "", left - bounds.left + width / 2, top - bounds.top + height / 2);
  }
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (blob !== null) save(fileName(title, "png"), blob, "image/png");
}
