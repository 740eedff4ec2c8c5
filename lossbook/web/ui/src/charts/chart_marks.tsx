// Shows marks above a chart: attempts, forks, stages, checkpoints, alerts. Several at one place share one mark.
// Tab focuses one of them; the arrows, or m and M, go from one to the next.

import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";

import { axisTitle, axisValue, moment } from "../format";
import type { ChartModel } from "./chart_model";
import { markTitle } from "./marks";
import { keepTooltipInside } from "./tooltip_position";
import type { ChartState, MarkGroup } from "./types";

const LETTERS: Record<string, string> = { attempt: "↻", fork: "⑂", checkpoint: "◆", stage: "▸", alert: "!", note: "i" };
/** Of many merged marks so many are told one by one. */
const MOST_TOLD = 8;

/** Put the focus on the next flag of a chart, or the one before; whether there is one. */
export function focusMark(chart: HTMLElement, by: 1 | -1): boolean {
  const flags = [...chart.querySelectorAll<HTMLButtonElement>(".flag")];
  const at = flags.indexOf(document.activeElement as HTMLButtonElement);
  const next = at < 0 ? (by > 0 ? 0 : flags.length - 1) : (at + by + flags.length) % flags.length;
  flags[next]?.focus();
  return flags.length > 0;
}

const STEPS: Record<string, 1 | -1> = { m: 1, ArrowRight: 1, M: -1, ArrowLeft: -1 };

export function ChartMarks(props: { model: ChartModel; state: ChartState }) {
  const { model } = props;
  const [open, setOpen] = useState<string | null>(null);
  const [last, setLast] = useState<string | null>(null); // the one that Tab comes back to
  const tipId = useId();
  const drawing = model.canvas.drawing;
  if (drawing === null || drawing.marks.length === 0) return null;
  const names = drawing.marks.map((group) => `${group.kind} ${group.marks[0]!.run} ${group.x}`);
  const first = last !== null && names.includes(last) ? last : names[0];
  return (
    <div
      class="flags"
      role="group"
      aria-label="Marks"
      onKeyDown={(event) => {
        const chart = event.currentTarget.closest("figure")!;
        const by = STEPS[event.key];
        if (event.ctrlKey || event.altKey || event.metaKey || (by === undefined && event.key !== "Escape")) return;
        event.preventDefault();
        event.stopPropagation();
        if (by === undefined) chart.focus();
        else focusMark(chart, by);
      }}
    >
      {drawing.marks.map((group, at) => {
        const name = names[at]!;
        return (
          <button
            key={name}
            type="button"
            class={`flag ${group.kind} ${group.level}`}
            style={{ left: `${model.canvas.pageX(group.x)}px` }}
            aria-label={`${markTitle(group)} at ${axisTitle(model.axis)} ${axisValue(model.axis, group.x)}`}
            aria-describedby={open === name ? tipId : undefined}
            tabIndex={name === first ? 0 : -1}
            onMouseEnter={() => setOpen(name)}
            onMouseLeave={() => setOpen(null)}
            onBlur={() => setOpen(null)}
            onFocus={() => {
              setOpen(name);
              setLast(name);
            }}
          >
            {group.marks.length > 1 ? group.marks.length : (LETTERS[group.kind] ?? "•")}
            {open === name && <FlagTip id={tipId} group={group} axis={model.axis} />}
          </button>
        );
      })}
    </div>
  );
}

function FlagTip(props: { id: string; group: MarkGroup; axis: string }) {
  const { group, axis } = props;
  const box = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => keepTooltipInside(box.current!));
  return (
    <span ref={box} class="flag-tip" role="tooltip" id={props.id}>
      {group.marks.length > 1 && <b>{markTitle(group)}</b>}
      {group.marks.slice(0, MOST_TOLD).map((mark, at) => (
        <span key={at}>
          <i style={{ background: mark.color }} />
          <b>{mark.title}</b> {mark.label}{" "}
          <span class="soft">
            {axisTitle(axis)} {axisValue(axis, mark.x)}, {moment(mark.time)}
          </span>
          {mark.text !== "" && <span class="text">{mark.text.slice(0, 300)}</span>}
        </span>
      ))}
      {group.marks.length > MOST_TOLD && <span class="soft">and {group.marks.length - MOST_TOLD} more</span>}
    </span>
  );
}
