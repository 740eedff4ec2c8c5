// Maps numbers to colours with perceptually even palettes, and reports what the ends of the scale clip.

// Viridis and Plasma by Nathaniel Smith and Stéfan van der Walt (CC0), as matplotlib has them, at 25 places.
const VIRIDIS =
  "440154471063481f70472d7b4439834046883b528b365d8d31688e2c728e287c8e24868e21918c1f9a8a20a48628ae8035b77948c16e5ec96275d05490d743addc30c8e020e5e419fde725";
const PLASMA =
  "0d08872605913a049a4c02a15c01a66e00a87e03a88d0ba59c179eaa2395b52f8cc13b82cc4778d5536fde5f65e66c5ced7953f3874af89540fca338fdb42ffdc527fbd524f6e826f0f921";

type Rgb = readonly [number, number, number];

function parse(text: string): Rgb[] {
  return Array.from(
    { length: text.length / 6 },
    (_, at) => [0, 2, 4].map((from) => parseInt(text.slice(6 * at + from, 6 * at + from + 2), 16)) as unknown as Rgb,
  );
}

function between(table: readonly Rgb[], part: number): Rgb {
  const place = Math.max(0, Math.min(1, part)) * (table.length - 1);
  const at = Math.min(table.length - 2, Math.floor(place));
  const rest = place - at;
  return [0, 1, 2].map((channel) =>
    Math.round(table[at]![channel]! * (1 - rest) + table[at + 1]![channel]! * rest),
  ) as unknown as Rgb;
}

const viridis = parse(VIRIDIS);
const plasma = parse(PLASMA);

