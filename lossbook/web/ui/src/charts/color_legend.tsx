// Explains the colours of points and lines: a colour bar for numbers, a dot for each category.

import "./scatter_plot.css";

import { isDark } from "../theme";
import { linePalette } from "./color_scale";
import { type Dimension, formatOnAxis } from "./dimension";

const MOST_SHOWN = 12;

export function ColorLegend(props: { color: Dimension; categoryColor: (at: number) => string }) {
  const { color } = props;
  if (color.isText) {
    const rest = color.categories.length - MOST_SHOWN;
    return (
      <div class="color-key" aria-label={`Colours of ${color.title}`} role="group">
        <b class="cut">{color.title}</b>
        {color.categories.slice(0, MOST_SHOWN).map((category, at) => (
          <span key={category}>
            <i style={{ background: props.categoryColor(at) }} aria-hidden="true" />
            <bdi class="cut" title={category}>
              {category}
            </bdi>
          </span>
        ))}
        {rest > 0 && <span>and {rest} more</span>}
      </div>
    );
  }
  const stops = [0, 0.25, 0.5, 0.75, 1].map((part) => linePalette(isDark.value).css[Math.round(part * 255)]).join(", ");
  return (
    <div
      class="color-key"
      role="img"
      aria-label={`Colour: ${color.title} from ${formatOnAxis(color, color.low)} to ${formatOnAxis(color, color.high)}`}
    >
      <b class="cut">
        {color.title}
        {color.log ? " (log)" : ""}
      </b>
      {formatOnAxis(color, color.low)}
      <i
        class="bar"
        style={{ background: `linear-gradient(to right, ${stops})`, borderRadius: "2px", width: "140px" }}
      />
      {formatOnAxis(color, color.high)}
    </div>
  );
}
