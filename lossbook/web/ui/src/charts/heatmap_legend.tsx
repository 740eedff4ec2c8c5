// Explains the colours of a heatmap.

import { number } from "../format";
import { type ColorScale, fromScale, type Palette, percent, toScale } from "./color_scale";

export const BAR = 220; // px of the legend

export function legendTicks(scale: ColorScale): number[] {
  const [low, high] = [toScale(scale, scale.low), toScale(scale, scale.high)];
  return [0, 0.5, 1].map((part) => fromScale(scale, low + part * (high - low)));
}

export function Legend(props: { scale: ColorScale; palette: Palette; reads: string }) {
  const { scale, palette } = props;
  const stops = Array.from({ length: 17 }, (_, at) => palette.css[Math.round((at * 255) / 16)]).join(", ");
  const notes = [scale.below > 0 && `${percent(scale.below)} below`, scale.above > 0 && `${percent(scale.above)} above`]
    .filter((note) => note !== false)
    .join(", ");
  return (
    <div
      class="heat-legend"
      role="img"
      aria-label={`Colour scale of ${props.reads}, ${scale.kind}, from ${number(scale.low, 3)} to ${number(scale.high, 3)}${notes === "" ? "" : `; ${notes}`}`}
    >
      <span
        class={`clip ${scale.below > 0 ? "" : "none"}`}
        style={{ background: palette.css[0] }}
        title={scale.below > 0 ? `${percent(scale.below)} of the cells lie below` : ""}
      >
        {scale.below > 0 ? "◂" : ""}
      </span>
      <span class="ramp">
        <i style={{ background: `linear-gradient(to right, ${stops})`, width: `${BAR}px` }} />
        <span class="ticks">
          {legendTicks(scale).map((value, at) => (
            <span key={at}>{number(value, 3)}</span>
          ))}
        </span>
      </span>
      <span
        class={`clip ${scale.above > 0 ? "" : "none"}`}
        style={{ background: palette.css.at(-1) }}
        title={scale.above > 0 ? `${percent(scale.above)} of the cells lie above` : ""}
      >
        {scale.above > 0 ? "▸" : ""}
      </span>
      <span class="notes">
        <span>
          {props.reads}
          {scale.kind === "linear" ? "" : scale.kind === "log" ? ", logarithmic" : ", symmetric logarithmic"}
        </span>
        {notes !== "" && <span class="soft">{notes}</span>}
        {scale.unseen > 0 && <span class="soft">{scale.unseen.toLocaleString("en-US")} cells are 0 or less</span>}
      </span>
      <span class="ill">
        <i aria-hidden="true" /> not finite
      </span>
    </div>
  );
}
