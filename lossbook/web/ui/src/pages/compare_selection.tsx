// What can be done with the runs that were selected in a plot.

import { MOST_DRAWN } from "../components/visible_runs";
import { linkTo, route } from "../router";
import { drawnIds, setDrawn } from "../runs";

export function PlotSelection(props: { ids: readonly string[]; what: string; hint: string; onClear: () => void }) {
  const { ids } = props;
  const { project, settings } = route.value;
  if (ids.length === 0) return <p class="soft">{props.hint}</p>;
  const some = ids.slice(0, MOST_DRAWN);
  const drawn = drawnIds.value;
  const areDrawn = drawn.size === some.length && some.every((id) => drawn.has(id));
  return (
    <p class="draw-these">
      <b>{ids.length.toLocaleString("en-US")}</b> {ids.length === 1 ? "run" : "runs"} {props.what}
      {areDrawn ? (
        <a class="button" href={linkTo({ project, view: "charts" }, settings)}>
          See their charts
        </a>
      ) : (
        <button
          type="button"
          class="primary"
          title={
            ids.length > some.length
              ? `The first ${MOST_DRAWN} of them: more curves tell nothing`
              : "Draw these runs in all charts, and no other"
          }
          onClick={() => setDrawn(some)}
        >
          {ids.length > some.length ? `Draw ${MOST_DRAWN} of them` : "Draw these runs"}
        </button>
      )}
      <button type="button" onClick={props.onClear}>
        Clear
      </button>
    </p>
  );
}
