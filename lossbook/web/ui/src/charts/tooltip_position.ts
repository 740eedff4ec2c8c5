// Keeps tooltips readable: inside the window or their dialog, and beside the point that they describe.

/** Room between a tip and the window's edge, and between it and its point; px. */
const EDGE = 8;
const BESIDE = 14;

interface Bounds {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

function boundsOf(element: HTMLElement): Bounds {
  const box = element.closest("dialog")?.getBoundingClientRect();
  return {
    left: Math.max(0, box?.left ?? 0) + EDGE,
    top: Math.max(0, box?.top ?? 0) + EDGE,
    right: Math.min(document.documentElement.clientWidth, box?.right ?? Infinity) - EDGE,
    bottom: Math.min(innerHeight, box?.bottom ?? Infinity) - EDGE,
  };
}

const clamped = (value: number, low: number, high: number): number => Math.max(low, Math.min(high, value));

/**
 * Put a tip beside a point of its parent, given in pixels from the parent's corner: to the right, else to the left, else
 * below or above, so that it never covers the point.
 */
export function placeTooltip(tip: HTMLElement, left: number, top: number): void {
  const parent = tip.offsetParent?.getBoundingClientRect();
  if (parent === undefined) return;
  const bounds = boundsOf(tip);
  const { offsetWidth: width, offsetHeight: height } = tip;
  const [x, y] = [parent.left + left, parent.top + top];
  let [to, down] = [x + BESIDE, clamped(y - 20, bounds.top, Math.max(bounds.top, bounds.bottom - height))];
  if (to + width > bounds.right) to = x - BESIDE - width;
  if (to < bounds.left) {
    to = clamped(x - width / 2, bounds.left, Math.max(bounds.left, bounds.right - width));
    down = y + BESIDE + height <= bounds.bottom || y - BESIDE - height < bounds.top ? y + BESIDE : y - BESIDE - height;
  }
  tip.style.left = `${Math.round(to - parent.left)}px`;
  tip.style.top = `${Math.round(down - parent.top)}px`;
}

/** Move a tip aside that would run past the left or right edge. */
export function keepTooltipInside(tip: HTMLElement): void {
  tip.style.translate = "";
  const bounds = boundsOf(tip);
  const { left, right } = tip.getBoundingClientRect();
  const by =
    right > bounds.right ? Math.max(bounds.right - right, bounds.left - left) : Math.max(0, bounds.left - left);
  if (by !== 0) tip.style.translate = `${Math.round(by)}px 0`;
}
