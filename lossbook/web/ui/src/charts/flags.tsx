// Small flags at a chart's top: attempts, forks, stages, checkpoints, alerts; several at one place are one flag.

import { useState } from "preact/hooks";

import { axisTitle, axisValue, moment } from "../format";
import { markTitle, type MarkGroup } from "./marks";
import type { ChartModel, Seen } from "./model";

const LETTERS: Record<string, string> = { attempt: "↻", fork: "⑂", checkpoint: "◆", stage: "▸", alert: "!", note: "i" };
/** Of many merged marks so many are told one by one. */
const MOST_TOLD = 8;

export function Flags(props: { model: ChartModel; seen: Seen }) {
  const { model } = props;
  const [open, setOpen] = useState<string | null>(null);
  const drawing = model.sheet.drawing;
  if (drawing === null || drawing.marks.length === 0) return null;
  return (
    <div class="flags">
      {drawing.marks.map((group) => {
        const name = `${group.kind} ${group.marks[0]!.run} ${group.x}`;
        return (
          <button
            key={name} type="button" class={`flag ${group.kind} ${group.level}`} style={{ left: `${model.sheet.pageX(group.x)}px` }} aria-label={`${markTitle(group)} at ${axisTitle(model.axis)} ${axisValue(model.axis, group.x)}`}
            onMouseEnter={() => setOpen(name)} onMouseLeave={() => setOpen(null)} onFocus={() => setOpen(name)} onBlur={() => setOpen(null)} tabIndex={-1}
          >
            {group.marks.length > 1 ? group.marks.length : LETTERS[group.kind] ?? "•"}
            {open === name && <FlagTip group={group} axis={model.axis} />}
          </button>
        );
      })}
    </div>
  );
}

function FlagTip(props: { group: MarkGroup; axis: string }) {
  const { group, axis } = props;
  return (
    <span class="flag-tip" role="tooltip">
      {group.marks.length > 1 && <b>{markTitle(group)}</b>}
      {group.marks.slice(0, MOST_TOLD).map((mark, at) => (
        <span key={at}>
          <i style={{ background: mark.color }} /><b>{mark.title}</b> {mark.label} <span class="soft">{axisTitle(axis)} {axisValue(axis, mark.x)}, {moment(mark.time)}</span>
          {mark.text !== "" && <span class="text">{mark.text.slice(0, 300)}</span>}
        </span>
      ))}
      {group.marks.length > MOST_TOLD && <span class="soft">and {group.marks.length - MOST_TOLD} more</span>}
    </span>
  );
}
