// Rasterises lines and areas into pixels. A browser's canvas takes half a second for fifty noisy lines without a GPU;
// this
// takes ten milliseconds, column by column, and no line covers its own extremes.

/** An opaque picture; `pixels` as ImageData has them, one number each, but column after column: lines are drawn so. */
export interface Bitmap {
  width: number;
  height: number;
  pixels: Uint32Array;
}

/** `#rrggbb` or `#rgb`, as a minifier has it, as a pixel. */
export function pixelOf(color: string): number {
  const digits = color.length === 4 ? color.replace(/[0-9a-f]/gi, "$&$&") : color;
  const number = Number.parseInt(digits.slice(1, 7), 16);
  const [red, green, blue] = [number >> 16, (number >> 8) & 255, number & 255];
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

let shared = new ArrayBuffer(0);
let turned = new ArrayBuffer(0);

/** A picture to draw in; the next one that is begun takes its place. */
export function createBitmap(width: number, height: number, background: string): Bitmap {
  if (shared.byteLength < 4 * width * height) shared = new ArrayBuffer(4 * width * height);
  const pixels = new Uint32Array(shared, 0, width * height);
  pixels.fill(pixelOf(background));
  return { width, height, pixels };
}

/** Pixels are turned in squares that fit a processor's cache. */
const SQUARE = 32;

export function showBitmap(picture: Bitmap, context: CanvasRenderingContext2D, left = 0, top = 0): void {
  const { width, height, pixels } = picture;
  if (turned.byteLength < shared.byteLength) turned = new ArrayBuffer(shared.byteLength);
  const rows = new Uint32Array(turned, 0, width * height);
  for (let first = 0; first < width; first += SQUARE) {
    const end = Math.min(width, first + SQUARE);
    for (let start = 0; start < height; start += SQUARE) {
      const last = Math.min(height, start + SQUARE);
      for (let column = first; column < end; column += 1) {
        for (let row = start; row < last; row += 1) rows[row * width + column] = pixels[column * height + row]!;
      }
    }
  }
  context.putImageData(new ImageData(new Uint8ClampedArray(turned, 0, 4 * width * height), width, height), left, top);
}

function blend(under: number, over: number, share: number): number {
  const part = share | 0;
  const rest = 256 - part;
  const redBlue = ((Math.imul(over & 0xff00ff, part) + Math.imul(under & 0xff00ff, rest)) >>> 8) & 0xff00ff;
  const green = ((Math.imul(over & 0xff00, part) + Math.imul(under & 0xff00, rest)) >>> 8) & 0xff00;
  return 0xff000000 | redBlue | green;
}

/** One column from `from` down to `to` (fractions of a pixel count for their share); `strength` 0 to 256. */
export function span(picture: Bitmap, column: number, from: number, to: number, color: number, strength: number): void {
  const { width, height, pixels } = picture;
  if (column < 0 || column >= width) return;
  const low = from < 0 ? 0 : from;
  const high = to > height ? height : to;
  if (!(high > low)) return;
  let row = low | 0;
  const end = high | 0;
  let at = column * height + row;
  if (row === end) {
    pixels[at] = blend(pixels[at]!, color, (high - low) * strength);
    return;
  }
  if (low > row) {
    pixels[at] = blend(pixels[at]!, color, (row + 1 - low) * strength);
    row += 1;
    at += 1;
  }
  if (strength >= 256) {
    for (; row < end; row += 1, at += 1) pixels[at] = color;
  } else {
    // As `blend`, with what is the same for all of them taken out.
    const rest = 256 - strength;
    const redBlue = Math.imul(color & 0xff00ff, strength);
    const green = Math.imul(color & 0xff00, strength);
    for (; row < end; row += 1, at += 1) {
      const under = pixels[at]!;
      pixels[at] =
        0xff000000 |
        (((redBlue + Math.imul(under & 0xff00ff, rest)) >>> 8) & 0xff00ff) |
        (((green + Math.imul(under & 0xff00, rest)) >>> 8) & 0xff00);
    }
  }
  if (high > end) pixels[at] = blend(pixels[at]!, color, (high - end) * strength);
}

/** What a line covers of each column, for one line at a time. */
class Columns {
  top = new Float64Array(0);
  bottom = new Float64Array(0);
  first = 0;
  last = -1;

  begin(width: number): void {
    if (this.top.length < width) {
      this.top = new Float64Array(width);
      this.bottom = new Float64Array(width);
    }
    this.top.fill(Infinity, 0, width);
    this.bottom.fill(-Infinity, 0, width);
    this.first = width;
    this.last = -1;
  }

  cover(column: number, low: number, high: number): void {
    if (low < this.top[column]!) this.top[column] = low;
    if (high > this.bottom[column]!) this.bottom[column] = high;
    if (column < this.first) this.first = column;
    if (column > this.last) this.last = column;
  }
}

const line = new Columns();
const upper = new Columns();
const lower = new Columns();

/** Put a polyline into columns; it breaks where y is NaN. x increases. `half`: half its width. */
function trace(into: Columns, width: number, count: number, xs: Float64Array, ys: Float64Array, half: number): void {
  into.begin(width);
  for (let at = 0; at < count; at += 1) {
    const x0 = xs[at]!;
    const y0 = ys[at]!;
    if (Number.isNaN(y0) || Number.isNaN(x0)) continue;
    const alone = at + 1 >= count || Number.isNaN(ys[at + 1]!);
    if (alone) {
      const column = Math.floor(x0);
      if (column >= 0 && column < width) into.cover(column, y0 - half, y0 + half);
      continue;
    }
    const x1 = xs[at + 1]!;
    const y1 = ys[at + 1]!;
    if (x1 < 0 || x0 >= width) continue;
    const steep = x1 > x0 ? (y1 - y0) / (x1 - x0) : 0;
    const low = (y0 < y1 ? y0 : y1) - half;
    const high = (y0 < y1 ? y1 : y0) + half;
    const from = x0 < 0 ? 0 : Math.floor(x0);
    const to = x1 >= width ? width - 1 : Math.floor(x1);
    if (from === to) {
      into.cover(from, low, high);
      continue;
    }
    // As thick across as half is meant to be, whatever the slope.
    const thick = half * Math.sqrt(1 + steep * steep);
    for (let column = from; column <= to; column += 1) {
      const begin = x0 > column ? x0 : column;
      const end = x1 < column + 1 ? x1 : column + 1;
      const ya = y0 + (begin - x0) * steep;
      const yb = y0 + (end - x0) * steep;
      let a: number;
      let b: number;
      if (end - begin === 1) {
        const middle = (ya + yb) / 2;
        a = middle - thick;
        b = middle + thick;
      } else {
        a = (ya < yb ? ya : yb) - half;
        b = (ya < yb ? yb : ya) + half;
      }
      into.cover(column, a < low ? low : a, b > high ? high : b);
    }
  }
}

export function drawLine(
  picture: Bitmap,
  count: number,
  xs: Float64Array,
  ys: Float64Array,
  color: number,
  thickness: number,
  strength = 256,
  dash = 0,
): void {
  trace(line, picture.width, count, xs, ys, thickness / 2);
  for (let column = line.first; column <= line.last; column += 1) {
    if (dash > 0 && Math.floor(column / dash) % 2 === 1) continue;
    span(picture, column, line.top[column]!, line.bottom[column]!, color, strength);
  }
}

/** The area between two lines, each with places of its own. */
export function drawArea(
  picture: Bitmap,
  count: number,
  lowXs: Float64Array,
  lows: Float64Array,
  highXs: Float64Array,
  highs: Float64Array,
  color: number,
  strength: number,
): void {
  trace(upper, picture.width, count, highXs, highs, 0);
  trace(lower, picture.width, count, lowXs, lows, 0);
  const first = Math.max(upper.first, lower.first);
  const last = Math.min(upper.last, lower.last);
  for (let column = first; column <= last; column += 1) {
    span(picture, column, upper.top[column]!, lower.bottom[column]!, color, strength);
  }
}

export function drawDot(picture: Bitmap, x: number, y: number, radius: number, color: number): void {
  const first = Math.floor(x - radius);
  const last = Math.ceil(x + radius);
  for (let column = first; column <= last; column += 1) {
    const across = column + 0.5 - x;
    const rest = radius * radius - across * across;
    if (rest <= 0) continue;
    const half = Math.sqrt(rest);
    span(picture, column, y - half, y + half, color, 256);
  }
}

/** A sign of seven by seven squares, its rows as bits; `unit` pixels each, its middle at x, y. */
export function drawSign(
  picture: Bitmap,
  rows: readonly number[],
  x: number,
  y: number,
  unit: number,
  color: number,
): void {
  const left = Math.round(x - 3.5 * unit);
  const top = Math.round(y - 3.5 * unit);
  rows.forEach((bits, row) => {
    for (let column = 0; column < 7; column += 1) {
      if (!(bits & (1 << (6 - column)))) continue;
      for (let across = 0; across < unit; across += 1)
        span(picture, left + column * unit + across, top + row * unit, top + (row + 1) * unit, color, 256);
    }
  });
}

export const CROSS = [0b1000001, 0b1100011, 0b0110110, 0b0011100, 0b0110110, 0b1100011, 0b1000001];
export const UP = [0b0001000, 0b0011100, 0b0111110, 0b1111111, 0b0011100, 0b0011100, 0b0011100];
export const DOWN = [...UP].reverse();
