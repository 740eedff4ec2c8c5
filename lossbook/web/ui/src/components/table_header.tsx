// The column headers of the run table: sort, move, resize, hide.

import { useState } from "preact/hooks";

import { setSettings } from "../router";
import { Menu } from "./menu";
import {
  type Column,
  columnNamed,
  columnNames,
  isNumeric,
  mainMetric,
  moveColumn,
  setWidth,
  showColumns,
  widthOf,
} from "./table_columns";
import { sort, sortBy } from "./visible_runs";

const WIDER = 24; // px with each choice in the menu

export function TableHeader(props: { columns: readonly Column[]; compact: boolean }) {
  const [over, setOver] = useState<string | null>(null);
  const name = props.compact ? "name of list" : "name";
  return (
    <div class="run-line head" role="row" aria-rowindex={1}>
      <div class="run-cell first" role="columnheader" aria-sort={ariaSort("name")}>
        <SortButton name="name" title="Name" />
        <Grip name={name} />
      </div>
      <div
        class="run-cell curve soft"
        role="columnheader"
        title={mainMetric.value === null ? "" : `Curve of ${mainMetric.value}`}
      >
        <span class="cut">{mainMetric.value === null ? "" : "curve"}</span>
      </div>
      {props.columns.map((column, at) => (
        <div
          key={column.name}
          role="columnheader"
          aria-sort={ariaSort(column.name)}
          class={`run-cell ${over === column.name ? "over" : ""} ${isNumeric(column) ? "right" : ""}`}
          draggable
          onDragStart={(event) => event.dataTransfer?.setData("text/x-lossbook-column", column.name)}
          onDragOver={(event) => {
            event.preventDefault();
            setOver(column.name);
          }}
          onDragLeave={() => setOver(null)}
          onDrop={(event) => {
            event.preventDefault();
            setOver(null);
            const moved = event.dataTransfer?.getData("text/x-lossbook-column");
            const from = moved ? columnNames.peek().indexOf(moved) : -1;
            if (moved && from >= 0 && moved !== column.name) moveColumn(moved, at);
          }}
        >
          <SortButton name={column.name} title={column.title} />
          <Menu label={`Column ${column.name}`} button="⋮" class="plain more">
            {(close) => {
              const choose = (act: () => void) => () => {
                act();
                close();
              };
              return (
                <>
                  <p class="title">{column.name}</p>
                  <button type="button" onClick={choose(() => setSettings({ sort: column.name }))}>
                    Ascending
                  </button>
                  <button type="button" onClick={choose(() => setSettings({ sort: `-${column.name}` }))}>
                    Descending
                  </button>
                  <button type="button" onClick={choose(() => setSettings({ group: column.name, folded: null }))}>
                    Group by this
                  </button>
                  <hr />
                  <button type="button" disabled={at === 0} onClick={choose(() => moveColumn(column.name, at - 1))}>
                    Move left
                  </button>
                  <button
                    type="button"
                    disabled={at === props.columns.length - 1}
                    onClick={choose(() => moveColumn(column.name, at + 1))}
                  >
                    Move right
                  </button>
                  <button type="button" onClick={() => setWidth(column.name, widthOf(column.name) + WIDER)}>
                    Wider
                  </button>
                  <button type="button" onClick={() => setWidth(column.name, widthOf(column.name) - WIDER)}>
                    Narrower
                  </button>
                  <hr />
                  <button
                    type="button"
                    onClick={choose(() => showColumns(columnNames.peek().filter((one) => one !== column.name)))}
                  >
                    Hide
                  </button>
                </>
              );
            }}
          </Menu>
          <Grip name={column.name} />
        </div>
      ))}
    </div>
  );
}

function ariaSort(name: string): "ascending" | "descending" | "none" {
  const now = sort.value;
  return now?.name !== name ? "none" : now.descending ? "descending" : "ascending";
}

function SortButton(props: { name: string; title: string }) {
  const now = sort.value;
  const full = columnNamed(props.name).name;
  return (
    <button
      type="button"
      class="plain sorter"
      title={`Sort by ${full} (s: by the next column)`}
      onClick={() => sortBy(props.name)}
    >
      <span class="cut">
        <bdi>{props.title}</bdi>
      </span>
      {now?.name === props.name && <span aria-hidden="true">{now.descending ? "↓" : "↑"}</span>}
    </button>
  );
}

/** The edge of a column, to be drawn to where it should be; the menu does the same by keyboard. */
function Grip(props: { name: string }) {
  return (
    <span
      class="grip"
      aria-hidden="true"
      draggable={false}
      onPointerDown={(event) => {
        event.preventDefault();
        event.stopPropagation();
        const [from, width] = [event.clientX, widthOf(props.name)];
        const grip = event.currentTarget;
        grip.setPointerCapture(event.pointerId);
        const move = (now: PointerEvent): void => setWidth(props.name, width + now.clientX - from);
        grip.addEventListener("pointermove", move);
        grip.addEventListener("lostpointercapture", () => grip.removeEventListener("pointermove", move), {
          once: true,
        });
      }}
    />
  );
}
