// States below a chart what it leaves out: outliers, values that a log axis cannot show, missing runs.

import { useState } from "preact/hooks";

import { axisTitle, axisValue, number } from "../format";
import type { ChartModel } from "./chart_model";
import type { ChartState } from "./types";

export function ChartFooter(props: { model: ChartModel; state: ChartState; axis: string }) {
  const { model, state, axis } = props;
  const [open, setOpen] = useState(false);
  const { beyond, missing, nonPositive } = state;
  const manyAttempts = state.lines.some(({ curve }) => (curve?.attempts ?? 1) > 1);
  const shows =
    beyond !== null ||
    missing.length > 0 ||
    nonPositive > 0 ||
    state.nonPositiveX ||
    manyAttempts ||
    model.showAll.value ||
    state.failure !== null;
  if (!shows) return null;
  const at = (x: number): string => `${axisTitle(axis)} ${axisValue(axis, x)}`;
  return (
    <div class="foot">
      {beyond !== null && beyond.above > 0 && (
        <span>
          {beyond.atLeast ? "at least " : ""}
          {number(beyond.above)} {beyond.above === 1 ? "point" : "points"} above the view (highest{" "}
          {number(beyond.highest!.value)} at {at(beyond.highest!.x)})
        </span>
      )}
      {beyond !== null && beyond.below > 0 && (
        <span>
          {beyond.atLeast ? "at least " : ""}
          {number(beyond.below)} {beyond.below === 1 ? "point" : "points"} below the view (lowest{" "}
          {number(beyond.lowest!.value)} at {at(beyond.lowest!.x)})
        </span>
      )}
      {beyond !== null && (
        <button type="button" class="plain small" onClick={() => (model.showAll.value = true)}>
          show all
        </button>
      )}
      {model.showAll.value && (
        <button type="button" class="plain small" onClick={() => (model.showAll.value = false)}>
          leave out outliers
        </button>
      )}
      {nonPositive > 0 && (
        <span>
          {state.nonPositiveAtLeast ? "at least " : ""}
          {number(nonPositive)} {nonPositive === 1 ? "value" : "values"} ≤ 0 {nonPositive === 1 ? "is" : "are"} not
          shown on a log axis
        </span>
      )}
      {state.nonPositiveX && <span>rows at {axisTitle(axis)} ≤ 0 are not shown on a log axis</span>}
      {state.failure !== null && <span>{state.failure}</span>}
      {missing.length > 0 && (
        <button type="button" class="plain small" aria-expanded={open} onClick={() => setOpen(!open)}>
          {missing.length} {missing.length === 1 ? "run" : "runs"} without it
        </button>
      )}
      {manyAttempts && (
        <label>
          <input
            type="checkbox"
            checked={model.hiddenRows.value}
            onChange={(event) => model.setHiddenRows(event.currentTarget.checked)}
          />{" "}
          replaced rows
        </label>
      )}
      {open && (
        <ul>
          {missing.map(({ label, error }) => (
            <li key={label}>
              <b>{label}</b> {error}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