/** A colour of OKLab (Björn Ottosson, 2020) in sRGB. */
function ofOklab(lightness: number, a: number, b: number): Rgb {
  const [l, m, s] = [
    (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
    (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
    (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3,
  ];
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((one) => {
    const held = Math.max(0, Math.min(1, one));
    return Math.round(255 * (held <= 0.0031308 ? 12.92 * held : 1.055 * held ** (1 / 2.4) - 0.055));
  }) as unknown as Rgb;
}

/** Blue to yellow over grey, neither of which is the red of what is not finite, even in lightness to both sides: straight lines in OKLab. */
function diverging(dark: boolean): Rgb[] {
  const [middle, end] = dark ? [0.28, 0.78] : [0.95, 0.46];
  return Array.from({ length: 33 }, (_, at) => {
    const side = (at - 16) / 16;
    const size = Math.abs(side);
    const lightness = middle + (end - middle) * size;
    return side < 0
      ? ofOklab(lightness, -0.02 * size, -0.14 * size)
      : ofOklab(lightness, 0.015 * size, (dark ? 0.15 : 0.1) * size);
  });
}

export const STEPS = 256;

/** `STEPS` colours, each as canvases hold it (little-endian RGBA), and for a style canvas. */
export interface Palette {
  pixels: Uint32Array;
  css: readonly string[];
}

function paletteOf(color: (part: number) => Rgb): Palette {
  const colors = Array.from({ length: STEPS }, (_, at) => color(at / (STEPS - 1)));
  return {
    pixels: Uint32Array.from(colors, ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0),
    css: colors.map(([red, green, blue]) => `rgb(${red} ${green} ${blue})`),
  };
}

const kept = new Map<string, Palette>();

function keep(name: string, make: () => Palette): Palette {
  let palette = kept.get(name);
  if (palette === undefined) {
    palette = make();
    kept.set(name, palette);
  }
  return palette;
}

/** For areas: dark is low. */
export const areaPalette = (): Palette => keep("area", () => paletteOf((part) => between(viridis, part)));

/** For areas about a middle. */
export const divergingPalette = (dark: boolean): Palette => {
  return keep(`diverging ${dark}`, () => {
    const table = diverging(dark);
    return paletteOf((part) => between(table, part));
  });
};

/** For lines and points: only that part of Plasma that stands out from the background. */
export const linePalette = (dark: boolean): Palette =>
  keep(`line ${dark}`, () => paletteOf((part) => between(plasma, dark ? 0.42 + 0.56 * part : 0.66 * part)));

// -- from a number to its place ------------------------------------------------------------------------------------

export type ScaleKind = "linear" | "log" | "symlog";

export interface ColorScale {
  kind: ScaleKind;
  low: number;
  high: number;
  threshold: number; // of symlog: nearer to 0 it is linear
  diverges: boolean; // 0 is the middle
  below: number; // shares of the values that lie beyond the ends
  above: number;
  unseen: number; // values that the scale cannot show: 0 and less on a logarithmic one
}

/** A value on the scale's own line. */
export function toScale({ kind, threshold }: Pick<ColorScale, "kind" | "threshold">, value: number): number {
  if (kind === "log") return value > 0 ? Math.log10(value) : NaN;
  if (kind === "symlog") return Math.sign(value) * Math.log10(1 + Math.abs(value) / threshold);
  return value;
}

export function fromScale({ kind, threshold }: Pick<ColorScale, "kind" | "threshold">, place: number): number {
  if (kind === "log") return 10 ** place;
  if (kind === "symlog") return Math.sign(place) * threshold * (10 ** Math.abs(place) - 1);
  return place;
}

const MOST_SORTED = 20_000;
const GOLDEN = 0.6180339887498949;

/**
 * A scale that fits values; those that are not finite are left out.
 *
 * `share`: how many of them lie between its ends, in the middle; 1 for all.
 */
export function fitScale(values: Float64Array, kind: ScaleKind, share: number): ColorScale {
  const some: number[] = [];
  let [least, most, unseen, finite] = [Infinity, -Infinity, 0, 0];
  for (let at = 0; at < values.length; at += 1) {
    const value = values[at]!;
    if (!Number.isFinite(value)) continue;
    if (kind === "log" && value <= 0) {
      unseen += 1;
      continue;
    }
    finite += 1;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  // Scattered, for even steps could meet the same column again and again.
  const stride = Math.max(1, values.length / MOST_SORTED);
  for (let one = 0; one * stride < values.length; one += 1) {
    const value =
      values[Math.min(values.length - 1, Math.floor((one + (stride > 1 ? (one * GOLDEN) % 1 : 0)) * stride))]!;
    if (Number.isFinite(value) && (kind !== "log" || value > 0)) some.push(value);
  }
  const sorted = Float64Array.from(some).sort();
  const at = (part: number): number => sorted[Math.round(part * (sorted.length - 1))] ?? NaN;
  let [low, high] = share >= 1 || sorted.length < 10 ? [least, most] : [at((1 - share) / 2), at((1 + share) / 2)];
  const sizes =
    kind === "symlog"
      ? sorted
          .map(Math.abs)
          .sort()
          .filter((size) => size > 0)
      : sorted;
  const threshold = kind === "symlog" ? (sizes[Math.floor(sizes.length * 0.05)] ?? 1) : 1;
  const diverges = kind === "symlog" && least < 0 && most > 0;
  if (diverges) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
  if (!(low <= high)) [low, high] = kind === "log" ? [0.1, 1] : [0, 1];
  if (low === high)
    [low, high] =
      kind === "log"
        ? [low / 1.1, high * 1.1]
        : [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
  let [below, above] = [0, 0];
  for (let place = 0; place < values.length; place += 1) {
    const value = values[place]!;
    if (!Number.isFinite(value) || (kind === "log" && value <= 0)) continue;
    if (value < low) below += 1;
    else if (value > high) above += 1;
  }
  return {
    kind,
    low,
    high,
    threshold,
    diverges,
    below: finite > 0 ? below / finite : 0,
    above: finite > 0 ? above / finite : 0,
    unseen,
  };
}

/** From a value to one of `STEPS` colours; -1 for what the scale cannot show. */
export function colorStepper(scale: ColorScale): (value: number) => number {
  const low = toScale(scale, scale.low);
  const span = toScale(scale, scale.high) - low;
  const factor = span > 0 ? (STEPS - 1) / span : 0;
  return (value) => {
    if (Number.isNaN(value)) return -1;
    const place = toScale(scale, value);
    if (Number.isNaN(place)) return -1;
    return Math.max(0, Math.min(STEPS - 1, Math.round((place - low) * factor)));
  };
}

/** A small share in few characters: 0.4%, 12%, <0.1%. */
export function percent(share: number): string {
  const amount = 100 * share;
  return amount < 0.1 ? "<0.1%" : `${amount < 10 ? amount.toFixed(1) : Math.round(amount)}%`;
}
